"""One store of a merge: opened when it can be had, and looked for again while it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailgate.errors import MailgateError, StoreUnavailable
from mailgate.stores.merging.ids import PartIds
from mailgate.stores.threads import end_of

RETRY_SECONDS = 5.0         # between two tries to open a part that is down
START_SECONDS = 30.0        # how long the service's start waits for a part but the main one
OPTIONAL_SECONDS = 5.0      # how long a login waits for a part that it can do without

NOT_OPEN = "the store is not open"

log = Logger()


class Part:
    """A store by its name in the configuration.

    `shown`: its maildrops are part of the merge, and else only its accounts are. `optional`: logins do
    without it while it is down. `clock`: an IReactorTime.
    """

    def __init__(self, name: str, store: Any, ids: PartIds, *, clock: IReactorTime, optional: bool = False,
                 shown: bool = True) -> None:
        self.name = name
        self.store = store
        self.ids = ids
        self.optional = optional
        self.shown = shown
        self._clock = clock
        self._down: str | None = NOT_OPEN       # why it is; None: it is open
        self._retry: IDelayedCall | None = None
        self._starting: Deferred[None] | None = None
        self._wanted = False

    async def start(self) -> None:
        """Open the store. Raises: StoreUnavailable, and then it is tried again until `stop`."""
        self._wanted = True
        self._starting = Deferred()
        try:
            await self.store.start()
        except MailgateError as fault:
            self._down = str(fault)
            if self._wanted:
                self._retry = self._clock.callLater(RETRY_SECONDS, self._start_again)
            self.told(fault)
            raise
        else:
            self._down = None
        finally:
            starting, self._starting = self._starting, None
            starting.callback(None)

    def _start_again(self) -> None:
        self._retry = None
        Deferred.fromCoroutine(self.start()).addCallbacks(self._is_back, self._still_down)

    def _is_back(self, _: None) -> None:
        log.info("store {name} is open at last", name=self.name)

    def _still_down(self, failure: Failure) -> None:
        if not failure.check(MailgateError):
            log.failure("store {name} did not open", failure, name=self.name)

    def start_soon(self) -> Deferred[Any]:
        """Do what `start` does; what takes too long is not waited for: the store is there when it is open."""
        return self._within(Deferred.fromCoroutine(self.start()), self._is_back, START_SECONDS)

    async def stop(self) -> None:
        """Close the store, or give up waiting for it: one that opens too late is closed then."""
        self._wanted = False
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._starting is not None:
            await end_of([self._starting], self._clock)
        if self._starting is not None:
            log.warn("store {name} does not open, and is not waited for", name=self.name)
            self._starting.addCallback(lambda _: Deferred.fromCoroutine(self._close()))
            return
        await self._close()

    async def _close(self) -> None:
        if self._down is None:
            self._down = NOT_OPEN
            await self.store.stop()

    def call(self, method: str, *args: object) -> Deferred[Any]:
        """Call a method of the store. Raises: what it raises, with the part's name in its text."""
        if self._down is not None:
            return fail(self.told(StoreUnavailable(self._down)))
        calling: Deferred[Any] = getattr(self.store, method)(*args)
        return calling.addErrback(self._name_fault)

    def call_or_skip(self, method: str, *args: object,
                     undo: Callable[[Any], object] = lambda result: None) -> Deferred[Any]:
        """Do what `call` does; of an optional part that cannot be had, return None and say so in the log.

        One that takes too long is not waited for; what it gives later is given to `undo`.
        """
        calling = self.call(method, *args)
        if not self.optional:
            return calling
        return self._within(calling, undo, OPTIONAL_SECONDS).addErrback(self._skip)

    def _skip(self, failure: Failure) -> None:
        failure.trap(StoreUnavailable)
        log.warn("{fault}; it is done without", fault=failure.getErrorMessage())

    def _within(self, calling: Deferred[Any], undo: Callable[[Any], object], seconds: float) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        late = StoreUnavailable(f"store {self.name}: no answer in {seconds:g} seconds")
        patience = self._clock.callLater(seconds, waiting.errback, late)

        def arrived(outcome: Any) -> None:
            if not waiting.called:
                patience.cancel()
                waiting.callback(outcome)       # a Failure goes the errback's way
            elif not isinstance(outcome, Failure):
                undo(outcome)
            elif not outcome.check(MailgateError):
                log.failure("a bug in store {name}", outcome, name=self.name)

        calling.addBoth(arrived)
        return waiting

    def _name_fault(self, failure: Failure) -> Failure:
        if isinstance(failure.value, MailgateError):
            self.told(failure.value)
        return failure

    def told(self, fault: MailgateError) -> MailgateError:
        """Put the part's name into a fault's text."""
        fault.args = (f"store {self.name}: {fault}" if str(fault) else f"store {self.name}",)
        return fault


