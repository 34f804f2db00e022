"""A POP3 connection on which everything is recorded, and things go wrong on command.

It is the service's own connection: only what comes in reaches the session one command at a time, and what
goes out of it is gathered by command. So each reply is known by the command that it answers, however the
client pipelines, and a fault can meet it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from mailgate.net.connection import LATER
from mailgate.net.kpop import KPOPProtocol
from mailgate.net.pop3_protocol import POP3Protocol
from mailgate.pop3.effects import NOTHING, Commit, Fetch, LogIn, Turn
from mailgate.testing.harness.outlet import Outlet
from mailgate.testing.harness.records import Command, LoginTry
from mailgate.testing.trouble.active import Met, outcome_of
from mailgate.testing.trouble.model import GREETING, Instead, Octets, Step
from mailgate.wire.shown import shown

LINE_OCTETS = 1024 * 1024       # what has no end by then is given to the session as it is
BACKLOG_OCTETS = 256 * 1024     # commands that may wait; then what comes is left with the client


class Reply:
    """The answer to one command while it is made."""

    __slots__ = ("command", "met", "held", "gathered")

    def __init__(self, command: Command, met: list[Met]) -> None:
        self.command = command
        self.met = met
        self.held = any(kind.rework or kind.deliver for kind, _ in met)     # until it is whole
        self.gathered = b""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the faults that have a hand in it."""
        return tuple(occasion.fault.label for _, occasion in self.met)


class Troubled(POP3Protocol):
    """One connection; its factory has a `harness` (harness/core.py)."""

    def __init__(self, factory: Any) -> None:
        super().__init__(factory)
        harness = factory.harness
        self._harness = harness
        self._records = harness.records
        self.record = harness.records.begin(factory.shown_as)
        self._given: Counter[str] = Counter()       # verbs, how often
        self._inbox = b""
        self._feeding = False
        self._reply: Reply | None = None
        self._wants_close = False
        self._wants_tls: tuple[Any, Any] | None = None
        self._said_ahead: bytes | None = None       # a command that was carried out before the client said it
        self._hung_up = False                       # the client's half is closed
        self._how = ""                              # the connection ended, where we know
        self._outlet = Outlet(harness.clock, self._leave_octets, self._end_by_fault, self._idle_again)

    # In ---------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Greet, in whatever way."""
        peer = self.transport.getPeer()
        self.record.peer = f"{getattr(peer, 'host', None)}:{getattr(peer, 'port', '')}"
        self.record.tls = self.factory.at_once
        self._begin_reply(GREETING, b"")
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """Take octets; commands are given to the session one by one."""
        self._inbox += data
        self._heard = self.factory.clock.seconds()
        self._read_on(len(self._inbox) <= BACKLOG_OCTETS)
        self._feed()

    def readConnectionLost(self) -> None:
        """The client has closed its half: it is told when everything that came before is answered."""
        self._hung_up = True
        self._feed()

    def _feed(self) -> None:
        """Give the session what it can take now."""
        if self._feeding:
            return
        self._feeding = True
        try:
            while self._can_take():
                line = self._next_line()
                if line is None:
                    break
                self._take(line)
        finally:
            self._feeding = False
        self._read_on(len(self._inbox) <= BACKLOG_OCTETS)
        if self._hung_up and self._can_take():
            self._hung_up = False
            super().readConnectionLost()

    def _can_take(self) -> bool:
        return (self._reply is None and self._outlet.idle and self._wants_tls is None
                and self._handshake is None
                and not (self._wants_close or self._closing or self.transport is None))

    def _next_line(self) -> bytes | None:
        end = self._inbox.find(b"\n") + 1
        if not end:
            if not self._inbox or (len(self._inbox) < LINE_OCTETS and not self._hung_up):
                return None
            end = len(self._inbox)
        line, self._inbox = self._inbox[:end], self._inbox[end:]
        return line

    def _take(self, line: bytes) -> None:
        """Have one line of the client's answered."""
        verb, argument, secret = self._meaning(line)
        self._records.note(self.record, "C", line, secret=secret)
        if self._said_ahead is not None:
            ahead, self._said_ahead = self._said_ahead, None
            if ahead == line.rstrip(b"\r\n"):
                return                      # its answer is out already
        reply = self._begin_reply(verb, argument)
        instead = self._instead(reply)
        if instead is None:
            if verb == "STLS":              # what follows it in clear is the session's to judge
                line, self._inbox = line + self._inbox, b""
            super().dataReceived(line)
            self._settle()
        else:
            self._send(instead.reply)
            self._finish_reply()
            if instead.then_end:
                self._close()

    def _meaning(self, line: bytes) -> tuple[str, bytes, tuple[int, int] | None]:
        """Return verb, argument, and what of the line is secret."""
        text = line.rstrip(b"\r\n")
        if self._session._exchange is not None:
            return "", text, (0, len(text)) if text != b"*" else None
        word, _, argument = text.partition(b" ")
        verb = shown(word.upper())
        start = len(word) + 1
        if verb == "PASS":
            return verb, argument, (min(start, len(text)), len(text))
        if verb in ("AUTH", "APOP") and b" " in argument:
            return verb, argument, (start + argument.index(b" ") + 1, len(text))
        return verb, argument, None

    # Replies ----------------------------------------------------------------------------------

    def _begin_reply(self, verb: str, argument: bytes) -> Reply:
        self._given[verb] += 1
        command = Command(verb, argument, self.factory.clock.seconds())
        if verb != GREETING:
            self.record.commands.append(command)
        user = self.record.user
        if verb == "USER":
            user = shown(argument)
        met = self._harness.trouble.meeting(
            self.record.number, self.record.protocol, user or self._named, verb, argument,
            self._given[verb], self, tls=self.record.tls)
        self._reply = reply = Reply(command, met)
        return reply

    @property
    def _named(self) -> str | None:
        """Who the latest USER said he was."""
        name = self._session._name if self._session is not None else None
        return None if name is None else shown(name)

    def _instead(self, reply: Reply) -> Instead | None:
        for kind, occasion in reply.met:
            if kind.before is not None:
                kind.before(occasion)
        for kind, occasion in reply.met:
            if kind.instead is not None and (instead := kind.instead(occasion)) is not None:
                return instead
        return None

    def _run(self, turn: Turn = NOTHING) -> None:
        super()._run(turn)
        self._settle()
        self._feed()

    def _settle(self) -> None:
        """End the reply that is made, if the session has nothing more to say to it."""
        if self._reply is not None and self._handshake is None and not self._session.asking and (
                not self._session.pending or self._wants_close):
            self._finish_reply()

    def _finish_reply(self) -> None:
        """Let a reply leave that is whole."""
        reply, self._reply = self._reply, None
        if reply is None:
            return
        if reply.held:
            octets = outcome_of(reply.met, reply.gathered)
            steps: list[Step] = [Octets(octets)] if octets else []
            for kind, occasion in reply.met:
                if kind.deliver is not None:
                    steps = kind.deliver(occasion, steps)
            reply.command.reply = octets.partition(b"\n")[0].rstrip(b"\r")
            self._labels = reply.labels
            if not any(isinstance(step, Octets) for step in steps):
                self._records.note(self.record, "*", text="nothing is said", faults=reply.labels)
            self._outlet.put(steps)
        self._go_on_behind()

    _labels: tuple[str, ...] = ()

    def _send(self, data: bytes) -> None:
        """Let octets leave: there is no other way out of the session."""
        if not data or self.transport is None:
            return
        reply = self._reply
        if reply is None:
            self._labels = ()
            self._outlet.put([Octets(data)])
        elif reply.held:
            reply.gathered += data
        else:
            if not reply.command.reply:
                reply.command.reply = data.partition(b"\n")[0].rstrip(b"\r")
            self._labels = reply.labels
            self._outlet.put([Octets(data)])

    def _leave_octets(self, octets: bytes) -> None:
        if self.transport is not None:
            self._records.note(self.record, "S", octets, faults=self._labels)
            self.transport.write(octets)

    def _idle_again(self) -> None:
        self._go_on_behind()
        self._feed()

    def _go_on_behind(self) -> None:
        """Do what waited for the last octets to leave."""
        if not self._outlet.idle or self._reply is not None:
            return
        if self._wants_tls is not None:
            (session, turn), self._wants_tls = self._wants_tls, None
            self.record.tls = True
            self._records.note(self.record, "*", text="TLS begins")
            super()._begin_tls(session, turn)
        elif self._wants_close and not self._closing:
            self._outlet.flush()
            super()._close()

    # The end ----------------------------------------------------------------------------------

    def _begin_tls(self, session: Any, turn: Any) -> None:
        self._wants_tls = session, turn
        self._finish_reply()
        self._go_on_behind()

    def _close(self) -> None:
        self._wants_close = True
        self._how = self._how or ("QUIT" if self.record.verbs[-1:] == ["QUIT"] else "closed by the server")
        self._settle()
        self._go_on_behind()

    def cut(self) -> None:
        """See Connection.cut."""
        self._how = self._how or "cut by the server"
        self._outlet.clear()
        super().cut()

    def dismiss(self) -> None:
        """See POP3Protocol.dismiss; who is kept waiting by a fault is cut."""
        if self._outlet.idle:
            super().dismiss()
        else:
            self.cut()

    def _end_by_fault(self, torn: bool) -> None:
        self._records.note(self.record, "*", text="reset" if torn else "closed", faults=self._labels)
        self._how = f"{'reset' if torn else 'closed'} by fault {', '.join(self._labels)}"
        if torn:
            super().cut()
        else:
            super()._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See POP3Protocol.connectionLost."""
        self._outlet.clear()
        self._reply = None
        super().connectionLost(reason)
        self._records.end(self.record, self._how or "the client hung up")

    # What is learnt of the session ------------------------------------------------------------

    def _go_on(self, result: object) -> None:
        self._note_login(result)
        super()._go_on(result)

    def _begin(self, ask: Any) -> object:
        if isinstance(ask, LogIn):
            self._claim = shown(ask.claim.name), self._session.mechanism.decode("ascii", "replace")
        elif isinstance(ask, Fetch) and ask.body_lines is None and self._maildrop is not None:
            self.record.retrieved.append(self._maildrop.listing.unique_id(ask.number - 1).decode())
        elif isinstance(ask, Commit) and self._maildrop is not None:
            listing = self._maildrop.listing
            self._marked = [listing.unique_id(number - 1).decode() for number in sorted(ask.marked)]
        return super()._begin(ask)

    _claim: tuple[str, str] | None = None
    _marked: list[str] | None = None

    def _note_login(self, result: object) -> None:
        if self._claim is not None:
            (name, mechanism), self._claim = self._claim, None
            good = self._maildrop is not None
            if good or isinstance(result, BaseException):
                self.record.logins.append(LoginTry(name, mechanism, good))
            if good:
                self.record.user = name

    def _perform(self, ask: Any) -> object:
        result = super()._perform(ask)
        if result is not LATER:
            self._note_login(result)
        return result

    async def _commit(self, ask: Commit) -> None:
        await super()._commit(ask)
        self.record.deleted.extend(self._marked or ())

    # trouble.model.Surroundings ---------------------------------------------------------------

    def remove_message(self, number: int) -> None:
        """See Surroundings."""
        if self._maildrop is not None:
            self._harness.remove_behind(self._maildrop, number)

    def say_instead_of(self, line: bytes) -> None:
        """See Surroundings."""
        self._said_ahead = line


class TroubledPOP3(Troubled):
    """POP3, with TLS from the first octet or later."""


class TroubledKPOP(Troubled, KPOPProtocol):
    """POP3 behind a Kerberos ticket. What the ticket's exchange says is neither recorded nor troubled."""

    def dataReceived(self, data: bytes) -> None:
        """Take octets of the exchange, or of POP3 behind it."""
        if self._exchange is None:
            super().dataReceived(data)
        else:
            KPOPProtocol.dataReceived(self, data)
