"""The connection that trouble is made on, against clients that vanish, flood, do not read or hang up."""

from __future__ import annotations

import socket
import struct
import sys

from mailgate.testing.peers import EVERYTHING, Peer
from mailgate.testing.server import Server
from tests.testing.trouble.scene import GREETING, LIST, NOOP, PASS, QUIT, STAT, USER, FaultCase

MEGABYTE = 1 << 20
LINE = b"0123456789abcdef" * 4 + b"\r\n"


def large(octets: int) -> bytes:
    """Return a message of about so many octets."""
    return b"Subject: large\r\n\r\n" + LINE * (octets // len(LINE))


def reply_of(content: bytes) -> bytes:
    """Return what RETR says of it."""
    return b"+OK %d octets\r\n" % len(content) + content + b".\r\n"


def segments_in(client: socket.socket) -> int:
    """Return how many segments with octets have come (tcpi_data_segs_in of Linux's struct tcp_info)."""
    if sys.platform != "linux":
        return 0
    count: int = struct.unpack_from("I", client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 152)[0]
    return count


class PaceTests(FaultCase):
    """A client that reads slowly, or not at all."""

    def slow(self) -> Peer:
        peer = self.server._harness.connect()
        peer.say(b"USER mrose\r\nPASS secret\r\n")
        peer.received.clear()
        peer.reading_octets = 0
        self.addCleanup(peer.vanish)
        return peer

    def check(self, most_waiting: int, octets: int = 5 * MEGABYTE) -> None:
        content = large(octets)
        self.server.maildrop("mrose").add(content)
        peer = self.slow()
        peer.say(b"RETR 3\r\nNOOP\r\n")
        highest = 0
        while len(peer.received) < len(reply_of(content)) + len(NOOP):
            highest = max(highest, peer.transport.waiting)
            before = len(peer.received)
            peer.take(500_000)
            self.assertGreater(len(peer.received), before)
        self.assertLess(highest, most_waiting)
        self.assertEqual(bytes(peer.received), reply_of(content) + NOOP)

    def test_message_that_nobody_reads(self) -> None:
        """5 MB wait in the store, not in the transport, as in the service."""
        self.check(200_000)

    def test_held_reply_that_nobody_reads(self) -> None:
        """What a fault has gathered is gathered; the transport gets no more than the client takes."""
        self.fault("cut", command="RETR", inside="dot")
        self.check(200_000)

    def test_close_waits_for_the_client(self) -> None:
        """The octets before a close reach a client that comes late for them."""
        content = large(MEGABYTE)
        self.server.maildrop("mrose").add(content)
        for kind in ("close", "reset"):
            with self.fault(kind, command="RETR", at=600_000):
                peer = self.slow()
                peer.say(b"RETR 3\r\n")
                self.assertFalse(peer.closed)
                peer.reading_octets = EVERYTHING
                peer.advance(1, 0.05)
                self.assertEqual(bytes(peer.received), reply_of(content)[:600_000])
                self.assertTrue(peer.closed)

    def test_endless_waits_for_the_client(self) -> None:
        self.fault("endless", command="CAPA", octets=MEGABYTE)
        peer = self.slow()
        peer.say(b"CAPA\r\n")
        peer.advance(60)
        self.assertLess(peer.transport.waiting, 2 * MEGABYTE)
        peer.vanish()


class FloodTests(FaultCase):
    """Many commands, and lines that are none."""

    def test_thousands_of_commands(self) -> None:
        """No recursion, whether or not each meets a fault."""
        client = self.log_in()
        for number in range(2):
            self.forget(client)
            client.say(b"NOOP\r\n" * 3000 + b"STAT\r\n")
            self.server.advance(1)
            self.assertEqual(client.received, NOOP * 3000 + STAT)
            if not number:
                self.fault("delay", seconds=0)
                self.fault("join", replies=3, seconds=0.1)

    def test_bare_line_feeds(self) -> None:
        client = self.connect()
        self.assertEqual(client.say(b"USER mrose\nPASS secret\nSTAT\n"), USER + PASS + STAT)

    def test_over_long_line(self) -> None:
        """Dropped as it comes, and answered once; also one that the session gets in pieces."""
        client = self.log_in()
        for octets in (300, 100_000, 3 * MEGABYTE):
            self.forget(client)
            for _ in range(3):
                client.say(b"x" * (octets // 3))
            self.assertEqual(client.received, b"")
            self.assertEqual(client.say(b"\r\nSTAT\r\n"), b"-ERR line too long\r\n" + STAT)

    def test_password_in_a_line_without_end(self) -> None:
        """A line in pieces is one command in the record, its secret masked."""
        client = self.connect()
        client.say(b"USER mrose\r\nPASS " + b"hidden" * 100_000)
        client.say(b"hidden\r\n")
        self.assertEqual(self.server.sessions[-1].verbs, ["USER", "PASS"])
        self.assertNotIn("hiddenhidden", self.server.transcript())


class EndTests(FaultCase):
    """Clients that hang up, and servers that stop."""

    def test_vanishing_at_each_point(self) -> None:
        """Whatever waits then is forgotten, and the maildrop is free."""
        self.fault("delay", command="STAT", seconds=7)
        self.fault("drip", command="LIST", octets=3, seconds=1)
        self.fault("join", command="NOOP", replies=9, seconds=60)
        self.fault("drop", command="UIDL", seconds=60)
        self.fault("stall", command="RETR", at=9)
        harness = self.server._harness
        idle = len(harness.clock.getDelayedCalls())
        script = b"USER mrose\r\nPASS secret\r\nSTAT\r\nLIST\r\nNOOP\r\nUIDL\r\nDELE 1\r\nRETR 2\r\nQUIT\r\n"
        for length in range(0, len(script) + 1, 4):
            for seconds in (0, 5, 20):
                peer = harness.connect()
                peer.say(script[:length])
                peer.advance(seconds)
                peer.vanish()
                self.assertEqual(len(harness.clock.getDelayedCalls()), idle, (length, seconds))
        self.server.clear_faults()
        self.assertEqual(self.said(self.log_in(), b"LIST"), LIST)

    def test_half_closed(self) -> None:
        """All that was said is answered, at its pace; half a line is nothing."""
        self.fault("delay", command="STAT", seconds=7)
        for said, reply in ((b"USER mrose\r\nPASS secret\r\nSTAT\r\nNOOP\r\n", USER + PASS + STAT + NOOP),
                            (b"USER mrose\r\nPASS sec", USER), (b"", b""), (b"USER mrose\r\n", USER),
                            (b"USER mrose\r\nPASS secret\r\nDELE 1\r\nQUI", None)):
            peer = self.server._harness.connect()
            peer.received.clear()
            peer.say(said)
            peer.protocol.readConnectionLost()     # type: ignore[attr-defined]
            peer.advance(8)
            self.assertTrue(peer.closed, said)
            if reply is not None:
                self.assertEqual(bytes(peer.received), reply)
        self.assertEqual(self.holds(), ["uid-one", "uid-two"])

    def test_hung_up_on_a_stall(self) -> None:
        self.fault("stall", command="STAT")
        peer = self.server._harness.connect()
        peer.say(b"USER mrose\r\nPASS secret\r\nSTAT\r\n")
        peer.protocol.readConnectionLost()         # type: ignore[attr-defined]
        peer.settle()
        self.assertTrue(peer.closed)
        self.assertEqual(self.server.sessions[-1].end, "the client hung up")

    def test_stopping(self) -> None:
        """Who waits for a fault is cut; who waits for nothing is told."""
        harness = self.server._harness
        factory = harness.listener().factory
        peers = {}
        for do, more in (("stall", {}), ("delay", {"seconds": 99}), ("join", {"seconds": 0}), ("endless", {}),
                         ("swallow", {})):
            self.server.account(do, "secret")
            with self.fault(do, command="LIST", **more):
                peer = peers[do] = harness.connect()
                peer.say(b"USER %b\r\nPASS secret\r\nLIST\r\n" % do.encode())
                peer.received.clear()
        gone = factory.shutdown()
        for peer in peers.values():
            peer.settle()
        self.addCleanup(setattr, factory, "_stopping", False)
        self.assertTrue(all(peer.closed for peer in peers.values()))
        self.successResultOf(gone)
        told = b"-ERR [SYS/TEMP] service is stopping\r\n"
        self.assertEqual(bytes(peers["swallow"].received), told)
        self.assertEqual(bytes(peers["join"].received), b"+OK 0 messages (0 octets)\r\n.\r\n" + told)
        self.assertEqual(bytes(peers["stall"].received), b"")

    def test_clear_text_behind_stls(self) -> None:
        """Octets that came while the answer to STLS was late are not taken for what came inside TLS."""
        self.fault("delay", command="STLS", seconds=5)
        client = self.connect()
        client.say(b"STLS\r\n")
        client.say(b"CAPA\r\n")
        self.server.advance(5)
        self.assertTrue(client.closed)
        self.assertEqual(self.server.sessions[-1].verbs, ["STLS"])


class SocketTests(FaultCase):
    """What only a real socket shows."""

    def setUp(self) -> None:
        self.running = Server(protocols=["pop3"])
        self.addCleanup(self.running.stop)
        self.running.start()
        self.content = large(5_000_000)
        self.running.account("mrose", "secret").add(self.content)

    def tearDown(self) -> None:
        pass

    def connect(self) -> socket.socket:     # type: ignore[override]
        client = socket.create_connection(self.running.pop3, timeout=60)
        self.addCleanup(client.close)
        return client

    def read(self, client: socket.socket) -> tuple[bytes, bool]:
        """Return all that comes, and whether the connection was torn in the end."""
        received = bytearray()
        try:
            while octets := client.recv(65536):
                received += octets
        except ConnectionResetError:
            return bytes(received), True
        return bytes(received), False

    def test_reset_and_close(self) -> None:
        """Octet 3,000,000 of a reply, and then RST or FIN."""
        opening = GREETING + USER + b"+OK maildrop has 1 messages (%d octets)\r\n" % len(self.content)
        for kind, torn in (("reset", True), ("close", False)):
            with self.running.fault(kind, command="RETR", at=3_000_000):
                client = self.connect()
                client.sendall(b"USER mrose\r\nPASS secret\r\nRETR 1\r\n")
                self.assertEqual(self.read(client), (opening + reply_of(self.content)[:3_000_000], torn))

    def test_half_closed_and_torn_clients(self) -> None:
        """A script's answers all come; one who tears the connection leaves nothing behind."""
        client = self.connect()
        client.sendall(b"CAPA\r\nUSER mrose\r\n")
        client.shutdown(socket.SHUT_WR)
        received, torn = self.read(client)
        self.assertTrue(received.endswith(b".\r\n" + USER), received)
        self.assertFalse(torn)
        with self.running.fault("stall", command="RETR", at=9):
            client = self.connect()
            client.sendall(b"USER mrose\r\nPASS secret\r\nRETR 1\r\n")
            received = b""
            while not received.endswith(b"+OK 49999"):      # nine octets of the reply to RETR
                octets = client.recv(1000)
                self.assertTrue(octets)
                received += octets
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        client = self.connect()
        client.sendall(b"USER mrose\r\nPASS secret\r\nQUIT\r\n")
        self.assertTrue(self.read(client)[0].endswith(QUIT))

    def test_segments_arrive_apart(self) -> None:
        """As the client's system counts them: a client that reads late may find both at once."""
        with self.running.fault("cut", command="USER", at=5):
            client = self.connect()
            self.assertEqual(client.recv(1000), GREETING)
            before = segments_in(client)
            client.sendall(b"USER mrose\r\n")
            heard = b""
            while len(heard) < len(USER):
                heard += client.recv(1000)
            self.assertEqual(heard, USER)
            if sys.platform == "linux":
                self.assertEqual(segments_in(client) - before, 2)
        sent = [event.octets for event in self.running.sessions[0].events if event.who == "S"]
        self.assertEqual(sent, [GREETING, USER[:5], USER[5:]])

    def test_message_is_whole(self) -> None:
        client = self.connect()
        client.sendall(b"USER mrose\r\nPASS secret\r\nRETR 1\r\nQUIT\r\n")
        self.assertTrue(self.read(client)[0].endswith(reply_of(self.content) + QUIT))
