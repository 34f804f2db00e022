"""Dovecot's `pop3_uidl_format`: how it makes a unique-id of what it knows of a message.

To version 2.3 a variable is `%[OFFSET.][0][WIDTH][MODIFIERS]V` with V a letter or a name in braces; from
2.4 on it is `%{NAME | FILTER | FILTER(ARGUMENTS)}`. Both are read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

LETTERS = {"v": "uidvalidity", "u": "uid", "m": "md5", "f": "filename", "g": "guid"}
WIDEST = 1000       # a width or offset beyond that is a mistake, and would cost memory

_VARIABLE = re.compile(
    r"%(?:(?P<offset>-?\d{0,4})\.)?(?P<zero>0?)(?P<width>-?\d{0,4})(?P<modifiers>[LUEXRHNMDT]*)"
    r"(?:\{\s*(?P<name>[^{}|]*?)\s*(?P<filters>(?:\|[^{}|]*)*)\}|(?P<letter>.))", re.DOTALL)
_FILTER = re.compile(r"\s*(?P<name>\w+)\s*(?:\((?P<arguments>[-\d\s,]*)\))?\s*")
_NUMBER = re.compile(rb"\d{1,20}")

Change = Callable[[bytes], bytes]


class Template(NamedTuple):
    """A format, ready to be filled in with what is known of a message."""

    pieces: tuple[tuple[bytes | None, str, tuple[Change, ...]], ...]   # literal, or variable and changes

    @property
    def names(self) -> frozenset[str]:
        """Return the names of its variables."""
        return frozenset(name for literal, name, _ in self.pieces if literal is None)

    def fill(self, values: Mapping[str, bytes]) -> bytes | None:
        """Return what it makes of the values; None, if one of its variables has none here."""
        made = []
        for literal, name, changes in self.pieces:
            if literal is None:
                if name not in values:
                    return None
                literal = values[name]
                for change in changes:
                    literal = change(literal)
            made.append(literal)
        return b"".join(made)


def parse_template(text: str) -> Template:
    """Read a format. Raises: ValueError, in words for an operator."""
    pieces: list[tuple[bytes | None, str, tuple[Change, ...]]] = []
    position = 0
    while (start := text.find("%", position)) >= 0:
        pieces.append((text[position:start].encode(), "", ()))
        found = _VARIABLE.match(text, start)
        if found is None:
            raise ValueError(f"{text[start:]!r} is no variable of pop3_uidl_format")
        position = found.end()
        if found["letter"] == "%":
            percent = b"%"
            for change in _changes(found):
                percent = change(percent)
            pieces.append((percent, "", ()))
            continue
        name = LETTERS.get(found["letter"] or "", found["name"] or "")
        if name not in LETTERS.values():
            known = ", ".join(f"%{letter} {long}" for letter, long in LETTERS.items())
            raise ValueError(f"{found[0]!r} is no variable of pop3_uidl_format; there are {known}")
        pieces.append((None, name, _changes(found)))
    pieces.append((text[position:].encode(), "", ()))
    template = Template(tuple(piece for piece in pieces if piece[0] != b""))
    if not template.names:
        raise ValueError(f"{text!r} has no variable: all messages would get the same unique-id")
    return template


def _changes(found: re.Match[str]) -> tuple[Change, ...]:
    """Return what is done to a variable's value, in order."""
    if found["filters"]:
        filters = found["filters"].split("|")[1:]
        shown = ["hexlify"] if filters[-1].strip() in _HASHES else []     # octets are not shown as they are
        return tuple(_filter(one) for one in [*filters, *shown])
    offset, width = _number(found["offset"]), _number(found["width"])
    if max(abs(offset), abs(width)) > WIDEST:
        raise ValueError(f"{found[0]!r}: wider than {WIDEST}")
    changes: list[Change] = []
    for letter in found["modifiers"]:
        if letter in "HN":      # these take width and offset for themselves: bound and padding
            changes.append(_hashed(_elf_hash if letter == "H" else _short_md5, width, offset))
            offset = width = 0
        else:
            changes.append(_MODIFIERS[letter])
    if offset:
        changes.append(lambda value: value[offset:] if offset > 0 or len(value) > -offset else value)
    if width and found["zero"]:
        changes.append(lambda value: value.rjust(width, b"0"))
    elif width:
        changes.append(lambda value: value[:width])
    return tuple(changes)


def _number(digits: str | None) -> int:
    return int(digits) if digits and digits != "-" else 0


def _hexadecimal(value: bytes) -> bytes:
    """Return a decimal number in hexadecimal; what is none counts as 0."""
    number = int(value) if _NUMBER.fullmatch(value) else 0
    return b"%x" % (number if number < 1 << 64 else 0)


def _elf_hash(value: bytes) -> int:
    """Return the hash of the ELF format, of 32 bits."""
    result = 0
    for octet in value:
        result = ((result << 4) + octet) & 0xFFFFFFFF
        high = result & 0xF0000000
        result = (result ^ high >> 24) & ~high
    return result


def _short_md5(value: bytes) -> int:
    return int.from_bytes(_digest("md5")(value)[:8], "big")


def _hashed(make: Callable[[bytes], int], bound: int, least: int) -> Change:
    """Make a change to a hash: below a bound if there is one, and with zeros to a least width."""
    def change(value: bytes) -> bytes:
        number = make(value)
        return b"%x" % ((number % bound if bound > 0 else number) & 0xFFFFFFFF)
    return lambda value: change(value).rjust(least, b"0")


def _digest(name: str) -> Change:
    return lambda value: hashlib.new(name, value, usedforsecurity=False).digest()


_MODIFIERS: dict[str, Change] = {
    "L": bytes.lower, "U": bytes.upper, "X": _hexadecimal, "T": bytes.rstrip,
    "R": lambda value: value[::-1], "M": lambda value: _digest("md5")(value).hex().encode(),
    "D": lambda value: value.replace(b".", b",dc="),
    "E": lambda value: re.sub(rb"([\\\"'])", rb"\\\1", value)}

_HASHES = ("md5", "sha1", "sha256", "sha384", "sha512")
_FILTERS: dict[str, Change] = {
    "lower": bytes.lower, "upper": bytes.upper, "rtrim": bytes.rstrip, "reverse": lambda value: value[::-1],
    "hexlify": lambda value: value.hex().encode(), "hex": _hexadecimal,
    "ldap_dn": lambda value: value.replace(b".", b",dc="), **{name: _digest(name) for name in _HASHES}}


def _filter(text: str) -> Change:
    """Read one filter of version 2.4. Raises: ValueError."""
    found = _FILTER.fullmatch(text)
    name = found["name"] if found else text.strip()
    try:
        numbers = [int(one) for one in (found["arguments"] or "").split(",")] \
            if found and found["arguments"] else []
    except ValueError:
        raise ValueError(f"{text.strip()!r} has arguments that are no numbers") from None
    if any(abs(number) > WIDEST for number in numbers):
        raise ValueError(f"{text.strip()!r}: wider than {WIDEST}")
    if name == "hex" and len(numbers) == 1:
        return _hexadecimal_to(numbers[0])
    if name == "hexlify" and len(numbers) == 1:
        return lambda value: value.hex().encode()[:numbers[0]].rjust(numbers[0], b"0")
    if name == "substr" and len(numbers) in (1, 2):
        return _part(*numbers)
    if name == "truncate" and len(numbers) == 1:
        return _part(0, numbers[0])
    if name not in _FILTERS or numbers:
        raise ValueError(f"{text.strip()!r} is no filter that is known here; there are "
                         f"{', '.join(sorted([*_FILTERS, 'substr', 'truncate']))}")
    return _FILTERS[name]


def _hexadecimal_to(width: int) -> Change:
    """Make a change to hexadecimal of a width: zeros in front or, for a negative one, behind."""
    def change(value: bytes) -> bytes:
        made = _hexadecimal(value)
        if width < 0:
            return made[:-width].ljust(-width, b"0")
        return made[max(len(made) - width, 0):].rjust(width, b"0") if width else made
    return change


def _part(start: int, length: int | None = None) -> Change:
    def part(value: bytes) -> bytes:
        rest = value[start:] if start >= 0 else value[max(len(value) + start, 0):]
        return rest if length is None else rest[:length]
    return part
