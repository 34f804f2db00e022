"""Between a socket and the connection on it: TLS that is begun later, with the harness's own reactor.

Twisted's TCP transports begin TLS with the global reactor, which a program that is tested may not have, or
may run itself. A `Line` looks like such a transport and begins TLS with the reactor that it is given.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from mailgate.testing.tls import begin_tls


@implementer(IHalfCloseableProtocol)
class Line(Protocol):
    """A transport for the connection above, a protocol for the socket below."""

    transport: Any

    def __init__(self, inner: Any, clock: Any, *, is_client: bool = False) -> None:
        self._is_client = is_client     # of the connection, and of TLS unless it is said otherwise
        self.protocol = inner           # whom the octets are for: the connection, or TLS in front of it
        self.clock = clock
        self.tls: Any = None
        self.producer: Any = None
        self.streaming = False

    def __getattr__(self, name: str) -> Any:
        if name in ("transport", "socket") and self.__dict__.get("transport") is None:
            raise AttributeError(name)
        return getattr(self.transport, name)

    # the socket's side
    def connectionMade(self) -> None:
        """Connect what is above."""
        directlyProvides(self, providedBy(self.transport))
        self.protocol.makeConnection(self)

    def dataReceived(self, data: bytes) -> None:
        """Pass octets up."""
        self.protocol.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Pass the end up."""
        self.protocol.connectionLost(reason)

    def readConnectionLost(self) -> None:
        """The client has closed its half. Inside TLS that is its end (as it is for Twisted's own)."""
        above = None if isinstance(self.protocol, TLSMemoryBIOProtocol) else IHalfCloseableProtocol(
            self.protocol, None)
        if above is not None:
            above.readConnectionLost()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our half is never closed alone."""

    # the connection's side
    def write(self, data: bytes) -> None:
        """Send octets."""
        (self.send if self.tls is None else self.tls.write)(data)

    def send(self, data: bytes) -> None:
        """Send octets as they are, beneath TLS."""
        self.transport.write(data)

    def writeSequence(self, data: Any) -> None:
        """Send octets that come in parts."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close when all is out."""
        (self.close if self.tls is None else self.tls.loseConnection)()

    def close(self) -> None:
        """The same beneath TLS."""
        self.transport.loseConnection()

    def startTLS(self, creator: Any, normal: bool = True) -> None:
        """See ITLSTransport."""
        begin_tls(self, creator, is_client=self._is_client == normal)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take the one producer that feeds this."""
        if self.tls is not None:
            self.tls.registerProducer(producer, streaming)
        else:
            self.attach(producer, streaming)

    def attach(self, producer: Any, streaming: bool) -> None:
        """The same beneath TLS."""
        self.producer, self.streaming = producer, streaming
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        (self.detach if self.tls is None else self.tls.unregisterProducer)()

    def detach(self) -> None:
        """The same beneath TLS."""
        self.producer, self.streaming = None, False
        self.transport.unregisterProducer()


class LineFactory(Factory):
    """Puts a `Line` beneath every connection of a factory."""

    noisy = False

    def __init__(self, inner: Any, clock: Any) -> None:
        self._inner = inner
        self._clock = clock

    def buildProtocol(self, addr: Any) -> Any:
        """Return a line, or None where the factory above has no connection to give."""
        above = self._inner.buildProtocol(addr)
        return None if above is None else Line(above, self._clock)
