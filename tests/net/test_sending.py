"""Octets that leave at once, over real sockets."""

from __future__ import annotations

import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.tcp import Server
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mailgate.net.connection import BURST_OCTETS, Connection
from mailgate.net.factory import ServerFactory
from mailgate.net.sending import close_soon, send_at_once
from mailgate.testing.certificates import Authority
from tests.net.secure import NAME, server_tls

PATIENCE_SECONDS = 60       # of a client that waits for octets


class _Accepting(Factory):
    """Fires `accepted` with the transport of its first connection."""

    def __init__(self) -> None:
        self.accepted: Deferred[Any] = Deferred()

    def buildProtocol(self, addr: object) -> Protocol:
        accepted = self.accepted

        class Accepted(Protocol):
            def connectionMade(self) -> None:
                accepted.callback(self.transport)

        return Accepted()


class _WithTransport(TestCase):
    """A server's transport, and the client's socket at its other end."""

    async def setUp(self) -> None:
        factory = _Accepting()
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.client = socket.create_connection(("127.0.0.1", port.getHost().port))
        self.addCleanup(self.client.close)
        self.client.settimeout(PATIENCE_SECONDS)
        self.transport = await factory.accepted
        self.addCleanup(self.transport.abortConnection)

    def _arrived(self) -> bytes:
        """Return what lies in the client's socket."""
        self.client.setblocking(False)
        try:
            return self.client.recv(1 << 20)
        except BlockingIOError:
            return b""
        finally:
            self.client.settimeout(PATIENCE_SECONDS)

    def _arrives(self, octets: int) -> bytes:
        """Return so many octets without the reactor having a turn: the kernel may be late, it is not."""
        return self.client.recv(octets, socket.MSG_WAITALL)


class SendAtOnceTests(_WithTransport):
    def test_leaves_without_a_turn_of_the_reactor(self) -> None:
        self.assertEqual(send_at_once(self.transport, b"+OK\r\n"), b"")
        self.assertEqual(self._arrives(5), b"+OK\r\n")

    def test_nothing_overtakes_what_is_queued(self) -> None:
        self.transport.write(b"first ")
        self.assertEqual(send_at_once(self.transport, b"second"), b"second")
        self.assertEqual(self._arrived(), b"")

    async def test_what_the_socket_does_not_take_is_handed_back(self) -> None:
        octets = bytes(range(256)) * 65536       # 16 MiB, to a client that does not read yet
        self.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        rest = send_at_once(self.transport, octets)
        self.assertTrue(0 < len(rest) < len(octets))
        self.transport.write(rest)
        self.transport.loseConnection()
        self.assertEqual(await deferToThread(self._read_all), octets)

    def _read_all(self) -> bytes:
        pieces = []
        while piece := self.client.recv(1 << 20):
            pieces.append(piece)
        return b"".join(pieces)

    def test_nothing_leaves_a_connection_that_is_being_closed(self) -> None:
        self.transport.loseConnection()
        self.assertEqual(send_at_once(self.transport, b"late"), b"late")

    def test_nothing_goes_past_tls(self) -> None:
        issued = Authority("test").issue(NAME)
        with TemporaryDirectory() as folder:
            self.transport.startTLS(server_tls(issued, Path(folder)))
        self.assertEqual(send_at_once(self.transport, b"secret"), b"secret")
        self.assertEqual(self._arrived(), b"")

    def test_a_lost_connection_is_left_to_the_transport(self) -> None:
        self.transport.socket.shutdown(socket.SHUT_WR)
        self.assertEqual(send_at_once(self.transport, b"late"), b"late")

    def test_other_transports_write_for_themselves(self) -> None:
        self.assertEqual(send_at_once(StringTransport(), b"here"), b"here")

    def test_the_names_that_tell_of_a_queue(self) -> None:
        # were they to change, everything would be taken for queued, or nothing: order is at stake
        self.assertIs(type(self.transport), Server)
        self.assertEqual((self.transport._tempDataBuffer, self.transport.dataBuffer), ([], b""))
        self.transport.write(b"queued")
        self.assertEqual(self.transport._tempDataBuffer, [b"queued"])


class CloseSoonTests(_WithTransport):
    """A connection with nothing to send is lost without waiting for room to send it."""

    async def test_idle(self) -> None:
        """The client finds the end behind what was sent, and the protocol is told once, as ever."""
        lost: list[Failure] = []
        self.transport.protocol.connectionLost = lost.append
        send_at_once(self.transport, b"+OK goodbye\r\n")
        close_soon(self.transport)
        self.assertEqual((lost, self.transport.disconnecting), ([], True))      # not in the caller's midst
        self.assertEqual(send_at_once(self.transport, b"late"), b"late")
        self.assertEqual(await deferToThread(self._all), b"+OK goodbye\r\n")
        self.assertEqual([type(failure.value) for failure in lost], [ConnectionDone])
        self.assertNotIn(self.transport, reactor.getReaders() + reactor.getWriters())

    async def test_what_is_queued_is_sent_first(self) -> None:
        self.transport.write(b"queued")
        close_soon(self.transport)
        self.assertEqual(await deferToThread(self._all), b"queued")

    async def test_lost_before_its_turn(self) -> None:
        """The transport's own end, in the same turn, is the only one."""
        lost: list[Failure] = []
        self.transport.protocol.connectionLost = lost.append
        close_soon(self.transport)
        self.transport.abortConnection()
        await deferLater(reactor, 0.01, lambda: None)
        self.assertEqual(len(lost), 1)

    def test_other_transports(self) -> None:
        other = StringTransport()
        close_soon(other)
        self.assertTrue(other.disconnecting)

    def _all(self) -> bytes:
        pieces = []
        while piece := self.client.recv(4096):
            pieces.append(piece)
        return b"".join(pieces)


class BurstTests(_WithTransport):
    async def test_others_get_their_turn(self) -> None:
        """A client that takes everything at once is congested after a burst all the same."""
        connection = Connection(ServerFactory(reactor))
        connection.transport = self.transport
        connection._session = None
        connection._run = lambda turn=None: None        # type: ignore[method-assign]
        self.transport.registerProducer(connection, True)
        reading = deferToThread(self._read_exactly, 2 * BURST_OCTETS)
        written = 0
        while not connection._congested and written < 2 * BURST_OCTETS:
            connection._write([b"x" * 32768])
            written += 32768
        self.assertTrue(connection._congested)
        self.assertLessEqual(written, BURST_OCTETS + 4 * 32768)
        connection._congested = False
        connection._write([b"x" * (2 * BURST_OCTETS - written)])
        self.assertEqual(await reading, 2 * BURST_OCTETS)
        self.transport.unregisterProducer()

    def _read_exactly(self, octets: int) -> int:
        read = 0
        while read < octets and (piece := self.client.recv(65536)):
            read += len(piece)
        return read
