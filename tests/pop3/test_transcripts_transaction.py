"""What TRANSACTION shows: STAT LIST UIDL RETR TOP (RFC 1939 sections 5, 7, 11)."""

from __future__ import annotations

from tests.pop3.maildrops import Mail, mail_of
from tests.pop3.staging import ConversationCase, Server

THREE = [Mail(b"Subject: one\r\n\r\nbody one\r\n", b"id-one"),
         Mail(b"Subject: two\n\n.two\n..\n", b"id-two"),
         Mail(b"Subject: three\n\nno end", b"<id>three")]


class ScanTests(ConversationCase):
    def test_stat(self) -> None:
        """Number and octets, single spaces, nothing more (section 5)."""
        self.converse("""
            C: STAT
            S: +OK 2 320
            """, sizes=[120, 200])

    def test_empty_maildrop(self) -> None:
        """Nothing there: zeros, and lists of nothing (section 5)."""
        self.converse("""
            C: STAT
            S: +OK 0 0
            C: LIST
            S: +OK *
            S: .
            C: UIDL
            S: +OK *
            S: .
            C: LIST 1
            S: -ERR *
            C: UIDL 1
            S: -ERR *
            C: RETR 1
            S: -ERR *
            C: DELE 1
            S: -ERR *
            C: RSET
            S: +OK *
            C: QUIT
            S: +OK *
            S: (closed)
            """)

    def test_list(self) -> None:
        """One line a message, number and octets, nothing after the size (section 5; SDPS page)."""
        self.converse("""
            C: LIST
            S: +OK *
            S: 1 120
            S: 2 0
            S: 3 4294967295
            S: .
            C: LIST 2
            S: +OK 2 0
            """, mails=[mail_of(120), mail_of(0), huge()])

    def test_list_of_one(self) -> None:
        """`LIST n` is one line (section 5)."""
        self.converse("""
            C: LIST 2
            S: +OK 2 200
            C: LIST 3
            S: -ERR *
            """, sizes=[120, 200])

    def test_deleted_messages_do_not_count(self) -> None:
        """Marked messages are in neither number of STAT nor in any list (section 5)."""
        self.converse("""
            C: DELE 2
            S: +OK *
            C: STAT
            S: +OK 2 420
            C: LIST
            S: +OK *
            S: 1 120
            S: 3 300
            S: .
            C: UIDL
            S: +OK *
            S: 1 uid-1
            S: 3 uid-3
            S: .
            C: DELE 1
            S: +OK *
            C: DELE 3
            S: +OK *
            C: STAT
            S: +OK 0 0
            C: LIST
            S: +OK *
            S: .
            C: UIDL
            S: +OK *
            S: .
            """, sizes=[120, 200, 300])

    def test_lists_follow_every_mark(self) -> None:
        """Lists are right again and again, whatever was marked, listed and reset in between."""
        self.converse("""
            C: LIST
            S: +OK *
            S: 1 120
            S: 2 200
            S: .
            C: DELE 1
            S: +OK *
            C: LIST
            S: +OK *
            S: 2 200
            S: .
            C: RSET
            S: +OK *
            C: LIST
            S: +OK *
            S: 1 120
            S: 2 200
            S: .
            C: UIDL
            S: +OK *
            S: 1 uid-1
            S: 2 uid-2
            S: .
            C: DELE 2
            S: +OK *
            C: UIDL
            S: +OK *
            S: 1 uid-1
            S: .
            """, sizes=[120, 200])

    def test_sessions_do_not_share_marks(self) -> None:
        """Two sessions over one listing: what one marks the other does not see."""
        server = Server([mail_of(120), mail_of(200)])
        first = server.log_in()
        first.say(b"LIST\r\nUIDL\r\n")
        first.say(b"DELE 1\r\n")
        second = server.log_in()
        second.say(b"STAT\r\nLIST\r\n")
        self.assertIn(b"+OK 2 320\r\n", second.received)
        self.assertIn(b"\r\n1 120\r\n2 200\r\n.\r\n", second.received)

    def test_big_listing(self) -> None:
        """Ten thousand messages are listed whole and in order."""
        server = Server([mail_of(120) for _ in range(10_000)])
        peer = server.log_in()
        peer.say(b"DELE 5000\r\nLIST\r\nUIDL\r\n")
        numbers = [number for number in range(1, 10_001) if number != 5000]
        listed = b"".join(b"%d 120\r\n" % number for number in numbers) + b".\r\n"
        named = b"".join(b"%d uid-%d\r\n" % (number, number) for number in numbers) + b".\r\n"
        _, _, rest = bytes(peer.received).split(b"\r\n", 2)
        self.assertTrue(rest.startswith(listed))
        _, after = rest.removeprefix(listed).split(b"\r\n", 1)
        self.assertEqual(after, named)


def huge() -> Mail:
    """Return a message that claims 4 GiB less one; nobody fetches it."""
    mail = Mail(b"a\n")
    mail.octets = 4294967295
    return mail


class UidlTests(ConversationCase):
    def test_uidl(self) -> None:
        """`n uid`, nothing after it; `UIDL n` repeats n (section 7)."""
        self.converse("""
            C: UIDL
            S: +OK *
            S: 1 id-one
            S: 2 id-two
            S: 3 <id>three
            S: .
            C: UIDL 3
            S: +OK 3 <id>three
            C: UIDL 4
            S: -ERR *
            C: DELE 3
            S: +OK *
            C: UIDL 3
            S: -ERR *
            """, mails=THREE)

    def test_longest_id(self) -> None:
        """Seventy octets, any of 0x21 to 0x7E, a leading dot included (sections 3, 7)."""
        longest = (bytes(range(0x21, 0x7F)))[:70]
        peer = Server([Mail(b"a\n", longest), Mail(b"b\n", b".dot")]).log_in()
        peer.say(b"UIDL\r\nUIDL 1\r\nUIDL 2\r\n")
        self.assertIn(b"\r\n1 " + longest + b"\r\n2 .dot\r\n.\r\n+OK 1 " + longest + b"\r\n+OK 2 .dot\r\n",
                      peer.received)


class RetrTests(ConversationCase):
    def test_retr(self) -> None:
        """The whole message, CRLF line ends, stuffed, a last line end added (sections 3, 5)."""
        self.converse("""
            C: RETR 1
            S: +OK *
            S: Subject: one
            S:
            S: body one
            S: .
            C: RETR 2
            S: +OK *
            S: Subject: two
            S:
            S: ..two
            S: ...
            S: .
            C: RETR 3
            S: +OK *
            S: Subject: three
            S:
            S: no end
            S: .
            C: LIST
            S: +OK *
            S: 1 26
            S: 2 26
            S: 3 26
            S: .
            """, mails=THREE, fetched=[(1, None), (2, None), (3, None)])

    def test_retr_again(self) -> None:
        """A message may be fetched as often as one likes."""
        self.converse("""
            C: RETR 1
            C: RETR 1
            S: +OK *
            S: Subject: one
            S:
            S: body one
            S: .
            S: +OK *
            S: Subject: one
            S:
            S: body one
            S: .
            """, mails=THREE)

    def test_retr_of_nothing(self) -> None:
        """Unknown and marked numbers are refused (section 5)."""
        self.converse("""
            C: RETR 4
            S: -ERR *
            C: DELE 2
            S: +OK *
            C: RETR 2
            S: -ERR *
            """, mails=THREE, fetched=[])

    def test_empty_message(self) -> None:
        """An empty message is a message: no line at all before the terminator (section 5)."""
        self.converse("""
            C: RETR 1
            S: +OK *
            S: .
            C: TOP 1 5
            S: +OK *
            S: .
            C: LIST 1
            S: +OK 1 0
            C: DELE 1
            S: +OK *
            C: STAT
            S: +OK 0 0
            """, mails=[Mail(b"")])

    def test_long_lines(self) -> None:
        """No limit holds for the lines of a message."""
        line = b"x" * 100_000
        peer = Server([Mail(line + b"\n")]).log_in()
        peer.say(b"RETR 1\r\n")
        self.assertTrue(peer.received.endswith(b"\r\n" + line + b"\r\n.\r\n"))

    def test_streamed_message(self) -> None:
        """A large message comes as a stream and reads the same; commands behind it wait."""
        mails = [Mail(b"Subject: large\n\n" + b".line\n" * 60_000, streamed=True)]
        for asynchronous in (False, True):
            server = Server(mails, asynchronous=asynchronous)
            peer = server.log_in()
            peer.say(b"RETR 1\r\nSTAT\r\n")
            status, rest = bytes(peer.received).split(b"\r\n", 1)
            self.assertTrue(status.startswith(b"+OK "))
            self.assertEqual(rest, mails[0].wire + b".\r\n+OK 1 %d\r\n" % mails[0].octets)
            peer.say(b"QUIT\r\n")
            self.assertEqual(server.left_behind(), [])


class TopTests(ConversationCase):
    MAIL = Mail(b"Subject: top\nX: y\n\nfirst\n.second\nthird\n")

    def test_top(self) -> None:
        """Header, blank line, so many lines of the body; 0 gives none (section 7)."""
        self.converse("""
            C: TOP 1 0
            S: +OK *
            S: Subject: top
            S: X: y
            S:
            S: .
            C: TOP 1 1
            S: +OK *
            S: Subject: top
            S: X: y
            S:
            S: first
            S: .
            C: TOP 1 2
            S: +OK *
            S: Subject: top
            S: X: y
            S:
            S: first
            S: ..second
            S: .
            """, mails=[self.MAIL], fetched=[(1, 0), (1, 1), (1, 2)])

    def test_more_lines_than_there_are(self) -> None:
        """More lines than the body has: the whole message (section 7); fetchmail asks for 99999999."""
        for lines in (3, 4, 99999999, 9999999999):
            self.converse(f"""
                C: TOP 1 {lines}
                S: +OK *
                S: Subject: top
                S: X: y
                S:
                S: first
                S: ..second
                S: third
                S: .
                """, mails=[self.MAIL])

    def test_top_of_nothing(self) -> None:
        """Unknown and marked numbers are refused (section 7)."""
        self.converse("""
            C: TOP 2 0
            S: -ERR *
            C: DELE 1
            S: +OK *
            C: TOP 1 0
            S: -ERR *
            """, mails=[self.MAIL], fetched=[])

    def test_top_of_a_stream(self) -> None:
        """TOP of a large message may come as a stream as well."""
        mail = Mail(b"Subject: large\n\n" + b"line\n" * 60_000, streamed=True)
        server = Server([mail])
        peer = server.log_in()
        peer.say(b"TOP 1 50000\r\nNOOP\r\nQUIT\r\n")
        body = b"Subject: large\r\n\r\n" + b"line\r\n" * 50_000
        self.assertIn(b"\r\n" + body + b".\r\n+OK ", peer.received)
        self.assertEqual(server.left_behind(), [])
