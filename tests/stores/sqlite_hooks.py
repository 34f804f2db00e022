"""What the tests of the embedded store share: stores over files of their own, and a look inside."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile

from twisted.internet import reactor

from mailgate.interfaces import IBlobStore
from mailgate.stores.files import OWNER_FILE, FileBlobStore
from mailgate.stores.sqlite import SqliteStore


class SqliteHooks:
    """Stores over files of their own; a second store opens the same files as a process would."""

    def temporary_folder(self) -> str:
        """Return a fresh folder that goes with the test."""
        folder = tempfile.mkdtemp(prefix="mailgate-test-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def new_store(self, folder: str, **options: object) -> SqliteStore:
        """Return a store over a folder that is not started."""
        options.setdefault("lease_seconds", self.lease_seconds)
        store = SqliteStore(f"{folder}/mail.db", self.new_bodies(folder), reactor=reactor, **options)
        store.folder = folder
        return store

    def new_bodies(self, folder: str) -> IBlobStore:
        """Return the bodies of a store over a folder; of the same folder, the same bodies."""
        return FileBlobStore(f"{folder}/bodies")

    async def make_store(self, *, quota_octets: int | None = None, **options: object) -> SqliteStore:
        return await self.started(self.temporary_folder(), quota_octets=quota_octets, **options)

    async def make_second(self, store: SqliteStore, **options: object) -> SqliteStore:
        return await self.started(store.folder, **options)

    async def started(self, folder: str, **options: object) -> SqliteStore:
        store = self.new_store(folder, **options)
        await store.start()
        self.addCleanup(store.stop)
        return store

    async def expire_holder(self, store: SqliteStore) -> None:
        self.sql(store, "UPDATE holder SET expires_ms = 0 WHERE id = ?", store._database.holder.id)

    def sql(self, store: SqliteStore, statement: str, *values: object) -> list[tuple]:
        """Run one statement on a connection of its own; return its rows."""
        connection = sqlite3.connect(f"{store.folder}/mail.db", isolation_level=None, timeout=10)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def count(self, store: SqliteStore, table: str) -> int:
        """Return how many rows a table has."""
        return self.sql(store, f"SELECT count(*) FROM {table}")[0][0]

    def body_files(self, store: SqliteStore) -> list[str]:
        """Return the names of the files that hold bodies, half-written ones too."""
        return sorted(name for _, _, names in os.walk(f"{store.folder}/bodies") for name in names
                      if name != OWNER_FILE)

    async def trace(self, store: SqliteStore) -> list[str]:
        """Return a list that grows with every statement of the store's writer."""
        statements: list[str] = []
        await store._database.writer.run(
            lambda cursor: cursor.connection.set_trace_callback(statements.append))
        statements.clear()
        return statements


def open_files(below: str) -> list[str]:
    """Return the files below a folder that this process has open, removed ones too."""
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:
            continue        # the one that listed them
    return sorted(name for name in names if name.startswith(below))
