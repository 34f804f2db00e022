"""LMTP over transports: real sockets and clients, silence, back-pressure, disconnects, shutdown, logs."""

from __future__ import annotations

import os
import smtplib
import socket
import tempfile
import tracemalloc
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailgate.errors import OverQuota, StoreUnavailable
from mailgate.lmtp.policy import LmtpPolicy
from mailgate.model import Account
from mailgate.net.lmtp import LMTPFactory, fresh_id
from mailgate.routing.router import Router
from mailgate.stores.memory import MemoryStore
from mailgate.testing.peers import Peer
from tests.lmtp.staging import RECEIVED, Server

BEGIN = b"LHLO mx.example\r\nMAIL FROM:<s@y>\r\nRCPT TO:<a@x>\r\n"
MESSAGE = BEGIN + b"DATA\r\nSubject: s\r\n\r\ntext\r\n.\r\n"


def read_only(store: MemoryStore, name: str) -> bytes:
    """Return the only message of a maildrop, as it is stored."""
    (message,) = store._shared.maildrop(name).messages.values()
    return message.preamble + message.body.wire


class ServiceCase(TestCase):
    """A factory over a store in memory with two accounts, listening for real."""

    def setUp(self) -> None:
        clock = IReactorTime(global_reactor)
        self.store = MemoryStore(clock=clock)
        self.successResultOf(self.store.start())
        self.addCleanup(self.store.stop)
        self.successResultOf(self.store.accounts.add([
            Account("fred", addresses=("fred@mail.example",)),
            Account("host", sdps=True, domains=("host.example",))]))
        router = Router(self.store.accounts, "mail.example")
        self.factory = LMTPFactory(self.store, router, hostname="mail.example")

    @inlineCallbacks
    def listen(self, description: str) -> Any:
        port = yield serverFromString(global_reactor, description).listen(self.factory)

        @inlineCallbacks
        def stop() -> Any:
            yield port.stopListening()
            yield self.factory.shutdown()

        self.addCleanup(stop)
        return port.getHost()

    @inlineCallbacks
    def listen_tcp(self) -> Any:
        host = yield self.listen("tcp:0:interface=127.0.0.1")
        return host.port


def talk(connect: Callable[[], smtplib.LMTP]) -> list[Any]:
    """Send with Python's own LMTP client; runs in a thread."""
    found: list[Any] = []
    with connect() as client:
        found.append(client.ehlo_or_helo_if_needed())
        found.append(sorted(client.esmtp_features))
        message = EmailMessage()
        message["Subject"] = "gr\u00fc\u00dfe"
        message.set_content("first\n.\n..second\n" + "x" * 200 + "\n")
        found.append(client.send_message(message, "s@y", ["fred@mail.example", "nobody@mail.example"]))
        found.append(client.sendmail("", ["any.one@host.example"], b"a: b\r\n\r\n.\r\n"))
        found.append(client.vrfy("fred"))
        try:
            client.sendmail("s@y", ["nobody@mail.example"], b"x")
        except smtplib.SMTPRecipientsRefused as refused:
            found.append(refused.recipients)
    return found


class SocketTests(ServiceCase):
    def check(self, found: list[Any], peer: bytes) -> None:
        _, features, partly, wholly, verified, refused = found
        self.assertEqual(
            features, ["8bitmime", "chunking", "enhancedstatuscodes", "pipelining", "size", "smtputf8"])
        self.assertEqual([code for code, _ in partly.values()], [550])
        self.assertEqual((wholly, verified[0]), ({}, 252))
        self.assertEqual(refused["nobody@mail.example"][0], 550)
        stored = read_only(self.store, "fred")
        self.assertTrue(stored.startswith(
            b"Return-Path: <s@y>\r\nDelivered-To: fred@mail.example\r\nReceived: from "))
        self.assertIn(peer + b"\r\n\tby mail.example with LMTP id ", stored)
        self.assertIn(b"first\r\n..\r\n...second\r\n", stored)
        message = read_only(self.store, "host")
        self.assertTrue(message.startswith(b"Return-Path: <>\r\nDelivered-To: any.one@host.example\r\n"))
        self.assertIn(b"\r\n\tfor <any.one@host.example>; ", message)
        self.assertTrue(message.endswith(b" +0000\r\na: b\r\n\r\n..\r\n"))

    @inlineCallbacks
    def test_python_client_over_tcp(self) -> Any:
        """smtplib.LMTP, which nobody of us wrote, delivers to an account and an SDPS host."""
        port = yield self.listen_tcp()
        found = yield deferToThread(talk, lambda: smtplib.LMTP("127.0.0.1", port, timeout=60))
        self.check(found, b" ([127.0.0.1])")

    @inlineCallbacks
    def test_python_client_over_a_unix_socket(self) -> Any:
        """The same over a unix socket, where there is no address to tell."""
        folder = tempfile.mkdtemp()     # short: sun_path has 107 octets
        self.addCleanup(os.rmdir, folder)
        path = os.path.join(folder, "lmtp")
        yield self.listen(f"unix:{path}")
        found = yield deferToThread(talk, lambda: smtplib.LMTP(path, timeout=60))
        self.check(found, b"")
        self.assertNotIn(b"([", read_only(self.store, "fred").partition(b"\tby")[0])

    @inlineCallbacks
    def test_no_delay_on_tcp(self) -> Any:
        """Small replies do not wait for acknowledgements of earlier ones."""
        port = yield self.listen_tcp()
        client = yield deferToThread(socket.create_connection, ("127.0.0.1", port), 60)
        greeting = yield deferToThread(client.recv, 1000)
        self.assertEqual(greeting, b"220 mail.example LMTP mailgate\r\n")
        (connection,) = self.factory.idle.watched
        self.assertTrue(connection.transport.getTcpNoDelay())   # type: ignore[attr-defined]
        client.close()

    @inlineCallbacks
    def test_large_message_over_tcp(self) -> Any:
        """20 MB with dots at all edges arrive as they were sent."""
        line = b".x" * 30 + b"\r\n"
        content = line * (20_000_000 // len(line))

        def send(port: int) -> Any:
            with smtplib.LMTP("127.0.0.1", port, timeout=60) as client:
                return client.sendmail("s@y", ["fred@mail.example"], content)

        port = yield self.listen_tcp()
        refused = yield deferToThread(send, port)
        self.assertEqual(refused, {})
        stored = read_only(self.store, "fred")
        self.assertTrue(stored.endswith(b" +0000\r\n" + (b"." + line) * (20_000_000 // len(line))))


    @inlineCallbacks
    def test_account_that_is_removed_before_the_end(self) -> Any:
        """Between RCPT and the end of the message: 550 for it alone, nothing for the next of its name."""
        port = yield self.listen_tcp()

        def send() -> list[Any]:
            with smtplib.LMTP("127.0.0.1", port) as client:
                client.ehlo_or_helo_if_needed()
                client.mail("s@y")
                accepted = [client.rcpt(path)[0] for path in ("fred@mail.example", "any@host.example")]
                blockingCallFromThread(global_reactor, self.store.accounts.remove, "fred")
                client.docmd("DATA")
                client.send(b"Subject: s\r\n\r\ntext\r\n.\r\n")
                return [accepted, client.getreply(), client.getreply()[0]]

        accepted, (code, words), other = yield deferToThread(send)
        self.assertEqual((accepted, code, other), ([250, 250], 550, 250))
        self.assertTrue(words.startswith(b"5.1.1 "), words)
        self.assertEqual(len((yield self.store.scan("host"))), 1)
        yield self.store.accounts.add([Account("fred", addresses=("fred@mail.example",))])
        self.assertEqual((yield self.store.scan("fred")), [])


class StreamingTests(SynchronousTestCase):
    def test_memory_is_flat_for_50_megabytes(self) -> None:
        """The store gets what one read brought, and nothing is kept beside it."""
        server = Server(policy=LmtpPolicy(size_octets=0))
        server.stub.keeping = False
        peer = server.connect()
        peer.say(BEGIN + b"DATA\r\n")
        piece = (b"." + b"x" * 76 + b"\r\n") * 800
        tracemalloc.start()
        try:
            for _ in range(50_000_000 // len(piece)):
                peer.say(piece)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        peer.say(b".\r\n")
        self.assertTrue(peer.received.endswith(b"250 2.0.0 stored, id ID-1\r\n"))
        (delivery,) = server.stub.committed
        self.assertEqual(delivery.octets, len(RECEIVED) + (len(piece) - 800) * (50_000_000 // len(piece)))
        self.assertLessEqual(delivery.largest, len(piece) + len(RECEIVED))
        self.assertLess(peak, 2_000_000)
        peer.vanish()

    def test_endless_line_and_endless_header_cost_no_memory(self) -> None:
        """Neither a command line nor a header field without end is kept."""
        server = Server(policy=LmtpPolicy(size_octets=0))
        server.stub.keeping = False
        for before in (b"", BEGIN + b"DATA\r\n", BEGIN + b"DATA\r\nReturn-Path: "):
            peer = server.connect()
            peer.say(before)
            piece = b"x" * 65536
            tracemalloc.start()
            try:
                for _ in range(200):
                    peer.say(piece)
                self.assertLess(tracemalloc.get_traced_memory()[1], 1_000_000)
            finally:
                tracemalloc.stop()
            peer.vanish()
        self.assertEqual(server.left_behind(), [])

    def test_store_that_is_slow_pauses_the_client(self) -> None:
        """While the store has not taken a piece, nothing more is read (IDelivery.write's Deferred)."""
        server = Server()
        peer = server.connect()
        peer.say(BEGIN + b"DATA\r\n")
        pending: list[Deferred[None]] = []

        def later(function: Callable[[], Any]) -> Deferred[Any]:
            pending.append(Deferred().addCallback(lambda _: function()))
            return pending[-1]

        server.stub.slow, server.stub.later = True, later   # type: ignore[method-assign]
        for _ in range(10):
            peer.say(b"x" * 60000 + b"\r\n")
        self.assertFalse(peer.heard)
        self.assertEqual(len(pending), 1)
        self.assertGreater(peer.unheard, 8 * 60000)
        while pending:
            pending.pop().callback(None)
            peer.settle()
        self.assertTrue(peer.heard)
        self.assertEqual(peer.unheard, 0)
        peer.say(b".\r\n")
        pending.pop().callback(None)
        self.assertTrue(peer.received.endswith(b"354 end with a line that is one dot\r\n"))
        peer.settle()
        self.assertTrue(peer.received.endswith(b"250 2.0.0 stored, id ID-1\r\n"))
        peer.vanish()

    def test_pipelined_backlog_is_bounded(self) -> None:
        """Behind a RCPT whose router does not answer, a flood of commands stays with the client."""
        server = Server()
        stuck: Deferred[Any] = Deferred()
        server.router.route = lambda path: stuck    # type: ignore[method-assign]
        peer = server.connect()
        peer.say(BEGIN + b"NOOP\r\n" * 200_000)
        self.assertFalse(peer.heard)
        self.assertGreater(peer.unheard, 1_000_000)
        stuck.errback(StoreUnavailable("gave up"))
        peer.settle()
        self.assertEqual(peer.received.count(b"250 2.0.0 ok\r\n"), 200_000)
        peer.vanish()

    def test_client_that_reads_nothing(self) -> None:
        """Answers stop when its transport is full; after 120 s it is cut."""
        server = Server()
        peer = server.connect(reading_octets=0)
        peer.say(b"NOOP\r\n" * 1_000_000)
        self.assertLess(peer.transport.waiting, 300_000)
        self.assertGreater(peer.unheard, 5_000_000)
        peer.advance(119)
        self.assertFalse(peer.closed)
        peer.advance(7)
        self.assertTrue(peer.closed)
        self.assertEqual(server.left_behind(), [])


class SilenceTests(SynchronousTestCase):
    def test_idle_client_is_told(self) -> None:
        """421 after five minutes, not before (RFC 5321 section 4.5.3.2.7); a delivery is given up."""
        server = Server()
        peer = server.connect()
        peer.say(BEGIN + b"DATA\r\nhalf a mess")
        peer.advance(299)
        self.assertFalse(peer.closed)
        peer.say(b"age\r\n")
        peer.advance(299)
        self.assertFalse(peer.closed)
        peer.advance(7)
        self.assertTrue(peer.received.endswith(b"421 4.4.2 idle for too long\r\n"))
        self.assertTrue(peer.closed)
        self.assertTrue(server.stub.deliveries[0].aborted)
        self.assertEqual(server.left_behind(), [])

    def cut_after(self, said: bytes, repeated: bytes, every_seconds: int = 50, *, most: int = 1000,
                  policy: LmtpPolicy = LmtpPolicy()) -> int | None:
        """Say something, then something else again and again; return the seconds until 421, if it comes."""
        server = Server(policy=policy)
        peer = server.connect()
        peer.say(said)
        for second in range(1, most):
            peer.advance(1)
            if peer.closed:
                self.assertTrue(peer.received.endswith(b"421 4.4.2 idle for too long\r\n"), peer.received)
                self.assertEqual(server.left_behind(), [])
                return second
            if second % every_seconds == 0:
                peer.say(repeated)
        peer.vanish()
        return None

    def test_talk_is_no_progress(self) -> None:
        """Commands that bring no mail, and lines that do not end, do not put off the end."""
        for said in (b"", b"LHLO mx.example\r\n", BEGIN, MESSAGE):
            for repeated in (b"NOOP\r\n", b"VRFY a\r\n", b"N", b"\r\n", b"XYZZY\r\n"):
                seconds = self.cut_after(said, repeated)
                assert seconds is not None, (said, repeated)
                self.assertTrue(300 <= seconds <= 306, (said, repeated, seconds))
        for repeated in (b"RSET\r\n", b"LHLO mx.example\r\n"):
            seconds = self.cut_after(BEGIN, repeated)
            assert seconds is not None
            self.assertTrue(300 <= seconds <= 306, (repeated, seconds))
        seconds = self.cut_after(b"LHLO mx.example\r\nBDAT 1000000\r\n", b"content of no transaction")
        assert seconds is not None
        self.assertTrue(300 <= seconds <= 306, seconds)

    def test_mail_is_progress(self) -> None:
        """Each step of a transaction has the whole time, refused recipients and refused content too."""
        for said, repeated in (
                (b"LHLO mx.example\r\n", MESSAGE.partition(b"\r\n")[2]),
                (b"LHLO mx.example\r\nMAIL FROM:<s@y>\r\n", b"RCPT TO:<a@x>\r\n"),
                (b"LHLO mx.example\r\nMAIL FROM:<s@y>\r\n", b"RCPT TO:<stranger@x>\r\n"),
                (BEGIN + b"DATA\r\n", b"text\r\n"), (BEGIN + b"BDAT 1000000\r\n", b"text\r\n")):
            for policy in (LmtpPolicy(), LmtpPolicy(size_octets=1)):
                self.assertIsNone(self.cut_after(said, repeated, 299, policy=policy, most=1500), repeated)

    def test_patience_between_steps(self) -> None:
        """A client may take nearly five minutes before every step (RFC 5321 section 4.5.3.2.7)."""
        server = Server()
        peer = server.connect()
        for line in (*MESSAGE.splitlines(keepends=True), *MESSAGE.splitlines(keepends=True)[1:], b"QUIT\r\n"):
            peer.advance(299)
            peer.say(line)
        self.assertTrue(peer.received.endswith(b"bye\r\n"), peer.received)
        self.assertEqual(len(server.stub.committed), 2)

    def test_our_own_slowness_is_no_idleness(self) -> None:
        """A client that waits for our answer is not silent."""
        server = Server()
        stuck: Deferred[Any] = Deferred()
        server.router.route = lambda path: stuck    # type: ignore[method-assign]
        peer = server.connect()
        peer.say(BEGIN)
        peer.advance(1000)
        self.assertFalse(peer.closed)
        stuck.errback(StoreUnavailable("gave up"))
        peer.advance(200)
        self.assertFalse(peer.closed)
        peer.vanish()

    def test_one_clock_for_all(self) -> None:
        """Idle connections have one delayed call between them, and none when they are gone."""
        server = Server()
        peers = [server.connect() for _ in range(50)]
        self.assertEqual(len(server.clock.getDelayedCalls()), 1)
        for peer in peers:
            peer.vanish()
        self.assertEqual(server.clock.getDelayedCalls(), [])


class VanishingTests(SynchronousTestCase):
    def test_before_the_dot_nothing_is_stored(self) -> None:
        """D8: at every octet of a transaction (RFC 5321 section 4.1.1.10)."""
        end = len(MESSAGE)
        for at in range(0, end, 3):
            for slow in (False, True):
                server = Server(slow=slow)
                peer = server.connect()
                peer.say(MESSAGE[:at])
                peer.vanish()
                server.clock.advance(1)
                self.assertEqual(server.stub.committed, [])
                self.assertEqual(server.left_behind(), [])

    def test_while_the_store_has_not_taken_a_piece(self) -> None:
        """The delivery is given up at once, and what the store says later is of no interest."""
        server = Server(slow=True)
        peer = server.connect()
        peer.say(BEGIN + b"DATA\r\n")
        peer.protocol.dataReceived(b"text\r\n.\r\n")
        peer.vanish()
        server.clock.advance(1)
        self.assertEqual((len(server.stub.deliveries), server.stub.committed), (1, []))
        self.assertEqual(server.left_behind(), [])

    def test_while_the_message_is_being_stored(self) -> None:
        """Then it is stored and logged; only the reply has nowhere to go."""
        server = Server()
        pending: Deferred[Any] = Deferred()
        peer = server.connect()
        peer.say(BEGIN + b"DATA\r\ntext\r\n")
        server.stub.later = lambda function: pending    # type: ignore[method-assign]
        peer.say(b".\r\nMAIL FROM:<again@y>\r\n")
        peer.vanish()
        self.assertFalse(server.stub.deliveries[0].aborted)
        with Logged(self) as lines:
            pending.callback([None])
        self.assertEqual(len(lines), 1)
        self.assertIn("1 of 1 stored", lines[0])
        self.assertEqual(server.left_behind(), [])


class ShutdownTests(SynchronousTestCase):
    def test_idle_sessions_are_told(self) -> None:
        """421 4.3.2 wherever a conversation is, a half message is given up, new clients are turned away."""
        server = Server()
        peers = [server.connect() for _ in range(3)]
        peers[1].say(BEGIN)
        peers[2].say(BEGIN + b"DATA\r\nhalf")
        done = server.factory.shutdown()
        for peer in peers:
            peer.settle()
            self.assertTrue(peer.received.endswith(b"421 4.3.2 service is stopping\r\n"))
            self.assertTrue(peer.closed)
        self.successResultOf(done)
        self.assertIsNone(server.factory.buildProtocol(None))
        self.assertEqual(server.left_behind(), [])

    def test_without_sessions(self) -> None:
        """Nothing to wait for."""
        self.successResultOf(Server().factory.shutdown())

    def test_message_being_stored_is_answered_first(self) -> None:
        """250 after the commit, then 421; what was pipelined behind it is not begun."""
        server = Server()
        pending: Deferred[Any] = Deferred()
        peer = server.connect()
        peer.say(BEGIN + b"DATA\r\ntext\r\n")
        server.stub.later = lambda function: pending    # type: ignore[method-assign]
        peer.say(b".\r\nMAIL FROM:<again@y>\r\n")
        done = server.factory.shutdown()
        peer.advance(9)
        self.assertFalse(peer.closed)
        self.assertNoResult(done)
        pending.callback([None])
        peer.settle()
        self.assertTrue(peer.received.endswith(
            b"354 end with a line that is one dot\r\n250 2.0.0 stored, id ID-1\r\n"
            b"421 4.3.2 service is stopping\r\n"))
        self.successResultOf(done)
        self.assertEqual(server.left_behind(), [])

    def test_store_that_does_not_answer(self) -> None:
        """Messages that are not stored after ten seconds are told of, not acknowledged, not waited for."""
        server = Server()
        pending: list[Deferred[Any]] = [Deferred(), Deferred()]
        peers = [server.connect(), server.connect()]
        for peer in peers:
            peer.say(BEGIN + b"DATA\r\ntext\r\n")
        commits = iter(pending)
        server.stub.later = lambda function: next(commits)      # type: ignore[method-assign]
        for peer in peers:
            peer.say(b".\r\n")
        peers[1].vanish()
        done = server.factory.shutdown()
        with Logged(self) as lines:
            server.clock.pump([1] * 9)
            self.assertNoResult(done)
            server.clock.advance(1)
        self.successResultOf(done)
        self.assertEqual(sorted(lines), [
            f"{name}: by 127.0.0.1, not stored 10.0 s after the stop began: not waited for any longer,"
            " not acknowledged" for name in ("ID-1", "ID-2")])
        peers[0].settle()
        self.assertTrue(peers[0].received.endswith(b"354 end with a line that is one dot\r\n"))
        for one in pending:
            one.errback(StoreUnavailable("the store is not open"))      # at last, and too late
        peers[0].settle()
        self.assertTrue(peers[0].closed)
        self.assertEqual(server.left_behind(), [])

    def test_vanished_client_whose_message_is_being_stored(self) -> None:
        """The shutdown waits for the store, not for the client."""
        server = Server()
        pending: Deferred[Any] = Deferred()
        peer = server.connect()
        peer.say(BEGIN + b"DATA\r\ntext\r\n")
        server.stub.later = lambda function: pending    # type: ignore[method-assign]
        peer.say(b".\r\n")
        peer.vanish()
        done = server.factory.shutdown()
        self.assertNoResult(done)
        pending.callback([None])
        self.successResultOf(done)
        self.assertEqual(server.left_behind(), [])

    def test_client_that_does_not_read_is_cut(self) -> None:
        """It delays a shutdown by seconds only."""
        server = Server()
        peer = server.connect(reading_octets=0)
        done = server.factory.shutdown()
        self.assertNoResult(done)
        peer.advance(6)
        self.assertTrue(peer.closed)
        self.successResultOf(done)
        self.assertEqual(server.left_behind(), [])


class Logged:
    """Collects the lines that the LMTP server logs."""

    def __init__(self, test: SynchronousTestCase) -> None:
        self.test = test
        self.lines: list[str] = []

    def __enter__(self) -> list[str]:
        globalLogPublisher.addObserver(self._take)
        return self.lines

    def __exit__(self, *_: object) -> None:
        globalLogPublisher.removeObserver(self._take)

    def _take(self, event: LogEvent) -> None:
        if event.get("log_namespace") == "mailgate.net.lmtp":
            self.lines.append(formatEvent(event))


class LogTests(SynchronousTestCase):
    def lines_of(self, conversation: bytes, **outcomes: Exception) -> list[str]:
        server = Server()
        server.stub.outcomes.update({name.encode() + b"@x": fault for name, fault in outcomes.items()})
        peer = server.connect()
        with Logged(self) as lines:
            peer.say(conversation)
            peer.vanish()
        return lines

    def test_one_line_a_message(self) -> None:
        """Its id, sender, octets, and every recipient's fate with the reason."""
        self.assertEqual(self.lines_of(
            BEGIN + b"RCPT TO:<b@x>\r\nRCPT TO:<a@x>\r\nDATA\r\nSubject: s\r\n\r\ntext\r\n.\r\n",
            b=OverQuota("10 of 10 octets")), [
            "ID-1: from <s@y> by 127.0.0.1, 20 octets, 1 of 2 stored: "
            "<a@x> stored, <b@x> refused (OverQuota: 10 of 10 octets)"])

    def test_refused_message(self) -> None:
        """A message that was refused at the dot is told of as well."""
        (line,) = self.lines_of(BEGIN + b"DATA\r\na\0b\r\n.\r\n")
        self.assertIn("0 of 1 stored: <a@x> refused (MessageMalformed: a NUL)", line)

    def test_many_recipients_take_one_line(self) -> None:
        """Twenty by name, the others counted."""
        rcpts = b"".join(b"RCPT TO:<user%d@x>\r\n" % n for n in range(99))
        (line,) = self.lines_of(BEGIN + rcpts + b"DATA\r\n.\r\n")
        self.assertIn("100 of 100 stored", line)
        self.assertTrue(line.endswith("<user18@x> stored, 80 more"))

    def test_what_a_client_said_is_escaped(self) -> None:
        """Neither a line more nor a terminal's escape sequence, whatever an address holds."""
        nasty = '"\u202e\u0085\\ \\"x"@y'.encode()
        (line,) = self.lines_of(
            b"LHLO m\r\nMAIL FROM:<%b> SMTPUTF8\r\nRCPT TO:<a@x>\r\nDATA\r\n.\r\n" % nasty)
        self.assertTrue(line.isprintable())
        self.assertIn("\\u202e\\x85\\\\ ", line)


class IdTests(SynchronousTestCase):
    def test_ids_differ_and_sort_by_time(self) -> None:
        """Two of one millisecond differ; they are safe in a reply, a header field and a log line."""
        ids = [fresh_id(1_700_000_000_000 + n // 10) for n in range(100)]
        self.assertEqual(len(set(ids)), 100)
        self.assertEqual([one[:11] for one in ids], sorted(one[:11] for one in ids))
        for one in ids:
            self.assertRegex(one, r"\A[0-9A-F]{11}-[0-9A-F]{12}\Z")


class ClockTests(SynchronousTestCase):
    def test_arrival_is_told_by_the_clock(self) -> None:
        """The factory's clock dates Received fields and envelopes."""
        clock = Clock()
        clock.advance(86_400.5)
        factory = LMTPFactory(MemoryStore(clock=clock), Server().router, hostname="h", clock=clock)
        self.assertEqual(factory.now_ms(), 86_400_500)
        peer = Peer(factory, clock=clock)
        self.assertEqual(peer.received, b"220 h LMTP mailgate\r\n")
        peer.vanish()
