"""A small pool of threads for password hashes, bounded, and fair between the clients' networks.

A hash takes tens of milliseconds on purpose. So nobody may crowd others out: networks take turns, and
when the queue is full, the network that has most waiting gives up its latest call for a newcomer.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar, Union

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from mailgate.errors import TooBusy

LOCAL_NETWORK = "local"     # unix sockets and whoever has no address
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

    __slots__ = ("network", "function", "args", "deferred")

    def __init__(self, network: str, function: Callable[..., Any], args: tuple[Any, ...],
                 drop: Callable[[_Job], None]) -> None:
        self.network = network
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
    """At most `threads` daemon threads, begun when first needed; lives in the reactor's thread.

    `queue_limit` bounds the calls that wait; a network that is alone may fill the whole queue.
    """

    def __init__(self, reactor: IReactorFromThreads, *, threads: int = 1, queue_limit: int = 2048) -> None:
        self._reactor = reactor
        self._most_threads = threads
        self._queue_limit = queue_limit
        self._running = False
        self._waiting = 0
        self._queues: OrderedDict[str, deque[_Job]] = OrderedDict()   # next turn first; none is empty
        self._busy = 0                       # calls that are with a thread
        self._threads = 0
        self._work: SimpleQueue[_Work] = SimpleQueue()      # never holds more than the threads take at once

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        return self._waiting

    def start(self) -> None:
        """Take calls from now on. No thread begins before the first."""
        self._running = True

    def stop(self) -> Deferred[None]:
        """Refuse what waits and what comes; return when the threads have ended, their last call done."""
        self._running = False
        waiting = [job for queue in self._queues.values() for job in queue]
        self._queues.clear()
        self._waiting = 0
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
        if self._waiting >= self._queue_limit and not self._make_room(network):
            return fail(TooBusy(f"{self._waiting} password checks wait, network {network}"))
        job = _Job(network, function, args, self._drop)
        self._queues.setdefault(network, deque()).append(job)
        self._waiting += 1
        self._hand_out()
        return job.deferred

    def _make_room(self, network: str) -> bool:
        """Refuse the latest call of the longest queue, if that is longer than the newcomer's own."""
        longest = max(self._queues.values(), key=len)
        if len(longest) <= len(self._queues.get(network, ())) + 1:
            return False
        refused = longest.pop()
        self._waiting -= 1
        refused.deferred.errback(TooBusy(f"{self._waiting} password checks wait, others come first"))
        return True

    def _hand_out(self) -> None:
        """Give every free thread the next call, one network after the other."""
        while self._queues and self._busy < self._most_threads:
            network, queue = self._queues.popitem(last=False)
            job = queue.popleft()
            if queue:
                self._queues[network] = queue       # its next turn comes after all others'
            self._waiting -= 1
            self._busy += 1
            if self._threads < self._busy:
                self._begin_thread()
            self._work.put(job)

    def _begin_thread(self) -> None:
        self._threads += 1
        threading.Thread(target=self._serve, args=(self._work,), daemon=True,
                         name=f"mailgate-hashing-{self._threads}").start()

    def _serve(self, work: SimpleQueue[_Work]) -> None:
        while isinstance(job := work.get(), _Job):
            self._reactor.callFromThread(self._done, job, job.perform())
            del job         # it holds a password: keep it no longer than the call takes
        self._reactor.callFromThread(job.ended)

    def _done(self, job: _Job, outcome: Any) -> None:
        self._busy -= 1
        self._hand_out()
        if not job.deferred.called:         # else it was cancelled while it ran
            job.deferred.callback(outcome)

    def _drop(self, job: _Job) -> None:
        """Take a cancelled call out of its queue, if it is still there."""
        queue = self._queues.get(job.network)
        if queue is not None and job in queue:
            queue.remove(job)
            self._waiting -= 1
            if not queue:
                del self._queues[job.network]


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
