"""curl as a POP3 client: every command it can be made to send, and content octet by octet."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.house import House
from tests.interop.programs import Ran, curl
from tests.interop.texts import HELLO, TEXTS, large, taken_apart, wire_form

LOGIN_DENIED = 67       # curl's exit codes
WEIRD_REPLY = 8         # what it makes of -ERR to a command

house = House()
setUpModule, tearDownModule = house.open, house.close


class CurlCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.name = house.account()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def curl(self, path: str, *options: str, password: str = "secret") -> Ran:
        return curl(house.port, path, *options, user=self.name, password=password, folder=self.folder)

    def fetch(self, path: str, *options: str) -> bytes:
        """Run curl, which must end well, and return what it printed."""
        ran = self.curl(path, *options)
        self.assertEqual(ran.code, 0, ran.told)
        return ran.out


class ContentTests(CurlCase):
    def test_every_text_octet_by_octet(self) -> None:
        """RETR gives what was delivered, behind what delivery puts in front."""
        for text in TEXTS.values():
            house.lmtp(text, self.name)
        paths = [f"pop3://127.0.0.1:{house.port}/{number}" for number in range(2, len(TEXTS) + 1)]
        for number, (title, text) in enumerate(TEXTS.items(), 1):
            fetched = self.fetch(str(number))
            expected = wire_form(text)
            if title == "own Return-Path":      # the one that delivery puts in front is the only one
                expected = expected.partition(b"\r\n")[2]
            self.assertEqual(taken_apart(fetched)[3], expected, title)
        self.assertEqual(self.fetch("1", *paths).count(b"Return-Path: <sender@example.org>"), len(TEXTS))

    def test_five_megabytes(self) -> None:
        """A stream of 5 MB arrives whole, its dots unstuffed once."""
        text = large(5_000_000)
        house.lmtp(text, self.name)
        fetched = self.fetch("1")
        self.assertEqual(taken_apart(fetched)[3], text)
        self.assertEqual(self.fetch("").split(), [b"1", b"%d" % len(fetched)])

    def test_listing_agrees_with_what_is_sent(self) -> None:
        """LIST tells the octets that RETR sends."""
        for text in TEXTS.values():
            house.lmtp(text, self.name)
        rows = [line.split() for line in self.fetch("").splitlines()]
        sent = [len(self.fetch(str(number))) for number in range(1, len(TEXTS) + 1)]
        self.assertEqual(rows, [[b"%d" % number, b"%d" % size] for number, size in enumerate(sent, 1)])


class CommandTests(CurlCase):
    def setUp(self) -> None:
        super().setUp()
        house.lmtp(HELLO, self.name)
        house.lmtp(TEXTS["dots"], self.name)

    def test_unique_ids(self) -> None:
        """UIDL through -X, alone and for one message."""
        rows = [line.split() for line in self.fetch("", "-X", "UIDL").splitlines()]
        self.assertEqual([number for number, _ in rows], [b"1", b"2"])
        self.assertNotEqual(rows[0][1], rows[1][1])
        ran = self.curl("2", "-X", "UIDL", "-I")
        self.assertEqual(ran.code, 0)
        self.assertIn(f"< +OK 2 {rows[1][1].decode()}", ran.told)

    def test_top(self) -> None:
        """TOP is the header and as many lines of the body as asked for."""
        whole = self.fetch("2")
        head, _, body = whole.partition(b"\r\n\r\n")
        self.assertEqual(self.fetch("", "-X", "TOP 2 0"), head + b"\r\n\r\n")
        self.assertEqual(self.fetch("", "-X", "TOP 2 2"),
                         head + b"\r\n\r\n" + b"".join(body.splitlines(keepends=True)[:2]))

    def test_delete_and_quit(self) -> None:
        """DELE, then curl's own QUIT, removes the message and no other."""
        kept = self.fetch("2")
        ran = self.curl("1", "-X", "DELE", "-I")
        self.assertEqual(ran.code, 0, ran.told)
        self.assertEqual(house.held(self.name), 1)
        self.assertEqual(self.fetch("1"), kept)

    def test_no_such_message(self) -> None:
        """A number that is not there is refused, and nothing is printed."""
        ran = self.curl("3")
        self.assertEqual((ran.code, ran.out), (WEIRD_REPLY, b""), ran.told)
        self.assertIn("< -ERR", ran.told)

    def test_connection_is_used_again(self) -> None:
        """Several messages come over one login."""
        ran = self.curl("1", f"pop3://127.0.0.1:{house.port}/2")
        self.assertEqual(ran.out.count(b"Return-Path: "), 2)
        self.assertEqual(ran.told.count("> AUTH"), 1, ran.told)


class LoginTests(CurlCase):
    def setUp(self) -> None:
        super().setUp()
        house.lmtp(HELLO, self.name)

    def test_plain_in_two_steps(self) -> None:
        """AUTH PLAIN, the response in a line of its own."""
        ran = self.curl("1", "--login-options", "AUTH=PLAIN")
        self.assertEqual((ran.code, taken_apart(ran.out)[3]), (0, HELLO), ran.told)
        self.assertIn("> AUTH PLAIN\r\n< + \r\n", ran.told)

    def test_plain_in_one_line(self) -> None:
        """AUTH PLAIN with an initial response."""
        ran = self.curl("1", "--sasl-ir", "--login-options", "AUTH=PLAIN")
        self.assertEqual((ran.code, taken_apart(ran.out)[3]), (0, HELLO), ran.told)
        self.assertRegex(ran.told, r"> AUTH PLAIN [A-Za-z0-9+/=]+\r\n< \+OK")

    def test_wrong_password(self) -> None:
        """Each way of logging in tells curl that the login was denied."""
        for options in ([], ["--sasl-ir"]):
            ran = self.curl("1", *options, password="wrong")
            self.assertEqual((ran.code, ran.out), (LOGIN_DENIED, b""), ran.told)
            self.assertIn("< -ERR [AUTH]", ran.told)

    def test_mechanism_not_offered(self) -> None:
        """A mechanism that is not offered is not tried, and PLAIN not in its place."""
        ran = self.curl("1", "--login-options", "AUTH=CRAM-MD5")
        self.assertEqual(ran.code, LOGIN_DENIED, ran.told)
        self.assertNotIn("> AUTH", ran.told)
