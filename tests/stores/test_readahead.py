"""Reading ahead: what is kept, what gives way, how far to read."""

from __future__ import annotations

from array import array

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.stores.readahead import (
    ENTRY_OCTETS,
    FIRST_RUN,
    FIRST_RUN_OF_SMALL,
    LARGEST_RUN_OCTETS,
    LONGEST_RUN,
    LONGEST_RUN_OF_SMALL,
    Course,
    ReadAhead,
)


class ReadAheadTests(SynchronousTestCase):
    """A bounded store of what was read too early."""

    def test_taken_once(self) -> None:
        """An entry is there until it is taken, and not after."""
        ahead: ReadAhead[bytes] = ReadAhead()
        ahead.put("a", b"x", 1)
        self.assertEqual((ahead.take("a"), ahead.take("a"), ahead.octets), (b"x", None, 0))

    def test_the_oldest_gives_way(self) -> None:
        """When the octets, and a little for each entry, are more than the capacity."""
        ahead: ReadAhead[int] = ReadAhead(3 * (ENTRY_OCTETS + 100))
        for number in range(5):
            ahead.put(number, number, 100)
        self.assertEqual([ahead.take(number) for number in range(5)], [None, None, 2, 3, 4])

    def test_what_does_not_fit(self) -> None:
        """Is not kept, and drives nothing out."""
        ahead: ReadAhead[int] = ReadAhead(1000)
        ahead.put("small", 1, 100)
        ahead.put("large", 2, 1000)
        self.assertEqual((ahead.take("large"), ahead.take("small")), (None, 1))

    def test_drop(self) -> None:
        """Forgets what is there of the keys, whatever is not."""
        ahead: ReadAhead[int] = ReadAhead()
        for number in range(3):
            ahead.put(number, number, 1)
        ahead.drop([0, 2, 7])
        self.assertEqual((ahead.take(1), ahead.octets), (1, 0))

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 400)), max_size=60))
    def test_never_more_than_the_capacity(self, steps: list[tuple[int, int]]) -> None:
        """Octets are counted truly through any puts, replacements and takes."""
        ahead: ReadAhead[int] = ReadAhead(1500)
        for key, octets in steps:
            if octets % 5:
                ahead.put(key, octets, octets)
            else:
                ahead.take(key)
            self.assertLessEqual(ahead.octets, 1500)
        rest = sum(octets + ENTRY_OCTETS for key in range(10) if (octets := ahead.take(key)) is not None)
        self.assertTrue(rest <= 1500 and ahead.octets == 0)


class CourseTests(SynchronousTestCase):
    """How far one session reads ahead."""

    def runs(self, sizes: list[int], most_octets: int = 65536) -> list[range]:
        """Go through all messages in order; return what each trip reads."""
        course, runs, ready = Course(), [], 0
        for index in range(len(sizes)):
            if not course.goes_on(index, None):
                course.restart(None)
            course.advance(index)
            if index >= ready:
                runs.append(course.run(index, array("Q", sizes), most_octets))
                ready = runs[-1].stop
        return runs

    def test_the_run_doubles(self) -> None:
        """8, 16 ... to the longest run, and never past the last message."""
        lengths = [len(run) for run in self.runs([100] * 100)]
        self.assertEqual(lengths, [FIRST_RUN, 16, LONGEST_RUN, LONGEST_RUN, 12])

    def test_who_begins_elsewhere_may_want_one(self) -> None:
        """A client that leaves its mail here asks for the new messages alone: 1, 2, 4 ..."""
        course, lengths = Course(), []
        index = 50
        while index < 80:
            lengths.append(len(course.run(index, array("Q", [100] * 100), 65536)))
            index += lengths[-1]
        self.assertEqual(lengths, [1, 2, 4, 8, 16])

    def test_octets_bound_a_run(self) -> None:
        """Many middling messages are read in smaller runs."""
        for run in self.runs([60_000] * 50):
            self.assertLessEqual(60_000 * len(run), LARGEST_RUN_OCTETS)

    def test_a_run_stops_before_a_large_message(self) -> None:
        """Which is read by itself when its turn comes."""
        self.assertEqual(self.runs([10, 10, 100, 10, 10, 10], most_octets=50),
                         [range(2), range(2, 6)])

    def test_sizes_need_not_matter(self) -> None:
        """Envelopes and headers are all small: few trips, each for many."""
        course = Course()
        lengths = []
        index = 0
        while index < 100:
            lengths.append(len(course.run_of_small(index, 100)))
            index += lengths[-1]
        self.assertEqual(lengths, [FIRST_RUN_OF_SMALL, LONGEST_RUN_OF_SMALL, 20])

    def test_another_kind_or_place_starts_again(self) -> None:
        """And what was read ahead for the old course is told, to be forgotten."""
        course, sizes = Course(), array("Q", [10] * 50)
        for index in (0, 8):
            course.advance(index)
            course.run(index, sizes, 100)
        self.assertEqual(course.leftovers(), range(9, 24))
        self.assertTrue(course.goes_on(9, None))
        self.assertFalse(course.goes_on(10, None) or course.goes_on(9, 0))
        course.restart(0)
        course.advance(30)
        self.assertEqual((course.leftovers(), course.kind), (range(31, 0), 0))
        self.assertEqual(course.run(30, sizes, 100), range(30, 31))

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.integers(0, 300_000), min_size=1, max_size=80))
    def test_every_message_is_read_once(self, sizes: list[int]) -> None:
        """In order, whatever their sizes; none larger than asked but the first of a run."""
        runs = self.runs(sizes)
        self.assertEqual([index for run in runs for index in run], list(range(len(sizes))))
        for run in runs:
            self.assertTrue(all(sizes[index] <= 65536 for index in run[1:]))
            self.assertTrue(len(run) == 1 or sum(sizes[index] for index in run) <= LARGEST_RUN_OCTETS)


class EvictionTests(SynchronousTestCase):
    """What was read ahead may give way to other sessions' before it is asked for."""

    def test_begins_again(self) -> None:
        """A message that was read ahead and is asked for again is read alone, then runs grow anew."""
        course, sizes = Course(), array("Q", [100] * 100)
        lengths = []
        for index in (0, 8, 10):        # 8 to 23 are read at 8; 10 is asked for, so it gave way
            lengths.append(len(course.run(index, sizes, 1000)))
        self.assertEqual([8, 16, 1], lengths)
        self.assertEqual(2, len(course.run(11, sizes, 1000)))
        self.assertEqual([8, 1], [len(course.run_of_small(13, 100)), len(course.run_of_small(14, 100))])
