"""Faults and scenarios as they are written down, in TOML or in Python, and what a kind of fault is told.

    [[fault]]
    do = "close"            # the kind
    command = "RETR"        # when: at this command ...
    session = 2             # ... of the second connection ...
    occurrence = 3          # ... when it is given there for the third time
    at = 1200               # a setting of the kind
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

GREETING = "greeting"       # stands for a command where the server speaks first
TLS = "tls"                 # stands for a command where a handshake begins
EVERY = ""                  # any command


@dataclass(frozen=True)
class Fault:
    """One thing to do wrong, and when. Made by `reading.fault`, which judges it.

    What is None or empty leaves it open: every session, every command that the kind can meet, each time.
    """

    do: str                                 # name of the kind: a key of kinds.KINDS
    settings: Mapping[str, Any] = field(default_factory=dict)   # what the kind wants to know, read
    command: str = EVERY                    # verb in capitals, or "RETR 2"; "greeting"; "tls"
    session: tuple[int, ...] = ()           # numbers of sessions, from 1
    occurrence: tuple[int, ...] = ()        # which times that the session gives the command, from 1
    user: str | None = None                 # only once this name has logged in, or tries to
    protocol: str | None = None             # only on listeners of this protocol
    probability: float = 1.0                # each time
    times: int | None = None                # so often in all, then no more
    name: str = ""                          # how it is shown; left out: the kind

    @property
    def label(self) -> str:
        """What transcripts and lists call it."""
        return self.name or self.do


@dataclass(frozen=True)
class Scenario:
    """Faults that belong together, and what they are for."""

    name: str
    faults: tuple[Fault, ...] = ()
    description: str = ""                   # what the server does, and which did
    finds: str = ""                         # the bug of a client that this finds
    right: str = ""                         # what a client should do
    sources: tuple[str, ...] = ()           # addresses of reports
    seed: int = 0                           # of all chances in it
    settings: Mapping[str, Any] = field(default_factory=dict)   # of the harness: as in mailgate.toml
    messages: tuple[str, ...] = ()          # that a maildrop has to hold for it: names of samples


# What a kind of fault is told ---------------------------------------------------------------------


class Surroundings(Protocol):
    """The connection, as a fault may use it."""

    def remove_message(self, number: int) -> None:
        """Remove a message of the session's listing from the store, behind the session's back."""

    def say_instead_of(self, line: bytes) -> None:
        """Give the session a command of the client's before he says it; his own then has no answer."""


@dataclass
class Occasion:
    """One time that a fault meets a command."""

    fault: Fault
    session: int                # number of the connection
    verb: str                   # in capitals, "greeting", "tls", or "" for a response to a challenge
    argument: bytes
    occurrence: int             # how often the session gave this verb, this time counted
    random: Random              # seeded by scenario, fault, session and occurrence: the same in every run
    around: Surroundings
    tls: bool = False

    def setting(self, name: str) -> Any:
        """Return a setting of the fault, or its default."""
        return self.fault.settings[name]


# What leaves, and how -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Octets:
    """Send these, at once."""

    octets: bytes


@dataclass(frozen=True)
class Pause:
    """Send nothing for so long, by the harness's clock."""

    seconds: float


@dataclass(frozen=True)
class Gap:
    """Let what comes next arrive in a segment of its own."""


@dataclass(frozen=True)
class Hold:
    """Keep what comes next until there is more: it leaves with the octets after it, in one segment."""

    replies: int = 1            # so many replies later


@dataclass(frozen=True)
class End:
    """End the connection: in order (FIN), or torn (RST)."""

    torn: bool = False


@dataclass(frozen=True)
class Stall:
    """Say nothing more, ever, and keep the connection."""


Step = Octets | Pause | Gap | Hold | End | Stall


@dataclass(frozen=True)
class Instead:
    """What is said in place of carrying a command out."""

    reply: bytes
    then_end: bool = False      # and the connection is closed, nothing removed


@dataclass(frozen=True)
class Kind:
    """What a fault does. A kind has at least one of the functions.

    `instead` may answer a command that then is not carried out (None: it is). `rework` gets a whole reply as
    the server made it and returns what is to be sent. `deliver` gets the steps by which a reply would leave
    and returns those by which it does. `before` does something just before a command is carried out. `tls`
    is the name of a way to do TLS wrong (harness/tls.py). `commands` are those that it can meet when the
    fault does not name one; empty: every command. `settings` has, by name, what reads a value (raises
    ValueError) and the default (REQUIRED: none).
    """

    name: str
    told: str                                           # one sentence, for the reference
    settings: Mapping[str, tuple[Callable[[Any], Any], Any]] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    instead: Callable[[Occasion], Instead | None] | None = None
    rework: Callable[[Occasion, bytes], bytes] | None = None
    deliver: Callable[[Occasion, list[Step]], list[Step]] | None = None
    before: Callable[[Occasion], None] | None = None
    tls: str = ""


REQUIRED = object()     # the default of a setting that has none
