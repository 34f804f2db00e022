"""The unique-ids that POP3 servers gave to the messages of an mbox.

Some write them into the messages (`X-UIDL`), some count (`X-UID`, with UIDVALIDITY in the first message's
`X-IMAPbase` or `X-IMAP`), and some make a digest of header lines every time anew. One object reads one
mbox: it is shown every message in order, also the one that holds the folder's data and is no message.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from mailgate.formats import digests
from mailgate.formats.header import first
from mailgate.formats.templates import Template

_BASE = re.compile(rb"\s*(\d{1,10})\s+(\d{1,10})(?:\s|$)")
_UID = re.compile(rb"\s*(\d{1,10})\s*")
_QPOPPER_OCTETS = range(11, 33)     # the ids that qpopper takes to be its own
_LARGEST_UID = (1 << 32) - 1


class MboxIds(Protocol):
    """What one format says of the messages of one mbox."""

    def of(self, from_line: bytes, header: bytes) -> bytes | None:
        """Return the next message's id; None if it is not known. It may be one that POP3 cannot show.

        `from_line` is the `From ` line, `header` what follows up to the blank line, both as in the file.
        """


class Unknown:
    """The ids of a server that keeps no mbox."""

    def of(self, from_line: bytes, header: bytes) -> bytes | None:
        """See MboxIds."""
        return None


class Kept:
    """Ids that the messages hold: what qpopper (not told otherwise), Mailutils and others write."""

    def of(self, from_line: bytes, header: bytes) -> bytes | None:
        """See MboxIds."""
        return first(header, b"X-UIDL")


class Digests:
    """Ids that are digests of header lines."""

    def __init__(self, digest: Callable[[bytes], bytes]) -> None:
        self._digest = digest

    def of(self, from_line: bytes, header: bytes) -> bytes | None:
        """See MboxIds."""
        return self._digest(header)


class Qpopper:
    """Ids of a qpopper that is told not to write into the mbox (`update-status-headers` is off).

    Those that it wrote at other times count, where it would know them again.
    """

    def __init__(self, *, old_style: bool = False) -> None:
        self._old_style = old_style

    def of(self, from_line: bytes, header: bytes) -> bytes | None:
        """See MboxIds."""
        kept = first(header, b"X-UIDL")
        if kept is not None and len(kept) in _QPOPPER_OCTETS:
            return kept
        return digests.qpopper(from_line, header, old_style=self._old_style)


class Counted:
    """Ids made of UID and UIDVALIDITY, as Dovecot and the University of Washington's servers count."""

    def __init__(self, template: Template, *, reuse_xuidl: bool = False, digest_all: bool = False) -> None:
        self._template = template
        self._reuse_xuidl = reuse_xuidl
        self._digest = digests.dovecot_all if digest_all else digests.dovecot_few
        self._uid_validity: int | None = None
        self._previous = 0
        self._last = _LARGEST_UID
        self._begun = False

    def of(self, from_line: bytes, header: bytes) -> bytes | None:
        """See MboxIds."""
        if not self._begun:
            self._begun = True
            base = _BASE.match(first(header, b"X-IMAPbase") or first(header, b"X-IMAP") or b"")
            if base and int(base[1]):
                self._uid_validity, self._last = int(base[1]), int(base[2])
            if is_folder_data(header):
                return None         # which is no message, and has no UID
        uid = self._uid(header)
        if self._reuse_xuidl and (kept := first(header, b"X-UIDL")) is not None:
            return kept
        values = {}
        if self._uid_validity is not None:
            values["uidvalidity"] = b"%d" % self._uid_validity
        if self._uid_validity is not None and uid is not None:      # it counts in this numbering only
            values["uid"] = b"%d" % uid
        if self._template.names & {"md5", "guid"}:      # an mbox has no other GUID than the digest
            values["md5"] = values["guid"] = self._digest(header)
        return self._template.fill(values)

    def _uid(self, header: bytes) -> int | None:
        """Return a message's UID; None where the servers too would not believe it.

        A message that has none gets the next one beyond all others, and so do all that come behind it.
        """
        found = _UID.fullmatch(first(header, b"X-UID") or b"")
        if found and self._previous < int(found[1]) <= self._last:
            self._previous = int(found[1])
            return self._previous
        self._previous = self._last
        return None


class Auto:
    """Ids that the messages hold, else those that are counted.

    Where an imapd has left its first message, they are shown as the University of Washington's server
    shows them, else as Dovecot does.
    """

    def __init__(self, theirs: Template, dovecots: Template) -> None:
        self._templates = theirs, dovecots
        self._counted: Counted | None = None

    def of(self, from_line: bytes, header: bytes) -> bytes | None:
        """See MboxIds."""
        if self._counted is None:
            theirs, dovecots = self._templates
            self._counted = Counted(theirs if is_folder_data(header) else dovecots)
        counted = self._counted.of(from_line, header)
        return first(header, b"X-UIDL") or counted


def is_folder_data(header: bytes) -> bool:
    """Return whether a first message's header is of the one in which imapd and Pine keep what they know.

    Later messages that look the same were sent by somebody.
    """
    return bool(first(header, b"X-IMAP")) and b"FOLDER INTERNAL DATA" in (first(header, b"Subject") or b"")
