"""A script that is a server, read: what it says and hears, in what order, and who is spoken to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Union

from mailgate.testing.scripted.patterns import Part, Pattern

CLOSE, REFUSE = "close", "refuse"       # what follows a line of the client's that fits nowhere


@dataclass(frozen=True)
class Send:
    """S: octets that leave. `stuffed`: as a multi-line reply (RFC 1939 section 3); `ended`: with its end."""

    line: int
    parts: tuple[Part, ...]
    stuffed: bool = False
    ended: bool = False


@dataclass(frozen=True)
class Hear:
    """C: a line that the client has to say."""

    line: int
    pattern: Pattern
    text: str

    @property
    def wanted(self) -> str:
        """How it is told what was expected."""
        return f"C: {self.text}"


@dataclass(frozen=True)
class HearEnd:
    """C: (closed), the client has to close."""

    line: int
    wanted: str = "C: (closed)"


@dataclass(frozen=True)
class Silence:
    """C: (nothing), the client may have said nothing yet."""

    line: int


@dataclass(frozen=True)
class Wait:
    """T: seconds in which nothing is said; with 0, what comes next leaves in another segment."""

    line: int
    seconds: float


@dataclass(frozen=True)
class Hang:
    """S: (closed) or (reset): the connection ends, in order or torn."""

    line: int
    torn: bool = False


@dataclass(frozen=True)
class BeginTLS:
    """TLS: begin."""

    line: int


@dataclass(frozen=True)
class Happen:
    """E: something happens outside."""

    line: int
    name: str


@dataclass(frozen=True)
class Block:
    """One of the branches is played, from `least` to `most` (None: any) times.

    `leave_first`: a line that fits what follows the block is taken for that, not for another round.
    """

    line: int
    branches: tuple[tuple[Node, ...], ...]
    least: int = 1
    most: int | None = 1
    leave_first: bool = False


Node = Union[Send, Hear, HearEnd, Silence, Wait, Hang, BeginTLS, Happen, Block]


class Section(NamedTuple):
    """What one session plays, and all after it up to the next section's."""

    first: int                  # number of the session
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Script:
    """A script. `on_mismatch` is CLOSE or REFUSE."""

    sections: tuple[Section, ...]
    on_mismatch: str = CLOSE
    events: frozenset[str] = field(default_factory=frozenset)       # names that E: lines call

    def nodes_for(self, session: int) -> tuple[Node, ...]:
        """Return what a session plays, counted from 1."""
        found = [section for section in self.sections if section.first <= session]
        return (found or list(self.sections))[-1].nodes


@dataclass(frozen=True)
class Mismatch:
    """The client said otherwise than the script. Secrets in `came` are masked."""

    session: int                # of the listener's, from 1
    line: int                   # of the script; 0: behind its end
    wanted: tuple[str, ...]     # what was expected; one of these
    came: str

    def __str__(self) -> str:
        where = f"line {self.line}" if self.line else "behind the end"
        wanted = " or ".join(self.wanted) or "nothing more"
        return f"session {self.session}, {where}: wanted {wanted}; came {self.came}"
