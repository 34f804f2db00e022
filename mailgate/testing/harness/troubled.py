"""A POP3 connection on which everything is recorded, and things go wrong on command.

It is the service's own connection: only what comes in reaches the session one command at a time, and what
goes out of it is gathered by command. So each reply is known by the command that it answers, however the
client pipelines, and a fault can meet it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from mailgate.auth.sasl import Facts
from mailgate.auth.sasl.digests import message_id
from mailgate.pop3.effects import NOTHING, START_TLS, Turn
from mailgate.pop3.session import Session
from mailgate.testing.harness.flights import close_beneath, speak_first
from mailgate.testing.harness.intake import Intake
from mailgate.testing.harness.outlet import Outlet
from mailgate.testing.harness.records import Command
from mailgate.testing.harness.reply import Reply, claimed_name
from mailgate.testing.harness.unsent import unsent_octets
from mailgate.testing.trouble.active import count
from mailgate.testing.trouble.model import GREETING, RESPONSE, End, Instead, Octets

TEARING_TURNS = 500             # of the clock's `apart`: so long a client may take to read what comes before


class Troubled(Intake):
    """One connection; its factory has a `harness` (harness/core.py)."""

    def __init__(self, factory: Any) -> None:
        super().__init__(factory)
        self.record = self._records.begin(factory.shown_as)
        self._randbytes = self._harness.random_of(self.record.number)
        self._reply: Reply | None = None
        self._finishing: Reply | None = None        # while faults rework it
        self._wants_close = False
        self._wants_tls: tuple[Any, Any] | None = None
        self._ahead: tuple[bytes,
                           tuple[str, ...]] | None = None    # to be carried out unasked
        self._out_already: tuple[bytes, Command] | None = None      # that was
        self._reply_ahead: tuple[bytes, tuple[str, ...]] | None = None
        self._muted = False                         # the next command's reply is out already
        self._rather: bytes | None = None           # is carried out in place of the present command
        self._tearing: Any = None                   # the delayed call that looks whether all is out
        self._outlet = Outlet(self._harness.clock, self._leave_octets, self._end_by_fault, self._idle_again)

    # In ---------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Greet, in whatever way."""
        self._know_peer()
        self._begin_greeting()
        super().connectionMade()
        speak_first(self.transport)

    def _know_peer(self) -> None:
        peer = self.transport.getPeer()
        self.record.peer = f"{getattr(peer, 'host', None)}:{getattr(peer, 'port', '')}"
        self.record.tls = self.factory.at_once

    def _converse(self, *, secure: bool) -> Session:
        session = super()._converse(secure=secure)
        if session.timestamp is not None:
            session.timestamp = message_id(self._facts())
        return session

    def _facts(self) -> Facts:
        """Return the service's own, with chances that depend on no other session."""
        return super()._facts()._replace(random=self._randbytes)

    def _begin_greeting(self) -> None:
        greeting = self._begin_reply(GREETING, b"")
        greeting.held = greeting.held or any(kind.instead for kind, _ in greeting.met)

    def _can_take(self) -> bool:
        return (self._reply is None and self._outlet.idle and self._wants_tls is None
                and self._handshake is None
                and not (self._wants_close or self._closing or self.transport is None))

    # Commands ---------------------------------------------------------------------------------

    def _take(self, line: bytes) -> None:
        """Have one line of the client's answered."""
        head, self._line_head = self._line_head, b""
        verb, argument, secret = self._meaning(head + line)
        event = self._records.note(self.record, "C", line, secret=None if head else secret)
        if self._is_out_already(line):
            return
        reply = self._begin_reply(verb, argument, line.rstrip(b"\r\n"))
        reply.command.hide(event, self.record.discretion)
        reply.instead = self._instead(reply)
        reply.muted, self._muted = self._muted, False
        rather, self._rather = self._rather, None
        if reply.instead is None or reply.instead.execute:
            self._give(line if rather is None or head else rather + b"\r\n")
            self._settle()
        else:
            self._send(reply.instead.reply)
            self._finish_reply()

    def _take_unasked(self) -> bool:
        if self._ahead is None:
            return False
        (line, labels), self._ahead = self._ahead, None
        verb, argument, _ = self._meaning(line)
        command = Command(verb, argument, self.factory.clock.seconds())
        self._out_already = line, command
        self._reply = Reply(command, [])
        self._reply.also = labels
        self._give(line + b"\r\n")
        self._settle()
        return True

    def _is_out_already(self, line: bytes) -> bool:
        """Whether this was carried out before the client said it."""
        if self._out_already is None:
            return False
        (ahead, command), self._out_already = self._out_already, None
        if ahead.upper() != line.strip().upper():
            return False
        self._records.add_command(self.record, command)
        return True

    # Replies ----------------------------------------------------------------------------------

    def _begin_reply(self, verb: str, argument: bytes, line: bytes = b"") -> Reply:
        self._accepting = False
        self._fetched = None
        command = Command(verb, argument, self.factory.clock.seconds())
        if verb != GREETING:
            self._records.add_command(self.record, command)
        meant = verb or RESPONSE
        count(self._given, meant, b"" if meant in ("PASS", "AUTH", "APOP", RESPONSE) else argument)
        user = self.record.user or claimed_name(meant, argument) or self._named
        met = self._harness.trouble.meeting(
            self.record.number, self.record.protocol, user, meant, argument,
            self._given[meant], self, tls=self.record.tls, given=self._given, line=line)
        self._reply = reply = Reply(command, met)
        return reply

    def _instead(self, reply: Reply) -> Instead | None:
        for kind, occasion in reply.met:
            if kind.before is not None:
                kind.before(occasion)
        if self._takers:
            taker, labels = self._takers.pop()
            if (instead := taker(reply.command.argument)) is not None:
                # who answers here is not met here again
                reply.met = [(kind, one) for kind, one in reply.met if one.fault.label not in labels]
                reply.also = labels
                return instead
        for kind, occasion in reply.met:
            if kind.instead is not None and (instead := kind.instead(occasion)) is not None:
                return instead
        return None

    def _labels_now(self) -> tuple[str, ...]:
        reply = self._reply or self._finishing
        return () if reply is None else reply.labels

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
        if reply.command.verb == GREETING:
            reply.instead = self._instead(reply)
            self._rather = None
        if reply.is_held:
            self._finishing = reply
            steps = reply.outcome()
            self._finishing = None
            if not any(isinstance(step, Octets) for step in steps):
                self._records.note(self.record, "*", text="nothing is said", faults=reply.labels)
            self._outlet.put(steps, reply.labels)
        self._outlet.finish()
        if self._fetched is not None and not reply.is_whole:
            self._fetched = None
        self._note_challenge(reply)
        self._answer_ahead()
        if reply.instead is not None and reply.instead.then_end:
            self._close()
        self._go_on_behind()

    def _answer_ahead(self) -> None:
        if self._reply_ahead is not None:
            (octets, labels), self._reply_ahead = self._reply_ahead, None
            self._outlet.put([Octets(octets)], labels)
            self._outlet.finish()
            self._muted = True

    def _note_challenge(self, reply: Reply) -> None:
        """What was said decides whether the client's next line is a response, whatever the session thinks."""
        said, exchange = reply.command.reply, self._session._exchange
        if not (reply.labels or exchange is not None or self._challenged):
            return
        self._challenged = reply.command.verb in ("AUTH", "") and said[:1] == b"+" and said[:3] != b"+OK"
        if reply.labels and said and not self._challenged and exchange is not None:
            self._session._exchange = self._session._refusal = None

    # Out --------------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        """Let octets leave: there is no other way out of the session."""
        if not data or self.transport is None:
            return
        reply = self._reply
        if reply is None:
            self._outlet.send(data)
        elif reply.is_held:
            reply.gathered.append(data)
        else:
            reply.first(data)
            self._outlet.send(data, reply.labels)

    def _leave_octets(self, octets: bytes) -> None:
        self._labels = self._outlet.labels
        if self.transport is not None:
            self._records.note(self.record, "S", octets, faults=self._labels)
            self.transport.write(octets)

    def pauseProducing(self) -> None:
        """The client takes nothing at the moment."""
        super().pauseProducing()
        self._outlet.pause()

    def resumeProducing(self) -> None:
        """The client has taken everything."""
        super().resumeProducing()
        self._outlet.resume()

    def _idle_again(self) -> None:
        self._heard = self._began = self.factory.clock.seconds()    # until now it was our turn
        self._go_on_behind()
        self._feed()

    def _go_on_behind(self) -> None:
        """Do what waited for the last octets to leave."""
        if not self._outlet.idle or self._reply is not None:
            return
        if self._fetched is not None:
            self.record.retrieved.append(self._fetched)
            self._fetched = None
        if self._wants_tls is not None:
            (session, turn), self._wants_tls = self._wants_tls, None
            self._start_tls(session, turn)
        elif self._wants_close and not self._closing:
            self._outlet.flush_all()
            super()._close()

    def _start_tls(self, session: Any, turn: Any) -> None:
        self._outlet.flush_all()
        if self._inbox:                 # came in clear while the answer to STLS was on its way
            self._how = "octets behind STLS"
            self.cut()
            return
        self.record.tls = True
        self._records.note(self.record, "*", text="TLS begins")
        super()._begin_tls(session, turn)

    # The end ----------------------------------------------------------------------------------

    def _turn_over(self, how: Any, octets: list[bytes]) -> None:
        if how is START_TLS and self._inbox:    # was said in clear behind STLS
            self._how = "octets behind STLS"
            self.cut()
        else:
            super()._turn_over(how, octets)

    def _begin_tls(self, session: Any, turn: Any) -> None:
        self._wants_tls = session, turn
        self._finish_reply()
        self._go_on_behind()

    def _close(self) -> None:
        self._wants_close = True
        self._how = self._how or ("QUIT" if self.record.verbs[-1:] == ["QUIT"] else "closed by the server")
        self._settle()
        self._go_on_behind()

    def tick(self, now: float) -> None:
        """See POP3Protocol.tick. While a fault keeps the client waiting it is our turn."""
        if self._outlet.idle or self._congested or self._closing:
            super().tick(now)

    def cut(self) -> None:
        """See Connection.cut."""
        self._how = self._how or "cut by the server"
        self._outlet.clear()
        super().cut()

    def dismiss(self) -> None:
        """See POP3Protocol.dismiss; who is kept waiting by a fault is cut."""
        if self._closing or self._committing:
            return
        if not self._outlet.idle:
            self.cut()
            return
        if self._session is not None and self._session.asking:
            self._reply = None                  # nobody waits for it any more
        super().dismiss()

    def _end_by_fault(self, step: End) -> None:
        self._tell_end_by("reset" if step.torn else "closed", self._outlet.labels)
        if step.torn:
            self._closing = True
            self._tear()
        elif step.silent and self.record.tls:
            self._closing = True
            close_beneath(self.transport)
        else:
            super()._close()

    def _tear(self, turns: int = TEARING_TURNS) -> None:
        """Tear the connection, once the client has what was sent: a reset would overtake it."""
        self._tearing = None
        if self.transport is None:
            return
        if turns and unsent_octets(self.transport):
            self._tearing = self._harness.clock.apart(lambda: self._tear(turns - 1))
        else:
            super().cut()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See POP3Protocol.connectionLost."""
        self._outlet.clear()
        if self._tearing is not None and self._tearing.active():
            self._tearing.cancel()
        self._tearing = self._reply = None
        if reason.check(ConnectionAborted):
            self._how = self._how or "cut by the server"
        super().connectionLost(reason)
        self._records.end(self.record, self._how or "the client hung up")

    # trouble.model.Surroundings ---------------------------------------------------------------

    def say_ahead(self, line: bytes) -> None:
        """See Surroundings."""
        self._ahead = line.strip(), self._labels_now()

    def answer_ahead(self, reply: bytes) -> None:
        """See Surroundings."""
        self._reply_ahead = reply, self._labels_now()

    def have_command(self, line: bytes) -> None:
        """See Surroundings."""
        self._rather = line


class TroubledPOP3(Troubled):
    """POP3, with TLS from the first octet or later."""
