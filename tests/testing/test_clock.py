"""The harness's clock: how it runs, stands and is moved, and what a client meets when it is held."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.harness.clock import GAP_SECONDS, START, HarnessClock, MemoryClock

NOW = 1_800_000_000.0


class Broken(Exception):
    """A call that fails."""


def fail() -> None:
    raise Broken


class ClockCase(SynchronousTestCase):
    """A clock over a reactor whose time the test moves: `world`."""

    def setUp(self) -> None:
        self.world = Clock()
        self.clock = HarnessClock(self.world, now=NOW)
        self.said: list[tuple[str, float]] = []

    def later(self, seconds: float, word: str) -> Any:
        return self.clock.callLater(seconds, self.say, word)

    def say(self, word: str) -> None:
        self.said.append((word, self.clock.seconds() - NOW))

    def words(self) -> str:
        return "".join(word for word, _ in self.said)


class RunningTests(ClockCase):
    def test_runs_with_the_world(self) -> None:
        self.later(5, "a")
        self.later(3, "b")
        self.world.advance(2.5)
        self.assertEqual((self.clock.seconds(), self.said), (NOW + 2.5, []))
        self.world.advance(1)
        self.world.advance(10)
        self.assertEqual(self.words(), "ba")

    def test_begins_at_the_time_of_day(self) -> None:
        """Left out, it is that of the machine, whatever the reactor counts from."""
        self.assertGreater(HarnessClock(self.world).seconds(), NOW - 10 ** 9)

    def test_advanced_while_running(self) -> None:
        """What waits comes so much earlier, also what is not due yet when it is advanced."""
        self.later(10, "a")
        self.later(100, "b")
        self.clock.advance(50)
        self.assertEqual(self.said, [("a", 10)])
        self.world.advance(49)
        self.assertEqual((self.words(), self.clock.seconds()), ("a", NOW + 99))
        self.world.advance(1)
        self.assertEqual(self.said[1:], [("b", 100)])

    def test_never_goes_back(self) -> None:
        """A reactor whose time steps back, as the time of day does, holds this one; it does not turn it."""
        self.world.advance(10)
        self.assertEqual(self.clock.seconds(), NOW + 10)
        self.world.rightNow -= 5
        self.assertEqual(self.clock.seconds(), NOW + 10)
        self.world.rightNow += 6
        self.assertEqual(self.clock.seconds(), NOW + 11)

    def test_brought_forward(self) -> None:
        """A call that is reset to an earlier time is made then, one that is put off later."""
        early, late = self.later(100, "a"), self.later(10, "b")
        early.reset(5)
        late.delay(10)
        self.world.advance(5)
        self.assertEqual(self.words(), "a")
        self.world.advance(14)
        self.assertEqual(self.words(), "a")
        self.world.advance(1)
        self.assertEqual(self.words(), "ab")

    def test_cancelled(self) -> None:
        """It is not made, and nothing wakes the reactor for it."""
        self.later(5, "a").cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.later(7, "b")
        self.world.advance(7)
        self.assertEqual(self.words(), "b")
        self.assertEqual(self.world.getDelayedCalls(), [])

    def test_a_call_that_fails(self) -> None:
        """It is logged; the others are made all the same, and the clock goes on."""
        self.clock.callLater(1, fail)
        self.later(1, "a")
        self.later(2, "b")
        self.world.advance(1)
        self.world.advance(1)
        self.assertEqual(self.words(), "ab")
        self.assertEqual(len(self.flushLoggedErrors(Broken)), 1)

    def test_a_call_that_fails_while_advanced(self) -> None:
        """Nor does it stop the time."""
        self.clock.callLater(1, fail)
        self.later(2, "a")
        self.clock.advance(10)
        self.assertEqual((self.words(), self.clock.seconds()), ("a", NOW + 10))
        self.world.advance(1)
        self.assertEqual(self.clock.seconds(), NOW + 11)
        self.assertEqual(len(self.flushLoggedErrors(Broken)), 1)

    def test_stopped(self) -> None:
        self.later(5, "a")
        self.clock.stop()
        self.assertEqual(self.world.getDelayedCalls(), [])
        self.world.advance(10)
        self.assertEqual(self.said, [])


class HeldTests(ClockCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock.hold()

    def test_stands(self) -> None:
        self.later(1, "a")
        self.world.advance(1000)
        self.assertEqual((self.clock.seconds(), self.said, self.clock.held), (NOW, [], True))
        self.assertEqual(self.world.getDelayedCalls(), [])

    def test_held_from_the_beginning(self) -> None:
        clock = HarnessClock(self.world, held=True, now=5.0)
        self.world.advance(3)
        self.assertEqual(clock.seconds(), 5.0)

    def test_advanced(self) -> None:
        """Each call is made at its own time, in their order; what they call for on the way, too."""
        def again() -> None:
            self.say("x")
            if len(self.said) < 5:
                self.clock.callLater(2, again)

        again()
        self.later(3, "a")
        self.clock.advance(4)
        self.assertEqual(self.said, [("x", 0), ("x", 2), ("a", 3), ("x", 4)])
        self.clock.advance(4)
        self.assertEqual(self.said[4:], [("x", 6)])
        self.assertEqual(self.clock.seconds(), NOW + 8)

    def test_goes_on(self) -> None:
        """From where it stands: the time that it was held is not made up for."""
        self.later(5, "a")
        self.world.advance(100)
        self.clock.advance(1)
        self.clock.run()
        self.assertEqual((self.clock.seconds(), self.clock.held), (NOW + 1, False))
        self.world.advance(3.5)
        self.assertEqual(self.said, [])
        self.world.advance(0.5)
        self.assertEqual(self.said, [("a", 5)])

    def test_held_twice_and_run_twice(self) -> None:
        self.clock.hold()
        self.clock.run()
        self.world.advance(2)
        self.clock.run()
        self.world.advance(2)
        self.assertEqual(self.clock.seconds(), NOW + 4)

    def test_without_delay(self) -> None:
        """Such a call waits for its turn, not for time."""
        self.later(0, "a")
        self.assertEqual(self.said, [])
        self.world.advance(0)
        self.assertEqual(self.said, [("a", 0)])

    def test_gaps_are_of_the_world(self) -> None:
        """Segments that are to arrive apart do so in a held time, too."""
        self.clock.apart(lambda: self.say("a"))
        self.clock.advance(10)
        self.assertEqual(self.said, [])
        self.world.advance(GAP_SECONDS)
        self.assertEqual(self.said, [("a", 10)])

    def test_turn_by_turn(self) -> None:
        """`let_pass` gives the reactor a turn wherever something was due on the way."""
        turns: list[float] = []

        def written() -> None:      # as a write does: the octets leave in the reactor's turn
            self.world.callLater(0, lambda: turns.append(self.clock.seconds() - NOW))

        for seconds in (1, 2, 2, 3):
            self.clock.callLater(seconds, written)
        passed = Deferred.fromCoroutine(self.clock.let_pass(5))
        for _ in range(20):
            self.world.advance(0)
        self.successResultOf(passed)
        self.assertEqual((turns, self.clock.seconds()), ([1, 2, 2, 3], NOW + 5))

    def test_all_else_is_the_reactors(self) -> None:
        """So that what is given the clock for a reactor can do its work."""
        self.world.callFromThread = "its own"       # type: ignore[attr-defined]
        self.assertEqual(self.clock.callFromThread, "its own")
        self.assertFalse(hasattr(self.clock, "listenTLS"))

    def test_restarted(self) -> None:
        """It shows its first time again, held or not as then; what waits, waits as long as before."""
        self.later(10, "a")
        self.clock.advance(4)
        self.clock.restart()
        self.assertEqual((self.clock.seconds(), self.clock.held), (NOW, False))
        self.world.advance(5)
        self.assertEqual(self.said, [])
        self.world.advance(1)
        self.assertEqual(self.said, [("a", 6)])

    def test_no_time(self) -> None:
        """What is no time is refused, and nothing has changed."""
        for clock in (self.clock, MemoryClock(Clock())):
            for wrong in (-1, -0.001, float("nan"), float("inf"), float("-inf")):
                before = clock.seconds()
                with self.assertRaises(ValueError):
                    clock.advance(wrong)
                with self.assertRaises(ValueError):
                    clock.callLater(wrong, self.fail)
                self.failureResultOf(Deferred.fromCoroutine(clock.let_pass(wrong)), ValueError)
                self.assertEqual((clock.seconds(), clock.getDelayedCalls()), (before, []))


class AnyOrderTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=150)
    @given(st.lists(st.tuples(st.sampled_from(["hold", "run", "world", "advance", "call", "cancel"]),
                              st.floats(0, 50)), max_size=30))
    def test_each_call_at_its_time(self, steps: list[tuple[str, float]]) -> None:
        """Whatever is done: time never goes back, and each call is made once, in order, not before its time,
        and as soon as anybody can see it."""
        world = Clock()
        clock = HarnessClock(world, now=NOW)
        made: list[float] = []
        wanted: list[float] = []
        waiting: list[Any] = []
        before = clock.seconds()
        for what, seconds in steps:
            if what == "call":
                at = clock.seconds() + seconds
                wanted.append(at)
                waiting.append((clock.callLater(seconds, made.append, at), at))
            elif what == "cancel" and waiting:
                call, at = waiting.pop()
                if call.active():
                    call.cancel()
                    wanted.remove(at)
            elif what == "world":
                world.advance(seconds)
            elif what == "advance":
                clock.advance(seconds)
            elif what == "hold":
                clock.hold()
            elif what == "run":
                clock.run()
            world.advance(0)
            self.assertGreaterEqual(clock.seconds(), before)
            before = clock.seconds()
            # the reactor wakes it by a sum of other numbers: the last bit of a double may differ
            self.assertLessEqual({at for at in wanted if at < before - 1e-5}, set(made))
            self.assertLessEqual(set(made), {at for at in wanted if at <= before})
        clock.hold()
        clock.advance(1000)
        world.advance(0)
        self.assertEqual(sorted(made), sorted(wanted))
        self.assertEqual(len(made), len(wanted))


class MemoryClockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.below = Clock()
        self.below.advance(100)
        self.clock = MemoryClock(self.below)
        self.said: list[float] = []

    def test_dates(self) -> None:
        """It begins at a date of its own, the same in every run, whatever the clock below shows."""
        self.assertEqual(self.clock.seconds(), START)
        self.assertEqual(MemoryClock(self.below, now=NOW).seconds(), NOW)
        self.below.advance(5)
        self.assertEqual(self.clock.seconds(), START + 5)

    def test_steps(self) -> None:
        """`advance` stops at every call, the client's own on the clock below among them."""
        def again() -> None:
            self.said.append(self.clock.seconds() - START)
            self.clock.callLater(0, lambda: self.said.append(-1))

        for seconds in (3, 1):
            self.clock.callLater(seconds, again)
        self.below.callLater(2, again)
        self.clock.advance(3)
        self.assertEqual(self.said, [1, -1, 2, -1, 3, -1])
        self.assertEqual(self.clock.seconds(), START + 3)

    def test_restarted(self) -> None:
        self.clock.callLater(10, self.said.append, 1)
        self.clock.advance(4)
        self.clock.restart()
        self.assertEqual(self.clock.seconds(), START)
        self.clock.advance(6)
        self.assertEqual(self.said, [1])

    def test_without_a_hand(self) -> None:
        """It is held, and cannot run."""
        self.clock.hold()
        self.assertTrue(self.clock.held)
        with self.assertRaises(RuntimeError):
            self.clock.run()

    def test_failures_are_the_tests(self) -> None:
        self.clock.callLater(1, fail)
        with self.assertRaises(Broken):
            self.clock.advance(1)

    def test_apart(self) -> None:
        order = itertools.count()
        seen: list[int] = []
        self.clock.apart(lambda: seen.append(next(order)))
        self.clock.advance(0)
        self.assertEqual(seen, [0])
