"""Cut a stream of octets into lines. Knows no socket, no command, no protocol.

Every line protocol stands on this room. CRLF ends a line, and so does the bare LF that old clients
send; a bare CR is content.
"""

from __future__ import annotations

from mailgate.errors import LineTooLong


class LineFramer:
    """Give octets to `feed`; take lines from `next_line` until it returns None.

    `limit` counts the octets of a line with its end (RFC 2449 section 4) and may be changed
    between lines. A longer line is dropped as it comes, so that an endless one costs no memory.
    """

    __slots__ = ("limit", "_buffer", "_position", "_searched", "_overflow")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = b""
        self._position = 0       # where the next line begins; what lies before it was taken
        self._searched = 0       # from here on the buffer was not searched for a line end yet
        self._overflow = False   # the line now coming is past the limit; its octets are dropped

    def feed(self, data: bytes) -> None:
        """Take more octets."""
        if self._position:
            self._searched -= self._position
            self._buffer = self._buffer[self._position:] + data
            self._position = 0
        else:
            self._buffer = self._buffer + data if self._buffer else data

    def next_line(self) -> bytes | None:
        """Return one line without its end, or None when more octets are needed.

        Raises: LineTooLong, once, when a line past `limit` has ended; the next line is read as usual.
        """
        start = self._position
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            if len(self._buffer) - start >= self.limit:
                self._overflow = True
                self.clear_buffer()
            elif start == len(self._buffer):
                self.clear_buffer()
            else:
                self._searched = len(self._buffer)
            return None
        self._position = self._searched = end + 1
        if self._overflow or end + 1 - start > self.limit:
            self._overflow = False
            raise LineTooLong(f"limit {self.limit} octets")
        if end > start and self._buffer[end - 1] == 13:
            return self._buffer[start:end - 1]
        return self._buffer[start:end]

    def take_rest(self, most: int) -> bytes:
        """Return and consume up to `most` octets as they are, line ends included (BDAT, DATA)."""
        start = self._position
        taken = self._buffer[start:start + most]
        self._position += len(taken)
        self._searched = self._position
        return taken

    def peek(self, most: int) -> bytes:
        """Return up to `most` octets that wait, without taking them."""
        return self._buffer[self._position:self._position + most]

    @property
    def pending(self) -> int:
        """How many octets wait to be taken."""
        return len(self._buffer) - self._position

    @property
    def at_start(self) -> bool:
        """Whether what comes next begins a line: nothing waits, and nothing is being dropped."""
        return not self._overflow and self._position >= len(self._buffer)

    def is_empty(self) -> bool:
        """Return whether no octets wait to be taken."""
        return self._position >= len(self._buffer)

    def drop_line(self) -> None:
        """Forget every octet that waits; the line that they belong to is too long."""
        self._overflow = True
        self.clear_buffer()

    def clear_buffer(self) -> None:
        """Forget every octet that was not taken yet."""
        self._buffer = b""
        self._position = self._searched = 0
