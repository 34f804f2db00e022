"""Names with line ends, NULs and controls in them: none reaches a reply, a log line or a header as it is."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.sasl import Facts
from mailgate.errors import LoginRefused
from mailgate.model import Account, Envelope
from mailgate.net.kpop import KPOPFactory
from mailgate.pop3.policy import Policy
from mailgate.pop3.replies import envelope
from mailgate.testing.peers import FAR_AWAY, Peer
from mailgate.wire.headers import field_text, preamble, received_line
from tests.fuzz.connections import House
from tests.lmtp.staging import Server
from tests.pop3.sasl_house import KEPT, USER, SaslHouse
from tests.pop3.test_refusal_times import BINDING, MECHANISMS, POLICY, Tokens

HOSTILE = (b"a\r\n+OK fake", b"a\nlogin of root succeeded", b"a\0b", b"\x1b[2J\x1b]0;x\x07", b"\x7f\x08\x08",
           b"\xc2\x9b31m", "\u202egnp\u2028\u2029".encode(), b"\xff\xfe", b"../../etc/passwd",
           b"%s%n{name}{peer.__class__}\\", b"x" * 1000, b'"quoted', b"a\tb")
SHIRE = Account("shire", sdps=True, verifiers=KEPT, domains=("shire.example.org",))


def coded(octets: bytes) -> bytes:
    return base64.b64encode(octets)


def attempts(name: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
    """Give every way in which a client can say a name, as the lines that it sends."""
    raw = name.replace(b"\n", b"")      # what no line can hold
    digest = b"0" * 32
    yield b"USER", [b"USER " + raw, b"PASS pencil"]
    yield b"APOP", [b"APOP %b %b" % (raw, digest)]
    yield b"PLAIN", [b"AUTH PLAIN " + coded(b"\0%b\0pencil" % name)]
    yield b"PLAIN", [b"AUTH PLAIN " + coded(b"%b\0%b\0pencil" % (name, name))]
    yield b"LOGIN", [b"AUTH LOGIN " + coded(name), coded(b"pencil")]
    yield b"CRAM-MD5", [b"AUTH CRAM-MD5", coded(b"%b %b" % (name, digest))]
    for mechanism in MECHANISMS[:4]:
        gs2 = b"p=tls-exporter,," if mechanism.endswith(b"PLUS") else b"n,,"
        yield mechanism, [b"AUTH %b %b" % (mechanism, coded(gs2 + b"n=%b,r=abc" % name)),
                          coded(b"c=%b,r=abc,p=AAAA" % coded(gs2 + BINDING))]
    yield b"EXTERNAL", [b"AUTH EXTERNAL ="]
    yield b"EXTERNAL", [b"AUTH EXTERNAL " + coded(name)]
    yield b"OAUTHBEARER", [b"AUTH OAUTHBEARER " + coded(b"n,a=%b,\1auth=Bearer x\1\1" % name), b"AQ=="]
    yield b"XOAUTH2", [b"AUTH XOAUTH2 " + coded(b"user=%b\1auth=Bearer x\1\1" % name), b""]


class HostileCase(SynchronousTestCase):
    @contextmanager
    def clean_log(self) -> Iterator[list[str]]:
        """Hold every log line to one printable line; give them."""
        events: list[LogEvent] = []
        lines: list[str] = []
        globalLogPublisher.addObserver(events.append)
        try:
            yield lines
        finally:
            globalLogPublisher.removeObserver(events.append)
        for event in events:
            lines.append(formatEvent(event))
            self.assertNotIn("log_failure", event, lines[-1])
            self.assertTrue(lines[-1].isprintable(), lines[-1])
            self.assertLess(len(lines[-1]), 1000)

    def check_replies(self, octets: bytes, name: bytes) -> None:
        """One printable line each, and nothing that the client said."""
        for line in octets.split(b"\r\n"):
            self.assertTrue(all(0x20 <= octet < 0x7F for octet in line), line)
        if len(name) > 3:
            self.assertNotIn(name, octets)


class LoginTests(HostileCase):
    def test_every_mechanism(self) -> None:
        for name in HOSTILE:
            for mechanism, lines in attempts(name):
                clock = Clock()
                house = SaslHouse((USER,), clock=clock, policy=POLICY, further=[Tokens(clock, 0.5)],
                                  facts=Facts(
                    bindings={b"tls-exporter": BINDING}, identities=(name,), hostname=b"mail.example.org"))
                with self.clean_log() as told:
                    peer = house.connect(FAR_AWAY)
                    peer.received.clear()
                    for line in lines:
                        peer.say(line + b"\r\n")
                        peer.advance(10.0, 0.5)
                    peer.vanish()
                    peer.advance(10.0)
                self.check_replies(bytes(peer.received), name)
                self.assertIn(b"-ERR ", peer.received, mechanism)
                self.assertLessEqual(len(told), 2, (mechanism, told))

    def test_who_gets_in(self) -> None:
        """The user of an SDPS host may be called anything; the log's line of the session shows it escaped."""
        for name in HOSTILE:
            login = name[:100] + b"@shire"
            house = SaslHouse((SHIRE,), policy=Policy(plaintext_login=True, mechanisms=(b"LOGIN",)))
            with self.clean_log() as told:
                peer = house.connect(FAR_AWAY)
                for line in (b"AUTH LOGIN " + coded(login), coded(b"pencil"), b"STAT", b"QUIT"):
                    peer.say(line + b"\r\n")
            replies = bytes(peer.received)
            self.check_replies(replies, name)
            got_in = b"+OK maildrop" in replies
            self.assertEqual(got_in, b"\0" not in name and b"\xff" not in name, name)
            self.assertEqual(any("session of" in line for line in told), got_in, told)

    def test_principals(self) -> None:
        """What Kerberos proves is a name that anybody chose who has a realm of his own."""
        for name in HOSTILE:
            house = House()
            factory: KPOPFactory = house.kpop()
            exchange = b"".join(len(one).to_bytes(4, "big") + one for one in (
                b"KRB5_SENDAUTH_V1.0\0", b"KPOPV1.0\0", name[:200]))
            with self.clean_log():
                peer = Peer(factory, clock=house.clock, address=FAR_AWAY)
                peer.say(exchange + b"USER mrose\r\nPASS x\r\nQUIT\r\n")
                peer.advance(40.0)
                peer.vanish()
            self.assertNotIn(b"maildrop has", peer.received)
            self.assertNotIn(name, bytes(peer.received))

    def test_faults_of_names(self) -> None:
        """A refusal's text is the same whatever the name; its reason is for the log alone."""
        self.assertEqual({str(LoginRefused("login refused"))}, {"login refused"})


class DeliveryTests(HostileCase):
    def test_lmtp(self) -> None:
        """LHLO, MAIL and RCPT: refused, or in the header as text that ends no line and steers nothing."""
        for name in HOSTILE:
            server = Server()
            raw = name[:60].replace(b"\n", b"")
            with self.clean_log():
                peer = server.connect(FAR_AWAY)
                peer.received.clear()
                for line in (b"LHLO " + raw, b"LHLO mx", b"MAIL FROM:<%b@y> SMTPUTF8" % raw,
                             b'MAIL FROM:<"%b"@y> SMTPUTF8' % raw, b"MAIL FROM:<s@y> SMTPUTF8",
                             b"RCPT TO:<%b@x>" % raw, b'RCPT TO:<"%b"@x>' % raw, b"RCPT TO:<user%b@x>" % raw,
                             b"RCPT TO:<a@x>", b"DATA", b"A: 1", b"", b".", b"VRFY " + raw, b"QUIT"):
                    peer.say(line + b"\r\n")
            self.check_replies(bytes(peer.received), raw)
            delivery, = server.stub.committed
            for placement in delivery.placements or ():
                self.check_header(placement.preamble, 2)
            self.check_header(bytes(delivery.content).partition(b"A: 1")[0], None)

    def check_header(self, octets: bytes, lines: int | None) -> None:
        self.assertTrue(octets.endswith(b"\r\n"))
        if lines is not None:
            self.assertEqual(octets.count(b"\n"), lines)
        for line in octets.decode().split("\r\n")[:-1]:
            self.assertNotRegex(line.lstrip("\t"), r"[\x00-\x1f\x7f-\x9f]")

    def test_envelopes_shown(self) -> None:
        """`*ENV` shows four lines whatever an envelope holds."""
        for name in HOSTILE:
            shown = envelope(Envelope(name + b"@y", name + b"@x", 0))
            self.assertEqual(shown.count(b"\n"), 6)
            self.assertTrue(all(octet >= 0x20 and octet != 0x7F for octet in shown.replace(b"\r\n", b"")),
                            shown)

    def test_fields(self) -> None:
        """Whatever comes into an Envelope by another way (an import, a command)."""
        for name in HOSTILE:
            self.check_header(preamble(Envelope(name, name, 0)), 2)
            received = received_line(hostname="mail.example.org", protocol="LMTP", delivery_id="x",
                                     arrived_ms=0,
                                     helo=name, peer="203.0.113.7", recipient=name)
            self.check_header(received, None)
            self.assertTrue(all(line.startswith(b"\t") for line in received.split(b"\r\n")[1:-1]))
            self.assertNotRegex(field_text(name).decode(), r"[\x00-\x1f\x7f-\x9f]")
