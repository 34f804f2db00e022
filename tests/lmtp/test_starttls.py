"""LMTP inside TLS: STARTTLS (RFC 3207), never a command of what came in clear behind it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from twisted.logger import eventAsText, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailgate.lmtp.policy import LmtpPolicy
from mailgate.net.tls import Material, ServerTLS
from mailgate.testing.certificates import Authority
from tests.lmtp.staging import ConversationCase, Server
from tests.net.secure import NAME, SecurePeer, client_context, identity_of

AUTHORITY = Authority()
ISSUED = AUTHORITY.issue(NAME)
MESSAGE = b"LHLO mx.example\r\nMAIL FROM:<s@y>\r\nRCPT TO:<a@x>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"
GREETING = b"220 mail.example LMTP mailgate\r\n"
BEGIN = b"220 2.0.0 begin TLS\r\n"


class StartTlsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self._keep)
        self.addCleanup(globalLogPublisher.removeObserver, self._keep)
        folder = Path(self.mktemp())
        folder.mkdir()
        self.tls = ServerTLS()
        self.tls.use(Material(identity_of(ISSUED, folder)))
        self.server = self.make_server()

    def _keep(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace", "").startswith("mailgate.net"):
            self.lines.append(eventAsText(event, includeTimestamp=False, includeSystem=False))

    def make_server(self, **how: Any) -> Server:
        server = Server(**how)
        server.factory.tls = self.tls
        return server

    def connect(self, server: Server | None = None, context: ssl.SSLContext | None = None) -> SecurePeer:
        server = server or self.server
        return SecurePeer(server.factory, context or client_context(AUTHORITY), clock=server.clock)

    def inside(self, server: Server | None = None) -> SecurePeer:
        peer = self.connect(server)
        peer.say(b"STARTTLS\r\n")
        self.assertEqual(peer.clear, GREETING + BEGIN)
        peer.begin()
        self.assertTrue(peer.secure, peer.fault)
        return peer

    def answer(self, peer: SecurePeer, octets: bytes) -> bytes:
        """Say octets and return what came for them."""
        heard = peer.clear if peer.tls is None else peer.received
        before = len(heard)
        peer.say(octets)
        return bytes(heard[before:])

    def nothing_left(self, server: Server | None = None) -> None:
        self.assertEqual((server or self.server).left_behind(), [])
        self.assertEqual(self.flushLoggedErrors(), [])


class OfferTests(StartTlsCase):
    def test_announced_until_it_is_there(self) -> None:
        """LHLO announces STARTTLS in clear, and not inside TLS; nothing else differs."""
        peer = self.connect()
        before = self.answer(peer, b"LHLO mx.example\r\n")
        self.assertIn(b"250-STARTTLS\r\n", before)
        peer.say(b"STARTTLS\r\n")
        peer.begin()
        self.assertEqual(self.answer(peer, b"LHLO mx.example\r\n"), before.replace(b"250-STARTTLS\r\n", b""))
        self.assertEqual(self.answer(peer, b"STARTTLS\r\n"), b"503 5.5.1 bad sequence of commands\r\n")
        self.assertEqual(self.answer(peer, b"STARTTLS now\r\n"), b"501 5.5.4 bad arguments\r\n")

    def test_not_in_a_transaction(self) -> None:
        peer = self.connect()
        peer.say(b"LHLO mx.example\r\nMAIL FROM:<s@y>\r\n")
        self.assertEqual(self.answer(peer, b"STARTTLS\r\n"), b"503 5.5.1 bad sequence of commands\r\n")
        self.assertEqual(self.answer(peer, b"RSET\r\nSTARTTLS\r\n"), b"250 2.0.0 ok\r\n" + BEGIN)
        peer.begin()
        self.assertTrue(peer.secure)


class WithoutTests(ConversationCase):
    def test_nothing_without_a_certificate(self) -> None:
        """A listener without one neither announces it nor knows the word."""
        self.converse("""
            S: 220 *
            C: STARTTLS
            S: 500 5.5.2 *
            """)


class ForgettingTests(StartTlsCase):
    def test_the_client_introduces_itself_anew(self) -> None:
        """RFC 3207 section 4.2: LHLO is forgotten, there is no second greeting."""
        peer = self.connect()
        peer.say(b"LHLO mx.example\r\n")
        peer.say(b"STARTTLS\r\n")
        peer.begin()
        self.assertEqual(peer.received, b"")
        self.assertEqual(self.answer(peer, b"MAIL FROM:<s@y>\r\n"), b"503 5.5.1 bad sequence of commands\r\n")

    def test_delivery(self) -> None:
        """A message inside TLS, pipelined; its Received field and the log say so (RFC 3848)."""
        peer = self.inside()
        said = self.answer(peer, MESSAGE + b"QUIT\r\n")
        self.assertTrue(said.endswith(b"250 2.0.0 stored, id ID-1\r\n221 2.0.0 bye\r\n"), said)
        self.assertTrue(peer.farewell)
        peer.close()
        [delivery] = self.server.stub.committed
        self.assertIn(b"by mail.example with LMTPS id ID-1", delivery.content)
        [line] = self.lines
        self.assertIn("by 127.0.0.1 (TLSv1.3 TLS_AES_256_GCM_SHA384), 17 octets", line)
        self.nothing_left()

    def test_large_message(self) -> None:
        """5 MB, to a store that takes its time: reading pauses and goes on inside TLS as in clear."""
        server = self.make_server(slow=True)
        server.stub.keeping = False
        peer = self.inside(server)
        peer.say(MESSAGE.partition(b"Subject")[0])
        for _ in range(500):
            peer.say(b"y" * 9_998 + b"\r\n")
        peer.say(b".\r\n")
        self.assertTrue(peer.received.endswith(b"250 2.0.0 stored, id ID-1\r\n"))
        [delivery] = server.stub.committed
        self.assertGreater(delivery.octets, 5_000_000)
        peer.say(b"QUIT\r\n")
        peer.close()
        self.nothing_left(server)


class InjectionTests(StartTlsCase):
    OCTETS = b"STARTTLS\r\n" + MESSAGE

    def assert_unexecuted(self, peer: SecurePeer, said: str) -> None:
        self.assertTrue(peer.closed, said)
        self.assertEqual(self.server.router.asked, [], said)
        self.assertEqual(self.server.stub.deliveries, [], said)
        self.assertNotIn(b"250", peer.clear, said)
        self.nothing_left()

    def test_every_split(self) -> None:
        """Two segments, cut at every octet: the connection ends, and nothing of it was a command."""
        for cut in range(len(self.OCTETS) + 1):
            peer = self.connect()
            for part in (self.OCTETS[:cut], self.OCTETS[cut:]):
                peer.say(part)
            self.assert_unexecuted(peer, f"cut at {cut}")

    def test_octet_by_octet(self) -> None:
        peer = self.connect()
        peer.peer.say(self.OCTETS, 1)
        self.assertEqual(peer.clear[:len(GREETING + BEGIN)], GREETING + BEGIN)
        self.assert_unexecuted(peer, "octet by octet")

    def test_in_front_of_a_hello(self) -> None:
        """In one segment, and between the answer and the ClientHello."""
        for at_once in (True, False):
            peer = self.connect()
            hello = peer.hello()
            if at_once:
                peer.peer.say(b"STARTTLS\r\nRSET\r\n" + hello)
            else:
                peer.peer.say(b"STARTTLS\r\n")
                peer.peer.say(b"RSET\r\n" + hello)
            peer.turn()
            self.assertFalse(peer.secure)
            self.assert_unexecuted(peer, f"at once: {at_once}")

    def test_logged(self) -> None:
        self.connect().say(self.OCTETS)
        self.assertEqual(self.lines, ["octets behind STARTTLS from 127.0.0.1"])


class HandshakeTests(StartTlsCase):
    def begun(self, server: Server | None = None) -> SecurePeer:
        peer = self.connect(server)
        peer.say(b"STARTTLS\r\n")
        return peer

    def test_failure(self) -> None:
        """Garbage, and a client that does not trust us: one line each, and never an answer in clear."""
        peer = self.begun()
        peer.peer.say(b"\x16\x03\x01\x00\x20" + b"x" * 32 + MESSAGE)
        self.assertTrue(peer.closed)
        self.assertNotIn(b"250", peer.clear)
        self.nothing_left()
        stranger = self.connect(context=client_context(None, most=ssl.TLSVersion.TLSv1_2))
        stranger.say(b"STARTTLS\r\n")
        stranger.begin()
        self.assertFalse(stranger.secure)
        stranger.peer.vanish()
        self.assertEqual([line.partition(": ")[0] for line in self.lines], ["no TLS with 127.0.0.1"] * 2)
        self.nothing_left()

    def test_silence(self) -> None:
        """A handshake that does not end is cut when the time for silence is over, without a word."""
        server = self.make_server(policy=LmtpPolicy(idle_seconds=60.0))
        peer = self.begun(server)
        hello = peer.hello()
        for at in range(0, 100, 2):
            peer.peer.say(hello[at:at + 2])
            peer.peer.advance(1)
        self.assertFalse(peer.closed)
        peer.peer.advance(20)
        self.assertTrue(peer.closed)
        self.assertEqual(peer.received, b"")
        self.nothing_left(server)

    def test_idle_inside(self) -> None:
        """Inside TLS an idle client is told, and close_notify follows."""
        server = self.make_server(policy=LmtpPolicy(idle_seconds=60.0, progress_seconds=30.0))
        peer = self.inside(server)
        peer.peer.advance(70)
        peer.turn()
        self.assertEqual(peer.received, b"421 4.4.2 idle for too long\r\n")
        self.assertTrue(peer.farewell)
        peer.peer.advance(60)
        self.assertTrue(peer.closed)
        self.nothing_left(server)

    def test_shutdown(self) -> None:
        """A service that stops cuts a handshake, and tells who is inside TLS."""
        begun, inside = self.begun(), self.inside()
        ended = self.server.factory.shutdown()
        for peer in (begun, inside):
            peer.peer.settle()
        inside.turn()
        self.assertTrue(begun.closed)
        self.assertEqual(begun.clear, GREETING + BEGIN)
        self.assertEqual(inside.received, b"421 4.3.2 service is stopping\r\n")
        inside.close()
        self.successResultOf(ended)
        self.nothing_left()

    def test_vanishing(self) -> None:
        """In the middle of a message inside TLS: the delivery is forgotten."""
        peer = self.inside()
        peer.say(MESSAGE[:-5])
        peer.peer.vanish()
        self.assertEqual(self.server.stub.committed, [])
        self.nothing_left()
