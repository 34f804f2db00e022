"""Maildirs with a PostgreSQL database: leases, decisions, and what is remembered, between nodes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from mailgate.errors import MaildropInUse
from mailgate.formats.paths import parse_pattern
from mailgate.model import Admission
from mailgate.stores.postgres_database import drop_strays
from mailgate.stores.spools.foldering import MaildirStore
from mailgate.stores.spools.maildir import Habits
from mailgate.stores.spools.places import Places
from tests.stores.contract_leases import LeaseContract
from tests.stores.postgres_hooks import PostgresHooks
from tests.stores.test_spool_records import RecordContract


class MaildirHooks(PostgresHooks):
    """Stores over one database and the Maildirs of one folder, as several machines share them."""

    def new_store(self, url: str, folder: str, *, quota_octets: int | None = None,
                  **options: object) -> MaildirStore:
        metadata = super().new_store(url, folder, **options)
        os.makedirs(f"{folder}/home", exist_ok=True)
        places = Places(parse_pattern("home/{name}"), Path(folder), "example.org")
        store = MaildirStore(metadata, metadata._database.blobs, places, Habits(), reactor=reactor,
                             quota_octets=quota_octets)
        store.url, store.folder, store._database = url, folder, metadata._database
        return store


class RecordTests(PostgresHooks, RecordContract, TestCase):
    """What is kept for maildrops in files."""

    async def test_a_connection_is_lost_while_a_maildrop_is_held(self) -> None:
        """Whoever looks after its files keeps everybody out until he is done."""
        store = await self.make_store()
        await store.records.know("mrose")
        held = await store.records.hold("mrose")
        self.sql(store, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND pid <> pg_backend_pid()")
        for _ in range(10):                 # each writer finds out by itself that its connection is gone
            await store._database._renew()
            with contextlib.suppress(MaildropInUse):        # a lease whose giving up was lost goes later
                await self.held(store, "other")
        database = store._database
        await database.writer.run(drop_strays, database.holder, database._lanes)
        await self.fault(MaildropInUse, store.records.take(Admission("mrose")))
        await held.release()
        await (await store.records.take(Admission("mrose"))).release()

    async def test_a_delivery_that_is_noted_again(self) -> None:
        """Writes, so that its commit waits for the replica, and everything before it with it."""
        store = await self.make_store()
        for _ in range(2):
            await store.records.delivered(self.placement("mrose"), "one", None)
            [(at_ms,)] = self.sql(store, "SELECT at_ms FROM delivery")
            self.assertGreater(at_ms, 0)
            self.sql(store, "UPDATE delivery SET at_ms = 0")


class LeaseTests(MaildirHooks, LeaseContract, TestCase):
    """The contract of sessions, over Maildirs."""

    test_commit_of_many_at_once = None      # 2,000 files take long to sync: shown over SQLite
