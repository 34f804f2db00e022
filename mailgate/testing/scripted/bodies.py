"""What stands behind `BODY:` in a script: a multi-line reply's content that comes from somewhere else.

    BODY: file one.eml          # LF or CRLF ends its lines; CRLF leaves, byte-stuffed, and the final dot
    BODY: sample dots           # of testing/samples.py; `sample dots 3` is the third of that name
    BODY: filler 1200           # a message of so many octets, nothing in it
    BODY: file one.eml, unstuffed, unended
    BODY: file one.bin, raw     # its octets as they are, and nothing else
    BODY:                       # the lines below that begin with |
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from mailgate.testing import samples

FLAGS = ("unstuffed", "unended", "raw")
FILLER_LINE_OCTETS = 72
MOST_FILLER_OCTETS = 1 << 30


class Body(NamedTuple):
    """What to send. `octets` is None where the lines below hold it."""

    octets: bytes | None
    stuffed: bool
    ended: bool


def read_body(text: str, folder: Path | None) -> Body:
    """Return what a `BODY:` line means. Files are looked for in `folder`. Raises: ValueError."""
    what, *flags = [word.strip() for word in text.split(",")]
    unknown = [flag for flag in flags if flag not in FLAGS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is none of {', '.join(FLAGS)}")
    raw = "raw" in flags
    stuffed, ended = not (raw or "unstuffed" in flags), not (raw or "unended" in flags)
    if not what:
        return Body(None, stuffed, ended)
    source, _, name = what.partition(" ")
    octets = _content(source, name.strip(), folder)
    return Body(octets if raw else as_lines(octets), stuffed, ended)


def _content(source: str, name: str, folder: Path | None) -> bytes:
    if source == "file":
        path = Path(name) if folder is None else folder / name
        try:
            return path.read_bytes()
        except OSError as fault:
            raise ValueError(f"{path}: {fault.strerror}") from None
    if source == "sample":
        word, _, number = name.partition(" ")
        if number and not number.isdecimal():
            raise ValueError(f"{number!r} is no number of a sample")
        try:
            found = samples.contents(word, int(number or 1))
        except LookupError as fault:
            raise ValueError(str(fault.args[0])) from None
        if not found:
            raise ValueError(f"sample {word} is no message")
        return found[0]
    if source == "filler" and name.isdecimal():
        if len(name) > len(str(MOST_FILLER_OCTETS)) or int(name) > MOST_FILLER_OCTETS:
            raise ValueError(f"filler {name}: {MOST_FILLER_OCTETS:,} octets are the most")
        return filler(int(name))
    raise ValueError(f"{source} {name} is no file NAME, sample NAME, filler OCTETS")


def as_lines(octets: bytes) -> bytes:
    """Return octets with CRLF at every line's end, the last one's too."""
    octets = re.sub(rb"\r?\n", b"\r\n", octets)
    return octets if not octets or octets.endswith(b"\r\n") else octets + b"\r\n"


def filler(octets: int) -> bytes:
    """Return lines of so many octets, their ends counted."""
    whole, rest = divmod(octets, FILLER_LINE_OCTETS)
    if rest == 1 and whole:     # one octet is no line
        whole, rest = whole - 1, rest + FILLER_LINE_OCTETS
    return _line(FILLER_LINE_OCTETS) * whole + (_line(rest) if rest else b"")


def _line(octets: int) -> bytes:
    return (b"x" * max(0, octets - 2) + b"\r\n")[-octets:]


def stuffed(octets: bytes) -> bytes:
    """Return lines with a dot in front of those that begin with one (RFC 1939 section 3)."""
    return re.sub(rb"(?m)^\.", b"..", octets)
