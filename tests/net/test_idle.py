"""The one clock of a listener's connections."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.net.idle import TICK_SECONDS, IdleClock


class Connection:
    """Keeps the times of its ticks; may fail at each."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.ticks: list[float] = []

    def tick(self, now: float) -> None:
        self.ticks.append(now)
        if self.fault is not None:
            raise self.fault

    def dismiss(self) -> None:
        raise NotImplementedError

    def cut(self) -> None:
        raise NotImplementedError


class IdleClockTests(SynchronousTestCase):
    """Ticks while there are connections, and only then."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.idle = IdleClock(self.clock, 600.0, 180.0)

    def test_runs_with_the_connections(self) -> None:
        """It begins with the first, ends with the last, and begins anew."""
        self.assertEqual([], self.clock.getDelayedCalls())
        for _ in range(2):
            one, other = Connection(), Connection()
            self.idle.add(one)
            self.idle.add(other)
            self.clock.pump([TICK_SECONDS] * 2)
            self.idle.discard(one)
            self.clock.advance(TICK_SECONDS)
            self.assertEqual((2, 3), (len(one.ticks), len(other.ticks)))
            self.idle.discard(other)
            self.assertEqual([], self.clock.getDelayedCalls())

    def test_one_that_fails(self) -> None:
        """The others are looked after all the same, and the failure is told."""
        bad, good = Connection(ZeroDivisionError()), Connection()
        self.idle.add(bad)
        self.idle.add(good)
        self.clock.pump([TICK_SECONDS] * 2)
        self.assertEqual((2, 2), (len(bad.ticks), len(good.ticks)))
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_late_ticks(self) -> None:
        """A tick that came late makes the next one no later."""
        one = Connection()
        self.idle.add(one)
        self.clock.advance(1.5 * TICK_SECONDS)
        self.clock.advance(0.5 * TICK_SECONDS)
        self.assertEqual(2, len(one.ticks))

    def test_clock_that_is_set_back(self) -> None:
        """By an hour: the next tick is a tick away, not an hour."""
        one = Connection()
        self.idle.add(one)
        self.clock.rightNow -= 3600
        for call in self.clock.getDelayedCalls():
            call.reset(0)
        self.clock.advance(0)
        self.clock.advance(TICK_SECONDS)
        self.assertEqual(2, len(one.ticks))

    def test_short_limits(self) -> None:
        """A limit shorter than the tick makes the tick finer."""
        idle, one = IdleClock(self.clock, 2.0), Connection()
        idle.add(one)
        self.clock.pump([0.5] * 4)
        self.assertEqual([0.5, 1.0, 1.5, 2.0], one.ticks)
        idle.discard(one)
