"""Byte-stuffing both ways (RFC 1939 section 3, RFC 5321 section 4.5.2) and the wire form of a message.

The wire form is what a store keeps and RETR sends as it is: every line ends in CRLF, a line that
begins with a dot has one more in front, and the terminating dot line is not part of it.
"""

from __future__ import annotations

TERMINATOR = b".\r\n"


class WireForm:
    """Turn a message that comes in pieces into wire form, and measure it on the way.

    Bare LF becomes CRLF and a missing last line end is added; a bare CR is content and kept.
    """

    __slots__ = ("octets", "wire_octets", "_head_wire_octets", "has_bare_cr", "has_nul",
                 "_line_start", "_cr_held", "_tail", "_in_head")

    def __init__(self) -> None:
        self.octets = 0              # of the message so far, CRLF line ends, before byte-stuffing
        self.wire_octets = 0         # the same, stuffed
        self._head_wire_octets = 0
        self.has_bare_cr = False
        self.has_nul = False
        self._line_start = True      # the next octet begins a line
        self._cr_held = False        # a CR that ended a piece: bare, or half of a CRLF
        self._tail = b"\r\n"         # up to three octets before the next piece: a blank line may be cut
        self._in_head = True

    def feed(self, data: bytes) -> bytes:
        """Return the wire form of the next piece (a CR at its end is held back)."""
        if self._cr_held:
            data, self._cr_held = b"\r" + data, False
        if data.endswith(b"\r"):
            data, self._cr_held = data[:-1], True
        if not data:
            return b""
        if b"\r" in data:
            if data.count(b"\r") != data.count(b"\r\n"):
                self.has_bare_cr = True
            if data.count(b"\n") != data.count(b"\r\n"):
                data = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        elif b"\n" in data:
            data = data.replace(b"\n", b"\r\n")
        if not self.has_nul and b"\0" in data:
            self.has_nul = True
        return self._stuff(data)

    def finish(self) -> bytes:
        """Return what is missing for the message to end in CRLF."""
        if self._cr_held:
            self._cr_held = False
            self.has_bare_cr = True
            return self._stuff(b"\r\r\n")
        return b"" if self._line_start else self._stuff(b"\r\n")

    @property
    def head_octets(self) -> int:
        """Stuffed octets of the header with its blank line; all of it when no blank line came."""
        return self.wire_octets if self._in_head else self._head_wire_octets

    def _stuff(self, data: bytes) -> bytes:
        self.octets += len(data)
        wire = data.replace(b"\r\n.", b"\r\n..")
        if self._line_start and wire[0] == 46:
            wire = b"." + wire
        self._line_start = wire.endswith(b"\r\n")
        if self._in_head:
            self._find_head_end(wire)
        self.wire_octets += len(wire)
        return wire

    def _find_head_end(self, wire: bytes) -> None:
        text = self._tail + wire
        at = text.find(b"\r\n\r\n")
        if at >= 0:
            self._head_wire_octets = self.wire_octets + at + 4 - len(self._tail)
            self._in_head = False
        self._tail = text[-3:]


def to_wire(message: bytes) -> bytes:
    """Return the wire form of a whole message."""
    form = WireForm()
    return form.feed(message) + form.finish()


def unstuff(wire: bytes) -> bytes:
    """Return the octets of a wire form, or of a part of one that begins at a line's start."""
    return Unstuffer().feed(wire)


class Unstuffer:
    """Undo byte-stuffing over pieces that are cut anywhere."""

    __slots__ = ("_before",)

    def __init__(self) -> None:
        self._before = b"\r\n"   # the part of a line end that stands before the next piece

    def feed(self, wire: bytes) -> bytes:
        """Return the plain octets of the next piece."""
        text = self._before + wire
        plain = text.replace(b"\r\n.", b"\r\n")[len(self._before):]
        self._before = b"\r\n" if text.endswith(b"\r\n") else b"\r" if text.endswith(b"\r") else b""
        return plain


class DotReader:
    """Find the end of stuffed content that is cut anywhere, and undo the stuffing on the way.

    Only CRLF "." CRLF ends it (RFC 5321 section 4.1.1.4), at once when the dot line comes first. A
    bare LF or CR beside a dot is content: who takes it for an end lets a message smuggle another one.
    """

    __slots__ = ("rest", "_before", "_held")

    def __init__(self) -> None:
        self.rest: bytes | None = None   # once the end was found: the octets after it
        self._before = b"\r\n"   # the part of a line end that was given out last
        self._held = b""         # a dot that may be the end, and the CR after it

    def feed(self, data: bytes) -> bytes:
        """Return the plain octets of the next piece. After the end has come, nothing more may be fed."""
        before = self._before
        text = before + self._held + data
        end = text.find(b"\r\n" + TERMINATOR)
        if end >= 0:
            self.rest = text[end + 5:]
            text = text[:end + 2]
        else:
            self._held = text[-2:] if text.endswith(b"\r\n.\r") else b"." if text.endswith(b"\r\n.") else b""
            text = text.removesuffix(self._held)
            self._before = b"\r\n" if text.endswith(b"\r\n") else b"\r" if text.endswith(b"\r") else b""
        return text.replace(b"\r\n.", b"\r\n")[len(before):]


class TopCutter:
    """Pass the header, the blank line and the first lines of the body of a wire form (TOP).

    After the cut `done` is true and every further piece gives nothing.
    """

    __slots__ = ("done", "_lines", "_in_head", "_tail")

    def __init__(self, body_lines: int) -> None:
        self.done = False
        self._lines = body_lines     # lines of the body still to pass
        self._in_head = True
        self._tail = b"\r\n"         # what of a line end or blank line stands before the next piece

    def feed(self, wire: bytes) -> bytes:
        """Return the part of the next piece that lies before the cut."""
        if self.done:
            return b""
        before = self._tail
        text = before + wire
        at = 0
        if self._in_head:
            found = text.find(b"\r\n\r\n")
            if found < 0:
                self._tail = text[-3:]
                return wire
            self._in_head = False
            at = found + 4
        ends = text.count(b"\r\n", at)
        if ends < self._lines:           # counted, not walked: fetchmail asks for 99,999,999 lines
            self._lines -= ends
            self._tail = text[-1:]
            return wire
        for _ in range(self._lines):
            at = text.find(b"\r\n", at) + 2
        self.done = True
        return text[len(before):at]


def cut_top(wire: bytes, head_octets: int, body_lines: int) -> bytes:
    """Return the header (`head_octets` long, blank line included) and `body_lines` lines of a wire form."""
    at = head_octets
    if body_lines > len(wire) - at:      # every line has an octet: more lines than that are all of it
        return wire
    for _ in range(body_lines):
        at = wire.find(b"\r\n", at) + 2
        if at < 2:
            return wire
    return wire[:at]
