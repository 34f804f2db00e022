"""What every connection does with its transport, whatever is spoken on it.

Octets in and out, in one place each; TLS, from the first octet or later; the transport's wish for
silence; asks that are answered now or later; and the end. What is said is a session's, which the
subclass makes and whose turns it carries out.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.net.faults import as_fault
from mailgate.net.progress import octets_taken
from mailgate.net.relayed import is_secure
from mailgate.net.sending import close_soon, send_at_once
from mailgate.net.tls import Secured, hindrance, secured
from mailgate.wire.shown import shown

LATER = object()           # stands for an outcome that has not come yet
# After so many octets the next go through the reactor: a client that takes all it is sent gives the
# others their turn.
BURST_OCTETS = 512 * 1024

log = Logger()


@implementer(IPushProducer, IHandshakeListener)
class Connection(Protocol):
    """One connection. Slots, because tens of thousands of them are idle at a time.

    Its factory is a `ServerFactory` (mailgate.net.factory) that has a `tls`.
    """

    __slots__ = ("factory", "transport", "connected", "peer", "tls", "_handshake", "_session", "_congested",
                 "_stalled", "_taken", "_paused", "_heard", "_closing", "_burst", "_due")

    def __init__(self, factory: Any) -> None:
        self.factory = factory
        self.transport: Any = None
        self.peer: str | None = None             # the client's address; None over a unix socket
        self.tls: Secured | None = None          # once a handshake is done
        self._handshake: Any = None              # the turn that follows the one that is under way
        self._session: Any = None
        self._congested = False                  # the transport is full
        self._stalled = 0.0                      # since when the client has taken nothing
        self._taken = 0                          # octets it had taken by then
        self._paused = False                     # reading is paused: enough waits already
        self._heard = 0.0                        # time of the last sign of life
        self._closing = False                    # nothing more is said
        self._burst = 0                          # octets that left at once, since others had their turn
        self._due: Any = None                    # the delayed call of a turn that others come before

    # What is spoken here ----------------------------------------------------------------------

    def _converse(self, *, secure: bool) -> Any:
        """Return a new conversation, inside TLS or not."""
        raise NotImplementedError

    def _run(self, turn: Any = ...) -> None:
        """Carry out a turn of the conversation, then those for which there is something to read."""
        raise NotImplementedError

    def _begin(self, ask: Any) -> object:
        """Begin what the session asks for; return the result or its Deferred."""
        raise NotImplementedError

    def _go_on(self, result: object) -> None:
        """Take an outcome that came later than its ask: a value, or a fault."""
        raise NotImplementedError

    # The transport's side ---------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Greet."""
        factory, transport = self.factory, self.transport
        self.peer = getattr(transport.getPeer(), "host", None)
        no_delay = getattr(transport, "setTcpNoDelay", None)
        if no_delay is not None:
            no_delay(True)                       # without it a small reply may wait 40 ms
        self._session = self._converse(secure=is_secure(transport))
        factory.idle.add(self)
        self._heard = factory.clock.seconds()
        transport.registerProducer(self, True)
        if isinstance(transport, TLSMemoryBIOProtocol):
            self._handshake = self._session.open()
        else:
            self._run(self._session.open())

    def handshakeCompleted(self) -> None:
        """TLS stands: greet, or go on."""
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

    def _let_others(self) -> None:
        """Go on when the reactor has served the other connections: this one has had enough for now."""
        if self._due is None:
            self._due = self.factory.clock.callLater(0, self._go_on_now)

    def _go_on_now(self) -> None:
        self._due = None
        self._run()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Have no transport any more; why there was no TLS is told."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._handshake is not None and (why := hindrance(self.transport, reason)):
            log.info("no TLS with {peer}: {why}", peer=self.peer, why=shown(why))
        self.transport = None

    # The transport's wish for silence (IPushProducer): its buffer is full, or empty again
    def pauseProducing(self) -> None:
        """Stop answering until the client has taken what is sent."""
        self._congested = True
        self._stalled = self.factory.clock.seconds()

    def resumeProducing(self) -> None:
        """Go on: the client took everything."""
        self._congested = False
        self._heard = self.factory.clock.seconds()
        self._run()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost follows."""

    def _stuck_seconds(self, now: float) -> float | None:
        """Return how long the client has taken nothing of what it is sent; None: it has all of it."""
        if not (self._closing or self._congested):
            return None
        taken = octets_taken(self.transport)
        if taken is not None and taken != self._taken:
            self._taken, self._stalled = taken, now
        return now - self._stalled

    # Octets out, and the end ------------------------------------------------------------------

    def _write(self, octets: list[bytes]) -> None:
        """Let octets leave, in one write; empties the list."""
        data = b"".join(octets)
        octets.clear()
        self._send(data)

    def _send(self, data: bytes) -> None:
        """Let octets leave. There is no other way out."""
        if not data or self.transport is None or self._closing:
            return
        self._burst += len(data)
        if self._burst <= BURST_OCTETS:
            data = send_at_once(self.transport, data)
        else:
            self._burst = 0
        if data:
            self.transport.write(data)

    def _read_on(self, wanted: bool) -> None:
        """Read, or leave with the client what it says meanwhile."""
        if wanted is self._paused and self.transport is not None and not self._closing:
            self._paused = not wanted
            if wanted:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    def _begin_tls(self, session: Any, turn: Any) -> None:
        """Go on inside TLS with another conversation, and with this turn once TLS stands."""
        self._session = session
        self._handshake = turn
        self.transport.startTLS(self.factory.tls)
        self._congested = False                  # what was sent in clear is taken before TLS can begin

    def _close(self) -> None:
        """Say nothing more; end the connection once what was said is out."""
        self._closing = True
        self._stalled = self.factory.clock.seconds()
        if self.transport is not None:
            if self._paused:
                self._paused = False
                self.transport.resumeProducing()    # inside TLS the client's farewell has to be read
            self.transport.unregisterProducer()
            close_soon(self.transport)

    def cut(self) -> None:
        """End the connection at once; what was not taken yet is lost."""
        self._closing = True
        self._stalled = self.factory.clock.seconds()
        if self.transport is not None:
            self.transport.abortConnection()

    # Asks -------------------------------------------------------------------------------------

    def _perform(self, ask: Any) -> object:
        """Begin what the session asks for; return its result or fault, or LATER."""
        try:
            pending = self._begin(ask)
        except Exception:
            return self._judged(Failure())
        return self._now_or_later(pending) if isinstance(pending, Deferred) else pending

    def _now_or_later(self, pending: Deferred[Any]) -> object:
        """Return what the Deferred has, or LATER when it comes by `_go_on`.

        What is there already is taken in the caller's loop: a client that pipelines makes no
        recursion.
        """
        arrived: list[object] = []
        waiting = False

        def take(result: object) -> None:
            if not waiting:
                arrived.append(result)
                return
            judged = self._judged(result)
            if judged is not LATER:
                self._go_on(judged)

        pending.addBoth(take)
        waiting = True
        return self._judged(arrived[0]) if arrived else LATER

    def _judged(self, result: object) -> object:
        """Turn a failure into its fault. LATER: it is held back, and `_go_on` gets it in time."""
        return as_fault(result) if isinstance(result, Failure) else result
