"""Processes that are killed in the middle of deliveries and commits: what was acknowledged holds."""

from __future__ import annotations

from random import Random

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.stores.contract_base import StoreHooks
from tests.stores.sqlite_process import MOMENT_SECONDS, Child, ChildHooks

ROUNDS = 12
MOST_STEPS = 12
LEASE_SECONDS = 0.3
SMALL, LARGE = 100, 300_000


class KilledProcessTests(ChildHooks, StoreHooks, TestCase):
    """Seeded histories; the moment of each kill is as chance will have it."""

    async def test_kill(self) -> None:
        """No acknowledged message is lost or half there, no removed one returns, locks pass."""
        random = Random(4)
        store = await self.make_store()
        for _ in range(ROUNDS):
            child = await self.child(store.folder, LEASE_SECONDS)
            ids = {one.unique_id for one in await store.scan("mrose")}
            added, removed = 0, 0
            for _ in range(random.randrange(MOST_STEPS)):
                if random.random() < 0.6:
                    self.assertEqual(await self.deliver_one(child, random), "ok")
                    added += 1
                elif len(ids) + added > removed:
                    self.assertTrue((await child.ask("open mrose ")).startswith("ok"))
                    self.assertEqual(await child.ask("commit 1"), "ok")
                    removed += 1
            expected = len(ids) + added - removed
            changes = await self.killed_while_it_works(child, random, expected)
            count = len(await store.scan("mrose"))
            self.assertIn(count, {expected + change for change in changes})
            self.assertEqual(await store.check(), [])
            await self.read_and_sweep(store)

    def deliver_one(self, child: Child, random: Random):
        return child.ask(f"deliver mrose {random.choice([SMALL, LARGE])}")

    async def killed_while_it_works(self, child: Child, random: Random, there: int) -> set[int]:
        """Kill the process in an operation; return by how many messages that may have changed the store."""
        changes = {0, 1}
        if there and random.random() < 0.5:
            await child.ask("open mrose ")
            child.ask("commit 1")
            changes = {0, -1}
        else:
            self.deliver_one(child, random)
        await deferLater(reactor, random.random() * 0.01, lambda: None)
        child.transport.signalProcess("KILL")
        await child.ended
        return changes

    async def read_and_sweep(self, store) -> None:
        """See that every message is whole, and that what the process left behind goes."""
        self.pass_time(LEASE_SECONDS + MOMENT_SECONDS)
        session = await self.login(store, "mrose")
        for text in await self.texts(session):
            self.assertIn(len(text), (SMALL + 10, LARGE + 10))
            self.assertEqual(text.strip(b"x\r\n"), b"a: b")
        await session.release()
        await store.sweep(0)
        large = sum(size > LARGE for size in session.listing.sizes)
        self.assertEqual(len(self.body_files(store)), large)
        self.assertEqual((self.count(store, "lease"), self.count(store, "removed_blob")), (0, 0))
