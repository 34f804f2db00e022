"""What was said on every connection, kept for tests: events, commands, logins, deletions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

KEPT_SESSIONS = 1000            # the oldest are forgotten
KEPT_OCTETS = 4 * 1024 * 1024   # of one session; what comes behind is counted and not kept
MASK = b"********"


class Event(NamedTuple):
    """Something that happened on a connection.

    `who`: "C" the client said `octets`, "S" the server did, "*" something that `text` tells. `secret`: from
    where to where in `octets` there is something that is shown only to who asks for it. `faults`: names of
    those that had a hand in it.
    """

    at: float                               # seconds since 1970, by the harness's clock
    who: str
    octets: bytes = b""
    text: str = ""
    tls: bool = False
    faults: tuple[str, ...] = ()
    secret: tuple[int, int] | None = None

    def shown(self, secrets: bool = False) -> bytes:
        """Return the octets, what is secret masked."""
        if self.secret is None or secrets:
            return self.octets
        start, end = self.secret
        return self.octets[:start] + MASK + self.octets[end:]


@dataclass
class Command:
    """One line of a client that was answered, or is to be."""

    verb: str               # in capitals; "" for what belongs to an exchange that AUTH began
    argument: bytes         # the rest of the line
    at: float
    reply: bytes = b""      # the first line of the reply as it was sent, without its end

    @property
    def succeeded(self) -> bool:
        """Whether the reply was `+OK`."""
        return self.reply.startswith(b"+OK")


class LoginTry(NamedTuple):
    """A login that was judged."""

    name: str
    mechanism: str          # PASS, APOP, or a SASL mechanism
    succeeded: bool


@dataclass
class SessionRecord:
    """One connection, from its beginning. Tests read it while it goes on, or afterwards."""

    number: int             # 1 is the first since the start or the last reset
    protocol: str           # pop3, pop3s, kpop, or the name of a scripted listener
    peer: str               # address and port of the client
    began: float
    events: list[Event] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    logins: list[LoginTry] = field(default_factory=list)
    user: str | None = None             # who is logged in, or was
    tls: bool = False                   # the connection is inside TLS now
    retrieved: list[str] = field(default_factory=list)     # unique-ids whose content was sent whole
    deleted: list[str] = field(default_factory=list)       # unique-ids that QUIT removed for good
    ended: float | None = None
    end: str = ""                       # how: "QUIT", "the client hung up", "cut by fault close" ...
    octets_kept: int = 0
    octets_left_out: int = 0            # that were said and are not kept

    @property
    def verbs(self) -> list[str]:
        """The commands' verbs in order."""
        return [command.verb for command in self.commands]

    @property
    def open(self) -> bool:
        """Whether the connection stands."""
        return self.ended is None

    def said(self, who: str) -> bytes:
        """Return all octets of one side: "C" or "S"."""
        return b"".join(event.octets for event in self.events if event.who == who)


Watcher = Callable[[SessionRecord, "Event | None"], object]


class Records:
    """All sessions since the start or the last reset; the oldest are forgotten after a thousand."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._sessions: deque[SessionRecord] = deque(maxlen=KEPT_SESSIONS)
        self._count = 0
        self.watchers: list[Watcher] = []       # told of each event; of a beginning and an end with None

    def __iter__(self) -> Iterator[SessionRecord]:
        return iter(list(self._sessions))

    def __len__(self) -> int:
        return self._count

    def begin(self, protocol: str) -> SessionRecord:
        """Return a record for a new connection."""
        self._count += 1
        record = SessionRecord(self._count, protocol, "", self._seconds())
        self._sessions.append(record)
        self._tell(record, None)
        return record

    def note(self, record: SessionRecord, who: str, octets: bytes = b"", text: str = "",
             faults: tuple[str, ...] = (), secret: tuple[int, int] | None = None) -> None:
        """Add an event to a record."""
        room = max(0, KEPT_OCTETS - record.octets_kept)
        if len(octets) > room:
            record.octets_left_out += len(octets) - room
            octets = octets[:room]
            secret = None if secret is None or secret[1] > room else secret
        record.octets_kept += len(octets)
        event = Event(self._seconds(), who, octets, text, record.tls, faults, secret)
        record.events.append(event)
        self._tell(record, event)

    def end(self, record: SessionRecord, how: str) -> None:
        """Note that a connection is gone."""
        if record.ended is None:
            record.ended, record.end = self._seconds(), how
            self._tell(record, None)

    def reset(self) -> None:
        """Forget all; numbers begin anew."""
        self._sessions.clear()
        self._count = 0

    def _tell(self, record: SessionRecord, event: Event | None) -> None:
        for watcher in list(self.watchers):
            watcher(record, event)
