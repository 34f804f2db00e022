"""Merges of stores, for the contracts and for what only a merge has to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor

from mailgate.stores.merging.store import MergedStore, Source
from tests.stores.sqlite_hooks import SqliteHooks
from tests.stores.test_memory import MemoryHooks, ProcessClock


def sources(stores: Sequence[Any], names: Sequence[str]) -> list[Source]:
    """Return stores by their names."""
    return [Source(name, store) for name, store in zip(names, stores, strict=True)]


class MemoryMergeHooks(MemoryHooks):
    """Two stores in memory; the first has the accounts and takes the mail."""

    async def make_store(self, *, quota_octets=None):
        return await self.merge([await super(MemoryMergeHooks, self).make_store(quota_octets=quota_octets)
                                 for _ in range(2)])

    async def make_second(self, store):
        return await self.merge([await super(MemoryMergeHooks, self).make_second(one)
                                 for one in store.stores])

    async def merge(self, stores):
        first, second = sources(stores, ("store", "old"))
        merged = MergedStore(first, [first, second], clock=ProcessClock(self.time))
        merged.stores = stores
        await merged.start()
        self.addCleanup(merged.stop)
        return merged

    async def expire_holder(self, store) -> None:
        for one in store.stores:
            self.clocks[id(one)].asleep = True
        self.time.pump([1] * int(self.lease_seconds + 1))
        for one in store.stores:
            self.clocks[id(one)].wake()


class SqliteMergeHooks(SqliteHooks):
    """Three embedded stores: one has the accounts and no mail, the second takes the mail."""

    async def make_store(self, **options):
        return await self.merge([await super(SqliteMergeHooks, self).make_store(**options) for _ in range(3)])

    async def make_second(self, store, **options):
        return await self.merge([await super(SqliteMergeHooks, self).make_second(one, **options)
                                 for one in store.stores])

    async def merge(self, stores):
        main, *parts = sources(stores, ("store", "a", "b"))
        merged = MergedStore(main, parts, clock=reactor)
        merged.stores = stores
        await merged.start()
        self.addCleanup(merged.stop)
        return merged

    async def expire_holder(self, store) -> None:
        for one in store.stores:
            await super().expire_holder(one)

