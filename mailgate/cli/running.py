"""Run the asynchronous store for the length of one command."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.assembly.store import make_store
from mailgate.cli.rights import stand_in, take_on, user_name
from mailgate.cli.telling import Refusal
from mailgate.config import Config
from mailgate.errors import StoreUnavailable

Result = TypeVar("Result")


def with_store(config: Config, work: Callable[[Any], Awaitable[Result]], *, create: bool = False) -> Result:
    """Open the store, await `work(store)`, close the store, and return the result.

    With `create` the store is made where it is missing. Root works in the place of the store's owner,
    from here on (see `cli.rights`).
    Raises: what the work raises; StoreUnavailable; KeyboardInterrupt, when a signal ended it first.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    store = make_store(config, reactor, create=create)
    user = stand_in(config)
    if user is not None:
        take_on(user)

    async def session() -> Result:
        try:
            await store.start()
        except StoreUnavailable as fault:
            if user is None:
                raise
            raise StoreUnavailable(f"{fault} (as {user_name(user)}, whose folder it is)") from fault
        reactor.addSystemEventTrigger("before", "shutdown", store.stop)
        return await work(store)

    return _run(reactor, session)


def with_stores(configs: Sequence[Config], work: Callable[..., Awaitable[Result]], *,
                create: Config | None = None) -> Result:
    """Await `work(*stores)`, one store a configuration, and return the result. The work opens them.

    They are closed at the end. The store of `create` is made where it is missing. Root works in the place
    of their owner.
    Raises: what the work raises; Refusal, if root would have to stand in for several users;
    KeyboardInterrupt, when a signal ended it first.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    stores = [make_store(config, reactor, create=config is create) for config in configs]
    users = {user for user in map(stand_in, configs) if user is not None}
    if len(users) > 1:
        names = " and ".join(sorted(map(user_name, users)))
        raise Refusal(f"the stores belong to {names}: let one do this who may use both",
                      code=os.EX_NOPERM)
    for user in users:
        take_on(user)

    async def session() -> Result:
        for store in stores:
            reactor.addSystemEventTrigger("before", "shutdown", store.stop)
        return await work(*stores)

    return _run(reactor, session)


def without_store(work: Callable[[Any], Awaitable[Result]]) -> Result:
    """Await `work(reactor)` and return the result. A process does this or `with_store`, and once.

    A reactor runs only once, and TLS knows no other than the process's.
    Raises: what the work raises; KeyboardInterrupt, when a signal ended it first.
    """
    from twisted.internet import reactor

    return _run(reactor, lambda: work(reactor))


def _run(reactor: Any, work: Callable[[], Awaitable[Result]]) -> Result:
    outcome: list[Any] = []

    async def working() -> Result:
        return await work()

    def begin() -> None:
        Deferred.fromCoroutine(working()).addBoth(outcome.append).addBoth(lambda _: end())

    def end() -> None:
        with suppress(ReactorNotRunning):       # a signal was quicker
            reactor.stop()

    reactor.callWhenRunning(begin)
    with SIGNALS.caught(reactor, end):
        reactor.run(installSignalHandlers=False)
    if not outcome:
        raise KeyboardInterrupt
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    result: Result = outcome[0]
    return result


class Signals:
    """SIGINT and SIGTERM while a command runs: they end the reactor, or a read that waits for input.

    Twisted's own handlers would let the read go on, and take what came until then for the whole. A
    signal writes into a pipe: one that comes just before a system call is not slept over.
    """

    def __init__(self) -> None:
        self._pipe = -1     # readable once a signal has come

    @contextmanager
    def caught(self, reactor: Any, end: Callable[[], None]) -> Iterator[None]:
        """Have `end` called by the reactor when a signal has come."""
        self._pipe, written = os.pipe()
        os.set_blocking(written, False)
        woken_before = signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        before = {number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)}
        watch = _Watch(self._pipe, reactor, end)
        reactor.addReader(watch)
        try:
            yield
        finally:
            reactor.removeReader(watch)
            for number, kept in before.items():
                signal.signal(number, kept)
            signal.set_wakeup_fd(woken_before)
            os.close(self._pipe)
            os.close(written)

    def read(self, descriptor: int, octets: int) -> bytes:
        """Return what can be read now, waiting for some; empty at the end. Raises: KeyboardInterrupt."""
        both = select.poll()
        for one in (descriptor, self._pipe):
            both.register(one, select.POLLIN)
        if self._pipe in dict(both.poll()):
            raise KeyboardInterrupt
        return os.read(descriptor, octets)


def _ignore(number: int, frame: object) -> None:
    """Do nothing: what Python writes into the pipe is what counts."""


@implementer(IReadDescriptor)
class _Watch:
    """Looks at a pipe and takes nothing out of it: a read that comes later must see the signal too."""

    def __init__(self, pipe: int, reactor: Any, end: Callable[[], None]) -> None:
        self._pipe = pipe
        self._reactor = reactor
        self._end = end

    def fileno(self) -> int:
        return self._pipe

    def doRead(self) -> None:
        self._reactor.removeReader(self)
        self._end()

    def connectionLost(self, reason: object) -> None:
        """Nothing is to be closed here."""

    def logPrefix(self) -> str:
        return "signals"


SIGNALS = Signals()     # of the process, as signals are
