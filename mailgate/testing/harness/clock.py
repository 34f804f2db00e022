"""The harness's clock: it runs with the world's, or is held and moves only when a test says so.

Seconds count from 1970, so that messages are dated by it. A call without delay is made in the reactor's
next turn, held or not: it waits for nobody's time, only for its turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from zope.interface import implementer

GAP_SECONDS = 0.01      # between two segments that are to arrive apart; of the world's time, held or not


@implementer(IReactorTime)
class HarnessClock:
    """Time over a reactor. To be used in the reactor's thread.

    `held`: from the beginning, at `now`, seconds since 1970 (left out: the time of day).
    """

    def __init__(self, reactor: Any, *, held: bool = False, now: float | None = None) -> None:
        self._reactor = reactor
        self._inner = Clock()
        self._inner.rightNow = time.time() if now is None else now
        self._ahead = self._inner.rightNow - reactor.seconds()      # of the reactor's seconds
        self._wake: IDelayedCall | None = None
        self._waking = 0.0
        self.held = held

    def seconds(self) -> float:
        """Return the seconds since 1970."""
        if not self.held:
            self._inner.rightNow = max(self._inner.rightNow, self._reactor.seconds() + self._ahead)
        return self._inner.rightNow

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> Any:
        """See IReactorTime."""
        if delay <= 0:
            return self._reactor.callLater(0, callable, *args, **kw)
        self.seconds()
        call = self._inner.callLater(delay, callable, *args, **kw)
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
        """Move time on, held or not; what becomes due is called on the way, in its order."""
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"time cannot be advanced by {seconds} seconds")
        end = self.seconds() + seconds
        while True:
            due = min((call.getTime() for call in self._inner.getDelayedCalls()), default=end)
            if due >= end:
                break
            self._move(due)
        self._move(end)
        self._ahead += seconds
        self._watch()

    def _move(self, to: float) -> None:
        """Be at a time, and call who waits for it."""
        self._inner.rightNow = max(self._inner.rightNow, to)
        self._inner.advance(0)

    def stop(self) -> None:
        """Call nobody any more."""
        for call in self._inner.getDelayedCalls():
            call.cancel()
        self._watch()

    def _watch(self) -> None:
        """Have the reactor wake this clock when the next call is due."""
        calls = [] if self.held else self._inner.getDelayedCalls()
        soonest = min((call.getTime() for call in calls), default=None)
        if self._wake is not None and self._wake.active():
            if soonest == self._waking:
                return
            self._wake.cancel()
        self._wake = None
        if soonest is not None:
            self._waking = soonest
            self._wake = self._reactor.callLater(max(0.0, soonest - self.seconds()), self._due)

    def _due(self) -> None:
        self._wake = None
        self.seconds()
        self._inner.advance(0)
        self._watch()
