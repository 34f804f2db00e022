"""A message as a spool is given it to write."""

from __future__ import annotations

from zope.interface import implementer

from mailgate.interfaces import IBlobReader


@implementer(IBlobReader)
class Content:
    """A message with its preamble, in CRLF form: what a spool is given to write. In threads."""

    def __init__(self, preamble: bytes, text: bytes | IBlobReader) -> None:
        self._preamble = preamble
        self._text = text

    def read(self, offset: int, octets: int) -> bytes:
        before = self._preamble[offset:offset + octets]
        at, rest = max(offset - len(self._preamble), 0), octets - len(before)
        if not rest:
            return before
        text = self._text
        return before + (text[at:at + rest] if isinstance(text, bytes) else text.read(at, rest))

    def close(self) -> None:
        if not isinstance(self._text, bytes):
            self._text.close()
