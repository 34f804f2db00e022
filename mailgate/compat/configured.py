"""The configured store as a `twisted.cred` portal, for an application's own POP3 service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from mailgate.assembly.auth import Doors
from mailgate.assembly.store import make_store
from mailgate.auth.hashing import HashPool
from mailgate.auth.mailboxes import MaildropMailbox
from mailgate.config import load
from mailgate.errors import StoreUnavailable


def portal(path: str | Path, *, reactor: Any = None) -> ConfiguredPortal:
    """Return a Portal over the store, the accounts and the checkers of a configuration file.

    Its realm hands out IMailboxPOP3 and IMaildrop. Nothing is opened before the first login; the
    store is closed, and its leases given up, when the reactor stops. Listeners and housekeeping of
    the configuration are left to the service. Raises: ConfigurationError.
    """
    if reactor is None:
        from twisted.internet import reactor
    config = load(path)
    store = make_store(config, reactor)
    pool = HashPool(reactor, threads=config.limits.hash_threads)
    doors = Doors(config, store, pool, reactor)
    return ConfiguredPortal(doors.portal(mailbox=MaildropMailbox), store, pool, reactor)


class ConfiguredPortal(Portal):
    """A portal that opens its store with the first login. `store` is the IMaildropStore behind it."""

    def __init__(self, inner: Portal, store: Any, pool: HashPool, reactor: Any) -> None:
        super().__init__(inner.realm)
        self.checkers = inner.checkers          # of both: what is registered here is asked there
        self.store = store
        self._inner = inner
        self._pool = pool
        self._reactor = reactor
        self._trigger: Any = None
        self._open = self._stopped = False
        self._waiting: list[Deferred[None]] = []    # who waits for the store to open

    def login(self, credentials: Any, mind: Any, *interfaces: Any) -> Deferred[Any]:
        """See Portal.login and MailgatePortal.login. Raises: StoreUnavailable too, after `stop`."""
        return Deferred.fromCoroutine(self._logIn(credentials, mind, interfaces))

    async def _logIn(self, credentials: Any, mind: Any, interfaces: tuple[Any, ...]) -> Any:
        await self.start()
        return await self._inner.login(credentials, mind, *interfaces)

    def start(self) -> Deferred[None]:
        """Open the store, once; a failed attempt is made anew by the next call. Raises: StoreUnavailable."""
        if self._open:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            Deferred.fromCoroutine(self._begin()).addBoth(self._tell)
        return waiting

    def stop(self) -> Deferred[None]:
        """Give up every lease and close the store, for good. The reactor's end does the same."""
        if self._trigger is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
            self._trigger = None
        return Deferred.fromCoroutine(self._end())

    async def _begin(self) -> None:
        if self._stopped:
            raise StoreUnavailable("the portal was stopped")
        await self.store.start()
        if self._stopped:
            await self.store.stop()
            raise StoreUnavailable("the portal was stopped meanwhile")
        self._pool.start()
        self._trigger = self._reactor.addSystemEventTrigger(
            "during", "shutdown", lambda: Deferred.fromCoroutine(self._end()))
        self._open = True

    async def _end(self) -> None:
        was_open, self._open, self._stopped = self._open, False, True
        if was_open:
            await self._pool.stop()
            await self.store.stop()

    def _tell(self, outcome: Failure | None) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.called:                  # else its client has gone
                one.callback(outcome)           # a Failure goes the errback's way
