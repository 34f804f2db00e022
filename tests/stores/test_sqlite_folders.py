"""The embedded store: what folders cost, and what is left of them."""

from __future__ import annotations

import sqlite3

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mailgate.errors import MaildropInUse, StoreUnavailable
from mailgate.stores.sql import filing, foldering, folders
from mailgate.stores.sql.messages import load_snapshot
from tests.stores.contract_base import MIME, StoreHooks
from tests.stores.sqlite_hooks import SqliteHooks


class FolderCostTests(SqliteHooks, StoreHooks, TestCase):
    """Sessions pay nothing for folders, and folders nothing for the INBOX."""

    async def plan(self, store, operation, *args: object) -> str:
        """Return how the database goes about an operation's statements."""
        plans: list[str] = []

        class Explaining(sqlite3.Cursor):
            def execute(self, statement, values=()):
                if statement.lstrip().startswith("SELECT"):
                    super().execute(f"EXPLAIN QUERY PLAN {statement}", values)
                    plans.extend(row[3] for row in self.fetchall())
                return super().execute(statement, values)

        connection = sqlite3.connect(f"{store.folder}/mail.db", isolation_level=None)
        try:
            operation(Explaining(connection), *args)
        finally:
            connection.close()
        return "\n".join(plans)

    async def test_a_folder_is_read_by_its_index(self) -> None:
        """Already in order; and a login reads an index that holds all it needs."""
        store = await self.make_store()
        await self.deliver(store, MIME, self.placement("mrose"), self.placement("mrose", folder="a"))
        plan = await self.plan(store, folders.scan, "mrose", "a")
        self.assertIn("USING INDEX message_folder (maildrop_id=? AND folder=?)", plan)
        self.assertNotIn("TEMP B-TREE", plan)
        for where, index in ((await self.plan(store, load_snapshot, 1, ""),
                              "COVERING INDEX message_listing (maildrop_id=? AND folder=?)"),
                             (await self.plan(store, folders.scan, "mrose", "INBOX"),
                              "PRIMARY KEY (maildrop_id=?)")):
            self.assertIn(f"SEARCH message USING {index}", where)
            self.assertNotIn("TEMP B-TREE", where)

    async def test_messages_are_found_by_their_ids(self) -> None:
        """Each by one look into an index, however many the maildrop holds."""
        store = await self.make_store()
        await self.deliver(store, MIME, self.placement("mrose"), self.placement("mrose", folder="a"))
        for operation, *args in ((filing.flag, "INBOX", [b"x"], "S", ""), (filing.take_ids, {b"x": b"y"}),
                                 (filing.expunge, "a", [b"x"])):
            plan = await self.plan(store, operation, "mrose", *args)
            self.assertIn("USING INDEX message_unique_id (maildrop_id=? AND unique_id=?)", plan)
            self.assertNotIn("message USING PRIMARY KEY", plan)

    async def test_what_does_not_concern_the_inbox_leaves_the_listing_alone(self) -> None:
        """The next login takes the one that is in memory; a change of the INBOX makes a new one."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME)
        session = await self.login(store, "mrose")
        kept = session.listing
        ids = [one.unique_id for one in await store.scan("mrose")]
        await session.release()

        async def is_kept() -> bool:
            session = await self.login(store, "mrose")
            await session.release()
            return session.listing is kept

        await self.deliver(store, MIME, self.placement("mrose", folder="a"))
        await store.flag("mrose", "INBOX", ids, add="S")
        filed = [one.unique_id for one in await store.scan("mrose", "a")]
        await store.make_folder("mrose", "b")
        await store.move("mrose", "a", filed, "b")
        await store.copy("mrose", "INBOX", ids, "b")
        await store.rename_folder("mrose", "b", "c")
        self.assertTrue(await is_kept())
        await store.move("mrose", "c", filed, "INBOX")
        self.assertFalse(await is_kept())

    async def test_a_removed_maildrop_leaves_no_rows(self) -> None:
        """In no table that names one, whatever lay there; nor do bodies that only folders had."""
        store = await self.make_store()
        await self.add_account(store, "mrose")
        place = self.placement("mrose", folder="a", unique_id=b"old")
        await self.deliver(store, MIME, place, delivery_id="1")
        await (await self.login(store, "mrose")).commit([])
        self.sql(store, "INSERT INTO spool_entry VALUES (1, x'00', x'00')")
        self.sql(store, "INSERT INTO spool_journal (maildrop_id, data) VALUES (1, x'00')")
        await self.login(store, "mrose")
        await self.expire_holder(store)     # its lease is left
        tables = [name for (name,) in self.sql(store, """
            SELECT DISTINCT tables.name FROM sqlite_master AS tables
            JOIN pragma_table_info(tables.name) AS columns
            WHERE tables.type = 'table' AND columns.name = 'maildrop_id'""")]
        filled = {name for name in tables if self.count(store, name)}
        self.assertLessEqual({"message", "folder", "imported", "delivery", "login", "lease", "spool_entry",
                              "spool_journal"}, filled)
        await store.accounts.remove("mrose")
        self.assertEqual({name: self.count(store, name) for name in tables}, dict.fromkeys(tables, 0))
        self.assertEqual((self.count(store, "maildrop"), self.count(store, "body")), (0, 0))


class ManyIdsTests(SqliteHooks, StoreHooks, TestCase):
    """Two are already many here."""

    def setUp(self) -> None:
        self.patch(foldering, "IDS_A_TRANSACTION", 2)

    async def _filled(self):
        """Return a store with five messages, what each is to be called, and another process's store."""
        store = await self.make_store()
        await self.put(store, "mrose", *[MIME] * 5)
        ids = [one.unique_id for one in await store.scan("mrose")]
        given = dict(zip(ids, [b"one", b"two", ids[3], b"four", b"five"], strict=True))
        return store, given, await self.make_second(store)

    def _between(self, store, do) -> None:
        """Have something done whenever others get their turn."""
        pause = store._database.let_others

        async def let_others() -> None:
            await pause()
            await do()

        store._database.let_others = let_others

    async def test_others_write_between(self) -> None:
        """Mail comes in by another process, while nobody can log in and see half of it."""
        store, given, other = await self._filled()
        seen = []

        async def look() -> None:
            await self.put(other, "mrose", MIME)
            seen.append([one.unique_id for one in await other.scan("mrose")][:5])
            await self.fault(MaildropInUse, self.open(other))

        self._between(store, look)
        self.assertEqual(await store.take_ids("mrose", given), [])
        old, new = list(given), list(given.values())
        self.assertEqual(seen, [new[:2] + old[2:], new[:4] + old[4:], new])
        session = await self.login(other, "mrose")
        self.assertEqual(len(session.listing), 8)
        await session.release()
        self.assertEqual(await store.check(), [])

    def open(self, store):
        return Deferred.fromCoroutine(self.login(store, "mrose"))

    async def test_one_that_was_cut_short(self) -> None:
        """Keeps what it has got, holds nobody up, and the same call does the rest."""
        store, given, other = await self._filled()
        self._between(store, store.stop)
        await self.fault(StoreUnavailable, store.take_ids("mrose", given))
        old, new = list(given), list(given.values())
        self.assertEqual([one.unique_id for one in await other.scan("mrose")], new[:2] + old[2:])
        self.assertEqual(await other.take_ids("mrose", given), [])
        self.assertEqual([one.unique_id for one in await other.scan("mrose")], new)

    async def test_while_a_session_is_open(self) -> None:
        """Nothing is begun."""
        store, given, other = await self._filled()
        session = await self.login(other, "mrose")
        await self.fault(MaildropInUse, store.take_ids("mrose", given))
        self.assertEqual([one.unique_id for one in await other.scan("mrose")], list(given))
        await session.release()

    async def test_nobodys(self) -> None:
        """No maildrop is made for them."""
        store, given, _ = await self._filled()
        self.assertEqual(await store.take_ids("nobody", given), [])
        self.assertEqual(await store.maildrops(), ["mrose"])
