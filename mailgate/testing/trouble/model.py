"""Faults and scenarios as they are written down, in TOML or in Python, and what a kind of fault is told.

    [[fault]]
    do = "close"            # the kind
    command = "RETR"        # when: at this command ...
    session = 2             # ... of the second connection ...
    occurrence = 3          # ... when it is given there for the third time
    at = 1200               # a setting of the kind
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple, Protocol

GREETING = "greeting"       # stands for a command where the server speaks first
TLS = "tls"                 # stands for a command where a handshake begins
RESPONSE = "response"       # stands for a command where the client answers a challenge of AUTH
EVERY = ""                  # any command


@dataclass(frozen=True)
class Fault:
    """One thing to do wrong, and when. Made by `reading.fault`, which judges it.

    What is None or empty leaves it open: every session, every command that the kind can meet, each time.
    """

    do: str                                 # name of the kind: a key of kinds.KINDS
    settings: Mapping[str, Any] = field(default_factory=dict)   # what the kind wants to know, read
    command: str = EVERY                    # verb in capitals, or "RETR 2"; "greeting"; "tls"; "response"
    session: tuple[int, ...] = ()           # numbers of sessions, from 1
    occurrence: tuple[int, ...] = ()        # which times that the session gives the command, from 1
    user: str | None = None                 # only once this name has logged in, or tries to
    protocol: str | None = None             # only on listeners of this protocol
    tls: bool | None = None                 # only inside TLS; False: only in clear
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

    def listing(self) -> list[Seen]:
        """Return the session's messages, marked ones too; none before the login."""

    def content(self, number: int) -> bytes:
        """Return a message as it leaves: CRLF line ends, byte-stuffed. Empty, if it is not there."""

    def unmark(self, numbers: Collection[int]) -> None:
        """Forget the marks of messages that DELE marked."""

    def mark(self, numbers: Collection[int]) -> None:
        """Mark messages as if DELE had been said; those that are marked stay so."""

    def retrieved(self) -> list[int]:
        """Return the numbers of the messages that RETR has given to the session so far."""

    def deliver(self, content: bytes) -> None:
        """Have new mail arrive in the maildrop of the session's user, who does not see it in this session."""

    def say_ahead(self, line: bytes) -> None:
        """Carry out this line behind the present command, unasked; the client's own then has no answer."""

    def answer_ahead(self, reply: bytes) -> None:
        """Say this behind the present reply; the next command is carried out and has no other answer."""

    def have_command(self, line: bytes) -> None:
        """Carry out this line instead of the one that the client gave."""

    def take_response(self, taker: Taker) -> None:
        """Have the client's next line, the answer to what is said now, taken by this function.

        It gets the line without its end, and returns what is said (None: the line is the session's).
        """

    def say_timestamp(self, timestamp: bytes) -> None:
        """Have APOP judged by another timestamp than the session's own, where it is offered at all."""

    def say_challenge(self, challenge: bytes) -> None:
        """Have CRAM-MD5 judged by another challenge than the exchange's own."""

    def accept_anything(self) -> None:
        """Let the login that this command asks for succeed, whatever it proves; the account has to exist."""

    def renegotiate(self) -> bool:
        """Ask the client for another handshake; False: not in this TLS, or not inside TLS."""


class Seen(NamedTuple):
    """A message of the session's listing."""

    number: int
    octets: int
    unique_id: bytes
    marked: bool = False


@dataclass
class Occasion:
    """One time that a fault meets a command."""

    fault: Fault
    session: int                # number of the connection
    verb: str                   # in capitals, or "greeting", "tls", "response"
    argument: bytes
    occurrence: int             # how often the session gave this verb, this time counted
    random: Random              # seeded by scenario, fault, session and occurrence: the same in every run
    around: Surroundings
    tls: bool = False
    line: bytes = b""           # all that the client said, without its end

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

    brief: bool = False         # the client has to be quick to find them apart


@dataclass(frozen=True)
class Hold:
    """Keep what comes next until there is more: it leaves with the octets after it, in one segment."""

    replies: int = 1            # so many replies later
    seconds: float = 0.0        # but after so long in any case; 0: not before the connection's end


@dataclass(frozen=True)
class End:
    """End the connection: in order (FIN), or torn (RST). `silent`: in order, but without TLS's farewell."""

    torn: bool = False
    silent: bool = False


@dataclass(frozen=True)
class Stall:
    """Say nothing more, ever, and keep the connection."""


@dataclass(frozen=True)
class Aside:
    """Send these behind the next reply."""

    octets: bytes


@dataclass(frozen=True)
class Repeat:
    """Send these again and again, as long as the client takes them."""

    octets: bytes
    seconds: float              # from one time to the next


@dataclass(frozen=True)
class Later:
    """Do this after so long, whatever is said meanwhile. `silent`: count from what the client said last."""

    seconds: float
    then: End | Stall
    silent: bool = False
    words: bytes = b""          # that are said before


Step = Octets | Pause | Gap | Hold | End | Stall | Aside | Repeat | Later


@dataclass(frozen=True)
class Instead:
    """What is said in place of carrying a command out, or (`execute`) of what carrying it out would say."""

    reply: bytes
    then_end: bool = False      # and the connection is closed; unless `execute`, nothing is removed
    execute: bool = False


Taker = Callable[[bytes], "Instead | None"]


@dataclass(frozen=True)
class Kind:
    """What a fault does. A kind has at least one of the functions.

    `instead` may answer a command that then is not carried out (None: it is). `rework` gets a whole reply as
    the server made it and returns what is to be sent. `deliver` gets the steps by which a reply would leave
    and returns those by which it does. `before` does something just before a command is carried out. `tls`
    is the name of a way to do TLS wrong (harness/tls.py). `commands` are those that it can meet when the
    fault does not name one; empty: every command. `settings` has, by name, what reads a value (raises
    ValueError) and the default (REQUIRED: none). `check` gets all settings, read, and returns what is wrong
    with them together: "setting: problem".

    Where several faults meet one command, all `before` act first, in the order in which the faults were
    switched on; then the first `instead` that answers; then each `rework` on what the one before it made;
    then each `deliver` in the same way.
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
    check: Callable[[Mapping[str, Any]], str] | None = None


REQUIRED = object()     # the default of a setting that has none
