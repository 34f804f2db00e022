"""The same server over TCP on loopback: what only a kernel between the two ends can show."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.pop3.maildrops import Mail, mail_of
from tests.pop3.staging import Server

LARGE = Mail(b"Subject: large\r\n\r\n" + (b"x" * 98 + b"\r\n") * 200_000, streamed=True)    # 20 MB
PATIENCE_TURNS = 12_000     # turns of the reactor, 5 ms each, that a test waits for something


class RealSocketTests(TestCase):
    """Sockets are real; the server's clock is the test's, so that minutes pass at once."""

    timeout = 110

    def serve(self, mails: list[Mail]) -> Server:
        """Listen, and stop when the test ends."""
        server = Server(mails)
        self.clock = server.clock
        self.port = reactor.listenTCP(0, server.factory, interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        return server

    def connect(self, receive_octets: int | None = None) -> socket.socket:
        """Return a connected client socket that never blocks; its kernel buffer may be small."""
        client = socket.socket()
        if receive_octets is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_octets)
        client.connect(("127.0.0.1", self.port.getHost().port))
        client.setblocking(False)
        self.addCleanup(client.close)
        return client

    @inlineCallbacks
    def until(self, true: Callable[[], bool]) -> Any:
        """Let the reactor turn until something is true."""
        for _ in range(PATIENCE_TURNS):
            if true():
                return
            self.clock.advance(0)
            yield deferLater(reactor, 0.005, lambda: None)
        self.fail("it never came")

    @inlineCallbacks
    def read(self, client: socket.socket, octets: int) -> Any:
        """Read so many octets, or to the end of the connection if `octets` is more than comes."""
        received = bytearray()
        ended = False

        def more() -> bool:
            nonlocal ended
            while len(received) < octets and not ended:
                try:
                    piece = client.recv(min(65536, octets - len(received)))
                except BlockingIOError:
                    return False
                except ConnectionResetError:
                    piece = b""
                ended = not piece
                received.extend(piece)
            return True

        yield self.until(more)
        return bytes(received)

    @inlineCallbacks
    def log_in(self, server: Server, client: socket.socket) -> Any:
        """Log in and read every reply."""
        client.sendall(b"USER mrose\r\nPASS secret\r\nNOOP\r\n")
        received = b""
        while received.count(b"\r\n") < 4:
            received += yield self.read(client, 1)

    @inlineCallbacks
    def gone(self, server: Server) -> Any:
        """Wait until nothing is left of any session."""
        yield self.until(lambda: not server.left_behind())

    @inlineCallbacks
    def test_slow_reader_is_not_cut(self) -> Any:
        """A client that takes 40,000 octets a minute is slow; it has not stopped (RFC 1939 section 3)."""
        server = self.serve([LARGE])
        client = self.connect(receive_octets=8192)
        yield self.log_in(server, client)
        client.sendall(b"RETR 1\r\n")
        for _ in range(30):
            received = yield self.read(client, 40_000)
            self.assertEqual(len(received), 40_000)
            for _ in range(6):
                server.clock.advance(10)
                yield deferLater(reactor, 0.002, lambda: None)
        client.close()
        yield self.gone(server)

    @inlineCallbacks
    def test_client_that_stops_reading_is_cut(self) -> Any:
        """A client that takes nothing is cut, though the kernel took much for it; nothing stays open."""
        server = self.serve([LARGE])
        client = self.connect(receive_octets=8192)
        yield self.log_in(server, client)
        client.sendall(b"RETR 1\r\n")
        yield self.read(client, 10_000)
        for _ in range(20):     # what fits between the two ends has gone there, or nearly all of it
            yield deferLater(reactor, 0.01, lambda: None)
        for _ in range(50):     # less than the time of a session that is idle
            server.clock.advance(10)
            yield deferLater(reactor, 0.002, lambda: None)
            if not server.left_behind():
                break
        yield self.gone(server)
        self.assertEqual(len(server.realm.opened), 1)
        rest = yield self.read(client, 1 << 30)
        self.assertFalse(rest.endswith(b"\r\n.\r\n"))

    @inlineCallbacks
    def test_large_message_and_pipelined_commands(self) -> Any:
        """20 MB in order, then what was pipelined behind it, while the client sends on."""
        server = self.serve([LARGE, mail_of(120)])
        client = self.connect()
        yield self.log_in(server, client)
        client.sendall(b"RETR 1\r\n" + b"NOOP\r\n" * 3000 + b"DELE 2\r\nQUIT\r\n")
        received = yield self.read(client, 1 << 30)
        status, rest = received.split(b"\r\n", 1)
        self.assertTrue(status.startswith(b"+OK "))
        self.assertTrue(rest.startswith(LARGE.wire + b".\r\n"))
        self.assertEqual(rest[len(LARGE.wire) + 3:].count(b"+OK "), 3002)
        yield self.gone(server)
        self.assertEqual(server.drop.removed, [2])

    @inlineCallbacks
    def test_client_that_resets(self) -> Any:
        """A client that resets the connection in the middle of everything leaves nothing."""
        server = self.serve([LARGE])
        for octets in (b"", b"USER mrose\r\n", b"RETR 1\r\n", b"DELE 1\r\nRETR 1\r\n" * 500):
            client = self.connect()
            if octets:
                yield self.log_in(server, client)
                client.sendall(octets)
                yield deferLater(reactor, 0.02, lambda: None)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            yield self.gone(server)
        self.assertEqual([drop.removed for drop in server.realm.opened], [[]] * 3)

    @inlineCallbacks
    def test_half_closed_after_quit(self) -> Any:
        """A client that says all, QUIT included, and closes its half still has its messages removed."""
        server = self.serve([mail_of(120)])
        client = self.connect()
        client.sendall(b"USER mrose\r\nPASS secret\r\nDELE 1\r\nQUIT\r\n")
        client.shutdown(socket.SHUT_WR)
        yield self.gone(server)
        yield self.until(lambda: bool(server.realm.opened))
        yield self.gone(server)
        self.assertEqual(server.drop.removed, [1])
