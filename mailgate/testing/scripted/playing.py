"""One session of a script, without I/O: octets of the client go in, what is to be done comes out.

`next` plays until the client has to say something, or until what it returned has to be carried out first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Union

from mailgate.testing.scripted.bodies import stuffed
from mailgate.testing.scripted.model import (
    REFUSE,
    BeginTLS,
    Block,
    Hang,
    Happen,
    Hear,
    HearEnd,
    Mismatch,
    Node,
    Script,
    Send,
    Silence,
    Wait,
)
from mailgate.testing.scripted.notation import escape_shown
from mailgate.testing.scripted.patterns import Border, Reference
from mailgate.testing.trouble.model import End, Gap, Octets, Pause

LINE_OCTETS = 1024 * 1024       # that a client may send without a line's end
CAME_OCTETS = 200               # of what came are told
REFUSAL = b"-ERR that is not in the script\r\n"
CLOSED = "(closed)"


class Heard(NamedTuple):
    """The client said this, and it was taken."""

    octets: bytes


class StartTLS(NamedTuple):
    """TLS has to begin, when everything is out that was said before."""


class Call(NamedTuple):
    """Something outside is to happen."""

    name: str


class Missed(NamedTuple):
    """The client said otherwise. `octets` are what came; it is for the record to mask what is secret."""

    line: int
    wanted: tuple[str, ...]
    octets: bytes | None        # None: it has closed


Effect = Union[Octets, Pause, Gap, End, Heard, StartTLS, Call, Missed]


class Place(NamedTuple):
    """Where a session stands: in front of a node of a sequence, inside of others."""

    nodes: tuple[Node, ...]
    at: int = 0
    block: Block | None = None      # that the sequence is a branch of
    round: int = 0                  # of the block, from 1
    up: Place | None = None         # behind the block

    @property
    def after(self) -> Place:
        """Behind this node."""
        return self._replace(at=self.at + 1)


class Option(NamedTuple):
    """What may come: a line, and the place behind it; the server's turn (a node of its); the end (None)."""

    node: Node | None
    place: Place


def options(place: Place) -> Iterator[Option]:
    """Return what may come at a place, what is preferred first."""
    if place.at < len(place.nodes):
        node = place.nodes[place.at]
        if isinstance(node, Block):
            yield from _rounds(node, 1, place.after)
        else:
            yield Option(node, place.after)
    elif place.block is not None and place.up is not None:
        yield from _rounds(place.block, place.round + 1, place.up)
    else:
        yield Option(None, place)


def _rounds(block: Block, number: int, up: Place) -> Iterator[Option]:
    """Return what may come where a block's round of this number would begin."""
    if block.leave_first and number > block.least:
        yield from options(up)
    if block.most is None or number <= block.most:
        # rounds beyond `least` of a loop without end are all the same
        counted = number if block.most is not None else min(number, block.least + 1)
        for branch in block.branches:
            yield from options(Place(branch, 0, block, counted, up))
    if not block.leave_first and number > block.least:
        yield from options(up)


class Player:
    """Plays a session, the `session`th of its listener."""

    def __init__(self, script: Script, session: int) -> None:
        self._script = script
        self._place = Place(script.nodes_for(session))
        self._inbox = b""
        self._hung_up = False           # nothing more is heard
        self._end_heard = False         # and the script has taken it
        self.kept: dict[str, bytes] = {"session": str(session).encode()}
        self.finished = False           # it was played to its end
        self.over = False               # nothing more is played

    def feed(self, octets: bytes) -> None:
        """Take octets of the client's."""
        self._inbox += octets

    @property
    def unread(self) -> int:
        """Octets of the client's that wait for their turn."""
        return len(self._inbox)

    def hang_up(self) -> None:
        """Know that the client says nothing more."""
        self._hung_up = True

    def next(self) -> list[Effect]:
        """Return what is to be done now; nothing, while the client has to say something."""
        effects: list[Effect] = []
        while not self.over:
            first = next(options(self._place))
            if first.node is None or isinstance(first.node, (Hear, HearEnd, Block)):
                if not self._listen(effects):
                    break
            else:
                self._place = first.place
                if self._act(first.node, effects):
                    break
        return effects

    # The server's turn ------------------------------------------------------------------------

    def _act(self, node: Node, effects: list[Effect]) -> bool:
        """Do what a node says; return whether that has to be carried out before anything else."""
        if isinstance(node, Send):
            self._send(node, effects)
        elif isinstance(node, Silence):
            if self._inbox:
                self._miss(effects, node.line, ("C: (nothing)",), self._rest())
        elif isinstance(node, Wait):
            if not self._hung_up:
                effects.append(Pause(node.seconds) if node.seconds else Gap())
                return True
        elif isinstance(node, Happen):
            effects.append(Call(node.name))
        elif isinstance(node, BeginTLS):
            if self._inbox:
                self._miss(effects, node.line, ("TLS: begin",), self._rest())
            effects.append(StartTLS())
            return True
        elif isinstance(node, Hang):
            self._end(effects, torn=node.torn)
        return False

    def _send(self, node: Send, effects: list[Effect]) -> None:
        octets = b""
        for part in node.parts:
            if isinstance(part, Border):
                _add(effects, octets)
                effects.append(Gap())
                octets = b""
            else:
                octets += self.kept.get(part.name, b"") if isinstance(part, Reference) else part
        if node.stuffed:
            octets = stuffed(octets)
        _add(effects, octets + (b".\r\n" if node.ended else b""))

    def _end(self, effects: list[Effect], *, torn: bool = False) -> None:
        rest = next(options(self._place))
        self.finished = rest.node is None
        self.over = True
        effects.append(End(torn))

    # The client's turn ------------------------------------------------------------------------

    def _listen(self, effects: list[Effect]) -> bool:
        """Take what the client said, if it is enough; return whether to go on."""
        wanted = list(options(self._place))
        for option in wanted:
            taken = self._take(option.node)
            if taken is not None:
                effects.append(Heard(taken))
                self._place = option.place
                return True
        if len(wanted) == 1 and wanted[0].node is None and not self._hung_up:
            return self._at_end(effects)
        line = self._line()
        if line is not None:
            self._missed_line(effects, wanted, line)
            return True
        return self._hung_up and self._hear_end(effects, wanted)

    def _take(self, node: Node | None) -> bytes | None:
        """Return the octets that fit what is wanted, and keep what is to be kept of them; None: none do."""
        if not isinstance(node, Hear):
            return None
        pattern = node.pattern
        if pattern.literal is not None:
            if not pattern.literal or not self._inbox.startswith(pattern.literal):
                return None
            return self._cut(len(pattern.literal))
        line = self._line()
        if line is None:
            return None
        text = line if pattern.raw else line.removesuffix(b"\n").removesuffix(b"\r")
        found = pattern.match(text, self.kept)
        if found is None:
            return None
        self.kept.update(found)
        return self._cut(len(line))

    def _line(self) -> bytes | None:
        """Return the next line with its end, or what there is of one that has none and never will."""
        end = self._inbox.find(b"\n") + 1
        if not end and self._inbox and (self._hung_up or len(self._inbox) >= LINE_OCTETS):
            end = len(self._inbox)
        return self._inbox[:end] if end else None

    def _cut(self, octets: int) -> bytes:
        taken, self._inbox = self._inbox[:octets], self._inbox[octets:]
        return taken

    def _rest(self) -> bytes:
        return self._cut(len(self._inbox))

    def _at_end(self, effects: list[Effect]) -> bool:
        """Close: there is nothing more to play."""
        if self._inbox:
            self._miss(effects, 0, (), self._rest())
        if not self.over:
            self.finished, self.over = True, True
            effects.append(End())
        return False

    def _missed_line(self, effects: list[Effect], wanted: list[Option], line: bytes) -> None:
        self._cut(len(line))
        nodes = [option.node for option in wanted if option.node is not None]
        texts = tuple(node.wanted for node in nodes if isinstance(node, (Hear, HearEnd)))
        self._miss(effects, nodes[0].line if nodes else 0, texts, line)

    def _hear_end(self, effects: list[Effect], wanted: list[Option]) -> bool:
        """Take it that the client has closed."""
        for option in wanted:
            if isinstance(option.node, HearEnd) and not self._end_heard:
                self._place, self._end_heard = option.place, True
                return True
        self.over = True
        self.finished = self._end_heard or any(option.node is None for option in wanted)
        if not self.finished:
            nodes = [option.node for option in wanted if isinstance(option.node, Hear)]
            effects.append(Missed(nodes[0].line, tuple(node.wanted for node in nodes), None))
        effects.append(End())
        return False

    def _miss(self, effects: list[Effect], line: int, wanted: tuple[str, ...], octets: bytes) -> None:
        effects.append(Missed(line, wanted, octets))
        if self._script.on_mismatch == REFUSE and wanted != ("TLS: begin",):
            _add(effects, REFUSAL)
        else:
            self.over = True
            effects.append(End())


def _add(effects: list[Effect], octets: bytes) -> None:
    """Let octets leave together with those just before them."""
    if octets and effects and isinstance(effects[-1], Octets):
        effects[-1] = Octets(effects[-1].octets + octets)
    elif octets:
        effects.append(Octets(octets))


def as_mismatch(missed: Missed, session: int, masked: bytes) -> Mismatch:
    """Return what is told of a line that fitted nowhere; `masked`: what came, nothing secret in it."""
    came = CLOSED if missed.octets is None else "C: " + escape_shown(
        masked[:CAME_OCTETS].removesuffix(b"\n").removesuffix(b"\r"))
    return Mismatch(session, missed.line, missed.wanted, came)
