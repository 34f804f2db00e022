"""What the tests of the store over PostgreSQL share: a database and a folder for each, and a look inside."""

from __future__ import annotations

import os
import shutil
import tempfile

import psycopg
from twisted.internet import reactor

from mailgate.interfaces import IBlobStore
from mailgate.stores.files import OWNER_FILE, FileBlobStore
from mailgate.stores.postgres import PostgresStore
from tests.engines import postgres


class PostgresHooks:
    """Stores over a fresh database each; a second store opens the same one as another machine would."""

    server: postgres.Server | None = None       # the one that all tests share

    def temporary_folder(self) -> str:
        """Return a fresh folder that goes with the test."""
        folder = tempfile.mkdtemp(prefix="mailgate-test-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def fresh_database(self, *others: postgres.Server) -> str:
        """Return the address of an empty database that goes with the test."""
        server = self.server or postgres.primary()
        name = server.create_database()
        self.addCleanup(server.drop_database, name)
        return server.url(name, *others)

    def new_store(self, url: str, folder: str, **options: object) -> PostgresStore:
        """Return a store over a database and a folder that is not started."""
        options.setdefault("lease_seconds", self.lease_seconds)
        store = PostgresStore(url, self.new_bodies(folder), reactor=reactor, **options)
        store.url, store.folder = url, folder
        return store

    def new_bodies(self, folder: str) -> IBlobStore:
        """Return the bodies of a store over a folder; of the same folder, the same bodies."""
        return FileBlobStore(f"{folder}/bodies")

    async def make_store(self, *, quota_octets: int | None = None, **options: object) -> PostgresStore:
        return await self.started(self.fresh_database(), self.temporary_folder(),
                                  quota_octets=quota_octets, **options)

    async def make_second(self, store: PostgresStore, **options: object) -> PostgresStore:
        return await self.started(store.url, store.folder, **options)

    async def started(self, url: str, folder: str, **options: object) -> PostgresStore:
        store = self.new_store(url, folder, **options)
        await store.start()
        self.addCleanup(store.stop)
        return store

    async def expire_holder(self, store: PostgresStore) -> None:
        self.sql(store, "UPDATE holder SET expires_ms = 0 WHERE id = %s", store._database.holder.id)

    def sql(self, store: PostgresStore, statement: str, *values: object) -> list[tuple]:
        """Run one statement on a connection of its own; return its rows."""
        with psycopg.connect(store.url, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def count(self, store: PostgresStore, table: str) -> int:
        """Return how many rows a table has."""
        return self.sql(store, f"SELECT count(*) FROM {table}")[0][0]

    def body_files(self, store: PostgresStore) -> list[str]:
        """Return the names of the files that hold bodies, half-written ones too."""
        return sorted(name for _, _, names in os.walk(f"{store.folder}/bodies") for name in names
                      if name != OWNER_FILE)
