r"""Play a written conversation through a real Protocol, and say where it went otherwise.

`converse` takes a script as RFCs print their examples and plays it against the server that a
factory builds, over a transport in memory and a clock that only the script moves:

    C: USER mrose
    S: +OK *
    C: PASS secret\x20
    S: +OK *
    C: LIST
    S: +OK *
    S: 1 120
    S: .
    C: PASS wrong
    S: (nothing)
    T: 2
    S: -ERR [AUTH] *
    C: QUIT
    S: +OK *
    S: (closed)

* `C:` what the client says, CRLF added. C lines with no other line between them leave in one
  segment. A last `\c` leaves the line end out: `C: NOOP\n\c` ends in a bare LF.
* `S:` one line of the server, without its CRLF. A `*` at its end matches any rest. `S: (lines)`
  matches any number of lines, up to one that the next S line matches; `S: (nothing)` says that
  nothing may have come yet, `S: (closed)` that the server closed the connection.
* `T:` so many seconds pass, in steps of at most one second.
* `E:` something happens outside of the conversation: the stage's event of that name is called.
* Escapes in C and S lines: `\r \n \t \0 \xHH \\ \*` and `\(`. Empty lines and those that begin with `#` or
  `*` are left out, and so is the white space in front of every line, and a time (`0.250 C: NOOP`).

Scripts in which the roles are turned, and the script is the server: scripted/reading.py.

The script is played once as written, then in segments of 1, 2 and 7 octets, then with all C lines
of a stretch at once (pipelined; a T or an E line ends a stretch). Each play has a stage of its own.
A server must say exactly what the script says, no line more, in every play.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn, Union

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock

from mailgate.testing.peers import LOOPBACK, READ_OCTETS, Address, Peer
from mailgate.testing.scripted.notation import ScriptError, ends_escaped, escape, lines_of_script, octets_of


class TranscriptMismatch(AssertionError):
    """The server said otherwise than the script. The text shows the conversation so far."""


class Say(NamedTuple):
    """C: octets that leave the client, line end included."""

    octets: bytes


class Expect(NamedTuple):
    """S: one line of the server without its end; `open_end` matches any rest."""

    text: bytes
    open_end: bool = False

    def matches(self, line: bytes) -> bool:
        """Return whether a line of the server is the one that the script means."""
        return line.startswith(self.text) if self.open_end else line == self.text


class Watch(NamedTuple):
    """S: something about the connection: `(lines)`, `(nothing)` or `(closed)`."""

    what: str


class Advance(NamedTuple):
    """T: seconds that pass."""

    seconds: float


class Event(NamedTuple):
    """E: the name of something that happens outside."""

    name: str


Step = Union[Say, Expect, Watch, Advance, Event]


class Play(NamedTuple):
    """One way to deliver the client's side of a script."""

    name: str
    piece_octets: int = READ_OCTETS
    at_once: bool = False


AS_WRITTEN = Play("as written")
PLAYS = (AS_WRITTEN, Play("in segments of 1 octet", 1), Play("in segments of 2 octets", 2),
         Play("in segments of 7 octets", 7), Play("all C lines at once", at_once=True))


def _no_more() -> None:
    pass


@dataclass(frozen=True)
class Stage:
    """What one play of a script needs: a server made for it alone.

    `done` is called after the last line, when the client has gone: to check what is left behind.
    """

    factory: IProtocolFactory
    events: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    address: Address = LOOPBACK     # the client's
    done: Callable[[], object] = _no_more


def converse(set_stage: Callable[[Clock], Stage], script: str, *, plays: Sequence[Play] = PLAYS) -> None:
    """Play a script in every way of `plays`, each on a fresh stage with a fresh clock.

    `set_stage` is called once a play with the clock that `T:` lines move. The server must answer
    from what it is given, its clock and its events alone: no reactor runs.
    Raises: ScriptError; TranscriptMismatch; and whatever leaves the server's `dataReceived`.
    """
    steps = parse_script(script)
    for play in plays:
        clock = Clock()
        stage = set_stage(clock)
        _Performance(stage, clock, play).run(_all_at_once(steps) if play.at_once else steps)
        stage.done()


# Reading a script ---------------------------------------------------------------------------

_WATCHES = ("(lines)", "(nothing)", "(closed)")


def parse_script(script: str) -> list[Step]:
    """Return the steps of a script. Raises: ScriptError."""
    steps: list[Step] = []
    for line in lines_of_script(script, tuple(_READERS)):
        try:
            steps.append(_READERS[line.key](line.text))
        except ValueError as fault:
            raise ScriptError(f"line {line.number}: {fault}") from None
    return steps


def _read_say(text: str) -> Say:
    if ends_escaped(text, "c"):
        return Say(octets_of(text[:-2]))
    return Say(octets_of(text) + b"\r\n")


def _read_expect(text: str) -> Step:
    if text in _WATCHES:
        return Watch(text)
    if text.startswith("("):
        raise ValueError(f"{text} is none of {' '.join(_WATCHES)}; a line that begins so is written \\(")
    if text.endswith("*") and not ends_escaped(text, "*"):
        return Expect(octets_of(text[:-1]), open_end=True)
    return Expect(octets_of(text))


_READERS: dict[str, Callable[[str], Step]] = {
    "C": _read_say,
    "S": _read_expect,
    "T": lambda text: Advance(float(text)),
    "E": lambda text: Event(text.strip()),
}


def _all_at_once(steps: Sequence[Step]) -> list[Step]:
    """Bring the C lines of each stretch to its beginning."""
    result: list[Step] = []
    says: list[Step] = []
    answers: list[Step] = []
    for step in [*steps, None]:
        if isinstance(step, Say):
            if not says:        # what came before the first C line came by itself: a greeting
                result, answers = result + answers, []
            says.append(step)
            answers = [answer for answer in answers if answer != Watch("(nothing)")]
        elif isinstance(step, (Expect, Watch)):
            answers.append(step)
        else:
            result += says + answers + ([step] if step else [])
            says, answers = [], []
    return result


# Playing it ---------------------------------------------------------------------------------


class _Performance:
    """One play of a script: what was said so far, and how to show it."""

    def __init__(self, stage: Stage, clock: Clock, play: Play) -> None:
        self._stage = stage
        self._play = play
        self._peer = Peer(stage.factory, clock=clock, address=stage.address)
        self._read = 0                  # octets of the peer's that were matched
        self._skipping = False          # after (lines)
        self._said: list[bytes] = []    # C lines that were not sent yet: a run of them is one segment
        self._log: list[str] = []

    def run(self, steps: Sequence[Step]) -> None:
        """Perform every step, then let the client go."""
        for step in [*steps, None]:
            if isinstance(step, Say):
                self._said.append(step.octets)
                continue
            self._send()
            if isinstance(step, Expect):
                self._expect(step)
            elif isinstance(step, Watch):
                self._watch(step)
            elif isinstance(step, Advance):
                self._log.append(f"T: {step.seconds:g}")
                self._peer.advance(step.seconds)
            elif isinstance(step, Event):
                self._log.append(f"E: {step.name}")
                self._happen(step.name)
        self._no_surplus("the end of the script")
        self._peer.vanish()
        if self._peer.transport.late:
            self._fail("no octet after the server asked to close", f"S: {_show(self._peer.transport.late)}")

    def _send(self) -> None:
        octets, self._said = b"".join(self._said), []
        if not octets:
            return
        self._no_surplus("the next C line")
        self._log += [f"C: {_show(line)}" for line in _lines_of(octets)]
        self._peer.say(octets, self._play.piece_octets)

    def _happen(self, name: str) -> None:
        if name not in self._stage.events:
            raise ScriptError(f"the stage has no event {name!r}; it has {sorted(self._stage.events)}")
        self._stage.events[name]()
        self._peer.settle()

    def _expect(self, step: Expect) -> None:
        wanted = f"S: {_show(step.text)}{'*' if step.open_end else ''}"
        while True:
            line = self._next_line()
            if line is None:
                self._fail(wanted, self._rest_shown())
            if step.matches(line):
                break
            if not self._skipping:
                self._fail(wanted, f"S: {_show(line)}")
            self._log.append(f"S: {_show(line)}")
        self._skipping = False
        self._log.append(f"S: {_show(line)}")

    def _watch(self, step: Watch) -> None:
        if step.what == "(lines)":
            self._skipping = True
            return
        self._no_surplus(f"S: {step.what}")
        if step.what == "(closed)":
            if not self._peer.closed:
                self._fail("S: (closed)", "the connection is open")
            self._log.append("S: (closed)")

    def _no_surplus(self, wanted: str) -> None:
        if self._skipping:
            self._read, self._skipping = len(self._peer.received), False
        if len(self._peer.received) > self._read:
            self._fail(wanted, self._rest_shown())

    def _next_line(self) -> bytes | None:
        end = self._peer.received.find(b"\r\n", self._read)
        if end < 0:
            return None
        line = bytes(self._peer.received[self._read:end])
        self._read = end + 2
        return line

    def _rest_shown(self) -> str:
        rest = bytes(self._peer.received[self._read:])
        if rest:
            lines = _lines_of(rest)
            more = f" (and {len(lines) - 1} lines more)" if len(lines) > 1 else ""
            return f"S: {_show(lines[0])}{more}"
        return "S: (closed)" if self._peer.closed else "nothing"

    def _fail(self, wanted: str, came: str) -> NoReturn:
        so_far = "\n".join(f"    {line}" for line in self._log[-400:])
        raise TranscriptMismatch(
            f"Played {self._play.name}; here the server said otherwise:\n{so_far}\n"
            f"--> wanted: {wanted}\n--> came:   {came}")


def _lines_of(octets: bytes) -> list[bytes]:
    return re.findall(rb"[^\n]*\n|[^\n]+\Z", octets)


def _show(octets: bytes) -> str:
    """Return octets as a script would write them, without their CRLF."""
    octets = octets.removesuffix(b"\r\n")
    shown = repr(octets[:200])[2:-1].replace("\\'", "'")
    return shown if len(octets) <= 200 else f"{shown}... ({len(octets)} octets)"


__all__ = ["AS_WRITTEN", "PLAYS", "Advance", "Event", "Expect", "Play", "Say", "ScriptError", "Stage", "Step",
           "TranscriptMismatch", "Watch", "converse", "escape", "parse_script"]
