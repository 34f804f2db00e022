"""What Courier keeps beside a Maildir: `courierpop3dsizelist`, versions 1 to 3.

A message has the id `UID<uid>-<uidvalidity>`; one that was there before Courier counted at all keeps its
file's name as its id, and one from between keeps its number alone.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from typing import NamedTuple

LIST = "courierpop3dsizelist"

_NUMBER = r"(\d{1,10})"
_HEADER = re.compile(r"/([123]) \d+(?: \d+)?", re.ASCII)
_ENTRY = re.compile(rf"(.+) \d+ {_NUMBER}(?::{_NUMBER}(?::\d+)?)?", re.ASCII)
# What is shown of a file's name as it is; all else as +XX.
_PLAIN = frozenset(range(0x21, 0x7F)) - frozenset(b"+'\"")


class Entry(NamedTuple):
    """One message of the list."""

    base: str           # its file's name without flags
    order: int          # its place in the list
    unique_id: bytes


def read_list(lines: Iterator[str], wanted: Container[str]) -> Iterator[Entry]:
    """Give the entries of a list for the wanted base names; nothing, if it is no list that is known."""
    if not _HEADER.fullmatch(next(lines, "")):
        return
    for order, line in enumerate(lines):
        if (colon := line.find(":2,")) > 0 and line[:colon] not in wanted and "/" not in line:
            continue        # of a long list seldom more than the newest are wanted
        if found := _ENTRY.fullmatch(line):
            base = found[1].rpartition("/")[2].partition(":")[0]
            if base not in wanted:
                continue
            uid, uid_validity = int(found[2]), int(found[3] or 0)
            text = f"UID{uid}-{uid_validity}" if uid_validity else f"UID{uid}" if uid else _quoted(base)
            yield Entry(base, order, text.encode())


def _quoted(base: str) -> str:
    octets = base.encode("utf-8", "surrogateescape")
    return "".join(chr(one) if one in _PLAIN else f"+{one:02X}" for one in octets)
