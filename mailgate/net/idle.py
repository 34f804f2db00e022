"""One clock a listener for every connection's silence; no connection has a timer of its own.

The clock ticks only while there are connections. At every tick each is asked whether it has been
silent too long, so a limit of n seconds acts between n and n + TICK_SECONDS.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

TICK_SECONDS = 5.0

log = Logger()


class Watched(Protocol):
    """A connection as the clock sees it."""

    def tick(self, now: float) -> None:
        """Called at every tick with its time, in seconds of the reactor's clock."""

    def dismiss(self) -> None:
        """Close politely, for a shutdown."""

    def cut(self) -> None:
        """Close at once."""


class IdleClock:
    """Ticks for the connections that are registered."""

    def __init__(self, clock: IReactorTime, *limits_seconds: float) -> None:
        self.watched: set[Watched] = set()
        # short limits, as a test or a harness sets them, want a finer tick
        self._tick_seconds = min([TICK_SECONDS, *(max(limit / 4, 0.05) for limit in limits_seconds)])
        self._clock = clock
        # no LoopingCall: it imports the global reactor, and so installs one, whatever clock it is given
        self._next: IDelayedCall | None = None
        self._began = 0.0       # when it began to tick: late ticks do not make the next ones late

    def add(self, connection: Watched) -> None:
        """Begin to tick for a connection."""
        self.watched.add(connection)
        if self._next is None:
            self._began = self._clock.seconds()
            self._wait()

    def discard(self, connection: Watched) -> None:
        """Forget a connection; the last one stops the clock."""
        self.watched.discard(connection)
        if not self.watched and self._next is not None:
            self._next.cancel()
            self._next = None

    def _wait(self) -> None:
        """Wait until the next tick is due."""
        # never longer than a tick, also where the system's clock was set back
        since = (self._clock.seconds() - self._began) % self._tick_seconds
        self._next = self._clock.callLater(self._tick_seconds - since, self._tick)

    def _tick(self) -> None:
        self._wait()
        now = self._clock.seconds()
        for connection in list(self.watched):
            try:
                connection.tick(now)
            except Exception:       # one connection's bug must not stop the clock of all others
                log.failure("a connection could not be looked after")
