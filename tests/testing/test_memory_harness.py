"""The harness without a thread, a socket or a reactor: real clients on Twisted, joined to it in memory."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
)
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import ClientFactory, Factory, Protocol, ReconnectingClientFactory
from twisted.internet.task import Clock
from twisted.mail.pop3 import AdvancedPOP3Client as TwistedClient
from twisted.mail.pop3 import InsecureAuthenticationDisallowed
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from mailgate.errors import AccountConflict, ConfigurationError
from mailgate.net.pop3_client import POP3Client
from mailgate.pop3 import client as commands
from mailgate.pop3.answers import ServerFault
from mailgate.testing.harness.clock import START
from mailgate.testing.memory import MemoryServer, MemoryServerMixin, Talker

MESSAGE = b"Subject: one\r\n\r\nhello\r\n.dot\r\n"
WIRE = [b"Subject: one", b"", b"hello", b".dot"]
READY = b"+OK mailgate ready\r\n"


class Client(TwistedClient):
    """Twisted's own client, its silence timed by a clock of ours."""

    allowInsecureLogin = True

    def __init__(self, clock: Any, timeout: int = 0) -> None:
        self.callLater = clock.callLater
        self.timeout = timeout


class Hearing(Protocol):
    """Keeps what it hears, in the segments in which it came."""

    def __init__(self) -> None:
        self.segments: list[bytes] = []
        self.lost: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.segments.append(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason.type


class MemoryCase(MemoryServerMixin, SynchronousTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.maildrop = self.server.account("mrose", "secret")

    def result(self, deferred: Deferred[Any]) -> Any:
        self.server.flush()
        return self.successResultOf(deferred)

    def refused(self, deferred: Deferred[Any], *kinds: type[BaseException]) -> Any:
        self.server.flush()
        return self.failureResultOf(deferred, *kinds)

    def logged_in(self, **more: Any) -> Talker:
        talker = self.server.talk(**more)
        talker.say(b"USER mrose\r\n")
        self.assertIn(b"+OK", talker.say(b"PASS secret\r\n"))
        return talker


class ClientTests(MemoryCase):
    """Clients as they are, from their greeting to their QUIT."""

    def test_twisteds(self) -> None:
        """Twisted's POP3Client: log in, list, fetch, delete, quit; the test sees it all; no time passed."""
        unique_id = self.maildrop.add(MESSAGE)
        client = self.server.connect(Client(self.clock))
        self.result(client.login(b"mrose", b"secret"))
        self.assertEqual(self.result(client.listUID()), [unique_id.encode()])
        self.assertEqual(self.result(client.retrieve(0)), WIRE)
        self.result(client.delete(0))
        self.result(client.quit())
        session, = self.server.sessions
        self.assertEqual(session.verbs[2:], ["CAPA", "USER", "PASS", "UIDL", "RETR", "DELE", "QUIT"])
        self.assertEqual((session.deleted, session.end, session.user), ([unique_id], "QUIT", "mrose"))
        self.assertEqual((session.began, session.ended), (START, START))
        self.assertEqual(self.maildrop.messages, [])

    def test_twisteds_in_tls(self) -> None:
        """STLS, as a client does it that says no password in clear."""
        client = Client(self.clock)
        client.allowInsecureLogin = False
        self.server.connect(client)
        self.result(client.startTLS(self.server.trusting()))
        self.result(client.login(b"mrose", b"secret"))
        self.assertTrue(self.server.sessions[0].tls)
        self.assertEqual(self.server.sessions[0].verbs[:2], ["CAPA", "STLS"])

    def test_hidden_stls(self) -> None:
        """A server that hides STLS: this client refuses to log in, and its password has not left it."""
        self.server.fault("stls", how="hidden")
        client = Client(self.clock)
        client.allowInsecureLogin = False
        self.server.connect(client)
        self.refused(client.login(b"mrose", b"secret"), InsecureAuthenticationDisallowed)
        self.assertNotIn(b"secret", self.server.sessions[0].said("C"))

    def test_our_own(self) -> None:
        """Mailgate's own client, pipelining inside TLS from the first octet."""
        self.maildrop.add(MESSAGE)
        client = self.server.connect(POP3Client(self.clock), "pop3s", tls=self.server.trusting())
        pieces: list[bytes] = []
        answers = [client.ask(commands.user(b"mrose")), client.ask(commands.pass_(b"secret")),
                   client.ask(commands.retr(1, 1000), pieces.append), client.ask(commands.quit_())]
        self.assertTrue(all(self.result(answer).ok for answer in answers))
        self.assertEqual(b"".join(pieces), MESSAGE)
        self.assertEqual(self.server.sessions[0].protocol, "pop3s")

    def test_clients_timeout(self) -> None:
        """A server that says nothing more: the client gives up by the same clock, at its own time."""
        self.server.fault("stall", command="STAT")
        client = self.server.connect(Client(self.clock, timeout=30))
        answer = client.stat()
        self.server.advance(29)
        self.assertNoResult(answer)
        self.server.advance(1)
        self.refused(answer)
        self.server.advance(0)
        self.assertFalse(self.server.sessions[0].open)

    def test_cut_in_the_middle(self) -> None:
        """The connection closed within a message, here and there: a fault, and never half a message."""
        self.maildrop.add(MESSAGE)
        whole = len(b"+OK 31 octets\r\n") + len(MESSAGE) + len(b"..\r\n")
        for at in range(0, whole, 5):
            self.server.clear_faults()
            self.server.fault("close", command="RETR", at=at)
            client = self.server.connect(POP3Client(self.clock))
            for command in (commands.user(b"mrose"), commands.pass_(b"secret")):
                self.result(client.ask(command))
            self.refused(client.ask(commands.retr(1, 1000), lambda piece: None), ServerFault)
        self.assertEqual(len(self.maildrop), 1)


class TLSTests(MemoryCase):
    def test_whom_nobody_trusts(self) -> None:
        """A client that trusts others, or looks for another name, has no TLS."""
        for other, name in ((MemoryServer(), "localhost"), (self.server, "mail.example.net")):
            hearing = Hearing()
            self.server.connect(hearing, "pop3s", tls=other.trusting(name))
            self.assertEqual(hearing.segments, [])
            self.assertEqual(hearing.lost, SSL.Error if other is not self.server else hearing.lost)
            self.assertIsNotNone(hearing.lost)
            self.assertFalse(self.server.sessions[-1].open)
        self.server.connect(Hearing(), "pop3s", tls=self.server.trusting("mail.example.org"))
        self.assertTrue(self.server.sessions[-1].open)

    def test_faults_inside(self) -> None:
        """Octets are counted as the client reads them, and a connection cut there has no farewell."""
        self.server.fault("close", command="CAPA", at=7)
        talker = self.server.talk("pop3s", tls=self.server.trusting())
        self.assertEqual(talker.say(b"CAPA\r\n"), b"+OK cap")
        self.assertTrue(talker.closed)

    def test_expired(self) -> None:
        self.server.fault("certificate_expired")
        hearing = Hearing()
        self.server.connect(hearing, "pop3s", tls=self.server.trusting())
        self.assertEqual((hearing.segments, hearing.lost), ([], SSL.Error))

    def test_large_inside(self) -> None:
        """More than any buffer on the way holds."""
        content = b"Subject: big\r\n\r\n" + b"0123456789abcde\r\n" * 60_000
        self.maildrop.add(content)
        talker = self.logged_in(protocol="pop3s", tls=self.server.trusting())
        self.assertEqual(talker.say(b"RETR 1\r\n"), b"+OK %d octets\r\n%b.\r\n" % (len(content), content))


class SegmentTests(MemoryCase):
    """What leaves in one piece arrives in one piece."""

    def test_as_the_fault_cuts(self) -> None:
        self.server.fault("split", command="NOOP", sizes=[3, 1, 2])
        talker = self.logged_in()
        talker.segments.clear()
        reply = talker.say(b"NOOP\r\n")
        self.assertEqual([len(one) for one in talker.segments[:4]], [3, 1, 2, 3])
        self.assertEqual((b"".join(talker.segments), reply[:3]), (reply, b"+OK"))

    def test_dripped(self) -> None:
        """Two octets a second, each pair when its second has come."""
        self.server.fault("drip", command="NOOP", octets=2, seconds=1)
        talker = self.logged_in()
        talker.segments.clear()
        talker.say(b"NOOP\r\n")
        heard = []
        for _ in range(4):
            heard.append(b"".join(talker.segments))
            self.server.advance(1)
        self.assertEqual([len(one) for one in heard], [2, 4, 6, 8])
        self.server.advance(60)
        self.assertTrue(talker.received.endswith(b"\r\n"))
        self.assertTrue(all(len(one) <= 2 for one in talker.segments))

    def test_late(self) -> None:
        """A delayed reply comes at its time, not before; what the client says meanwhile is answered then."""
        self.server.fault("delay", command="NOOP", seconds=5)
        talker = self.logged_in()
        self.assertEqual(talker.say(b"NOOP\r\nSTAT\r\n"), b"")
        self.server.advance(4.999)
        before = len(talker.received)
        self.server.advance(0.001)
        self.assertEqual(talker.received[before:].count(b"+OK"), 2)

    def test_joined(self) -> None:
        self.server.fault("join", command="NOOP", replies=1)
        talker = self.logged_in()
        talker.segments.clear()
        talker.say(b"NOOP\r\nSTAT\r\n")
        self.assertEqual(talker.segments[0].count(b"\r\n"), 2)

    def test_torn(self) -> None:
        """A reset is told from a close."""
        for how, reason in (("close", ConnectionDone), ("reset", ConnectionLost)):
            self.server.clear_faults()
            self.server.fault(how, command="NOOP", at=4)
            talker = self.logged_in()
            self.assertEqual(talker.say(b"NOOP\r\n"), b"+OK ")
            assert talker.reason is not None
            self.assertTrue(talker.reason.check(reason), (how, talker.reason))


class ConnectionTests(MemoryCase):
    """The connection keeps the rules of sockets."""

    def test_not_from_within(self) -> None:
        """Nothing arrives while the client is writing, as no reactor would have it."""
        inside: list[bool] = []

        class Chatty(Hearing):
            def connectionMade(self) -> None:
                inside.append(True)
                assert self.transport is not None
                self.transport.write(b"CAPA\r\n")
                inside.pop()

            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data if not inside else b"from within")

        chatty = self.server.connect(Chatty())
        self.assertEqual(chatty.segments[0], READY)
        self.assertNotIn(b"from within", chatty.segments)

    def test_slow_reader(self) -> None:
        """A client that pauses gets no more, and costs the server no more than its buffer."""
        self.maildrop.add(b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n" * 500_000)
        talker = self.logged_in()
        transport: Any = talker.transport
        transport.pauseProducing()
        self.assertEqual(talker.say(b"RETR 1\r\n"), b"")
        waiting = self.server.reactor.joined[0].server.waiting
        self.assertTrue(0 < waiting < 400_000, waiting)
        transport.resumeProducing()
        self.server.flush()
        self.assertTrue(talker.received.endswith(b"\r\n.\r\n"))

    def test_half_closed(self) -> None:
        """A client that has said all of it is answered all of it."""
        @implementer(IHalfCloseableProtocol)
        class Half(Talker):
            ends = 0

            def readConnectionLost(self) -> None:
                self.ends += 1

            def writeConnectionLost(self) -> None:
                """Said by sockets."""

        half = self.server.connect(Half(self.server))
        transport: Any = half.transport
        transport.write(b"CAPA\r\nQUIT\r\n")
        transport.loseWriteConnection()
        self.server.flush()
        self.assertTrue(half.received.endswith(b"+OK goodbye\r\n"), half.received)
        self.assertEqual((half.ends, half.closed), (1, False))
        transport.loseConnection()
        self.server.flush()
        self.assertTrue(half.closed)

    def test_client_goes(self) -> None:
        """It closes, or vanishes: the maildrop is free, and nothing was removed."""
        self.maildrop.add(MESSAGE)
        for way in ("loseConnection", "abortConnection"):
            talker = self.logged_in()
            talker.say(b"DELE 1\r\n")
            getattr(talker.transport, way)()
            self.server.flush()
            self.assertFalse(self.server.sessions[-1].open)
            self.assertEqual(self.server.sessions[-1].end, "the client hung up")
        self.assertEqual(len(self.maildrop), 1)
        self.assertTrue(self.server.reactor.joined[-1].ended)

    def test_client_that_fails(self) -> None:
        """Its exception is the test's, and its connection is lost, as a reactor has it."""
        class Broken(Hearing):
            def dataReceived(self, data: bytes) -> None:
                raise ZeroDivisionError

        broken = Broken()
        with self.assertRaises(ZeroDivisionError):
            self.server.connect(broken)
        self.server.flush()
        self.assertEqual(broken.lost, ZeroDivisionError)
        self.assertFalse(self.server.sessions[0].open)

    def test_said_to_nobody(self) -> None:
        """What the server says to a client that has gone is lost with the connection."""
        self.server.fault("delay", command="NOOP", seconds=5)
        talker = self.logged_in()
        talker.say(b"NOOP\r\n")
        assert talker.transport is not None
        talker.transport.loseConnection()
        self.server.advance(10)
        self.assertFalse(self.server.sessions[0].open)

    def test_peers(self) -> None:
        """Each client has an address of its own; the record tells it."""
        talkers = [self.server.talk() for _ in range(2)]
        hosts = [str(talker.transport.getHost().port) for talker in talkers if talker.transport]
        self.assertEqual([one.peer for one in self.server.sessions], [f"127.0.0.1:{port}" for port in hosts])
        self.assertNotEqual(*hosts)


class WaysInTests(MemoryCase):
    """Code that takes an endpoint, or a reactor, works as it is."""

    def test_endpoint(self) -> None:
        """Connected in a turn of the clock, not at once; to be called off until then."""
        endpoint = self.server.endpoint()
        hearing = Hearing()
        connected = connectProtocol(endpoint, hearing)
        self.assertNoResult(connected)
        self.assertIs(self.result(connected), hearing)
        self.assertEqual(hearing.segments, [READY])
        off = endpoint.connect(Factory.forProtocol(Hearing))
        off.cancel()
        self.refused(off, ConnectingCancelledError)
        self.assertEqual(len(self.server.sessions), 1)

    def test_endpoint_in_tls(self) -> None:
        hearing = self.result(self.server.endpoint("pop3s", tls=self.server.trusting()).connect(
            Factory.forProtocol(Hearing)))
        self.assertEqual(hearing.segments, [READY])

    def test_by_name(self) -> None:
        """HostnameEndpoint on the server's reactor: any name leads here."""
        endpoint = HostnameEndpoint(self.server.reactor, b"pop.example.net", 110)
        self.assertEqual(self.result(connectProtocol(endpoint, Hearing())).segments, [READY])

    def test_other_ports(self) -> None:
        """Nobody listens there; a protocol that is not served has no endpoint."""
        endpoint = HostnameEndpoint(self.server.reactor, b"pop.example.net", 109)
        failed = connectProtocol(endpoint, Hearing())
        self.server.advance(1)          # it lets another address have its try first
        self.refused(failed, ConnectionRefusedError)
        with self.assertRaises(LookupError):
            self.server.endpoint("kpop")
        self.assertEqual((self.server.pop3, self.server.pop3s), (("127.0.0.1", 110), ("127.0.0.1", 995)))

    def test_reconnecting(self) -> None:
        """A ClientFactory that comes back, by the same clock, until it is served."""
        made: list[Hearing] = []

        class Again(ReconnectingClientFactory):
            jitter = 0      # type: ignore[assignment]
            noisy = False
            clock = self.clock

            def buildProtocol(self, addr: Any) -> Any:
                made.append(Hearing())
                return made[-1]

        self.server.fault("greeting", how="missing", session=[1, 2])
        self.server.fault("close", command="greeting", session=[1, 2])
        factory = Again()
        self.server.reactor.connectTCP("mail.example.org", 110, factory)
        self.server.flush()
        self.assertEqual((len(made), made[0].lost), (1, ConnectionDone))
        self.server.advance(10)
        self.assertEqual((len(made), made[2].segments), (3, [READY]))
        factory.stopTrying()
        assert made[2].transport is not None
        made[2].transport.loseConnection()
        self.server.advance(1000)
        self.assertEqual(len(made), 3)

    def test_connector(self) -> None:
        """What a ClientFactory is told: that it begins, that it failed, that it is over."""
        told: list[str] = []

        class Telling(ClientFactory):
            noisy = False

            def startedConnecting(self, connector: Any) -> None:
                told.append("begun")

            def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
                told.append(reason.type.__name__)

            def clientConnectionLost(self, connector: Any, reason: Any) -> None:
                told.append("lost")

            def buildProtocol(self, addr: Any) -> Any:
                return None if self.protocol is None else Hearing()

        nobody, somebody = Telling(), Telling()
        somebody.protocol = Hearing
        connect = self.server.reactor.connectTCP
        connect("x", 110, nobody)
        self.server.flush()
        connect("x", 1, somebody)
        self.server.flush()
        connect("x", 110, somebody).disconnect()
        self.server.flush()
        standing = connect("x", 110, somebody)
        self.server.flush()
        standing.disconnect()
        self.server.flush()
        self.assertEqual(told, ["begun", "ConnectionRefusedError", "begun", "ConnectionRefusedError", "begun",
                                "UserError", "begun", "lost"])

    def test_listening(self) -> None:
        with self.assertRaises(NotImplementedError):
            self.server.reactor.listenTCP(110, Factory())


class ServerTests(MemoryCase):
    """The words are those of Server."""

    def test_hosts(self) -> None:
        """An SDPS host, its users' views, and the envelope."""
        self.server.host("shop", "s").add(MESSAGE, sender="a@b.example",
                                          recipient="bob@shop.mail.example.org")
        talker = self.server.talk()
        talker.say(b"USER bob@shop\r\n")
        self.assertIn(b"1 messages", talker.say(b"PASS s\r\n"))
        self.assertIn(b"bob@shop.mail.example.org", talker.say(b"*ENV 1\r\n"))

    def test_refused(self) -> None:
        """What is wrong is told where it is said."""
        with self.assertRaises(AccountConflict):
            self.server.account("mrose", "x")
        with self.assertRaises(ConfigurationError):
            self.server.fault("explode")
        with self.assertRaises(RuntimeError):
            self.server.clock.run()

    def test_mail_by_lmtp(self) -> None:
        """It can be brought by LMTP too, while a client waits for it."""
        talker = self.server.talk("lmtp")
        self.assertTrue(talker.received.startswith(b"220 "))
        said = talker.say(b"LHLO me\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<mrose@mail.example.org>\r\n"
                          b"DATA\r\nSubject: one\r\n\r\nhello\r\n.\r\n")
        self.assertIn(b"250 2.0.0 stored", said)
        self.assertEqual([one.sender for one in self.maildrop.messages], ["a@b.example"])

    def test_removed_from_under_a_session(self) -> None:
        """The session finds the message gone, and its QUIT removes the others all the same."""
        ids = [self.maildrop.add(MESSAGE) for _ in range(3)]
        talker = self.logged_in()
        self.maildrop.remove(ids[1])
        self.assertIn(b"-ERR", talker.say(b"RETR 2\r\n"))
        talker.say(b"DELE 1\r\n")
        self.assertIn(b"+OK", talker.say(b"QUIT\r\n"))
        self.assertEqual(self.maildrop.unique_ids, [ids[2]])

    def test_reset(self) -> None:
        """As when it was made: connections, mail, sessions and the time."""
        self.maildrop.add(MESSAGE)
        talker = self.logged_in()
        self.server.advance(30)
        self.server.reset()
        self.server.flush()
        self.assertTrue(talker.closed)
        self.assertEqual((self.server.sessions, self.server.clock.now), ([], START))
        self.server.account("mrose", "secret")
        self.assertEqual(len(self.maildrop), 0)
        self.logged_in()
        self.assertEqual(self.server.sessions[0].number, 1)

    def test_nothing_left(self) -> None:
        """A server that is stopped has ended its connections, and waits for nothing; nobody connects."""
        talker = self.logged_in()
        self.server.stop()
        self.assertTrue(talker.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        refused = connectProtocol(self.server.endpoint(), Hearing())
        self.clock.advance(0)
        self.failureResultOf(refused, ConnectionRefusedError)
        self.server.stop()

    def test_same_in_every_run(self) -> None:
        """Everything that a client can see, times and chances included."""
        def run() -> list[Any]:
            with MemoryServer(seed=7) as server:
                server.account("mrose", "secret").add(MESSAGE)
                server.fault("corrupt", command="RETR", octets=3, probability=0.5)
                for _ in range(6):
                    talker = server.talk()
                    talker.say(b"USER mrose\r\nPASS secret\r\nUIDL\r\nRETR 1\r\n")
                    server.advance(1.5)
                    talker.say(b"QUIT\r\n")
                return [session.events for session in server.sessions]

        first, second = run(), run()
        self.assertEqual(first, second)
        self.assertEqual(len({b"".join(one.octets for one in events) for events in first}) > 1, True)


class ReactorTests(TestCase):
    """A reactor in place of the clock: trial's asynchronous tests, whose clients wait for the global one."""

    @inlineCallbacks
    def test_session(self) -> Any:
        server = MemoryServer(clock=reactor, held=True, now=5.0)    # type: ignore[arg-type]
        self.addCleanup(server.stop)
        server.account("mrose", "secret").add(MESSAGE)
        client = yield server.connect(Client(reactor))
        yield client.startTLS(server.trusting())
        yield client.login(b"mrose", b"secret")
        self.assertEqual((yield client.retrieve(0)), WIRE)
        yield server.advance(1000)      # which is too long for a session that says nothing
        session, = server.sessions
        self.assertEqual((session.began, session.tls, session.ended), (5.0, True, 605.0))


class NoReactorTests(SynchronousTestCase):
    def test_none_is_installed(self) -> None:
        """Neither this nor an SMTP listener brings a reactor into a program that wants none, or its own."""
        program = ("import sys; from mailgate.testing.memory import MemoryServer\n"
                   "with MemoryServer(protocols=['pop3', 'smtp']) as server:\n"
                   "    server.talk().say(b'QUIT\\r\\n'); server.talk('smtp').say(b'QUIT\\r\\n')\n"
                   "    assert 'twisted.internet.reactor' not in sys.modules\n"
                   "    assert 'twisted.mail.smtp' not in sys.modules\n"
                   "from twisted.internet import selectreactor; selectreactor.install()\n"
                   "from twisted.mail.smtp import reactor; print(type(reactor).__name__)")
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        self.assertEqual((ran.stdout, ran.stderr), ("SelectReactor\n", ""))


class MixinTests(MemoryServerMixin, SynchronousTestCase):
    settings = {"pop3": {"login_delay_seconds": 60}, "hostname": "pop.example.net"}
    protocols = ("pop3",)
    seed = 3

    def test_made_as_the_class_says(self) -> None:
        self.assertEqual([str(one.protocol) for one in self.server._harness.listeners], ["pop3"])
        self.assertEqual(self.server.hostname, "pop.example.net")
        self.assertIsInstance(self.clock, Clock)
