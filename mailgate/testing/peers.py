"""A connection in memory: the transport a server writes to, and the peer at the other end.

Nothing here opens a socket or needs a reactor. `MemoryTransport` keeps the rules of Twisted's TCP
transport that servers come to rely on: it tells a producer to pause when 64 KiB wait, tells it to
go on when all has left, closes only after the last octet, and stops a producer before it reports
the loss. `Peer` plays the client: it says octets in any pieces, reads at any pace, or vanishes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IProtocolFactory,
    IPushProducer,
    ITLSTransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.testing.tls import begin_tls

HIGH_WATER_OCTETS = 65536   # twisted.internet.abstract.FileDescriptor.bufferSize
READ_OCTETS = 65536         # most that one dataReceived is given: twisted.internet.tcp.Connection.bufferSize

LOOPBACK = IPv4Address("TCP", "127.0.0.1", 40110)
FAR_AWAY = IPv4Address("TCP", "203.0.113.7", 40110)
SERVER = IPv4Address("TCP", "127.0.0.1", 110)

Address = IPv4Address | IPv6Address | UNIXAddress
EVERYTHING = 1 << 62


@implementer(ITLSTransport, IConsumer, IPushProducer)
class MemoryTransport:
    """The server's end. Octets wait in it until the `Peer` takes them.

    `writes` counts calls that brought octets. `late` keeps what was written after `loseConnection`:
    such octets never reach a peer behind TLS, so a server should write none.
    """

    def __init__(self, peer: IAddress, host: IAddress, high_water_octets: int = HIGH_WATER_OCTETS) -> None:
        self.protocol: Any = None       # whom the octets are for: the server, or TLS in front of it
        self.clock: Any = None          # of the peer
        self.tls: Any = None            # the layer that startTLS put between
        self.connected = True
        self.disconnecting = False      # loseConnection was called
        self.aborting = False
        self.reading = True             # False: the server asked for a pause
        self.waiting = 0                # octets written and not yet taken
        self.octets_taken = 0           # octets the peer took, ever
        self.writes = 0
        self.late = b""
        self.no_delay = False
        self.producer: Any = None       # an IPushProducer if streaming, else an IPullProducer
        self.streaming = False
        self.producer_paused = False
        self._drained = False           # all has left since a producer was last told to go on
        self._addresses = peer, host
        self._high_water = high_water_octets
        self._outbox: deque[bytes] = deque()

    # What the server calls -----------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Queue octets; pauses a streaming producer once more than the high-water mark wait."""
        if self.tls is not None:
            self.tls.write(data)
            return
        self.send(data)

    def send(self, data: bytes) -> None:
        """Queue octets as they are, beneath TLS."""
        if not isinstance(data, bytes):
            raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
        if not self.connected or self.aborting or not data:
            return
        if self.disconnecting:
            self.late += data
            return
        self.writes += 1
        self.waiting += len(data)
        self._outbox.append(data)
        if self.streaming and not self.producer_paused and self.waiting > self._high_water:
            self.producer_paused = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Queue octets that come in parts, as one write."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close once everything written has been taken and no paused producer is left."""
        if self.tls is not None:
            self.tls.loseConnection()
        else:
            self.close()

    def close(self) -> None:
        """The same beneath TLS."""
        if self.connected:
            self.disconnecting = True
            self.reading = False

    def abortConnection(self) -> None:
        """Close at once; what waits is lost."""
        if self.connected:
            self.disconnecting = self.aborting = True
            self.reading = False

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        """Put TLS between server and peer, the server's side at the server, as Twisted's transports do."""
        begin_tls(self, contextFactory)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take the one producer that feeds this transport."""
        if self.tls is not None:
            self.tls.registerProducer(producer, streaming)
        else:
            self.attach(producer, streaming)

    def attach(self, producer: Any, streaming: bool) -> None:
        """The same beneath TLS."""
        if self.producer is not None:
            raise RuntimeError("a producer is registered already")
        if not self.connected:
            producer.stopProducing()
            return
        self.producer, self.streaming, self.producer_paused = producer, streaming, False
        self._drained = False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        if self.tls is not None:
            self.tls.unregisterProducer()
        else:
            self.detach()

    def detach(self) -> None:
        """The same beneath TLS."""
        self.producer, self.streaming, self.producer_paused = None, False, False

    def pauseProducing(self) -> None:
        """Deliver nothing more to the server until `resumeProducing`."""
        self.reading = False

    def resumeProducing(self) -> None:
        """Deliver again what the peer says."""
        if self.connected and not self.disconnecting:
            self.reading = True

    def stopProducing(self) -> None:
        """Close, as a producer that is told to stop."""
        self.loseConnection()

    def getPeer(self) -> Any:    # any IAddress: ITCPTransport names IP addresses only
        """Return the client's address."""
        return self._addresses[0]

    def getHost(self) -> Any:
        """Return the server's address."""
        return self._addresses[1]

    def loseWriteConnection(self) -> None:
        """Half-closing is not played here: the whole connection goes."""
        self.loseConnection()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Remember the option."""
        self.no_delay = bool(enabled)

    def getTcpNoDelay(self) -> bool:
        """Return the option."""
        return self.no_delay

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Ignored: there is no line to keep alive."""

    def getTcpKeepAlive(self) -> bool:
        """Return False."""
        return False

    # What the peer calls -------------------------------------------------------------------

    def take(self, most: int) -> bytes:
        """Return up to `most` octets that wait, and free their room."""
        parts = []
        while most > 0 and self._outbox:
            part = self._outbox.popleft()
            if len(part) > most:
                self._outbox.appendleft(part[most:])
                part = part[:most]
            parts.append(part)
            most -= len(part)
        taken = b"".join(parts)
        self.waiting -= len(taken)
        self.octets_taken += len(taken)
        self._drained = self._drained or bool(taken and not self.waiting)
        return taken

    def wants_more(self) -> bool:
        """Tell a producer to go on if everything has left; return whether one was told."""
        if not self._drained or self.waiting:
            return False
        self._drained = False
        if self.producer is None or (self.streaming and not self.producer_paused):
            return False
        self.producer_paused = False
        self.producer.resumeProducing()
        return True

    def drop(self) -> None:
        """The connection is gone: forget what waits, and stop the producer."""
        self.connected = self.reading = False
        self._outbox.clear()
        self.waiting = 0
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()


class Peer:
    """The client's end of one connection to a server made by `factory`.

    `received` holds what came (or every piece goes to `sink` instead), `closed` tells whether the
    connection ended. `reading_octets` is how much of what waits the peer takes whenever things
    move: everything, unless it is set to less; with 0 only `take` reads. An exception that leaves
    the server's `dataReceived` leaves `say` too, where a reactor would log it and hang up.
    """

    def __init__(self, factory: IProtocolFactory, *, clock: Clock | None = None,
                 address: Address = LOOPBACK, reading_octets: int = EVERYTHING,
                 sink: Callable[[bytes], object] | None = None) -> None:
        self.clock = clock if clock is not None else Clock()
        self.received = bytearray()
        self.closed = False
        self.reason: Failure | None = None
        self.reading_octets = reading_octets
        self.sink: Callable[[bytes], object] = sink if sink is not None else self.received.extend
        self._inbox: deque[bytes] = deque()
        self.transport = MemoryTransport(address, SERVER)
        self.transport.clock = self.clock
        protocol = factory.buildProtocol(address)
        if protocol is None:
            raise ConnectionRefusedError("the factory built no protocol")
        self.protocol = self.transport.protocol = protocol
        protocol.makeConnection(self.transport)
        self.settle()

    @property
    def unheard(self) -> int:
        """Octets that were said and that the server did not take yet."""
        return sum(map(len, self._inbox))

    def say(self, octets: bytes, piece_octets: int = READ_OCTETS) -> None:
        """Send octets, in segments of `piece_octets`, as far as the server reads."""
        self._inbox.extend(octets[at:at + piece_octets] for at in range(0, len(octets), piece_octets))
        self.settle()

    @property
    def heard(self) -> bool:
        """Whether the server takes what is said at the moment."""
        return self.transport.reading and not self.closed

    def take(self, most: int) -> None:
        """Read up to `most` octets of what waits, whatever the pace of reading, and see what follows."""
        self.sink(self.transport.take(most))
        self.settle()

    def advance(self, seconds: float, step_seconds: float = 1.0) -> None:
        """Let time pass in small steps, as a reactor would, and see what follows each."""
        remaining = seconds
        while remaining > 0:
            self.clock.advance(min(step_seconds, remaining))
            remaining -= step_seconds
            self.settle()

    def vanish(self, reason: Exception | None = None) -> None:
        """End the connection from this side; what was said and not heard is lost."""
        if not self.closed:
            self._lost(ConnectionLost() if reason is None else reason)
        self.settle()

    def settle(self) -> None:
        """Move octets both ways until nothing moves any more; calls due now are made."""
        moving = True
        while moving:
            self.clock.advance(0)
            moving = self._hear() | self._speak() | self._end()

    def _hear(self) -> bool:
        octets = self.transport.take(self.reading_octets) if self.reading_octets else b""
        if octets:
            self.sink(octets)
        return (not self.closed and self.transport.wants_more()) or bool(octets)

    def _speak(self) -> bool:
        if not self.heard or not self._inbox:
            return False
        self.transport.protocol.dataReceived(self._inbox.popleft())
        return True

    def _end(self) -> bool:
        transport = self.transport
        if self.closed or not transport.disconnecting:
            return False
        if transport.aborting:
            self._lost(ConnectionAborted())
        elif not transport.waiting and (
                transport.producer is None or (transport.streaming and not transport.producer_paused)):
            self._lost(ConnectionDone())
        return self.closed

    def _lost(self, reason: Exception) -> None:
        self.closed = True
        self.reason = Failure(reason)
        self._inbox.clear()
        self.transport.drop()
        self.transport.protocol.connectionLost(self.reason)
