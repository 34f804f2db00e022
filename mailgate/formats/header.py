"""What a message's header tells, looked at while the message passes."""

from __future__ import annotations

import re

HEADER_OCTETS = 1 << 20     # what is looked at of a header; a longer one is cut for this purpose only

_BLANK = re.compile(rb"\n\r?\n")
_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)", re.MULTILINE)
_FOLD = re.compile(rb"\r?\n[ \t]+")


def values(header: bytes, name: bytes) -> list[bytes]:
    """Return the bodies of a field of a header, unfolded, from the top."""
    wanted = name.lower()
    return [_FOLD.sub(b" ", value).strip() for key, value in _FIELD.findall(header) if key.lower() == wanted]


def first(header: bytes, name: bytes) -> bytes | None:
    """Return the body of a field's first occurrence, unfolded; None if there is none."""
    found = values(header, name)
    return found[0] if found else None


class HeaderTap:
    """Keep a copy of a message's header while its pieces pass."""

    __slots__ = ("_kept", "_done")

    def __init__(self) -> None:
        self._kept = bytearray(b"\n")     # as if a line ended before the message
        self._done = False

    def feed(self, piece: bytes) -> None:
        """Look at the next piece."""
        if self._done:
            return
        start = max(len(self._kept) - 2, 0)
        self._kept += piece
        if blank := _BLANK.search(self._kept, start):
            del self._kept[blank.start() + 1:]
        self._done = blank is not None or len(self._kept) > HEADER_OCTETS

    @property
    def complete(self) -> bool:
        """Whether there is nothing more to look at."""
        return self._done

    def fields(self, name: str) -> list[bytes]:
        """Return the bodies of a field, unfolded, from the top."""
        return values(bytes(self._kept), name.encode())

    def octets(self) -> bytes:
        """Return the header as it is, without the blank line behind it."""
        return bytes(self._kept[1:])
