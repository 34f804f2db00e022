"""Copies through the engines of many machines: in the end all is as it was in the beginning."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from mailgate.cli.copying import Copying
from mailgate.cli.copying_base import Wishes
from mailgate.cli.verifying import Verifying
from mailgate.stores.memory import MemoryStore
from mailgate.stores.postgres import PostgresStore
from mailgate.stores.sqlite import SqliteStore
from tests.cli.whole_store import everything, fill
from tests.stores.contract_moving import MovingContract
from tests.stores.postgres_hooks import PostgresHooks
from tests.stores.s3_hooks import S3Hooks


class PostgresMovingTests(PostgresHooks, MovingContract, TestCase):
    """The contract of what a move from another store needs."""


class EngineTests(S3Hooks, PostgresHooks, TestCase):
    """From memory to PostgreSQL with files, to PostgreSQL with S3, to SQLite with S3, and back."""

    lease_seconds = 60

    async def test_through_all_of_them(self) -> None:
        """Every message is read back at each step; each store is found good by `store verify`."""
        clock = Clock()
        clock.advance(1_700_000_000)
        first, last = MemoryStore(clock=clock, random=Random(1)), MemoryStore(clock=clock, random=Random(2))
        await first.start()
        await fill(first)
        wanted = await everything(first)
        folders = [self.temporary_folder() for _ in range(3)]
        buckets = [self.new_bodies(folder) for folder in folders[1:]]
        between: list[Any] = [
            self.new_store(self.fresh_database(), folders[0]),
            PostgresStore(self.fresh_database(), buckets[0], reactor=reactor, inline_octets=50),
            SqliteStore(f"{folders[2]}/mail.db", buckets[1], reactor=reactor, inline_octets=0)]
        stations = [first, *between, last]
        for store in stations:
            self.addCleanup(store.stop)
        for source, target in pairwise(stations):
            copying = Copying(Wishes())
            await copying.work(source, target)
            self.assertEqual((copying.counts.copied, copying.counts.verified, copying.findings), (19, 19, 0))
            self.assertEqual(await everything(target), wanted)
        said: list[str] = []
        verifying = Verifying(["files", "bucket", "sqlite"], said.append)
        await verifying.work(*between)
        self.assertEqual((said, verifying.messages), ([], 57))
