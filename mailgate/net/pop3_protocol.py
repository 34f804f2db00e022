"""One POP3 connection: move octets between a transport and a Session, and time the silence.

Decides nothing: what is said is the session's, who may log in the portal's, what is allowed the factory's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
    ISSLTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.mail.interfaces import IMailboxPOP3
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.auth.credentials import credentials_of
from mailgate.auth.sasl import Consult, Facts
from mailgate.errors import LoginRefused, MailgateError
from mailgate.interfaces import IMaildrop, IMessageStream
from mailgate.net.bindings import channel_bindings, identities_of
from mailgate.net.faults import as_fault
from mailgate.net.mailboxes import open_mailbox
from mailgate.net.progress import octets_taken
from mailgate.net.tls import Secured, hindrance, secured
from mailgate.pop3.effects import (
    CLOSE,
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
from mailgate.pop3.session import NOTHING, Session
from mailgate.wire.shown import shown

if TYPE_CHECKING:
    pass

NAME_CHARACTERS = 80       # of a login name in a log line
WRITE_OCTETS = 32 * 1024   # gathered answers of that size are written before more are made

log = Logger()
_LATER = object()          # stands for an outcome that has not come yet


@implementer(IPushProducer, IHalfCloseableProtocol, IHandshakeListener)
class POP3Protocol(Protocol):
    """One connection. Slots, because tens of thousands of them are idle at a time."""

    __slots__ = ("factory", "transport", "connected", "peer", "tls", "_handshake", "_session", "_maildrop",
                 "_logout", "_committing", "_logging_in", "_name", "_attempted", "_delayed", "_congested",
                 "_paused", "_pouring", "_drained", "_heard", "_began", "_stalled", "_taken", "_half_closed",
                 "_closing")

    def __init__(self, factory: Any) -> None:
        self.factory = factory                   # a mailgate.net.pop3.POP3Factory
        self.transport: Any = None
        self.peer: str | None = None             # the client's address; None over a unix socket
        self.tls: Secured | None = None          # once a handshake is done
        self._handshake: Turn | None = None      # what follows the one that is under way
        self._session: Session
        self._maildrop: Any = None
        self._logout: Callable[[], object] | None = None
        self._committing = False                 # QUIT is under way: it ends by itself
        self._logging_in: Deferred[Any] | None = None
        self._name = ""                          # of the latest login, as a log line may show it
        self._attempted = 0.0                    # when the pending login was asked for
        self._delayed: Any = None                # the delayed call of a refused login's answer
        self._congested = False                  # the transport is full
        self._stalled = 0.0                      # since when the client has taken nothing
        self._taken = 0                          # octets it had taken by then
        self._paused = False                     # reading is paused: the backlog is full
        self._pouring: Deferred[None] | None = None
        self._drained: Deferred[None] | None = None
        self._heard = 0.0                        # time of the last sign of life
        self._began = 0.0                        # time since which a login is awaited
        self._half_closed = False                # nothing more is heard
        self._closing = False                    # nothing more is said

    # The transport's side ---------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Greet."""
        factory, transport = self.factory, self.transport
        self.peer = getattr(transport.getPeer(), "host", None)
        no_delay = getattr(transport, "setTcpNoDelay", None)
        if no_delay is not None:
            no_delay(True)                       # without it a small reply may wait 40 ms
        self._session = factory.converse(self.peer, secure=ISSLTransport.providedBy(transport))
        self._session.facts = self._facts
        factory.idle.add(self)
        self._heard = self._began = factory.clock.seconds()
        transport.registerProducer(self, True)
        if isinstance(transport, TLSMemoryBIOProtocol):
            self._handshake = self._session.open()
        else:
            self._run(self._session.open())

    def handshakeCompleted(self) -> None:
        """TLS stands: greet, or go on after STLS without a greeting."""
        turn, self._handshake = self._handshake, None
        if turn is not None and not self._closing:
            self._heard = self.factory.clock.seconds()
            self.tls = secured(self.transport)
            self._run(turn)

    def dataReceived(self, data: bytes) -> None:
        """Take octets; what can be answered at once is answered in this turn, in one write."""
        if self._closing:
            return
        self._heard = self.factory.clock.seconds()
        self._session.receive(data)
        self._run()

    def readConnectionLost(self) -> None:
        """Go on with what the client said before it closed its half; then close, unless QUIT does.

        Scripts send all commands and close. One that has gone for good resets at the next write.
        """
        self._half_closed = True
        if not self._session.logged_in and not self._session.pending:
            self.cut()      # nothing was asked for behind the login: nobody waits for its check
        else:
            self._run()

    def writeConnectionLost(self) -> None:
        """Our half is never closed alone."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Release everything; remove nothing (RFC 1939 section 6)."""
        if self._handshake is not None and (why := hindrance(self.transport, reason)):
            log.info("no TLS with {peer}: {why}", peer=self.peer, why=shown(why))
        self.transport = None
        self.factory.idle.discard(self)
        if self._delayed is not None:
            self._delayed.cancel()
            self._delayed = None
        if self._pouring is not None:
            self._pouring.cancel()
        if self._session.logged_in and not self._committing:
            self._tell_end()
        if self._logging_in is not None and self.factory.cancels_logins:
            self._logging_in.cancel()
        if not self._committing:
            Deferred.fromCoroutine(self._leave())
        self.factory.ended(self)

    def _tell_end(self) -> None:
        """One line a session, for the operator."""
        session = self._session
        end = "no QUIT" if session.removed is None else "QUIT"
        log.info("session of {name} from {peer}: {retrieved} retrieved, {removed} removed, {end}",
                 name=self._name, peer=self.peer, retrieved=session.retrieved, removed=session.removed or 0,
                 end=f"{end}, {self.tls}" if self.tls else end)

    # The transport's wish for silence (IPushProducer): its buffer is full, or empty again
    def pauseProducing(self) -> None:
        """Stop answering until the client has taken what is sent."""
        self._congested = True
        self._stalled = self.factory.clock.seconds()

    def resumeProducing(self) -> None:
        """Go on: the client took everything."""
        self._congested = False
        self._heard = self.factory.clock.seconds()
        if self._drained is not None:
            drained, self._drained = self._drained, None
            drained.callback(None)
        else:
            self._run()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost follows."""

    def tick(self, now: float) -> None:
        """Cut a client that is silent, that takes nothing, or that does not let go."""
        limits = self.factory.policy.limits
        if self._closing or self._congested:
            taken = octets_taken(self.transport)
            if taken is not None and taken != self._taken:
                self._taken, self._stalled = taken, now
            silent, limit = now - self._stalled, limits.progress_seconds
        elif self._session.asking:
            return                                   # it is our turn
        else:
            # before the login it is the time that counts: one octet a minute is no login
            before = self._maildrop is None
            silent = now - (self._began if before else self._heard)
            limit = limits.login_seconds if before else limits.idle_seconds
        if silent >= limit:
            self.transport.abortConnection()         # silently (RFC 1939 section 3)

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

    # Turns ----------------------------------------------------------------------------------

    def _run(self, turn: Turn = NOTHING) -> None:
        """Carry out turns while there is something to read and room for answers.

        All that can be answered now leaves in one write; an ask that is answered at once goes on.
        """
        session = self._session
        octets = [turn.octets]
        while True:
            if isinstance(turn.then, (Close, StartTLS)):
                self._turn_over(turn.then, octets)
                return
            if turn.then is not None:
                if isinstance(turn.then, Pour):     # it writes, so what comes first has to be out
                    self._write(octets)
                result = self._perform(turn.then)
                if result is _LATER:
                    break
                turn = session.outcome(result)
            elif (session.pending and not session.asking and not self._congested
                  and not self._closing):
                turn = session.advance()
                if turn is NOTHING:
                    break
            else:
                break
            octets.append(turn.octets)
            if len(turn.octets) >= WRITE_OCTETS:
                self._write(octets)
        self._write(octets)
        # What waits for its turn is bounded here; a line that waits for its end, by its own limit.
        waits = session.asking or self._congested
        if not self._half_closed:
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
            before = self._session
            self._session = self.factory.converse(self.peer, secure=True)
            self._session.facts = self._facts
            self._session.resume(before)
            self._handshake = NOTHING
            self.transport.startTLS(self.factory.tls)
            self._congested = False             # what was sent in clear is taken before TLS can begin

    def _bound_backlog(self, pending: int) -> None:
        """Read on only while few pipelined octets wait; what is not read stays with the client."""
        full = pending > self.factory.policy.limits.backlog_octets
        if full != self._paused and self.transport is not None and not self._closing:
            self._paused = full
            if full:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def _write(self, octets: list[bytes]) -> None:
        """Let octets leave, in one write; empties the list. There is no other way out."""
        data = b"".join(octets)
        octets.clear()
        if data and self.transport is not None and not self._closing:
            self.transport.write(data)

    def _close(self) -> None:
        self._closing = True
        self._stalled = self.factory.clock.seconds()
        if self.transport is not None:
            if self._paused:
                self._paused = False
                self.transport.resumeProducing()    # inside TLS the client's farewell has to be read
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def cut(self) -> None:
        """End the connection at once; what was not taken yet is lost."""
        self._closing = True
        self._stalled = self.factory.clock.seconds()
        if self.transport is not None:
            self.transport.abortConnection()

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

    def _perform(self, ask: Ask) -> object:
        """Begin what the session asks for; return its result or fault, or _LATER."""
        try:
            pending = self._begin(ask)
        except Exception:
            return self._judged(Failure())
        return self._now_or_later(pending) if isinstance(pending, Deferred) else pending

    def _begin(self, ask: Ask) -> object:
        if isinstance(ask, Fetch):
            return self._maildrop.fetch(ask.number, ask.body_lines)
        if isinstance(ask, LogIn):
            self._logging_in = Deferred.fromCoroutine(self._log_in(ask))
            return self._logging_in
        if isinstance(ask, Consult):
            return self.factory.answers.answer(ask.question)
        if isinstance(ask, Refuse):
            self._attempted = self.factory.clock.seconds()
            self._name = shown(ask.name, NAME_CHARACTERS)
            raise ask.fault
        if isinstance(ask, ShowEnvelope):
            return self._maildrop.envelope(ask.number)
        if isinstance(ask, Commit):
            return Deferred.fromCoroutine(self._commit(ask))
        self._pouring = Deferred.fromCoroutine(self._pour(ask.stream))
        return self._pouring

    def _now_or_later(self, pending: Deferred[Any]) -> object:
        """Return what the Deferred has, or _LATER when it comes by `_answered`.

        What is there already is taken in the caller's loop: a client that pipelines makes no
        recursion.
        """
        arrived: list[object] = []
        waiting = False

        def take(result: object) -> None:
            if waiting:
                self._answered(result)
            else:
                arrived.append(result)

        pending.addBoth(take)
        waiting = True
        return self._judged(arrived[0]) if arrived else _LATER

    def _judged(self, result: object) -> object:
        """Turn a failure into its fault, and hold a refused login back until its fixed time."""
        if isinstance(result, Failure):
            unheard = self.transport is None and not self._committing
            if unheard and result.check(MailgateError, CancelledError):
                return result.value                 # the session ended first, and nobody is answered
            result = as_fault(result)
        if isinstance(result, LoginRefused) and self.transport is not None:
            log.info("login of {name} from {peer} refused: {reason}", name=self._name, peer=self.peer,
                     reason=shown(getattr(result, "reason", "") or str(result)))
            delay = self._failure_delay()
            if delay > 0:
                self._delayed = self.factory.clock.callLater(delay, self._refuse_late, result)
                return _LATER
        return result

    def _failure_delay(self) -> float:
        """Return seconds until the next multiple of the fixed time since the attempt.

        A check that took longer than one period waits for the end of the next: how long a check
        takes tells about the account.
        """
        period = self.factory.policy.limits.failure_delay_seconds
        if not period:
            return 0.0
        passed = self.factory.clock.seconds() - self._attempted
        return math.ceil(passed / period or 1) * period - passed

    def _refuse_late(self, fault: LoginRefused) -> None:
        self._delayed = None
        self._began = self.factory.clock.seconds()      # another try has the whole time again
        self._go_on(fault)

    def _answered(self, result: object) -> None:
        """Take an outcome that came later than its ask."""
        judged = self._judged(result)
        if judged is not _LATER:
            self._go_on(judged)

    def _go_on(self, result: object) -> None:
        if self.transport is None or self._closing:
            if IMessageStream.providedBy(result):
                result.close()
            return
        self._heard = self.factory.clock.seconds()
        self._run(self._session.outcome(result))

    def _credentials(self, claim: Any) -> Any:
        """Return what the portal is given for a claim; a protocol that knows its client says more."""
        return credentials_of(claim, self.peer)

    async def _log_in(self, ask: LogIn) -> Any:
        """Return the maildrop of the claim. A client that is gone by then is logged out at once."""
        self._attempted = self.factory.clock.seconds()
        self._name = shown(ask.claim.name, NAME_CHARACTERS)
        credentials = self._credentials(ask.claim)
        interface, avatar, self._logout = await maybeDeferred(
            self.factory.portal.login, credentials, None, IMaildrop, IMailboxPOP3)
        try:
            maildrop = avatar if interface is IMaildrop else await maybeDeferred(open_mailbox, avatar)
        except BaseException:
            await self._leave()                     # after -ERR no lock is kept (RFC 1939 section 4)
            raise
        self._logging_in = None
        self._maildrop = maildrop
        if self.transport is None:
            await self._leave()
        return maildrop

    async def _commit(self, ask: Commit) -> None:
        self._committing = True
        maildrop, self._maildrop = self._maildrop, None
        try:
            await maybeDeferred(maildrop.commit, ask.marked)
            self._session.removed = len(ask.marked)
        finally:
            self._tell_end()                         # whether or not the client is there to hear it
            await self._leave()

    async def _leave(self) -> None:
        """Release the maildrop unless QUIT has, and log the avatar out; each once."""
        maildrop, self._maildrop = self._maildrop, None
        logout, self._logout = self._logout, None
        for step in (maildrop and maildrop.release, logout):
            if step:
                try:
                    await maybeDeferred(step)
                except Exception:
                    log.failure("a session could not be ended in order")

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
