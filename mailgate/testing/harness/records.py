"""What was said on every connection, kept for tests: events, commands, logins, deletions.

What is secret is known here, and masked in everything that is shown: only the attributes themselves hold it.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from mailgate.testing.harness.discretion import MASK, VERBS, Discretion, Span, cover, united
from mailgate.testing.scripted.notation import escape_shown

KEPT_SESSIONS = 1000            # the oldest are forgotten
REPR_OCTETS = 60                # of an event that its repr shows
KEPT_OCTETS = 4 * 1024 * 1024   # of one session; what comes behind is counted and not kept
KEPT_EVENTS = 100_000           # likewise
KEPT_NOTES = 1000               # more of them, that tell what happened: above all, how it ended
KEPT_COMMANDS = 50_000          # likewise
KEPT_IN_ALL = 256 * 1024 * 1024     # octets that sessions may take, roughly; then old ones are forgotten
EVENT_OCTETS = 500              # that an event takes beside its octets, and its share of a command
ARGUMENT_OCTETS = 255           # of a command that comes when no more octets are kept
JUDGED_OCTETS = 2 * ARGUMENT_OCTETS     # of such a line, verb counted, to know what of it is secret


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
    secret: tuple[Span, ...] = ()

    def shown(self, secrets: bool = False) -> bytes:
        """Return the octets, what is secret masked."""
        return self.octets if secrets else cover(self.octets, self.secret)

    def cut(self, most: int) -> Event:
        """Return it with so many octets at most."""
        if len(self.octets) <= most:
            return self
        octets = self.octets[:most]
        return self._replace(octets=octets, secret=united(
            (first, min(last, len(octets))) for first, last in self.secret))

    def as_dict(self, began: float = 0.0, *, secrets: bool = False) -> dict[str, Any]:
        """Return it as JSON can hold it. `octets` is in base64, `shown` the same as text with escapes.

        `began`: of the session, to count the seconds from.
        """
        octets = self.shown(secrets)
        return {"at": self.at, "after_seconds": round(self.at - began, 6), "who": self.who,
                "octets": base64.b64encode(octets).decode(), "shown": escape_shown(octets),
                "text": self.text, "tls": self.tls, "faults": list(self.faults)}

    def __repr__(self) -> str:
        what = self.text if self.who == "*" else repr(self.shown()[:REPR_OCTETS])
        return f"<{self.who} {what}{' in TLS' if self.tls else ''}{f' {self.faults}' if self.faults else ''}>"


@dataclass
class Command:
    """One line of a client that was answered, or is to be."""

    verb: str               # in capitals; "" for what belongs to an exchange that AUTH began
    argument: bytes         # the rest of the line
    at: float
    reply: bytes = b""      # the first line of the reply as it was sent, without its end; of several, each
    shown: bytes | None = None      # the argument with what is secret masked; None: nothing is
    mask: Callable[[bytes], bytes] = field(default=bytes, compare=False)    # masks what is known to be secret
    good: bytes = b"+OK"    # replies that say yes begin so

    @property
    def succeeded(self) -> bool:
        """Whether the reply was `+OK`; by SMTP and LMTP, whether all that it got begin with 2."""
        return all(line.startswith(self.good) for line in self.reply.split(b"\r\n"))

    def hide(self, event: Event, discretion: Discretion) -> None:
        """Know what is secret of the line that the command came in, and of the conversation."""
        self.mask = discretion.masked
        if not event.secret:
            return
        if event.secret[0][0] == 0 and self.verb.encode() not in VERBS:     # an answer, or it looks like one
            self.verb, self.argument = "", event.octets.rstrip(b"\r\n")
        text = event.shown().rstrip(b"\r\n")
        self.shown = text.partition(b" ")[2] if self.verb else text

    def as_dict(self, *, secrets: bool = False) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        shown = self.argument if secrets or self.shown is None else self.shown
        masked = bytes if secrets else self.mask
        return {"verb": escape_shown(masked(self.verb.encode())), "argument": escape_shown(masked(shown)),
                "reply": escape_shown(masked(self.reply)), "at": self.at, "succeeded": self.succeeded}

    def __repr__(self) -> str:
        argument = self.mask(self.argument if self.shown is None else self.shown)
        reply = escape_shown(self.mask(self.reply))
        return f"<{self.verb}{' ' if argument else ''}{escape_shown(argument)}: {reply}>"


class LoginTry(NamedTuple):
    """A login that was judged."""

    name: str
    mechanism: str          # PASS, APOP, or a SASL mechanism
    succeeded: bool


@dataclass(repr=False)
class SessionRecord:
    """One connection, from its beginning. Tests read it while it goes on, or afterwards.

    Another thread than the server's reads a `copy` where it wants that nothing moves.
    """

    number: int             # 1 is the first since the start or the last reset
    protocol: str           # pop3, pop3s, kpop, or the name of a scripted listener; lmtp, smtp
    peer: str               # address and port of the client
    began: float
    events: list[Event] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    logins: list[LoginTry] = field(default_factory=list)
    user: str | None = None             # who is logged in, or was
    tls: bool = False                   # the connection is inside TLS now
    tls_details: str = ""               # version and cipher, once a handshake is done
    server_name: str | None = None      # that the client named in its handshake (SNI)
    retrieved: list[str] = field(default_factory=list)     # unique-ids whose content was sent whole
    deleted: list[str] = field(default_factory=list)       # unique-ids that QUIT removed for good
    ended: float | None = None
    end: str = ""                       # how: "QUIT", "the client hung up", "cut by fault close" ...
    octets_heard: int = 0               # that the client said, inside TLS as outside
    octets_said: int = 0                # that the server did
    octets_kept: int = 0
    octets_left_out: int = 0            # that were said and are not kept
    events_left_out: int = 0            # that happened and are not kept
    commands_left_out: int = 0          # that were given and are not kept
    discretion: Discretion = field(default_factory=Discretion, compare=False)
    called: str = "session"             # or "delivery"

    @property
    def verbs(self) -> list[str]:
        """The commands' verbs in order."""
        return [command.verb for command in self.commands]

    @property
    def open(self) -> bool:
        """Whether the connection stands."""
        return self.ended is None

    @property
    def weight(self) -> int:
        """Octets that all this takes, roughly."""
        return self.octets_kept + EVENT_OCTETS * len(self.events)

    def said(self, who: str) -> bytes:
        """Return all octets of one side that are kept: "C" or "S"."""
        return b"".join(event.octets for event in list(self.events) if event.who == who)

    def __repr__(self) -> str:
        state = self.end if self.ended is not None else "open"
        return f"<{self.called} {self.number}, {self.protocol}: {' '.join(self.verbs)}; {state}>"

    def copy(self) -> SessionRecord:
        """Return what is there now, which does not change any more."""
        return replace(self, events=list(self.events), commands=[replace(one) for one in list(self.commands)],
                       logins=list(self.logins), retrieved=list(self.retrieved), deleted=list(self.deleted))

    def masked_events(self) -> list[Event]:
        """Return the events; what repeats a secret in pieces, or before it was known, is masked too."""
        events = list(self.events)
        for who in ("C", "S"):
            _mark_repeated(events, who, self.discretion)
        masked = self.discretion.masked_text
        return [event._replace(text=masked(event.text)) if event.text else event for event in events]

    def as_dict(self, *, secrets: bool = False, events: bool = True) -> dict[str, Any]:
        """Return it as JSON can hold it, times in seconds since 1970. Without `events`, a summary."""
        text = str if secrets else self.discretion.masked_text
        told = {
            "number": self.number, "protocol": self.protocol, "peer": self.peer, "began": self.began,
            "ended": self.ended, "open": self.open, "end": text(self.end), "tls": self.tls,
            "tls_details": self.tls_details, "server_name": self.server_name,
            "user": None if self.user is None else text(self.user),
            "logins": [{"name": text(one.name), "mechanism": one.mechanism, "succeeded": one.succeeded}
                       for one in list(self.logins)],
            "commands": [one.as_dict(secrets=secrets) for one in list(self.commands)],
            "retrieved": list(self.retrieved), "deleted": list(self.deleted),
            "octets_heard": self.octets_heard, "octets_said": self.octets_said,
            "octets_left_out": self.octets_left_out, "events_left_out": self.events_left_out,
            "commands_left_out": self.commands_left_out}
        if events:
            told["events"] = [one.as_dict(self.began, secrets=secrets) for one in (
                list(self.events) if secrets else self.masked_events())]
        return told


def _mark_repeated(events: list[Event], who: str, discretion: Discretion) -> None:
    """Find secrets in the whole of what one side said, and mark them in its events."""
    places = [index for index, event in enumerate(events) if event.who == who]
    joined = b"".join(events[index].octets for index in places)
    found = united([*discretion.found(joined), (len(joined) - discretion.cut_off(joined), len(joined))])
    at = 0
    for index in places:
        event = events[index]
        end = at + len(event.octets)
        inside = [(max(first, at) - at, min(last, end) - at) for first, last in found
                  if first < end and last > at]
        if inside:
            events[index] = event._replace(secret=united([*event.secret, *inside]))
        at = end


Watcher = Callable[[SessionRecord, "Event | None"], object]


class Records:
    """All sessions since the start or the last reset; the oldest are forgotten after a thousand.

    They are forgotten sooner where all take too much. Of one session so much is kept, and no more, whatever
    the client says; the rest is counted, and a note in the record tells of it. None: all events are kept.
    Written in one thread; others iterate, and copy records, at any time.
    """

    def __init__(self, seconds: Callable[[], float], *, kept_octets: int = KEPT_OCTETS,
                 kept_events: int | None = KEPT_EVENTS, kept_commands: int = KEPT_COMMANDS,
                 kept_in_all: int = KEPT_IN_ALL, called: str = "session") -> None:
        self._seconds = seconds
        self._called = called                   # what one record is
        self._kept_octets = kept_octets         # of one session
        self._kept_events = kept_events
        self._kept_commands = kept_commands
        self._kept_in_all = kept_in_all
        self._sessions: deque[SessionRecord] = deque(maxlen=KEPT_SESSIONS)
        self._count = 0
        self.watchers: list[Watcher] = []       # told of each event; of a beginning and an end with None
        self.counters: list[Callable[[], object]] = []      # told of each event that is not kept

    def __iter__(self) -> Iterator[SessionRecord]:
        return iter(self._sessions.copy())      # in one step: others may begin meanwhile

    def __len__(self) -> int:
        return self._count

    def begin(self, protocol: str) -> SessionRecord:
        """Return a record for a new connection."""
        self._count += 1
        self._make_room()
        record = SessionRecord(self._count, protocol, "", self._seconds(), called=self._called)
        self._sessions.append(record)
        self._tell(record, None)
        return record

    def _make_room(self) -> None:
        """Forget the oldest sessions, if they have ended, while all of them take too much."""
        taken = sum(one.weight for one in self._sessions)
        while taken > self._kept_in_all and not self._sessions[0].open:
            taken -= self._sessions.popleft().weight

    def add_command(self, record: SessionRecord, command: Command) -> None:
        """Add a command to a record, if there is room; of a long line, perhaps its beginning alone."""
        if len(record.commands) >= self._kept_commands:
            record.commands_left_out += 1
            return
        if record.octets_left_out:
            command.argument = command.argument[:ARGUMENT_OCTETS]
        record.commands.append(command)

    def note(self, record: SessionRecord, who: str, octets: bytes = b"", text: str = "",
             faults: tuple[str, ...] = (), secret: Span | None = None, content: bool = False) -> Event:
        """Add an event to a record, and return it: some of its octets also where none are kept any more.

        What looks like a secret is known to be one; `secret` says of more of the octets that they are. Octets
        may come in any pieces. `content`: they are of a message, in which nothing looks like a secret.
        """
        spans: tuple[Span, ...] = ()
        if who == "C":
            spans = tuple(record.discretion.found(octets)) if content else record.discretion.heard(
                octets, in_exchange=secret is not None and secret[0] == 0)
            record.octets_heard += len(octets)
        elif who == "S":
            spans = record.discretion.said(octets)
            record.octets_said += len(octets)
        most = self._kept_octets // 4 if content else self._kept_octets     # what is said of it is kept
        room = max(0, most - record.octets_kept)
        record.octets_left_out += max(0, len(octets) - room)
        record.octets_kept += min(len(octets), room)
        octets = octets[:max(room, JUDGED_OCTETS)]
        if secret is not None:
            spans = (*spans, secret)
        spans = united((first, min(last, len(octets))) for first, last in spans)
        text = record.discretion.masked_text(text) if text else text
        event = Event(self._seconds(), who, octets, text, record.tls, faults, spans)
        if self._has_room(record, who):
            record.events.append(event.cut(room))
            self._tell(record, record.events[-1])
        return event

    def _has_room(self, record: SessionRecord, who: str) -> bool:
        """Return whether one more event is kept, and note where the first is left out."""
        most = self._kept_events
        if most is None or len(record.events) < most:
            return True
        if len(record.events) == most:
            record.events.append(Event(self._seconds(), "*", tls=record.tls, text=(
                f"{most} events are kept: what comes now is counted alone, but for some notes")))
            self._tell(record, record.events[-1])
        if who == "*" and len(record.events) < most + KEPT_NOTES:
            return True
        record.events_left_out += 1
        for counter in list(self.counters):
            counter()
        return False

    def end(self, record: SessionRecord, how: str) -> None:
        """Note that a connection is gone."""
        if record.ended is None:
            record.ended, record.end = self._seconds(), record.discretion.masked_text(how)
            self._tell(record, None)

    def reset(self) -> None:
        """Forget all; numbers begin anew."""
        self._sessions.clear()
        self._count = 0

    def _tell(self, record: SessionRecord, event: Event | None) -> None:
        for watcher in list(self.watchers):
            watcher(record, event)


__all__ = ["MASK", "Command", "Event", "LoginTry", "Records", "SessionRecord"]
