"""Opening the embedded database: migrations, other programs' files, what its errors mean, outages."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import subprocess
import tempfile
from unittest import SkipTest

from twisted.internet.defer import gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailgate.errors import MaildropInUse, StoreFull, StoreUnavailable
from mailgate.model import Account, Admission
from mailgate.stores import sqlite_connection
from mailgate.stores.sqlite_connection import fault_of, migrations, split_statements
from tests.stores.contract_base import MIME, StoreHooks
from tests.stores.sqlite_hooks import SqliteHooks

LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcd\r\n" * 20_000
NOBODY = 65534


class MigrationTests(SqliteHooks, StoreHooks, TestCase):
    """The schema's version, and who may open what."""

    async def test_a_fresh_store(self) -> None:
        """Has the newest schema, a write-ahead log and our mark."""
        store = await self.make_store()
        self.assertEqual(self.sql(store, "PRAGMA user_version"), [(len(migrations()),)])
        self.assertEqual(self.sql(store, "PRAGMA journal_mode"), [("wal",)])
        self.assertEqual(self.sql(store, "PRAGMA application_id"), [(0x6D676174,)])

    async def test_an_older_store_is_brought_up_to_date(self) -> None:
        """Only the steps that are missing run, and what was there stays."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME)
        await store.stop()
        known = len(migrations())
        steps = [*migrations(), "CREATE TABLE two (n INTEGER);\nINSERT INTO two\nVALUES (2);\n",
                 "-- three\nCREATE TABLE three (n INTEGER);\n"]
        self.patch(sqlite_connection, "migrations", lambda: steps)
        for _ in range(2):
            await store.start()
            self.assertEqual(self.sql(store, "PRAGMA user_version"), [(known + 2,)])
            self.assertEqual(self.sql(store, "SELECT n FROM two"), [(2,)])
            self.assertEqual(await self.held(store, "mrose"), [MIME])
            await store.stop()

    async def test_imports_of_the_first_schema(self) -> None:
        """What an import took then is known by its unique-id, which it was recognized by."""
        all_steps = migrations()
        self.patch(sqlite_connection, "migrations", lambda: all_steps[:1])
        store = await self.make_store()
        self.sql(store, "INSERT INTO maildrop (key, name) VALUES ('mrose', 'mrose')")
        self.sql(store, "INSERT INTO imported VALUES (1, ?)", b"old-1")
        await store.stop()
        self.patch(sqlite_connection, "migrations", lambda: all_steps)
        await store.start()
        await self.deliver(store, MIME, self.placement("mrose", unique_id=b"old-1"))
        self.assertEqual(await self.held(store, "mrose"), [])
        await self.deliver(store, MIME, self.placement("mrose", unique_id=b"old-1", identity=b"one"))
        self.assertEqual(await self.held(store, "mrose"), [MIME])
        self.assertNotEqual([one.unique_id for one in await store.scan("mrose")], [b"old-1"])

    async def test_a_step_that_fails_changes_nothing(self) -> None:
        """All steps are one transaction; the old program still opens the store."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME)
        await store.stop()
        known = len(migrations())
        steps = [*migrations(), "CREATE TABLE two (n INTEGER);", "CREATE TABLE three (n INTEGER);\nnonsense;"]
        self.patch(sqlite_connection, "migrations", lambda: steps)
        await self.fault(StoreUnavailable, store.start())
        self.assertEqual(self.sql(store, "PRAGMA user_version"), [(known,)])
        self.assertEqual(self.sql(store, "SELECT count(*) FROM sqlite_master WHERE name = 'two'"), [(0,)])
        self.patch(sqlite_connection, "migrations", lambda: steps[:known])
        await store.start()
        self.assertEqual(await self.held(store, "mrose"), [MIME])

    async def test_a_newer_schema_is_refused(self) -> None:
        """With words that say so, and the file is left alone."""
        store = await self.make_store()
        await store.stop()
        self.sql(store, f"PRAGMA user_version = {len(migrations()) + 1}")
        fault = await self.fault(StoreUnavailable, store.start())
        self.assertIn(f"schema {len(migrations()) + 1}", str(fault))
        self.assertEqual(self.sql(store, "PRAGMA user_version"), [(len(migrations()) + 1,)])

    async def test_other_programs_files_are_refused(self) -> None:
        """Another database, or no database at all, is not touched."""
        store = self.new_store(self.temporary_folder())
        self.sql(store, "CREATE TABLE theirs (n INTEGER)")
        fault = await self.fault(StoreUnavailable, store.start())
        self.assertIn("another program's", str(fault))
        self.assertEqual(self.sql(store, "SELECT name FROM sqlite_master"), [("theirs",)])
        self.assertNotEqual(self.sql(store, "PRAGMA journal_mode"), [("wal",)])
        path = f"{store.folder}/mail.db"
        with open(path, "wb") as file:
            file.write(b"From someone\n" * 100)
        await self.fault(StoreUnavailable, store.start())
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"From someone\n" * 100)

    async def test_many_start_at_once(self) -> None:
        """One of them makes the schema, all of them work."""
        for _ in range(5):
            folder = self.temporary_folder()
            stores = [self.new_store(folder) for _ in range(8)]
            await gatherResults([store.start() for store in stores])
            for number, store in enumerate(stores):
                self.addCleanup(store.stop)
                await self.put(store, "mrose", b"%d\r\n" % number)
            self.assertEqual(len(await self.held(stores[0], "mrose")), 8)

    async def test_a_path_of_any_characters(self) -> None:
        """What means something in a URI means nothing here."""
        folder = self.temporary_folder() + "/a b?mode=ro#c%41'&ä"
        os.mkdir(folder)
        await self.put(await self.started(folder), "mrose", MIME)
        self.assertIn("mail.db", os.listdir(folder))


class StatementTests(SynchronousTestCase):
    """A migration is run statement by statement."""

    def test_numbering(self) -> None:
        """The schema's files are numbered from 1 without a gap."""
        self.assertGreater(len(migrations()), 0)

    def test_split(self) -> None:
        """Semicolons in strings, comments and triggers do not end a statement."""
        trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN\n  DELETE FROM b;\n  DELETE FROM c;\nEND;\n"
        script = "-- a; b\nCREATE TABLE a (n);\n" + trigger + "INSERT INTO a\nVALUES (';\n');\n\n"
        self.assertEqual(split_statements(script), [
            "-- a; b\nCREATE TABLE a (n);\n", trigger, "INSERT INTO a\nVALUES (';\n');\n"])

    def test_unfinished(self) -> None:
        """A script that ends in the middle of a statement is a mistake."""
        self.assertRaises(AssertionError, split_statements, "CREATE TABLE a (n)")


class FaultTests(SynchronousTestCase):
    """One table from the driver's errors to ours."""

    def test_faults(self) -> None:
        """Full, or out of order; ours pass; a stranger is logged as a bug."""
        busy = MaildropInUse("xyz")
        self.assertIs(fault_of(busy), busy)
        for error, expected in [
            (sqlite3.OperationalError("database or disk is full"), StoreFull),
            (OSError(errno.ENOSPC, "No space left on device"), StoreFull),
            (OSError(errno.EDQUOT, "Disk quota exceeded"), StoreFull),
            (sqlite3.OperationalError("database is locked"), StoreUnavailable),
            (sqlite3.OperationalError("attempt to write a readonly database"), StoreUnavailable),
            (sqlite3.OperationalError("disk I/O error"), StoreUnavailable),
            (sqlite3.DatabaseError("database disk image is malformed"), StoreUnavailable),
            (OSError(errno.EIO, "Input/output error"), StoreUnavailable),
        ]:
            self.assertIs(type(fault_of(error)), expected, error)
            self.assertEqual(self.flushLoggedErrors(), [])
        for error in (ValueError("a bug"), sqlite3.ProgrammingError("a bug")):
            self.assertIs(type(fault_of(error)), StoreUnavailable)
            self.assertEqual([failure.value for failure in self.flushLoggedErrors()], [error])


class FullTests(SqliteHooks, StoreHooks, TestCase):
    """No space: named as such, nothing acknowledged, nothing lost, and it passes."""

    async def test_the_database_is_full(self) -> None:
        """Deliveries and accounts fail; what is there can be read and removed, and makes room."""
        store = await self.make_store()
        content = b"x" * 30_000 + b"\r\n"
        await self.put(store, "mrose", *[content] * 20)
        await self.limit_pages(store, self.sql(store, "PRAGMA page_count")[0][0] + 3)
        outcome = self.deliver(store, content, self.placement("mrose"))
        with self.assertRaises(StoreFull):
            await outcome
        self.assertEqual(await self.held(store, "mrose"), [content] * 20)
        session = await self.login(store, "mrose")
        await session.commit([1, 2])
        self.assertEqual(await self.held(store, "mrose"), [content] * 18)
        await self.put(store, "mrose", content)
        self.assertEqual(await store.check(), [])

    async def limit_pages(self, store, count: int) -> None:
        """Let the store's writer, now and after a failure, make the file no larger than that."""
        connect = store._database.writer._connect

        def limited() -> sqlite3.Connection:
            connection = connect()
            connection.execute(f"PRAGMA max_page_count = {count}").fetchall()
            return connection

        store._database.writer._connect = limited
        await store._database.writer.run(
            lambda cursor: cursor.execute(f"PRAGMA max_page_count = {count}").fetchall())

    async def test_a_full_batch_costs_only_who_did_not_fit(self) -> None:
        """What is small enough is stored, from the same batch, and answered so."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME)
        await self.limit_pages(store, self.sql(store, "PRAGMA page_count")[0][0] + 3)
        asked = []
        for content in (b"small\r\n", b"x" * 60_000 + b"\r\n", b"small\r\n"):
            delivery = store.deliver()
            delivery.write(content)
            asked.append(delivery.commit([self.placement("mrose")]).addErrback(lambda failure: failure.type))
        outcomes = await gatherResults(asked)
        self.assertIs(outcomes[1], StoreFull)
        stored = sum(outcome == [None] for outcome in outcomes)
        self.assertEqual(len(await store.scan("mrose")), 1 + stored)
        self.assertEqual(await store.check(), [])

    async def test_the_disk_is_full(self) -> None:
        """A real file system without space: bodies in rows or in files, then sessions."""
        for content in (LARGE, MIME * 900):
            folder = self.small_disk("4m")
            store = await self.started(folder)
            await self.put(store, "kept", MIME, LARGE)
            stored = 0
            with self.assertRaises(StoreFull):
                while True:
                    await self.put(store, "mrose", content)
                    stored += 1
            self.assertGreater(stored, 5)
            self.assertEqual(len(await store.scan("mrose")), stored)
            self.assertEqual(await store.check(), [])
            stored -= await self.removed_while_full(store)
            subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
            self.assertEqual(await self.held(store, "kept"), [MIME, LARGE])
            self.assertTrue(await self.held(store, "mrose") == [content] * stored)
            await (await self.login(store, "mrose")).commit(range(1, stored + 1))
            await store.sweep(0)
            self.assertEqual(len(self.body_files(store)), 1)
            self.assertEqual(await store.check(), [])
            await store.stop()

    async def removed_while_full(self, store) -> int:
        """Try a session that removes one message; return how many it said that it removed."""
        try:
            session = await self.login(store, "mrose")
            await session.commit([1])
        except StoreUnavailable:
            return 0
        return 1

    def small_disk(self, size: str) -> str:
        """Return the folder of a file system of its own, of that size. Needs the superuser."""
        if os.geteuid() != 0:
            raise SkipTest("only the superuser can mount a small disk")
        folder = tempfile.mkdtemp(prefix="mailgate-disk-")
        self.addCleanup(os.rmdir, folder)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder],
                                 check=False, capture_output=True)
        if mounted.returncode:
            raise SkipTest(f"no mount here: {mounted.stderr!r}")
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=True)
        return folder


class ReadOnlyTests(SqliteHooks, StoreHooks, TestCase):
    """A store that cannot be written."""

    async def test_it_turns_read_only(self) -> None:
        """Everything that writes is an outage, named; what is there stays, and it passes."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME, MIME)
        session = await self.login(store, "mrose")
        connect = store._database.writer._connect

        def read_only() -> sqlite3.Connection:
            connection = connect()
            connection.execute("PRAGMA query_only = ON")
            return connection

        store._database.writer._connect = read_only
        await store._database.writer.run(
            lambda cursor: cursor.execute("PRAGMA query_only = ON").fetchall())
        for asked in (store.open(Admission("other")), store.accounts.add([Account("fred")]),
                      session.commit([1])):
            await self.fault(StoreUnavailable, asked)
        with self.assertRaises(StoreUnavailable):
            await self.deliver(store, MIME, self.placement("mrose"))
        self.assertEqual(len(await store.scan("mrose")), 2)
        store._database.writer._connect = connect
        await store._database.writer.run(
            lambda cursor: cursor.execute("PRAGMA query_only = OFF").fetchall())
        await store._database._renew()
        self.assertEqual(await self.held(store, "mrose"), [MIME, MIME])

    async def test_it_is_read_only(self) -> None:
        """Files that this user may not write: start is an outage, and they are left as they are."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME, LARGE)
        await store.stop()
        for folder, _, names in os.walk(store.folder):
            for name in names:
                os.chmod(f"{folder}/{name}", stat.S_IRUSR | stat.S_IROTH)
            os.chmod(folder, stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
        if os.geteuid() == 0:
            self.addCleanup(os.seteuid, 0)
            os.seteuid(NOBODY)
        other = self.new_store(store.folder)
        with self.assertRaises(StoreUnavailable):
            await other.start()
            await self.deliver(other, MIME, self.placement("mrose"))
        await other.stop()
        if os.geteuid() == NOBODY:
            os.seteuid(0)
        for folder, _, _ in os.walk(store.folder):
            os.chmod(folder, stat.S_IRWXU)
        await store.start()
        self.assertEqual(await self.held(store, "mrose"), [MIME, LARGE])

    async def test_a_damaged_file(self) -> None:
        """Is an outage where it is touched, and a finding of the check."""
        store = await self.make_store()
        await self.put(store, "mrose", *[b"x" * 20_000] * 20)
        await store.stop()
        with open(f"{store.folder}/mail.db", "r+b") as file:
            file.seek(50 * 4096)
            file.write(b"\xff" * 50 * 4096)
        await store.start()
        findings = await store.check()
        self.assertNotEqual(findings, [])
        session = await self.login(store, "mrose")
        outcomes = set()
        for number in range(1, len(session.listing) + 1):
            try:
                outcomes.add(type(await self.wire(session, number)))
            except StoreUnavailable as fault:
                outcomes.add(type(fault))
        self.assertTrue(outcomes <= {bytes, StoreUnavailable})
