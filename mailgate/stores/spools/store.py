"""A store whose mail lies in files that other programs use too; all else of it lies in a database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from zope.interface import implementer

from mailgate.errors import MaildropInUse, MessageMalformed, NoSuchFolder, StoreUnavailable
from mailgate.interfaces import (
    IBlobStore,
    IDelivery,
    IImportRecords,
    IMaildrop,
    IMaildropStore,
    ISpool,
    ISpoolRecords,
    ITenure,
)
from mailgate.model import INBOX, Admission, Listed, SpoolMessage
from mailgate.names import find_folder, fold
from mailgate.stores.kept import check_unique_id, find_taken
from mailgate.stores.readahead import ReadAhead
from mailgate.stores.spools.delivery import SpoolDelivery, Target
from mailgate.stores.spools.listing import Shown, show
from mailgate.stores.spools.maildrop import PeekedMaildrop, SpoolMaildrop
from mailgate.stores.spools.nothing import NO_SPOOL, NO_TENURE
from mailgate.stores.spools.removal import Removal
from mailgate.stores.spools.threads import SpoolThreads

MOST_SCANS = 3      # of one login, if others remember something else meanwhile

log = Logger()


@implementer(IMaildropStore, IImportRecords)
class SpoolStore:
    """Maildrops in files, each an ISpool that `spool_of` makes of the maildrop's key.

    `metadata` is a store over SQL: its `accounts` are the store's, its `records` keep leases and what is
    remembered of messages. `blobs` are its bodies: what is large on the way in, or needed beside a journal,
    lies there for a while. `spool_of` touches no file; it raises StoreUnavailable for a name that no spool
    can have. `probe` returns what makes spools useless, one line a finding: then the store does not start.
    """

    def __init__(self, metadata: Any, blobs: IBlobStore, spool_of: Callable[[str], ISpool], *, reactor: Any,
                 quota_octets: int | None = None, probe: Callable[[], list[str]] = list) -> None:
        self.accounts = metadata.accounts
        self._metadata = metadata
        self._records: ISpoolRecords = metadata.records
        self._blobs = blobs
        self._spool_of = spool_of
        self._probe = probe
        self._threads = SpoolThreads(reactor)
        self._removal = Removal(self._threads, blobs)
        self._ahead: ReadAhead[bytes] = ReadAhead()
        self._target = Target(self._threads, blobs, self._records, self._spool, self._octets_of, quota_octets,
                              metadata.feeds)

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        self._threads.start()
        try:
            if findings := await self._threads.run(self._probe):
                raise StoreUnavailable("; ".join(findings))
            await self._metadata.start()
        except BaseException:
            await self._threads.stop()
            raise

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._threads.stop()
        await self._metadata.stop()

    def bury_process(self, process: str) -> Deferred[None]:
        """See SqlStore."""
        burying: Deferred[None] = self._metadata.bury_process(process)
        return burying

    # Sessions -------------------------------------------------------------------------------

    def open(self, admission: Admission) -> Deferred[IMaildrop]:
        opening: list[SpoolMaildrop] = []

        async def open_() -> IMaildrop:
            opening.append(await self._open(admission))
            if given_up:
                await opening[0].release()      # nobody is there to do it
            return opening[0]

        given_up: list[bool] = []
        outcome: Deferred[IMaildrop] = Deferred(lambda _: given_up.append(True))
        work = self._threads.see_through(open_())
        work.addBoth(lambda result: None if given_up else outcome.callback(result))
        return outcome

    async def _open(self, admission: Admission) -> SpoolMaildrop:
        spool = self._spool(admission.maildrop)
        tenure = await self._records.take(admission)
        try:
            shown = await self._scan(admission.maildrop, tenure, spool,
                                     None if admission.view is None else fold(admission.view))
        except BaseException:
            await tenure.release()
            raise
        return SpoolMaildrop(self._threads, self._removal, self._ahead, tenure, spool, shown)

    def _spool(self, maildrop: str, folder: str = INBOX) -> ISpool:
        """Return the spool of a maildrop. Raises: StoreUnavailable, if it can have none; NoSuchFolder."""
        if folder != INBOX:
            raise NoSuchFolder(f"maildrop {maildrop} has no folders")
        return self._spool_of(fold(maildrop))

    async def _scan(self, maildrop: str, tenure: ITenure, spool: ISpool, view: str | None = None) -> Shown:
        """Do what an earlier session has decided and not done, and look at what is there."""
        if tenure.journal is not None:
            try:
                await self._removal.replay(tenure, spool)
            except StoreUnavailable:
                # Another view's session may have done it meanwhile: what lay beside it has gone, then.
                now = await self._records.look(maildrop)
                if tenure.journal is None or now is None or now.journal == tenure.journal:
                    raise
        for _ in range(MOST_SCANS):
            messages, known = await self._scan_files(maildrop, spool, tenure.known)
            if await tenure.remember(known):
                break       # else another session has scanned at the same time, or mail came in
        shown = await self._threads.run(show, messages, tenure.notes, view)
        if shown.refused:
            await tenure.rename(dict.fromkeys(shown.refused))
        return shown

    def _scan_files(self, maildrop: str, spool: ISpool, known: Mapping[bytes, bytes]
                    ) -> Deferred[tuple[Sequence[SpoolMessage], Mapping[bytes, bytes]]]:
        """Have a spool scan its files. One that is slow to answer takes one thread, whoever asks for it."""
        return self._target.lock("scan", fold(maildrop)).run(self._threads.run, spool.scan, known)

    # Without a lease ------------------------------------------------------------------------

    def maildrops(self) -> Deferred[list[str]]:
        names: Deferred[list[str]] = self._metadata.maildrops()
        return names

    def scan(self, maildrop: str, folder: str = INBOX) -> Deferred[list[Listed]]:
        return Deferred.fromCoroutine(self._listed(maildrop, folder))

    async def _listed(self, maildrop: str, folder: str) -> list[Listed]:
        shown = (await self._look(maildrop, folder))[1]
        return await self._threads.run(
            lambda: [shown.listed(index) for index in range(len(shown.listing))])

    def peek(self, maildrop: str, folder: str = INBOX) -> Deferred[IMaildrop]:
        return Deferred.fromCoroutine(self._peek(maildrop, folder))

    async def _peek(self, maildrop: str, folder: str) -> IMaildrop:
        tenure, shown, spool = await self._look(maildrop, folder)
        return PeekedMaildrop(self._threads, self._removal, self._ahead, tenure, spool, shown)

    async def _look(self, maildrop: str, folder: str) -> tuple[ITenure, Shown, ISpool]:
        """Return what there is now, without a lease."""
        kept_as = find_folder(folder)
        try:
            if kept_as is None:
                spool = NO_SPOOL
            elif kept_as == INBOX:
                spool = self._spool(maildrop)
            else:       # which of its files is that?
                spool = await self._threads.run(self._spool, maildrop, kept_as)
        except (StoreUnavailable, NoSuchFolder):
            spool = NO_SPOOL
        tenure = await self._records.look(maildrop, kept_as or INBOX) or NO_TENURE
        if spool is NO_SPOOL:
            tenure = NO_TENURE
        messages, known = await self._scan_files(maildrop, spool, tenure.known)
        await tenure.remember(known)
        return tenure, await self._threads.run(show, messages, tenure.notes, None), spool

    def _octets_of(self, maildrop: str) -> Deferred[int]:
        looking = Deferred.fromCoroutine(self._look(maildrop, INBOX))
        return looking.addCallback(lambda looked: looked[1].listing.octets)

    def imported(self, maildrop: str) -> Deferred[Sequence[tuple[bytes, bytes | None]]]:
        """See IImportRecords. Of the INBOX."""
        records: Deferred[Sequence[tuple[bytes, bytes | None]]] = self._metadata.imported(maildrop)
        return records

    def note_imported(self, maildrop: str, records: Sequence[tuple[bytes, bytes | None]]) -> Deferred[None]:
        """See IImportRecords. Of the INBOX."""
        noting: Deferred[None] = self._metadata.note_imported(maildrop, records)
        return noting

    def take_ids(self, maildrop: str, ids: Mapping[bytes, bytes]) -> Deferred[list[bytes]]:
        try:
            for unique_id in ids.values():
                check_unique_id(unique_id)
        except MessageMalformed:
            return fail()
        return self._threads.see_through(self._take_ids(maildrop, ids))

    async def _take_ids(self, maildrop: str, ids: Mapping[bytes, bytes]) -> list[bytes]:
        if not len((await self._look(maildrop, INBOX))[1].listing):
            return []
        spool = self._spool(maildrop)
        tenure = await self._records.hold(maildrop)
        if tenure is None:      # other programs alone had to do with it until now
            tenure = await self._records.take(Admission(maildrop, judged=True))
        try:
            shown = await self._scan(maildrop, tenure, spool)
            present = {shown.listing.unique_id(index): index for index in range(len(shown.listing))}
            wanted = {old: new for old, new in ids.items() if old in present}
            known = {*present, *await tenure.used(list(wanted.values()))}
            refused = find_taken(wanted, known)
            taken = {old: new for old, new in wanted.items() if old not in refused and old != new}
            await tenure.rename({shown.message(present[old]).name: new for old, new in taken.items()},
                                {*taken, *taken.values()})
            return refused
        finally:
            await tenure.release()

    async def _hold(self, maildrop: str) -> ITenure:
        """Take the lease of a whole maildrop, also where other programs alone had to do with it until now."""
        tenure = await self._records.hold(maildrop, make=True)
        assert tenure is not None
        return tenure

    # Deliveries -----------------------------------------------------------------------------

    def deliver(self) -> IDelivery:
        return SpoolDelivery(self._target)

    # Upkeep ---------------------------------------------------------------------------------

    def remove(self, maildrop: str) -> Deferred[None]:
        return self._threads.see_through(self._remove(maildrop))

    async def _remove(self, maildrop: str) -> None:
        await self._remove_some(maildrop, lambda shown: range(len(shown.listing)))
        await self._remove_folders(maildrop)
        await self._records.forget(maildrop)

    async def _remove_folders(self, maildrop: str) -> None:
        """Remove what there is beside the INBOX: nothing, where it is all."""

    async def _remove_some(self, maildrop: str, choose: Callable[[Shown], Iterable[int]]) -> int:
        """Remove some messages of a maildrop, while nobody is logged in; return how many."""
        try:
            spool = self._spool(maildrop)
        except StoreUnavailable:
            return 0        # none that there can be
        tenure = await self._records.hold(maildrop)
        if tenure is None:
            return 0
        try:
            shown = await self._scan(maildrop, tenure, spool)
            names = [shown.message(index).name for index in await self._threads.run(choose, shown)]
            if names:
                await self._removal.remove(tenure, spool, names)
            return len(names)
        finally:
            await tenure.release()

    def expire(self, retention_seconds: int) -> Deferred[int]:
        return self._threads.see_through(self._expire(retention_seconds * 1000))

    async def _expire(self, retention_ms: int) -> int:
        now_ms = await self._metadata.trusted_now_ms()
        if now_ms is None:
            return 0
        removed = 0
        for maildrop in await self._metadata.maildrops():
            def past(shown: Shown) -> list[int]:
                return [index for index in range(len(shown.listing))
                        if shown.envelope(index).arrived_ms < now_ms - retention_ms]
            try:
                looked = await self._look(maildrop, INBOX)
                if await self._threads.run(past, looked[1]):
                    removed += await self._remove_some(maildrop, past)
            except MaildropInUse:
                pass        # its turn comes again
            except StoreUnavailable as fault:
                log.warn("nothing of {maildrop} expires for now: {fault}", maildrop=maildrop, fault=fault)
        return removed

    def sweep(self, grace_seconds: int) -> Deferred[int]:
        sweeping: Deferred[int] = self._metadata.sweep(grace_seconds)
        return sweeping

    def check(self) -> Deferred[list[str]]:
        checking: Deferred[list[str]] = self._metadata.check()
        return checking
