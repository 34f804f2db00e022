"""The greeting and its timestamp with trouble."""

from __future__ import annotations

import hashlib
import poplib
import re
import subprocess
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import ConfigurationError
from mailgate.testing.memory import MemoryServer, Talker
from mailgate.testing.trouble.greetings import BANNERS
from tests.needs import needs
from tests.testing.serving import served

APOP = {"pop3": {"apop": True}}


def digest(timestamp: bytes, password: bytes = b"secret") -> bytes:
    """Return what a client proves itself with (RFC 1939 section 7)."""
    return hashlib.md5(timestamp + password, usedforsecurity=False).hexdigest().encode()


class GreetingCase(SynchronousTestCase):
    """One server in memory for each test."""

    apop = True

    def setUp(self) -> None:
        """Start it."""
        self.server = MemoryServer(settings=APOP if self.apop else None)
        self.addCleanup(self.server.stop)
        self.server.account("mrose", "secret")

    def client(self, do: str, **settings: Any) -> Talker:
        """Return a client of a server with one fault."""
        self.server.clear_faults()
        self.server.fault(do, **settings)
        return self.server.talk()


class GreetingTests(GreetingCase):
    """`greeting`: what is said first; the session behind it is as good as ever, but where it ends."""

    def test_each(self) -> None:
        """What the client gets, to the octet; commands are carried out all the same."""
        for how, greeting in (
                ("missing", b""), ("empty", b"+OK\r\n"), ("blank", b"+OK \r\n"),
                ("lower_case", b"+ok ready\r\n"), ("unended", b"+OK ready\n"),
                ("lines", b"+OK welcome\r\n+OK ready\r\n"), ("nul", b"+OK \0ready\0\r\n"),
                ("eight_bit", b"+OK bienvenue \xe0 la bo\xeete \xff\r\n"),
                *BANNERS.items()):
            with self.subTest(how):
                client = self.client("greeting", how=how)
                self.assertEqual(client.received, greeting)
                self.assertEqual(client.say(b"USER mrose\r\n"), b"+OK send the password\r\n")
                record = self.server.sessions[-1]
                self.assertEqual(record.events[0].faults, ("greeting",))

    def test_long(self) -> None:
        """So many octets, the line's end counted."""
        for size in (6, 513, 100_000):
            client = self.client("greeting", how="long", size=size)
            self.assertEqual((len(client.received), client.received[-2:]), (size, b"\r\n"))

    def test_refused(self) -> None:
        """-ERR, and the end of the connection; any other refusal is `error`, which may leave it open."""
        client = self.client("greeting", how="refused")
        self.assertTrue(client.received.startswith(b"-ERR [SYS/TEMP] "))
        self.assertTrue(client.closed)
        client = self.client("error", command="greeting", code="IN-USE", text="later")
        self.assertEqual(client.received, b"-ERR [IN-USE] later\r\n")
        self.assertFalse(client.closed)

    def test_late_and_in_pieces(self) -> None:
        """What delays, cuts or ends a reply does so with the greeting, too."""
        client = self.client("delay", command="greeting", seconds=30)
        self.assertEqual(client.received, b"")
        self.server.advance(29)
        self.assertEqual(client.received, b"")
        self.server.advance(1)
        self.assertTrue(client.received.startswith(b"+OK mailgate ready"))
        client = self.client("split", command="greeting", sizes=[1, 2, 5])
        self.server.advance(1)
        self.assertEqual(client.segments[:4], [b"+", b"OK", b" mail", b"g"])
        self.assertTrue(client.received.endswith(b"\r\n"))
        client = self.client("close", command="greeting", at=3)
        self.assertEqual((client.received, client.closed), (b"+OK", True))

    def test_one_session(self) -> None:
        """Only the second client of a run is greeted so."""
        self.server.fault("greeting", how="missing", session=2)
        self.assertEqual([bool(self.server.talk().received) for _ in range(3)], [True, False, True])

    def test_real_clients(self) -> None:
        """poplib sees what is no POP3; curl a refusal, and nothing: that ends at its own timeout."""
        curl, server = needs("curl"), served()
        for how in (*BANNERS, "refused"):
            with self.subTest(how), server.fault("greeting", how=how):
                self.assertRaises(poplib.error_proto, poplib.POP3, *server.pop3)
        for how, code, seconds in (("refused", 8, "60"), ("missing", 28, "0.3")):
            with self.subTest(how), server.fault("greeting", how=how):
                fetched = subprocess.run(
                    [curl, "-sS", "-m", seconds, "-u", "mrose:secret", f"pop3://localhost:{server.pop3[1]}/1"],
                    capture_output=True, check=False, timeout=120)
                self.assertEqual(fetched.returncode, code, fetched.stderr)


class TimestampTests(GreetingCase):
    """`timestamp`, where APOP is on: what is said is what a digest is made of."""

    def test_malformed(self) -> None:
        """What follows the words, and that a client which takes all of it is let in."""
        for how, shape in (
                ("no_brackets", rb"[0-9a-f]{16}@mail\.example\.org"),
                ("unclosed", rb"<[0-9a-f]{16}@mail\.example\.org"),
                ("no_at", rb"<[0-9a-f]{16}\.mail\.example\.org>"),
                ("blanks", rb"<[0-9a-f]{16} @ mail\.example\.org>"),
                ("empty", rb"<>"), ("no_parts", rb"<@>"),
                ("two", rb"<first\.[0-9a-f]{16}@mail\.example\.org>"
                        rb" <second\.[0-9a-f]{16}@mail\.example\.org>"),
                ("nested", rb"<<[0-9a-f]{16}@mail\.example\.org>>"),
                ("nul", rb"<[0-9a-f]{16}\0@mail\.example\.org>"),
                ("eight_bit", rb"<[0-9a-f]{16}\xff\xe9@mail\.example\.org>"),
                ("long", rb"<[0-9a-f]{1024}@mail\.example\.org>")):
            with self.subTest(how):
                client = self.client("timestamp", how=how)
                stamp = client.received.removeprefix(b"+OK mailgate ready ").removesuffix(b"\r\n")
                self.assertTrue(re.fullmatch(shape, stamp), stamp)
                reply = client.say(b"APOP mrose " + digest(stamp) + b"\r\n")
                self.assertTrue(reply.startswith(b"+OK"), reply)
                client.say(b"QUIT\r\n")

    def test_given(self) -> None:
        """The same in every session, so that a digest that was overheard is good again."""
        stamp = b"<replayed@mail.example.org>"
        for _ in range(2):
            client = self.client("timestamp", how="given", value=stamp)
            self.assertTrue(client.received.endswith(b" " + stamp + b"\r\n"))
            self.assertTrue(client.say(b"APOP mrose " + digest(stamp) + b"\r\n").startswith(b"+OK"))
            client.say(b"QUIT\r\n")

    def test_the_services_own_is_no_good(self) -> None:
        """A wrong digest over what was said is as wrong as ever."""
        client = self.client("timestamp", how="empty")
        self.assertTrue(client.say(b"APOP mrose " + digest(b"<>", b"wrong") + b"\r\n").startswith(b"-ERR"))

    def test_attack(self) -> None:
        """As long as the attack needs it, and no msg-id for who looks; the same in every run."""
        for known in (1, 3):
            runs = []
            for _ in range(2):
                with MemoryServer() as server, server.fault("timestamp", how="attack", known=known):
                    runs.append([server.talk().received for _ in range(2)])
            self.assertEqual(runs[0], runs[1])
            self.assertNotEqual(*runs[0])       # another one in each session
            for greeting in runs[0]:
                stamp = greeting.removeprefix(b"+OK mailgate ready ").removesuffix(b"\r\n")
                self.assertEqual((len(stamp) + known) % 64, 0)
                self.assertTrue(stamp.startswith(b"<") and stamp.endswith(b">"))
                self.assertTrue(any(octet > 127 for octet in stamp))

    def test_settings(self) -> None:
        """One line is no two."""
        self.assertRaises(ConfigurationError, self.server.fault, "timestamp", how="given",
                          value="<a@b>\r\n+OK")


class NoApopTests(GreetingCase):
    """`timestamp`, where APOP is off: a promise that is not kept."""

    apop = False

    def test_offered_and_refused(self) -> None:
        """The greeting has one, and APOP is no command here."""
        client = self.client("timestamp", how="given")
        self.assertEqual(client.received, b"+OK mailgate ready <1896.697170952@mail.example.org>\r\n")
        reply = client.say(b"APOP mrose " + digest(b"<1896.697170952@mail.example.org>") + b"\r\n")
        self.assertEqual(reply, b"-ERR command refused\r\n")

    def test_poplib(self) -> None:
        """poplib's `apop` takes the timestamp that it is given, and hears -ERR."""
        server = served()
        with server.fault("timestamp", how="given"):
            client = poplib.POP3(*server.pop3)
            self.addCleanup(client.close)
            self.assertRaises(poplib.error_proto, client.apop, "mrose", "secret")
