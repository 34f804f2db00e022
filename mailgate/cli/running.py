"""Run the asynchronous store for the length of one command."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.python.failure import Failure

from mailgate.assembly.store import make_store
from mailgate.config import Config

Result = TypeVar("Result")


def with_store(config: Config, work: Callable[[Any], Awaitable[Result]], *, create: bool = False) -> Result:
    """Open the store, await `work(store)`, close the store, and return the result.

    With `create` the store is made where it is missing.
    Raises: what the work raises; StoreUnavailable; KeyboardInterrupt, when a signal ended it first.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    outcome: list[Any] = []
    store = make_store(config, reactor, create=create)

    async def session() -> Result:
        await store.start()
        reactor.addSystemEventTrigger("before", "shutdown", store.stop)
        return await work(store)

    def begin() -> None:
        Deferred.fromCoroutine(session()).addBoth(outcome.append).addBoth(lambda _: end())

    def end() -> None:
        with suppress(ReactorNotRunning):       # a signal was quicker
            reactor.stop()

    reactor.callWhenRunning(begin)
    with SIGNALS.caught(lambda: reactor.callFromThread(end)):
        reactor.run(installSignalHandlers=False)
    if not outcome:
        raise KeyboardInterrupt
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    result: Result = outcome[0]
    return result


class Signals:
    """SIGINT and SIGTERM while a command runs: they end the reactor, or a read that waits for input.

    Twisted's own handlers would let the read go on, and take what came until then for the whole.
    """

    def __init__(self) -> None:
        self._reading = False
        self._came = False

    @contextmanager
    def caught(self, end: Callable[[], None]) -> Iterator[None]:
        """Have `end` called when a signal comes outside of a read."""
        def arrived(number: int, frame: object) -> None:
            self._came = True
            if self._reading:
                raise KeyboardInterrupt
            end()

        before = {number: signal.signal(number, arrived) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, kept in before.items():
                signal.signal(number, kept)

    def read(self, descriptor: int, octets: int) -> bytes:
        """Return what can be read now, waiting for some; empty at the end. Raises: KeyboardInterrupt."""
        self._reading = True
        try:
            if self._came:
                raise KeyboardInterrupt
            return os.read(descriptor, octets)
        finally:
            self._reading = False


SIGNALS = Signals()     # of the process, as signals are
