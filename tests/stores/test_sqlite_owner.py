"""The embedded store and its folder of bodies know each other: no database sweeps another's bodies."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from pathlib import Path
from unittest import SkipTest

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mailgate.errors import StoreUnavailable
from mailgate.stores.files import OWNER_FILE, FileBlobStore
from mailgate.stores.sqlite import SqliteStore
from tests.stores.contract_base import MIME, StoreHooks
from tests.stores.sqlite_hooks import SqliteHooks

LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcd\r\n" * 20_000
NOBODY = 65534
DAY_SECONDS = 86_400


class OwnerTests(SqliteHooks, StoreHooks, TestCase):
    """Every way in which a database and a folder of bodies can meet that are not one store."""

    async def stopped(self) -> SqliteStore:
        """Return a store with one large message that is three days old, stopped."""
        store = await self.make_store()
        await self.put(store, "mrose", LARGE)
        for name in self.body_files(store):
            os.utime(f"{store.folder}/bodies/{name[0]}/{name[1]}/{name}", (1, 1))
        await store.stop()
        return store

    def take_away(self, store: SqliteStore, to: str) -> None:
        """Move the database with its log, as an operator does."""
        os.makedirs(to, exist_ok=True)
        for path in Path(store.folder).glob("mail.db*"):
            shutil.move(path, f"{to}/{path.name}")

    def put_back(self, store: SqliteStore, source: str) -> None:
        for path in Path(source).glob("mail.db*"):
            shutil.move(path, f"{store.folder}/{path.name}")

    async def is_whole(self, store: SqliteStore) -> None:
        """Start the store: nothing is missing, and the message can be read."""
        await store.start()
        self.addCleanup(store.stop)
        self.assertEqual(await store.check(), [])
        self.assertEqual(await store.sweep(0), 0)
        self.assertEqual(await self.held(store, "mrose"), [LARGE])

    async def refuses(self, store: SqliteStore, words: str) -> None:
        """See that the start of a new process fails for this reason, and that every body stays."""
        store = self.new_store(store.folder)
        bodies = self.body_files(store)
        self.assertEqual(len(bodies), 1)
        fault = await self.fault(StoreUnavailable, store.start())
        self.assertRegex(str(fault), words)
        await self.fault(StoreUnavailable, store.sweep(0))
        self.assertEqual(self.body_files(store), bodies)

    async def test_a_start_without_the_database(self) -> None:
        """Makes no new one beside bodies that are there, and removes none of them."""
        store = await self.stopped()
        self.take_away(store, store.folder + "/away")
        await self.refuses(store, r"mail\.db is missing, and its bodies are there")
        self.assertEqual(sorted(os.listdir(store.folder)), ["away", "bodies"])
        self.put_back(store, store.folder + "/away")
        await self.is_whole(store)

    async def test_another_database(self) -> None:
        """A store with these bodies configured by mistake: not opened, nothing swept."""
        store, other = await self.stopped(), await self.stopped()
        self.take_away(store, store.folder + "/away")
        self.take_away(other, store.folder)
        await self.refuses(store, "has the bodies of another store")
        self.take_away(store, other.folder)
        self.put_back(store, store.folder + "/away")
        await self.is_whole(store)
        await self.is_whole(other)

    async def test_a_fresh_database_that_is_there(self) -> None:
        """An empty file in the place of the database becomes no owner of the bodies."""
        store = await self.stopped()
        self.take_away(store, store.folder + "/away")
        Path(store.folder, "mail.db").touch()
        await self.refuses(store, "has the bodies of another store")

    async def test_bodies_without_an_owner(self) -> None:
        """Whose they are nobody can tell: not opened; the id can be put back by hand."""
        store = await self.stopped()
        Path(store.folder, "bodies", OWNER_FILE).unlink()
        await self.refuses(store, f"has bodies, and no file {OWNER_FILE}")
        (name,), = self.sql(store, "SELECT id FROM store")
        Path(store.folder, "bodies", OWNER_FILE).write_text(name + "\n")
        await self.is_whole(store)

    async def test_bodies_that_change_hands_while_the_store_runs(self) -> None:
        """Sweep refuses and check says so, whichever of the two was exchanged, until it is put right."""
        store = await self.make_store()
        await self.put(store, "mrose", LARGE)
        mark = Path(store.folder, "bodies", OWNER_FILE)
        for text in ("another\n", None):
            kept = mark.read_text()
            mark.unlink() if text is None else mark.write_text(text)
            await self.fault(StoreUnavailable, store.sweep(0))
            self.assertEqual(len(await store.check()), 1)
            self.assertEqual(len(self.body_files(store)), 1)
            mark.write_text(kept)
        self.assertEqual(await store.check(), [])

    async def test_a_database_that_is_exchanged_while_the_store_runs(self) -> None:
        """Long readings open the file anew: they see that it is another."""
        other = await self.stopped()
        store = await self.make_store()
        await self.put(store, "mrose", LARGE)
        self.take_away(store, store.folder + "/away")
        shutil.copy(f"{other.folder}/mail.db", f"{store.folder}/mail.db")
        await self.fault(StoreUnavailable, store.sweep(0))
        self.assertIn("the bodies belong to another store", " ".join(await store.check()))
        self.assertEqual(len(self.body_files(store)), 1)

    async def test_a_copy_is_the_same_store(self) -> None:
        """Database and bodies copied together, as a backup has them, open elsewhere."""
        store = await self.stopped()
        copy = self.new_store(self.temporary_folder() + "/copy")
        shutil.copytree(store.folder, copy.folder)
        await self.is_whole(copy)

    async def test_a_folder_without_bodies(self) -> None:
        """Is nobody's until the first large message: missing, or made by hand."""
        for make in (False, True):
            store = self.new_store(self.temporary_folder())
            if make:
                os.mkdir(f"{store.folder}/bodies")
            await store.start()
            self.addCleanup(store.stop)
            await self.put(store, "mrose", MIME)
            self.assertEqual(os.path.exists(f"{store.folder}/bodies/{OWNER_FILE}"), False)
            await self.put(store, "mrose", LARGE)
            (name,), = self.sql(store, "SELECT id FROM store")
            self.assertEqual(Path(store.folder, "bodies", OWNER_FILE).read_text(), name + "\n")
            self.assertTrue(re.fullmatch("[0-9a-f]{32}", name))

    async def test_two_stores_that_begin_with_one_folder(self) -> None:
        """Both were started while it was empty: the second to write a body is refused."""
        one = await self.make_store()
        blobs = FileBlobStore(f"{one.folder}/bodies")
        other = SqliteStore(f"{one.folder}/other.db", blobs, reactor=one._database._reactor)
        await other.start()
        self.addCleanup(other.stop)
        await self.put(one, "mrose", LARGE)
        writing = self.deliver(other, LARGE, self.placement("mrose"))
        await self.fault(StoreUnavailable, Deferred.fromCoroutine(writing))
        self.assertEqual(await self.held(one, "mrose"), [LARGE])
        self.assertEqual(len(self.body_files(one)), 1)

    async def test_what_the_superuser_makes(self) -> None:
        """Database, log, index, bodies, their folders, the id: all belong to the owner of the folder."""
        if os.geteuid() != 0:
            raise SkipTest("only the superuser can give files away")
        folder = self.temporary_folder()
        os.chown(folder, NOBODY, NOBODY)
        store = await self.started(folder)
        await self.put(store, "mrose", MIME, LARGE)
        found = {str(path.relative_to(folder)): (path.stat().st_uid, path.stat().st_gid)
                 for path in Path(folder).rglob("*")}
        for name in ("mail.db", "mail.db-wal", "mail.db-shm", "bodies", f"bodies/{OWNER_FILE}"):
            self.assertIn(name, found)
        self.assertEqual(len(found), 8)     # two levels of folders and the body besides
        self.assertEqual(set(found.values()), {(NOBODY, NOBODY)}, found)
        await store.stop()
        self.assertEqual(self.as_nobody(folder), b"1\n")

    def as_nobody(self, folder: str) -> bytes:
        """Write into the database as the folder's owner; return how many rows that changed."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:      # nothing of Twisted's runs here
            try:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                connection = sqlite3.connect(f"{folder}/mail.db")
                changed = connection.execute("UPDATE account_version SET last = last + 1").rowcount
                connection.commit()
                open(f"{folder}/bodies/new", "w").close()
                os.write(writing, b"%d\n" % changed)
            except BaseException as fault:
                os.write(writing, repr(fault).encode())
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        with open(reading, "rb") as pipe:
            return pipe.read()
