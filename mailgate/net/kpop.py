"""KPOP for a twisted.cred portal: a sendauth exchange, then POP3 for a client that is known already.

The connection says nothing before the client has; what Kerberos proves goes to the portal with each
USER and PASS, as an IKerberosPrincipal. Nothing behind the exchange is protected by Kerberos: TLS is
what does that, in front of the exchange or by STLS behind the greeting, and the client stays known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from mailgate.auth.kerberos import Accepted
from mailgate.auth.principals import PrincipalLogin
from mailgate.errors import MailgateError, TicketRefused
from mailgate.kpop.sendauth import KPOP_VERSION, Denied, Done, Exchange, GiveUp, Granted, Judge, Turn
from mailgate.net.attempts import Attempts
from mailgate.net.crowd import Crowd
from mailgate.net.faults import as_fault
from mailgate.net.pop3 import POP3Factory
from mailgate.net.pop3_protocol import POP3Protocol
from mailgate.net.refusals import tell_refused
from mailgate.net.relayed import is_secure
from mailgate.pop3.effects import NOTHING
from mailgate.pop3.known import KNOWN_RULES, KnownSession
from mailgate.pop3.policy import Policy
from mailgate.pop3.session import Session, Table
from mailgate.principals import Principal
from mailgate.wire.shown import shown

if TYPE_CHECKING:
    from twisted.cred.portal import Portal

log = Logger()


class JudgesTickets(Protocol):
    """What judges AP-REQs: mailgate.auth.kerberos.Acceptor."""

    def accept(self, request: bytes, peer: str | None) -> Deferred[Accepted]:
        """Raises, by the Deferred: TicketRefused; whatever else went wrong. May be cancelled."""

    def faults(self) -> Deferred[list[str]]:
        """Return what keeps it from working."""

    def stop(self) -> Deferred[None]:
        """End its threads."""


class KPOPProtocol(POP3Protocol):
    """One connection: first the exchange, then all that a POP3Protocol does."""

    __slots__ = ("principal", "_exchange", "_judging")

    def __init__(self, factory: Any) -> None:
        super().__init__(factory)
        self.principal: Principal | None = None
        self._exchange: Exchange | None = Exchange(factory.versions)   # None once it is over
        self._judging: Deferred[Any] | None = None

    # The transport's side ---------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Wait: the client begins."""
        self.peer = getattr(self.transport.getPeer(), "host", None)
        self._session = self.factory.converse(self.peer, secure=is_secure(self.transport))
        if isinstance(self.transport, TLSMemoryBIOProtocol):
            self._handshake = NOTHING            # so that one that fails is told
        self._began = self.factory.clock.seconds()
        self.factory.idle.add(self)

    def dataReceived(self, data: bytes) -> None:
        """Take octets of the exchange, or of POP3 behind it."""
        if self._exchange is None:
            super().dataReceived(data)
        elif not self._closing:
            self._exchange.receive(data)
            self._go_through()

    def readConnectionLost(self) -> None:
        """A client that closes its half before it said all of the exchange has given up."""
        if self._exchange is None:
            super().readConnectionLost()
        elif self._judging is None:
            self._close()
        else:
            self._half_closed = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Drop a judgement that nobody waits for any more."""
        super().connectionLost(reason)
        if self._judging is not None:
            self._judging.cancel()

    def tick(self, now: float) -> None:
        """Cut a client whose exchange, however busy it looks, takes longer than a login may."""
        if self._exchange is None or self._closing:
            super().tick(now)
        elif self._judging is None and now - self._began >= self.factory.policy.limits.login_seconds:
            log.info("no sendauth exchange of {peer} came to its end", peer=self.peer)
            self.cut()

    def dismiss(self) -> None:
        """Close for a shutdown; before the greeting there is no word for it."""
        if self._exchange is None:
            super().dismiss()
        elif not self._closing:
            self._close()

    # The exchange -----------------------------------------------------------------------------

    def _go_through(self) -> None:
        """Carry out turns of the exchange until more octets or a judgement are needed."""
        while self._exchange is not None and self._judging is None and not self._closing:
            turn = self._exchange.advance()
            if not turn.octets and turn.then is None:
                break
            self._carry_out(turn)
        if self._exchange is not None and not self._half_closed:
            self._bound_backlog(self._exchange.pending if self._judging is not None else 0)
        if self._exchange is not None and not (self._closing or self._count_unread(self._exchange.pending)):
            log.info("KPOP of {peer} closed: too much of others waits", peer=self.peer)
            self._close()

    def _carry_out(self, turn: Turn) -> None:
        self._write([turn.octets])
        then = turn.then
        if isinstance(then, Judge):
            self._judge(then.request)
        elif isinstance(then, GiveUp):
            if then.reason:
                log.info("KPOP of {peer} closed: {reason}", peer=self.peer, reason=then.reason)
            self._close()
        elif isinstance(then, Done):
            self._begin_pop3()

    def _judge(self, request: bytes) -> None:
        self._judging = judging = maybeDeferred(self.factory.acceptor.accept, request, self.peer)
        judging.addCallbacks(self._accepted, self._refused)     # which may be now
        judging.addErrback(self._broken)

    def _accepted(self, accepted: Accepted) -> None:
        self._judging = None
        self.principal = accepted.principal
        if self.transport is not None and self._exchange is not None and not self._closing:
            self._carry_out(self._exchange.outcome(Granted(accepted.reply)))

    def _refused(self, failure: Failure) -> None:
        """Answer with the KRB-ERROR; what is no refusal is told to the log alone."""
        self._judging = None
        if self.transport is None and failure.check(CancelledError, MailgateError):
            return
        fault = as_fault(failure)
        if isinstance(fault, TicketRefused):
            if fault.ours:
                log.error("ticket from {peer} refused: {reason}", peer=self.peer, reason=shown(str(fault)))
            else:
                spoken = self.factory.spoken + ("+tls" if self.tls else "")
                tell_refused(self.peer, spoken, "ticket", b"", str(fault))
        elif isinstance(fault, MailgateError):
            log.error("a ticket from {peer} cannot be judged: {reason}", peer=self.peer,
                      reason=shown(str(fault)))
        if self.transport is not None and self._exchange is not None and not self._closing:
            reply = fault.reply if isinstance(fault, TicketRefused) else b""
            self._carry_out(self._exchange.outcome(Denied(reply)))

    def _broken(self, failure: Failure) -> None:
        log.failure("a KPOP connection failed", failure)
        if self.transport is not None:
            self.cut()

    def _begin_pop3(self) -> None:
        """Greet, and serve what the client has already said."""
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        if not self._half_closed:
            self._bound_backlog(0)
        half_closed, self._half_closed = self._half_closed, False
        began = self._began
        super().connectionMade()
        self._began = began                      # exchange and login have their time together
        if self._handshake is not None:
            self.handshakeCompleted()            # long ago: the exchange came through it
        if exchange.pending:
            super().dataReceived(exchange.rest)
        if half_closed and not self._closing:
            super().readConnectionLost()

    # POP3 -------------------------------------------------------------------------------------

    def _credentials(self, claim: Any) -> Any:
        """Return the principal with the name that USER chose."""
        assert self.principal is not None
        return PrincipalLogin(self.principal, claim.name, self.peer)


class KPOPFactory(POP3Factory):
    """Makes a KPOP server of a twisted.cred portal that takes IKerberosPrincipal.

    `versions` are the application versions taken beside KPOPV1.0; everything else is POP3Factory's.
    """

    connection = KPOPProtocol
    spoken = "kpop"

    def __init__(self, portal: Portal, acceptor: JudgesTickets, *, versions: Iterable[str] = (),
                 policy: Policy = Policy(), clock: IReactorTime | None = None, table: Table | None = None,
                 tls: Any = None, crowd: Crowd | None = None, attempts: Attempts | None = None) -> None:
        super().__init__(portal, policy=policy, clock=clock, tls=tls, crowd=crowd, attempts=attempts,
                         mechanisms={}, table=table or Table(KNOWN_RULES, conversation=KnownSession))
        self.acceptor = acceptor
        self.versions = (KPOP_VERSION, *versions)

    def converse(self, peer: str | None, *, secure: bool, relayed: bool = False) -> Session:
        """Return a conversation that takes USER and PASS everywhere: there is no secret in them."""
        return self.table.conversation(
            self.table, self.policy, mechanisms=self.mechanisms, plaintext_allowed=True,
            can_start_tls=self.tls is not None and not secure)

    def faults(self) -> Deferred[list[str]]:
        """Return what keeps tickets from being judged: no libkrb5, no key. Empty when nothing does."""
        return self.acceptor.faults()

    def shutdown(self) -> Deferred[None]:
        """See POP3Factory.shutdown. Ends the acceptor's threads as well."""
        return super().shutdown().addBoth(lambda _: self.acceptor.stop())



