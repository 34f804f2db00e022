"""Threads for files of other programs: their disks may hang, and nothing else waits for them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from mailgate.errors import MailgateError, StoreUnavailable
from mailgate.stores.files import os_fault
from mailgate.stores.threads import STOP_SECONDS, DaemonThreads, end_of

THREADS = 8

T = TypeVar("T")
log = Logger()


class SpoolThreads:
    """A few threads; those that are stuck do not keep the process alive."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pool: ThreadPool | None = None
        self._under_way: set[Deferred[Any]] = set()     # each fires, with nothing, at the end of some work

    def start(self) -> None:
        """Begin to take calls."""
        self._pool = DaemonThreads(0, THREADS, "mailgate spools")
        self._pool.start()

    async def stop(self) -> None:
        """See through what is under way, and take no calls any more.

        A disk may not answer at all: what is late finds no threads, as if the process had been killed.
        """
        late = self._reactor.seconds() + STOP_SECONDS
        while self._under_way and self._reactor.seconds() < late:       # more may have been begun
            await end_of(self._under_way, self._reactor)
        if self._under_way:
            log.warn("{count} pieces of work in files of other programs do not end, and are not waited for",
                     count=len(self._under_way))
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Run what blocks in a thread. Raises: what it raises, as a MailgateError."""
        if self._pool is None:
            return fail(StoreUnavailable("the store is not open"))
        call: Deferred[T] = deferToThreadPool(self._reactor, self._pool, function, *args)
        return call.addErrback(_as_ours)

    def see_through(self, work: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
        """Do some work to its end, also when whoever waits for it gives up."""
        wanted = True

        def give_up(_: Deferred[T]) -> None:
            nonlocal wanted
            wanted = False

        def done(result: T | Failure) -> None:
            self._under_way.discard(end)
            end.callback(None)
            if wanted:
                outcome.callback(result)
            elif isinstance(result, Failure) and not result.check(MailgateError):
                log.failure("a bug in the store", result)

        outcome: Deferred[T] = Deferred(give_up)
        end: Deferred[None] = Deferred()
        self._under_way.add(end)
        Deferred.fromCoroutine(work).addBoth(done)
        return outcome


def _as_ours(failure: Failure) -> Failure:
    """Turn what came out of a thread into a fault that others know; log what an operator must know."""
    if failure.check(MailgateError, CancelledError):
        return failure
    if isinstance(failure.value, OSError):
        log.error("mail cannot be reached: {reason}", reason=failure.value)
        return Failure(os_fault(failure.value))
    log.failure("a bug in the store", failure)
    return Failure(StoreUnavailable(f"{type(failure.value).__name__}: {failure.value}"))
