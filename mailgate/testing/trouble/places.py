"""Places in a reply: an octet offset, or the inside of something that is found there.

`at = 1200` counts the octets of the reply from its beginning, its first line included; `at = -2` counts from
its end. `of = "content"` counts from behind the first line, or to what stands before the terminator.
`inside` looks for something, from the beginning of the reply or, with `of`, of its content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mailgate.testing.trouble import values
from mailgate.testing.trouble.model import Occasion
from mailgate.testing.trouble.replies import header_end, is_long, parted

Finder = Callable[[bytes], Iterator[int]]


def _crlf(reply: bytes) -> Iterator[int]:
    return (at + 1 for at in _found(reply, b"\r\n"))


def _line(reply: bytes) -> Iterator[int]:
    yield 0
    for at in _found(reply, b"\n"):
        if at + 1 < len(reply):
            yield at + 1


def _stuffed(reply: bytes) -> Iterator[int]:
    return (at + 2 for at in _found(reply, b"\n.."))


def _character(reply: bytes) -> Iterator[int]:
    """Behind the first octet of every UTF-8 character that has several."""
    return (at + 1 for at, octet in enumerate(reply)
            if 0xC2 <= octet <= 0xF4 and 0x80 <= reply[at + 1:at + 2].ljust(1, b"\0")[0] < 0xC0)


def _status(reply: bytes) -> Iterator[int]:
    yield len(parted(reply).status)


def _terminator(reply: bytes) -> Iterator[int]:
    parts = parted(reply)
    if parts.end:
        yield len(reply) - len(parts.end)


def _dot(reply: bytes) -> Iterator[int]:
    return (at + 1 for at in _terminator(reply))


def _header(reply: bytes) -> Iterator[int]:
    if is_long(reply):
        parts = parted(reply)
        yield len(parts.status) + header_end(parts.content)


def _body(reply: bytes) -> Iterator[int]:
    parts = parted(reply)
    head = header_end(parts.content)
    if is_long(reply) and head < len(parts.content):
        yield len(parts.status) + head + 2


def _middle(reply: bytes) -> Iterator[int]:
    yield len(reply) // 2


def _end(reply: bytes) -> Iterator[int]:
    yield len(reply)


def _found(reply: bytes, what: bytes) -> Iterator[int]:
    at = reply.find(what)
    while at >= 0:
        yield at
        at = reply.find(what, at + 1)


FINDERS: Mapping[str, tuple[Finder, str]] = {
    "crlf": (_crlf, "between the CR and the LF of a line end"),
    "line": (_line, "before a line; the first of the reply is nth = 1"),
    "status": (_status, "behind the first line of the reply"),
    "header": (_header, "behind the last field of a message's header"),
    "body": (_body, "before a message's body"),
    "character": (_character, "behind the first octet of a UTF-8 character that has several"),
    "stuffed": (_stuffed, "between the two dots of a byte-stuffed line"),
    "terminator": (_terminator, "before the line that is a dot alone"),
    "dot": (_dot, "behind the dot of that line"),
    "middle": (_middle, "in the middle of the reply"),
    "end": (_end, "behind the reply"),
}


def _nth(value: Any) -> int:
    if values.signed(value) == 0:
        raise ValueError("1, 2 ... from the beginning or -1, -2 ... from the end are expected")
    return int(value)


def place(inside: str = "") -> dict[str, tuple[Callable[[Any], Any], Any]]:
    """Return the settings that say where. With none of them it is what `inside` names, or the beginning."""
    return {"at": (values.signed, None), "inside": (values.choice(*FINDERS), inside), "nth": (_nth, 1),
            "of": (values.choice("reply", "content"), "reply")}


def spots(occasion: Occasion, reply: bytes) -> list[int]:
    """Return every offset of what `inside` names, in order."""
    finder, _ = FINDERS[occasion.setting("inside")]
    least = len(parted(reply).status) if occasion.setting("of") == "content" else 0
    return [at for at in finder(reply) if at >= least]


def spot(occasion: Occasion, reply: bytes) -> int | None:
    """Return the offset that the settings say, within the reply; None: the reply has no such place."""
    at: int = occasion.setting("at") or 0
    if occasion.setting("inside") and occasion.setting("at") is None:
        found, nth = spots(occasion, reply), occasion.setting("nth")
        index = nth - 1 if nth > 0 else len(found) + nth
        return found[index] if 0 <= index < len(found) else None
    first, last = 0, len(reply)
    if occasion.setting("of") == "content":
        parts = parted(reply)
        first, last = len(parts.status), len(reply) - len(parts.end)
    return min(first + at, last) if at >= 0 else max(last + at, first)
