"""Limits: lines, backlog, bad commands, failed logins, idle and progress clocks, and flat memory.

What is measured is printed; `pytest -rP` shows it.
"""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from mailgate.pop3.policy import Limits, Policy
from mailgate.testing.peers import EVERYTHING, Peer
from tests.pop3.maildrops import Mail, mail_of
from tests.pop3.staging import AT_ONCE, GREETING, QUICK, ConversationCase, Server, with_limits

PIECE = 65536
NOOPS = 1_000_000
ENDLESS_OCTETS = 100_000_000
TOLERANCE = 1.1     # a clock shared by all sessions may notice a silence that much too late


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

    def test_response_of_128_kib(self) -> None:
        """A response of 128 KiB, its end counted, is a response; whatever it is worth, one reply comes."""
        for octets in (80_000, 131_068, 131_072, 131_076, 200_000, 1_000_000):
            said = b"AUTH PLAIN\r\n" + b"A" * octets + b"\r\nSTAT\r\nUSER mrose\r\nPASS secret\r\n"
            self.assertEqual(self.session(said), [b"+", b"-ERR", b"-ERR", b"+OK", b"+OK"], octets)

    def test_initial_response_of_128_kib(self) -> None:
        """The initial response may be as long: clients exceed 255 octets there."""
        for octets in (300, 80_000, 131_060, 131_064, 131_068, 200_000, 1_000_000):
            said = b"AUTH PLAIN " + b"A" * octets + b"\r\nSTAT\r\nUSER mrose\r\nPASS secret\r\n"
            self.assertEqual(self.session(said), [b"-ERR", b"-ERR", b"+OK", b"+OK"], octets)

    def test_limit_is_back_after_the_exchange(self) -> None:
        """After an AUTH the next command line may have 255 octets again, no more."""
        for exchange in (b"AUTH PLAIN\r\n*\r\n", b"AUTH PLAIN\r\n" + b"A" * 200_000 + b"\r\n",
                         b"AUTH PLAIN " + b"A" * 200_000 + b"\r\n"):
            replies = self.session(exchange + b"USER " + b"n" * 249 + b"\r\nUSER " + b"n" * 248 + b"\r\n")
            self.assertEqual(replies[-2:], [b"-ERR", b"+OK"], exchange[:20])

    def test_long_lines_of_others(self) -> None:
        """The long limit is for AUTH: AUTHOR, USER and the rest have 255 octets, in one segment or many."""
        for keyword in (b"AUTHOR ", b"AUT ", b"USER ", b"PASS ", b"CAPA "):
            replies = self.session(b"USER mrose\r\n" + keyword + b"x" * 300 + b"\r\nQUIT\r\n")
            self.assertEqual(replies, [b"+OK", b"-ERR", b"+OK"], keyword)


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


class FailureDelayTests(ConversationCase):
    SLOW = Policy(limits=Limits(failure_delay_seconds=2.0))

    def test_refusal_leaves_late(self) -> None:
        """The `-ERR` of a refused login leaves two seconds after the attempt; what follows waits for it."""
        self.converse(GREETING + """
            C: USER mrose
            C: PASS wrong
            C: USER mrose
            C: PASS secret
            C: STAT
            S: +OK *
            T: 1.9
            S: (nothing)
            T: 0.2
            S: -ERR [AUTH] *
            S: +OK *
            S: +OK *
            S: +OK 1 120
            """, sizes=[120], login=False, policy=self.SLOW)

    def test_by_auth_too(self) -> None:
        """AUTH is delayed as PASS is."""
        self.converse(GREETING + """
            C: AUTH PLAIN AG1yb3NlAHdyb25n
            T: 1.9
            S: (nothing)
            T: 0.2
            S: -ERR [AUTH] *
            """, login=False, policy=self.SLOW)

    def test_delay_counts_from_the_attempt(self) -> None:
        """However long the check took, the refusal leaves at one time: schemes differ fiftyfold in cost."""
        self.converse(GREETING + """
            C: USER mrose
            C: PASS wrong
            S: +OK *
            T: 1.5
            E: the checker answers
            S: (nothing)
            T: 0.4
            S: (nothing)
            T: 0.2
            S: -ERR [AUTH] *
            """, login=False, policy=self.SLOW, prepare=lambda server: server.users.checking.shut(),
            events=lambda server: {"the checker answers": server.users.checking.open})

    def test_check_that_takes_longer_than_the_delay(self) -> None:
        """A check that outlasted the delay is answered within another delay: on the same grid of times."""
        self.converse(GREETING + """
            C: USER mrose
            C: PASS wrong
            S: +OK *
            T: 5
            S: (nothing)
            E: the checker answers
            T: 2
            S: -ERR [AUTH] *
            """, login=False, policy=self.SLOW, prepare=lambda server: server.users.checking.shut(),
            events=lambda server: {"the checker answers": server.users.checking.open})

    def test_success_is_not_delayed(self) -> None:
        """Who is let in is let in at once."""
        self.converse(GREETING + """
            C: USER mrose
            C: PASS secret
            S: +OK *
            S: +OK *
            """, login=False, policy=self.SLOW)


class IdleTests(SynchronousTestCase):
    def quiet_seconds(self, peer: Peer, least: float, step_seconds: float = 1.0) -> float:
        """Let time pass until the connection ends; return how long that took."""
        passed = 0.0
        while not peer.closed:
            peer.advance(step_seconds)
            passed += step_seconds
            self.assertLess(passed, least * TOLERANCE + 1, "the connection was never closed")
        return passed

    def test_ten_minutes(self) -> None:
        """A silent session ends after ten minutes, not earlier: no reply, no removal (section 3)."""
        server = Server([mail_of(120)])
        peer = server.log_in()
        peer.say(b"DELE 1\r\n")
        peer.received.clear()
        passed = self.quiet_seconds(peer, 600)
        print(f"idle 600 s: closed after {passed:.0f} s")
        self.assertGreaterEqual(passed, 600)
        self.assertEqual(peer.received, b"")
        self.assertEqual((server.left_behind(), server.drop.removed), ([], []))

    def test_commands_reset_it(self) -> None:
        """Any command starts the time afresh (section 3)."""
        server = Server([mail_of(120)])
        peer = server.log_in()
        for command in (b"NOOP\r\n", b"XYZZY\r\n", b"STAT\r\n", b"RETR 1\r\n"):
            peer.advance(590)
            self.assertFalse(peer.closed)
            peer.say(command)
        self.assertGreaterEqual(self.quiet_seconds(peer, 600), 600)

    def test_before_login(self) -> None:
        """Who never logs in is cut after three minutes, silently."""
        server = Server()
        peer = server.connect()
        peer.received.clear()
        passed = self.quiet_seconds(peer, 180)
        print(f"login 180 s: closed after {passed:.0f} s")
        self.assertGreaterEqual(passed, 180)
        self.assertEqual((peer.received, server.left_behind()), (b"", []))

    def test_settings(self) -> None:
        """Both times come from the policy."""
        policy = with_limits(idle_seconds=1200, login_seconds=30)
        self.assertGreaterEqual(self.quiet_seconds(Server(policy=policy).connect(), 30), 30)
        self.assertGreaterEqual(self.quiet_seconds(Server(policy=policy).log_in(), 1200, 5.0), 1200)

    def test_slow_commit_is_not_idle(self) -> None:
        """A client that waits for QUIT's answer is not idle, however long the store takes."""
        server = Server([mail_of(120)])
        peer = server.log_in()
        server.drop.committing.shut()
        peer.say(b"DELE 1\r\nQUIT\r\n")
        peer.received.clear()
        peer.advance(900)
        server.drop.committing.open()
        peer.settle()
        self.assertTrue(peer.received.startswith(b"+OK "), bytes(peer.received))
        self.assertEqual((server.left_behind(), server.drop.removed), ([], [1]))

    def test_slow_reader_is_not_idle(self) -> None:
        """While octets of a long RETR move, the session is neither idle nor stuck."""
        server = Server([Mail(b"line\r\n" * 200_000, streamed=True)])
        peer = server.log_in(reading_octets=0)
        peer.say(b"RETR 1\r\n")
        for _ in range(30):
            peer.advance(60)
            self.assertFalse(peer.closed)
            peer.take(20_000)
        self.assertFalse(peer.closed)
        while peer.transport.waiting:
            peer.take(PIECE)
        self.assertTrue(peer.received.endswith(b"\r\n.\r\n"))
        self.assertEqual(server.drop.streams[0].closed, True)

    def test_client_that_stops_reading(self) -> None:
        """A client that takes nothing for two minutes in the middle of RETR is cut; nothing stays open."""
        for streamed in (False, True):
            server = Server([Mail(b"line\r\n" * 200_000, streamed=streamed)])
            peer = server.log_in(reading_octets=0)
            peer.say(b"DELE 1\r\nRSET\r\nRETR 1\r\n")
            peer.take(10_000)
            passed = self.quiet_seconds(peer, 120)
            print(f"progress 120 s, streamed={streamed}: cut after {passed:.0f} s")
            self.assertGreaterEqual(passed, 120)
            self.assertEqual((server.left_behind(), server.drop.removed), ([], []))

    def test_client_that_stops_reading_replies(self) -> None:
        """A client that sends commands and takes no reply is cut too."""
        server = Server([mail_of(60_000)])
        peer = server.log_in(reading_octets=0)
        peer.say(b"RETR 1\r\n" * 100)
        self.assertGreaterEqual(self.quiet_seconds(peer, 120), 120)
        self.assertEqual(server.left_behind(), [])

    def test_client_that_stops_reading_at_the_end(self) -> None:
        """A closing server does not wait for ever for a client to take the last octets."""
        for octets in (b"RETR 1\r\nQUIT\r\n", b"RETR 1\r\n" + b"XYZZY\r\n" * 20):
            server = Server([mail_of(60_000)])
            peer = server.log_in(reading_octets=0)
            peer.say(octets)
            self.assertTrue(peer.transport.disconnecting)
            self.assertFalse(peer.closed)
            self.assertGreaterEqual(self.quiet_seconds(peer, 120), 100)
            self.assertEqual(server.left_behind(), [])

    def test_one_clock_for_all(self) -> None:
        """Sessions have no timers of their own: one clock runs while there are connections, and stops."""
        server = Server()
        self.assertEqual(server.clock.getDelayedCalls(), [])
        peers = [server.log_in() for _ in range(50)]
        self.assertLessEqual(len(server.clock.getDelayedCalls()), 2)
        for peer in peers:
            peer.vanish()
        self.assertEqual(server.clock.getDelayedCalls(), [])
        again = server.log_in()
        self.assertGreaterEqual(self.quiet_seconds(again, 600), 600)
        self.assertEqual(server.left_behind(), [])

    def test_sessions_end_each_in_its_time(self) -> None:
        """One clock for all does not mean one end for all."""
        server = Server()
        early = server.log_in()
        early.advance(300)
        late = server.log_in()
        late.advance(320 * TOLERANCE)
        early.settle()
        self.assertEqual((early.closed, late.closed), (True, False))
        late.advance(300)
        self.assertTrue(late.closed)


class BacklogTests(SynchronousTestCase):
    def say_all(self, peer: Peer, octets: bytes, most: int) -> int:
        """Say octets again and again while the server reads; return how many octets it took."""
        taken = 0
        while peer.heard and taken < most:
            peer.say(octets)
            taken += len(octets)
        return taken - peer.unheard

    def test_backlog_behind_a_blocked_command(self) -> None:
        """Behind a RETR that waits the server takes 64 KiB and a segment, then stops reading."""
        server = Server([mail_of(120)])
        peer = server.log_in()
        server.drop.fetching.shut()
        peer.say(b"RETR 1\r\n")
        self.assertTrue(peer.heard)
        taken = self.say_all(peer, b"NOOP\r\n" * 600, 10_000_000)
        self.assertFalse(peer.heard)
        self.assertLessEqual(taken, 65536 + 2 * 3600)
        self.assertGreater(taken, 65536)
        server.drop.fetching.open()
        peer.settle()
        self.assertTrue(peer.heard)
        self.assertEqual(bytes(peer.received).count(b"+OK "), 1 + taken // 6 + peer.unheard)

    def test_no_pause_below_the_limit(self) -> None:
        """Up to 64 KiB may wait without a pause: a well-behaved pipelining client is never stopped."""
        server = Server([mail_of(120)])
        peer = server.log_in()
        server.drop.fetching.shut()
        peer.say(b"RETR 1\r\n" + b"NOOP\r\n" * 10_900, 4096)
        self.assertTrue(peer.heard)
        server.drop.fetching.open()
        peer.settle()
        self.assertEqual(bytes(peer.received).count(b"+OK "), 10_901)

    def test_full_transport_stops_commands(self) -> None:
        """While the client does not read, no further command is carried out: the output stays small."""
        server = Server([mail_of(60_000)])
        peer = server.log_in(reading_octets=0)
        peer.say(b"RETR 1\r\n" * 1000)
        self.assertLess(peer.transport.waiting, 65536 + 2 * 60_100)
        self.assertLess(len(server.drop.fetched), 5)
        while peer.transport.waiting:
            peer.take(200_000)
        self.assertEqual(len(server.drop.fetched), 1000)
        self.assertEqual(bytes(peer.received).count(b"\r\n.\r\n"), 1000)

    def test_small_replies_fill_the_transport_too(self) -> None:
        """A flood of small commands without reading stops as well."""
        server = Server([mail_of(120)])
        peer = server.log_in(reading_octets=0)
        self.say_all(peer, b"UIDL 1\r\n" * 8000, 10_000_000)
        self.assertFalse(peer.heard)
        self.assertLess(peer.transport.waiting, 1_000_000)


class MemoryTests(SynchronousTestCase):
    """Octets of any number leave memory where it was.

    Measured is the peak of what Python allocates or, where that would take too long, of resident memory.
    """

    def growth(self, name: str, act: Callable[[], object]) -> int:
        """Return by how much memory grew at its peak, octets."""
        before = _resident_octets()
        tracemalloc.start()
        try:
            base = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            act()
            peak = tracemalloc.get_traced_memory()[1] - base
        finally:
            tracemalloc.stop()
        print(f"{name}: {peak / 1e6:.3f} MB at most, resident {(_resident_octets() - before) / 1e6:+.2f} MB")
        return peak

    def test_endless_line(self) -> None:
        """100 MB without a line end, before login, after it and in an exchange: flat, and one `-ERR`."""
        piece = b"x" * PIECE
        for name, opening in (("before login", b""), ("after login", b"USER mrose\r\nPASS secret\r\n"),
                              ("in AUTH", b"AUTH PLAIN\r\n"), ("initial response", b"AUTH PLAIN ")):
            server = Server()
            peer = server.connect()
            peer.say(opening)
            peer.received.clear()

            def say(peer: Peer = peer) -> None:
                for _ in range(ENDLESS_OCTETS // PIECE):
                    peer.say(piece)

            self.assertLess(self.growth(f"100 MB without a line end, {name}", say), 1_000_000)
            self.assertEqual(peer.received, b"")
            peer.say(b"\r\n")
            self.assertRegex(bytes(peer.received), rb"\A-ERR [^\r\n]+\r\n\Z")
            peer.say(b"QUIT\r\n")
            self.assertTrue(peer.closed)
            self.assertEqual(server.left_behind(), [])

    def flood(self, peer: Peer, unblock: Callable[[], object], name: str) -> int:
        """Pipeline a million NOOPs behind something blocked; return the replies that came in the end."""
        batch, said, replies, tail = b"NOOP\r\n" * 5000, 0, 0, b""

        def sink(octets: bytes) -> None:
            nonlocal replies, tail
            joined = tail + octets
            replies += joined.count(b"+OK ")
            tail = joined[-3:]

        peer.sink = sink

        blocked, before, resident = True, _resident_octets(), 0
        while said < NOOPS:
            if peer.heard:
                peer.say(batch)
                said += 5000
            elif blocked:
                blocked = False
                self.assertLess(said, 40_000)
                unblock()
            peer.settle()
            resident = max(resident, _resident_octets() - before)
        print(f"{name}: resident {resident / 1e6:+.2f} MB at most")
        self.assertLess(resident, 4_000_000)
        return replies

    def test_million_noops_behind_a_blocked_retr(self) -> None:
        """10^6 NOOPs behind a RETR that the store does not answer: flat, and each is answered after it."""
        server = Server([mail_of(120)])
        peer = server.log_in()
        server.drop.fetching.shut()
        peer.say(b"RETR 1\r\n")
        replies = self.flood(peer, server.drop.fetching.open, "10^6 NOOPs behind a pending RETR")
        self.assertEqual(replies, NOOPS + 1)

    def test_million_noops_behind_a_client_that_does_not_read(self) -> None:
        """10^6 NOOPs behind a RETR that the client does not read: flat, and each is answered after it."""
        server = Server([Mail(b"line\r\n" * 100_000, streamed=True)])
        peer = server.log_in(reading_octets=0)
        peer.say(b"RETR 1\r\n")
        replies = self.flood(peer, lambda: setattr(peer, "reading_octets", EVERYTHING),
                             "10^6 NOOPs behind an unread RETR")
        self.assertEqual(replies, NOOPS + 1)

    def test_million_bad_lines_end_early(self) -> None:
        """A flood of rubbish ends at the limit of bad commands, whatever its number."""
        server = Server(policy=replace(QUICK, limits=AT_ONCE))
        peer = server.connect()

        def say() -> None:
            while peer.heard:
                peer.say(b"\r\n" * 10_000)

        self.assertLess(self.growth("bad lines", say), 1_000_000)
        self.assertTrue(peer.closed)
        self.assertEqual(server.left_behind(), [])


def _resident_octets() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
