r"""Scripts that are servers: the text, and what it means.

    S: +OK ready
    C: USER (name)              # what the client has to say; (name) is kept
    S: +OK hello (name)
    OPTIONAL:                   # the client may leave this out
      C: PASS *
      S: +OK
    END:
    ANY:                        # any of these, in any order, as often as the client likes
      C: STAT
      S: +OK 1 120
      C: RETR 1
      S: +OK
      BODY: file one.eml
    END:
    C: QUIT
    S: +OK

The manual (docs/testing/scripts.rst) tells all of it. `S:` lines with nothing between leave in one segment.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from mailgate.testing.scripted.bodies import read_body
from mailgate.testing.scripted.model import (
    CLOSE,
    REFUSE,
    BeginTLS,
    Block,
    Hang,
    Happen,
    Hear,
    HearEnd,
    Node,
    Script,
    Section,
    Send,
    Silence,
    Wait,
)
from mailgate.testing.scripted.notation import Line, ScriptError, lines_of_script
from mailgate.testing.scripted.patterns import Part, Pattern, read_sent

PREDEFINED = ("session",)       # names that can be sent without having been kept
KEYS = ("C", "S", "T", "E", "TLS", "BODY", "ANY", "REPEAT", "OPTIONAL", "EITHER", "OR", "END", "SESSION",
        "MISMATCH")
MOST_ROUNDS = 1_000_000
MOST_DEPTH = 50         # of blocks within blocks
_ROUNDS = re.compile(r"(\d+)(?:-(\d+)?)?")


def read_script(text: str, folder: Path | None = None) -> Script:
    """Return a script. Files that it names are looked for in `folder`. Raises: ScriptError."""
    return _Reading(list(lines_of_script(text, KEYS, blocks=True)), folder).script()


def load_script(path: Path) -> Script:
    """Return the script of a file. Raises: ScriptError, OSError."""
    return read_script(path.read_text("utf-8"), path.parent)


class _Reading:
    def __init__(self, lines: list[Line], folder: Path | None) -> None:
        self._lines = lines
        self._at = 0
        self._folder = folder
        self._known: set[str] = set(PREDEFINED)
        self._events: set[str] = set()
        self._on_mismatch = CLOSE
        self._depth = 0

    def script(self) -> Script:
        """Read all of it."""
        sections: list[Section] = []
        first, headed = 1, False
        while True:
            nodes = self._sequence(())
            if nodes or headed or self._at >= len(self._lines):
                sections.append(Section(first, nodes))
            if self._at >= len(self._lines):
                break
            line = self._take()
            if line.key != "SESSION":
                raise ScriptError(f"line {line.number}: {line.key}: without the block that it belongs to")
            first, headed = self._number(line, first + 1 if sections else 1), True
            if first in [section.first for section in sections]:
                raise ScriptError(f"line {line.number}: session {first} is there already")
        sections.sort()
        for section in sections:
            _check(section.nodes, last=True)
        return Script(tuple(sections), self._on_mismatch, frozenset(self._events))

    def _number(self, line: Line, default: int) -> int:
        text = line.text.strip()
        if text and (not text.isdecimal() or not int(text)):
            raise ScriptError(f"line {line.number}: {text!r} is no number of a session")
        return int(text) if text else default

    def _take(self) -> Line:
        self._at += 1
        return self._lines[self._at - 1]

    def _sequence(self, until: tuple[str, ...], splits: bool = False) -> tuple[Node, ...]:
        """Read nodes up to a line that ends them, which is left; with `splits` the next C: line does."""
        nodes: list[Node] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line.key in ("END", "OR", "SESSION") or (splits and nodes and line.key == "C"):
                break
            self._at += 1
            try:
                nodes += self._read(line)
            except ScriptError:
                raise
            except ValueError as fault:
                raise ScriptError(f"line {line.number}: {fault}") from None
        if until and (self._at >= len(self._lines) or self._lines[self._at].key not in until):
            where = f"line {self._lines[self._at].number}" if self._at < len(self._lines) else "the end"
            raise ScriptError(f"{where}: a block was not ended by END:")
        return tuple(nodes)

    def _read(self, line: Line) -> list[Node]:
        reader: Callable[[Line], list[Node]] = getattr(self, f"_read_{line.key.lower()}", self._misplaced)
        return reader(line)

    def _misplaced(self, line: Line) -> list[Node]:
        raise ValueError("a line with | belongs behind BODY:")

    # One key each -----------------------------------------------------------------------------

    def _read_c(self, line: Line) -> list[Node]:
        if line.text == "(closed)":
            return [HearEnd(line.number)]
        if line.text == "(nothing)":
            return [Silence(line.number)]
        if line.text == "(lines)":
            anything = Hear(line.number, Pattern("*"), "*")
            return [Block(line.number, ((anything,),), 0, None, leave_first=True)]
        pattern = Pattern(line.text)
        unknown = sorted(pattern.references - pattern.names - self._known)
        if unknown:
            raise ValueError(f"(={unknown[0]}) was not kept before")
        self._known |= pattern.names
        return [Hear(line.number, pattern, line.text)]

    def _read_s(self, line: Line) -> list[Node]:
        if line.text in ("(closed)", "(reset)"):
            return [Hang(line.number, torn=line.text == "(reset)")]
        return [Send(line.number, read_sent(line.text, self._known))]

    def _read_t(self, line: Line) -> list[Node]:
        seconds = float(line.text)
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"{line.text} is no number of seconds")
        return [Wait(line.number, seconds)]

    def _read_e(self, line: Line) -> list[Node]:
        self._events.add(line.text.strip())
        return [Happen(line.number, line.text.strip())]

    def _read_tls(self, line: Line) -> list[Node]:
        if line.text.strip() != "begin":
            raise ValueError("TLS: begin is what is known of TLS")
        return [BeginTLS(line.number)]

    def _read_mismatch(self, line: Line) -> list[Node]:
        if line.text.strip() not in (CLOSE, REFUSE):
            raise ValueError(f"{line.text!r} is none of {CLOSE}, {REFUSE}")
        self._on_mismatch = line.text.strip()
        return []

    def _read_body(self, line: Line) -> list[Node]:
        body = read_body(line.text, self._folder)
        parts: list[Part] = [body.octets] if body.octets is not None else []
        while self._at < len(self._lines) and self._lines[self._at].key == "|":
            if body.octets is not None:
                raise ScriptError(f"line {self._lines[self._at].number}: the body is there already")
            parts += read_sent(self._take().text, self._known)
        return [Send(line.number, tuple(parts), body.stuffed, body.ended)]

    # Blocks -----------------------------------------------------------------------------------

    def _read_any(self, line: Line) -> list[Node]:
        return self._block(line, 0, None, leave_first=True, splits=True)

    def _read_optional(self, line: Line) -> list[Node]:
        return self._block(line, 0, 1)

    def _read_either(self, line: Line) -> list[Node]:
        return self._block(line, 1, 1)

    def _read_repeat(self, line: Line) -> list[Node]:
        if not line.text.strip():
            return self._block(line, 0, None)
        found = _ROUNDS.fullmatch(line.text.strip())
        if not found:
            raise ValueError(f"{line.text!r} is no number of rounds: 3, 1-3 or 2-")
        least = int(found[1])
        most = None if line.text.strip().endswith("-") else int(found[2] or least)
        if not least <= (MOST_ROUNDS if most is None else most) <= MOST_ROUNDS or most == 0:
            raise ValueError(f"{line.text.strip()!r} is no number of rounds")
        return self._block(line, least, most)

    def _block(self, line: Line, least: int, most: int | None, *, leave_first: bool = False,
               splits: bool = False) -> list[Node]:
        if line.text.strip() and line.key != "REPEAT":
            raise ValueError(f"{line.key}: stands alone in its line")
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise ValueError(f"blocks stand in blocks, {MOST_DEPTH} deep at the most")
        parted = splits and not self._has_or()
        branches: list[tuple[Node, ...]] = []
        while True:
            nodes = self._sequence(("END", "OR", "C") if parted else ("END", "OR"), splits=parted)
            if not nodes or not isinstance(nodes[0], (Hear, HearEnd, Block)):
                raise ScriptError(f"line {line.number}: each branch of {line.key}: begins with a C: line")
            branches.append(nodes)
            if self._lines[self._at].key == "C":
                continue
            if self._take().key == "END":
                break
        self._depth -= 1
        return [Block(line.number, tuple(branches), least, most, leave_first)]

    def _has_or(self) -> bool:
        """Whether the branches of the block that begins here are parted by OR: lines."""
        depth = 0
        for line in self._lines[self._at:]:
            if line.key in ("ANY", "REPEAT", "OPTIONAL", "EITHER"):
                depth += 1
            elif line.key == "END":
                if not depth:
                    return False
                depth -= 1
            elif line.key == "OR" and not depth:
                return True
        return False


def _check(nodes: tuple[Node, ...], *, last: bool) -> None:
    """See that behind a block that may be left it is the client's turn: `last`, behind these nodes it is."""
    for index, node in enumerate(nodes):
        if not isinstance(node, Block):
            continue
        after = nodes[index + 1] if index + 1 < len(nodes) else None
        theirs = last if after is None else isinstance(after, (Hear, HearEnd, Block))
        if node.least != node.most and not theirs:
            where = f"line {after.line}" if after is not None else "the end of the block around it"
            raise ScriptError(f"line {node.line}: how often this block is played depends on the client, so "
                              f"at {where} it has to be the client's turn (a C: line)")
        for branch in node.branches:
            _check(branch, last=theirs)
            if isinstance(branch[0], Block) and branch[0].least == 0:
                raise ScriptError(f"line {branch[0].line}: a block that may be left out begins no branch")
