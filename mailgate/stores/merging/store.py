"""Several stores as one: every maildrop is those of its name in all of them, one after the other.

The main store has the accounts. At a login it is asked first, whether its maildrops are part of the merge
or not: it judges the admission, and of several sessions that come at once its lease lets one pass. Then
the other parts' leases are taken, all of them or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.errors import MailgateError
from mailgate.interfaces import IDelivery, IImportRecords, IMaildrop, IMaildropStore
from mailgate.model import INBOX, Admission, Listed
from mailgate.names import fold
from mailgate.stores.merging.accounts import MergedAccounts
from mailgate.stores.merging.delivery import Judge, JudgedDelivery
from mailgate.stores.merging.folders import MergedFolders
from mailgate.stores.merging.ids import Listings, PartIds
from mailgate.stores.merging.maildrop import MergedMaildrop
from mailgate.stores.merging.parts import Part

Records = Sequence["tuple[bytes, bytes | None]"]     # of imports: unique-ids with identities

log = Logger()


class Source(NamedTuple):
    """A store that is to be merged."""

    name: str               # at most 32 characters of letters, digits and . _ -
    store: Any              # an IMaildropStore, with `accounts` if it is the main one
    optional: bool = False  # logins do without it while it is down


@implementer(IMaildropStore, IImportRecords)
class MergedStore(MergedFolders):
    """The maildrops of `sources`, in their order; `main` has the accounts and need not be one of them.

    The unique-ids of the first source are shown as they are. New mail goes to the source that
    `deliver_to` names, or to the first. `clock`: an IReactorTime.
    """

    def __init__(self, main: Source, sources: Sequence[Source], *, clock: IReactorTime,
                 deliver_to: str | None = None) -> None:
        names = [one.name for one in sources]
        parts = [Part(one.name, one.store, PartIds(one.name, names, plain=index == 0), clock=clock,
                      optional=one.optional) for index, one in enumerate(sources)]
        by_name = {part.name: part for part in parts}
        self._parts = parts
        self._main = by_name.get(main.name) or Part(
            main.name, main.store, PartIds(main.name, names, plain=False), clock=clock, shown=False)
        self._others = [part for part in parts if part is not self._main]
        self._taker = by_name[deliver_to or names[0]]
        self._listings = Listings()
        self.accounts: Any = MergedAccounts(self._main, self._others)
        self._judge = Judge(main.store.accounts)

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        """Open all stores. One that cannot be had is put off, but the main one is needed."""
        try:
            await self._main.start()
        except BaseException:
            await self._main.stop()     # whoever wants it tries again himself
            raise
        starting: list[Deferred[Any]] = [part.start_soon() for part in self._others]
        strange: Failure | None = None
        for opened, outcome in await DeferredList(starting, consumeErrors=True):
            if not opened and not outcome.check(MailgateError):
                strange = outcome
            elif not opened:
                log.warn("{fault}; it is tried again until it can be had", fault=outcome.getErrorMessage())
        if strange is not None:
            await self._stop()
            strange.raiseException()

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await gatherResults([Deferred.fromCoroutine(part.stop()) for part in self._all()])

    def _all(self) -> list[Part]:
        return [self._main, *self._others]

    def bury_process(self, process: str) -> Deferred[None]:
        """End the sessions of another process that is dead for certain, where a store can do it at once."""
        return Deferred.fromCoroutine(self._bury_process(process))

    async def _bury_process(self, process: str) -> None:
        for part in self._all():
            if hasattr(part.store, "bury_process"):
                await part.call_or_skip("bury_process", process)

    # Sessions -------------------------------------------------------------------------------

    def open(self, admission: Admission) -> Deferred[IMaildrop]:
        waiting: Deferred[IMaildrop] = Deferred()   # may be cancelled: what comes then is released

        def arrived(outcome: Any) -> None:
            if not waiting.called:
                waiting.callback(outcome)           # a Failure goes the errback's way
            elif not isinstance(outcome, Failure):
                outcome.release()
            elif not outcome.check(MailgateError):
                log.failure("after its client had gone", outcome)

        Deferred.fromCoroutine(self._open(admission)).addBoth(arrived)
        return waiting

    async def _open(self, admission: Admission) -> IMaildrop:
        first: Any = await self._main.call("open", admission)
        judged = Admission(admission.maildrop, admission.view, judged=True)
        opening = [part.call_or_skip("open", judged, undo=_release) for part in self._others]
        opened: dict[Part, Any] = {self._main: first}
        faults: list[Failure] = []
        for part, (succeeded, outcome) in zip(
                self._others, await DeferredList(opening, consumeErrors=True), strict=True):
            if not succeeded:
                faults.append(outcome)
            elif outcome is not None:
                opened[part] = outcome
        if faults:
            await DeferredList([one.release() for one in opened.values()])
            faults[0].raiseException()
        return self._merged(opened, guard=None if self._main.shown else first)

    def _merged(self, opened: Mapping[Part, Any], **options: Any) -> IMaildrop:
        parts = [(part, opened[part]) for part in self._parts if part in opened]
        listing = self._listings.merged([(part.ids, maildrop.listing) for part, maildrop in parts])
        return MergedMaildrop(parts, listing, **options)

    def peek(self, maildrop: str, folder: str = INBOX) -> Deferred[IMaildrop]:
        return Deferred.fromCoroutine(self._peek(maildrop, folder))

    async def _peek(self, maildrop: str, folder: str) -> IMaildrop:
        peeked = await self._of_parts("peek", maildrop, folder)
        return self._merged(peeked, leased=False)

    # Delivery -------------------------------------------------------------------------------

    def deliver(self) -> IDelivery:
        inner: IDelivery = self._taker.store.deliver()
        return inner if self._taker is self._main else JudgedDelivery(inner, self._judge)

    # What they hold -------------------------------------------------------------------------

    async def _of_parts(self, method: str, *args: object) -> dict[Part, Any]:
        """Return what each part that can be had answers. Raises: the fault of one that must be there."""
        found: dict[Part, Any] = {}
        parts = self._parts if INBOX in args[1:] or not args else self._filing()
        for part in parts:
            answer = await part.call_or_skip(method, *args)
            if answer is not None:
                found[part] = answer
        return found

    def maildrops(self) -> Deferred[list[str]]:
        return Deferred.fromCoroutine(self._maildrops())

    async def _maildrops(self) -> list[str]:
        names: dict[str, str] = {}
        for found in (await self._of_parts("maildrops")).values():
            for name in found:
                names.setdefault(fold(name), name)
        return sorted(names.values())

    def scan(self, maildrop: str, folder: str = INBOX) -> Deferred[list[Listed]]:
        return Deferred.fromCoroutine(self._scan(maildrop, folder))

    async def _scan(self, maildrop: str, folder: str) -> list[Listed]:
        listed: list[Listed] = []
        for part, found in (await self._of_parts("scan", maildrop, folder)).items():
            listed += [one._replace(number=number, unique_id=part.ids.shown(one.unique_id))
                       for number, one in enumerate(found, len(listed) + 1)]
        return listed

    def take_ids(self, maildrop: str, ids: Mapping[bytes, bytes]) -> Deferred[list[bytes]]:
        """See IMaildropStore. Ids that a part could not show as they are given are refused as taken."""
        return Deferred.fromCoroutine(self._take_ids(maildrop, ids))

    async def _take_ids(self, maildrop: str, ids: Mapping[bytes, bytes]) -> list[bytes]:
        refused: list[bytes] = []
        for part in self._parts:
            if not any(map(part.ids.is_ours, ids)):
                continue
            wanted: dict[bytes, bytes] = {}
            shown: dict[bytes, bytes] = {}
            for one in await part.call("scan", maildrop):
                name = part.ids.shown(one.unique_id)
                if name in ids and not part.ids.is_kept(ids[name]):
                    refused.append(name)
                elif name in ids:
                    wanted[one.unique_id], shown[one.unique_id] = ids[name], name
            if wanted:
                refused += [shown[one] for one in await part.call("take_ids", maildrop, wanted)]
        return refused

    def imported(self, maildrop: str) -> Deferred[Records]:
        """See IImportRecords. Identities of all parts but the first stand behind their part's name, too."""
        return Deferred.fromCoroutine(self._imported(maildrop))

    async def _imported(self, maildrop: str) -> Records:
        records: list[tuple[bytes, bytes | None]] = []
        for part in self._parts:
            if not IImportRecords.providedBy(part.store):
                continue
            for unique_id, identity in await part.call("imported", maildrop):
                shown = part.ids.shown(unique_id)
                if identity == unique_id:
                    identity = shown
                elif identity is not None and part is not self._parts[0]:
                    identity = part.name.encode() + b":" + identity
                records.append((shown, identity))
        return records

    def note_imported(self, maildrop: str, records: Records) -> Deferred[None]:
        """See IImportRecords. Where new mail goes."""
        return self._taker.call("note_imported", maildrop, records)

    # Upkeep ---------------------------------------------------------------------------------

    def remove(self, maildrop: str) -> Deferred[None]:
        """See IMaildropStore. Parts that came before one that refuses have removed theirs."""
        return Deferred.fromCoroutine(self._remove(maildrop))

    async def _remove(self, maildrop: str) -> None:
        for part in self._all():
            await part.call("remove", maildrop)

    def expire(self, retention_seconds: int) -> Deferred[int]:
        return Deferred.fromCoroutine(self._sum("expire", self._parts, retention_seconds))

    def sweep(self, grace_seconds: int) -> Deferred[int]:
        return Deferred.fromCoroutine(self._sum("sweep", self._all(), grace_seconds))

    async def _sum(self, method: str, parts: Sequence[Part], seconds: int) -> int:
        """Return what all have done together. Raises: the first fault, when all have been asked."""
        done = 0
        first: MailgateError | None = None
        for part in parts:
            try:
                done += await part.call(method, seconds)
            except MailgateError as fault:
                first = first or fault
        if first is not None:
            raise first
        return done

    def check(self) -> Deferred[list[str]]:
        return Deferred.fromCoroutine(self._check())

    async def _check(self) -> list[str]:
        findings: list[str] = []
        for part in self._all():
            try:
                findings += [f"{part.name}: {finding}" for finding in await part.call("check")]
            except MailgateError as fault:
                findings.append(str(fault))
        if not self._main.shown and not findings:
            findings += await self._unseen()
        return findings

    async def _unseen(self) -> list[str]:
        """Return whether there is mail in the main store, which is none of the merge."""
        for name in await self._main.call("maildrops"):
            if await self._main.call("scan", name):
                return [f"{self._main.name}: there is mail (for {name}, say) that no login sees: this store"
                        " is none of the merge"]
        return []


def _release(maildrop: IMaildrop) -> Deferred[None]:
    return maildrop.release()
