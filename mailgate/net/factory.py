"""What every factory of ours does for its connections: one idle clock, and a shutdown that tells them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from mailgate.net.idle import IdleClock, Watched
from mailgate.net.linelog import LineLog

STOP_GRACE_SECONDS = 5.0   # how long a shutdown waits for clients to take what was sent
STOP_STORING_SECONDS = 5.0  # and then for what is being stored or removed, in a place that may not answer

log = Logger()


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
        self._patience: IDelayedCall | None = None      # of a shutdown

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
        """Tell every client and close; commits under way are finished. Fires when all are gone.

        Or when they have had their time: what is not stored by then goes on, and is answered if it
        ends before the process does.
        """
        self._stopping = True
        for connection in list(self.idle.watched):
            connection.dismiss()
        if not self.idle.watched:
            return succeed(None)
        self._all_gone = Deferred()
        self._patience = self.clock.callLater(STOP_GRACE_SECONDS, self._cut_all)
        return self._all_gone

    def ended(self, connection: Watched) -> None:
        """Note that a connection is gone, and watch it no more."""
        self.idle.discard(connection)
        if self.idle.watched:
            return
        self._lines.flush()
        self._wait_no_more()

    def _cut_all(self) -> None:
        self._patience = self.clock.callLater(STOP_STORING_SECONDS, self._leave_all)
        for connection in list(self.idle.watched):
            if not self._may_finish(connection):
                connection.cut()

    def _may_finish(self, connection: Any) -> bool:
        """Return whether a connection has some seconds more, for what the store does for it."""
        return False        # it may know by itself

    def _leave_all(self) -> None:
        self._lines.flush()
        self._tell_left()
        self._wait_no_more()

    def _tell_left(self) -> None:
        """Say what a shutdown waits for no longer."""
        log.warn("{count} connections do not end, and are not waited for", count=len(self.idle.watched))

    def _wait_no_more(self) -> None:
        gone, self._all_gone = self._all_gone, None
        patience, self._patience = self._patience, None
        if patience is not None and patience.active():
            patience.cancel()
        if gone is not None:
            gone.callback(None)
