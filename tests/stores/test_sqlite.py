"""The embedded store: the contracts, and what only it promises."""

from __future__ import annotations

import sqlite3

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from mailgate.stores.files import FileBlobStore
from mailgate.stores.sqlite import SqliteStore
from tests.stores.contract_accounts import AccountStoreContract
from tests.stores.contract_maildrops import MaildropStoreContract


class SqliteHooks:
    """Stores over files of their own; a second store opens the same files as a process would."""

    async def make_store(self, *, quota_octets=None, **options):
        folder = self.mktemp()
        __import__("os").makedirs(folder)
        self.paths = getattr(self, "paths", {})
        return await self.started(folder, quota_octets=quota_octets, **options)

    async def make_second(self, store):
        return await self.started(self.paths[id(store)])

    async def started(self, folder, **options):
        store = SqliteStore(f"{folder}/mail.db", FileBlobStore(f"{folder}/bodies"), reactor=reactor,
                            lease_seconds=self.lease_seconds, **options)
        self.paths[id(store)] = folder
        await store.start()
        self.addCleanup(store.stop)
        return store

    async def expire_holder(self, store) -> None:
        connection = sqlite3.connect(f"{self.paths[id(store)]}/mail.db", isolation_level=None)
        connection.execute("UPDATE holder SET expires_ms = 0 WHERE id = ?", (store._database.holder.id,))
        connection.close()


class MaildropTests(SqliteHooks, MaildropStoreContract, TestCase):
    """The contract of maildrops."""


class AccountTests(SqliteHooks, AccountStoreContract, TestCase):
    """The contract of accounts."""
