"""POP3 inside TLS: STLS (RFC 2595 section 4) and TLS from the first octet (RFC 8314 section 3)."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import eventAsText, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailgate.net.tls import ServerTLS, TLSFactory
from mailgate.pop3.policy import Limits, Policy
from mailgate.testing.certificates import Authority
from mailgate.testing.peers import FAR_AWAY, LOOPBACK, Address, Peer
from tests.net.secure import NAME, SecurePeer, client_context, server_tls
from tests.pop3.maildrops import Mail, mail_of
from tests.pop3.staging import AT_ONCE, Server

AUTHORITY = Authority()
ISSUED = AUTHORITY.issue(NAME)
LOGIN = b"USER mrose\r\nPASS secret\r\n"
INJECTIONS = {
    "a login": b"STLS\r\nUSER mrose\r\nPASS secret\r\nSTAT\r\n",
    "with messages": b"STLS\r\nUSER mrose\r\nPASS secret\r\nRETR 1\r\nRETR 2\r\nDELE 1\r\nQUIT\r\n",
    "with a prelude": b"CAPA\r\nUSER mrose\r\nSTLS\r\nPASS secret\r\nSTAT\r\n",
    "an exchange": b"STLS\r\nAUTH PLAIN\r\nAG1yb3NlAHNlY3JldA==\r\n",
    "half a line": b"STLS\r\nU",
}


def a_hello() -> bytes:
    """Return a client's first flight, to nobody."""
    out = ssl.MemoryBIO()
    client = client_context(AUTHORITY).wrap_bio(ssl.MemoryBIO(), out, server_hostname=NAME)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


class TlsCase(SynchronousTestCase):
    """A server with a certificate. After each test nothing may be left: no session, no timer, no lease."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self._keep)
        self.addCleanup(globalLogPublisher.removeObserver, self._keep)
        self.tls = self.make_tls()
        self.server = self.make_server()

    def _keep(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace", "").startswith("mailgate.net"):
            self.lines.append(eventAsText(event, includeTimestamp=False, includeSystem=False))

    def make_tls(self, profile: str = "intermediate", **options: Any) -> ServerTLS:
        folder = Path(self.mktemp())
        folder.mkdir()
        return server_tls(ISSUED, folder, profile, **options)

    def make_server(self, *mails: Mail, limits: Limits = AT_ONCE, **policy: Any) -> Server:
        server = Server(list(mails) or [mail_of(120), mail_of(200)],
                        policy=Policy(limits=limits, **policy))
        server.factory.tls = self.tls
        return server

    def connect(self, server: Server | None = None, *, implicit: bool = False, address: Address = LOOPBACK,
                context: ssl.SSLContext | None = None, reading_octets: int | None = None) -> SecurePeer:
        server = server or self.server
        clock: Any = server.clock
        factory: Any = TLSFactory(self.tls, server.factory, clock) if implicit else server.factory
        return SecurePeer(factory, context or client_context(AUTHORITY), clock=clock, address=address,
                          reading_octets=reading_octets)

    def inside(self, server: Server | None = None, *, implicit: bool = False, **how: Any) -> SecurePeer:
        """Return a peer inside TLS, by STLS or from the first octet; what came so far is forgotten."""
        peer = self.connect(server, implicit=implicit, **how)
        if not implicit:
            peer.say(b"STLS\r\n")
            self.assertTrue(bytes(peer.clear).endswith(b"\r\n+OK begin TLS\r\n"), peer.clear)
        peer.begin()
        self.assertTrue(peer.secure, peer.fault)
        if implicit:
            self.assertEqual(peer.received, b"+OK mailgate ready\r\n")
            peer.received.clear()
        return peer

    def answer(self, peer: SecurePeer, octets: bytes) -> bytes:
        peer.received.clear()
        peer.say(octets)
        return bytes(peer.received)

    def nothing_left(self, server: Server | None = None) -> None:
        server = server or self.server
        self.assertEqual(server.left_behind(), [])
        self.assertEqual(server.factory.idle.watched, set())
        self.assertEqual(self.flushLoggedErrors(), [])


class InjectionTests(TlsCase):
    """Octets in clear behind STLS are never carried out, wherever segments end (RFC 2595 section 4)."""

    def assert_unexecuted(self, peer: SecurePeer, said: str) -> None:
        self.assertTrue(peer.closed, said)
        self.assertEqual(self.server.realm.opened, [], said)
        self.assertNotIn(b"maildrop", peer.clear, said)
        self.assertEqual(peer.received, b"", said)
        self.nothing_left()

    def test_every_split(self) -> None:
        """Two segments, cut at every octet: the connection ends, and nobody is logged in."""
        for name, octets in INJECTIONS.items():
            for cut in range(len(octets) + 1):
                peer = self.connect()
                for part in (octets[:cut], octets[cut:]):
                    peer.say(part)
                if name == "half a line" and not peer.closed:   # one octet is less than TLS can judge
                    peer.say(b"SER x\r\n")
                self.assert_unexecuted(peer, f"{name}, cut at {cut}")

    def test_octet_by_octet(self) -> None:
        """Each octet a segment: STLS is answered, and what follows is no TLS."""
        for name, octets in INJECTIONS.items():
            peer = self.connect()
            peer.peer.say(octets + b"NOOP\r\n", 1)
            self.assertIn(b"+OK begin TLS\r\n", peer.clear)
            self.assert_unexecuted(peer, name)

    def test_in_front_of_a_hello(self) -> None:
        """A real ClientHello behind the injected command saves nothing, in one segment or in two."""
        for cut in (True, False):
            peer = self.connect()
            hello = peer.hello()
            if cut:
                peer.peer.say(b"STLS\r\n")
                peer.peer.say(b"USER mrose\r\n" + hello)
            else:
                peer.peer.say(b"STLS\r\nUSER mrose\r\n" + hello)
            peer.turn()
            self.assertFalse(peer.secure)
            self.assert_unexecuted(peer, f"cut: {cut}")

    def test_between_answer_and_hello(self) -> None:
        """Said by somebody else between +OK and the ClientHello, at every cut of it."""
        injected = b"USER mrose\r\n"
        for cut in range(1, len(injected) + 1):
            peer = self.connect()
            peer.say(b"STLS\r\n")
            peer.say(injected[:cut])
            peer.peer.say(injected[cut:] + peer.hello())
            peer.turn()
            self.assertFalse(peer.secure)
            self.assert_unexecuted(peer, f"cut at {cut}")

    def test_a_hello_that_does_not_wait(self) -> None:
        """A client that does not wait for +OK is turned away too: nobody can tell who said it."""
        peer = self.connect()
        peer.peer.say(b"STLS\r\n" + peer.hello())
        self.assert_unexecuted(peer, "at once")

    def test_no_answer_is_sent(self) -> None:
        """Behind STLS in one segment: not even the +OK that would let the client go on."""
        peer = self.connect()
        peer.say(INJECTIONS["a login"])
        self.assertEqual(peer.clear, b"+OK mailgate ready\r\n")
        self.assertEqual(self.lines, ["octets behind STLS from 127.0.0.1"])

    def test_behind_a_pending_login(self) -> None:
        """A refused login is answered late; a STLS that waits behind it is cut like any other."""
        server = self.make_server(limits=Limits(failure_delay_seconds=2.0))
        peer = self.connect(server)
        peer.say(b"USER mrose\r\nPASS wrong\r\nSTLS\r\nUSER mrose\r\nPASS secret\r\n")
        peer.peer.advance(3)
        self.assertTrue(peer.closed)
        self.assertEqual(server.realm.opened, [])
        self.nothing_left(server)


class ForgettingTests(TlsCase):
    """What was learnt in clear is forgotten; what guards against guessing is not."""

    def test_no_second_greeting(self) -> None:
        peer = self.inside()
        self.assertEqual(peer.received, b"")
        self.assertEqual(self.answer(peer, b"NOOP\r\n"), b"-ERR command refused\r\n")

    def test_user_is_forgotten(self) -> None:
        """The name of a USER in clear is nobody's inside TLS."""
        peer = self.connect()
        peer.say(b"USER mrose\r\n")
        peer.say(b"STLS\r\n")
        peer.begin()
        self.assertEqual(self.answer(peer, b"PASS secret\r\n"), b"-ERR command refused\r\n")
        self.assertIn(b"+OK maildrop", self.answer(peer, LOGIN))
        peer.say(b"QUIT\r\n")
        peer.close()
        self.nothing_left()

    def test_no_stls_in_an_exchange(self) -> None:
        """STLS as a response of AUTH is a malformed response; afterwards it works."""
        peer = self.connect()
        peer.say(b"AUTH PLAIN\r\nSTLS\r\n")
        self.assertTrue(bytes(peer.clear).endswith(b"-ERR malformed authentication exchange\r\n"))
        peer.say(b"STLS\r\n")
        peer.begin()
        self.assertIn(b"+OK maildrop", self.answer(peer, LOGIN))

    def test_bad_commands_count_on(self) -> None:
        """Nineteen bad commands in clear and one inside TLS are twenty."""
        peer = self.connect()
        peer.say(b"XYZZY\r\n" * 19)
        peer.say(b"STLS\r\n")
        peer.begin()
        self.assertEqual(self.answer(peer, b"XYZZY\r\n"), b"-ERR command refused\r\n")
        self.assertTrue(peer.farewell)
        self.close(peer)

    def test_refused_logins_count_on(self) -> None:
        """Two refusals in clear and one inside TLS are three."""
        peer = self.connect()
        peer.say(b"USER mrose\r\nPASS wrong\r\n" * 2)
        peer.say(b"STLS\r\n")
        peer.begin()
        self.assertIn(b"-ERR [AUTH]", self.answer(peer, b"USER mrose\r\nPASS wrong\r\n"))
        self.assertTrue(peer.farewell)
        self.close(peer)

    def close(self, peer: SecurePeer) -> None:
        peer.close()
        self.assertTrue(peer.closed)


class OfferTests(TlsCase):
    """CAPA, and who may say a password where (RFC 2595 section 2.3, RFC 8314 section 3.3)."""

    def capabilities(self, peer: SecurePeer) -> list[bytes]:
        if peer.tls is None:
            before = len(peer.clear)
            peer.say(b"CAPA\r\n")
            said = bytes(peer.clear[before:])
        else:
            said = self.answer(peer, b"CAPA\r\n")
        return said.split(b"\r\n")[1:-2]

    def test_capa_before_and_after(self) -> None:
        """STLS is announced in clear only; a far client sees ways to log in only inside TLS."""
        peer = self.connect(address=FAR_AWAY)
        before = self.capabilities(peer)
        self.assertIn(b"STLS", before)
        self.assertNotIn(b"USER", before)
        self.assertNotIn(b"SASL PLAIN", [word[:10] for word in before])
        peer.say(b"STLS\r\n")
        peer.begin()
        inside = self.capabilities(peer)
        self.assertNotIn(b"STLS", inside)
        self.assertIn(b"USER", inside)
        self.assertIn(b"PLAIN", next(word for word in inside if word.startswith(b"SASL ")).split())
        peer.say(LOGIN)
        self.assertEqual(self.capabilities(peer), inside)

    def test_not_after_the_login(self) -> None:
        """C3: after a login in clear STLS is neither announced nor taken."""
        peer = self.connect()
        peer.say(LOGIN)
        self.assertNotIn(b"STLS", self.capabilities(peer))
        peer.say(b"STLS\r\n")
        self.assertTrue(bytes(peer.clear).endswith(b"-ERR command refused\r\n"))

    def test_once_only(self) -> None:
        """T2: inside TLS, by STLS or from the first octet, there is no STLS."""
        for implicit in (False, True):
            peer = self.inside(implicit=implicit)
            self.assertNotIn(b"STLS", self.capabilities(peer))
            self.assertEqual(self.answer(peer, b"STLS\r\n"), b"-ERR command refused\r\n")

    def test_no_arguments(self) -> None:
        peer = self.connect()
        peer.say(b"STLS now\r\n")
        self.assertTrue(bytes(peer.clear).endswith(b"-ERR command refused\r\n"))
        peer.say(b"STLS\r\n")
        self.assertTrue(bytes(peer.clear).endswith(b"+OK begin TLS\r\n"))

    def test_policy(self) -> None:
        """Left out: loopback alone; false: nobody; true: all. Inside TLS: everybody, always."""
        for setting, address, allowed in [
                (None, LOOPBACK, True), (None, FAR_AWAY, False), (False, LOOPBACK, False),
                (False, FAR_AWAY, False), (True, LOOPBACK, True), (True, FAR_AWAY, True)]:
            said = f"plaintext_login {setting}, {address.host}"
            server = self.make_server(plaintext_login=setting)
            peer = self.connect(server, address=address)
            self.assertEqual(b"USER" in self.capabilities(peer), allowed, said)
            before = len(peer.clear)
            peer.say(b"USER mrose\r\n")
            peer.say(b"PASS secret\r\n")
            answers = bytes(peer.clear[before:])
            self.assertEqual(len(server.realm.opened), int(allowed), said)
            if not allowed:
                self.assertEqual(answers, b"-ERR encryption is required for this login\r\n" * 2, said)
            for implicit in (False, True):
                peer = self.inside(server, implicit=implicit, address=address)
                self.assertIn(b"+OK maildrop", self.answer(peer, LOGIN), said)
                peer.say(b"QUIT\r\n")

    def test_refused_before_a_secret_is_said(self) -> None:
        """AUTH PLAIN is refused instead of challenged, and one that brings its secret is not decoded."""
        peer = self.connect(self.make_server(plaintext_login=False))
        peer.say(b"AUTH PLAIN\r\n")
        self.assertTrue(bytes(peer.clear).endswith(b"-ERR encryption is required for this login\r\n"))
        self.assertNotIn(b"\r\n+ ", peer.clear)
        peer.say(b"AUTH PLAIN *nonsense*\r\n")
        self.assertTrue(bytes(peer.clear).endswith(b"-ERR encryption is required for this login\r\n"))

    def test_nothing_without_a_certificate(self) -> None:
        """T8."""
        self.server.factory.tls = None
        peer = self.connect()
        self.assertNotIn(b"STLS", self.capabilities(peer))
        peer.say(b"STLS\r\n")
        self.assertTrue(bytes(peer.clear).endswith(b"-ERR command refused\r\n"))


class ImplicitTests(TlsCase):
    """POP3S: nothing is said before TLS stands."""

    def test_greeting_after_the_handshake(self) -> None:
        peer = self.connect(implicit=True)
        self.assertEqual(peer.clear, b"")
        peer.begin()
        self.assertEqual(peer.received, b"+OK mailgate ready\r\n")
        self.assertIn(b"+OK maildrop", self.answer(peer, LOGIN))
        peer.say(b"QUIT\r\n")
        peer.close()
        self.nothing_left()

    def test_plain_client(self) -> None:
        """One that speaks POP3 in clear gets no greeting, no answer, and the end."""
        peer = Peer(TLSFactory(self.tls, self.server.factory, self.server.clock), clock=self.server.clock)
        peer.say(LOGIN)
        self.assertNotIn(b"+OK", peer.received)
        self.assertNotIn(b"-ERR", peer.received)
        self.assertTrue(peer.closed)
        self.assertEqual(self.lines, ["no TLS with 127.0.0.1: wrong version number"])
        self.nothing_left()

    def test_while_stopping(self) -> None:
        """Who connects while the service stops is closed."""
        self.server.factory.shutdown()
        factory = TLSFactory(self.tls, self.server.factory, self.server.clock)
        self.assertIsNone(factory.buildProtocol(LOOPBACK))


class HandshakeTests(TlsCase):
    """A handshake that fails or does not end: one line in the log, and nothing is left."""

    def begun(self, implicit: bool, context: ssl.SSLContext | None = None) -> SecurePeer:
        peer = self.connect(implicit=implicit, context=context)
        if not implicit:
            peer.say(b"STLS\r\n")
        return peer

    def assert_failed(self, peer: SecurePeer, line: str) -> None:
        self.assertTrue(peer.closed)
        self.assertEqual(peer.received, b"")
        self.assertEqual(self.lines, [f"no TLS with 127.0.0.1: {line}"])
        self.assertEqual(self.server.realm.opened, [])
        self.nothing_left()
        self.lines.clear()

    def test_garbage(self) -> None:
        for implicit in (False, True):
            peer = self.begun(implicit)
            peer.peer.say(b"\x16\x03\x01\x00\x20" + b"x" * 32)
            peer.peer.say(LOGIN)
            self.assertTrue(peer.closed)
            self.assertEqual(len(self.lines), 1)
            self.assertTrue(self.lines[0].startswith("no TLS with 127.0.0.1: "), self.lines)
            self.nothing_left()
            self.lines.clear()

    def test_old_client(self) -> None:
        """T11: what ends at TLS 1.1 is refused."""
        for implicit in (False, True):
            context = client_context(AUTHORITY, least=ssl.TLSVersion.TLSv1, most=ssl.TLSVersion.TLSv1_1,
                                     ciphers="ALL:@SECLEVEL=0")
            peer = self.begun(implicit, context)
            peer.begin()
            self.assertFalse(peer.secure)
            self.assert_failed(peer, "unsupported protocol")

    def test_client_that_does_not_trust_us(self) -> None:
        for implicit in (False, True):
            peer = self.begun(implicit, client_context(None, most=ssl.TLSVersion.TLSv1_2))
            peer.begin()
            self.assertIn("CERTIFICATE_VERIFY_FAILED", str(peer.fault))
            peer.peer.vanish()
            self.assertIn("unknown ca", self.lines[0])
            self.lines.clear()
            self.nothing_left()

    def test_vanishing_anywhere(self) -> None:
        """Gone after each octet of the client's first flight, and after all of it: nothing is left."""
        for implicit in (False, True):
            hello = a_hello()
            for octets in (*range(0, len(hello), 17), len(hello)):
                peer = self.begun(implicit)
                peer.peer.say(peer.hello()[:octets])
                peer.peer.vanish()
                self.assertLess(len(self.lines), 2)
                self.lines.clear()
                self.nothing_left()

    @settings(deadline=None, max_examples=150)
    @given(st.lists(st.one_of(
        st.binary(max_size=40),
        st.builds(lambda kind, version, body: bytes([kind]) + version + len(body).to_bytes(2, "big") + body,
                  st.integers(20, 24), st.sampled_from([b"\x03\x00", b"\x03\x01", b"\x03\x03"]),
                  st.binary(max_size=60)),
        st.integers(0, 500).map(lambda cut: a_hello()[:cut])), max_size=5), st.booleans())
    def test_any_octets(self, flights: list[bytes], implicit: bool) -> None:
        """Whatever comes for a handshake: nothing is raised, nobody is logged in, and nothing is left."""
        peer = self.begun(implicit)
        heard = len(peer.clear)
        for flight in flights:
            peer.peer.say(flight)
        self.assertNotIn(b"+OK", bytes(peer.clear[heard:]))
        self.assertNotIn(b"-ERR", bytes(peer.clear[heard:]))
        peer.peer.vanish()
        self.assertEqual(self.server.realm.opened, [])
        self.assertLess(len(self.lines), 2)
        self.lines.clear()
        self.nothing_left()

    def test_silence_is_cut(self) -> None:
        """T: `login_seconds` after it began, however slowly its octets trickle in."""
        server = self.make_server(limits=Limits(login_seconds=30.0))
        for implicit in (False, True):
            for trickle in (b"", a_hello()[:-1]):
                peer = self.connect(server, implicit=implicit)
                if not implicit:
                    peer.say(b"STLS\r\n")
                hello = trickle
                for _ in range(29):
                    self.assertFalse(peer.closed)
                    peer.peer.say(hello[:4])
                    hello = hello[4:]
                    peer.peer.advance(1)
                peer.peer.advance(10)
                self.assertTrue(peer.closed)
                self.nothing_left(server)

    def test_shutdown(self) -> None:
        """A service that stops waits for no handshake, and says nothing in clear."""
        for implicit in (False, True):
            server = self.make_server()
            peer = self.connect(server, implicit=implicit)
            if not implicit:
                peer.say(b"STLS\r\n")
            heard = bytes(peer.clear)
            ended = server.factory.shutdown()
            peer.peer.settle()
            self.successResultOf(ended)
            self.assertTrue(peer.closed)
            self.assertEqual(bytes(peer.clear), heard)
            self.nothing_left(server)

    def test_scanner(self) -> None:
        """Who connects to a TLS port and says nothing fills no log."""
        peer = self.connect(implicit=True)
        peer.peer.vanish()
        self.assertEqual(self.lines, [])
        self.nothing_left()


class SessionTests(TlsCase):
    """The whole of a session inside TLS."""

    def test_a_session(self) -> None:
        """Pipelined in one segment; the log says version and cipher with the session (RFC 8314 section 4)."""
        for implicit in (False, True):
            peer = self.inside(implicit=implicit)
            said = self.answer(peer, LOGIN + b"STAT\r\nRETR 1\r\nDELE 2\r\nQUIT\r\n")
            self.assertEqual(said.count(b"+OK"), 6)
            self.assertTrue(peer.farewell, "close_notify follows the last octets")
            self.assertEqual(self.server.drop.removed, [2])
            peer.close()
            self.assertEqual(self.lines, ["session of mrose from 127.0.0.1: 1 retrieved, 1 removed, QUIT, "
                                          "TLSv1.3 TLS_AES_256_GCM_SHA384"])
            self.lines.clear()
            self.nothing_left()

    def test_small_segments(self) -> None:
        """Handshake and session in segments of 1, 2 and 7 octets: what was said does not change."""
        for octets in (1, 2, 7):
            for implicit in (False, True):
                peer = self.connect(implicit=implicit)
                peer.piece_octets = octets
                if not implicit:
                    peer.peer.say(b"STLS\r\n", octets)
                peer.begin()
                said = self.answer(peer, LOGIN + b"STAT\r\nRETR 1\r\nQUIT\r\n")
                self.assertEqual(said.count(b"+OK"), 5)
                peer.close()
        self.nothing_left()

    def test_quit_and_gone(self) -> None:
        """QUIT and close_notify in one segment, from a client that waits for nothing: the removal stands."""
        server = self.make_server()
        server.realm.asynchronous = True
        for implicit in (False, True):
            peer = self.inside(server, implicit=implicit)
            peer.say(LOGIN)
            peer.peer.advance(1)
            assert peer.tls is not None
            peer.tls.write(b"DELE 1\r\nQUIT\r\n")
            with contextlib.suppress(ssl.SSLError):
                peer.tls.unwrap()
            peer.turn()
            peer.peer.vanish()
            server.clock.advance(1)
            self.assertEqual(server.drop.removed, [1])
            self.nothing_left(server)

    def test_resumption(self) -> None:
        """A client that comes again with its ticket is known again, with TLS 1.2 and 1.3."""
        for most in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = client_context(AUTHORITY, most=most)
            first = self.inside(context=context)
            self.answer(first, b"CAPA\r\n")
            assert first.tls is not None
            self.assertFalse(first.tls.session_reused)
            second = self.connect(context=context)
            second.say(b"STLS\r\n")
            second.begin(session=first.tls.session)
            assert second.tls is not None
            self.assertTrue(second.tls.session_reused, most)
            self.assertIn(b"+OK maildrop", self.answer(second, LOGIN))
            second.say(b"QUIT\r\n")

    def test_sudden_end(self) -> None:
        """A client that goes without a word inside TLS leaves no lease and no log of a fault."""
        peer = self.inside()
        peer.say(LOGIN + b"DELE 1\r\n")
        peer.peer.vanish()
        self.assertEqual(self.server.drop.removed, [])
        self.nothing_left()

    def test_farewell_without_quit(self) -> None:
        """close_notify from the client ends the session; nothing is removed."""
        peer = self.inside()
        peer.say(LOGIN + b"DELE 1\r\n")
        peer.close()
        self.assertTrue(peer.closed)
        self.assertEqual(self.server.drop.removed, [])
        self.nothing_left()

    def test_shutdown(self) -> None:
        """The service says why it ends, inside TLS, and close_notify after it."""
        for implicit in (False, True):
            server = self.make_server()
            peer = self.inside(server, implicit=implicit)
            peer.say(LOGIN)
            peer.received.clear()
            server.factory.shutdown()
            peer.turn()
            self.assertEqual(peer.received, b"-ERR [SYS/TEMP] service is stopping\r\n")
            self.assertTrue(peer.farewell)
            peer.close()
            server.clock.advance(10)
            self.nothing_left(server)

    def test_silent_session_is_cut(self) -> None:
        """By an abort: nothing more is said."""
        server = self.make_server(limits=Limits(idle_seconds=60.0))
        peer = self.inside(server)
        peer.say(LOGIN)
        peer.received.clear()
        peer.peer.advance(80)
        self.assertTrue(peer.closed)
        self.assertEqual(peer.received, b"")
        self.nothing_left(server)

    def test_client_that_does_not_say_goodbye(self) -> None:
        """One that answers our close_notify with silence is cut when the time to take octets is over."""
        server = self.make_server(limits=Limits(progress_seconds=20.0))
        peer = self.inside(server)
        peer.say(LOGIN + b"QUIT\r\n")
        self.assertTrue(peer.farewell)
        if not peer.closed:
            peer.peer.advance(40)
        self.assertTrue(peer.closed)
        self.nothing_left(server)

    def test_backlog(self) -> None:
        """Reading that was paused for a backlog goes on when STLS begins, and for the client's farewell."""
        server = self.make_server(limits=Limits(failure_delay_seconds=2.0, backlog_octets=1024,
                                                bad_commands=10_000))
        peer = self.connect(server)
        peer.say(b"USER mrose\r\nPASS wrong\r\n" + b"NOOP\r\n" * 2000 + b"STLS\r\n")
        self.assertFalse(peer.peer.heard)
        peer.peer.advance(3)
        self.assertTrue(bytes(peer.clear).endswith(b"+OK begin TLS\r\n"))
        peer.begin()
        self.assertTrue(peer.secure)
        peer.say(b"USER mrose\r\nPASS wrong\r\n" + b"NOOP\r\n" * 2000)
        peer.peer.advance(1)
        server.factory.shutdown()
        peer.turn()
        peer.close()
        server.clock.advance(10)
        self.nothing_left(server)

    def test_much_in_clear_before_stls(self) -> None:
        """Answers that filled the transport just before STLS do not leave the session inside it stuck."""
        peer = self.connect(reading_octets=4096)
        peer.peer.say(b"CAPA\r\n" * 500 + b"STLS\r\n")
        peer.peer.settle()
        self.assertTrue(bytes(peer.clear).endswith(b"+OK begin TLS\r\n"))
        peer.begin()
        self.assertTrue(peer.secure)
        self.assertIn(b"+OK maildrop", self.answer(peer, LOGIN))


class LargeTests(TlsCase):
    """Large messages at the client's pace."""

    OCTETS = 50_000_000

    def reading(self, **limits: Any) -> tuple[Server, SecurePeer, list[int]]:
        """Return a peer that has asked for a large message and reads nothing, and a count of its octets."""
        text = b"Subject: large\n\n" + (b"y" * 76 + b"\n") * (self.OCTETS // 78)
        server = self.make_server(Mail(text, streamed=True), limits=Limits(failure_delay_seconds=0, **limits))
        peer = self.inside(server)
        peer.say(LOGIN)
        taken = [0]

        def take(piece: bytes) -> None:
            taken[0] += len(piece)

        peer.sink = take
        peer.peer.reading_octets = 0
        peer.say(b"RETR 1\r\n")
        return server, peer, taken

    def test_slow_reader(self) -> None:
        """50 MB, 20,000 octets at a time: what waits in the transport is bounded, and all arrives."""
        _, peer, taken = self.reading()
        most = 0
        while not peer.closed:
            most = max(most, peer.peer.transport.waiting)
            before = taken[0]
            peer.peer.take(20_000)
            peer.turn()
            if taken[0] == before and not peer.peer.transport.waiting:
                break
        self.assertGreater(taken[0], self.OCTETS * 0.98)
        self.assertLess(most, 400_000)
        peer.peer.reading_octets = 1 << 30
        self.assertIn(b"+OK", self.reply(peer, b"NOOP\r\n"))

    def test_reader_that_stops(self) -> None:
        """No octet taken for `progress_seconds`: cut, as in clear."""
        server, peer, _ = self.reading(progress_seconds=30.0)
        peer.peer.advance(25)
        self.assertFalse(peer.closed)
        peer.peer.advance(20)
        self.assertTrue(peer.closed)
        self.nothing_left(server)

    def test_reader_that_takes_a_little(self) -> None:
        """A few octets in every interval are progress."""
        _, peer, _ = self.reading(progress_seconds=30.0)
        for _ in range(8):
            peer.peer.take(100)
            peer.peer.advance(20)
            self.assertFalse(peer.closed)
        peer.peer.vanish()

    def reply(self, peer: SecurePeer, octets: bytes) -> bytes:
        said = bytearray()
        peer.sink = said.extend
        peer.say(octets)
        return bytes(said)


class ClientCertificateTests(TlsCase):
    """What a client proves itself with is kept on the connection; nobody is logged in by it (RFC 8314)."""

    CLIENTS = Authority("Clients")

    def make_tls(self, profile: str = "intermediate", **options: Any) -> ServerTLS:
        from mailgate.net.tls import Material
        from tests.net.secure import identity_of

        folder = Path(self.mktemp())
        folder.mkdir()
        wanted = options.pop("client_certificates", "request")
        material = Material(identity_of(ISSUED, folder), authorities=(self.CLIENTS.certificate,))
        return server_tls(ISSUED, folder, profile, material=material, client_certificates=wanted, **options)

    def context(self, authority: Authority | None, most: Any = None) -> ssl.SSLContext:
        context = client_context(AUTHORITY, most=most)
        if authority is not None:
            folder = Path(self.mktemp())
            folder.mkdir()
            authority.issue("mrose", client=True).write(folder)
            context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        return context

    def certificate(self, peer: SecurePeer) -> Any:
        return peer.peer.protocol.tls.certificate       # type: ignore[attr-defined]

    def test_request(self) -> None:
        """One that is vouched for is kept; none, and one of strangers, are the same as none."""
        for most in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            known = self.inside(context=self.context(self.CLIENTS, most))
            self.assertEqual(self.certificate(known).subject.rfc4514_string(), "CN=mrose")
            self.assertEqual(self.answer(known, b"STAT\r\n"), b"-ERR command refused\r\n")      # T10
            for authority in (None, Authority("Strangers")):
                stranger = self.inside(context=self.context(authority, most))
                self.assertIsNone(self.certificate(stranger))
                self.assertIn(b"+OK maildrop", self.answer(stranger, LOGIN))
                stranger.say(b"QUIT\r\n")

    def test_a_stranger_does_not_become_known_by_resumption(self) -> None:
        """Where certificates are asked for nothing is resumed: no ticket tells what was doubted."""
        for most in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = self.context(Authority("Strangers"), most)
            first = self.inside(context=context)
            self.answer(first, b"CAPA\r\n")
            assert first.tls is not None
            second = self.connect(context=context)
            second.say(b"STLS\r\n")
            second.begin(session=first.tls.session)
            assert second.tls is not None
            self.assertTrue(second.secure)
            self.assertFalse(second.tls.session_reused)
            self.assertIsNone(self.certificate(second))

    def test_require(self) -> None:
        """Without one that is vouched for there is no TLS."""
        self.tls = self.make_tls(client_certificates="require")
        self.server = self.make_server()
        known = self.inside(context=self.context(self.CLIENTS))
        self.assertEqual(self.certificate(known).subject.rfc4514_string(), "CN=mrose")
        for authority in (None, Authority("Strangers")):
            peer = self.connect(context=self.context(authority))
            peer.say(b"STLS\r\n")
            peer.begin()
            peer.turn()
            self.assertTrue(peer.closed)
            self.assertEqual(peer.received, b"")
        self.assertEqual([line.partition(": ")[2] for line in self.lines],
                         ["peer did not return a certificate", "certificate verify failed"])
        known.peer.vanish()
        self.nothing_left()

    def test_not_asked(self) -> None:
        """T13: unless configured, no certificate is asked for."""
        self.tls = TlsCase.make_tls(self)
        self.server = self.make_server()
        peer = self.inside(context=self.context(self.CLIENTS))
        self.assertIsNone(self.certificate(peer))

