"""Python's poplib: each of its methods against the service."""

from __future__ import annotations

import poplib
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.house import House
from tests.interop.talk import PASSWORD
from tests.interop.texts import HELLO, TEXTS, taken_apart, wire_form

house = House()
setUpModule, tearDownModule = house.open, house.close


class PoplibCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.name = house.account()
        self.client = house.connect()
        self.addCleanup(self.client.close)

    def log_in(self) -> None:
        self.client.user(self.name)
        self.client.pass_(PASSWORD)

    def log_in_anew(self) -> None:
        """Quit, and log in by another connection."""
        self.client.quit()
        self.client = house.connect()
        self.addCleanup(self.client.close)
        self.log_in()


class AuthorizationTests(PoplibCase):
    def test_greeting(self) -> None:
        """The greeting is +OK with words behind it, and holds no APOP timestamp."""
        self.assertRegex(self.client.getwelcome(), rb"\A\+OK [^<>]+\Z")
        self.assertRaisesRegex(poplib.error_proto, "APOP not supported by server",
                               self.client.apop, self.name, PASSWORD)

    def test_capabilities(self) -> None:
        """capa() is the same before and after the login, and says what there is."""
        before = self.client.capa()
        self.log_in()
        self.assertEqual(self.client.capa(), before)
        self.assertEqual(before.pop("IMPLEMENTATION"), ["mailgate"])
        self.assertEqual(before, {
            "USER": [], "SASL": ["PLAIN"], "UIDL": [], "TOP": [], "X-SDPS": [], "RESP-CODES": [],
            "AUTH-RESP-CODE": [], "PIPELINING": [], "EXPIRE": ["NEVER"]})

    def test_wrong_password(self) -> None:
        """A refused login says so by its code; the right password is taken afterwards."""
        self.client.user(self.name)
        self.assertRaisesRegex(poplib.error_proto, r"-ERR \[AUTH\]", self.client.pass_, "wrong")
        self.log_in()

    def test_what_is_not_offered(self) -> None:
        """rpop(), utf8() and stls() are refused; the session takes a login afterwards."""
        self.assertRaisesRegex(poplib.error_proto, "-ERR", self.client.rpop, self.name)
        self.assertRaisesRegex(poplib.error_proto, "-ERR", self.client.utf8)
        self.assertRaisesRegex(poplib.error_proto, "STLS not supported", self.client.stls)
        # stls() asks CAPA first and sends nothing; the command itself is refused too
        self.assertRaisesRegex(poplib.error_proto, "-ERR", cast(Any, self.client)._shortcmd, "STLS")
        self.log_in()

    def test_quit_without_login(self) -> None:
        """quit() is taken before the login."""
        self.assertTrue(self.client.quit().startswith(b"+OK"))


class TransactionTests(PoplibCase):
    def setUp(self) -> None:
        super().setUp()
        for text in (HELLO, TEXTS["dots"], TEXTS["8-bit"]):
            house.lmtp(text, self.name)
        self.log_in()

    def test_stat_and_list(self) -> None:
        """stat() is the sum of list(); list(n) is a row of it."""
        _, rows, _ = self.client.list()
        sizes = [int(row.split()[1]) for row in rows]
        self.assertEqual(self.client.stat(), (3, sum(sizes)))
        self.assertEqual(self.client.list(2), b"+OK " + rows[1])
        self.assertRaisesRegex(poplib.error_proto, "-ERR", self.client.list, 4)

    def test_retr(self) -> None:
        """retr() gives the lines of the message; its count of octets is that of list()."""
        _, rows, _ = self.client.list()
        for number, text in enumerate((HELLO, TEXTS["dots"], TEXTS["8-bit"]), 1):
            _, lines, octets = self.client.retr(number)
            fetched = b"".join(line + b"\r\n" for line in lines)
            self.assertEqual(taken_apart(fetched)[3], wire_form(text))
            self.assertEqual(b"%d %d" % (number, octets), rows[number - 1])

    def test_top(self) -> None:
        """top(n, k) is the header, the empty line and k lines of the body; a large k is all of it."""
        _, lines, _ = self.client.retr(2)
        end_of_header = lines.index(b"") + 1
        self.assertEqual(self.client.top(2, 0)[1], lines[:end_of_header])
        self.assertEqual(self.client.top(2, 3)[1], lines[:end_of_header + 3])
        self.assertEqual(self.client.top(2, 99_999_999)[1], lines)

    def test_uidl(self) -> None:
        """uidl() and uidl(n) agree; the ids are the same in the next session, and all different."""
        _, rows, _ = self.client.uidl()
        self.assertEqual([int(row.split()[0]) for row in rows], [1, 2, 3])
        self.assertEqual(len({row.split()[1] for row in rows}), 3)
        self.assertEqual(self.client.uidl(3), b"+OK " + rows[2])
        self.log_in_anew()
        self.assertEqual(self.client.uidl()[1], rows)

    def test_dele_and_rset(self) -> None:
        """A marked message is gone from every count, keeps its number, and comes back by rset()."""
        _, ids, _ = self.client.uidl()
        octets = self.client.stat()[1] - int(self.client.list()[1][0].split()[1])
        self.client.dele(1)
        self.assertEqual(self.client.stat(), (2, octets))
        self.assertEqual(self.client.uidl()[1], ids[1:])
        for method in (self.client.retr, self.client.dele, self.client.list, self.client.uidl):
            self.assertRaisesRegex(poplib.error_proto, "-ERR", method, 1)
        self.client.rset()
        self.assertEqual(self.client.uidl()[1], ids)
        self.client.dele(2)
        self.log_in_anew()
        self.assertEqual([row.split()[1] for row in self.client.uidl()[1]],
                         [ids[0].split()[1], ids[2].split()[1]])

    def test_noop(self) -> None:
        """noop() is answered."""
        self.assertTrue(self.client.noop().startswith(b"+OK "))

    def test_close_removes_nothing(self) -> None:
        """close() without quit() leaves marked messages where they are, and frees the maildrop."""
        self.client.dele(1)
        self.client.close()
        self.client = house.connect()
        self.log_in()
        self.assertEqual(self.client.stat()[0], 3)


class LongLineTests(PoplibCase):
    def setUp(self) -> None:
        super().setUp()
        # the longest line that poplib reads is of 2048 octets with its end, one octet of stuffing among them
        self.most = b"Subject: most\r\n\r\n" + b"x" * 2046 + b"\r\n." + b"x" * 2044 + b"\r\n"
        self.more = b"Subject: more\r\n\r\n" + b"x" * 100_000 + b"\r\n." + b"y" * 70_000 + b"\r\n"
        house.lmtp(self.most, self.name)
        house.lmtp(self.more, self.name)

    def test_longest_that_poplib_takes(self) -> None:
        """Lines of 2048 octets arrive whole; what is longer poplib itself refuses."""
        self.log_in()
        _, lines, _ = self.client.retr(1)
        self.assertEqual(taken_apart(b"\r\n".join([*lines, b""]))[3], self.most)
        self.assertRaisesRegex(poplib.error_proto, "line too long", self.client.retr, 2)

    def test_longer_lines(self) -> None:
        """A poplib with a higher limit, which programs set, has lines of 100,000 octets."""
        self.patch(poplib, "_MAXLINE", 1 << 20)
        self.log_in()
        _, lines, _ = self.client.retr(2)
        self.assertEqual(taken_apart(b"\r\n".join([*lines, b""]))[3], self.more)

    def test_long_commands(self) -> None:
        """A name of 248 octets fits the line; a longer one is one refusal, and the session goes on."""
        self.assertTrue(self.client.user("u" * 248).startswith(b"+OK"))
        self.assertRaisesRegex(poplib.error_proto, r"-ERR \[AUTH\]", self.client.pass_, "p")
        self.assertRaisesRegex(poplib.error_proto, "-ERR", self.client.user, "u" * 249)
        self.assertRaisesRegex(poplib.error_proto, "-ERR", self.client.user, "u" * 70_000)
        self.log_in()
