"""What was known of a message's unique-id before we came, and how ids stay distinct (RFC 1939 section 7)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_UNIQUE_ID = re.compile(rb"[\x21-\x7e]{1,70}")


class KnownId(NamedTuple):
    """What another server knew of one message."""

    order: int | None           # its place among the known ones; None: by arrival, behind them
    unique_id: bytes | None     # None: known, but not as POP3 may show it


def legal_unique_id(octets: bytes) -> bytes | None:
    """Return a unique-id if POP3 can show it (RFC 1939 section 7), else None."""
    return octets if _UNIQUE_ID.fullmatch(octets) else None


class Distinct:
    """Keeps the ids of one maildrop apart: one that is given already is given with `-2`, `-3` ... behind.

    So Dovecot does it where it is told to (`pop3_uidl_duplicates = rename`).
    """

    def __init__(self, given: Iterable[bytes] = ()) -> None:
        self._times = dict.fromkeys(given, 1)   # how often each was asked for

    def give(self, unique_id: bytes) -> bytes | None:
        """Return an id that nobody was given before; None if it gets too long for POP3."""
        while unique_id in self._times:
            self._times[unique_id] += 1
            unique_id = b"%b-%d" % (unique_id, self._times[unique_id])
        if legal_unique_id(unique_id) is None:
            return None
        self._times[unique_id] = 1
        return unique_id
