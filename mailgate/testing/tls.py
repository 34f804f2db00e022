"""TLS between a server and a peer in memory: what a transport's `startTLS` does, without a socket."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import ISSLTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import alsoProvides


class Beneath:
    """A MemoryTransport as the TLS layer on it sees it: what is written here leaves as it is."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send octets of TLS."""
        self._transport.send(data)

    def loseConnection(self) -> None:
        """Close: the farewells of TLS are said."""
        self._transport.close()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take the producer that the TLS layer puts before its own."""
        self._transport.attach(producer, streaming)

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._transport.detach()


def begin_tls(transport: Any, creator: Any, *, is_client: bool = False) -> None:
    """Put TLS between a MemoryTransport and its protocol; `creator` is what Twisted's startTLS takes."""
    producer, streaming = transport.producer, transport.streaming
    if producer is not None:
        transport.detach()
    factory = TLSMemoryBIOFactory(creator, is_client, None, transport.clock)     # type: ignore[arg-type]
    layer = factory.protocol(factory, transport.protocol, False)
    transport.protocol = layer
    transport.getHandle = layer.getHandle
    transport.getPeerCertificate = layer.getPeerCertificate
    alsoProvides(transport, ISSLTransport)
    transport.tls = layer
    layer.makeConnection(Beneath(transport))
    if producer is not None:
        transport.registerProducer(producer, streaming)
