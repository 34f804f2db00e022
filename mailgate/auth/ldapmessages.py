"""LDAP messages of a server, held to their form before libldap sees them (RFC 4511 sections 4.1 and 5.1).

libldap 2.5 ends the whole process (an assertion) over some messages whose lengths do not fit into one
another, and takes memory for any length that is announced.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MAX_MESSAGE_OCTETS = 4 << 20
_MAX_DEPTH = 12

_INTEGER, _OCTETS, _ENUMERATED, _SEQUENCE, _SET, _CONTROLS = 0x02, 0x04, 0x0A, 0x30, 0x31, 0xA0
_ENTRY, _REFERENCE, _INTERMEDIATE = 0x64, 0x73, 0x79
_RESULTS = (0x61, 0x65, 0x78)       # of bind, search, extended operation: what is asked for here


class Part(NamedTuple):
    """One element: its tag, and where its content is."""

    tag: int
    begin: int
    end: int


class Messages:
    """Octets in any pieces go in, whole messages come out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, octets: bytes) -> bytes:
        """Return the messages that are whole now. Raises: ValueError, when one is none; then all is over."""
        self._buffer += octets
        at = 0
        while (message := _first(self._buffer, at)) is not None and message.end <= len(self._buffer):
            _check_message(self._buffer, message)
            at = message.end
        whole = bytes(self._buffer[:at])
        del self._buffer[:at]
        return whole


def _first(octets: bytearray, at: int) -> Part | None:
    """Return the message that begins at an index, or None while its length is not yet known."""
    if len(octets) < at + 2:
        return None
    if octets[at] != _SEQUENCE:
        raise ValueError("no LDAP message")
    count = octets[at + 1] & 0x7F if octets[at + 1] & 0x80 else 0
    if len(octets) < at + 2 + count:
        return None
    message = _part(octets, at)
    if message.end - message.begin > MAX_MESSAGE_OCTETS:
        raise ValueError("a message that is too long")
    return message


def _part(octets: bytearray, at: int) -> Part:
    """Return the element that begins at an index: of a low tag and a definite length."""
    try:
        tag, length = octets[at], octets[at + 1]
        begin = at + 2
        if length & 0x80:
            count = length & 0x7F
            if not 1 <= count <= 4:
                raise ValueError("a length that LDAP does not use")
            begin += count
            length = int.from_bytes(octets[at + 2:begin], "big")
    except IndexError:
        raise ValueError("an element is cut off") from None
    if tag & 0x1F == 0x1F:
        raise ValueError("a tag that LDAP does not use")
    return Part(tag, begin, begin + length)


def _parts(octets: bytearray, whole: Part) -> Iterator[Part]:
    """Give the elements within one."""
    at = whole.begin
    while at < whole.end:
        part = _part(octets, at)
        if part.end > whole.end:
            raise ValueError("an element is longer than what it stands in")
        yield part
        at = part.end


def _check_message(octets: bytearray, message: Part) -> None:
    """Raise ValueError unless this is a message of a kind that is waited for, or could come unasked."""
    identifier, operation, *controls = _parts(octets, message)
    if identifier.tag != _INTEGER or not 1 <= identifier.end - identifier.begin <= 4:
        raise ValueError("no message id")
    _check_nesting(octets, message, 0)
    parts = list(_parts(octets, operation))
    tags = [part.tag for part in parts]
    if operation.tag in _RESULTS:
        good = tags[:3] == [_ENUMERATED, _OCTETS, _OCTETS] and 1 <= parts[0].end - parts[0].begin <= 4
    elif operation.tag == _ENTRY:
        good = tags == [_OCTETS, _SEQUENCE] and all(
            _is_attribute(octets, part) for part in _parts(octets, parts[1]))
    else:
        good = operation.tag == _INTERMEDIATE or (operation.tag == _REFERENCE and set(tags) == {_OCTETS})
    if not good or [part.tag for part in controls] not in ([], [_CONTROLS]):
        raise ValueError("no answer that LDAP knows")


def _is_attribute(octets: bytearray, part: Part) -> bool:
    parts = list(_parts(octets, part)) if part.tag == _SEQUENCE else []
    return [one.tag for one in parts] == [_OCTETS, _SET] and all(
        one.tag == _OCTETS for one in _parts(octets, parts[1]))


def _check_nesting(octets: bytearray, whole: Part, depth: int) -> None:
    """Raise ValueError unless every element within one ends where it should."""
    if depth > _MAX_DEPTH:
        raise ValueError("elements within elements without end")
    for part in _parts(octets, whole):
        if part.tag & 0x20:
            _check_nesting(octets, part, depth + 1)
