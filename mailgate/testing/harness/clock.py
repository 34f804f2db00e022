"""The harness's clock: it runs with the world's, or is held and moves only when a test says so.

Seconds count from 1970, so that messages are dated by it. A call without delay is made in the reactor's
next turn, held or not: it waits for nobody's time, only for its turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import isfinite
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from twisted.logger import Logger
from zope.interface import implementer

GAP_SECONDS = 0.01      # between two segments that are to arrive apart; of the world's time, held or not
LATEST = 253402300800.0     # the end of the year 9999: no date can be written behind it
MOST_DUE = 1_000_000    # calls that one advance makes; more are a loop without an end
TURNS_BEFORE = 3        # of the reactor, before time moves: what clients have sent by then came before
START = 1767225600.0    # 2026-01-01, midnight UTC: what a clock in memory shows at first

log = Logger()


@implementer(IReactorTime)
class HarnessClock:
    """Time over a reactor, which does all else that is asked of it. To be used in the reactor's thread.

    `held`: from the beginning, at `now`, seconds since 1970 (left out: the time of day). A call that fails
    is logged, as a reactor does, and the others are made all the same.
    """

    def __init__(self, reactor: Any, *, held: bool = False, now: float | None = None) -> None:
        self._reactor = reactor
        self._inner = Clock()
        self._inner.rightNow = time.time() if now is None else _moment(now)
        self._ahead = self._inner.rightNow - reactor.seconds()      # of the reactor's seconds
        self._wake: IDelayedCall | None = None
        self.held = held
        self._as_started = held, now

    def __getattr__(self, name: str) -> Any:
        if name == "_reactor":
            raise AttributeError(name)
        return getattr(self._reactor, name)

    def seconds(self) -> float:
        """Return the seconds since 1970. They never go back."""
        if not self.held:
            self._inner.rightNow = max(self._inner.rightNow, self._reactor.seconds() + self._ahead)
        return self._inner.rightNow

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> Any:
        """See IReactorTime. Raises: ValueError, for a delay that is negative or no number."""
        _check(delay)
        if delay == 0:
            return self._reactor.callLater(0, callable, *args, **kw)
        self.seconds()
        call: Any = self._inner.callLater(delay, callable, *args, **kw)
        call.resetter = self._earlier
        self._watch()
        return call

    def getDelayedCalls(self) -> list[Any]:
        """See IReactorTime: those that wait for this clock."""
        return list(self._inner.getDelayedCalls())

    def apart(self, callable: Callable[..., object]) -> Any:
        """Have something done so much later that octets sent before and after it arrive apart."""
        return self._reactor.callLater(GAP_SECONDS, callable)

    def hold(self) -> None:
        """Let time stand still from now on."""
        self.seconds()
        self.held = True
        self._watch()

    def run(self) -> None:
        """Let time go on from where it stands."""
        if self.held:
            self.held = False
            self._ahead = self._inner.rightNow - self._reactor.seconds()
        self._watch()

    def advance(self, seconds: float) -> None:
        """Move time on at once, held or not; what becomes due is called on the way, in its order.

        Raises: ValueError, for what is negative or no number, or leads behind the year 9999; RuntimeError,
        where there is no end of what is due.
        """
        _check(seconds)
        end, made = _moment(self.seconds() + seconds), 0
        while (due := self._next_due(end)) is not None:
            made = _counted(made)
            self._move(due)
        self._move(end)
        self._watch()

    async def let_pass(self, seconds: float) -> None:
        """Move time on as `advance` does, with a turn of the reactor wherever something was due on the way.

        So what is written at different times leaves at different times, and what waits only for its turn
        has had it before the next call is made. Raises: ValueError.
        """
        _check(seconds)
        for _ in range(TURNS_BEFORE):
            await self._turn()
        end, made = _moment(self.seconds() + seconds), 0
        while (due := self._next_due(end)) is not None:
            made = _counted(made)
            self._move(due)
            await self._turn()
        self._move(end)
        self._watch()
        await self._turn()

    def restart(self) -> None:
        """Be held or run, and show the time, as at the beginning (the time of day, if none was given).

        What waits does so for as long as before.
        """
        before = self.seconds()
        self.held, now = self._as_started
        self._inner.rightNow = time.time() if now is None else now
        self._ahead = self._inner.rightNow - self._reactor.seconds()
        call: Any
        for call in self._inner.getDelayedCalls():
            call.time += self._inner.rightNow - before
        self._watch()

    def stop(self) -> None:
        """Call nobody any more of those that wait."""
        for call in self._inner.getDelayedCalls():
            call.cancel()
        self._watch()

    # Inside -----------------------------------------------------------------------------------

    def _next_due(self, before: float) -> float | None:
        """Return when the next call is due, if it is by then."""
        due = min((call.getTime() for call in self._inner.getDelayedCalls()), default=None)
        return due if due is not None and due < before else None

    def _move(self, to: float) -> None:
        """Be at a time, unless it is past, and call who waits for it."""
        self._ahead += max(0.0, to - self._inner.rightNow)
        self._inner.rightNow = max(self._inner.rightNow, to)
        self._call_due()

    def _call_due(self) -> None:
        while True:
            try:
                self._inner.advance(0)
                return
            except Exception:       # the call is off the list; a reactor would go on with the next
                log.failure("a call of the harness's clock has failed")

    def _turn(self) -> Deferred[None]:
        """Return what fires when the reactor has looked after its sockets."""
        turned: Deferred[None] = Deferred()
        self._reactor.callLater(0, turned.callback, None)
        return turned

    def _earlier(self, call: Any) -> None:
        """A call was brought forward."""
        self._watch()

    def _watch(self) -> None:
        """Have the reactor wake this clock when the next call is due."""
        calls = [] if self.held else self._inner.getDelayedCalls()
        soonest = min((call.getTime() for call in calls), default=None)
        wake, self._wake = self._wake, None
        if wake is not None and wake.active():
            wake.cancel()
        if soonest is not None:
            self._wake = self._reactor.callLater(max(0.0, soonest - self.seconds()), self._due)

    def _due(self) -> None:
        self._wake = None
        self.seconds()
        self._call_due()
        self._watch()


@implementer(IReactorTime)
class MemoryClock:
    """The clock of a harness without a reactor: a task.Clock, moved by nobody but the test.

    `now`: seconds since 1970 that it is at the beginning, whatever the other clock shows. A call that fails
    fails who moves the time.
    """

    held = True

    def __init__(self, clock: Clock, *, now: float | None = None) -> None:
        self.clock = clock
        self._start = START if now is None else _moment(now)
        self._ahead = self._start - clock.seconds()

    def seconds(self) -> float:
        """Return the seconds since 1970."""
        return self.clock.seconds() + self._ahead

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> Any:
        """See IReactorTime. Raises: ValueError, for a delay that is negative or no number."""
        _check(delay)
        return self.clock.callLater(delay, callable, *args, **kw)

    def getDelayedCalls(self) -> list[Any]:
        """See IReactorTime."""
        return list(self.clock.getDelayedCalls())

    def apart(self, callable: Callable[..., object]) -> Any:
        """In memory every write arrives by itself."""
        return self.clock.callLater(0, callable)

    def hold(self) -> None:
        """Time stands still already."""

    def run(self) -> None:
        """Raises: RuntimeError, for here nothing moves time but `advance`."""
        raise RuntimeError("a clock in memory does not run: advance it")

    def advance(self, seconds: float) -> None:
        """Move time on; what becomes due is called on the way, each at its own time. Raises: ValueError."""
        _check(seconds)
        clock, made = self.clock, 0
        _moment(self.seconds() + seconds)
        end = clock.seconds() + seconds
        clock.advance(0)
        while (due := min((call.getTime() for call in clock.getDelayedCalls()), default=end)) < end:
            made = _counted(made)
            clock.rightNow = max(clock.rightNow, due)
            clock.advance(0)
        clock.rightNow = max(clock.rightNow, end)
        clock.advance(0)

    async def let_pass(self, seconds: float) -> None:
        """See HarnessClock: in memory everything has its turn at once."""
        self.advance(seconds)

    def restart(self) -> None:
        """Show the time as at the beginning; what waits does so for as long as before."""
        self._ahead = self._start - self.clock.seconds()

    def stop(self) -> None:
        """Nothing: the calls are not all of the harness's."""


def _check(seconds: float) -> None:
    if not (isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{seconds} is no time that can pass: seconds from 0 on are expected")


def _moment(at: float) -> float:
    """Return seconds since 1970 that have a date. Raises: ValueError."""
    if not 0 <= at < LATEST:
        raise ValueError(f"{at} is no time that a date can show:"
                         " seconds from 1970 to the year 9999 are expected")
    return at


def _counted(made: int) -> int:
    """Count a call that is due. Raises: RuntimeError, for one too many."""
    if made >= MOST_DUE:
        raise RuntimeError(f"{MOST_DUE:,} calls were due, and there are more: something repeats itself for as"
                           " long as time is moved; move it in smaller steps")
    return made + 1
