"""Clocks: the failure delay, autologout, the time before login, and progress of what is being sent.

What is measured is printed; `pytest -rP` shows it.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailgate.pop3.policy import Limits, Policy
from mailgate.testing.peers import Peer
from tests.pop3.maildrops import Mail, mail_of
from tests.pop3.staging import GREETING, ConversationCase, Server, with_limits

PIECE = 65536
TOLERANCE = 1.1     # a clock shared by all sessions may notice a silence that much too late


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

    def test_time_counts_from_the_connection(self) -> None:
        """Who connects when the clock has run for long has the whole time."""
        for silent in (True, False):
            server = Server([mail_of(120)])
            early = server.connect()
            early.advance(170)
            server.clock.advance(100_000)
            peer = server.connect() if silent else server.log_in()
            early.settle()
            least = 180 if silent else 600
            self.assertGreaterEqual(self.quiet_seconds(peer, least), least)
            self.assertTrue(early.closed)
            self.assertEqual(server.left_behind(), [])

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
