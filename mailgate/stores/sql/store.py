"""Maildrops and accounts in a database that speaks SQL, large bodies beside it.

What the SQL does is in the modules beside this one, as functions of a cursor; an engine's `Database`
runs them.
"""

from __future__ import annotations

from itertools import count
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.errors import (
    LoginRefused,
    LoginTooSoon,
    MaildropInUse,
    StaleCredential,
    StoreUnavailable,
)
from mailgate.interfaces import IBlobStore, IDelivery, IMaildrop, IMaildropStore
from mailgate.model import Admission
from mailgate.stores.blobs import BlobFeed
from mailgate.stores.sql import upkeep
from mailgate.stores.sql.accounts import SqlAccounts
from mailgate.stores.sql.database import Database
from mailgate.stores.sql.delivery import SqlDelivery, new_key
from mailgate.stores.sql.foldering import SqlFolders, key_of
from mailgate.stores.sql.imports import SqlImportRecords
from mailgate.stores.sql.leases import Admitted, Wanted, drop_process, take
from mailgate.stores.sql.maildrop import SqlMaildrop
from mailgate.stores.sql.messages import (
    Delivered,
    NewBody,
    NewCopy,
    Snapshot,
    load_snapshot,
    place,
    remove_by_key,
    text,
)
from mailgate.stores.sql.spools import SqlSpoolRecords

INLINE_OCTETS = 65536       # a body up to this lies in its row
MOST_REMOVALS_AT_ONCE = 8   # of blobs, by a sweep: others are to get their turn

log = Logger()


@implementer(IMaildropStore)
class SqlStore(SqlFolders, SqlImportRecords):
    """Maildrops in `database`, bodies above `inline_octets` in its blob store; `accounts` beside them.

    Several processes may use one database. `quota_octets` bounds each maildrop.
    """

    def __init__(self, database: Database, *, quota_octets: int | None = None,
                 inline_octets: int = INLINE_OCTETS) -> None:
        self._database = database
        self._quota_octets = quota_octets
        self._inline_octets = inline_octets
        self.feeds: WeakValueDictionary[str, BlobFeed] = WeakValueDictionary()  # blobs under way, by key
        self._commits: set[Deferred[None]] = set()      # deliveries being committed; each fires at its end
        self._run = ""      # a word for the time from start to stop; with a number it is a session's id
        self._sessions = count(1)
        self.accounts = SqlAccounts(self._database.reader, self._database.writer)

    def start(self) -> Deferred[None]:
        self._run = new_key()
        return Deferred.fromCoroutine(self._database.start())

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        # while a body is being synced its rows are not queued yet
        await self._database.end_of(self._commits)
        await self._database.stop()

    # Sessions -------------------------------------------------------------------------------

    def open(self, admission: Admission) -> Deferred[IMaildrop]:
        session = self._new_session()
        taking = self._database.writer.run(take, self._database.holder, _wanted(admission), session)
        opening: Deferred[IMaildrop] = taking.addCallback(self._list)
        return opening.addErrback(self._not_opened, session)

    def _new_session(self) -> str:
        return f"{self._run}-{next(self._sessions)}"

    def _list(self, admitted: Admitted) -> IMaildrop | Deferred[IMaildrop]:
        lease = admitted.lease
        snapshot = self._database.snapshots.get(lease.maildrop_id, lease.view, admitted.change)
        if snapshot is not None:
            return SqlMaildrop(self._database, lease, snapshot, self._inline_octets)
        loading = self._database.reader.run(load_snapshot, lease.maildrop_id, lease.view)
        return loading.addCallback(self._listed, admitted)

    def _listed(self, snapshot: Snapshot, admitted: Admitted) -> IMaildrop:
        lease = admitted.lease
        self._database.snapshots.put(lease.maildrop_id, lease.view, snapshot)
        return SqlMaildrop(self._database, lease, snapshot, self._inline_octets)

    def _not_opened(self, failure: Failure, session: str) -> Failure:
        """Leave no lease behind: a failed commit may have taken one, and a caller may have cancelled."""
        if not failure.check(StaleCredential, LoginRefused, MaildropInUse, LoginTooSoon):
            self._database.release_session(session)
        return failure

    @property
    def records(self) -> SqlSpoolRecords:
        """What is kept for maildrops whose mail lies in files of other programs."""
        return SqlSpoolRecords(self._database, _wanted, self._new_session)

    def bury_process(self, process: str) -> Deferred[None]:
        """End the sessions of another process at once, which is dead for certain: they are not alive
        for the rest of their lease. `process` is the word that its store was made with."""
        assert process, "everybody's would begin with an empty word"
        return self._database.writer.run(drop_process, process)

    # Delivery -------------------------------------------------------------------------------

    def deliver(self) -> IDelivery:
        return SqlDelivery(self._inline_octets, self._feed, self._place, self._commits)

    def _feed(self, key: str) -> BlobFeed:
        feed = self.feeds[key] = BlobFeed(self._database.in_thread, self._database.blobs, key)
        return feed

    def _place(self, body: NewBody, copies: list[NewCopy], all_or_nothing: bool,
               delivery_id: str | None) -> Deferred[Delivered]:
        return self._database.writer.run(place, body, copies, all_or_nothing, delivery_id, self._quota_octets,
                                         durable=True)

    # Upkeep ---------------------------------------------------------------------------------

    def remove(self, maildrop: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._remove(key_of(maildrop)))

    async def _remove(self, key: str) -> None:
        await self._database.writer.run(remove_by_key, key, durable=True)
        self._database.bury()

    def expire(self, retention_seconds: int) -> Deferred[int]:
        return Deferred.fromCoroutine(self._expire(retention_seconds * 1000))

    async def trusted_now_ms(self) -> int | None:
        """Return the time by which mail may be removed; None while the clock is in doubt."""
        ahead_ms = await self._database.writer.run(upkeep.doubt_clock, durable=True)
        if ahead_ms:
            log.warn("nothing expires for now: the clock is {days} days ahead of the last time that was"
                     " looked", days=ahead_ms // upkeep.DAY_MS)
            return None
        return await self._database.look(upkeep.now_ms)

    async def _expire(self, retention_ms: int) -> int:
        if await self.trusted_now_ms() is None:
            return 0
        maildrops = await self._database.look(upkeep.find_expired, retention_ms)
        removed = 0
        for maildrop_id in maildrops:
            removed += await self._database.writer.run(upkeep.expire, maildrop_id, retention_ms, durable=True)
            self._database.bury()
        return removed

    def sweep(self, grace_seconds: int) -> Deferred[int]:
        """Remove the bodies that no row names and that are older than the grace.

        The grace has to be longer than other processes take from a body's last octet to its row;
        deliveries of this process are safe with any.
        """
        return Deferred.fromCoroutine(self._sweep(grace_seconds))

    async def _sweep(self, grace_seconds: int) -> int:
        database, blobs = self._database, self._database.blobs
        await database.bury_all()
        owner = await database.in_thread(blobs.owner)
        named = await database.look(upkeep.find_removed_blobs, owner, grace_seconds * 1000)
        under_way = set(self.feeds)     # one that ends while it is looked may have been seen
        old = [key for key, age in await database.in_thread(blobs.keys)
               if age >= grace_seconds and key not in under_way and key not in self.feeds]
        unknown = await database.look(upkeep.find_unknown_blobs, owner, old)
        removed = await self._remove_blobs([*named, *unknown])
        await database.writer.run(upkeep.forget, named)
        return removed

    async def _remove_blobs(self, keys: list[str]) -> int:
        """Remove blobs, some at once where a call takes its time; return how many."""
        blobs = self._database.blobs
        lanes = min(getattr(blobs, "calls_at_once", 1), MOST_REMOVALS_AT_ONCE)
        removing = [self._database.in_thread(_remove_all, blobs, keys[lane::lanes]) for lane in range(lanes)]
        return sum(await gatherResults(removing, consumeErrors=True))

    def check(self) -> Deferred[list[str]]:
        return Deferred.fromCoroutine(self._check())

    async def _check(self) -> list[str]:
        database = self._database
        findings = await database.look(upkeep.check)
        try:
            await database.look(upkeep.see_owner, await database.in_thread(database.blobs.owner))
        except StoreUnavailable as fault:
            findings.append(str(fault))
        named = await database.look(upkeep.blob_keys)
        there = {key for key, _ in await database.in_thread(database.blobs.keys)}
        unseen = [key for key in named if key not in there]
        missing = await database.in_thread(_missing, database.blobs, unseen)
        return findings + [f"body {named[key]}: its blob {key} is missing" for key in missing]


def _wanted(admission: Admission) -> Wanted:
    return Wanted(maildrop_key=key_of(admission.maildrop),
                  maildrop=text(admission.maildrop),
                  view="" if admission.view is None else key_of(admission.view),
                  account_key=None if admission.account is None else key_of(admission.account),
                  version=admission.version,
                  delay_ms=admission.login_delay_seconds * 1000,
                  app_password_key=None if admission.app_password is None else key_of(admission.app_password),
                  used_from=None if admission.used_from is None else text(admission.used_from),
                  judged=admission.judged)


def _remove_all(blobs: IBlobStore, keys: list[str]) -> int:
    for key in keys:
        blobs.remove(key)
    return len(keys)


def _missing(blobs: IBlobStore, keys: list[str]) -> list[str]:
    """Return those of some keys that cannot be opened: what a listing lacks may be there all the same."""
    missing = []
    for key in keys:
        try:
            blobs.open(key).close()
        except StoreUnavailable:
            missing.append(key)
    return missing
