"""mailgate.compat.POP3: what it does better than the class whose place it takes."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailgate.compat import POP3
from mailgate.errors import MaildropInUse
from mailgate.testing.peers import Peer
from mailgate.wire.dots import to_wire
from tests.compat.staging import LOGIN, StandInCase
from tests.net.mailboxes import BLUE, GREEN, DeferredMailbox, ListMailbox

LARGE = b"Subject: large\n\n" + b".x\n" * 100_000      # 300 KB, 500 KB in wire form
TEXTS = st.lists(st.sampled_from(
    [b"a", b".", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"longer words", b"x" * 9000])).map(b"".join)


def no_quit(line: bytes) -> bool:
    """Whether a line leaves the session open; chance does find QUIT."""
    return not line.strip().upper().startswith(b"QUIT")


def both(mailbox: ListMailbox) -> list[Any]:
    """Return a mailbox as it is and with Deferreds."""
    return [mailbox, DeferredMailbox(mailbox)]


class Listings(StandInCase):
    """STAT, LIST, UIDL."""

    def test_deleted_messages_are_not_there(self) -> None:
        for mailbox in both(ListMailbox([GREEN, BLUE, b""])):
            mailbox.undeleteMessages()
            peer = self.log_in(mailbox)
            self.assertEqual(self.said(peer, b"DELE 1\r\nSTAT\r\nLIST\r\nUIDL\r\n"), [
                b"+OK ", b"+OK 1 20", b"+OK 1", b"2 20", b".", b"+OK ", b"2 id1", b"."])
            for command in (b"LIST 1", b"UIDL 1", b"RETR 1", b"TOP 1 1", b"DELE 1", b"RETR 3"):
                self.assertEqual(self.said(peer, command + b"\r\n"), [b"-ERR message deleted"])

    def test_one_unique_id_comes_with_its_number(self) -> None:
        for mailbox in both(ListMailbox([GREEN, BLUE])):
            peer = self.log_in(mailbox)
            self.assertEqual(self.said(peer, b"UIDL 2\r\n"), [b"+OK 2 id1"])

    def test_unique_ids_are_legal(self) -> None:
        peer = self.log_in(ListMailbox([GREEN, BLUE], uids=[b"two words", 7]))
        answers = self.said(peer, b"UIDL\r\n")
        self.assertRegex(answers[1], rb"\A1 [0-9a-f]{64}\Z")
        self.assertEqual(answers[2], b"2 7")
        self.assertEqual(self.said(peer, b"UIDL 1\r\n"), [b"+OK " + answers[1]])

    def test_a_listing_that_fails_is_one_refusal(self) -> None:
        """Nothing of the fault is shown, and nothing of a reply was begun."""
        for command in (b"STAT", b"LIST", b"UIDL", b"LIST 1", b"UIDL 1", b"RETR 1"):
            mailbox = ListMailbox([GREEN])
            for one in both(mailbox):
                mailbox.faults.clear()
                peer = self.log_in(one)
                mailbox.faults["getUidl" if b"UIDL" in command else "listMessages"] = OSError("/secret/path")
                self.assertEqual(self.said(peer, command + b"\r\n"), [b"-ERR [SYS/TEMP] try again later"])
                self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)


class Messages(StandInCase):
    """RETR and TOP."""

    @settings(deadline=None, max_examples=80)
    @given(TEXTS, st.integers(1, 40))
    def test_framing_holds(self, content: bytes, piece_octets: int) -> None:
        mailbox = ListMailbox([content or b"x"])
        peer = self.log_in(mailbox)
        peer.say(b"RETR 1\r\nNOOP\r\n", piece_octets=piece_octets)
        wire = to_wire(content or b"x")
        self.assertEqual(bytes(peer.received), b"+OK %d\r\n%b.\r\n+OK \r\n" % (len(content or b"x"), wire))
        self.assertEqual(peer.closed, False)
        self.assertTrue(all(file.closed for file in mailbox.files))
        peer.vanish()

    def test_large_messages_leave_at_the_clients_pace(self) -> None:
        for mailbox in both(ListMailbox([LARGE])):
            peer = self.log_in(mailbox, reading_octets=0)
            peer.received.clear()
            peer.say(b"RETR 1\r\nNOOP\r\n")
            most = 0
            while peer.transport.waiting:
                most = max(most, peer.transport.waiting)
                peer.take(10_000)
            self.assertLess(most, 70_000)
            self.assertTrue(peer.received.endswith(to_wire(LARGE) + b".\r\n+OK \r\n"))
            peer.vanish()
            self.gone()

    def log_in(self, mailbox: Any, *args: Any, **how: Any) -> Peer:
        """Log in with a peer that reads slowly only afterwards."""
        reading = how.pop("reading_octets", None)
        peer = super().log_in(mailbox, *args, **how)
        if reading is not None:
            peer.reading_octets = reading
        return peer

    def test_a_message_that_breaks_off_ends_the_connection(self) -> None:
        """The terminator after half a message would make a whole one of it."""
        class Breaking:
            at = 0

            def read(self, octets: int) -> bytes:
                self.at += 1
                if self.at > 4:
                    raise OSError("bad sector")
                return b"x" * 60_000

        mailbox = ListMailbox([GREEN])
        mailbox.getMessage = lambda i: Breaking()       # type: ignore[method-assign]
        peer = self.log_in(mailbox)
        peer.say(b"RETR 1\r\nNOOP\r\n")
        self.assertTrue(peer.closed)
        self.assertNotIn(b"\r\n.\r\n", peer.received)
        self.gone()

    def test_messages_that_are_gone(self) -> None:
        mailbox = ListMailbox([GREEN])
        mailbox.faults["getMessage"] = ValueError()
        for one in both(mailbox):
            peer = self.log_in(one)
            self.assertEqual(self.said(peer, b"RETR 1\r\nNOOP\r\n"),
                             [b"-ERR Bad message number argument", b"+OK "])


class Order(StandInCase):
    """One answer a command, in order, however much is pipelined."""

    def test_commands_wait_for_the_login(self) -> None:
        peer = self.serve(ListMailbox([GREEN]))
        held = self.realm.held = Deferred()
        peer.say(LOGIN + b"STAT\r\nDELE 1\r\nQUIT\r\n")
        self.assertEqual(bytes(peer.received), b"+OK USER accepted, send PASS\r\n")
        held.callback(None)
        peer.settle()
        self.assertEqual(bytes(peer.received).split(b"\r\n")[1:], [
            b"+OK Authentication succeeded", b"+OK 1 32", b"+OK ", b"+OK ", b""])
        self.assertTrue(peer.closed)
        self.gone()

    def test_commands_wait_for_the_mailbox(self) -> None:
        for method, command, answers in (
            ("listMessages", b"STAT", [b"+OK 2 52"]),
            ("getUidl", b"UIDL", [b"+OK ", b"1 id0", b"2 id1", b"."]),
            ("getMessage", b"TOP 2 0", [b"+OK Top of message follows", b"Subject: blue", b"", b"."]),
            ("deleteMessage", b"DELE 1", [b"+OK "]),
            ("undeleteMessages", b"RSET", [b"+OK "]),
        ):
            mailbox = DeferredMailbox(ListMailbox([GREEN, BLUE]), held=[method])
            peer = self.log_in(mailbox)
            self.assertEqual(self.said(peer, command + b"\r\nLAST\r\nNOOP 1\r\n"), [])
            while mailbox.let_go():
                peer.settle()
            last = b"+OK 2" if command.startswith(b"TOP") else b"+OK 0"
            self.assertEqual(bytes(peer.received).split(b"\r\n")[:-1], [
                *answers, last,
                b"-ERR bad protocol or server: POP3Error: wrong number of arguments: cannot do NOOP"])

    def test_many_pipelined_commands_make_no_recursion(self) -> None:
        peer = self.log_in(ListMailbox([GREEN]))
        answers = self.said(peer, b"NOOP\r\n" * 20_000 + b"STAT\r\n")
        self.assertEqual(answers, [b"+OK "] * 20_000 + [b"+OK 1 32"])

    def test_a_backlog_is_bounded(self) -> None:
        mailbox = DeferredMailbox(ListMailbox([GREEN]), held=["listMessages"])
        peer = self.log_in(mailbox)
        peer.say(b"STAT\r\n" + b"NOOP\r\n" * 100_000, piece_octets=4096)
        self.assertFalse(peer.heard)
        self.assertLess(self.server._framer.pending, 70_000)
        mailbox.let_go()
        peer.settle()
        self.assertEqual(bytes(peer.received), b"+OK 1 32\r\n" + b"+OK \r\n" * 100_000)

    def test_answers_wait_for_a_client_that_does_not_read(self) -> None:
        peer = self.log_in(ListMailbox([GREEN] * 1000))
        peer.reading_octets = 0
        peer.say(b"UIDL\r\n" * 1000)
        self.assertLess(peer.transport.waiting, 80_000)
        peer.advance(700, step_seconds=50)
        self.assertTrue(peer.closed)
        self.gone()

    def test_lines_given_by_hand_wait_too(self) -> None:
        """A subclass that feeds lineReceived itself."""
        mailbox = DeferredMailbox(ListMailbox([GREEN]), held=["listMessages"])
        peer = self.log_in(mailbox)
        for line in (b"STAT", b"NOOP", b"LAST"):
            self.server.lineReceived(line)
        mailbox.let_go()
        peer.settle()
        self.assertEqual(bytes(peer.received).split(b"\r\n")[:-1], [b"+OK 1 32", b"+OK ", b"+OK 0"])

    def test_nothing_is_answered_after_quit(self) -> None:
        peer = self.log_in(ListMailbox([GREEN]))
        self.assertEqual(self.said(peer, b"QUIT\r\nNOOP\r\nDELE 1\r\n"), [b"+OK "])
        self.gone()


class Input(StandInCase):
    """Bad lines."""

    def test_wrong_numbers_of_arguments(self) -> None:
        peer = self.serve(ListMailbox([GREEN]))
        for command in (b"USER", b"USER a b", b"PASS", b"APOP a", b"CAPA x", b"QUIT now"):
            self.assertRegex(self.said(peer, command + b"\r\n")[0], rb"\A-ERR .*wrong number of arguments")
        peer.say(LOGIN)
        for command in (b"STAT 1", b"RETR", b"RETR 1 2", b"TOP 1", b"DELE", b"NOOP x", b"UIDL 1 2"):
            self.assertRegex(self.said(peer, command + b"\r\n")[0], rb"\A-ERR .*wrong number of arguments")
        self.assertEqual(self.said(peer, b"STAT  \r\nLIST 1 \r\n"), [b"+OK 1 32", b"+OK 1 32"])

    def test_numbers_that_are_none(self) -> None:
        peer = self.log_in(ListMailbox([GREEN]))
        for argument in (b"0", b"-1", b"+1", b"1_0", b"0x1", b"1.", b"\xb2", b"9" * 11, b"2"):
            for command in (b"RETR %b", b"TOP %b 0", b"DELE %b", b"UIDL %b", b"LIST %b"):
                self.assertRegex(self.said(peer, command % argument + b"\r\n")[0], rb"\A-ERR [ -~]+\Z")
        for argument in (b"-1", b"+1", b"x", b"1_0"):
            self.assertEqual(self.said(peer, b"TOP 1 %b\r\n" % argument), [b"-ERR Bad line count argument"])

    def test_what_is_no_command(self) -> None:
        peer = self.log_in(ListMailbox([GREEN]))
        for line in (b"", b" ", b"\xff\xfe", b"__class__", b"STAT\0", b"x" * 5000, b"\x1b[2J"):
            answer, = self.said(peer, line + b"\r\n")
            self.assertRegex(answer, rb"\A-ERR [ -~]{1,200}\Z")

    def test_long_lines_are_dropped(self) -> None:
        peer = self.log_in(ListMailbox([GREEN]))
        peer.say(b"x" * 1_000_000)
        self.assertLess(self.server._framer.pending, 20_000)
        self.assertEqual(self.said(peer, b"\r\nNOOP\r\n"), [b"-ERR line too long", b"+OK "])

    def test_login_verbs_after_a_login(self) -> None:
        """A second login would take a second lock, and one of the two would never be given back."""
        peer = self.log_in(ListMailbox([GREEN]))
        for command in (b"USER mrose", b"PASS secret", b"APOP mrose x", b"AUTH", b"AUTH PLAIN"):
            self.assertRegex(self.said(peer, command + b"\r\n")[0], rb"\A-ERR ")
        peer.say(b"QUIT\r\n")
        self.gone()

    @settings(deadline=None, max_examples=150)
    @given(st.lists(st.one_of(
        st.binary(max_size=12).map(lambda junk: junk.replace(b"\n", b"")).filter(no_quit),
        st.sampled_from([b"STAT", b"LIST 1", b"UIDL", b"RETR 1", b"TOP 1 2", b"DELE 1", b"RSET", b"LAST",
                         b"NOOP", b"USER x", b"PASS y", b"APOP a b", b"AUTH", b"RPOP x", b"CAPA x"])),
        max_size=12),
        st.integers(1, 9))
    def test_one_answer_a_line(self, lines: list[bytes], piece_octets: int) -> None:
        peer = self.log_in(DeferredMailbox(ListMailbox([BLUE])))
        peer.say(b"".join([line + b"\r\n" for line in lines]), piece_octets)
        statuses = [line for line in peer.received.split(b"\r\n") if line[:1] in (b"+", b"-")]
        self.assertEqual(len(statuses), len(lines))
        peer.vanish()
        self.gone()


class Leaving(StandInCase):
    """Every end: one logout, and only QUIT removes."""

    def test_quit(self) -> None:
        for wrap in (lambda mailbox: mailbox, DeferredMailbox):
            mailbox = ListMailbox([GREEN, BLUE])
            peer = self.log_in(wrap(mailbox))
            self.assertEqual(self.said(peer, b"DELE 1\r\nQUIT\r\n"), [b"+OK ", b"+OK "])
            self.assertTrue(peer.closed)
            self.gone()
            self.assertEqual(mailbox.calls, [("delete", 0), "sync"])

    def test_quit_waits_for_sync_and_logout(self) -> None:
        mailbox = DeferredMailbox(ListMailbox([GREEN]), held=["sync"])
        peer = self.log_in(mailbox)
        self.assertEqual(self.said(peer, b"DELE 1\r\nQUIT\r\n"), [b"+OK "])
        self.assertEqual(self.realm.logouts, 0)
        mailbox.let_go()
        self.assertEqual(self.realm.logouts, 1)         # before +OK: who comes back at once finds no lock
        peer.settle()
        self.assertEqual(bytes(peer.received), b"+OK \r\n+OK \r\n")
        self.gone()

    def test_a_failed_quit_is_told(self) -> None:
        mailbox = ListMailbox([GREEN])
        for one in both(mailbox):
            mailbox.faults["sync"] = OSError("no space")
            mailbox.calls.clear()
            peer = self.log_in(one)
            self.assertEqual(self.said(peer, b"DELE 1\r\nQUIT\r\n"),
                             [b"+OK ", b"-ERR [SYS/TEMP] some deleted messages not removed"])
            self.assertTrue(peer.closed)
            self.assertEqual(mailbox.calls, [("delete", 0), "sync", "undelete"])
            self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
            self.gone()

    def test_any_other_end_takes_the_marks_back(self) -> None:
        mailbox = ListMailbox([GREEN])
        peer = self.log_in(mailbox)
        peer.say(b"DELE 1\r\n")
        peer.vanish()
        self.assertEqual(mailbox.calls, [("delete", 0), "undelete"])
        self.gone()

    def test_clients_that_vanish_wherever_they_wait(self) -> None:
        for held, said, calls in (
            ("listMessages", b"STAT\r\n", []),
            ("getUidl", b"UIDL\r\n", []),
            ("getMessage", b"RETR 1\r\n", []),
            ("deleteMessage", b"DELE 1\r\n", [("delete", 0), "undelete"]),
            ("undeleteMessages", b"DELE 1\r\nRSET\r\n", [("delete", 0), "undelete"]),
            ("sync", b"DELE 1\r\nQUIT\r\n", [("delete", 0), "sync"]),
        ):
            mailbox = ListMailbox([GREEN])
            slow = DeferredMailbox(mailbox, held=[held])
            peer = self.log_in(slow)
            peer.say(said)
            self.assertTrue(slow.waiting, held)
            peer.vanish()
            self.assertEqual(self.realm.logouts, 0 if b"DELE" in said else 1)   # reads are not waited for
            while slow.let_go():
                peer.settle()
            self.assertEqual(mailbox.calls, calls, held)
            self.assertTrue(all(file.closed for file in mailbox.files))
            self.gone()

    def test_clients_that_vanish_from_a_large_message(self) -> None:
        mailbox = ListMailbox([LARGE])
        peer = self.log_in(mailbox)
        peer.reading_octets = 0
        peer.say(b"RETR 1\r\n")
        self.assertFalse(mailbox.files[0].closed)
        peer.vanish()
        self.assertTrue(mailbox.files[0].closed)
        self.gone()

    def test_a_login_that_comes_after_its_client_has_gone(self) -> None:
        peer = self.serve(ListMailbox([GREEN]))
        held = self.realm.held = Deferred()
        peer.say(LOGIN)
        peer.vanish()
        self.assertEqual(self.realm.logouts, 0)
        held.callback(None)
        self.gone()

    def test_a_logout_that_fails_is_told_to_the_operator(self) -> None:
        peer = self.log_in(ListMailbox([GREEN]))
        self.server._onLogout = lambda: 1 // 0
        self.assertEqual(self.said(peer, b"QUIT\r\n"), [b"+OK "])
        self.assertTrue(peer.closed)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_silence(self) -> None:
        peer = self.log_in(ListMailbox([GREEN]))
        peer.say(b"DELE 1\r\n")
        peer.advance(599)
        peer.say(b"NOOP\r\n")
        peer.advance(599)
        self.assertFalse(peer.closed)
        peer.advance(2)
        self.assertTrue(peer.closed)
        self.assertEqual(self.realm.mailbox.calls, [("delete", 0), "undelete"])
        self.gone()

    def test_a_client_that_stops_reading_a_message(self) -> None:
        peer = self.log_in(ListMailbox([LARGE]))
        peer.reading_octets = 0
        peer.say(b"RETR 1\r\n")
        peer.advance(599)
        peer.take(1 << 30)
        peer.advance(599)
        self.assertFalse(peer.closed)           # it took something
        peer.advance(2)
        self.assertTrue(peer.closed)
        self.gone()

    def test_a_client_that_does_not_take_the_goodbye(self) -> None:
        peer = self.log_in(ListMailbox([GREEN]))
        peer.reading_octets = 0
        peer.say(b"QUIT\r\n")
        self.assertFalse(peer.closed)
        peer.advance(601)
        self.assertTrue(peer.closed)
        self.gone()


class Refusals(StandInCase):
    """Logins that do not come about."""

    def test_wrong_passwords(self) -> None:
        peer = self.serve(ListMailbox([GREEN]))
        self.assertEqual(self.said(peer, b"USER mrose\r\nPASS wrong\r\nPASS secret\r\n")[1:], [
            b"-ERR Authentication failed", b"-ERR USER required before PASS"])
        self.assertEqual(self.said(peer, LOGIN)[-1], b"+OK Authentication succeeded")

    def test_faults_of_ours_say_what_they_mean(self) -> None:
        peer = self.serve(ListMailbox([GREEN]))
        self.realm.held.addCallback(lambda _: (_ for _ in ()).throw(MaildropInUse("mrose")))
        self.assertEqual(self.said(peer, LOGIN)[-1], b"-ERR [IN-USE] maildrop in use")

    def test_strange_faults_show_nothing(self) -> None:
        peer = self.serve(ListMailbox([GREEN]))
        self.realm.held.addCallback(lambda _: (_ for _ in ()).throw(OSError("/secret/path")))
        self.assertEqual(self.said(peer, LOGIN)[-1], b"-ERR [SYS/TEMP] try again later")
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)


class Announced(SynchronousTestCase):
    """What the class promises by itself."""

    def test_no_jokes(self) -> None:
        self.assertEqual(POP3().listCapabilities(), [b"TOP", b"USER", b"UIDL", b"PIPELINING", b"RESP-CODES"])
