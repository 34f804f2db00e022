"""Run the asynchronous store for the length of one command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
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
    reactor.run()
    if not outcome:
        raise KeyboardInterrupt
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    result: Result = outcome[0]
    return result
