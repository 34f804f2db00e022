"""One message on its way into spools: a file in each recipient's, one after the other."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, DeferredLock, gatherResults
from twisted.logger import Logger

from mailgate.errors import MailgateError, OverQuota, StoreUnavailable
from mailgate.interfaces import IBlobStore, ISpool, ISpoolRecords
from mailgate.model import Placement
from mailgate.names import fold
from mailgate.stores.blobs import BlobFeed
from mailgate.stores.incoming import IncomingMessage, Outcomes
from mailgate.stores.spools.content import Content
from mailgate.stores.spools.removal import remove_at_once
from mailgate.stores.spools.threads import SpoolThreads
from mailgate.stores.sql.delivery import new_key
from mailgate.wire.dots import Unstuffer

INLINE_OCTETS = 65536       # a larger message lies among the bodies while it comes in

log = Logger()


class Target:
    """What the deliveries of one store have in common.

    `spool_of` gives the spool of a maildrop and its folder; `octets_of` tells how much is in a maildrop,
    and is asked where there is a quota. `feeds` is where a sweep sees which blobs are under way.
    """

    def __init__(self, threads: SpoolThreads, blobs: IBlobStore, records: ISpoolRecords,
                 spool_of: Callable[[str, str], ISpool], octets_of: Callable[[str], Deferred[int]],
                 quota_octets: int | None, feeds: MutableMapping[str, BlobFeed]) -> None:
        self.threads = threads
        self.blobs = blobs
        self.records = records
        self.spool_of = spool_of
        self.octets_of = octets_of
        self.quota_octets = quota_octets
        self.feeds = feeds
        self.turn = DeferredLock()      # who is asked for first is written first
        self._locks: WeakValueDictionary[tuple[str, str], DeferredLock] = WeakValueDictionary()

    def lock(self, kind: str, name: str) -> DeferredLock:
        """Return what keeps two deliveries of one id, or to one maildrop, apart in this process."""
        return self._locks.setdefault((kind, name), DeferredLock())


class SpoolDelivery(IncomingMessage):
    """A message that waits in memory, or among the bodies, until it is written into files.

    One that was written is told of as delivered, in any case. A process that dies between the file and
    its note leaves a message that a retry doubles.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(INLINE_OCTETS)
        self._target = target
        self._plain = Unstuffer()

    def _shaped(self, wire: bytes) -> bytes:
        return self._plain.feed(wire)

    def _new_feed(self) -> BlobFeed:
        key = new_key()
        feed = self._target.feeds[key] = BlobFeed(self._target.threads.run, self._target.blobs, key)
        return feed

    def _commit(self, prepared: Deferred[None], placements: Sequence[Placement], all_or_nothing: bool,
                delivery_id: str | None) -> Deferred[Outcomes]:
        return self._target.threads.see_through(
            self._write_all_in_turn(prepared, placements, all_or_nothing, delivery_id))

    async def _write_all_in_turn(self, prepared: Deferred[None], placements: Sequence[Placement],
                                 all_or_nothing: bool, delivery_id: str | None) -> Outcomes:
        target = self._target
        held: list[DeferredLock] = []
        try:
            await prepared
            if delivery_id is not None:
                held.append(await target.lock("id", delivery_id).acquire())
            turns = [await turn.acquire() for turn in self._turns(placements)]
            try:
                answers = await self._with_room(
                    placements, await target.records.accept(placements, delivery_id))
                if all_or_nothing and any(isinstance(answer, Exception) for answer in answers):
                    return _all_out(answers)
                writing = self._write_all(placements, answers, delivery_id, all_or_nothing)
                if target.quota_octets is not None:
                    await writing       # what is written counts for the next one
            finally:
                for turn in turns:
                    turn.release()
            return await writing
        finally:
            for lock in held:
                lock.release()
            if self._feed is not None:
                await self._feed.remove()

    def _turns(self, placements: Sequence[Placement]) -> list[DeferredLock]:
        """Return for whose turns to wait, in order. A look into one maildrop keeps no other one waiting."""
        if self._target.quota_octets is None:
            return [self._target.turn]
        maildrops = {fold(placement.maildrop) for placement in placements}
        return [self._target.lock("quota", maildrop) for maildrop in sorted(maildrops)]

    async def _with_room(self, placements: Sequence[Placement],
                         answers: Sequence[bool | MailgateError]) -> list[bool | MailgateError]:
        """Return whom to write to: all of those but whose maildrop has no room for it."""
        quota = self._target.quota_octets
        if quota is None:
            return list(answers)
        used: dict[str, int] = {}
        outcomes: list[bool | MailgateError] = []
        for placement, answer in zip(placements, answers, strict=True):
            key = fold(placement.maildrop)
            if answer is True and key not in used:
                used[key] = await self._target.octets_of(placement.maildrop)
            octets = len(placement.preamble) + self._form.octets
            if answer is True and used[key] + octets > quota:
                answer = OverQuota(f"maildrop {placement.maildrop}")
            elif answer is True:
                used[key] += octets
            outcomes.append(answer)
        return outcomes

    def _write_all(self, placements: Sequence[Placement], answers: Sequence[bool | MailgateError],
                   delivery_id: str | None, all_or_nothing: bool) -> Deferred[Outcomes]:
        """Write the message for all who are to have it: at once for several, in order within a maildrop.

        What was written for some is removed again if all should have it and others cannot.
        """
        outcomes: Outcomes = [
            answer if isinstance(answer, MailgateError) else None for answer in answers]
        written: list[tuple[Placement, bytes | None]] = []

        async def write(index: int) -> None:
            placement = placements[index]
            lock = await self._target.lock("maildrop", fold(placement.maildrop)).acquire()
            try:
                name = await self._target.threads.run(self._write_file, placement)
                if all_or_nothing:
                    written.append((placement, name))
                else:
                    await self._note(placement, delivery_id, name)
            except MailgateError as fault:
                outcomes[index] = fault
            finally:
                lock.release()

        async def write_each() -> Outcomes:
            await gatherResults(writing)
            if all_or_nothing and any(outcomes):
                for placement, name in written:
                    await self._take_back(placement, name)
                return _all_out(outcomes)
            for placement, name in written:
                await self._note(placement, delivery_id, name)
            return outcomes

        writing = [Deferred.fromCoroutine(write(index))     # in this order they ask for their locks
                   for index, answer in enumerate(answers) if answer is True]
        return Deferred.fromCoroutine(write_each())

    async def _note(self, placement: Placement, delivery_id: str | None, name: bytes | None) -> None:
        try:
            await self._target.records.delivered(placement, delivery_id, name)
        except MailgateError as fault:
            log.warn("a message is in {maildrop}, and was not noted: {fault}",
                     maildrop=placement.maildrop, fault=fault)

    async def _take_back(self, placement: Placement, name: bytes | None) -> None:
        """Remove what was written just now, where it can be found."""
        try:
            if name is not None:
                await self._target.threads.run(self._remove_file, placement, name)
        except MailgateError as fault:
            log.warn("a message stays in {maildrop}, though others could not have it: {fault}",
                     maildrop=placement.maildrop, fault=fault)

    def _remove_file(self, placement: Placement, name: bytes) -> None:
        remove_at_once(self._target.spool_of(placement.maildrop, placement.folder), [name])

    def _write_file(self, placement: Placement) -> bytes | None:
        """Write the message into one spool, in a thread; return its name there."""
        blob = None if self._feed is None else self._target.blobs.open(self._feed.key)
        content = Content(placement.preamble, b"".join(self._pieces) if blob is None else blob)
        try:
            return self._target.spool_of(placement.maildrop, placement.folder).deliver(content, placement)
        finally:
            content.close()


def _all_out(answers: Sequence[bool | Exception | None]) -> Outcomes:
    other = StoreUnavailable("another recipient's copy was refused")
    return [answer if isinstance(answer, Exception) else other for answer in answers]
