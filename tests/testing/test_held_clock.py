"""What a client meets whose server's clock is held: hours pass in a test that never sleeps."""

from __future__ import annotations

import base64
import poplib
import smtplib
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing import Server
from mailgate.testing.harness.clock import START
from mailgate.testing.harness.thread import ReactorThread
from mailgate.testing.memory import MemoryServer, MemoryServerMixin, Talker
from tests.auth.tokens import AUDIENCE, ISSUER, Issuer

MESSAGE = b"Subject: one\r\n\r\nhello\r\n"
DAY = 86400.0
NOW = 1_800_000_000.0
SECONDS = 60.0      # of the world's, that a client would wait if something were wrong


class InMemoryTests(MemoryServerMixin, SynchronousTestCase):
    settings = {"pop3": {"login_delay_seconds": 120},
                "limits": {"login_seconds": 60, "failure_delay_seconds": 2, "failure_growth": 2,
                           "failure_delay_most_seconds": 60, "failure_half_life_seconds": 86400},
                "store": {"retention_days": 30}}

    def setUp(self) -> None:
        super().setUp()
        self.maildrop = self.server.account("mrose", "secret")

    def logged_in(self) -> Talker:
        talker = self.server.talk()
        talker.say(b"USER mrose\r\n")
        self.assertIn(b"+OK", talker.say(b"PASS secret\r\n"))
        return talker

    def test_silence(self) -> None:
        """Ten minutes of it end a session; whatever the client says makes it ten minutes from then."""
        talker = self.logged_in()
        self.server.advance(599)
        self.assertIn(b"+OK", talker.say(b"NOOP\r\n"))
        self.server.advance(599)
        self.assertFalse(talker.closed)
        self.server.advance(6)
        self.assertTrue(talker.closed)
        session, = self.server.sessions
        self.assertEqual(session.end, "cut by the server")
        self.assertTrue(600 <= (session.ended or 0) - session.commands[-1].at <= 605)

    def test_login_that_does_not_end(self) -> None:
        """One that is begun has its time in all, however busy the client is."""
        talker = self.server.talk()
        for _ in range(11):
            self.server.advance(5)
            talker.say(b"USER mrose\r\n")
        self.assertFalse(talker.closed)
        self.server.advance(10)
        self.assertTrue(talker.closed)

    def test_login_delay(self) -> None:
        """Two logins too near to each other (RFC 2449 section 6.5), and as soon as they are not."""
        self.logged_in().say(b"QUIT\r\n")
        talker = self.server.talk()
        self.assertIn(b"LOGIN-DELAY 120", talker.say(b"CAPA\r\n"))
        talker.say(b"USER mrose\r\n")
        self.assertIn(b"-ERR [LOGIN-DELAY]", talker.say(b"PASS secret\r\n"))
        talker.say(b"QUIT\r\n")
        self.server.advance(120)
        self.logged_in()

    def test_wrong_passwords(self) -> None:
        """Each waits longer for its refusal than the one before."""
        def wait() -> float:
            talker = self.server.talk()
            talker.say(b"USER mrose\r\n")
            at = self.server.clock.now
            self.assertEqual(talker.say(b"PASS wrong\r\n"), b"")
            while not talker.received.endswith(b"login refused\r\n"):
                self.assertLess(self.server.clock.now - at, 100)
                self.server.advance(1)
            return self.server.clock.now - at

        self.assertEqual([wait() for _ in range(4)], [2, 4, 8, 16])

    def test_leases_that_ran_out(self) -> None:
        """QUIT is refused and nothing removed; another has had the maildrop meanwhile."""
        unique_id = self.maildrop.add(MESSAGE)
        first = self.logged_in()
        first.say(b"DELE 1\r\n")
        self.server.advance(130)
        second = self.server.talk()
        second.say(b"USER mrose\r\n")
        self.assertIn(b"-ERR [IN-USE]", second.say(b"PASS secret\r\n"))
        self.server.lose_leases()
        self.assertIn(b"+OK", second.say(b"USER mrose\r\nPASS secret\r\n"))
        self.assertIn(b"-ERR", first.say(b"QUIT\r\n"))
        self.assertEqual((self.maildrop.unique_ids, self.server.deleted), ([unique_id], []))
        self.assertIn(b"1 messages", second.say(b"STAT\r\nRSET\r\n"))
        second.say(b"DELE 1\r\n")
        self.assertIn(b"+OK", second.say(b"QUIT\r\n"))
        self.assertEqual(self.server.deleted, [unique_id])

    def test_leases_run_out_with_time(self) -> None:
        """A server that stops renewing them: held for as long as they last, and no second longer."""
        unique_id = self.maildrop.add(MESSAGE)
        first = self.logged_in()
        first.say(b"DELE 1\r\n")
        self.server.lose_leases(after=60)
        self.server.advance(59)
        second = self.server.talk()
        self.assertIn(b"-ERR [IN-USE]", second.say(b"USER mrose\r\nPASS secret\r\n"))
        self.server.advance(1)
        self.assertIn(b"-ERR", first.say(b"QUIT\r\n"))
        self.assertEqual(self.maildrop.unique_ids, [unique_id])
        self.assertIn(b"+OK", second.say(b"USER mrose\r\nPASS secret\r\n"))

    def test_leases_hold(self) -> None:
        """However far the time is moved: a session that says something keeps its maildrop."""
        self.maildrop.add(MESSAGE)
        talker = self.logged_in()
        talker.say(b"DELE 1\r\n")
        for _ in range(10):
            self.server.advance(500)
            talker.say(b"NOOP\r\n")
        self.assertIn(b"+OK", talker.say(b"QUIT\r\n"))
        self.assertEqual(len(self.maildrop), 0)

    def test_ages(self) -> None:
        """Messages are as old as they were said to be; thirty days are announced, and kept."""
        self.assertIn(b"EXPIRE 30", self.server.talk().say(b"CAPA\r\n"))
        self.maildrop.add(MESSAGE, unique_id="old", age=29 * DAY)
        self.maildrop.add(MESSAGE, unique_id="new")
        self.assertEqual([one.arrived for one in self.maildrop.messages], [START - 29 * DAY, START])
        self.server.advance(DAY - 7200)
        self.assertEqual(self.maildrop.unique_ids, ["old", "new"])
        self.server.advance(10800)
        self.assertEqual(self.maildrop.unique_ids, ["new"])
        self.server.advance(29 * DAY)
        self.assertEqual(self.maildrop.unique_ids, [])

    def test_nobody_expires_what_is_read(self) -> None:
        self.maildrop.add(MESSAGE, age=40 * DAY)
        talker = self.logged_in()
        for _ in range(10):
            self.server.advance(500)
            talker.say(b"NOOP\r\n")
        self.assertIn(b"hello", talker.say(b"RETR 1\r\n"))
        talker.say(b"QUIT\r\n")
        self.server.advance(3600)
        self.assertEqual(len(self.maildrop), 0)

    def test_dates_in_mail(self) -> None:
        """What is delivered is dated by the clock."""
        self.server.advance(3 * DAY)
        self.server.talk("lmtp").say(b"LHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<mrose@mail.example.org>\r\n"
                                     b"DATA\r\nSubject: one\r\n\r\nx\r\n.\r\n")
        message, = self.maildrop.messages
        self.assertEqual(message.arrived, START + 3 * DAY)
        self.assertIn(b"; Sun, 04 Jan 2026 00:00:00 +0000\r\n", message.content)

    def test_endless_reply(self) -> None:
        """A delay of a day, and of all that comes behind it."""
        self.server.fault("delay", command="NOOP", seconds=DAY)
        talker = self.logged_in()
        talker.say(b"NOOP\r\nQUIT\r\n")
        before = len(talker.received)
        self.server.advance(DAY - 1)
        self.assertEqual(len(talker.received), before)
        self.server.advance(1)
        self.assertTrue(talker.received.endswith(b"goodbye\r\n"), talker.received[before:])


class TokenTests(SynchronousTestCase):
    def test_expiry(self) -> None:
        """A bearer token is good until its time has come, by this clock."""
        issuer = Issuer()
        keys = Path(tempfile.mkdtemp()) / "keys.json"
        issuer.write(keys)
        settings = {"checker": [{"kind": "store"}, {"kind": "oauth", "keys": str(keys), "issuer": ISSUER,
                                                    "audience": AUDIENCE}]}
        with MemoryServer(settings=settings) as server:
            server.account("mrose", "secret")
            token = issuer.token("mrose", exp=int(START) + 3600)
            said = base64.b64encode(b"n,a=mrose,\x01auth=Bearer " + token + b"\x01\x01")
            for seconds, good in ((3000, True), (3000, False)):
                server.advance(seconds)
                talker = server.talk()
                talker.say(b"AUTH OAUTHBEARER\r\n")
                self.assertEqual(talker.say(said + b"\r\n").startswith(b"+OK"), good)
                self.assertEqual(talker.say(b"\r\n").startswith(b"-ERR"), True)
            self.assertEqual([one.succeeded for one in server.logins], [True, False])


class Aside(threading.Thread):
    """A client that blocks, aside; `result` waits for what it returned."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._outcome: Any = None
        self.start()

    def run(self) -> None:
        try:
            self._outcome = self._function()
        except Exception as fault:
            self._outcome = fault

    def result(self) -> Any:
        self.join(SECONDS)
        assert not self.is_alive(), "the client waits yet"
        return self._outcome


class SocketTests(SynchronousTestCase):
    """The same by real sockets, with clients that block."""

    def setUp(self) -> None:
        self.server = Server(held=True, now=NOW, settings={"pop3": {"login_delay_seconds": 60}}).start()
        self.addCleanup(self.server.stop)
        self.server.account("mrose", "secret").add(MESSAGE)

    def logged_in(self, client: poplib.POP3 | None = None) -> poplib.POP3:
        client = client or poplib.POP3(*self.server.pop3, timeout=SECONDS)
        client.user("mrose")
        client.pass_("secret")
        return client

    def test_in_tls(self) -> None:
        """Handshakes need no time; a whole session happens in one moment."""
        context = self.server.ssl_context()
        host, port = "localhost", self.server.pop3s[1]
        client = self.logged_in(poplib.POP3_SSL(host, port, context=context, timeout=SECONDS))
        self.assertEqual(client.retr(1)[1], [b"Subject: one", b"", b"hello"])
        client.quit()
        self.server.clock.advance(60)
        begun = poplib.POP3(host, self.server.pop3[1], timeout=SECONDS)
        begun.stls(context)
        self.logged_in(begun).quit()
        self.assertEqual([(one.began, one.ended) for one in self.server.sessions],
                         [(NOW, NOW), (NOW + 60, NOW + 60)])

    def test_silence(self) -> None:
        client = self.logged_in()
        self.server.clock.advance(599)
        client.noop()
        self.server.clock.advance(605)
        with self.assertRaises((poplib.error_proto, OSError)):
            client.noop()
        self.assertEqual(self.server.session.end, "cut by the server")

    def test_late_reply(self) -> None:
        """A client that waits an hour for its reply, and gets it."""
        self.server.fault("delay", command="STAT", seconds=3600)
        client = self.logged_in()
        answer = Aside(client.stat)
        self.server.wait_for(lambda: self.server.sessions[0].verbs[-1] == "STAT")
        self.server.clock.advance(3599)
        self.assertTrue(answer.is_alive())
        self.server.clock.advance(1)
        self.assertEqual(answer.result(), (1, len(MESSAGE)))

    def test_dripped(self) -> None:
        """What comes an octet a second comes in segments of an octet, also when minutes pass at once."""
        self.server.fault("drip", command="CAPA", octets=1, seconds=1)
        with socket.create_connection(self.server.pop3, SECONDS) as client:
            client.recv(4096)
            client.sendall(b"CAPA\r\n")
            heard = client.recv(4096)
            self.assertEqual(heard, b"+")
            self.server.clock.advance(4)
            while len(heard) < 5:
                heard += client.recv(4096)
            self.assertEqual(heard, b"+OK c")
        sent = [event.octets for event in self.server.sessions[0].events if event.who == "S"][1:]
        self.assertEqual([len(one) for one in sent], [1] * 5)

    def test_login_delay(self) -> None:
        self.logged_in().quit()
        client = poplib.POP3(*self.server.pop3, timeout=SECONDS)
        client.user("mrose")
        with self.assertRaisesRegex(poplib.error_proto, "LOGIN-DELAY"):
            client.pass_("secret")
        self.server.clock.advance(60)
        self.logged_in(client).quit()

    def test_leases(self) -> None:
        """A server that slept too long: poplib's quit fails, and the mail is there at the next login."""
        client = self.logged_in()
        client.dele(1)
        self.server.lose_leases()
        with self.assertRaises(poplib.error_proto):
            client.quit()
        self.server.clock.advance(60)
        self.assertEqual(self.logged_in().stat()[0], 1)

    def test_hold_and_run(self) -> None:
        """In a test's hand; while it runs it can be advanced as well, and never goes back."""
        clock = self.server.clock
        self.assertEqual((clock.now, clock.held), (NOW, True))
        clock.advance(1.5)
        self.assertEqual(clock.now, NOW + 1.5)
        clock.run()
        client = self.logged_in()
        clock.advance(605)
        with self.assertRaises((poplib.error_proto, OSError)):
            client.noop()
        self.assertFalse(clock.held)
        clock.hold()
        now = clock.now
        self.assertTrue(NOW + 606 < now < NOW + 606 + SECONDS)
        self.assertEqual(clock.now, now)
        with self.assertRaises(ValueError):
            clock.advance(-1)
        self.server.reset()
        self.assertEqual((clock.now, clock.held), (NOW, True))

    def test_a_month(self) -> None:
        """Nothing ticks that could make a long time long."""
        client = self.logged_in()
        begun = time.monotonic()
        self.server.clock.advance(30 * DAY)
        self.assertLess(time.monotonic() - begun, SECONDS)
        with self.assertRaises((poplib.error_proto, OSError)):
            client.noop()

    def test_other_servers(self) -> None:
        """Each has a clock of its own."""
        with Server(now=5.0, held=True) as other:
            self.server.clock.advance(100)
            self.assertEqual(other.clock.now, 5.0)

    def test_clock_of_the_machine(self) -> None:
        """Somebody who sets it moves nothing here: the thread's time is not that of the day."""
        self.assertLess(abs(ReactorThread.shared().reactor.seconds() - time.monotonic()), SECONDS)


class DeliveryTests(SynchronousTestCase):
    def test_by_smtp(self) -> None:
        """Mail that comes in is dated by the clock, and a client that dawdles is told so."""
        with Server(protocols=["pop3", "smtp"], held=True, now=NOW) as server:
            maildrop = server.account("mrose", "secret")
            client = smtplib.SMTP(*server.smtp, timeout=SECONDS)
            client.sendmail("a@b.example", ["mrose@mail.example.org"], MESSAGE)
            server.clock.advance(DAY)
            self.assertEqual(client.noop()[0], 421)
            with smtplib.SMTP(*server.smtp, timeout=SECONDS) as later:
                later.sendmail("a@b.example", ["mrose@mail.example.org"], MESSAGE)
            self.assertEqual([one.arrived for one in maildrop.messages], [NOW, NOW + DAY])
