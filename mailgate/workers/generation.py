"""The workers of one configuration: begun together, each replaced when it dies, ended together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.logger import Logger

from mailgate.workers.process import WorkerFailed, WorkerProcess

STEADY_SECONDS = 60.0       # a worker that lived for so long is replaced at once
FIRST_PAUSE_SECONDS = 1.0   # before one that did not; each time twice as long ...
MOST_PAUSE_SECONDS = 60.0   # ... up to this
CLOSED_SECONDS = 1.0        # for workers to give up their ports

log = Logger()


class Place:
    """One of N: the worker that has it, and how long the next one waits."""

    def __init__(self) -> None:
        self.worker: WorkerProcess | None = None
        self.pause_seconds = 0.0
        self.call: Any = None           # that begins the next one

    @property
    def serves(self) -> bool:
        return self.worker is not None and self.worker.serves


class Generation:
    """`count` workers that serve what `order` says at sockets (descriptors).

    `make` makes a worker of an order. `served` and `died` are told of each that begins to serve, and of
    each that is dead.
    """

    def __init__(self, order: dict[str, Any], count: int, sockets: Sequence[int], reactor: Any, *,
                 make: Callable[[dict[str, Any]], WorkerProcess], served: Callable[[], None],
                 died: Callable[[WorkerProcess], None]) -> None:
        self.gone: Deferred[None] = Deferred()      # once it was ended or drained, and no worker is left
        self._order = order
        self._sockets = sockets
        self._reactor = reactor
        self._make = make
        self._served = served
        self._died = died
        self._places = [Place() for _ in range(count)]
        self._all: set[WorkerProcess] = set()
        self._stands = False
        self._leaves = False

    @property
    def serving(self) -> list[WorkerProcess]:
        """The workers that serve."""
        return [place.worker for place in self._places if place.worker is not None and place.worker.serves]

    async def start(self) -> None:
        """Begin the first worker, and when it serves all others: the store is brought up to date once.

        Raises: WorkerFailed, when one of them fails; then it has to be ended.
        """
        first, *others = self._places
        for places in [first], others:
            outcomes = await gatherResults([self._begin(place) for place in places])
            for fault in outcomes:
                if fault is not None:
                    raise fault
        if self._leaves:
            raise WorkerFailed(["ended meanwhile"])
        self._stands = True
        for place in self._places:
            if not place.serves:        # it died while others began
                self._replace(place, "has ended already")

    def _begin(self, place: Place) -> Deferred[WorkerFailed | None]:
        worker = place.worker = self._make(self._order)
        place.call = None
        self._all.add(worker)
        outcome: Deferred[WorkerFailed | None] = Deferred()

        def known(fault: WorkerFailed | None) -> None:
            if fault is None:
                self._served()
            outcome.callback(fault)

        worker.ready.addCallback(known)
        worker.over.addCallback(self._over, place, worker)
        worker.begin(self._sockets)
        return outcome

    def _over(self, how: str, place: Place, worker: WorkerProcess) -> None:
        self._all.discard(worker)
        self._died(worker)
        if self._leaves:
            if not self._all and not self.gone.called:
                self.gone.callback(None)
        elif self._stands:
            self._replace(place, f"{worker.pid} {how}")

    def _replace(self, place: Place, how: str) -> None:
        """Begin another worker: at once, or later where the last one did not live for long."""
        assert place.worker is not None
        if self._reactor.seconds() - place.worker.began >= STEADY_SECONDS:
            place.pause_seconds = 0.0
        seconds = place.pause_seconds
        log.error("worker {how}; another one begins {then}", how=how,
                  then=f"in {seconds:g} s" if seconds else "now")
        place.pause_seconds = min(max(FIRST_PAUSE_SECONDS, 2 * seconds), MOST_PAUSE_SECONDS)
        place.call = self._reactor.callLater(seconds, self._begin, place)

    # The end ----------------------------------------------------------------------------------

    def drain(self) -> Deferred[Any]:
        """Accept nobody any more, and end with the last session. Fires when the ports are given up."""
        return self._leave("drain")

    def end(self) -> Deferred[Any]:
        """Tell the sessions and end. Fires when the ports are given up; `gone`, when all is over."""
        return self._leave("end")

    def _leave(self, do: str) -> Deferred[Any]:
        self._leaves = True
        for place in self._places:
            if place.call is not None and place.call.active():
                place.call.cancel()
        if not self._all and not self.gone.called:
            self.gone.callback(None)
        for worker in self._all:
            worker.say(do=do)
        closed = DeferredList([_also(worker.closed) for worker in self._all], consumeErrors=True)
        return closed.addTimeout(CLOSED_SECONDS, self._reactor, onTimeoutCancel=lambda *_: None)

    def kill(self) -> None:
        """End at once what is left."""
        for worker in self._all:
            log.error("worker {pid} does not end, and is killed", pid=worker.pid)
            worker.kill()


def _also(deferred: Deferred[None]) -> Deferred[None]:
    """Return one that fires with another, for whoever may give up waiting for it."""
    mine: Deferred[None] = Deferred()

    def fire(result: None) -> None:
        if not mine.called:
            mine.callback(None)

    deferred.addCallback(fire)
    return mine
