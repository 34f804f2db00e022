"""What the parts of a store over SQL share: its threads, its holder, and what it keeps in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from mailgate.errors import MailgateError, StoreUnavailable
from mailgate.interfaces import IBlobStore
from mailgate.stores.readahead import ReadAhead
from mailgate.stores.sql.cursor import Cursor
from mailgate.stores.sql.leases import Holder, Lease, drop_holder, release, release_sessions, renew
from mailgate.stores.sql.messages import Snapshot, bury
from mailgate.stores.threads import DaemonThreads, end_of

RENEWALS_A_LEASE = 3            # a renewal may be late by two thirds of the lease
BLOB_THREADS = 8
OTHERS_SECONDS = 0.03           # they look again and again, in their first 0.1 s every 0.025 or sooner
SNAPSHOT_CACHE_OCTETS = 128 * 1024 * 1024
SNAPSHOT_OCTETS = 1000          # what a snapshot takes beside its messages
MESSAGE_OCTETS = 96             # of one message in a snapshot, the rendered replies counted

T = TypeVar("T")
log = Logger()


class IRunner(Protocol):
    """Where operations on the database are run: functions of a cursor, called as `operation(cursor, *args)`.

    An operation may run more than once before its outcome is told, so it changes nothing but the
    database, or only what a second run makes right again.
    """

    def start(self) -> Deferred[None]:
        """Open what is needed. Raises: StoreUnavailable, and it is over again."""

    def stop(self) -> Deferred[None]:
        """Finish what is queued and close."""

    def run(self, operation: Callable[..., T], *args: Any, durable: bool = False) -> Deferred[T]:
        """Run an operation in a transaction, and with `durable` have it on disk before the Deferred fires."""

    def run_blocking(self, operation: Callable[..., T], *args: Any, durable: bool = False) -> T:
        """Do what `run` does and wait for it here. Only for callers that cannot wait otherwise."""


class Database:
    """Threads, leases and caches of one store over SQL; an engine gives the rest by a subclass.

    `writer` runs what changes something, `reader` what only looks and is quick. The writer is started
    first: it brings the schema up to date.
    """

    def __init__(self, blobs: IBlobStore, writer: IRunner, reader: IRunner, reactor: Any,
                 lease_seconds: float, process: str = "") -> None:
        self.blobs = blobs
        self.holder = Holder(lease_seconds, process)
        self.ahead: ReadAhead[Any] = ReadAhead()
        self.snapshots = SnapshotCache()
        self.writer = writer
        self.reader = reader
        self._reactor = reactor
        self._pool: ThreadPool | None = None
        self._renewal = LoopingCall(self._renew)
        self._renewal.clock = reactor
        self._renewal_seconds = lease_seconds / RENEWALS_A_LEASE
        self._burying = False
        self._unreleased: set[str] = set()      # sessions whose lease could not be given up in its turn

    # What an engine gives ---------------------------------------------------------------------

    def fault_of(self, error: Exception) -> MailgateError:
        """Return what an exception out of a thread means, and log what operators must know. Never raises."""
        raise NotImplementedError

    def look_blocking(self, operation: Callable[..., T], *args: Any) -> T:
        """Run a long reading operation in one transaction on a connection of its own; in a thread."""
        raise NotImplementedError

    # Begin and end --------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the database and begin to renew. Raises: StoreUnavailable."""
        if self._pool is not None:
            return
        await self.writer.start()       # it migrates, so it goes first
        try:
            await self.reader.start()
        except MailgateError:
            await self.writer.stop()
            raise
        threads = max(BLOB_THREADS, getattr(self.blobs, "calls_at_once", 1))
        self._pool = DaemonThreads(0, threads, "mailgate bodies")
        self._pool.start()
        self._renewal.start(self._renewal_seconds, now=False)
        self.bury()

    async def stop(self) -> None:
        """Give up the leases of this process, finish what is queued, and close."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        self._renewal.stop()
        dropped = self.writer.run(drop_holder, self.holder).addErrback(_never_mind)
        await gatherResults([dropped, self.reader.stop(), self.writer.stop()])
        pool.stop()

    def end_of(self, commits: Collection[Deferred[None]]) -> Deferred[None]:
        """Fire when some commits have ended, or have had their time: a bucket may not answer at all.

        A delivery that is late finds the store closed, and is not acknowledged.
        """
        return end_of(commits, self._reactor)

    # Work in threads ------------------------------------------------------------------------

    def in_thread(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Run what blocks in one of a few threads. Raises: what it raises, as a MailgateError."""
        if self._pool is None:
            return fail(StoreUnavailable("the store is not open"))
        call: Deferred[T] = deferToThreadPool(self._reactor, self._pool, function, *args)
        return call.addErrback(self._as_ours)

    def look(self, operation: Callable[..., T], *args: Any) -> Deferred[T]:
        """Run a long reading operation in one transaction on a connection of its own."""
        return self.in_thread(self.look_blocking, operation, *args)

    def _as_ours(self, failure: Failure) -> Failure:
        if failure.check(CancelledError):
            return failure          # whoever waited has gone: no fault of the store
        assert isinstance(failure.value, Exception)
        return Failure(self.fault_of(failure.value))

    def bury(self) -> None:
        """Free what large removals have left, a few bodies at a time, while others write between."""
        if not self._burying and self._pool is not None:
            self._burying = True
            Deferred.fromCoroutine(self._bury())

    async def _bury(self) -> None:
        try:
            await self.bury_all()
        except MailgateError:
            pass            # it was logged; the next sweep goes on
        finally:
            self._burying = False

    async def bury_all(self) -> None:
        """Do what `bury` does, to its end. Raises: StoreUnavailable."""
        while self._pool is not None and await self.writer.run(bury):
            pass

    def let_others(self) -> Deferred[None]:
        """Wait between two transactions of many that are long, so that other processes get their turn."""
        return deferLater(self._reactor, OTHERS_SECONDS, lambda: None)

    # Leases ---------------------------------------------------------------------------------

    def release(self, lease: Lease) -> Deferred[None]:
        """Give up a lease. Never fails: what cannot be done now is done with a later renewal."""
        return self.writer.run(release, lease).addErrback(self._not_released, lease.session)

    def release_session(self, session: str) -> None:
        """Give up a lease that may or may not have been taken."""
        self.writer.run(release_sessions, {session}).addErrback(self._not_released, session)

    def _not_released(self, failure: Failure, session: str) -> None:
        if self._pool is not None:      # else the store has stopped, and no lease is left
            self._unreleased.add(session)

    def _renew(self) -> Deferred[None]:
        return self._renew_with(set(self._unreleased))

    def _renew_with(self, late: set[str]) -> Deferred[None]:
        """Renew, and in the same transaction give up the leases of some sessions."""
        renewing = self.writer.run(renew_and_release, self.holder, late)
        return renewing.addCallbacks(lambda _: self._unreleased.difference_update(late), _never_mind)


class SnapshotCache:
    """The latest snapshots of maildrop views, bounded in octets; the one used longest ago gives way."""

    def __init__(self, capacity_octets: int = SNAPSHOT_CACHE_OCTETS) -> None:
        self._capacity = capacity_octets
        self._snapshots: OrderedDict[tuple[int, str], Snapshot] = OrderedDict()
        self.octets = 0

    def get(self, maildrop_id: int, view: str, change: int) -> Snapshot | None:
        """Return a view's snapshot, unless the maildrop has changed since."""
        snapshot = self._snapshots.get((maildrop_id, view))
        if snapshot is None or snapshot.change != change:
            return None
        self._snapshots.move_to_end((maildrop_id, view))
        return snapshot

    def put(self, maildrop_id: int, view: str, snapshot: Snapshot) -> None:
        """Keep a snapshot in place of an older one."""
        key = maildrop_id, view
        old = self._snapshots.pop(key, None)
        if old is not None:
            self.octets -= _cost(old)
        if _cost(snapshot) > self._capacity:
            return              # all others would give way to it, and it would not stay
        self._snapshots[key] = snapshot
        self.octets += _cost(snapshot)
        while self.octets > self._capacity:
            self.octets -= _cost(self._snapshots.popitem(last=False)[1])


def _cost(snapshot: Snapshot) -> int:
    return SNAPSHOT_OCTETS + MESSAGE_OCTETS * len(snapshot.listing)


def renew_and_release(cursor: Cursor, holder: Holder, sessions: set[str]) -> None:
    renew(cursor, holder)
    if sessions:
        release_sessions(cursor, sessions)


def _never_mind(failure: Failure) -> None:
    """The writer has logged it, and there will be another renewal, or an expiry."""
    failure.trap(MailgateError)
