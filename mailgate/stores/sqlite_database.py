"""What the parts of an embedded store share: its threads, its holder, and what it keeps in memory."""

from __future__ import annotations

import os
import sqlite3
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from mailgate.errors import MailgateError, StoreUnavailable
from mailgate.interfaces import IBlobStore
from mailgate.stores.readahead import ReadAhead
from mailgate.stores.sqlite_connection import connect, fault_of, prepare, store_id
from mailgate.stores.sqlite_leases import Holder, Lease, drop_holder, release, release_sessions, renew
from mailgate.stores.sqlite_messages import Snapshot, bury
from mailgate.stores.sqlite_threads import ReaderThread, WriterThread

RENEWALS_A_LEASE = 3            # a renewal may be late by two thirds of the lease
BLOB_THREADS = 8
SNAPSHOT_CACHE_OCTETS = 32 * 1024 * 1024
SNAPSHOT_OCTETS = 200           # an empty snapshot
MESSAGE_OCTETS = 96             # of one message in a snapshot, the rendered replies counted

T = TypeVar("T")
log = Logger()


class Database:
    """Threads, leases and caches of one `SqliteStore`."""

    def __init__(self, path: str, blobs: IBlobStore, reactor: Any, lease_seconds: float,
                 create: bool, process: str = "") -> None:
        self.path = path
        self.blobs = blobs
        self.holder = Holder(lease_seconds, process)
        self.ahead: ReadAhead[Any] = ReadAhead()
        self.snapshots = SnapshotCache()
        self.writer = WriterThread(self._open_writer, reactor, "mailgate store writer")
        self.reader = ReaderThread(partial(connect, path), reactor, "mailgate store reader")
        self.writer.when_read_only = self.reader.reopen
        self._create = create
        self._reactor = reactor
        self._pool: ThreadPool | None = None
        self._renewal = LoopingCall(self._renew)
        self._renewal.clock = reactor
        self._renewal_seconds = lease_seconds / RENEWALS_A_LEASE
        self._burying = False
        self._unreleased: set[str] = set()      # sessions whose lease could not be given up in its turn

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
        self._pool = _BlobThreads(0, BLOB_THREADS, "mailgate bodies")
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

    def _open_writer(self) -> sqlite3.Connection:
        if self._create and not os.path.exists(self.path) and self.blobs.owner() is not None:
            raise StoreUnavailable(f"{self.path} is missing, and its bodies are there: no new store is made")
        if not self._create and _is_missing(self.path):
            raise StoreUnavailable(f"there is no {self.path}; its disk may not be mounted")
        connection = connect(self.path, create=self._create)
        try:
            prepare(connection)
            self.blobs.belong_to(store_id(connection.cursor()))
        except BaseException:
            connection.close()
            raise
        self._create = False        # opened again after a failure, it must still be there
        return connection

    # Work in threads ------------------------------------------------------------------------

    def in_thread(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Run what blocks in one of a few threads. Raises: what it raises, as a MailgateError."""
        if self._pool is None:
            return fail(StoreUnavailable("the store is not open"))
        call: Deferred[T] = deferToThreadPool(self._reactor, self._pool, function, *args)
        return call.addErrback(_as_ours)

    def look(self, operation: Callable[..., T], *args: Any) -> Deferred[T]:
        """Run a long reading operation in one transaction on a connection of its own."""
        return self.in_thread(self._look, operation, *args)

    def _look(self, operation: Callable[..., T], *args: Any) -> T:
        connection = connect(self.path)
        try:
            cursor = connection.cursor()
            try:
                cursor.execute("BEGIN")
                return operation(cursor, *args)
            finally:
                cursor.close()
        finally:
            connection.close()

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
        late = set(self._unreleased)
        renewing = self.writer.run(_renew_and_release, self.holder, late)
        return renewing.addCallbacks(lambda _: self._unreleased.difference_update(late), _never_mind)


class _BlobThreads(ThreadPool):
    """Threads that do not keep a process alive that was told to end."""

    @staticmethod
    def threadFactory(*args: Any, **kwargs: Any) -> Thread:     # type: ignore[override]
        return Thread(*args, **kwargs, daemon=True)


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
        self._snapshots[key] = snapshot
        self.octets += _cost(snapshot)
        while self.octets > self._capacity:
            self.octets -= _cost(self._snapshots.popitem(last=False)[1])


def _cost(snapshot: Snapshot) -> int:
    return SNAPSHOT_OCTETS + MESSAGE_OCTETS * len(snapshot.listing)


def _is_missing(path: str) -> bool:
    """Whether there is no such file; of what cannot be looked at, opening it tells the reason."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def _renew_and_release(cursor: sqlite3.Cursor, holder: Holder, sessions: set[str]) -> None:
    renew(cursor, holder)
    if sessions:
        release_sessions(cursor, sessions)


def _as_ours(failure: Failure) -> Failure:
    if failure.check(CancelledError):
        return failure          # whoever waited has gone: no fault of the store
    assert isinstance(failure.value, Exception)
    return Failure(fault_of(failure.value))


def _never_mind(failure: Failure) -> None:
    """The writer has logged it, and there will be another renewal, or an expiry."""
    failure.trap(MailgateError)
