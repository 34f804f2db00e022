r"""What a client may say, as one line of a script: text with holes in it; and what a server says, likewise.

In what is expected: `*` is anything, `(name)` is anything and is kept, `(=name)` the same as was kept,
`(A|B|)` one of these, `(name=A|B)` the same and is kept, `(:regex)` and `(name:regex)` what the expression
matches. The first word is matched in any case. In what is sent, `(name)` is what was kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from math import factorial
from typing import NamedTuple

from mailgate.testing.scripted.notation import ESCAPE, ends_escaped, octets_of

_NAME = r"[a-z_][a-z0-9_]*"
_REGEX = re.compile(rf"({_NAME})?:(.*)", re.DOTALL)
_CHOICE = re.compile(rf"(?:({_NAME})=)?(.*)", re.DOTALL)
_HOLE = re.compile(rf"\(({_NAME})\)")
MOST_DEPTH = 50         # of parentheses within parentheses
MOST_WAYS = 3_000_000_000       # to share a line among holes, that are tried at the worst: some seconds


class Reference(NamedTuple):
    """The place of what was kept under a name."""

    name: str


class Border(NamedTuple):
    """The place where a segment ends and another begins."""


Part = bytes | Reference | Border


class Pattern:
    """One line that a client may say.

    `raw`: it was written with `\\c`, so the line's end belongs to it; `literal`, if it has no end of its own,
    are the octets that have to come.
    """

    def __init__(self, text: str) -> None:
        """Read it. Raises: ValueError."""
        self.raw = ends_escaped(text, "c")
        if self.raw:
            text = text[:-2]
        compiling = _Compiling(text, verb=not self.raw)
        self._parts = compiling.parts
        self.names = frozenset(compiling.names)
        self.references = frozenset(part.name for part in self._parts if isinstance(part, Reference))
        ended = text.endswith("\\n") and ends_escaped(text, "n")
        self.literal = None
        if self.raw and not ended:
            if compiling.holes:
                raise ValueError("a line without an end (\\c) has to be literal, or end in \\n")
            self.literal = octets_of(text)
        self._most_octets = _most_octets(compiling.count)
        self._compiled = None if self.references else self._compile({})

    def match(self, line: bytes, kept: Mapping[str, bytes]) -> dict[str, bytes] | None:
        """Return what is kept of a line, or None if it is another one, or too long for so many holes."""
        if self._most_octets is not None and len(line) > self._most_octets:
            return None
        found = (self._compiled or self._compile(kept)).fullmatch(line)
        return None if found is None else {
            name: value for name, value in found.groupdict().items() if value is not None}

    def _compile(self, kept: Mapping[str, bytes]) -> re.Pattern[bytes]:
        parts = []
        for part in self._parts:
            if isinstance(part, Reference):
                own = part.name in self.names
                parts.append(b"(?P=%b)" % part.name.encode() if own else re.escape(kept.get(part.name, b"")))
            elif isinstance(part, bytes):
                parts.append(part)
        try:
            return re.compile(b"(?s:" + b"".join(parts) + b")")
        except re.error as fault:
            raise ValueError(f"the expression is wrong: {fault}") from None


def _most_octets(holes: int) -> int | None:
    """Return how long a line may be that is matched with so many holes; None: as long as it likes.

    An expression goes through all ways to share a line among its holes before it says that none fits.
    """
    return int((MOST_WAYS * factorial(holes)) ** (1 / holes)) if holes > 1 else None


class _Compiling:
    """From a pattern's text to the parts of a regular expression."""

    def __init__(self, text: str, *, verb: bool) -> None:
        self.parts: list[Part] = []
        self.names: list[str] = []
        self.holes = False
        self.count = 0          # of holes that have no length of their own
        self._verb = verb       # still in the first word, whose case does not matter
        self._read(text)

    def _read(self, text: str) -> None:
        at = 0
        while at < len(text):
            one = text[at]
            if one == "*":
                self.holes = True
                self.count += 1
                at += len(text[at:]) - len(text[at:].lstrip("*"))      # a mask is many, and no more than one
                self.parts.append(b".*")
            elif one == "(":
                end = _closing(text, at)
                self._hole(text[at + 1:end])
                at = end + 1
            else:
                found = ESCAPE.match(text, at)
                octets = octets_of(found[0] if found else one)
                self._verb = self._verb and octets != b" "
                self._literal(octets)
                at += len(found[0]) if found else 1

    def _literal(self, octets: bytes) -> None:
        self.parts.append(b"(?i:%b)" % re.escape(octets) if self._verb else re.escape(octets))

    def _hole(self, inside: str) -> None:
        self.holes = True
        if re.fullmatch(_NAME, inside):
            self.count += 1
            self._keep(inside, lambda: self.parts.append(b".+?"))
        elif re.fullmatch("=" + _NAME, inside):
            self.parts.append(Reference(inside[1:]))
        elif found := _REGEX.fullmatch(inside):
            self.count += 1
            regex = found[2].encode()
            self._keep(found[1], lambda: self.parts.append(b"(?:" + regex + b")"))
        elif (choice := _CHOICE.fullmatch(inside)) and "|" in choice[2]:
            self._keep(choice[1], lambda: self._choose(_split(choice[2])))
        else:
            raise ValueError(f"({inside}) is no (name), (=name), (A|B), (:expression); a parenthesis is "
                             "written \\(")

    def _keep(self, name: str | None, read: Callable[[], object]) -> None:
        if name is None:
            self.parts.append(b"(?:")
        else:
            if name in self.names:
                raise ValueError(f"({name}) stands here twice; the same again is written (={name})")
            self.names.append(name)
            self.parts.append(b"(?P<%b>" % name.encode())
        read()
        self.parts.append(b")")

    def _choose(self, choices: list[str]) -> None:
        verb = self._verb
        for index, choice in enumerate(choices):
            if index:
                self.parts.append(b"|")
            self._verb = verb
            self._read(choice)
        self._verb = verb


def _closing(text: str, opening: int) -> int:
    """Return where the parenthesis is that closes another. Raises: ValueError."""
    depth, at, in_class = 0, opening, False
    while at < len(text):
        one = text[at]
        if one == "\\":
            at += 1
        elif in_class:
            in_class = one != "]"
        elif one == "[":
            in_class = "]" in text[at + 2:]
        elif one == "(":
            depth += 1
            if depth > MOST_DEPTH:
                raise ValueError(f"parentheses stand in parentheses, {MOST_DEPTH} deep at the most")
        elif one == ")":
            depth -= 1
            if not depth:
                return at
        at += 1
    raise ValueError("a parenthesis is not closed; one that is meant itself is written \\(")


def _split(text: str) -> list[str]:
    """Return the choices between bars that are not escaped and not in parentheses."""
    choices, depth, start, at = [], 0, 0, 0
    while at < len(text):
        one = text[at]
        if one == "\\":
            at += 1
        elif one in "()":
            depth += 1 if one == "(" else -1
        elif one == "|" and not depth:
            choices.append(text[start:at])
            start = at + 1
        at += 1
    return [*choices, text[start:]]


def read_sent(text: str, known: Container[str]) -> tuple[Part, ...]:
    r"""Return the parts of a line that is sent, with CRLF unless it ends in `\c`. Raises: ValueError.

    A name in parentheses that is not `known` stands for itself.
    """
    ended = not ends_escaped(text, "c")
    parts: list[Part] = []
    pieces = _borders(text if ended else text[:-2])
    for index, piece in enumerate(pieces):
        if index:
            parts.append(Border())
        parts += _filled(piece, known)
    if ended:
        parts.append(b"\r\n")
    return tuple(parts)


def _borders(text: str) -> list[str]:
    r"""Cut at `\|`."""
    pieces, start = [], 0
    for found in ESCAPE.finditer(text):
        if found[0] == "\\|":
            pieces.append(text[start:found.start()])
            start = found.end()
    return [*pieces, text[start:]]


def _filled(text: str, known: Container[str]) -> list[Part]:
    parts: list[Part] = []
    at = 0
    for found in _HOLE.finditer(text):
        if found[1] in known and not ends_escaped(text[:found.start() + 1], "("):
            parts += [octets_of(text[at:found.start()]), Reference(found[1])]
            at = found.end()
    parts.append(octets_of(text[at:]))
    return [part for part in parts if part != b""]
