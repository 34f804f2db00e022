"""Many octets of bodies in rows: removed at once for the session, freed a few at a time."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mailgate.stores.sql import maildrop, messages
from mailgate.stores.sql.messages import bury
from tests.stores.contract_base import MIME, StoreHooks
from tests.stores.sqlite_hooks import SqliteHooks

BODY = b"Subject: some\r\n\r\n" + b"0123456789abcd\r\n" * 250     # about 4 KB
MESSAGES = 20


class BuryTests(SqliteHooks, StoreHooks, TestCase):
    """Three bodies are already many here."""

    def setUp(self) -> None:
        self.patch(messages, "BURIED_OCTETS", 3 * len(BODY))
        self.patch(messages, "MOST_BURIED", 5)

    async def _full(self, **options: Any) -> Any:
        store = await self.make_store(**options)
        await self.put(store, "ann", *[BODY] * MESSAGES)
        await self.put(store, "bob", MIME)
        return store

    async def _buried(self, store: Any) -> None:
        """Wait until nothing is left to bury."""
        while store._database._burying or self.count(store, "dropped_ref"):
            await deferLater(reactor, 0.001)

    def _do_not_bury(self, store: Any) -> None:
        store._database.bury = lambda: None

    async def test_quit_only_notes_them(self) -> None:
        """Gone for every session, still in the file; check knows the difference."""
        store = await self._full()
        self._do_not_bury(store)
        await (await self.login(store, "ann")).commit(range(1, MESSAGES + 1))
        self.assertEqual(await self.held(store, "ann"), [])
        self.assertEqual(self.sql(store, "SELECT messages, octets FROM maildrop WHERE key = 'ann'"), [(0, 0)])
        self.assertEqual((self.count(store, "dropped_ref"), self.count(store, "body")),
                         (MESSAGES, MESSAGES + 1))
        self.assertEqual(await store.check(), [])

    async def test_little_by_little(self) -> None:
        """Each transaction frees a bounded number of octets, and others' bodies stay."""
        store = await self._full()
        self._do_not_bury(store)
        await (await self.login(store, "ann")).commit(range(1, MESSAGES + 1))
        left = [MESSAGES]
        while await store._database.writer.run(bury):
            left.append(self.count(store, "dropped_ref"))
            self.assertEqual(self.count(store, "body"), left[-1] + 1)
        self.assertEqual(left, list(range(MESSAGES, 1, -3)))
        self.assertEqual((self.count(store, "dropped_ref"), self.count(store, "body")), (0, 1))
        self.assertEqual(await self.held(store, "bob"), [MIME])
        self.assertEqual(await store.check(), [])

    async def test_it_happens_by_itself(self) -> None:
        """After a QUIT, a removed maildrop, and what has expired."""
        store = await self._full()
        self.patch(maildrop, "BURIED_OCTETS", 1)
        await (await self.login(store, "ann")).commit(range(1, MESSAGES + 1))
        await self._buried(store)
        self.assertEqual(self.count(store, "body"), 1)
        await self.put(store, "ann", *[BODY] * MESSAGES)
        await store.remove("ann")
        await self._buried(store)
        self.assertEqual(self.count(store, "body"), 1)
        await self.put(store, "cid", *[BODY] * MESSAGES, age_seconds=1000)
        self.assertEqual(await store.expire(500), MESSAGES)
        await self._buried(store)
        self.assertEqual(self.count(store, "body"), 1)

    async def test_a_start_goes_on(self) -> None:
        """What a process left, for it ended or crashed, the next one frees."""
        store = await self._full()
        self._do_not_bury(store)
        await (await self.login(store, "ann")).commit(range(1, MESSAGES + 1))
        await store.stop()
        second = await self.started(store.folder)
        await self._buried(second)
        self.assertEqual(self.count(second, "body"), 1)

    async def test_a_sweep_goes_on(self) -> None:
        """Another process, such as a command, left some."""
        store = await self._full()
        second = await self.make_second(store)
        self._do_not_bury(second)
        await second.remove("ann")
        self.assertEqual(self.count(store, "dropped_ref"), MESSAGES)
        await store.sweep(0)
        await self._buried(store)
        self.assertEqual(self.count(store, "body"), 1)

    async def test_shared_bodies_stay(self) -> None:
        """A body that somebody else has only counts one less, at last; two removals may wait at once."""
        store = await self.make_store()
        self._do_not_bury(store)
        for _ in range(MESSAGES):
            await self.deliver(store, BODY, *[self.placement(name) for name in ("ann", "bob", "cid")])
        for name in ("ann", "bob"):
            await (await self.login(store, name)).commit(range(1, MESSAGES + 1))
            self.assertEqual(await store.check(), [])
        self.assertEqual(self.sql(store, "SELECT DISTINCT refs FROM dropped_ref"), [(2,)])
        while await store._database.writer.run(bury):
            self.assertEqual(await store.check(), [])
        self.assertEqual(self.sql(store, "SELECT DISTINCT refs FROM body"), [(1,)])
        self.assertEqual(await self.held(store, "cid"), [BODY] * MESSAGES)

    async def test_bodies_in_files(self) -> None:
        """Files of many removed messages are swept after their rows have gone."""
        store = await self.make_store(inline_octets=100)
        await self.put(store, "ann", *[BODY] * MESSAGES)
        await (await self.login(store, "ann")).commit(range(1, MESSAGES + 1))
        store._database.bury()
        await self._buried(store)
        self.assertEqual((self.count(store, "body"), self.count(store, "removed_blob")), (0, MESSAGES))
        self.assertEqual(await store.sweep(0), MESSAGES)
        self.assertEqual(self.body_files(store), [])

    async def test_mail_comes_in_between(self) -> None:
        """A delivery made while many bodies are freed is not among them."""
        store = await self._full()
        self.patch(maildrop, "BURIED_OCTETS", 1)
        await (await self.login(store, "ann")).commit(range(1, MESSAGES + 1))
        await self.put(store, "ann", MIME)
        await self._buried(store)
        self.assertEqual(await self.held(store, "ann"), [MIME])
        self.assertEqual(await store.check(), [])

    async def test_few_are_freed_at_once(self) -> None:
        """No second transaction where there is little to free."""
        store = await self._full()
        statements = await self.trace(store)
        await (await self.login(store, "ann")).commit([1])
        self.assertEqual((self.count(store, "dropped_ref"), self.count(store, "body")), (0, MESSAGES))
        self.assertEqual(sum(one.startswith("COMMIT") for one in statements), 2)      # login, QUIT
