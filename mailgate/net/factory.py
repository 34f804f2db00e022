"""What every factory of ours does for its connections: one idle clock, and a shutdown that tells them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from mailgate.net.idle import IdleClock, Watched
from mailgate.net.linelog import LineLog

STOP_GRACE_SECONDS = 5.0   # how long a shutdown waits for clients to take what was sent


class ServerFactory(Factory):
    """Makes connections; a subclass says which.

    `clock`: IReactorTime, None for the global reactor. `limits_seconds` are those that connections
    hold silence to: how finely the idle clock ticks depends on them.
    """

    noisy = False

    def __init__(self, clock: IReactorTime | None, *limits_seconds: float) -> None:
        if clock is None:
            from twisted.internet import reactor
            clock = IReactorTime(reactor)
        self.clock: Any = clock
        self.idle = IdleClock(clock, *limits_seconds)
        self._lines = LineLog(clock)
        self._stopping = False
        self._all_gone: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """Return a connection's protocol; None while stopping, and then it is closed."""
        return None if self._stopping else self._connection(addr)

    def _connection(self, addr: IAddress | None) -> Protocol:
        """Return a connection's protocol."""
        raise NotImplementedError

    def tell(self, log: Logger, told: str) -> None:
        """Write a log line; where many come, soon."""
        self._lines.add(log, told)
        if not self.idle.watched:
            self._lines.flush()

    def shutdown(self) -> Deferred[None]:
        """Tell every client and close; commits under way are finished. Fires when all are gone."""
        self._stopping = True
        for connection in list(self.idle.watched):
            connection.dismiss()
        if not self.idle.watched:
            return succeed(None)
        self._all_gone = Deferred()
        grace = self.clock.callLater(STOP_GRACE_SECONDS, self._cut_all)

        def ungrace(result: None) -> None:
            if grace.active():
                grace.cancel()

        return self._all_gone.addBoth(ungrace)

    def ended(self, connection: Watched) -> None:
        """Note that a connection is gone, and watch it no more."""
        self.idle.discard(connection)
        if self.idle.watched:
            return
        self._lines.flush()
        if self._all_gone is not None:
            gone, self._all_gone = self._all_gone, None
            gone.callback(None)

    def _cut_all(self) -> None:
        for connection in list(self.idle.watched):
            connection.cut()
