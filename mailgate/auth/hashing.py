"""A small pool of threads for password hashes, bounded, and fair between the clients' networks.

A hash takes tens of milliseconds on purpose. So nobody may crowd others out: networks take turns, and
when the queue is full, the network that has most waiting gives up its latest call for a newcomer.
Networks from which many logins were refused share one turn: ten thousand that guess are one.
"""

from __future__ import annotations

import functools
import ipaddress
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar, Union

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from mailgate.auth import hashes
from mailgate.auth.turns import Turns
from mailgate.errors import TooBusy

LOCAL_NETWORK = "local"     # unix sockets and whoever has no address
_SUSPECTS = "suspects"      # where all those wait together; no network is called so
_IPV4_PREFIX, _IPV6_PREFIX = 24, 56     # what one customer of a provider commonly holds, or shares

Result = TypeVar("Result")


class Hashing(Protocol):
    """Where checkers have their password hashes computed."""

    def run(self, network: str, function: Callable[..., Result], *args: Any) -> Deferred[Result]:
        """Call the function with the arguments, its turn being its network's.

        Raises: TooBusy. Cancelling drops work that was not begun, and the outcome of what was.
        """


class Inline:
    """Hashing without threads: blocks at once. For tests and for programs that do nothing else."""

    def run(self, network: str, function: Callable[..., Result], *args: Any) -> Deferred[Result]:
        """Call the function now."""
        return maybeDeferred(function, *args)


class _Job:
    """One call, on its way through the pool."""

    __slots__ = ("network", "place", "function", "args", "deferred")

    def __init__(self, network: str, suspect: bool, function: Callable[..., Any], args: tuple[Any, ...],
                 drop: Callable[[_Job], None]) -> None:
        self.network = network
        self.place = _SUSPECTS if suspect else network
        self.function = function
        self.args = args
        self.deferred: Deferred[Any] = Deferred(lambda _: drop(self))

    def perform(self) -> Any:
        """Return the outcome, a Failure if there was an exception. Runs in a thread of the pool."""
        try:
            return self.function(*self.args)
        except BaseException:       # handed over whatever it is, as deferToThread does
            return Failure()


class _End:
    """Ends the threads that a pool had when it was stopped."""

    __slots__ = ("left", "done")

    def __init__(self, threads: int) -> None:
        self.left = threads
        self.done: Deferred[None] = Deferred()

    def ended(self) -> None:
        """One thread has ended."""
        self.left -= 1
        if not self.left:
            self.done.callback(None)


_Work = Union[_Job, _End]


class HashPool:
    """At most `threads` daemon threads, begun when first needed; called in the reactor's thread.

    `queue_limit` bounds the calls that wait; a network that is alone may fill the whole queue. A thread
    that is done takes the next call by itself: a busy reactor must not keep it waiting. `suspect`
    tells of a network whether it shares its turn with others of the kind; it may be set later, and is
    called from any thread.
    """

    def __init__(self, reactor: IReactorFromThreads, *, threads: int = 1, queue_limit: int = 2048,
                 suspect: Callable[[str], bool] = lambda network: False) -> None:
        self._reactor = reactor
        self.suspect = suspect
        self._most_threads = threads
        self._queue_limit = queue_limit
        self._running = False
        self._lock = threading.Lock()        # over the next two; nobody is called back while it is held
        self._queue: Turns[_Job] = Turns(lambda job: job.place, _queue_of)
        self._busy = 0                       # calls that are with a thread
        self._threads = 0
        self._work: SimpleQueue[_Work] = SimpleQueue()      # never holds more than the threads take at once

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        return len(self._queue)

    def start(self) -> None:
        """Take calls from now on. No thread begins before the first."""
        hashes.load()       # before there is a client who would wait for it
        self._running = True

    def stop(self) -> Deferred[None]:
        """Refuse what waits and what comes; return when the threads have ended, their last call done."""
        self._running = False
        with self._lock:
            waiting = self._queue.clear()
        end = _End(self._threads)
        for _ in range(self._threads):
            self._work.put(end)
        self._work, self._threads = SimpleQueue(), 0        # another start begins other threads
        for job in waiting:
            job.deferred.errback(TooBusy("the hashing pool is stopping"))
        return end.done if end.left else succeed(None)

    def run(self, network: str, function: Callable[..., Result], *args: Any) -> Deferred[Result]:
        """See `Hashing.run`. A pool that is not running is too busy as well."""
        if not self._running:
            return fail(TooBusy("the hashing pool is not running"))
        job = _Job(network, self.suspect(network), function, args, self._drop)
        refused = self._enqueue(job)
        if refused is not None:
            refused.deferred.errback(TooBusy(f"{self.waiting} password checks wait, others come first"))
        self._hand_out()
        return job.deferred

    def _enqueue(self, job: _Job) -> _Job | None:
        """Let a call wait. Return the one that there is no place for, if the queue is full."""
        refused = None
        with self._lock:
            if len(self._queue) >= self._queue_limit:
                refused = self._queue.give_way(job)
                if refused is None:
                    return job
            self._queue.append(job)
        return refused

    def _take_turn(self) -> _Job | None:
        """Take the next call out. The lock is held.

        What came before its network was suspected waits on among the suspects.
        """
        while self._queue:
            job = self._queue.popleft()
            if job.place == _SUSPECTS or not self.suspect(job.network):
                return job
            job.place = _SUSPECTS
            self._queue.append(job)
        return None

    def _hand_out(self) -> None:
        """Give every free thread the next call."""
        while True:
            with self._lock:
                job = self._take_turn() if self._busy < self._most_threads else None
                if job is None:
                    return
                self._busy += 1
                begun = self._threads < self._busy
            if begun:
                self._begin_thread()
            self._work.put(job)

    def _begin_thread(self) -> None:
        self._threads += 1
        threading.Thread(target=self._serve, args=(self._work,), daemon=True,
                         name=f"mailgate-hashing-{self._threads}").start()

    def _serve(self, work: SimpleQueue[_Work]) -> None:
        while isinstance(given := work.get(), _Job):
            job: _Job | None = given
            del given       # it holds a password: keep it no longer than the call takes
            while job is not None:
                outcome, done = job.perform(), job
                job = self._next(work)
                self._reactor.callFromThread(self._done, done, outcome)
                del done, outcome
        self._reactor.callFromThread(given.ended)

    def _next(self, work: SimpleQueue[_Work]) -> _Job | None:
        """Return the next call for a thread that has finished one; None: it is free, or to end."""
        with self._lock:
            job = self._take_turn() if work is self._work else None
            if job is None:
                self._busy -= 1
            return job

    def _done(self, job: _Job, outcome: Any) -> None:
        self._hand_out()                    # to a thread of another start, where the last one's was at work
        if not job.deferred.called:         # else it was cancelled while it ran
            job.deferred.callback(outcome)

    def _drop(self, job: _Job) -> None:
        """Take a cancelled call out of its queue, if it is still there."""
        with self._lock:
            self._queue.remove(job)


def _queue_of(place: str) -> deque[_Job] | Turns[_Job]:
    """Return the queue of a network; that of the suspects, who take turns among themselves."""
    return Turns(lambda job: job.network) if place == _SUSPECTS else deque()


@functools.lru_cache(maxsize=4096)
def network_of(host: str | None) -> str:
    """Return the network of a client's address: its IPv4 /24 or IPv6 /56, or `LOCAL_NETWORK`."""
    if not host:
        return LOCAL_NETWORK
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return LOCAL_NETWORK
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    prefix = _IPV4_PREFIX if address.version == 4 else _IPV6_PREFIX
    return str(ipaddress.ip_network((address, prefix), strict=False))


def default_pool(reactor: Any) -> HashPool:
    """Return a started pool that ends with the reactor, for a checker that was given none."""
    pool = HashPool(reactor)
    pool.start()
    reactor.addSystemEventTrigger("during", "shutdown", pool.stop)
    return pool
