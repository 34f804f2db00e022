"""Digests of a message's header from which POP3 servers make their unique-ids, of an mbox mostly.

A header is octets up to the blank line, as they lie in the file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import NamedTuple

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
_ALWAYS = (b"delivered-to", b"x-delivery-id")
_ABOVE_RECEIVED = (b"date", b"message-id", b"received")
# What Dovecot itself writes into an mbox
_NOT_COUNTED = (b"content-length", b"status", b"x-imap", b"x-imapbase", b"x-keywords", b"x-status", b"x-uid")
_QPOPPER = (b"received:", b"date:", b"message-id:", b"subject:")


class Field(NamedTuple):
    """One field of a header; a line that is none has no name."""

    name: bytes             # in lower case, as it stands before the colon
    lines: list[bytes]      # whole, with their ends


def fields(header: bytes) -> Iterator[Field]:
    """Give the fields in order."""
    field: Field | None = None
    for line in _LINE.findall(header):
        if line[:1] in (b" ", b"\t") and field is not None:
            field.lines.append(line)
            continue
        if field is not None:
            yield field
        name, colon, _ = line.partition(b":")
        field = Field(name.lower() if colon else b"", [line])
    if field is not None:
        yield field


def dovecot_few(header: bytes) -> bytes:
    """Return what Dovecot takes of a header (`mbox_md5 = apop3d`), in hexadecimal.

    That is every Delivered-To and X-Delivery-ID, the first Received, and Date and Message-ID above it.
    """
    taken = []
    received = False
    for name, lines in fields(header):
        name = name.rstrip(b" \t")
        if name in _ALWAYS or (not received and name in _ABOVE_RECEIVED):
            taken += _values(lines)
        received = received or name == b"received"
    return _md5(taken).hex().encode()


def dovecot_all(header: bytes) -> bytes:
    """Return what Dovecot takes of a header (`mbox_md5 = all`): all that it did not write itself."""
    taken: list[bytes] = []
    for name, lines in fields(header):
        if name.rstrip(b" \t") not in _NOT_COUNTED:
            taken += _values(lines)
    return _md5(taken).hex().encode()


def popa3d(header: bytes) -> bytes:
    """Return popa3d's unique-id: of the same fields as Dovecot takes few of, but their lines as they are."""
    taken: list[bytes] = []
    received = False
    for name, lines in fields(header):
        if name in _ALWAYS or (not received and name in _ABOVE_RECEIVED):
            taken += lines
        received = received or name == b"received"
    octets = _md5(taken)
    return (octets[3::-1] + octets[7:3:-1]).hex().encode()      # two numbers, their last octet first


def qpopper(from_line: bytes, header: bytes, *, old_style: bool) -> bytes:
    """Return the unique-id that a qpopper gives which does not write into the mbox.

    It takes the lines (no folded ones) of Received, Date, Message-Id and Subject between twice the From
    line; in the old style of its version 2 once, and shown in hexadecimal.
    """
    taken = [from_line, *(lines[0] for _, lines in fields(header) if lines[0].lower().startswith(_QPOPPER))]
    if old_style:
        return _md5(taken).hex().encode()
    octets = _md5([*taken, from_line])
    shown = bytearray()
    for start in range(0, 16, 4):
        number = 0
        for octet in octets[start:start + 4]:
            number = number * 16 + octet        # so, not by 256
        for _ in range(5):
            number, digit = divmod(number, 80)
            shown.append(0x21 + digit)
    return bytes(shown).replace(b".", b"~")


def _values(lines: list[bytes]) -> list[bytes]:
    """Return a field's lines as Dovecot takes them: no name, no line ends, and at first one space less."""
    head, *rest = [line.removesuffix(b"\n").removesuffix(b"\r") for line in lines]
    name, colon, value = head.partition(b":")
    value = value[1:] if value[:1] in (b" ", b"\t") else value
    return [value if colon else name, *rest]


def _md5(parts: list[bytes]) -> bytes:
    return hashlib.md5(b"".join(parts), usedforsecurity=False).digest()
