"""Maildirs as a store: the contracts that every store passes, and where mail of other programs differs."""

from __future__ import annotations

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from mailgate.errors import StoreUnavailable
from mailgate.model import Account, Admission
from tests.stores.contract_accounts import FRED, XYZ, AccountStoreContract
from tests.stores.contract_base import MIME
from tests.stores.contract_folders import FolderContract
from tests.stores.contract_maildrops import MaildropStoreContract
from tests.stores.spools.maildir_hooks import MaildirHooks


class MaildropTests(MaildirHooks, MaildropStoreContract, TestCase):
    """The contract of maildrops.

    An account that is removed leaves its Maildir: that is not only ours.
    """

    async def test_a_name_is_free_when_its_account_is_gone(self) -> None:
        """The Maildir stays, and is its next owner's; what was known of its mail is forgotten."""
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
        self.assertEqual(self.files(store, "fred"), [])
        self.assertEqual(len(await store.scan("xyz")), 1)

    async def test_names_are_data(self) -> None:
        """A name is one step of a path, whatever characters it has; what can be no step has no mail."""
        store = await self.make_store()
        names = ["%", "_", "a'b", 'a"b', "a;b", "*", "mrose%", "-x", "日本", "a" * 248, "...", "{name}", "~"]
        for name in names:
            await self.put(store, name, name.encode() + b"\r\n", user=name)
        for name in names:
            self.assertEqual(await self.held(store, name), [name.encode() + b"\r\n"])
            self.assertEqual(await self.held(store, name, name), [name.encode() + b"\r\n"])
            self.assertEqual(await self.held(store, name, "fred"), [])
        for name in ("..", ".", "a/b", "../home/mrose", "a\nb", ""):
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


class AccountTests(MaildirHooks, AccountStoreContract, TestCase):
    """The contract of accounts: they are the metadata's own."""

    async def test_remove_takes_the_maildrop_and_frees_the_names(self) -> None:
        """All but the Maildir, which is not only ours: another account of the name finds it."""
        store = await self.make_store()
        await store.accounts.add([FRED])
        await self.put(store, "fred", MIME)
        await store.accounts.remove("Fred")
        self.assertEqual(await store.accounts.list(), [])
        await store.accounts.add([Account("fred", addresses=("fred@example.org",))])
        self.assertEqual(await self.held(store, "fred"), [MIME])


class FolderTests(MaildirHooks, FolderContract, TestCase):
    """The contract of folders: Maildir++."""

    odd_names = tuple(name for name in FolderContract.odd_names if len(name) < 200)
    shows_views = False     # nothing leaves the INBOX while any view of it is open
    has_quota = False       # the INBOX's octets count
