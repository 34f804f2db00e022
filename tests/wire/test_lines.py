"""Octets to lines: every cut, lines past their limit, octets taken as they are."""

from __future__ import annotations

import re
import tracemalloc
from itertools import accumulate, pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import LineTooLong
from mailgate.wire.lines import LineFramer

LIMIT = 255     # octets of a POP3 command line with its end (RFC 2449 section 4)
TOO_LONG = "too long"

STREAM = st.lists(st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"ab", b"NOOP\r\n", b"\0", b"\xff", b"x" * 9, b"x" * 30])
    | st.binary(max_size=5), max_size=40).map(b"".join)
CUTS = st.lists(st.integers(0, 20), max_size=60)


def lines_of(stream: bytes, limit: int) -> list[bytes | str]:
    """Return what a framer must give for a whole stream: lines without their ends, or TOO_LONG."""
    ended = re.findall(rb"[^\n]*\n", stream)
    return [re.sub(rb"\r?\n\Z", b"", line) if len(line) <= limit else TOO_LONG for line in ended]


def take_all(framer: LineFramer) -> list[bytes | str]:
    """Take lines until more octets are needed."""
    taken: list[bytes | str] = []
    while True:
        try:
            line = framer.next_line()
        except LineTooLong:
            taken.append(TOO_LONG)
        else:
            if line is None:
                return taken
            taken.append(line)


def take_pieces(pieces: list[bytes], limit: int = LIMIT) -> list[bytes | str]:
    framer = LineFramer(limit)
    taken = []
    for piece in pieces:
        framer.feed(piece)
        taken += take_all(framer)
    return taken


class FramerCase(SynchronousTestCase):
    """The same stream in every kind of pieces."""

    def check(self, stream: bytes, limit: int = LIMIT) -> None:
        """See the same lines whole, octet by octet, in pieces of 2 and 7, and at random cuts."""
        expected = lines_of(stream, limit)
        for octets in (len(stream) + 1, 1, 2, 7, limit - 1, limit, limit + 1):
            pieces = [stream[at:at + octets] for at in range(0, len(stream), octets)]
            self.assertEqual(take_pieces(pieces, limit), expected, f"in pieces of {octets}")
        random = Random(len(stream))
        cuts = sorted(random.randrange(len(stream) + 1) for _ in range(20))
        pieces = [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]
        self.assertEqual(take_pieces(pieces, limit), expected)


class LineFramerTests(FramerCase):
    """Lines out of octets."""

    def test_lines(self) -> None:
        """One, several, and empty ones."""
        self.check(b"NOOP\r\n")
        self.check(b"USER mrose\r\nPASS a b \r\n\r\n\r\nSTAT\r\n")
        self.assertEqual(take_pieces([b"USER mrose\r\n\r\nSTAT\r\n"]), [b"USER mrose", b"", b"STAT"])

    def test_a_bare_lf_ends_a_line(self) -> None:
        """As old clients send it; only one CR belongs to a line end."""
        self.check(b"NOOP\nSTAT\r\n\n\r\n\r\r\n")
        self.assertEqual(take_pieces([b"NOOP\nSTAT\r\n\n"]), [b"NOOP", b"STAT", b""])
        self.assertEqual(take_pieces([b"a\r\r\n"]), [b"a\r"])

    def test_a_bare_cr_is_content(self) -> None:
        """It neither ends a line nor goes away."""
        self.check(b"PASS a\rb\r\n\rx\r\n")
        self.assertEqual(take_pieces([b"PASS a\rb\r", b"\n\r", b"x\r\n"]), [b"PASS a\rb", b"\rx"])

    def test_all_octets_are_content(self) -> None:
        """NUL and 8-bit octets too."""
        content = bytes(octet for octet in range(256) if octet != 10)
        self.check(content[:100] + b"\r\n" + content[100:] + b"\r\n")

    def test_trailing_data_waits(self) -> None:
        """A line without its end is not given, not lost, and counted as pending."""
        framer = LineFramer(LIMIT)
        framer.feed(b"NOOP\r\nST")
        self.assertEqual(framer.next_line(), b"NOOP")
        self.assertIsNone(framer.next_line())
        self.assertEqual(framer.pending, 2)
        framer.feed(b"AT\r")
        self.assertIsNone(framer.next_line())
        framer.feed(b"\nQU")
        self.assertEqual(framer.next_line(), b"STAT")
        self.assertEqual(framer.pending, 2)

    def test_nothing_comes_of_nothing(self) -> None:
        """An empty piece changes nothing."""
        framer = LineFramer(LIMIT)
        self.assertIsNone(framer.next_line())
        framer.feed(b"")
        self.assertIsNone(framer.next_line())
        self.assertEqual(framer.pending, 0)

    @settings(deadline=None, max_examples=200)
    @given(STREAM, st.integers(2, 40), CUTS)
    def test_any_stream_in_any_pieces(self, stream: bytes, limit: int, lengths: list[int]) -> None:
        """The lines do not depend on the cut, nor on when they are taken."""
        ends = [0, *accumulate(lengths)]
        pieces = [stream[start:end] for start, end in pairwise(ends)] + [stream[ends[-1]:]]
        expected = lines_of(stream, limit)
        self.assertEqual(take_pieces(pieces, limit), expected)
        framer = LineFramer(limit)
        framer.feed(stream)
        self.assertEqual(take_all(framer), expected)


class LimitTests(FramerCase):
    """Lines past their limit are dropped to their end; each gives one LineTooLong."""

    def test_the_limit_counts_the_line_end(self) -> None:
        """255 octets pass with CRLF counted, 256 do not; the next line is read as usual."""
        for end in (b"\r\n", b"\n"):
            fits = b"x" * (LIMIT - len(end))
            self.assertEqual(take_pieces([fits + end + b"NOOP\r\n"]), [fits, b"NOOP"])
            self.assertEqual(take_pieces([fits + b"x" + end + b"NOOP\r\n"]), [TOO_LONG, b"NOOP"])
            for extra in (-1, 0, 1, 2):
                self.check(b"STAT\r\n" + b"x" * (LIMIT - len(end) + extra) + end + b"NOOP\r\n")

    def test_one_fault_a_line(self) -> None:
        """However long it is and however it comes; nothing of it is read as a command."""
        for octets in (256, 257, 1000, 65536, 1_000_000):
            stream = b"x" * octets + b"\r\n"
            self.assertEqual(take_pieces([stream]), [TOO_LONG])
            pieces = [stream[at:at + 255] for at in range(0, len(stream), 255)]
            self.assertEqual(take_pieces([*pieces, b"NOOP\r\n"]), [TOO_LONG, b"NOOP"])
        self.check(b"x" * 600 + b"\r" * 300 + b"\r\nNOOP\r\n" + b"y" * 300 + b"\n" + b"z" * 300 + b"\n\n")

    def test_the_fault_comes_when_the_line_has_ended(self) -> None:
        """Not before: a reply in the middle of a line would be out of step."""
        framer = LineFramer(LIMIT)
        for _ in range(10):
            framer.feed(b"x" * 100)
            self.assertIsNone(framer.next_line())
        framer.feed(b"\r\n")
        self.assertRaises(LineTooLong, framer.next_line)
        self.assertIsNone(framer.next_line())

    def test_an_endless_line_costs_no_memory(self) -> None:
        """100 MB without a line end leave less than a few pieces behind."""
        framer, piece = LineFramer(LIMIT), b"x" * 65536
        tracemalloc.start()
        for _ in range(100_000_000 // len(piece)):
            framer.feed(piece)
            self.assertIsNone(framer.next_line())
            self.assertLess(framer.pending, LIMIT)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertLess(most, 4 * len(piece))
        framer.feed(b"\r\nNOOP\r\n")
        self.assertRaises(LineTooLong, framer.next_line)
        self.assertEqual(framer.next_line(), b"NOOP")

    def test_an_endless_line_of_octets_costs_no_memory(self) -> None:
        """Also when it comes octet by octet."""
        framer = LineFramer(LIMIT)
        for _ in range(5000):
            framer.feed(b"x")
            self.assertIsNone(framer.next_line())
            self.assertLess(framer.pending, LIMIT)
        framer.feed(b"\n")
        self.assertEqual(take_all(framer), [TOO_LONG])

    def test_lines_that_were_taken_are_not_kept(self) -> None:
        """A framer that gave all its lines holds no octets of them."""
        framer = LineFramer(LIMIT)
        framer.feed(b"NOOP\r\n" * 10_000)
        self.assertEqual(len(take_all(framer)), 10_000)
        self.assertEqual((framer.pending, framer._buffer), (0, b""))

    def test_the_limit_may_change_between_lines(self) -> None:
        """An AUTH exchange raises it, for octets that have come already too, and takes it back."""
        framer, response = LineFramer(LIMIT), b"A" * 80_000
        framer.feed(b"AUTH GSSAPI\r\n" + response + b"\r\nNOOP\r\n" + response + b"\r\nSTAT\r\n")
        self.assertEqual(framer.next_line(), b"AUTH GSSAPI")
        framer.limit = 131_072
        self.assertEqual(framer.next_line(), response)
        framer.limit = LIMIT
        self.assertEqual(take_all(framer), [b"NOOP", TOO_LONG, b"STAT"])

    def test_a_lower_limit_holds_for_what_has_come(self) -> None:
        """Octets that fitted the old limit are dropped under the new one."""
        framer = LineFramer(1000)
        framer.feed(b"x" * 500)
        self.assertIsNone(framer.next_line())
        framer.limit = LIMIT
        self.assertIsNone(framer.next_line())
        self.assertEqual(framer.pending, 0)
        framer.feed(b"x\r\nNOOP\r\n")
        self.assertEqual(take_all(framer), [TOO_LONG, b"NOOP"])


class TakeRestTests(SynchronousTestCase):
    """Octets as they are: what DATA and BDAT read."""

    def test_octets_between_lines(self) -> None:
        """A counted chunk behind a command, line ends and all, then lines again."""
        framer = LineFramer(LIMIT)
        framer.feed(b"BDAT 8\r\na\r\n\n.\r\nbMAIL\r\nRSET\r\n")
        self.assertEqual(framer.next_line(), b"BDAT 8")
        self.assertEqual(framer.take_rest(8), b"a\r\n\n.\r\nb")
        self.assertEqual(take_all(framer), [b"MAIL", b"RSET"])

    def test_fewer_than_asked_for(self) -> None:
        """What is there comes; the rest is taken when it has come."""
        framer = LineFramer(LIMIT)
        framer.feed(b"BDAT 9\r\nabc")
        framer.next_line()
        self.assertEqual((framer.peek(2), framer.peek(9), framer.pending), (b"ab", b"abc", 3))
        self.assertEqual((framer.take_rest(9), framer.take_rest(6)), (b"abc", b""))
        framer.feed(b"de\nfgh\r\n")
        self.assertEqual(framer.take_rest(6), b"de\nfgh"[:6])
        self.assertEqual(take_all(framer), [b""])

    def test_in_the_middle_of_what_was_searched(self) -> None:
        """Octets that were looked at for a line end may be taken, too."""
        framer = LineFramer(LIMIT)
        framer.feed(b"abcdef")
        self.assertIsNone(framer.next_line())
        self.assertEqual(framer.take_rest(2), b"ab")
        framer.feed(b"\r\n")
        self.assertEqual(framer.next_line(), b"cdef")

    def test_clear_buffer(self) -> None:
        """What was not taken is forgotten (octets behind STLS); what comes later is read."""
        framer = LineFramer(LIMIT)
        framer.feed(b"STLS\r\nUSER mrose\r\nPA")
        self.assertEqual(framer.next_line(), b"STLS")
        framer.clear_buffer()
        self.assertEqual(framer.pending, 0)
        self.assertIsNone(framer.next_line())
        framer.feed(b"NOOP\r\n")
        self.assertEqual(framer.next_line(), b"NOOP")


class FramerMachine(RuleBasedStateMachine):
    """Feeding, taking lines, taking octets and changing limits in any order, beside a plain model."""

    def __init__(self) -> None:
        super().__init__()
        self.framer = LineFramer(20)
        self.left = b""             # what has come and was not taken
        self.dropping = False       # the line now coming has passed the limit

    @rule(data=STREAM)
    def feed(self, data: bytes) -> None:
        self.framer.feed(data)
        self.left += data

    @rule()
    def take_line(self) -> None:
        line, end, rest = self.left.partition(b"\n")
        if not end:
            assert self.framer.next_line() is None
            if len(line) >= self.framer.limit:
                self.dropping, self.left = True, b""
            return
        self.left = rest
        if self.dropping or len(line) + 1 > self.framer.limit:
            self.dropping = False
            try:
                taken = self.framer.next_line()
            except LineTooLong:
                return
            raise AssertionError(taken)
        assert self.framer.next_line() == line.removesuffix(b"\r")

    @rule(most=st.integers(0, 30))
    def take_rest(self, most: int) -> None:
        assert self.framer.take_rest(most) == self.left[:most]
        self.left = self.left[most:]

    @rule(limit=st.integers(2, 40))
    def change_limit(self, limit: int) -> None:
        self.framer.limit = limit

    @rule()
    def drop(self) -> None:
        """What waits is the beginning of a line that is too long, whatever it was."""
        self.framer.drop_line()
        self.left = b""
        self.dropping = True

    @rule()
    def clear(self) -> None:
        self.framer.clear_buffer()
        self.left = b""

    @invariant()
    def pending_is_what_is_left(self) -> None:
        assert self.framer.pending == len(self.left)


FramerMachine.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)
FramerHistories = FramerMachine.TestCase
