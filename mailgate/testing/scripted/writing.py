"""From a session that was to a script that plays its server's part again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from mailgate.testing.harness.discretion import Span, lines_of, united
from mailgate.testing.harness.records import SessionRecord
from mailgate.testing.showing import Said, tokens
from mailgate.wire.dots import unstuff

KEEP, HEADERS, SIZES = CONTENT = ("keep", "headers", "sizes")     # what is kept of messages
MULTI_LINE = frozenset({b"CAPA", b"LIST", b"UIDL", b"RETR", b"TOP", b"*ENV", b"XTND", b"AUTH", b"LANG",
                        b"HELP"})
ALONE = frozenset({b"LIST", b"UIDL", b"AUTH"})      # multi-line only without an argument
END = b".\r\n"
# mechanisms whose server answers what the client has made up
ANSWERING = re.compile(rb"AUTH (SCRAM-\S+|GSSAPI|GSS-SPNEGO|NTLM|DIGEST-MD5)", re.IGNORECASE)


@dataclass
class Turn:
    """A line of the client's, if it begins with one, and what the server said to it."""

    heard: bytes | None
    secret: tuple[Span, ...] = ()
    said: bytes = b""
    repeated: tuple[Span, ...] = ()     # where `said` has secrets
    seconds: float = 0.0                # from the line to the first octet of the reply
    multi_line: bool = False
    whole: bool = False                 # nothing of the reply is missing
    behind: list[str] = field(default_factory=list)     # what was done then, as a script says it

    @property
    def verb(self) -> bytes:
        """In capitals."""
        return (self.heard or b"").split(b" ")[0].rstrip(b"\r\n").upper()


def script_of(records: SessionRecord | Iterable[SessionRecord], *, content: str = KEEP,
              pauses: float | None = None) -> str:
    """Return a script that says what the server said, to a client that says what the client said.

    What is secret in a line of the client's stands as a pattern that anything fits; where the server repeated
    it, it says stars. `content`: "keep", "headers" (bodies are as long, and empty) or "sizes" (so is all of a
    message). `pauses`: the least silence before a reply, in seconds, that is played again; None: none is.
    Several records are the sessions 1, 2 ... of one script.
    """
    if content not in CONTENT:
        raise ValueError(f"{content!r} is none of {', '.join(CONTENT)}")
    several = [records] if isinstance(records, SessionRecord) else list(records)
    lines: list[str] = []
    for number, record in enumerate(several, 1):
        if len(several) > 1:
            lines += ["", f"SESSION: {number}"]
        lines += _session(record, content, pauses)
    return "\n".join(lines).lstrip("\n") + "\n"


def _session(record: SessionRecord, content: str, pauses: float | None) -> Iterator[str]:
    turns = turns_of(record)
    yield from _warnings(record, turns)
    if next((event.tls for event in record.events), False):
        yield "TLS: begin"
    for turn in turns:
        if turn.heard is not None:
            yield from _heard(turn)
        if pauses is not None and turn.said and turn.seconds >= pauses:
            yield f"T: {turn.seconds:.3f}"
        yield from _said(turn, content)
        yield from turn.behind
    if record.end == "the client hung up":
        yield "C: (closed)"


def _warnings(record: SessionRecord, turns: Sequence[Turn]) -> Iterator[str]:
    if record.octets_left_out:
        yield f"# {record.octets_left_out} octets were not kept: this is not all that was said"
    if record.events_left_out:
        yield f"# {record.events_left_out} events were not kept: this is not all that was said"
    for turn in turns:
        found = ANSWERING.match(turn.heard or b"")
        if found:
            name = found[1].decode("ascii", "replace").upper()
            yield f"# {name}: the server answers what the client makes up; played again it is refused"


# Whose answer is what -------------------------------------------------------------------------


def turns_of(record: SessionRecord) -> list[Turn]:
    """Return who said what to what, however commands and replies were pipelined."""
    pairing = Pairing(record.began)
    for event in record.masked_events():
        if event.who == "C":
            pairing.hear(event.octets, event.secret, event.at)
        elif event.who == "S":
            pairing.say(event.octets, event.secret, event.at)
        elif event.text == "TLS begins":
            pairing.turns[pairing.now].behind.append("TLS: begin")
        elif event.text in ("closed", "reset"):
            pairing.turns[-1].behind.append(f"S: ({event.text})")
    return pairing.turns


class Pairing:
    """Finds, while a conversation goes on, which reply is whose. The first of `turns` is the greeting."""

    def __init__(self, began: float) -> None:
        self.turns = [Turn(None)]
        self._times = [began]               # of the turns' lines
        self.now = 0                        # index of the turn that is answered
        self._line = b""                    # of the client's, not whole
        self._line_secret: list[Span] = []
        self._reply_line = b""              # of the server's, not whole

    def hear(self, octets: bytes, secret: Sequence[Span], at: float) -> None:
        """Take octets of the client's."""
        begins = 0
        for line in lines_of(octets):
            ends = begins + len(line)
            shift = len(self._line) - begins
            self._line_secret += [(max(first, begins) + shift, min(last, ends) + shift)
                                  for first, last in secret if first < ends and last > begins]
            self._line += line
            begins = ends
            if line.endswith(b"\n"):
                self.turns.append(Turn(self._line, united(self._line_secret)))
                self._times.append(at)
                self._line, self._line_secret = b"", []

    def say(self, octets: bytes, repeated: Sequence[Span], at: float) -> None:
        """Take octets of the server's."""
        begins = 0
        for line in lines_of(octets):
            ends = begins + len(line)
            if self.turns[self.now].whole and self.now + 1 < len(self.turns):
                self.now += 1
            turn = self.turns[self.now]
            if not turn.said:
                turn.seconds = at - self._times[self.now]
            shift = len(turn.said) - begins
            turn.repeated = united([*turn.repeated, *((max(first, begins) + shift, min(last, ends) + shift)
                                                      for first, last in repeated
                                                      if first < ends and last > begins)])
            turn.said += line
            self._reply_line += line
            begins = ends
            if line.endswith(b"\n"):
                self._take_reply_line(turn, self._reply_line)
                self._reply_line = b""

    def _take_reply_line(self, turn: Turn, line: bytes) -> None:
        if len(turn.said) == len(line):
            words = (turn.heard or b"").split()
            turn.multi_line = (line.startswith(b"+OK") and turn.verb in MULTI_LINE
                               and not (turn.verb in ALONE and len(words) > 1))
            turn.whole = not turn.multi_line
        elif line in (END, b".\n"):
            turn.whole = True


# As text --------------------------------------------------------------------------------------


def _heard(turn: Turn) -> Iterator[str]:
    heard = turn.heard or b""
    text = heard.rstrip(b"\n").removesuffix(b"\r")
    yield ("C: " + "".join(tokens(Said(0, "C", heard, turn.secret), 0, len(text)))).rstrip(" ")


def _said(turn: Turn, content: str) -> Iterator[str]:
    said = turn.said
    for first, last in turn.repeated:
        said = said[:first] + b"*" * (last - first) + said[last:]
    filler = ""
    if content != KEEP and turn.multi_line and turn.verb in (b"RETR", b"TOP"):
        said, filler = _without_content(said, content, ended=turn.whole)
    for line in lines_of(said):
        text = line.removesuffix(b"\r\n")
        tail = "" if line.endswith(b"\r\n") else "\\n\\c" if line.endswith(b"\n") else "\\c"
        text = text.removesuffix(b"\n") if tail else text
        yield ("S: " + "".join(tokens(Said(0, "S", text), 0, len(text))) + tail).rstrip(" ")
    if filler:
        yield filler


def _without_content(said: bytes, content: str, *, ended: bool) -> tuple[bytes, str]:
    """Return what is kept of a reply with a message, and the line for the rest."""
    first, rest = said[:said.index(b"\n") + 1], said[said.index(b"\n") + 1:]
    wire = rest[:rest.rindex(b".")] if ended else rest
    header = b""
    if content == HEADERS:
        end = wire.find(b"\r\n\r\n")
        header = wire if end < 0 else wire[:end + 4]
    octets = len(unstuff(wire[len(header):]))
    return first + header, f"BODY: filler {octets}" + ("" if ended else ", unended")
