"""The client vanishes: at every step, in every octet. What is left must be nothing.

No lease, no open stream, no delayed call, no unhandled error; and nothing is removed unless QUIT
came whole.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import LoginRefused, MaildropInUse, StoreUnavailable
from mailgate.net.halfclosed import AWAITED
from mailgate.pop3.policy import Limits, Policy
from mailgate.testing.peers import FAR_AWAY, Address, Peer
from tests.pop3.maildrops import Gate, Mail, mail_of
from tests.pop3.staging import QUICK, Server

# the harness plays these tests on its own connection, too: examples are not drawn by chance, nor kept
ALSO_ELSEWHERE = (HealthCheck.differing_executors, HealthCheck.too_slow)

DEMON = Policy(sdps=True, limits=QUICK.limits)
LARGE = Mail(b"Subject: large\r\n\r\n" + (b"x" * 98 + b"\r\n") * 6000, streamed=True)
REASONS = (ConnectionLost(), ConnectionDone(), ConnectionAborted())


class Vanishing(SynchronousTestCase):
    def tearDown(self) -> None:
        gc.collect()    # a Deferred that nobody listens to speaks of its failure when it goes
        self.assertEqual(self.flushLoggedErrors(), [])

    def nothing_left(self, server: Server, removed: list[int] | None = None) -> None:
        """Hold a server to what must be true once its client has gone and all gates are open."""
        self.assertEqual(server.left_behind(), [])
        self.assertEqual([drop.removed for drop in server.realm.opened if drop.removed],
                         [removed] if removed else [])
        self.assertEqual(self.flushLoggedErrors(), [])


class PendingTests(Vanishing):
    """Something is asked of checker, realm or store; the client goes; then the answer comes."""

    def vanish_behind(self, gate_of: Callable[[Server], Gate], octets: bytes, *, login: bool = True,
                      mails: list[Mail] | None = None, removed: list[int] | None = None,
                      outcome: Exception | None = None, policy: Policy = DEMON) -> None:
        """Play it for each reason of the loss; `outcome` is a fault that the gate then answers with."""
        for reason in REASONS:
            for more in (b"", b"NOOP\r\nSTAT\r\nQUIT\r\n", b"NOOP\r\n" * 20_000):
                server = Server(mails or [mail_of(120), LARGE], policy=policy)
                peer = server.log_in() if login else server.connect()
                gate = gate_of(server)
                gate.shut()
                peer.say(octets + more)
                self.assertGreaterEqual(gate.arrivals, 1)
                peer.vanish(reason)
                gate.fault = outcome
                gate.open()
                peer.settle()
                self.nothing_left(server, removed)

    def test_login_pending_in_the_checker(self) -> None:
        """The checker answers when nobody listens any more."""
        for outcome in (None, LoginRefused("wrong")):
            for octets in (b"USER mrose\r\nPASS secret\r\n", b"USER mrose\r\nPASS wrong\r\n"):
                self.vanish_behind(lambda server: server.users.checking, octets, login=False, outcome=outcome)

    def test_login_pending_in_the_realm(self) -> None:
        """The lease is taken when nobody wants it any more: it is given up at once."""
        for outcome in (None, MaildropInUse("held"), StoreUnavailable("down")):
            self.vanish_behind(lambda server: server.realm.opening, b"USER mrose\r\nPASS secret\r\n",
                               login=False, outcome=outcome)

    def test_auth_pending(self) -> None:
        """The same by AUTH, in one line and in two."""
        for octets in (b"AUTH PLAIN AG1yb3NlAHNlY3JldA==\r\n", b"AUTH PLAIN\r\nAG1yb3NlAHNlY3JldA==\r\n"):
            self.vanish_behind(lambda server: server.realm.opening, octets, login=False)
            self.vanish_behind(lambda server: server.users.checking, octets, login=False)

    def test_exchange_half_done(self) -> None:
        """The client goes when it should answer a challenge."""
        for octets in (b"AUTH PLAIN\r\n", b"AUTH PLAIN\r\nAG1yb3", b"USER mrose\r\n",
                       b"USER mrose\r\nPASS s"):
            server = Server()
            peer = server.connect()
            peer.say(octets)
            peer.vanish()
            self.nothing_left(server)

    def test_retr_pending(self) -> None:
        """The message comes when nobody wants it: whole ones are forgotten, streams closed."""
        for octets in (b"RETR 1\r\n", b"RETR 2\r\n", b"TOP 1 0\r\n", b"TOP 2 9999\r\n"):
            for outcome in (None, StoreUnavailable("down")):
                self.vanish_behind(lambda server: server.drop.fetching, octets, outcome=outcome)

    def test_stream_pending(self) -> None:
        """A piece of a stream comes when nobody wants it."""
        for octets in (b"RETR 2\r\n", b"TOP 2 90000\r\n"):
            for outcome in (None, StoreUnavailable("down")):
                self.vanish_behind(lambda server: server.drop.reading, octets, outcome=outcome)

    def test_envelope_pending(self) -> None:
        """The envelope comes when nobody wants it."""
        for outcome in (None, StoreUnavailable("down")):
            self.vanish_behind(lambda server: server.drop.enveloping, b"*ENV 1\r\n", outcome=outcome)

    def test_quit_pending(self) -> None:
        """QUIT came whole: the removal is carried out, once, and what it marked is gone."""
        self.vanish_behind(lambda server: server.drop.committing, b"DELE 1\r\nQUIT\r\n", removed=[1])

    def test_quit_pending_and_failing(self) -> None:
        """The removal fails when nobody listens: nothing is removed, the lease is given up."""
        for reason in REASONS:
            server = Server([mail_of(120)])
            peer = server.log_in()
            server.drop.committing.shut()
            peer.say(b"DELE 1\r\nQUIT\r\n")
            peer.vanish(reason)
            server.drop.committing.fault = StoreUnavailable("down")
            server.drop.committing.open()
            self.flushLoggedErrors(StoreUnavailable)
            self.nothing_left(server)

    def test_bug_is_still_logged(self) -> None:
        """An unexpected exception that comes too late for the client is not lost to the operator."""
        server = Server()
        peer = server.connect()
        server.realm.opening.shut()
        peer.say(b"USER mrose\r\nPASS secret\r\n")
        peer.vanish()
        server.realm.opening.fault = ZeroDivisionError("bug")
        server.realm.opening.open()
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.nothing_left(server)

    def test_never_answered(self) -> None:
        """What is asked for and never answered keeps no timer alive."""
        for octets in (b"RETR 1\r\n", b"*ENV 1\r\n"):
            server = Server([mail_of(120)], policy=DEMON)
            peer = server.log_in()
            server.drop.fetching.shut()
            server.drop.enveloping.shut()
            peer.say(octets)
            peer.vanish()
            self.nothing_left(server)


class SendingTests(Vanishing):
    """The client goes while octets are on their way to it."""

    def test_half_sent_stream(self) -> None:
        """RETR of a large message, taken to some octet."""
        for taken in (0, 1, 10_000, 65_536, 65_600, 131_072, 300_000):
            for asynchronous in (False, True):
                for octets in (b"RETR 2\r\n", b"RETR 2\r\n" * 50, b"DELE 1\r\nRETR 2\r\nQUIT\r\n"):
                    server = Server([mail_of(120), LARGE], asynchronous=asynchronous)
                    peer = server.log_in(reading_octets=0)
                    peer.say(octets)
                    peer.take(taken)
                    self.assertGreater(peer.transport.waiting, 0)
                    peer.vanish()
                    self.nothing_left(server)
                    self.assertLess(server.drop.streams[0].at, taken + 400_000)

    def test_read_pending_in_a_half_sent_stream(self) -> None:
        """The store has not answered for the next piece when the client goes."""
        for outcome in (None, StoreUnavailable("down")):
            server = Server([LARGE])
            peer = server.log_in(reading_octets=0)
            peer.say(b"RETR 1\r\n")
            server.drop.reading.shut()
            peer.take(200_000)
            self.assertEqual(len(server.drop.reading.waiting), 1)
            peer.vanish()
            server.drop.reading.fault = outcome
            server.drop.reading.open()
            self.nothing_left(server)

    def test_backlog_paused(self) -> None:
        """More than the backlog waits, the transport is paused in both directions."""
        server = Server([mail_of(60_000)])
        peer = server.log_in(reading_octets=0)
        peer.say(b"RETR 1\r\n" * 20_000)
        self.assertFalse(peer.heard)
        peer.vanish()
        self.nothing_left(server)
        self.assertLess(len(server.drop.fetched), 5)

    def test_quit_behind_unread_output(self) -> None:
        """QUIT was said, yet waits behind a message that the client did not read: it is not carried out."""
        server = Server([mail_of(120), LARGE])
        peer = server.log_in(reading_octets=0)
        peer.say(b"DELE 1\r\nRETR 2\r\nQUIT\r\n")
        peer.vanish()
        self.nothing_left(server)
        self.assertEqual(server.drop.commits, [])

    def test_reply_to_quit_unread(self) -> None:
        """QUIT was carried out; that its reply is never read undoes nothing (RFC 1939 section 6)."""
        server = Server([mail_of(120)])
        peer = server.log_in(reading_octets=0)
        peer.say(b"DELE 1\r\nQUIT\r\n")
        self.assertFalse(peer.closed)
        peer.vanish()
        self.nothing_left(server, [1])


class DelayTests(Vanishing):
    SLOW = Policy(limits=Limits(failure_delay_seconds=2.0))

    def test_failure_delay_pending(self) -> None:
        """The refusal of a login is due later; the client goes before, alone and with others there."""
        for others in (0, 1):
            server = Server(policy=self.SLOW)
            remaining = [server.connect() for _ in range(others)]
            peer = server.connect()
            peer.say(b"USER mrose\r\nPASS wrong\r\nUSER mrose\r\nPASS secret\r\n")
            peer.advance(1)
            peer.vanish()
            if not remaining:
                self.assertEqual(server.clock.getDelayedCalls(), [])
            peer.advance(5)
            for other in remaining:
                other.vanish()
            self.assertEqual(server.realm.opened, [])
            self.nothing_left(server)

    def test_refusal_after_the_end(self) -> None:
        """The checker refuses when the client has gone: no delay is begun."""
        server = Server(policy=self.SLOW)
        server.users.checking.shut()
        peer = server.connect()
        peer.say(b"USER mrose\r\nPASS wrong\r\n")
        peer.vanish()
        server.users.checking.open()
        self.assertEqual(server.clock.getDelayedCalls(), [])
        self.nothing_left(server)


class TimeoutTests(Vanishing):
    """It is the server that ends the connection while something is pending."""

    def test_idle_client_in_transaction(self) -> None:
        """Autologout gives up the lease and removes nothing."""
        server = Server([mail_of(120)])
        peer = server.log_in()
        peer.say(b"DELE 1\r\n")
        peer.advance(700)
        self.assertTrue(peer.closed)
        self.nothing_left(server)

    def test_login_that_takes_for_ever(self) -> None:
        """Whenever the server gives up on a pending login, a late success is logged out."""
        server = Server()
        server.realm.opening.shut()
        peer = server.connect()
        peer.say(b"USER mrose\r\nPASS secret\r\n")
        peer.advance(2000)
        peer.vanish()
        server.realm.opening.open()
        self.nothing_left(server)

    def test_shutdown_with_everything_pending(self) -> None:
        """A stopping server waits for what is under way or cuts it; nothing is left either way."""
        for octets, removed in ((b"RETR 1\r\n", None), (b"RETR 2\r\n", None), (b"*ENV 1\r\n", None),
                                (b"DELE 1\r\nQUIT\r\n", [1]), (b"DELE 1\r\nNOOP\r\n", None)):
            server = Server([mail_of(120), LARGE], policy=DEMON)
            peer = server.log_in()
            drop = server.drop
            gates = [drop.fetching, drop.reading, drop.enveloping, drop.committing]
            for gate in gates:
                gate.shut()
            peer.say(octets)
            done = server.factory.shutdown()
            peer.settle()
            for gate in gates:
                gate.open()
            peer.advance(60)
            self.assertTrue(peer.closed, octets)
            self.successResultOf(done)
            self.nothing_left(server, removed)

    def test_shutdown_with_a_slow_quit(self) -> None:
        """It is answered also after five seconds; after ten it is carried out, and not waited for."""
        for seconds, ended in ((9, False), (11, True)):
            server = Server([mail_of(120)])
            peer = server.log_in()
            silent = server.connect(reading_octets=0)
            server.drop.committing.shut()
            peer.say(b"DELE 1\r\nQUIT\r\n")
            done = server.factory.shutdown()
            for _ in range(seconds):
                server.clock.advance(1)
                peer.settle()
                silent.settle()
            self.assertEqual((done.called, silent.closed, peer.closed), (ended, True, False))
            server.drop.committing.open()
            peer.settle()
            self.assertTrue(bytes(peer.received).endswith(b"\r\n+OK goodbye\r\n"), peer.received)
            self.assertTrue(peer.closed)
            self.successResultOf(done)
            self.nothing_left(server, [1])

    def test_shutdown_with_clients_that_do_not_read(self) -> None:
        """Clients with much unread keep a server from stopping for the progress time at most."""
        server = Server([mail_of(60_000), LARGE])
        peers = [server.log_in(reading_octets=0) for _ in range(4)]
        peers[0].say(b"RETR 2\r\n")
        peers[1].say(b"DELE 1\r\nRSET\r\nRETR 1\r\n" * 10)
        peers[2].say(b"RETR 1\r\nQUIT\r\n")
        peers[3].say(b"NOOP\r\n")
        done = server.factory.shutdown()
        for _ in range(140):
            for peer in peers:
                peer.settle()
            server.clock.advance(1)
        for peer in peers:
            peer.settle()
            self.assertTrue(peer.closed)
        self.assertIsNone(self.successResultOf(done))
        self.nothing_left(server)

    def test_shutdown_lets_a_reader_finish_or_cuts_cleanly(self) -> None:
        """A message under way is sent whole or cut without its terminator: a fragment never looks whole."""
        for asynchronous in (False, True):
            server = Server([LARGE], asynchronous=asynchronous)
            peer = server.log_in(reading_octets=0)
            peer.say(b"RETR 1\r\nNOOP\r\n")
            peer.take(100_000)
            done = server.factory.shutdown()
            while not peer.closed and peer.transport.waiting:
                peer.take(50_000)
            peer.advance(150)
            self.assertTrue(peer.closed)
            body = bytes(peer.received).split(b"\r\n", 1)[1]
            whole, end, _ = body.partition(b"\r\n.\r\n")
            self.assertIn(whole + b"\r\n" if end else b"", (LARGE.wire, b""))
            self.successResultOf(done)
            self.nothing_left(server)

    def test_shutdown_behind_a_message_that_was_at_hand(self) -> None:
        """Who has had all of a message, without a wait for any piece of it, is told like everybody."""
        server = Server([Mail(b"Subject: x\r\n\r\n" + b"x" * 40_000, streamed=True)])
        peer = server.log_in()
        peer.say(b"RETR 1\r\n")
        self.assertTrue(peer.received.endswith(b"\r\n.\r\n"))
        self.assertFalse(peer.transport.waiting)
        done = server.factory.shutdown()
        self.assertFalse(peer.transport.aborting)       # octets on their way would be lost with it
        peer.settle()
        self.assertTrue(peer.received.endswith(b"-ERR [SYS/TEMP] service is stopping\r\n"))
        self.successResultOf(done)
        self.nothing_left(server)

    def test_shutdown_in_every_state(self) -> None:
        """Before a login, within one, between challenge and response, behind a delay: nothing is left."""
        slow = Policy(sdps=True, limits=Limits(failure_delay_seconds=2.0))
        for octets in (b"", b"USER mrose\r\n", b"AUTH PLAIN\r\n", b"AUTH PLAIN\r\nAG1", b"x" * 300,
                       b"USER mrose\r\nPASS wrong\r\nNOOP\r\n", b"USER mrose\r\nPASS secret\r\nSTAT\r\n"):
            for shut in (False, True):
                server = Server([mail_of(120)], policy=slow)
                if shut:
                    server.users.checking.shut()
                peer = server.connect()
                peer.say(octets)
                done = server.factory.shutdown()
                peer.settle()
                server.users.checking.open()
                peer.advance(30)
                self.assertTrue(peer.closed, octets)
                self.successResultOf(done)
                self.nothing_left(server)

    def test_connection_during_shutdown(self) -> None:
        """Who connects while the server stops is not let in, and keeps nothing from stopping."""
        server = Server()
        peer = server.log_in()
        server.realm.opening.shut()
        done = server.factory.shutdown()
        try:
            late = server.connect()
        except ConnectionRefusedError:
            pass
        else:
            late.say(b"USER mrose\r\nPASS secret\r\n")
            self.assertTrue(late.closed)
        peer.advance(60)
        server.realm.opening.open()
        self.successResultOf(done)
        self.nothing_left(server)


class EveryOctetTests(Vanishing):
    SCRIPT = (b"CAPA\r\nUSER nobody\r\nPASS x\r\nAUTH PLAIN\r\nAG1yb3NlAHNlY3JldA==\r\nSTAT\r\nLIST\r\n"
              b"UIDL\r\n*ENV 1\r\nRETR 1\r\nTOP 3 1\r\nDELE 1\r\nRSET\r\nDELE 2\r\nRETR 3\r\nNOOP\r\n"
              b"QUIT\r\nNOOP\r\n")

    def play(self, octets: bytes, piece_octets: int, taken: int | None, asynchronous: bool) -> None:
        """Say so much of the script, take so much of the answer, vanish."""
        server = Server([mail_of(120), mail_of(200), LARGE], policy=DEMON, asynchronous=asynchronous)
        peer: Peer = server.connect()
        if taken is not None:
            peer.reading_octets = 0
        peer.say(octets, piece_octets)
        if taken:
            peer.take(taken)
        commits = [drop.commits for drop in server.realm.opened]
        peer.vanish()
        self.assertEqual([drop.commits for drop in server.realm.opened], commits)
        self.nothing_left(server, [2] if commits and commits[0] else None)
        if b"QUIT\r\n" not in octets and b"QUIT\n" not in octets:
            self.assertEqual([made for made in commits if made], [])

    def test_every_octet(self) -> None:
        """The client goes after each octet of a session that uses every command."""
        for end in range(len(self.SCRIPT) + 1):
            self.play(self.SCRIPT[:end], 1 << 16, None, bool(end % 2))

    @settings(deadline=None, max_examples=150, derandomize=True, suppress_health_check=ALSO_ELSEWHERE)
    @given(st.integers(0, len(SCRIPT)), st.integers(1, 60), st.integers(0, 700_000), st.booleans())
    def test_any_octet_any_pace(self, end: int, piece_octets: int, taken: int, asynchronous: bool) -> None:
        """After any octet, having read any number of the server's."""
        self.play(self.SCRIPT[:end], piece_octets, taken, asynchronous)


class ContractTests(Vanishing):
    """What IMaildrop asks of its session, where the logout of the portal does nothing."""

    def play(self, octets: bytes, vanish: bool) -> Server:
        """Play a session over a realm whose logout leaves the lease alone."""
        server = Server([mail_of(120)])
        server.realm.logout_releases = False
        peer = server.log_in()
        peer.say(octets)
        if vanish:
            peer.vanish()
        self.assertTrue(peer.closed)
        return server

    def test_quit_commits_once(self) -> None:
        """QUIT calls `commit` once, also with nothing marked, and logs out once."""
        for octets, marked in ((b"QUIT\r\n", []), (b"DELE 1\r\nQUIT\r\n", [1])):
            server = self.play(octets, vanish=False)
            self.assertEqual(server.drop.commits, [marked])
            self.nothing_left(server, marked)

    def test_lost_connection_releases(self) -> None:
        """A lost connection calls `release` instead, and logs out once."""
        server = self.play(b"DELE 1\r\n", vanish=True)
        self.assertEqual((server.drop.commits, server.realm.logouts), ([], 1))
        self.assertGreaterEqual(server.drop.releases, 1)
        self.nothing_left(server)

    def test_login_of_nobody_releases(self) -> None:
        """A maildrop that opens when the client has gone is released as well."""
        server = Server([mail_of(120)])
        server.realm.logout_releases = False
        server.realm.opening.shut()
        peer = server.connect()
        peer.say(b"USER mrose\r\nPASS secret\r\n")
        peer.vanish()
        server.realm.opening.open()
        self.nothing_left(server)


class HalfClosedTests(Vanishing):
    """A client that closes its half: a script that said all it wants, or one that has gone."""

    def test_login_that_nobody_waits_for(self) -> None:
        """Nothing was asked for behind the login: it is given up at once, as is its check."""
        server = Server([mail_of(120)])
        server.realm.opening.shut()
        peer = server.connect()
        peer.say(b"USER mrose\r\nPASS secret\r\n")
        peer.transport.producer.readConnectionLost()
        peer.settle()
        self.assertTrue(peer.closed)
        server.realm.opening.open()
        self.nothing_left(server)

    def test_script_behind_a_login(self) -> None:
        """What was said before is answered to the end, QUIT included."""
        server = Server([mail_of(120)])
        server.realm.opening.shut()
        peer = server.connect()
        peer.say(b"USER mrose\r\nPASS secret\r\nDELE 1\r\nQUIT\r\n")
        peer.transport.producer.readConnectionLost()
        self.assertFalse(peer.closed)
        server.realm.opening.open()
        peer.settle()
        self.assertTrue(peer.closed)
        self.assertEqual(server.drop.commits, [[1]])
        self.nothing_left(server, [1])

    def half_closed(self, server: Server, address: Address = FAR_AWAY) -> Peer:
        """Return a client that has said a password and a command, and closed its half."""
        peer = server.connect(address)
        peer.say(b"USER mrose\r\nPASS secret\r\nSTAT\r\n")
        peer.transport.producer.readConnectionLost()
        peer.settle()
        return peer

    def test_few_are_waited_for(self) -> None:
        """More than a few of one network are given up: their checks would be made for nobody."""
        server = Server([mail_of(120)], policy=Policy(plaintext_login=True, limits=QUICK.limits))
        server.realm.opening.shut()
        peers = [self.half_closed(server) for _ in range(AWAITED + 20)]
        self.assertEqual([peer.closed for peer in peers], [False] * AWAITED + [True] * 20)
        elsewhere = self.half_closed(server, IPv4Address("TCP", "198.51.100.9", 40110))
        self.assertFalse(elsewhere.closed)
        server.realm.opening.open()
        for peer in (*peers[:AWAITED], elsewhere):
            peer.settle()
            self.assertTrue(peer.closed)
            self.assertEqual(bytes(peer.received).splitlines()[-1], b"+OK 1 120")
        self.nothing_left(server)

    def test_who_is_served_gives_way(self) -> None:
        """A place is free again with the login, or when the client resets."""
        server = Server([LARGE], policy=Policy(plaintext_login=True, limits=QUICK.limits))
        server.realm.opening.shut()
        slow = server.connect(FAR_AWAY, reading_octets=0)
        slow.say(b"USER mrose\r\nPASS secret\r\nRETR 1\r\n")
        slow.transport.producer.readConnectionLost()
        server.realm.opening.open()
        slow.settle()
        self.assertFalse(slow.closed)
        server.realm.opening.shut()
        for _ in range(3):
            peers = [self.half_closed(server) for _ in range(AWAITED)]
            self.assertFalse(any(peer.closed for peer in peers))
            for peer in peers:
                peer.vanish()
        slow.vanish()
        server.realm.opening.open()
        self.nothing_left(server)
