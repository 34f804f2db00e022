"""What the names of a Maildir's files tell: of a message's marks, arrival and size.

A name is BASE or BASE:2,FLAGS; a base is UNIQUE or UNIQUE,S=OCTETS,W=OCTETS, as Courier began and Dovecot
goes on: octets in the file, and with CRLF line ends. Names are octets: their owner may have chosen any.
"""

from __future__ import annotations

import re

from mailgate.model import FLAGS

LATEST_MS = 253_402_300_799_999     # the end of the year 9999: every time of arrival can be written as a date

# No Maildir is as old as fewer digits would say: such a number is no time.
_DELIVERED = re.compile(rb"(\d{9,10})\.(?:[^,:]*?M(\d{1,6})(?!\d))?")
_SIZE = re.compile(rb",([SW])=(\d{1,15})(?=,|$)")
_INFO = b":2,"


def base_of(name: bytes) -> bytes:
    """Return the part of a file's name that stays when its flags change."""
    return name.partition(b":")[0]


def unique_of(base: bytes) -> bytes:
    """Return the part of a base that its maker chose to be unlike all others; what follows are remarks."""
    return base.partition(b",")[0]


def flags_of(name: bytes) -> str:
    """Return the flags in a file's name, letters of `model.FLAGS` in that order."""
    info = name.partition(_INFO)[2]
    if not info:
        return ""
    letters = info.partition(b",")[0].decode("latin-1")
    return "".join(letter for letter in FLAGS if letter in letters)


def with_flags(name: bytes, flags: str) -> bytes:
    """Return a file's name with these flags in place of those it has; letters that we do not know stay."""
    base, _, info = name.partition(_INFO)
    letters, comma, rest = info.decode("latin-1").partition(",")
    others = {letter for letter in letters if letter not in FLAGS}
    marks = "".join(sorted({*flags, *others}))
    return base_of(base) + _INFO + (marks + comma + rest).encode("latin-1")


def sizes_of(base: bytes) -> tuple[int | None, int | None]:
    """Return the octets that a base claims for the file (S=), and with CRLF line ends (W=)."""
    claimed = {letter: int(digits) for letter, digits in _SIZE.findall(base)}
    return claimed.get(b"S"), claimed.get(b"W")


def arrived_us(base: bytes, otherwise_ns: int) -> int:
    """Return the time of delivery in microseconds since 1970: as a base begins, or else the file's time."""
    found = _DELIVERED.match(base)
    if found:
        return min(int(found[1]) * 1_000_000 + int(found[2] or 0), LATEST_MS * 1000)
    return min(max(otherwise_ns // 1000, 0), LATEST_MS * 1000)
