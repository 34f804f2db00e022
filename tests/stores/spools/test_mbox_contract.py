"""mboxes as a store: the contracts that every store passes, and where mail of other programs differs."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from mailgate.errors import StoreUnavailable
from mailgate.formats.paths import parse_pattern
from mailgate.model import Admission
from mailgate.stores.spools.mbox import MboxHabits, MboxSpool
from mailgate.stores.spools.places import Places
from mailgate.stores.spools.store import SpoolStore
from tests.stores.contract_accounts import FRED, XYZ
from tests.stores.contract_base import MIME
from tests.stores.contract_maildrops import MaildropStoreContract
from tests.stores.sqlite_hooks import SqliteHooks


class MboxHooks(SqliteHooks):
    """Stores over SQLite and mboxes; a second store opens the same ones as a process would."""

    def new_store(self, folder: str, *, quota_octets: int | None = None, **options: object) -> SpoolStore:
        metadata = super().new_store(folder, **options)
        os.makedirs(f"{folder}/mail", exist_ok=True)
        places = Places(parse_pattern("mail/{name}"), Path(folder), "example.org")
        habits = MboxHabits()
        store = SpoolStore(metadata, metadata._database.blobs,
                           lambda name: MboxSpool(places.of(name), habits), reactor=reactor,
                           quota_octets=quota_octets)
        store.folder = folder
        store._database = metadata._database
        return store

    def octets(self, store: SpoolStore, name: str) -> bytes:
        """Return what a mailbox has."""
        path = Path(store.folder, "mail", name)
        return path.read_bytes() if path.exists() else b""


class MaildropTests(MboxHooks, MaildropStoreContract, TestCase):
    """The contract of maildrops."""

    async def test_a_name_is_free_when_its_account_is_gone(self) -> None:
        """The mailbox stays, and is its next owner's; what was known of its mail is forgotten."""
        store = await self.make_store()
        await store.accounts.add([FRED])
        await self.put(store, "fred", MIME)
        await store.accounts.remove("fred")
        self.assertEqual(self.count(store, "spool_entry"), 0)
        self.assertEqual(await self.held(store, "fred"), [MIME])

    async def test_mail_for_an_account_that_is_gone(self) -> None:
        """Is written nowhere; the others have theirs."""
        store = await self.make_store()
        await store.accounts.add([FRED, XYZ])
        mails = [self.placement("Fred", account=True), self.placement("xyz", "jim", account=True)]
        await store.accounts.remove("fred")
        outcomes = await self.deliver(store, MIME, *mails)
        self.assertEqual((type(outcomes[0]).__name__, outcomes[1]), ("NoSuchRecipient", None))
        self.assertEqual(self.octets(store, "fred"), b"")
        self.assertEqual(len(await store.scan("xyz")), 1)

    async def test_names_are_data(self) -> None:
        """A name is one step of a path, whatever characters it has; what can be no step has no mail."""
        store = await self.make_store()
        names = ["%", "_", "a'b", 'a"b', "a;b", "*", "mrose%", "-x", "日本", "a" * 240, "...", "{name}", "~"]
        for name in names:
            await self.put(store, name, name.encode() + b"\r\n", user=name)
        for name in names:
            self.assertEqual(await self.held(store, name), [name.encode() + b"\r\n"])
            self.assertEqual(await self.held(store, name, name), [name.encode() + b"\r\n"])
            self.assertEqual(await self.held(store, name, "fred"), [])
        for name in ("..", ".", "a/b", "../mail/mrose", "a\nb", "", "mrose.lock", ".mrose.mailgate"):
            outcomes = await self.deliver(store, MIME, self.placement(name))
            self.assertIsInstance(outcomes[0], StoreUnavailable)
            self.assertEqual(await store.scan(name), [])
            await store.remove(name)
            await self.fault(StoreUnavailable, store.open(Admission(name)))

    async def test_simultaneous_retries_store_once(self) -> None:
        """The same delivery id, asked for at once in one process. (Two may both write it.)"""
        store = await self.make_store()
        outcomes = await gatherResults([
            Deferred.fromCoroutine(self.deliver(store, MIME, self.placement("mrose"), delivery_id="same"))
            for _ in range(8)])
        self.assertEqual(outcomes, [[None]] * 8)
        self.assertEqual(await self.held(store, "mrose"), [MIME])

    async def test_folders_where_locking_fails(self) -> None:
        """A store whose mailboxes cannot be locked does not start, and says why."""
        store = await self.make_store()
        stopped = self.new_store(store.folder)
        await stopped.start()
        await stopped.stop()
        places = Places(parse_pattern("nowhere/{name}"), Path(store.folder), "example.org")
        stopped = self.new_store(store.folder)
        stopped._probe = lambda: MboxHabits().lockable.findings(places)
        with self.assertRaisesRegex(StoreUnavailable, "nowhere"):
            await stopped.start()
