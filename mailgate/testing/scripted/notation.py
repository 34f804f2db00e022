r"""How conversations are written down: lines with a letter in front, and octets that no editor holds.

Shared by what plays a client against a server (testing/transcript.py) and what plays a server against a
client (reading.py here). Knows no meaning of a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple


class ScriptError(ValueError):
    """A line of a script that means nothing; the text names it."""


class Line(NamedTuple):
    """One line: its number, from 1, the key in front of the colon, and what is behind it."""

    number: int
    key: str
    text: str


ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|.?)", re.DOTALL)
ESCAPES = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\", "*": "*", "(": "(", ")": ")", "|": "|"}
_LINE = re.compile(r"([A-Z]+):(?: (.*))?", re.DOTALL)
_TIME = re.compile(r"\+?[0-9]+\.[0-9]+[ \t]+(?=[A-Z*]|\|)")


def lines_of_script(script: str, keys: tuple[str, ...], *, blocks: bool = False) -> Iterator[Line]:
    """Return the lines that mean something. Raises: ScriptError.

    Left out are empty lines, comments behind `#`, notes behind `*`, and in front of a line white space and
    the time at which it was said. With `blocks`, a line that begins with `|` has that for its key.
    """
    for number, line in enumerate(script.split("\n"), 1):
        text = _TIME.sub("", line.lstrip(" \t"), count=1)
        if not text.strip() or text.startswith(("#", "*")):
            continue
        if blocks and text.startswith("|"):
            yield Line(number, "|", text[1:].removeprefix(" "))
            continue
        found = _LINE.fullmatch(text)
        if not found or found[1] not in keys:
            known = " ".join(f"{key}:" for key in keys)
            raise ScriptError(f"line {number} begins with none of {known} -- {text!r}")
        yield Line(number, found[1], found[2] or "")


def octets_of(text: str) -> bytes:
    """Return the octets that a text with escapes means. Raises: ValueError."""
    def replace(found: re.Match[str]) -> str:
        letter = found[1]
        if letter.startswith("x") and len(letter) == 3:
            return chr(0xDC00 + int(letter[1:], 16)) if letter.lower() > "x7f" else chr(int(letter[1:], 16))
        if letter not in ESCAPES:
            raise ValueError(f"unknown escape {found[0]!r}")
        return ESCAPES[letter]

    return ESCAPE.sub(replace, text).encode("utf-8", "surrogateescape")


def ends_escaped(text: str, letter: str) -> bool:
    r"""Return whether a text ends in a backslash, not itself escaped, and a letter."""
    before = text[:-1]
    return text.endswith(letter) and (len(before) - len(before.rstrip("\\"))) % 2 == 1


def escape(octets: bytes) -> str:
    """Return octets as the text of a C or an S line that means exactly them, whoever reads it."""
    text = "".join(chr(octet) if 33 <= octet < 127 and octet not in b"\\*(" else f"\\x{octet:02x}"
                   for octet in octets)
    return text.replace("\\x20", " ") if octets.strip(b" ") == octets else text


def escape_shown(octets: bytes) -> str:
    """Return octets as readable text: UTF-8 as it is; controls, other octets, backslashes, blanks at an end
    escaped."""
    text = "".join(one if one.isprintable() and one != "\\" else _escaped(one)
                   for one in octets.decode("utf-8", "surrogateescape"))
    if text.endswith(" "):
        text = text[:-1] + "\\x20"
    return text


_NAMES = {"\r": "\\r", "\n": "\\n", "\t": "\\t", "\0": "\\0", "\\": "\\\\"}


def _escaped(character: str) -> str:
    if character in _NAMES:
        return _NAMES[character]
    return "".join(f"\\x{octet:02x}" for octet in character.encode("utf-8", "surrogateescape"))
