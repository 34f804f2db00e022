"""Removing messages from spools: decided in the database first, then carried out, however often it takes.

Before the decision nothing is removed; after it all is, by this session or by the next one's `replay`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from twisted.logger import Logger

from mailgate.errors import LeaseLost, MailgateError, StoreUnavailable
from mailgate.interfaces import IBlobReader, IBlobStore, ISpool, ITenure
from mailgate.stores.spools.content import Content
from mailgate.stores.spools.threads import SpoolThreads
from mailgate.stores.sql.delivery import new_key

MOST_JOURNALS = 5       # of other sessions that may be in one's way

log = Logger()


class Removal:
    """How a store removes messages: with its threads, and its blobs for what a journal needs beside it."""

    def __init__(self, threads: SpoolThreads, blobs: IBlobStore) -> None:
        self._threads = threads
        self._blobs = blobs

    async def remove(self, tenure: ITenure, spool: ISpool, names: Collection[bytes]) -> None:
        """Remove messages for good. Raises: LeaseLost, StoreUnavailable: nothing was, or is promised."""
        overtaken = False
        for _ in range(MOST_JOURNALS):
            journal, beside = await self._threads.run(spool.plan, names)
            key = None if beside is None else await self._threads.run(self._store, beside)
            try:
                decided = await tenure.decide(journal, key)
            except LeaseLost:
                await self._drop(key)
                raise       # of any other fault the outcome is not known: the sweep finds what nobody needs
            if decided:
                await self._carry_out_or_leave(tenure, spool, names)
                return
            await self._drop(key)
            try:
                await self.replay(tenure, spool)    # another user's view has decided something before
            except StoreUnavailable:
                # That one's session may have carried it out meanwhile: what lay beside it has gone, then.
                if overtaken or tenure.journal is None or tenure.journal[1] is None:
                    raise
                overtaken = True
        raise StoreUnavailable("other sessions remove messages all the time")

    async def remove_at_once(self, spool: ISpool, names: Collection[bytes]) -> None:
        """Remove messages that no session sees, without a decision before. Raises: StoreUnavailable."""
        await self._threads.run(remove_at_once, spool, names)

    async def replay(self, tenure: ITenure, spool: ISpool) -> None:
        """Carry out the journal of a tenure, and forget it. Raises: StoreUnavailable."""
        await self._carry_out(tenure, spool, ())

    async def _carry_out_or_leave(self, tenure: ITenure, spool: ISpool, names: Collection[bytes]) -> None:
        try:
            await self._carry_out(tenure, spool, names)
        except MailgateError as fault:
            log.error("a removal was decided and could not be carried out: the next session does it first:"
                      " {fault}", fault=fault)

    async def _carry_out(self, tenure: ITenure, spool: ISpool, names: Collection[bytes]) -> None:
        assert tenure.journal is not None
        journal, key = tenure.journal
        await self._threads.run(self._carry_out_with, spool, journal, key)
        await tenure.carried_out(names)
        await self._drop(key)

    # In threads -------------------------------------------------------------------------------

    def _store(self, beside: Iterable[bytes]) -> str:
        """Write what a journal needs beside it; return its key."""
        key = new_key()
        writer = self._blobs.create(key)
        try:
            for piece in beside:
                writer.write(piece)
            writer.finish()
        except BaseException:
            writer.abandon()
            raise
        return key

    def _carry_out_with(self, spool: ISpool, journal: bytes, key: str | None) -> None:
        beside: IBlobReader | None = None if key is None else self._blobs.open(key)
        try:
            spool.carry_out(journal, beside)
        finally:
            if beside is not None:
                beside.close()

    async def _drop(self, key: str | None) -> None:
        if key is not None:
            try:
                await self._threads.run(self._blobs.remove, key)
            except MailgateError as fault:
                log.warn("blob {key} was not removed and waits for the sweep: {reason}",
                         key=key, reason=fault)


def remove_at_once(spool: ISpool, names: Collection[bytes]) -> None:
    """Remove messages without a decision before; blocks. Raises: StoreUnavailable."""
    journal, beside = spool.plan(names)
    spool.carry_out(journal, None if beside is None else Content(b"", b"".join(beside)))
