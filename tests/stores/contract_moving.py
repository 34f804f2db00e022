"""The contract of what a move from another store needs, written from the interfaces alone."""

from __future__ import annotations

from mailgate.errors import AccountConflict, MaildropInUse, StaleCredential
from mailgate.interfaces import IImportRecords, IMaildropStore
from mailgate.model import Account, AppPassword
from tests.stores.contract_base import MIME, StoreHooks

PHONE = AppPassword("Phone", "{SSHA512}x", True, 1_000, 2_000, "192.0.2.1")
DESK = AppPassword("desk", "{SSHA512}y", False, 1_001)


class MovingContract(StoreHooks):
    """Accounts and import records as another store had them."""

    async def test_an_account_as_it_was(self) -> None:
        """All of it but its version, which is one that no account ever had."""
        store = await self.make_store()
        other = await self.add_account(store, "other")
        account = Account("Fred", verifiers=("{PLAIN}a", "{PLAIN}b"), addresses=("fred@example.org",),
                          disabled=True, version=1, last_login_ms=12_345)
        await store.accounts.restore(account, [PHONE, DESK])
        found = await store.accounts.get("fred")
        self.assertEqual(found, Account(**{**vars(account), "version": found.version}))
        self.assertGreater(found.version, other.version)
        self.assertEqual(list(await store.accounts.app_passwords("fred")), [DESK, PHONE])

    async def test_again(self) -> None:
        """What is there is replaced, its mail stays; the later of both logins counts."""
        store = await self.make_store()
        await store.accounts.restore(Account("xyz", sdps=True, domains=("xyz.example",), last_login_ms=2_000),
                                     [PHONE])
        await self.put(store, "xyz", MIME, user="fred")
        before = await store.accounts.get("xyz")
        await store.accounts.restore(Account("xyz", sdps=True, domains=("new.example",), last_login_ms=1_000),
                                     [DESK])
        found = await store.accounts.get("xyz")
        self.assertEqual((found.domains, found.last_login_ms), (("new.example",), 2_000))
        self.assertGreater(found.version, before.version)
        self.assertEqual(list(await store.accounts.app_passwords("xyz")), [DESK])
        self.assertEqual((await store.accounts.find_recipient("a@new.example")).maildrop, "xyz")
        self.assertEqual(len(await store.scan("xyz")), 1)
        stale = await self.admission(store, "xyz")
        await store.accounts.restore(found, [])
        await self.fault(StaleCredential, store.open(stale))

    async def test_a_conflict_changes_nothing(self) -> None:
        """By the rules of `add`: another account's keys, another checker's maildrop, an open session."""
        store = await self.make_store()
        await self.add_account(store, "ann", addresses=("shared@example.org",))
        await self.add_account(store, "bob", addresses=("bob@example.org",))
        await self.put(store, "guest", MIME)
        await store.accounts.add_app_password("bob", PHONE)
        before = await self.kept(store, "bob")
        for account in (Account("bob", addresses=("shared@example.org",)), Account("guest"),
                        Account("x", addresses=("guest",)), Account("a/b")):
            await self.fault(AccountConflict, store.accounts.restore(account, []))
        session = await store.open(await self.admission(store, "bob"))
        await self.fault(MaildropInUse, store.accounts.restore(Account("bob"), []))
        await session.release()
        self.assertEqual(await self.kept(store, "bob"), before)
        self.assertEqual([one.name for one in await store.accounts.list()], ["ann", "bob"])

    async def kept(self, store: IMaildropStore, name: str) -> tuple[object, ...]:
        """Return what an account answers to and proves itself by."""
        account = await store.accounts.get(name)
        labels = [one.label for one in await store.accounts.app_passwords(name)]
        return account.addresses, account.verifiers, labels

    async def test_the_secret(self) -> None:
        """Another store's is taken while nobody has asked for one."""
        store = await self.make_store()
        self.assertTrue(await store.accounts.take_secret(b"x" * 32))
        self.assertTrue(await store.accounts.take_secret(b"x" * 32))
        self.assertFalse(await store.accounts.take_secret(b"y" * 32))
        self.assertEqual(await store.accounts.server_secret(), b"x" * 32)

    async def test_import_records(self) -> None:
        """Ids and identities of what was imported, removed messages too; and ids that were given up."""
        store = await self.make_store()
        self.assertTrue(IImportRecords.providedBy(store))
        self.assertEqual(list(await store.imported("mrose")), [])
        await self.put(store, "mrose", MIME)
        for number in (b"1", b"2"):
            await self.deliver(store, MIME, self.placement("mrose", unique_id=number,
                                                            identity=b"identity " + number))
        session = await self.login(store, "mrose")
        await session.commit([2])
        self.assertEqual(list(await store.imported("MRose")), [(b"1", b"identity 1"), (b"2", b"identity 2")])

    async def test_records_of_another_store(self) -> None:
        """What they name does not come again, and nothing else gets their ids."""
        store = await self.make_store()
        for _ in range(2):
            await store.note_imported("mrose", [(b"1", b"one"), (b"2", None), (b"3", b"three")])
        await self.deliver(store, MIME, self.placement("mrose", unique_id=b"9", identity=b"one"))
        self.assertEqual(await store.scan("mrose"), [])
        for number in (b"1", b"2", b"4"):
            await self.deliver(store, MIME, self.placement("mrose", unique_id=number,
                                                            identity=b"new " + number))
        ids = [one.unique_id for one in await store.scan("mrose")]
        self.assertEqual((len(ids), ids[2]), (3, b"4"))
        self.assertFalse({b"1", b"2"} & set(ids))
