"""What the command says: one line a fact, whatever came from outside made harmless."""

from __future__ import annotations

import os

import click

from mailgate.errors import MailgateError
from mailgate.wire.faults import answer_for

_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


class Refusal(Exception):
    """The command cannot do it: lines for an operator, and the exit code (sysexits.h)."""

    def __init__(self, *lines: str, code: int = os.EX_DATAERR) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
        self.code = code


def tell(line: str) -> None:
    """Write one line to standard error."""
    click.echo("mailgate: " + printable(line), err=True)


def reason(fault: MailgateError) -> str:
    """Return what a fault means, and what it said itself."""
    meaning = answer_for(fault).words.decode()
    return f"{meaning}: {fault}" if str(fault) else meaning


def printable(text: str) -> str:
    """Return the text with every character escaped that could end the line or steer a terminal."""
    return "".join(one if one.isprintable() or one == "\t" else _escape(one) for one in text)


def field(value: bytes | str) -> str:
    """Return one column of a TAB-separated line; backslashes and control characters are escaped."""
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    return "".join(_ESCAPES.get(one) or (one if one.isprintable() else _escape(one)) for one in text)


def _escape(one: str) -> str:
    code = ord(one)
    if 0xDC80 <= code <= 0xDCFF:        # an octet of the command line that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
