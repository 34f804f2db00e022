"""One POP3 connection: move octets between a transport and a Session, and time the silence.

Decides nothing: what is said is the session's, who may log in the portal's, what is allowed the factory's.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.auth.outcomes import outcome_of
from mailgate.auth.sasl import Consult, Facts, ScramQuestion
from mailgate.errors import TooBusy
from mailgate.interfaces import IMessageStream
from mailgate.net.bindings import channel_bindings, identities_of
from mailgate.net.connection import LATER
from mailgate.net.login import LoginConnection
from mailgate.net.relayed import is_relayed
from mailgate.net.unread import UNCOUNTED_OCTETS
from mailgate.pop3 import replies
from mailgate.pop3.conversation import COMMANDS_A_TURN
from mailgate.pop3.effects import (
    CLOSE,
    NOTHING,
    Ask,
    Close,
    Commit,
    Fetch,
    LogIn,
    Pour,
    Refuse,
    ShowEnvelope,
    StartTLS,
    Turn,
)
from mailgate.pop3.session import Session

MOST_TURNS = 2 * COMMANDS_A_TURN   # then other connections have theirs, whatever waits here
WRITE_OCTETS = 32 * 1024   # gathered answers of that size are written before more are made

log = Logger()


@implementer(IHalfCloseableProtocol)
class POP3Protocol(LoginConnection):
    """One connection; its factory is a mailgate.net.pop3.POP3Factory."""

    __slots__ = ("_pouring", "_drained", "_half_closed", "_awaited", "_unread", "_consulting")

    _session: Session

    def __init__(self, factory: Any) -> None:
        super().__init__(factory)
        self._pouring: Deferred[None] | None = None
        self._drained: Deferred[None] | None = None
        self._half_closed = False                # nothing more is heard
        self._awaited = False                    # since before the login: counted among the factory's
        self._unread = 0                         # octets that wait, counted among the factory's
        self._consulting: Deferred[Any] | None = None   # the latest judgement of a ticket

    def _converse(self, *, secure: bool) -> Session:
        session: Session = self.factory.converse(
            self.peer, secure=secure, relayed=is_relayed(self.transport))
        session.facts = self._facts
        return session

    # The transport's side ---------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Greet."""
        self._began = self.factory.clock.seconds()
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """Take octets; what can be answered at once is answered in this turn, in one write."""
        if self._closing or self._congested or self._unread or self._due is not None:
            super().dataReceived(data)
            return
        reply = self._session.answer(data)
        if reply is None:
            super().dataReceived(data)
            return
        self._heard = self.factory.clock.seconds()
        if isinstance(reply, bytes):
            self._send(reply)
        else:
            self._run(reply)

    def readConnectionLost(self) -> None:
        """Go on with what the client said before it closed its half; then close, unless QUIT does.

        Scripts send all commands and close. One that has gone for good resets at the next write. Who
        has asked for nothing behind the login, or is one of too many, does not have it waited for.
        """
        self._half_closed = True
        if not self._session.logged_in:
            self._awaited = bool(self._session.pending) and self.factory.half_closed.enter(self.peer)
            if not self._awaited:
                self.cut()
                return
        self._run()
        if self._session.logged_in:
            self._await_no_more()

    def _await_no_more(self) -> None:
        if self._awaited:
            self._awaited = False
            self.factory.half_closed.leave(self.peer)

    def writeConnectionLost(self) -> None:
        """Our half is never closed alone."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Release everything; remove nothing (RFC 1939 section 6)."""
        super().connectionLost(reason)
        if self._pouring is not None:
            self._pouring.cancel()
        if self._consulting is not None:
            self._consulting.cancel()
        if self._session.logged_in and not self._committing:
            self._tell_end()
        self._await_no_more()
        self._count_unread(0)
        self._give_up()
        self.factory.ended(self)

    def _tell_end(self) -> None:
        """One line a session, for the operator."""
        session = self._session
        end = "no QUIT" if session.removed is None else "QUIT"
        self.factory.tell(log, f"session of {self._login_name} from {self.peer}: "
                          f"{session.retrieved} retrieved, {session.removed or 0} removed, {end}"
                          + (f", {self.tls}" if self.tls else ""))

    def resumeProducing(self) -> None:
        """Go on: the client took everything."""
        if self._drained is None:
            super().resumeProducing()
            return
        self._congested = False
        self._heard = self.factory.clock.seconds()
        drained, self._drained = self._drained, None
        drained.callback(None)

    def tick(self, now: float) -> None:
        """Cut a client that is silent, that takes nothing, or that does not let go."""
        limits = self.factory.policy.limits
        stuck = self._stuck_seconds(now)
        if stuck is not None:
            silent, limit = stuck, limits.progress_seconds
        elif self._session.asking:
            return                                   # it is our turn
        else:
            # before the login it is the time that counts: one octet a minute is no login
            before = self._maildrop is None
            silent = now - (self._began if before else self._heard)
            limit = limits.login_seconds if before else limits.idle_seconds
        if silent >= limit:
            self.cut()                               # silently (RFC 1939 section 3)

    def dismiss(self) -> None:
        """Close for a shutdown: between two replies, and a QUIT under way is finished first."""
        if self._closing or self._committing:
            return
        if not self._session.asking and not self._congested and self._handshake is None:
            self._write([b"-ERR [SYS/TEMP] service is stopping\r\n"])
        if self._pouring is not None or self._handshake is not None:
            self.cut()
        else:
            self._close()

    @property
    def finishing(self) -> bool:
        """Whether a QUIT is being carried out for a client that waits to hear what came of it."""
        return self._committing and not (self._closing or self._congested)

    # Turns ----------------------------------------------------------------------------------

    def _run(self, turn: Turn = NOTHING) -> None:
        """Carry out turns while there is something to read and room for answers.

        All that can be answered now leaves in one write; an ask that is answered at once goes on.
        """
        session = self._session
        octets = [turn.octets]
        turns = 0
        while True:
            if isinstance(turn.then, (Close, StartTLS)):
                self._turn_over(turn.then, octets)
                return
            if turn.then is not None:
                if isinstance(turn.then, Pour):     # it writes, so what comes first has to be out
                    self._write(octets)
                result = self._perform(turn.then)
                if result is LATER:
                    break
                turn = session.outcome(result)
            elif session.can_go_on and not self._congested and not self._closing:
                if turns >= MOST_TURNS:
                    self._let_others()
                    break
                turn = session.advance()
                if turn is NOTHING:
                    break
                turns += 1 if turn.then is not None else COMMANDS_A_TURN
            else:
                break
            octets.append(turn.octets)
            if len(turn.octets) >= WRITE_OCTETS:
                self._write(octets)
        self._write(octets)
        # What waits for its turn is bounded here; a line that waits for its end, by its own limit.
        waits = session.asking or self._congested or self._due is not None
        if self._maildrop is None or self._unread:
            gone = session.logged_in or self._closing or self.transport is None
            if not self._count_unread(0 if gone else session.pending):
                self._drop_unread(waits)
        if not self._half_closed:
            if waits or self._paused:
                self._bound_backlog(session.pending if waits else 0)
        elif not waits and not self._closing:
            self._close()

    def _turn_over(self, how: Close | StartTLS, octets: list[bytes]) -> None:
        """End the conversation: with the connection, or to begin another one inside TLS."""
        if how is CLOSE:
            self._write(octets)
            self._close()
        elif self._session.pending or self._half_closed:
            # Said in clear behind STLS, by whoever could reach the wire: never to be executed.
            log.info("octets behind STLS from {peer}", peer=self.peer)
            self.cut()
        else:
            self._write(octets)
            self._bound_backlog(0)
            session = self._converse(secure=True)
            session.resume(self._session)
            self._begin_tls(session, NOTHING)

    def _count_unread(self, octets: int) -> bool:
        """Count what waits here among the factory's; False: that is too much."""
        if octets <= UNCOUNTED_OCTETS:
            octets = 0
        fits = octets == self._unread or self.factory.unread.hold(self.peer, self._unread, octets)
        self._unread = octets if fits else 0
        return fits

    def _drop_unread(self, waits: bool) -> None:
        """Take half a line for one that is too long; with commands that wait for an answer, end it all."""
        self._session.drop_line()
        if waits:
            self._write([replies.refusal(TooBusy())])
            self._close()

    def _bound_backlog(self, pending: int) -> None:
        """Read on only while few pipelined octets wait; what is not read stays with the client."""
        self._read_on(pending <= self.factory.policy.limits.backlog_octets)

    def _facts(self) -> Facts:
        """Return what mechanisms may ask of the connection."""
        factory = self.factory
        facts = Facts(hostname=factory.policy.hostname, random=factory.random)
        if self.tls is None:
            return facts
        connection, rule = self.transport.getHandle(), factory.policy.certificate_name
        return facts._replace(
            bindings=channel_bindings(connection), server_name=connection.get_servername(),
            identities=() if rule is None or self.tls.certificate is None else identities_of(
                self.tls.certificate, rule))

    # Asks -------------------------------------------------------------------------------------

    def _begin(self, ask: Ask) -> object:
        if isinstance(ask, Fetch):
            return self._maildrop.fetch(ask.number, ask.body_lines)
        if isinstance(ask, LogIn):
            return self._begin_login(ask)
        if isinstance(ask, Consult):
            return self._consult(ask)
        if isinstance(ask, Refuse):
            return self._refuse(ask)
        if isinstance(ask, ShowEnvelope):
            return self._maildrop.envelope(ask.number)
        if isinstance(ask, Commit):
            return Deferred.fromCoroutine(self._commit(ask))
        pouring = Deferred.fromCoroutine(self._pour(ask.stream))
        if not pouring.called:      # else it is over, and has said so already
            self._pouring = pouring
        return pouring

    def _go_on(self, result: object) -> None:
        if self.transport is None or self._closing:
            if IMessageStream.providedBy(result):
                result.close()
            return
        self._heard = self.factory.clock.seconds()
        turn = self._session.outcome(result)
        if self._awaited and self._session.logged_in:
            self._await_no_more()
        self._run(turn)

    def _consult(self, ask: Consult) -> Deferred[Any]:
        """Return the answer of those who keep secrets, or of whoever judges tickets."""
        if isinstance(ask.question, ScramQuestion):
            self._begin_attempt(ask.question.name)      # what is answered tells of an account
            return self.factory.answers.answer(ask.question)
        self._consulting = asked = self.factory.tickets.answer(ask.question, self.peer)
        return asked

    async def _commit(self, ask: Commit) -> None:
        self._committing = True
        maildrop, self._maildrop = self._maildrop, None
        try:
            await outcome_of(maildrop.commit, ask.marked)
            self._session.removed = len(ask.marked)
        finally:
            self._tell_end()                         # whether or not the client is there to hear it
            await self._leave()

    async def _pour(self, stream: Any) -> None:
        """Send a stream at the client's pace. A torn message is never ended: the connection is."""
        try:
            while piece := await stream.read():
                self._write([piece])
                if self._congested:
                    self._drained = Deferred()
                    await self._drained
        except CancelledError:
            pass                                    # the client is gone
        except Exception:
            if self.transport is not None:          # else it ended because the client has gone
                log.failure("a message could not be read to its end")
                self.cut()
        finally:
            self._pouring = self._drained = None
            stream.close()
