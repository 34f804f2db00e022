"""Content of a multi-line reply as it comes to a client, from strict servers and from careless ones."""

from __future__ import annotations

from mailgate.wire.dots import DotReader


class ContentReader:
    """A `DotReader` for servers whose lines may end in a bare LF.

    The first line end of a reply says what ends its lines. Where that is CRLF only CRLF "." CRLF ends
    the reply, as RFC 1939 section 3 has it: a message could otherwise end the reply itself, by a bare
    LF before a dot, and forge those that follow. Where it is LF every LF is given out as CRLF.
    """

    __slots__ = ("rest", "_dots", "_bare", "_last", "_cr_held")

    def __init__(self) -> None:
        self.rest: bytes | None = None      # once the end was found: the octets after it
        self._dots = DotReader()
        self._bare: bool | None = None      # lines end in a bare LF; not known before the first end
        self._last = b""                    # the octet before the next piece, until that is known
        self._cr_held = b""                 # a CR that ended a piece: half of a CRLF, or content

    def feed(self, data: bytes) -> bytes:
        """Return the plain octets of the next piece. After the end has come, nothing more may be fed."""
        if self._bare is None:
            end = data.find(b"\n")
            if end >= 0:
                self._bare = (data[end - 1:end] if end else self._last) != b"\r"
            self._last = data[-1:]
        if self._bare:
            return self._feed_bare(data)
        plain = self._dots.feed(data)
        self.rest = self._dots.rest
        return plain

    def _feed_bare(self, data: bytes) -> bytes:
        data = self._cr_held + data
        self._cr_held = data[-1:] if data.endswith(b"\r") else b""
        with_cr = data.removesuffix(self._cr_held).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        plain = self._dots.feed(with_cr)
        if self._dots.rest is not None:     # as it came: what follows may have other line ends
            lines_behind = self._dots.rest.count(b"\n")
            self.rest = b"\n".join(data.rsplit(b"\n", lines_behind + 1)[1:])
        return plain
