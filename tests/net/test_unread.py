"""What clients without a login have said and nobody has read: bounded for all of them together."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.net.unread import UNCOUNTED_OCTETS
from mailgate.testing.peers import Peer
from tests.pop3.maildrops import mail_of
from tests.pop3.staging import Server, with_limits

ROOM_OCTETS = 50_000
HALF_A_LINE = b"AUTH PLAIN " + b"A" * 9_989
PASSWORD = b"USER mrose\r\nPASS secret\r\n"


class UnreadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server([mail_of(120)], policy=with_limits(unread_octets=ROOM_OCTETS))

    def held(self) -> int:
        return self.server.factory.unread.held

    def say(self, octets: bytes) -> Peer:
        """Return a new peer that has said something, its greeting forgotten."""
        peer = self.server.connect()
        peer.received.clear()
        peer.say(octets)
        return peer

    def test_lines_without_an_end(self) -> None:
        """What exceeds the bound is dropped, and is a line too long; who needs little is served."""
        peers = [self.say(HALF_A_LINE) for _ in range(5)]
        self.assertEqual(self.held(), 50_000)
        late = self.say(HALF_A_LINE)
        self.assertEqual(self.held(), 50_000)
        late.say(b"A" * 100 + b"\r\nCAPA\r\n")
        self.assertEqual(bytes(late.received).split(b"\r\n")[:2],
                         [b"-ERR line too long", b"+OK capability list follows"])
        self.assertEqual(bytes(self.say(b"AUTH PLAIN AG1yb3NlAHNlY3JldA==\r\n").received)[:4], b"+OK ")
        for peer in peers:
            peer.say(b"\r\n")
            self.assertEqual(bytes(peer.received), b"-ERR malformed authentication exchange\r\n")
        self.assertEqual(self.held(), 0)

    def test_room_comes_back(self) -> None:
        """Clients that go leave nothing counted, and others have the room."""
        for _ in range(3):
            peers = [self.say(HALF_A_LINE) for _ in range(5)]
            for peer in peers:
                peer.vanish()
            self.assertEqual(self.held(), 0)
        self.assertEqual(self.server.left_behind(), [])

    def test_behind_a_login(self) -> None:
        """Commands behind a login that is being judged count; what is too much ends the connection."""
        self.server.realm.opening.shut()
        first, second = self.say(PASSWORD + b"NOOP\r\n" * 6_000), self.say(PASSWORD + b"NOOP\r\n" * 6_000)
        self.assertEqual(self.held(), 36_000)
        self.assertTrue(second.closed)
        self.assertEqual(bytes(second.received).splitlines()[1:],
                         [b"-ERR [SYS/TEMP] too busy, try again later"])
        little = self.say(PASSWORD + b"NOOP\r\n" * (UNCOUNTED_OCTETS // 6))
        self.server.realm.opening.open()
        for peer, count in ((first, 6_000), (little, UNCOUNTED_OCTETS // 6)):
            peer.settle()
            self.assertEqual(bytes(peer.received).count(b"+OK nothing done\r\n"), count)
        self.assertEqual(self.held(), 0)

    def test_logged_in(self) -> None:
        """What a client says once it is logged in does not count."""
        peer = self.say(PASSWORD)
        self.server.drop.fetching.shut()
        peer.say(b"RETR 1\r\n" + b"NOOP\r\n" * 9_000)
        self.assertEqual(self.held(), 0)
        self.assertFalse(peer.closed)
        peer.vanish()
        self.server.drop.fetching.open()

    def test_replies_not_taken(self) -> None:
        """A client that has its commands answered and takes nothing is bounded likewise."""
        for _ in range(4):
            peer = self.server.connect(reading_octets=0)
            peer.say(b"CAPA\r\n" * 10_000)
        self.assertLessEqual(self.held(), ROOM_OCTETS)

    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(
        [HALF_A_LINE, b"A" * 700, b"\r\n", PASSWORD, b"NOOP\r\n" * 3_000, b"AUTH PLAIN\r\n", b"*\r\n",
         b"QUIT\r\n", b"", b"shut", b"open"])), max_size=40))
    def test_whatever_is_said(self, steps: list[tuple[int, bytes]]) -> None:
        """What is counted is what waits, never more than the bound; in the end it is nothing."""
        self.setUp()
        server, peers = self.server, [self.server.connect() for _ in range(6)]
        for index, octets in steps:
            if octets in (b"shut", b"open"):
                getattr(server.realm.opening, octets.decode())()
                for peer in peers:
                    peer.settle()
            elif octets:
                peers[index].say(octets)
            else:
                peers[index].vanish()
                peers[index] = server.connect()
            waiting = [peer.protocol._session.pending for peer in peers      # type: ignore[attr-defined]
                       if not peer.closed and not peer.protocol._session.logged_in]  # type: ignore[attr-defined]
            self.assertEqual(self.held(), sum(octets for octets in waiting if octets > UNCOUNTED_OCTETS))
            self.assertLessEqual(self.held(), ROOM_OCTETS)
        for peer in peers:
            peer.vanish()
        server.realm.opening.open()
        self.assertEqual(self.held(), 0)
