"""How replies leave: to which octet, in which segments, when."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mailgate.testing.memory import Talker
from mailgate.testing.trouble.delivery import APART_PIECES, hastened, octets_of, parted_at
from mailgate.testing.trouble.model import Gap, Octets
from tests.testing.trouble.scene import LIST, NOOP, PASS, QUIT, RETR_1, RETR_2, STAT, UIDL, USER, FaultCase

OFFSETS = st.integers(0, len(RETR_1) + 5)


class EndTests(FaultCase):
    """close, reset, stall."""

    def test_close(self) -> None:
        """So many octets of the reply, and then the end; the replies before are whole."""
        self.fault("close", command="RETR", at=30)
        client = self.log_in()
        client.say(b"STAT\r\nRETR 1\r\nNOOP\r\n")
        self.assertEqual(client.received, STAT + RETR_1[:30])
        self.assertTrue(client.closed)
        self.assertEqual(self.server.sessions[-1].end, "closed by fault close")
        self.assertEqual(self.server.sessions[-1].retrieved, [])
        self.assertEqual(self.holds(), ["uid-one", "uid-two"])

    def test_places(self) -> None:
        """Octets from the end, of the content, and inside of what is found."""
        crlf = RETR_1.index(b"\r\n", RETR_1.index(b"Subject")) + 1
        for setting, length in (
                ({}, 0), ({"at": -3}, len(RETR_1) - 3), ({"at": -1000}, 0), ({"at": 1000}, len(RETR_1)),
                ({"at": 5, "of": "content"}, RETR_1.index(b"Subject") + 5),
                ({"at": -1, "of": "content"}, len(RETR_1) - 4),
                ({"inside": "crlf"}, RETR_1.index(b"\n")), ({"inside": "crlf", "nth": 2}, crlf),
                ({"inside": "crlf", "of": "content"}, crlf), ({"inside": "crlf", "nth": -1}, len(RETR_1) - 1),
                ({"inside": "stuffed"}, RETR_1.index(b"..") + 1), ({"inside": "dot"}, len(RETR_1) - 2),
                ({"inside": "terminator"}, len(RETR_1) - 3), ({"inside": "status"}, RETR_1.index(b"\n") + 1),
                ({"inside": "header"}, RETR_1.index(b"\r\n\r\n") + 2),
                ({"inside": "body"}, RETR_1.index(b"hello")), ({"inside": "line", "nth": 2},
                                                              RETR_1.index(b"Subject")),
                ({"inside": "middle"}, len(RETR_1) // 2), ({"inside": "end"}, len(RETR_1))):
            with self.subTest(setting):
                fault = self.fault("close", command="RETR", **setting)
                client = self.log_in()
                client.say(b"RETR 1\r\n")
                self.assertEqual((client.received, client.closed), (RETR_1[:length], True))
                fault.remove()

    def test_place_that_is_not_there(self) -> None:
        """A reply without it is as it was."""
        self.fault("close", inside="stuffed")
        client = self.log_in()
        self.assertEqual(self.said(client, b"STAT"), STAT)
        self.assertEqual(self.said(client, b"RETR 2"), RETR_2)
        self.assertFalse(client.closed)

    def test_character(self) -> None:
        """Between the octets of a UTF-8 character."""
        self.fault("stall", inside="character")
        client = self.log_in()
        self.assertEqual(self.said(client, b"RETR 2"), RETR_2[:RETR_2.index(b"\xc3") + 1])

    def test_reset(self) -> None:
        """The client has what was said before the connection is torn."""
        self.fault("reset", command="LIST", at=7)
        client = self.log_in()
        self.assertEqual(self.said(client, b"LIST"), LIST[:7])
        self.assertTrue(client.closed)
        self.assertEqual(self.server.sessions[-1].end, "reset by fault reset")

    def test_stall(self) -> None:
        """Nothing more, and the connection stays: also behind the time after which silent clients go."""
        self.fault("stall", command="LIST", at=7)
        client = self.log_in()
        self.assertEqual(self.said(client, b"LIST"), LIST[:7])
        self.assertEqual(self.said(client, b"QUIT"), b"")
        self.server.advance(7200)
        self.assertFalse(client.closed)
        self.leave(client)
        self.assertFalse(self.server.sessions[-1].open)

    @settings(deadline=None, max_examples=25)
    @given(st.sampled_from(["close", "reset", "stall"]), OFFSETS)
    def test_any_offset(self, kind: str, at: int) -> None:
        """Exactly that prefix."""
        with self.fault(kind, command="RETR", at=at):
            client = self.log_in()
            self.assertEqual(self.said(client, b"RETR 1"), RETR_1[:at])
            self.assertEqual(client.closed, kind != "stall")
            self.leave(client)

    def test_large(self) -> None:
        """The same in a message that leaves as a stream."""
        content = b"Subject: large\r\n\r\n" + b"0123456789abcdef0123456789abcde\r\n" * 160_000
        self.server.maildrop("mrose").add(content)
        whole = b"+OK %d octets\r\n" % len(content) + content + b".\r\n"
        self.fault("close", command="RETR", at=3_000_000)
        client = self.log_in()
        client.say(b"RETR 3\r\n")
        self.assertEqual(client.received, whole[:3_000_000])
        self.assertTrue(client.closed)


class DropTests(FaultCase):
    """drop: after so long."""

    def test_whatever_is_said(self) -> None:
        self.fault("drop", command="PASS", seconds=30)
        client = self.log_in()
        self.server.advance(20)
        self.assertEqual(client.say(b"STAT\r\n"), STAT)
        self.server.advance(9)
        self.assertFalse(client.closed)
        self.server.advance(1)
        self.assertTrue(client.closed)

    def test_silence(self) -> None:
        """Only who says nothing for so long is dropped, with words of farewell."""
        self.fault("drop", command="PASS", seconds=30, silent=True, text="-ERR [SYS/TEMP] autologout")
        client = self.log_in()
        for _ in range(3):
            self.server.advance(29)
            self.assertEqual(client.say(b"STAT\r\n"), STAT)
        self.server.advance(30)
        self.assertEqual(client.received[len(STAT) * 3:], b"-ERR [SYS/TEMP] autologout\r\n")
        self.assertTrue(client.closed)

    def test_stalls(self) -> None:
        self.fault("drop", command="PASS", seconds=30, how="stall")
        client = self.log_in()
        self.server.advance(30)
        self.assertEqual(client.say(b"STAT\r\n"), b"")
        self.assertFalse(client.closed)


class PaceTests(FaultCase):
    """delay, drip."""

    def test_delay(self) -> None:
        """What comes behind waits as well, and is in order."""
        self.fault("delay", command="STAT", seconds=5)
        client = self.log_in()
        self.assertEqual(client.say(b"LIST\r\nSTAT\r\nUIDL\r\n"), LIST)
        self.server.advance(4.5)
        self.assertEqual(client.received, LIST)
        self.server.advance(0.5)
        self.assertEqual(client.received, LIST + STAT + UIDL)

    def test_delay_within(self) -> None:
        self.fault("delay", command="LIST", seconds=5, inside="dot")
        client = self.log_in()
        self.assertEqual(client.say(b"LIST\r\n"), LIST[:-2])
        self.server.advance(5)
        self.assertEqual(client.received, LIST)

    def test_jitter(self) -> None:
        """Chance is the same in every run."""
        waits = []
        for _ in range(2):
            self.tearDown()
            self.setUp()
            self.fault("delay", command="NOOP", seconds=1, jitter=10)
            client, tenths = self.log_in(), 0
            client.say(b"NOOP\r\n")
            while client.received != NOOP:
                self.server.advance(0.1)
                tenths += 1
            waits.append(tenths)
        self.assertEqual(waits[0], waits[1])
        self.assertTrue(10 < waits[0] < 110, waits)

    def test_drip(self) -> None:
        self.fault("drip", command="STAT", octets=3, seconds=2)
        client = self.log_in()
        self.assertEqual(client.say(b"STAT\r\n"), STAT[:3])
        for octets in (6, 9, 10):
            self.server.advance(2)
            self.assertEqual(client.received, STAT[:octets])

    def test_drip_from(self) -> None:
        self.fault("drip", command="RETR", octets=4, seconds=2, inside="terminator")
        client = self.log_in()
        self.assertEqual(client.say(b"RETR 1\r\n"), RETR_1[:-3])
        self.server.advance(2)
        self.assertEqual(client.received, RETR_1)

    @settings(deadline=None, max_examples=15)
    @given(st.integers(1, 9), OFFSETS)
    def test_any_drip(self, octets: int, at: int) -> None:
        """In total the same octets, each piece of so many."""
        with self.fault("drip", command="RETR", octets=octets, at=at):
            client = self.log_in()
            self.assertEqual(self.said(client, b"RETR 1"), RETR_1)
            pieces = client.segments if at == 0 or at >= len(RETR_1) else client.segments[1:]
            self.assertTrue(all(len(piece) == octets for piece in pieces[:-1]), client.segments)
            self.leave(client)


class SegmentTests(FaultCase):
    """cut, split, join, swap."""

    def segments(self, client: Talker, octets: bytes) -> list[bytes]:
        self.forget(client)
        client.say(octets)
        self.server.advance(1)
        return list(client.segments)

    def test_cut(self) -> None:
        client = self.log_in()
        for setting, segments in (
                ({}, [STAT[:-1], STAT[-1:]]), ({"at": 4}, [STAT[:4], STAT[4:]]), ({"at": 0}, [STAT]),
                ({"at": -1, "inside": "dot"}, [STAT[:-1], STAT[-1:]]), ({"inside": "dot"}, [STAT])):
            with self.fault("cut", **setting):
                self.assertEqual(self.segments(client, b"STAT\r\n"), segments)

    def test_every(self) -> None:
        """Every line end, or every second."""
        client = self.log_in()
        with self.fault("cut", every=1):
            self.assertEqual(self.segments(client, b"LIST\r\n"), _cut_in_crlf(LIST, 1))
        with self.fault("cut", every=2):
            self.assertEqual(self.segments(client, b"LIST\r\n"), _cut_in_crlf(LIST, 2))

    def test_split(self) -> None:
        client = self.log_in()
        with self.fault("split", sizes=[1, 4]):
            self.assertEqual(self.segments(client, b"STAT\r\n"), [STAT[:1], STAT[1:5], STAT[5:6], STAT[6:]])

    def test_split_of_much(self) -> None:
        """Of many segments those at the beginning and at the end are kept apart, the others leave in turn."""
        steps = hastened(parted_at([Octets(b"x" * 1200)], range(1, 1200), Gap()))
        self.assertEqual([step.brief for step in steps if isinstance(step, Gap)],
                         [False] * APART_PIECES + [True] * 199 + [False] * APART_PIECES)
        self.assertEqual(octets_of(steps), b"x" * 1200)
        self.server.maildrop("mrose").clear()
        self.server.maildrop("mrose").add(b"x" * 1500)
        client = self.log_in()
        with self.fault("split", sizes=[1], command="RETR"):
            pieces = self.segments(client, b"RETR 1\r\n")
        self.assertEqual((len(pieces), b"".join(pieces)[-7:]), (len(b"".join(pieces)), b"xx\r\n.\r\n"))

    def test_split_at_random(self) -> None:
        """By chance, of the sizes given, and the same again in another run."""
        ways = []
        for _ in range(2):
            self.tearDown()
            self.setUp()
            self.fault("split", sizes=[1, 2, 5], random=True, command="RETR")
            ways.append(self.segments(self.log_in(), b"RETR 1\r\n"))
        self.assertEqual(ways[0], ways[1])
        self.assertEqual(b"".join(ways[0]), RETR_1)
        self.assertEqual({len(piece) for piece in ways[0][:-1]}, {1, 2, 5})

    @settings(deadline=None, max_examples=15)
    @given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.booleans())
    def test_any_split(self, sizes: list[int], random: bool) -> None:
        with self.fault("split", sizes=sizes, random=random):
            client = self.log_in()
            self.assertEqual(b"".join(self.segments(client, b"RETR 1\r\nLIST\r\n")), RETR_1 + LIST)
            self.leave(client)

    def test_join(self) -> None:
        """With the next replies in one segment."""
        self.fault("join", command="STAT", replies=2)
        client = self.log_in()
        self.assertEqual(self.segments(client, b"NOOP\r\nSTAT\r\nLIST\r\nUIDL\r\nNOOP\r\n"),
                         [NOOP, STAT + LIST + UIDL, NOOP])

    def test_join_leaves_in_the_end(self) -> None:
        """After a second, or with the end of the connection."""
        client = self.log_in()
        with self.fault("join", command="STAT"):
            self.assertEqual(client.say(b"STAT\r\n"), b"")
            self.server.advance(1)
            self.assertEqual(client.received, STAT)
        with self.fault("join", command="QUIT", seconds=0, replies=5):
            self.assertEqual(client.say(b"QUIT\r\n"), QUIT)
            self.assertTrue(client.closed)

    def test_swap(self) -> None:
        self.fault("swap", command="STAT")
        client = self.log_in()
        self.assertEqual(self.segments(client, b"STAT\r\nLIST\r\nNOOP\r\n"), [LIST, STAT, NOOP])
        self.assertEqual(self.said(client, b"STAT"), b"")
        self.assertEqual(self.said(client, b"QUIT"), QUIT + STAT)

    def test_login_in_pieces(self) -> None:
        """Before the login as behind it."""
        self.fault("split", sizes=[3])
        client = self.connect()
        self.assertEqual(b"".join(self.segments(client, b"USER mrose\r\nPASS secret\r\n")), USER + PASS)


class EndlessTests(FaultCase):
    """endless: as long as the client takes it."""

    def test_endless(self) -> None:
        self.fault("endless", command="CAPA", text="X-MORE\n", octets=12, seconds=1)
        client = self.log_in()
        client.say(b"CAPA\r\n")
        self.server.advance(3)
        self.assertTrue(client.received.endswith(b"X-MORE\n" * 4), client.received)
        self.assertNotIn(b"\r\n.\r\n", client.received)

    def test_last_line(self) -> None:
        self.fault("endless", command="UIDL")
        client = self.log_in()
        client.say(b"UIDL\r\n")
        self.server.advance(0.5)
        self.assertTrue(client.received.startswith(UIDL[:-3] + b"2 uid-two\r\n" * 100))
        self.assertGreater(len(client.received), 100_000)


def _cut_in_crlf(reply: bytes, every: int) -> list[bytes]:
    pieces, ends = [b""], 0
    for octet in reply:
        if octet == 10:
            ends += 1
            if ends % every == 0:
                pieces.append(b"")
        pieces[-1] += bytes([octet])
    return pieces
