"""Limits: octets in a line, bad commands, failed logins."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.sasl.mechanisms import MECHANISMS
from mailgate.pop3.policy import Policy
from mailgate.pop3.session import Session, Table
from mailgate.testing.peers import Peer
from tests.pop3.maildrops import mail_of
from tests.pop3.staging import GREETING, ConversationCase, Server, with_limits

PIECE = 65536
ALL = {**MECHANISMS, b"TICKETS": MECHANISMS[b"OAUTHBEARER"]._replace(needs="ticket", plaintext=False)}


class LineLimitTests(ConversationCase):
    def test_255_octets_are_a_line(self) -> None:
        """A command line of 255 octets, CRLF counted, is accepted (RFC 2449 section 4)."""
        name, password = "n" * 248, "p" * 248
        self.converse(GREETING + f"""
            C: USER {name}
            S: +OK *
            C: PASS {password}
            S: +OK *
            """, login=False, passwords={name.encode(): [password.encode()]})

    def test_256_octets_are_too_many(self) -> None:
        """One octet more: one `-ERR`, and the session goes on with the next line, in any segments."""
        self.converse(GREETING + f"""
            C: USER {"n" * 249}
            C: USER mrose
            S: -ERR *
            S: +OK *
            C: PASS secret
            S: +OK *
            C: {"x" * 254}
            C: STAT
            S: -ERR *
            S: +OK 1 120
            """, sizes=[120], login=False)

    def test_limit_counts_a_bare_line_feed_once(self) -> None:
        """254 octets and a bare LF are a line, 255 and a bare LF are not."""
        name = "n" * 249
        self.converse(GREETING + f"""
            C: USER {name}\\n\\c
            S: +OK *
            C: USER {name}n\\n\\c
            S: -ERR *
            """, login=False)

    def test_one_reply_however_long(self) -> None:
        """A line of a megabyte is dropped to its end and answered once, when it ends."""
        server = Server([mail_of(120)])
        peer = server.log_in()
        peer.say(b"x" * 1_000_000)
        self.assertEqual(peer.received, b"")
        peer.say(b"\r\nSTAT\r\n" + b"STAT " * 10_000 + b"\r\nNOOP\r\n")
        lines = bytes(peer.received).splitlines()
        self.assertEqual([line[:4] for line in lines], [b"-ERR", b"+OK ", b"-ERR", b"+OK "])
        self.assertEqual(lines[1], b"+OK 1 120")

    def test_end_of_a_long_line_is_no_command(self) -> None:
        """What stands at the end of a line too long is not taken for a command."""
        server = Server([mail_of(120)])
        peer = server.log_in()
        for piece_octets in (1, 255, 256, 300, PIECE):
            peer.received.clear()
            peer.say(b"x" * 300 + b"DELE 1\r\nSTAT\r\n", piece_octets)
            self.assertRegex(bytes(peer.received), rb"\A-ERR [^\r]+\r\n\+OK 1 120\r\n\Z")

    def test_long_password_is_not_logged_in_half(self) -> None:
        """A PASS line too long is refused as a line; nobody's password is asked about."""
        server = Server(passwords={b"mrose": [b"p" * 248]})
        peer = server.connect()
        peer.say(b"USER mrose\r\nPASS " + b"p" * 249 + b"\r\n")
        self.assertEqual(server.users.attempts, [])
        self.assertEqual(peer.received.count(b"-ERR "), 1)


class AuthLineTests(ConversationCase):
    def session(self, octets: bytes) -> list[bytes]:
        """Return the first words of the replies to what is said after the greeting."""
        server = Server()
        peer = server.connect()
        peer.received.clear()
        peer.say(octets)
        replies = bytes(peer.received).split(b"\r\n")
        self.assertEqual(replies.pop(), b"")
        peer.vanish()
        self.assertEqual(server.left_behind(), [])
        return [reply.split(b" ")[0] for reply in replies]

    def test_long_response(self) -> None:
        """However long a response is and whatever it is worth, one reply comes."""
        for octets in (12_284, 12_288, 80_000, 131_072, 200_000, 1_000_000):
            said = b"AUTH PLAIN\r\n" + b"A" * octets + b"\r\nSTAT\r\nUSER mrose\r\nPASS secret\r\n"
            self.assertEqual(self.session(said), [b"+", b"-ERR", b"-ERR", b"+OK", b"+OK"], octets)

    def test_long_initial_response(self) -> None:
        """The same for an initial response: clients exceed 255 octets there."""
        for octets in (300, 12_276, 12_280, 80_000, 131_072, 200_000, 1_000_000):
            said = b"AUTH PLAIN " + b"A" * octets + b"\r\nSTAT\r\nUSER mrose\r\nPASS secret\r\n"
            self.assertEqual(self.session(said), [b"-ERR", b"-ERR", b"+OK", b"+OK"], octets)

    def test_limit_is_back_after_the_exchange(self) -> None:
        """After an AUTH the next command line may have 255 octets again, no more."""
        for exchange in (b"AUTH PLAIN\r\n*\r\n", b"AUTH PLAIN\r\n" + b"A" * 200_000 + b"\r\n",
                         b"AUTH PLAIN " + b"A" * 200_000 + b"\r\n"):
            replies = self.session(exchange + b"USER " + b"n" * 249 + b"\r\nUSER " + b"n" * 248 + b"\r\n")
            self.assertEqual(replies[-2:], [b"-ERR", b"+OK"], exchange[:20])

    def test_limit_is_back_after_a_login(self) -> None:
        """After a successful AUTH, in one line or two, 256 octets are too many again."""
        good = b"AG1yb3NlAHNlY3JldA=="
        for exchange in (b"AUTH PLAIN\r\n" + good + b"\r\n", b"AUTH PLAIN " + good + b"\r\n"):
            replies = self.session(exchange + b"NOOP" + b" " * 250 + b"\r\nNOOP" + b" " * 249 + b"\r\n")
            self.assertEqual(replies[-3:], [b"+OK", b"-ERR", b"+OK"], exchange)

    def test_long_lines_of_others(self) -> None:
        """The long limit is for AUTH: AUTHOR, USER and the rest have 255 octets, in one segment or many."""
        for keyword in (b"AUTHOR ", b"AUT ", b"USER ", b"PASS ", b"CAPA "):
            replies = self.session(b"USER mrose\r\n" + keyword + b"x" * 300 + b"\r\nQUIT\r\n")
            self.assertEqual(replies, [b"+OK", b"-ERR", b"+OK"], keyword)


class MechanismLineTests(SynchronousTestCase):
    """How long a line of AUTH may be goes by the mechanism."""

    def is_line(self, before: bytes, octets: int, *, piece_octets: int = PIECE, **how: Any) -> bool:
        """Return whether a line of so many octets, its end counted, is read behind something else."""
        how = {"plaintext_allowed": True, "mechanisms": ALL, **how}
        session = Session(Table(), Policy(), **how)
        first, last = before.rpartition(b"\n")[::2]
        session.receive(first + b"\n" if first else b"")
        session.advance()
        line = last + b"A" * (octets - len(last) - 2) + b"\r\n"
        said = b""
        for at in range(0, len(line), piece_octets):
            session.receive(line[at:at + piece_octets])
            said += session.advance().octets
        return said != b"-ERR line too long\r\n"

    def test_octets(self) -> None:
        """12,288 for most (RFC 5034 section 4); 128 KiB where the client brings a token or a ticket."""
        for limit, names in ((12_288, (b"PLAIN", b"LOGIN", b"SCRAM-SHA-256")),
                             (131_072, (b"XOAUTH2", b"OAUTHBEARER", b"TICKETS"))):
            for name in names:
                for before in (b"AUTH %b\n", b"AUTH %b ", b"auth  %b ", b"AUTH\t%b "):
                    self.assertTrue(self.is_line(before % name, limit), before % name)
                    self.assertFalse(self.is_line(before % name, limit + 1), before % name)

    def test_in_pieces(self) -> None:
        """It is known as soon as the mechanism's name has come."""
        for piece_octets in (1, 7, 300):
            self.assertTrue(self.is_line(b"AUTH XOAUTH2 ", 20_000, piece_octets=piece_octets))
            self.assertTrue(self.is_line(b"AUTH PLAIN ", 12_288, piece_octets=piece_octets))
            self.assertFalse(self.is_line(b"AUTH PLAIN ", 12_289, piece_octets=piece_octets))

    def test_not_served_here(self) -> None:
        """A mechanism that is not offered on this connection makes no line longer."""
        few = {name: row for name, row in MECHANISMS.items() if row.needs != "token"}
        self.assertFalse(self.is_line(b"AUTH XOAUTH2 ", 12_289, mechanisms=few))
        self.assertFalse(self.is_line(b"AUTH XOAUTH2 ", 12_289, plaintext_allowed=False))
        self.assertTrue(self.is_line(b"AUTH XOAUTH2 ", 12_289, plaintext_allowed=False, protected=True))
        self.assertFalse(self.is_line(b"AUTH XOAUTH3 ", 12_289))
        self.assertFalse(self.is_line(b"AUTH ", 12_289))

    def test_after_the_exchange(self) -> None:
        """A long token's exchange leaves no long limit behind for the next one."""
        self.assertFalse(self.is_line(b"AUTH XOAUTH2\r\n*\r\nAUTH PLAIN\n", 12_289))
        self.assertTrue(self.is_line(b"AUTH PLAIN\r\n*\r\nAUTH XOAUTH2\n", 12_289))


class CountLimitTests(ConversationCase):
    def count(self, peer: Peer, octets: bytes, most: int = 100) -> int:
        """Say the same until the connection closes; return how often, holding each to one reply."""
        for times in range(1, most):
            peer.received.clear()
            peer.say(octets)
            self.assertTrue(bytes(peer.received).splitlines()[-1].startswith(b"-ERR "))
            if peer.closed:
                return times
        return most

    def test_bad_commands(self) -> None:
        """The twentieth bad command is answered and ends the session; nothing is removed."""
        for octets in (b"XYZZY\r\n", b"STAT 1\r\n", b"DELE\r\n", b"USER mrose\r\n", b"x" * 1000 + b"\r\n",
                       b"\r\n"):
            server = Server([mail_of(120), mail_of(120)])
            peer = server.log_in()
            peer.say(b"DELE 1\r\n")
            self.assertEqual(self.count(peer, octets), 20, octets)
            self.assertEqual(server.left_behind(), [])
            self.assertEqual(server.drop.removed, [])

    def test_bad_commands_in_one_segment(self) -> None:
        """A batch of bad commands gets twenty replies and no more."""
        server = Server()
        peer = server.connect()
        peer.received.clear()
        peer.say(b"XYZZY\r\n" * 1000)
        self.assertTrue(peer.closed)
        self.assertEqual(peer.received.count(b"-ERR "), 20)
        self.assertEqual(peer.transport.late, b"")

    def test_bad_commands_before_the_login(self) -> None:
        """There a good command between two bad ones forgives nothing; afterwards it does."""
        for good in (b"CAPA\r\n", b"USER mrose\r\n", b"AUTH\r\n", b"AUTH PLAIN\r\n*\r\n"):
            peer = Server().connect()
            for _ in range(20):
                self.assertFalse(peer.closed)
                peer.say(good if b"*" in good else b"XYZZY\r\n" + good)
            self.assertTrue(peer.closed, good)
        peer = Server().log_in()
        peer.say(b"XYZZY\r\nNOOP\r\n" * 100)
        self.assertFalse(peer.closed)

    def test_bad_commands_limit_is_a_setting(self) -> None:
        """The number comes from the policy."""
        self.assertEqual(self.count(Server(policy=with_limits(bad_commands=3)).connect(), b"XYZZY\r\n"), 3)

    def test_failed_logins(self) -> None:
        """The third failed login is answered and ends the session, by whatever command they came."""
        for octets in (b"USER mrose\r\nPASS wrong\r\n", b"AUTH PLAIN AG1yb3NlAHdyb25n\r\n",
                       b"AUTH PLAIN\r\nAG1yb3NlAHdyb25n\r\n"):
            server = Server()
            self.assertEqual(self.count(server.connect(), octets), 3, octets)
            self.assertEqual(len(server.users.attempts), 3)
            self.assertEqual(server.left_behind(), [])

    def test_failed_logins_in_one_segment(self) -> None:
        """A batch of guesses is cut at the third; no further password is looked at."""
        server = Server(passwords={b"mrose": [b"secret"]})
        peer = server.connect()
        peer.say(b"USER mrose\r\nPASS wrong\r\n" * 10 + b"USER mrose\r\nPASS secret\r\n")
        self.assertTrue(peer.closed)
        self.assertEqual(len(server.users.attempts), 3)
        self.assertEqual(server.realm.opened, [])

    def test_failed_logins_limit_is_a_setting(self) -> None:
        """The number comes from the policy."""
        peer = Server(policy=with_limits(failed_logins=7)).connect()
        self.assertEqual(self.count(peer, b"USER mrose\r\nPASS wrong\r\n"), 7)
