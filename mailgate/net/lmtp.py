"""LMTP over a transport: move octets between it, a Session and a store. Decides nothing.

`LMTPFactory` serves TCP and unix sockets alike. It must never listen on port 25 (RFC 2033 section
5): a client there speaks SMTP and expects one reply to a message, not one a recipient.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IPushProducer,
    IReactorTime,
    ISSLTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.interfaces import IDelivery, IMaildropStore, IRouter
from mailgate.lmtp import replies
from mailgate.lmtp.effects import CLOSE, START_TLS, Ask, Delivered, Effect, Learn, Route, Signal, Write
from mailgate.lmtp.policy import LmtpPolicy
from mailgate.lmtp.session import Session, Surroundings
from mailgate.net.faults import as_fault
from mailgate.net.idle import IdleClock
from mailgate.net.tls import Secured, hindrance, secured
from mailgate.wire.shown import shown

STOP_GRACE_SECONDS = 5.0    # how long a shutdown waits for clients to take what was sent
LOGGED_RECIPIENTS = 20      # of one message, one by one; the others are counted

log = Logger()
_LATER = object()           # stands for an outcome that has not come yet


@implementer(IPushProducer, IHandshakeListener)
class LMTPProtocol(Protocol):
    """One connection."""

    __slots__ = ("factory", "transport", "connected", "peer", "tls", "_handshake", "_session", "_delivery",
                 "_congested", "_paused", "_heard", "_closing", "_dismissed")

    def __init__(self, factory: LMTPFactory) -> None:
        self.factory: Any = factory
        self.transport: Any = None
        self.peer: str | None = None             # the client's address; None over a unix socket
        self.tls: Secured | None = None          # once a handshake is done
        self._handshake: list[Effect] | None = None     # what follows the one that is under way
        self._session: Session
        self._delivery: IDelivery | None = None
        self._congested: float | None = None     # since when the transport is full
        self._paused = False                     # reading is paused
        self._heard = 0.0                        # time of the last sign of life
        self._closing: float | None = None       # since when the connection is being closed
        self._dismissed = False                  # to be closed when the commit is done

    # The transport's side ---------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Greet."""
        factory, transport = self.factory, self.transport
        self.peer = getattr(transport.getPeer(), "host", None)
        no_delay = getattr(transport, "setTcpNoDelay", None)
        if no_delay is not None:
            no_delay(True)                       # without it a small reply may wait 40 ms
        self._session = self._converse(secure=ISSLTransport.providedBy(transport))
        factory.idle.add(self)
        self._heard = factory.clock.seconds()
        transport.registerProducer(self, True)
        if isinstance(transport, TLSMemoryBIOProtocol):
            self._handshake = self._session.open()
        else:
            self._apply(self._session.open())

    def _converse(self, *, secure: bool) -> Session:
        factory = self.factory
        return Session(factory.policy, Surroundings(
            factory.hostname, self.peer, secure, factory.now_ms, factory.new_id,
            can_start_tls=factory.tls is not None and not secure))

    def handshakeCompleted(self) -> None:
        """TLS stands: begin, or go on."""
        if self._handshake is None or self._closing is not None:
            return
        effects, self._handshake = self._handshake, None
        self._heard = self.factory.clock.seconds()
        self.tls = secured(self.transport)
        self._apply(effects)

    def dataReceived(self, data: bytes) -> None:
        """Take octets; what can be answered at once is answered in this turn, in one write."""
        if self._closing is not None:
            return
        self._heard = self.factory.clock.seconds()
        self._session.receive(data)
        self._run()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget a message that was not all there. One that is being stored is stored."""
        if self._handshake is not None and (why := hindrance(self.transport, reason)):
            log.info("no TLS with {peer}: {why}", peer=self.peer, why=shown(why))
        self.transport = None
        self._session.hang_up()
        if not self._session.committing:
            self._abort()
            self._leave()

    # The transport's wish for silence (IPushProducer): its buffer is full, or empty again
    def pauseProducing(self) -> None:
        """Stop answering until the client has taken what is sent."""
        self._congested = self.factory.clock.seconds()

    def resumeProducing(self) -> None:
        """Go on: the client took everything."""
        self._congested = None
        self._heard = self.factory.clock.seconds()
        self._run()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost follows."""

    def tick(self, now: float) -> None:
        """Cut a client that takes nothing or does not let go; take leave of one that is silent."""
        policy = self.factory.policy
        stuck = self._closing if self._closing is not None else self._congested
        if stuck is not None:
            if now - stuck >= policy.progress_seconds:
                self.cut()
        elif not self._session.asking and now - self._heard >= policy.idle_seconds:
            if self._handshake is not None:
                self.cut()
            else:
                self._apply(self._session.stop(replies.IDLE_TOO_LONG))

    def dismiss(self) -> None:
        """Close for a shutdown; a message that is being stored is answered first."""
        if self._handshake is not None:
            self.cut()
        elif self._session.committing:
            self._dismissed = True
        elif self._closing is None:
            self._apply(self._session.stop(replies.STOPPING))

    def cut(self) -> None:
        """End the connection at once; what was not taken yet is lost. Never while committing."""
        if self.transport is not None and not self._session.committing:
            self._closing = self.factory.clock.seconds()
            self.transport.abortConnection()

    # Turns ----------------------------------------------------------------------------------

    def _run(self) -> None:
        """Advance the session while there is something to do and room for answers."""
        session = self._session
        while not session.asking and self._congested is None and self._closing is None:
            effects = session.advance()     # of a conversation that TLS has ended: nothing
            if not effects:
                break
            self._apply(effects)
        if self._closing is None and self.transport is not None:
            self._bound_backlog()

    def _bound_backlog(self) -> None:
        """Read on only while few pipelined octets wait and the store takes what it is given."""
        full = self._session.writing or self._session.pending > self.factory.policy.backlog_octets
        if full != self._paused:
            self._paused = full
            if full:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def _apply(self, effects: list[Effect]) -> None:
        """Carry out a turn: its octets leave in one write; an ask that is answered at once goes on."""
        octets: list[bytes] = []
        while effects:
            result = _LATER
            for effect in effects:
                if isinstance(effect, bytes):
                    octets.append(effect)
                elif isinstance(effect, Signal):
                    if effect is CLOSE:
                        self._write(b"".join(octets))
                        self._close()
                        return
                    if effect is START_TLS:
                        self._start_tls(b"".join(octets))
                        return
                    self._abort()
                elif isinstance(effect, Delivered):
                    self._note(effect)
                else:
                    result = self._perform(effect)
            effects = self._session.outcome(result) if result is not _LATER else []
        self._write(b"".join(octets))

    def _write(self, octets: bytes) -> None:
        """The one way by which octets leave."""
        if octets and self.transport is not None and self._closing is None:
            self.transport.write(octets)

    def _start_tls(self, octets: bytes) -> None:
        """Begin the conversation anew inside TLS."""
        if self._session.pending:
            # Said in clear behind STARTTLS, by whoever could reach the wire: never to be executed.
            log.info("octets behind STARTTLS from {peer}", peer=self.peer)
            self.cut()
        elif self.transport is not None:
            self._write(octets)
            self._session = self._converse(secure=True)
            self._handshake = []
            self.transport.startTLS(self.factory.tls)
            self._congested = None      # what was sent in clear is taken before TLS can begin

    def _close(self) -> None:
        self._closing = self.factory.clock.seconds()
        if self.transport is not None:
            if self._paused:
                self._paused = False
                self.transport.resumeProducing()    # inside TLS the client's farewell has to be read
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def _leave(self) -> None:
        self.factory.idle.discard(self)
        self.factory.ended()

    # Asks -------------------------------------------------------------------------------------

    def _perform(self, ask: Ask) -> object:
        """Begin what the session asks for; return its result or fault, or _LATER."""
        try:
            pending = self._begin(ask)
        except Exception:
            return as_fault(Failure())
        return self._now_or_later(pending) if isinstance(pending, Deferred) else pending

    def _begin(self, ask: Ask) -> object:
        if isinstance(ask, Route):
            return self.factory.router.route(ask.path)
        if isinstance(ask, Learn):
            return ask.outcome
        if self._delivery is None:
            self._delivery = self.factory.store.deliver()
        if isinstance(ask, Write):
            return self._delivery.write(ask.content)
        delivery, self._delivery = self._delivery, None
        return delivery.commit(ask.placements, delivery_id=ask.delivery_id)

    def _now_or_later(self, pending: Deferred[Any]) -> object:
        """Return what the Deferred has, or _LATER when it comes by `_answered`.

        What is there already is taken in the caller's loop: a client that pipelines makes no
        recursion.
        """
        arrived: list[object] = []
        waiting = False

        def take(result: object) -> None:
            fault_or_result = as_fault(result) if isinstance(result, Failure) else result
            if waiting:
                self._answered(fault_or_result)
            else:
                arrived.append(fault_or_result)

        pending.addBoth(take)
        waiting = True
        return arrived[0] if arrived else _LATER

    def _answered(self, result: object) -> None:
        """Take an outcome that came later. Only that of a commit matters when the client is gone."""
        session = self._session
        if (self.transport is None or self._closing is not None) and not session.committing:
            return
        self._heard = self.factory.clock.seconds()
        self._apply(session.outcome(result))
        if session.committing:
            return
        if self.transport is None:
            self._leave()
        elif self._dismissed:
            self.dismiss()
        else:
            self._run()

    def _abort(self) -> None:
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            delivery.abort()

    def _note(self, told: Delivered) -> None:
        """Write the one log line of a message."""
        fates = [f"<{shown(path)}> {_fate(fault)}" for path, fault in told.fates[:LOGGED_RECIPIENTS]]
        more = len(told.fates) - len(fates)
        peer = (self.peer or "unix socket") + (f" ({self.tls})" if self.tls else "")
        log.info("{id}: from <{sender}> by {peer}, {octets} octets, {stored} of {recipients} stored: {fates}",
                 id=told.delivery_id, sender=shown(told.sender), peer=peer,
                 octets=told.octets, stored=sum(fault is None for _, fault in told.fates),
                 recipients=len(told.fates), fates=", ".join(fates) + (f", {more} more" if more else ""))


def _fate(fault: BaseException | None) -> str:
    return "stored" if fault is None else f"refused ({type(fault).__name__}: {shown(str(fault))})"


class LMTPFactory(Factory):
    """Serves a store and the router that knows its recipients.

    `hostname` is ASCII: our name in greeting and Received fields. `clock`: IReactorTime, the global
    reactor unless given; it also tells arrival times, so that its seconds are those since 1970.
    `new_id` may be replaced: it makes delivery ids, from arrival times in milliseconds.
    """

    noisy = False

    def __init__(self, store: IMaildropStore, router: IRouter, *, hostname: str,
                 policy: LmtpPolicy = LmtpPolicy(), clock: IReactorTime | None = None,
                 tls: Any = None) -> None:
        if clock is None:
            from twisted.internet import reactor
            clock = IReactorTime(reactor)
        self.store = store
        self.router = router
        self.hostname = hostname
        self.policy = policy
        self.tls = tls
        self.clock: Any = clock
        self.new_id: Callable[[int], str] = fresh_id
        self.idle = IdleClock(self.clock, policy.idle_seconds, policy.progress_seconds)
        self._stopping = False
        self._all_gone: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """Return a connection's protocol; None while stopping, and then it is closed."""
        return None if self._stopping else LMTPProtocol(self)

    def now_ms(self) -> int:
        """Return milliseconds since 1970, UTC."""
        return int(self.clock.seconds() * 1000)

    def shutdown(self) -> Deferred[None]:
        """Tell every client and close; messages being stored are answered first. Fires when all are gone."""
        self._stopping = True
        for connection in list(self.idle.watched):
            connection.dismiss()
        if not self.idle.watched:
            return succeed(None)
        self._all_gone = Deferred()
        grace = self.clock.callLater(STOP_GRACE_SECONDS, self._cut_all)

        def ungrace(result: None) -> None:
            if grace.active():
                grace.cancel()

        return self._all_gone.addBoth(ungrace)

    def ended(self) -> None:
        """Note that a connection is gone."""
        if self._all_gone is not None and not self.idle.watched:
            gone, self._all_gone = self._all_gone, None
            gone.callback(None)

    def _cut_all(self) -> None:
        for connection in list(self.idle.watched):
            connection.cut()


def fresh_id(arrived_ms: int) -> str:
    """Return a delivery id that no other process makes: the time, then chance, in hexadecimal."""
    return f"{arrived_ms:011X}-{secrets.token_hex(6).upper()}"
