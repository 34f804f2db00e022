"""PROXY headers in front of real factories, over transports in memory and over real sockets."""

from __future__ import annotations

import gc
import shutil
import socket
import tempfile
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import eventAsText, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailgate.net.crowd import Crowd
from mailgate.net.kpop import KPOPFactory
from mailgate.net.proxy import HEADER_SECONDS, HeaderReader, ProxyFactory, Trusted
from mailgate.net.tls import TLSFactory
from mailgate.pop3.policy import Policy
from mailgate.testing.certificates import Authority
from mailgate.testing.peers import LOOPBACK, Address, Peer
from tests.lmtp.staging import Server as LmtpServer
from tests.net.secure import NAME, SecurePeer, client_context, server_tls
from tests.net.test_kpop import VERSIONS, FakeAcceptor
from tests.pop3.maildrops import mail_of
from tests.pop3.staging import AT_ONCE, Server
from tests.proxied import (
    INET6,
    LOCAL,
    UNIX,
    UNSPECIFIED,
    addresses,
    binary_header,
    summed_header,
    text_header,
    tls_vector,
)

BALANCER = IPv4Address("TCP", "10.1.2.3", 40000)
ELSEWHERE = IPv4Address("TCP", "192.168.1.2", 40000)
TRUSTED = Trusted([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])
GREETING = b"+OK mailgate ready\r\n"
LOGIN = b"USER mrose\r\nPASS secret\r\n"
PLAIN_REFUSED = b"-ERR encryption is required for this login\r\n"
HEADERS = {
    "text": text_header(), "text, IPv6": text_header("2001:db8::7", 9, "TCP6", "::1"),
    "binary": binary_header(addresses()),
    "binary, IPv6": binary_header(addresses("2001:db8::7"), family=INET6),
    "with more": summed_header(tls_vector())}

SILENT = [      # of those that do not tell
    b"PROXY UNKNOWN\r\n", binary_header(command=LOCAL, family=UNSPECIFIED),
    binary_header(addresses("127.0.0.1"), command=LOCAL), binary_header(family=UNSPECIFIED),
    binary_header(bytes(216), family=UNIX)]


class ProxyCase(SynchronousTestCase):
    """A POP3 server behind a listener that trusts 10.0.0.0/8. After each test nothing may be left."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self._keep)
        self.addCleanup(globalLogPublisher.removeObserver, self._keep)
        self.server = self.make_server()
        self.proxy()

    def _keep(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace", "").startswith("mailgate.net"):
            self.lines.append(eventAsText(event, includeTimestamp=False, includeSystem=False))

    def make_server(self, crowd: Crowd | None = None, **policy: Any) -> Server:
        server = Server([mail_of(120), mail_of(200)], policy=Policy(limits=AT_ONCE, **policy))
        if crowd is not None:
            server.factory.crowd = crowd
        return server

    def proxy(self, served: Any = None, trusted: Trusted = TRUSTED, **how: Any) -> ProxyFactory:
        """Return what listens: one at a time."""
        clock: Any = self.server.clock
        self.front = ProxyFactory(served or self.server.factory, trusted, clock, **how)
        return self.front

    def connect(self, address: Address = BALANCER, front: ProxyFactory | None = None) -> Peer:
        return Peer(front or self.front, clock=self.server.clock, address=address)

    def tearDown(self) -> None:
        self.assertEqual(self.front.idle.watched, set())
        self.assertEqual(self.server.clock.getDelayedCalls(), [])


class HandingOverTests(ProxyCase):
    """From the header to the client."""

    def test_header_then_greeting(self) -> None:
        """Nothing is said before the header is whole; then all is as if the client had come itself."""
        self.proxy()
        for name, header in HEADERS.items():
            peer = self.connect()
            peer.say(header[:-1])
            self.assertEqual(peer.received, b"", name)
            peer.say(header[-1:])
            self.assertEqual(peer.received, GREETING, name)
            self.assertEqual(peer.transport.protocol.peer, "2001:db8::7" if "6" in name else "198.51.100.7")
            peer.say(b"QUIT\r\n")
            self.assertTrue(peer.closed)
        self.assertEqual(self.lines, [])

    def test_every_cut(self) -> None:
        """Header and commands in one go, cut anywhere, and octet by octet."""
        self.proxy()
        for header in HEADERS.values():
            octets = header + b"CAPA\r\nNOOP\r\nQUIT\r\n"
            whole = self.connect()
            whole.say(octets)
            self.assertTrue(whole.closed)
            self.assertTrue(bytes(whole.received).startswith(GREETING + b"+OK "))
            for at in range(len(octets)):
                peer = self.connect()
                peer.say(octets[:at])
                peer.say(octets[at:])
                self.assertEqual(peer.received, whole.received, at)
            for size in (1, 2, 7):
                peer = self.connect()
                peer.say(octets, size)
                self.assertEqual((peer.received, peer.closed), (whole.received, True))

    @given(st.sampled_from(sorted(HEADERS)), st.binary(max_size=300),
           st.lists(st.integers(1, 90), max_size=30))
    @settings(deadline=None, max_examples=60)
    def test_trailing_octets_are_untouched(self, name: str, rest: bytes, cuts: list[int]) -> None:
        """Whatever follows reaches the protocol behind, octet for octet, whatever the pieces."""
        heard = bytearray()

        class Behind:
            def buildProtocol(self, addr: Any) -> Any:
                self.address = addr
                return self

            def makeConnection(self, transport: Any) -> None:
                assert transport.getPeer() is self.address

            def connectionLost(self, reason: Any) -> None:
                heard.extend(b"END")

            dataReceived = staticmethod(heard.extend)

        peer = self.connect(front=self.proxy(Behind()))
        octets = HEADERS[name] + rest
        for cut in cuts:
            peer.say(octets[:cut])
            octets = octets[cut:]
        peer.say(octets)
        peer.vanish()
        self.assertEqual(bytes(heard), rest + b"END")

    def test_a_proxy_that_does_not_tell(self) -> None:
        """Its own address is what there is: of health checks, of unknown protocols, of its own machine."""
        self.proxy()
        for header in [*SILENT, text_header("127.0.0.1"), binary_header(addresses("::1"), family=INET6)]:
            peer = self.connect()
            peer.say(header)
            self.assertEqual((peer.received, peer.transport.protocol.peer), (GREETING, "10.1.2.3"))
            peer.vanish()

    def test_nothing_stays_between(self) -> None:
        """The transport speaks to the client's protocol; what read the header is gone from memory."""
        self.proxy()
        peer = self.connect()
        peer.say(text_header())
        peer.protocol = None        # the test's own hold on it
        gc.collect()
        self.assertEqual([one for one in gc.get_objects() if type(one) is HeaderReader], [])
        self.assertIs(peer.transport.protocol.factory, self.server.factory)
        self.assertIs(peer.transport.protocol.transport, peer.transport)
        self.assertIs(peer.transport.producer, peer.transport.protocol)
        peer.vanish()
        self.assertEqual(self.server.left_behind(), [])

    def test_full_or_stopping_behind(self) -> None:
        """A factory that has no protocol to give closes the connection."""
        self.proxy()
        peers = [self.connect() for _ in range(2)]
        self.successResultOf(self.server.factory.shutdown())
        peers[0].say(text_header() + b"QUIT\r\n")
        self.assertEqual((peers[0].received, peers[0].closed), (b"", True))
        peers[1].vanish()


class RefusalTests(ProxyCase):
    """What is no header, or comes too late."""

    def test_malformed(self) -> None:
        """Closed without a word, with one line for the operator; nothing behind it is executed."""
        self.proxy()
        for octets, words in ((b"USER mrose\r\nPASS secret\r\n", "does not begin as one"),
                              (b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3", "does not begin as one"),
                              (text_header("127.0.0.01") + LOGIN, "an address"),
                              (text_header().replace(b"\r", b"") + LOGIN, "CRLF"),
                              (summed_header(wrong=1) + LOGIN, "checksum is wrong"),
                              (b"PROXY " + b"x" * 200, "longer than 107")):
            peer = self.connect()
            peer.say(octets)
            peer.say(b"QUIT\r\n")
            self.assertEqual((peer.received, peer.closed), (b"", True))
            self.assertEqual(len(self.lines), 1)
            line = self.lines.pop()
            self.assertTrue(line.startswith("PROXY header from 10.1.2.3 refused: "), line)
            self.assertIn(words, line)
        self.assertEqual(self.server.realm.opened, [])

    def test_a_server_without_time(self) -> None:
        """A header that lay there while nobody here came to read it is read all the same."""
        self.proxy()
        peer = self.connect()
        self.server.clock.advance(20 * HEADER_SECONDS)      # one tick for all of it
        self.assertFalse(peer.closed)
        peer.say(text_header() + b"QUIT\r\n")
        self.assertTrue(peer.received.startswith(b"+OK"))
        self.assertEqual(self.lines, [])

    def test_time(self) -> None:
        """Five seconds from the start, however busy; one clock for all of them."""
        self.proxy()
        silent, slow = self.connect(), self.connect()
        for octet in text_header()[:9]:
            slow.say(bytes([octet]))
            silent.advance(0.5)
        self.assertEqual((silent.closed, slow.closed), (False, False))
        late = self.connect()
        silent.advance(2.5)
        late.settle()
        slow.settle()
        self.assertEqual((silent.closed, slow.closed, late.closed), (True, True, False))
        self.assertEqual(self.lines, [
            f"PROXY header from 10.1.2.3 refused: it was not whole after {HEADER_SECONDS:g} s"] * 2)
        late.say(text_header() + b"QUIT\r\n")
        self.assertTrue(late.closed)

    def test_vanishing(self) -> None:
        """Who looks whether there is a server leaves no line; who goes within a header leaves one."""
        self.proxy()
        self.connect().vanish()
        self.assertEqual(self.lines, [])
        peer = self.connect()
        peer.say(b"PROXY ")
        peer.vanish()
        self.assertEqual(self.lines, ["PROXY header from 10.1.2.3 refused: it was cut off"])

    def test_no_listener_any_more(self) -> None:
        """When the port is closed, who has said no header is cut; sessions go on."""
        front = self.proxy()
        front.doStart()
        waiting, session = self.connect(), self.connect()
        session.say(text_header())
        front.doStop()
        for peer in (waiting, session):
            peer.settle()
        self.assertEqual((waiting.closed, session.closed), (True, False))
        session.vanish()


class TrustTests(ProxyCase):
    """Whose word is taken."""

    def test_who(self) -> None:
        """By network, in both of its clothes; a unix socket only by that word."""
        trusted = Trusted([ip_network("10.0.0.0/8"), ip_network("::1/128"), ip_network("fe80::/64")])
        for host, expected in {
                "10.255.0.1": True, "::ffff:10.0.0.1": True, "11.0.0.1": False, "::1": True, "::2": False,
                "127.0.0.1": False, "fe80::7%eth0": True, "0.0.0.0": False, "a name": False,
                "": False}.items():
            kind = IPv6Address if ":" in host else IPv4Address
            self.assertIs(trusted.vouches(kind("TCP", host, 1)), expected, host)
        for listed, expected in (([ip_network("10.0.0.0/8")], False), (["unix"], True)):
            self.assertIs(Trusted(listed).vouches(UNIXAddress("/run/x")), expected)
            self.assertIs(Trusted(listed).vouches(UNIXAddress(None)), expected)
            self.assertIs(Trusted(listed).vouches(None), expected)
        self.assertFalse(Trusted(["unix"]).vouches(BALANCER))

    def test_others_are_clients(self) -> None:
        """Whoever comes from elsewhere is greeted at once; a header from there is a bad command."""
        self.proxy()
        for header in HEADERS.values():
            peer = self.connect(ELSEWHERE)
            self.assertEqual(peer.received, GREETING)
            peer.received.clear()
            peer.say(header + b"NOOP\r\n")
            self.assertTrue(bytes(peer.received).startswith(b"-ERR "), peer.received)
            self.assertEqual(peer.transport.protocol.peer, "192.168.1.2")
            peer.vanish()

    def test_a_second_header_is_none(self) -> None:
        """A client who says a header of his own, behind that of his proxy, changes nothing."""
        self.proxy()
        for spoofed in (text_header("127.0.0.1"), binary_header(addresses("127.0.0.1"))):
            peer = self.connect()
            peer.say(text_header() + spoofed + LOGIN)
            self.assertEqual(peer.transport.protocol.peer, "198.51.100.7")
            self.assertTrue(bytes(peer.received).startswith(GREETING + b"-ERR "), peer.received)
            peer.vanish()
        self.assertEqual(self.server.realm.opened, [])


class PlaintextTests(ProxyCase):
    """Passwords in clear: whoever came by a proxy is never of this machine."""

    def says(self, header: bytes, address: Address = BALANCER, trusted: Trusted = TRUSTED, tls: bool = False,
             served: Any = None) -> bytes:
        """Return what PASS is answered."""
        self.proxy(served, trusted=trusted, tls=tls)
        peer = self.connect(address)
        peer.say(header + LOGIN)
        peer.vanish()
        return bytes(peer.received).splitlines(keepends=True)[-1]

    def test_spoofed_loopback(self) -> None:
        """A claim to be on this machine, a proxy on it, and its own health check: all refused."""
        here = Trusted([ip_network("127.0.0.0/8"), ip_network("::1/128"), "unix"])
        claims = [text_header("127.0.0.1"), text_header("::1", 1, "TCP6", "::1"),
                  text_header("::ffff:127.0.0.1", 1, "TCP6", "::1"), binary_header(addresses("127.0.0.1")),
                  binary_header(addresses("::ffff:127.0.0.1"), family=INET6)]
        for header in [*claims, *SILENT, text_header()]:
            for address, trusted in ((BALANCER, TRUSTED), (LOOPBACK, here), (UNIXAddress(None), here)):
                self.assertEqual(self.says(header, address, trusted), PLAIN_REFUSED, header)
        self.assertEqual(self.server.realm.opened, [])
        self.assertTrue(self.says(b"", LOOPBACK).startswith(b"+OK maildrop has"))

    def test_where_it_is_allowed(self) -> None:
        """The setting that allows it everywhere, allows it here."""
        self.server = self.make_server(plaintext_login=True)
        self.assertTrue(self.says(text_header()).startswith(b"+OK maildrop has"))

    def test_tls_at_the_proxy(self) -> None:
        """The client's TLS counts only where the setting says so, and only if the header says it."""
        inside = binary_header(addresses(), tls_vector())
        self.assertEqual(self.says(inside), PLAIN_REFUSED)
        self.assertEqual(self.says(binary_header(addresses(), tls_vector(flags=6)), tls=True), PLAIN_REFUSED)
        self.assertEqual(self.says(text_header(), tls=True), PLAIN_REFUSED)
        self.assertTrue(self.says(inside, tls=True).startswith(b"+OK maildrop has"))
        opened = len(self.server.realm.opened)
        self.assertEqual(self.says(inside, ELSEWHERE, tls=True), b"+OK goodbye\r\n")   # it spells QUIT
        self.assertEqual(len(self.server.realm.opened), opened)

    def test_stls_stays_what_it_is(self) -> None:
        """Inside our own TLS passwords are taken; STLS is not offered where TLS ends at the proxy."""
        folder = Path(self.mktemp())
        folder.mkdir()
        authority = Authority()
        self.server.factory.tls = server_tls(authority.issue(NAME), folder)
        for header, tls, offered in ((text_header(), True, True), (summed_header(tls_vector()), True, False),
                                     (summed_header(tls_vector()), False, True)):
            peer = self.connect(front=self.proxy(tls=tls))
            peer.say(header + b"CAPA\r\n")
            self.assertIs(b"\r\nSTLS\r\n" in peer.received, offered)
            peer.vanish()
        client = SecurePeer(self.proxy(), client_context(authority), clock=self.server.clock,
                            address=BALANCER)
        client.say(text_header() + b"STLS\r\n")
        client.begin()
        client.say(LOGIN)
        self.assertIn(b"+OK maildrop has", client.received)
        client.peer.vanish()


class LimitTests(ProxyCase):
    """The client counts, not its proxy."""

    def test_per_address(self) -> None:
        """Many clients of one proxy are many; one client's connections by two proxies are one's."""
        self.server = self.make_server(Crowd(per_address=2, per_network=3))
        self.proxy(crowd=self.server.factory.crowd)
        peers = []
        for last, ok in ((7, True), (7, True), (7, False), (8, True), (9, False)):
            for address in (BALANCER,):
                peer = self.connect(address)
                peer.say(text_header(f"198.51.100.{last}"))
                self.assertEqual(bytes(peer.received).startswith(b"+OK"), ok, last)
                peers.append(peer)
        other = self.connect(IPv4Address("TCP", "10.9.9.9", 1))
        other.say(binary_header(addresses("198.51.100.7")))
        self.assertTrue(bytes(other.received).startswith(b"-ERR [SYS/TEMP]"))
        self.assertEqual(self.server.factory.crowd.count, 3)
        for peer in peers:
            peer.vanish()
        self.assertEqual(self.server.factory.crowd.count, 0)
        self.assertEqual(+self.server.factory.crowd._places, {})

    def test_in_all(self) -> None:
        """Who has said no header yet counts in all; one too many is closed without a word."""
        crowd = Crowd(2, per_address=1)
        self.server = self.make_server(crowd)
        self.proxy(crowd=crowd)
        waiting = [self.connect(), self.connect()]
        self.assertEqual(crowd.count, 2)
        with self.assertRaises(ConnectionRefusedError):
            self.connect()
        waiting[0].say(text_header())
        self.assertEqual((waiting[0].received, crowd.count), (GREETING, 2))
        waiting[1].advance(2 * HEADER_SECONDS)
        waiting[1].settle()
        self.assertEqual((waiting[1].closed, crowd.count), (True, 1))
        waiting[0].vanish()
        self.assertEqual(crowd.count, 0)


class OtherProtocolTests(ProxyCase):
    """The header in front of everything else that listens."""

    def test_pop3s(self) -> None:
        """The header comes in clear, then TLS, both in one segment too; a header inside TLS is none."""
        folder = Path(self.mktemp())
        folder.mkdir()
        authority = Authority()
        tls = server_tls(authority.issue(NAME), folder)
        clock: Any = self.server.clock
        self.proxy(TLSFactory(tls, self.server.factory, clock))

        def client() -> SecurePeer:
            return SecurePeer(self.front, client_context(authority), clock=self.server.clock,
                              address=BALANCER)

        for header in HEADERS.values():
            for at_once in (True, False):
                peer = client()
                if at_once:
                    peer.peer.say(header + peer.hello())
                    peer.turn()
                else:
                    peer.piece_octets = 3
                    peer.peer.say(header, 1)
                    peer.begin()
                self.assertEqual((peer.received, bytes(peer.clear)), (GREETING, b""))
                peer.say(LOGIN + b"QUIT\r\n")
                self.assertIn(b"+OK maildrop has", peer.received)
                self.assertTrue(peer.farewell)
                peer.peer.vanish()
        self.assertTrue(all(" from " in line and "10.1.2.3" not in line for line in self.lines), self.lines)
        peer = client()
        peer.begin()                # without a header: TLS is none
        self.assertTrue(peer.closed)
        self.assertIn("refused", self.lines[-1])

    def test_lmtp(self) -> None:
        """The Received field tells of the client, and the log too."""
        lmtp = LmtpServer()
        self.server.clock = lmtp.clock
        self.proxy(lmtp.factory)
        for header, host in ((text_header(), "198.51.100.7"),
                             (binary_header(addresses("2001:db8::7"), family=INET6), "IPv6:2001:db8::7")):
            peer = self.connect()
            peer.say(header + b"LHLO mx.example\r\nMAIL FROM:<s@y>\r\nRCPT TO:<a@x>\r\nDATA\r\n")
            peer.say(b"a: b\r\n\r\n.\r\nQUIT\r\n")
            self.assertTrue(peer.closed)
            self.assertIn(f"Received: from mx.example ([{host}])".encode(), lmtp.stub.committed[-1].content)
            self.assertIn(host.removeprefix("IPv6:"), self.lines[-1])

    def test_kpop(self) -> None:
        """The exchange follows the header; tickets are judged by the client's address."""
        acceptor = FakeAcceptor()
        factory = KPOPFactory(self.server.factory.portal, acceptor, clock=self.server.clock,
                              policy=self.server.factory.policy)
        self.proxy(factory)
        peer = self.connect()
        peer.say(text_header() + VERSIONS)
        self.assertEqual(peer.received, b"\0")
        peer.say(b"\0\0\0\5alice")
        self.assertEqual(acceptor.peers, ["198.51.100.7"])
        self.assertIn(GREETING, peer.received)
        peer.vanish()


class SocketTests(TestCase):
    """Real sockets: what a transport of the reactor's does when it is handed over."""

    def setUp(self) -> None:
        self.server = Server([mail_of(120), mail_of(3_000_000)], policy=Policy(limits=AT_ONCE))
        self.server.factory.policy = Policy(limits=AT_ONCE, plaintext_login=True)

    async def listen(self, description: str, *networks: Any) -> Any:
        front = ProxyFactory(self.server.factory, Trusted(networks), Clock())
        port = await serverFromString(reactor, description).listen(front)

        async def stop() -> None:
            await port.stopListening()
            for connection in list(self.server.factory.idle.watched):
                connection.cut()

        self.addCleanup(lambda: Deferred.fromCoroutine(stop()))
        return port

    async def test_tcp(self) -> None:
        """A large message flows as ever, at the pace of the client."""
        port = await self.listen("tcp:0:interface=127.0.0.1", ip_network("127.0.0.1/32"))
        for header in (text_header(), binary_header(addresses("2001:db8::7"), family=INET6)):
            got = await deferToThread(talk, ("127.0.0.1", port.getHost().port), socket.AF_INET, header)
            self.check(got)

    async def test_unix(self) -> None:
        """Behind a unix socket."""
        folder = tempfile.mkdtemp()     # short: sun_path has 107 octets
        self.addCleanup(shutil.rmtree, folder)
        path = f"{folder}/proxy"
        await self.listen(f"unix:{path}", "unix")
        self.check(await deferToThread(talk, path, socket.AF_UNIX, text_header()))

    async def test_malformed(self) -> None:
        """Nothing comes back but the end."""
        port = await self.listen("tcp:0:interface=127.0.0.1", ip_network("127.0.0.1/32"))
        address = "127.0.0.1", port.getHost().port
        self.assertEqual(await deferToThread(talk, address, socket.AF_INET, b"PROXY TCP4 x\r\n"), b"")

    def check(self, got: bytes) -> None:
        self.assertTrue(got.startswith(GREETING), got[:100])
        self.assertTrue(got.endswith(b"\r\n.\r\n+OK goodbye\r\n"), got[-100:])
        self.assertGreater(len(got), 3_000_000)


def talk(address: Any, family: int, header: bytes) -> bytes:
    """Fetch the large message, all commands in one go behind the header; runs in a thread."""
    with socket.socket(family) as client:
        client.settimeout(60)
        client.connect(address)
        client.sendall(header + LOGIN + b"RETR 2\r\nQUIT\r\n")
        got = bytearray()
        try:
            while piece := client.recv(1 << 16):
                got += piece
        except ConnectionResetError:
            pass
        return bytes(got)
