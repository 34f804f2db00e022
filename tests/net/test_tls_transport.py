"""TLS from the first octet, over real sockets: what leaves when, in which order; and the names of Twisted."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import ssl
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.trial.unittest import TestCase

from mailgate.net.tls import TLSFactory
from mailgate.net.tls_transport import RECORD_OCTETS, TLSTransport
from mailgate.testing.certificates import Authority
from tests.net.secure import NAME, client_context, server_tls

TURNS = 30_000      # of the reactor, that a test waits for what has to come
PATIENCE_SECONDS = 60


class Inner(Protocol):
    """What is inside: keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost: Deferred[object] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(None)


class RealTests(TestCase):
    """A server of one connection, and the client's socket and TLS."""

    async def setUp(self) -> None:
        authority = Authority("test")
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.inner = Inner()
        wrapped = Factory()
        wrapped.buildProtocol = lambda addr: self.inner     # type: ignore[method-assign]
        factory = TLSFactory(server_tls(authority.issue(NAME), Path(folder.name)), wrapped, reactor)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.client = socket.create_connection(("127.0.0.1", port.getHost().port))
        self.addCleanup(self.client.close)
        self.client.setblocking(False)
        self.coming, self.going = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_context(authority).wrap_bio(self.coming, self.going, server_hostname=NAME)
        await self.until(lambda: self.inner.transport is not None)
        self.layer: Any = self.inner.transport
        self.layer.setTcpNoDelay(True)      # as every connection of ours
        self.addCleanup(self.end)

    async def end(self) -> None:
        if not self.inner.lost.called:
            self.layer.abortConnection()
            await self.inner.lost

    async def until(self, there: Any) -> None:
        for _ in range(TURNS):
            if there():
                return
            await deferLater(reactor, 0.002, lambda: None)
        self.fail("it did not come")

    def arrived(self) -> bytes:
        """Return what lies in the client's socket, as it is."""
        try:
            return self.client.recv(1 << 20)
        except BlockingIOError:
            return b""

    async def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                if flight := self.going.read():
                    self.client.sendall(flight)
                await deferLater(reactor, 0.002, lambda: None)
                self.coming.write(self.arrived())
        self.client.sendall(self.going.read())
        await self.until(lambda: self.layer._handshakeDone)
        await deferLater(reactor, 0.002, lambda: None)

    def read(self, octets: int = 0) -> bytes:
        """Return what was said inside TLS: what has arrived, and so many octets at least.

        Without the reactor having a turn: the kernel may be late, it is not.
        """
        said, arrived = b"", self.arrived()
        while True:
            self.coming.write(arrived)
            with contextlib.suppress(ssl.SSLWantReadError):
                while piece := self.tls.read(1 << 20):
                    said += piece
            if len(said) >= octets:
                return said
            self.await_octets()
            arrived = self.arrived()
            self.assertTrue(arrived, "it ended before")

    def await_octets(self) -> None:
        """Wait until the client's socket has something to read, an end or an error too."""
        readable, _, _ = select.select([self.client], [], [], PATIENCE_SECONDS)
        self.assertTrue(readable, "it did not come")

    def tell(self, octets: bytes) -> None:
        self.tls.write(octets)
        self.client.sendall(self.going.read())

    async def test_the_client_begins(self) -> None:
        """Nothing is said before; what is inside has its transport already."""
        self.assertIs(type(self.layer), TLSTransport)
        self.assertTrue(self.inner.connected)
        self.assertEqual((self.arrived(), self.layer.getHandle().begun), (b"", False))
        await self.shake_hands()
        self.assertEqual(self.read(), b"")

    async def test_a_reply_leaves_without_a_turn_of_the_reactor(self) -> None:
        await self.shake_hands()
        self.layer.write(b"+OK one\r\n")
        self.layer.writeSequence([b"+OK ", b"two\r\n"])
        self.assertEqual(self.read(18), b"+OK one\r\n+OK two\r\n")
        self.tell(b"QUIT\r\n")
        await self.until(lambda: self.inner.heard == b"QUIT\r\n")

    async def test_what_is_written_before_the_handshake(self) -> None:
        """It comes first behind it."""
        self.layer.write(b"+OK early\r\n")
        self.assertEqual(self.arrived(), b"")
        await self.shake_hands()
        self.layer.write(b"+OK late\r\n")
        await deferLater(reactor, 0.002, lambda: None)
        self.assertEqual(self.read(21), b"+OK early\r\n+OK late\r\n")

    async def test_small_and_large_in_order(self) -> None:
        """Nothing overtakes what waits for room in the socket, to a client that reads late."""
        await self.shake_hands()
        random_ = random.Random(1)
        sizes = [random_.choice((1, 5, 900, RECORD_OCTETS - 1, RECORD_OCTETS, RECORD_OCTETS + 1, 70_000))
                 for _ in range(300)]
        pieces = [random_.randbytes(size) for size in sizes]
        self.layer.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        for piece in pieces:
            self.layer.write(piece)
        self.assertTrue(self.layer.transport.dataBuffer or self.layer.transport._tempDataBuffer)
        self.layer.loseConnection()
        self.client.setblocking(True)
        self.client.settimeout(PATIENCE_SECONDS)
        self.assertEqual(await deferToThread(self.read_to_the_end), b"".join(pieces))

    async def test_the_end(self) -> None:
        """TLS is closed before TCP is, and the protocol is told once."""
        await self.shake_hands()
        self.layer.write(b"+OK goodbye\r\n")
        self.layer.loseConnection()
        self.client.setblocking(True)
        self.client.settimeout(PATIENCE_SECONDS)
        self.assertEqual(await deferToThread(self.read_to_the_end), b"+OK goodbye\r\n")
        await self.inner.lost
        await self.until(lambda: self.layer.getHandle() is None)

    async def test_what_is_torn(self) -> None:
        """It has no farewell, by which TLS tells an end from a cut: a message may be half out."""
        await self.shake_hands()
        self.layer.write(b"+OK message follows\r\nhalf of")
        self.layer.abortConnection()
        await self.inner.lost
        self.assertEqual(self.read(28), b"+OK message follows\r\nhalf of")
        self.assertRaises(ssl.SSLWantReadError, self.tls.read)
        self.await_octets()
        self.assertRaises(ConnectionResetError, self.client.recv, 1)

    def read_to_the_end(self) -> bytes:
        """Return what is said until the server's farewell, and answer that."""
        said = bytearray()
        while True:
            try:
                piece = self.tls.read(1 << 20)
                if not piece:
                    break
                said += piece
            except ssl.SSLWantReadError:
                octets = self.client.recv(1 << 16)
                self.assertTrue(octets, "TCP ended before TLS did")
                self.coming.write(octets)
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass
        self.client.sendall(self.going.read())
        return bytes(said)

    def test_what_it_says_of_itself(self) -> None:
        """The interfaces of the transport beneath, and TLS."""
        self.assertTrue(ISSLTransport.providedBy(self.layer))
        self.assertTrue(ITCPTransport.providedBy(self.layer))


class NamesTests(TestCase):
    """Were these to change, ours would be beside the point."""

    def connected(self, kind: type[TLSMemoryBIOProtocol]) -> TLSMemoryBIOProtocol:
        authority = Authority("test")
        with TemporaryDirectory() as folder:
            factory = TLSMemoryBIOFactory(server_tls(authority.issue(NAME), Path(folder)), False,
                                          Factory.forProtocol(Inner), reactor)
        factory.protocol = kind
        layer: Any = factory.buildProtocol(None)
        layer.makeConnection(StringTransport())
        self.assertEqual(list(factory.protocols), [layer])
        return layer

    def test_a_connection(self) -> None:
        """Has all that Twisted's own has by then."""
        theirs, ours = self.connected(TLSMemoryBIOProtocol), self.connected(TLSTransport)
        self.assertEqual(set(vars(ours)), set(vars(theirs)))
        for name in ("connected", "_appSendBuffer", "_connectWrapped", "_aborted"):
            self.assertEqual(getattr(ours, name), getattr(theirs, name), name)

    def test_what_is_overridden(self) -> None:
        for name in ("makeConnection", "_flushSendBIO"):
            self.assertIn(name, vars(TLSMemoryBIOProtocol))
