"""Replies taken apart: what faults on octets, listings and content look at.

Only the octets are looked at, not the command: what one fault has reworked, the next one gets.
"""

from __future__ import annotations

from typing import NamedTuple

END = b".\r\n"


class Parts(NamedTuple):
    """A reply: its first line with its end, what follows, and the terminator; the last two may be empty."""

    status: bytes
    content: bytes
    end: bytes = b""

    @property
    def whole(self) -> bytes:
        """All of it again."""
        return self.status + self.content + self.end


def parted(reply: bytes) -> Parts:
    """Return the parts of a reply."""
    head = reply.find(b"\n") + 1 or len(reply)
    status, rest = reply[:head], reply[head:]
    if rest == END or rest.endswith(b"\n" + END):
        return Parts(status, rest[:-len(END)], END)
    return Parts(status, rest)


def is_long(reply: bytes) -> bool:
    """Return whether a reply is one of many lines."""
    return 0 <= reply.find(b"\n") < len(reply) - 1


def is_refusal(reply: bytes) -> bool:
    """Return whether a reply is -ERR, or none at all."""
    return not reply.startswith(b"+")


def lines_of(octets: bytes) -> list[bytes]:
    """Return the lines with their ends; what follows the last one, if it has none, too."""
    found = octets.split(b"\n")
    last = found.pop()
    return [line + b"\n" for line in found] + ([last] if last else [])


def rows_of(content: bytes) -> list[tuple[int, bytes]]:
    """Return number and rest of each line of a listing. A line without a number counts as 0."""
    rows = []
    for line in content.split(b"\r\n")[:-1]:
        number, _, rest = line.partition(b" ")
        rows.append((int(number), rest) if number.isdigit() and len(number) < 20 else (0, line))
    return rows


def header_end(content: bytes) -> int:
    """Return where the empty line begins that ends a message's header; its length, if there is none."""
    if content.startswith(b"\r\n"):
        return 0
    found = content.find(b"\r\n\r\n")
    return len(content) if found < 0 else found + 2


def text_lines(text: bytes, *, raw: bool = False) -> bytes:
    """Return a text as it is said: lines end with CRLF, the last one too; `raw`: just as it is."""
    if raw or not text:
        return text
    text = text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return text if text.endswith(b"\n") else text + b"\r\n"
