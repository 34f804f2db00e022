"""How failures add up and are forgotten: pure, on a clock."""

from __future__ import annotations

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.net.failures import ADDRESS_PATIENCE, SLOTS, WAYS, Failures, Growth, Scores

GROWTH = Growth(2.0, 2.0, 30.0, 600.0)


class GrowthTests(SynchronousTestCase):
    def test_doubling(self) -> None:
        """2, 4, 8, 16 and then 30 seconds: whole beats of two."""
        self.assertEqual([2 * GROWTH.beats(float(failures)) for failures in range(7)],
                         [2, 4, 8, 16, 30, 30, 30])

    def test_settings(self) -> None:
        """No growth; another factor; a most that is no multiple; a most below the base; no delay."""
        for growth, beats in (
                (Growth(2.0, 1.0, 30.0), [1, 1, 1]), (Growth(1.0, 3.0, 100.0), [1, 3, 9]),
                (Growth(2.0, 2.0, 5.0), [1, 2, 2]), (Growth(2.0, 2.0, 0.0), [1, 1, 1]),
                (Growth(0.0, 2.0, 30.0), [0, 0, 0])):
            self.assertEqual([growth.beats(float(failures)) for failures in range(3)], beats, growth)

    @settings(deadline=None)
    @given(st.floats(0.01, 60), st.floats(1, 10), st.floats(0, 600), st.floats(0, 1e9))
    def test_bounds(self, base: float, factor: float, most: float, failures: float) -> None:
        """At least one beat, else no longer than the most, never fewer than before, and no overflow."""
        growth = Growth(base, factor, most)
        beats = growth.beats(failures)
        self.assertGreaterEqual(beats, 1)
        self.assertLessEqual(beats * base, max(base, most) * 1.00001)
        self.assertGreaterEqual(growth.beats(failures + 1), beats)


class ScoresTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def scores(self, slots: int = 64) -> Scores:
        return Scores(self.clock.seconds, 600.0, slots=slots, secret=b"secret")

    def test_decay(self) -> None:
        """Half of it is left after the half-life, and a clock that goes back makes nothing of nothing."""
        scores = self.scores()
        self.assertEqual([scores.add(b"a") for _ in range(4)], [0.0, 1.0, 2.0, 3.0])
        self.clock.advance(600)
        self.assertAlmostEqual(scores.add(b"a"), 2.0, places=5)
        self.clock.rightNow -= 5000
        self.assertAlmostEqual(scores.add(b"a"), 3.0, places=5)

    def test_take_back(self) -> None:
        """One less, never below nothing; what is not there is left so."""
        scores = self.scores()
        scores.take_back(b"a")
        scores.add(b"a")
        scores.add(b"a")
        scores.take_back(b"a")
        scores.take_back(b"b")
        self.assertEqual(scores.add(b"a"), 1.0)
        for _ in range(5):
            scores.take_back(b"a")
        self.assertEqual((scores.add(b"a"), scores.add(b"b")), (0.0, 0.0))

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 900)), max_size=60))
    def test_as_a_dictionary_would(self, steps: list[tuple[int, bool, int]]) -> None:
        """While there is room the table says what a dictionary of sums would."""
        self.clock = Clock()
        scores, model = self.scores(slots=4096), {}
        for number, adding, seconds in steps:
            self.clock.advance(seconds)
            now, key = self.clock.seconds(), b"%d" % number
            total, stamp = model.get(key, (0.0, now))
            total *= 0.5 ** ((now - stamp) / 600)
            if adding:
                self.assertAlmostEqual(scores.add(key), total, places=3)
                model[key] = total + 1.0, now
            elif key in model:
                scores.take_back(key)
                model[key] = max(0.0, total - 1.0), now

    def test_flood(self) -> None:
        """A million new keys push out others that failed once, and none that failed more often."""
        scores = self.scores(slots=1024)
        stubborn = [b"stubborn %d" % number for number in range(64)]
        for key in stubborn * 5:
            scores.add(key)
        for number in range(20_000):
            scores.add(b"flood %d" % number)
        self.assertEqual([scores.add(key) for key in stubborn], [5.0] * 64)

    def test_memory(self) -> None:
        """Nothing before the first failure; then a fixed number of octets, however many keys come."""
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        scores = Scores(self.clock.seconds, 600.0)
        start = tracemalloc.get_traced_memory()[0]
        self.assertLess(start, 5000)
        scores.add(b"first")
        full = tracemalloc.get_traced_memory()[0]
        self.assertLess(full - start, SLOTS * 22)
        for number in range(10_000):
            scores.add(b"%d" % number)
        self.assertLess(tracemalloc.get_traced_memory()[0] - full, 5000)

    def test_ways(self) -> None:
        """A table of a single set forgets the least of its eight keys first."""
        scores = self.scores(slots=WAYS)
        for number in range(WAYS):
            for _ in range(number + 2):
                scores.add(b"%d" % number)
        scores.add(b"new")
        self.assertEqual(scores.add(b"7"), 9.0)
        self.assertEqual(scores.add(b"0"), 0.0)


class FailuresTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.failures = Failures(GROWTH, self.clock.seconds)

    def test_of_a_user(self) -> None:
        """One user's failures at one address; another user there, and he elsewhere, begin anew."""
        self.assertEqual([self.failures.begin("a", "mrose at a") for _ in range(4)], [1, 2, 4, 8])
        self.assertEqual(self.failures.begin("a", "fred at a"), 1)      # four of the address: half a step
        self.assertEqual(self.failures.begin("b", "mrose at b"), 1)

    def test_of_an_address(self) -> None:
        """Many names from one address: the same steps, each of them eight times as long."""
        patience = int(ADDRESS_PATIENCE)
        beats = [self.failures.begin("a", f"user {number} at a") for number in range(6 * patience)]
        self.assertEqual([beats[0], beats[patience], beats[2 * patience], beats[4 * patience]], [1, 2, 4, 15])
        self.assertEqual(beats, sorted(beats))

    def test_forgiven(self) -> None:
        """Who logs in a hundred times is no slower the first time he fails."""
        for _ in range(100):
            self.failures.begin("a", "mrose at a")
            self.failures.forgive("a", "mrose at a")
        self.assertEqual(self.failures.begin("a", "mrose at a"), 1)

    def test_forgotten(self) -> None:
        """Six failures are three ten minutes later, and none that would count within the hour."""
        for _ in range(6):
            self.failures.begin("a", "mrose at a")
        self.clock.advance(600)
        self.assertEqual(self.failures.begin("a", "mrose at a"), 8)
        self.clock.advance(3000)
        self.assertEqual(self.failures.begin("a", "mrose at a"), 1)
