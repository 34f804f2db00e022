"""The contract of IAccountStore on app passwords and on changes of what an account answers to.

Mix it into a trial TestCase that gives the hooks of `StoreHooks`, as `contract_accounts`.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import DeferredList

from mailgate.errors import (
    AccountConflict,
    MaildropInUse,
    NoSuchAccount,
    NoSuchDomain,
    NoSuchEntry,
    NoSuchRecipient,
    StaleCredential,
)
from mailgate.interfaces import IAccountStore, IMaildropStore
from mailgate.model import (
    MOST_APP_PASSWORDS,
    MOST_CHOSEN_APP_PASSWORDS,
    Account,
    Admission,
    AppPassword,
    Target,
)
from tests.stores.contract_base import MIME, StoreHooks

FRED = Account("fred", verifiers=("{PLAIN}f",), addresses=("fred@example.org", "freddy@example.net"))
XYZ = Account("xyz", sdps=True, verifiers=("{PLAIN}login", "{PLAIN}pop"), domains=("xyz.example.org",))
PHONE = AppPassword("Phone", "{SSHA512}phone", generated=True)
CHOSEN = AppPassword("old laptop", "{ARGON2ID}laptop")


class AppPasswordContract(StoreHooks):
    """Every guarantee about app passwords."""

    async def store_with(self, *accounts: Account) -> IMaildropStore:
        store = await self.make_store()
        await store.accounts.add(accounts)
        return store

    async def labels(self, accounts: IAccountStore, name: str = "fred") -> list[str]:
        return [one.label for one in await accounts.app_passwords(name)]

    async def used(self, store: IMaildropStore, label: str, used_from: str | None, name: str = "fred",
                   view: str | None = None) -> AppPassword:
        """Log in by an app password, and out again; return it as it is then."""
        admission = await self.admission(store, name, view)
        session = await store.open(replace(admission, app_password=label, used_from=used_from))
        await session.release()
        return next(one for one in await store.accounts.app_passwords(name) if one.label == label)

    async def test_an_app_password_is_kept(self) -> None:
        """Label, verifier, whether it was generated, and when it came; never used yet. By label."""
        store = await self.store_with(FRED, XYZ)
        before = self.now_ms()
        for one in (PHONE, CHOSEN, AppPassword("laptop", "{SSHA512}x", generated=True)):
            await store.accounts.add_app_password("FRED", one)
        self.assertEqual(await self.labels(store.accounts), ["laptop", "old laptop", "Phone"])
        for accounts in (store.accounts, (await self.make_second(store)).accounts):
            _, chosen, phone = await accounts.app_passwords("Fred")
            for kept, given in ((chosen, CHOSEN), (phone, PHONE)):
                self.assertEqual(replace(kept, created_ms=0), given)
                self.assertTrue(before - 1 <= kept.created_ms <= self.now_ms() + 1)
            self.assertEqual(list(await accounts.app_passwords("xyz")), [])
        await self.fault(NoSuchAccount, store.accounts.app_passwords("nobody"))

    async def test_a_found_login_has_them(self) -> None:
        """One question brings what a checker needs, under every name of the account and for each view."""
        store = await self.store_with(FRED, XYZ)
        await store.accounts.add_app_password("fred", PHONE)
        await store.accounts.add_app_password("xyz", CHOSEN)
        for login in ("fred", "Freddy@example.net", "xyz", "jim@xyz"):
            found = await store.accounts.find_login(login)
            self.assertEqual(list(found.app_passwords),
                             list(await store.accounts.app_passwords(found.account.name)))
            self.assertEqual(len(found.app_passwords), 1)

    async def test_the_version_grows(self) -> None:
        """With each new one and each one revoked; an admission from before opens nothing any more."""
        store = await self.store_with(FRED, XYZ)
        accounts, other = store.accounts, await store.accounts.get("xyz")
        versions = [(await accounts.get("fred")).version]
        for change in (lambda: accounts.add_app_password("fred", PHONE),
                       lambda: accounts.add_app_password("fred", CHOSEN),
                       lambda: accounts.revoke_app_passwords("fred", "PHONE"),
                       lambda: accounts.revoke_app_passwords("fred")):
            before, changes = await self.admission(store, "fred"), await accounts.changes()
            await change()
            self.assertNotEqual(await accounts.changes(), changes)
            await self.fault(StaleCredential, store.open(before))
            versions.append((await accounts.get("fred")).version)
        self.assertEqual(versions, sorted(set(versions)))
        self.assertEqual(await accounts.get("xyz"), other)

    async def test_revoking(self) -> None:
        """One by its label in any case, or all; the others and the account's own password stay."""
        store = await self.store_with(FRED)
        accounts = store.accounts
        for label in ("one", "Two", "three"):
            await accounts.add_app_password("fred", replace(PHONE, label=label))
        await accounts.revoke_app_passwords("Fred", "tWO")
        self.assertEqual(await self.labels(accounts), ["one", "three"])
        self.assertEqual([one.label for one in (await accounts.find_login("fred")).app_passwords],
                         ["one", "three"])
        for label in ("two", "", "o", "%"):
            await self.fault(NoSuchEntry, accounts.revoke_app_passwords("fred", label))
        await self.fault(NoSuchAccount, accounts.revoke_app_passwords("nobody", "one"))
        await self.fault(NoSuchAccount, accounts.revoke_app_passwords("nobody"))
        for _ in range(2):
            await accounts.revoke_app_passwords("fred")     # none is left: no fault
            self.assertEqual(await self.labels(accounts), [])
        self.assertEqual((await accounts.get("fred")).verifiers, FRED.verifiers)

    async def test_a_session_outlives_its_password(self) -> None:
        """Revoking ends no session that is open."""
        store = await self.store_with(FRED)
        await self.put(store, "fred", MIME)
        await store.accounts.add_app_password("fred", PHONE)
        admission = replace(await self.admission(store, "fred"), app_password="Phone")
        session = await store.open(admission)
        await store.accounts.revoke_app_passwords("fred", "Phone")
        await session.commit([1])
        self.assertEqual(await self.held(store, "fred"), [])

    async def test_change_of_the_own_password(self) -> None:
        """Leaves them alone, unless they are to be revoked with it; so does taking it away."""
        store = await self.store_with(FRED, XYZ)
        accounts = store.accounts
        for name in ("fred", "xyz"):
            await accounts.add_app_password(name, PHONE)
        await accounts.set_verifiers("fred", ["{PLAIN}new"])
        await accounts.set_verifiers("fred", [])
        self.assertEqual(await self.labels(accounts), ["Phone"])
        await accounts.set_verifiers("fred", ["{PLAIN}newer"], revoke_app_passwords=True)
        self.assertEqual(await self.labels(accounts), [])
        self.assertEqual((await accounts.get("fred")).verifiers, ("{PLAIN}newer",))
        self.assertEqual(await self.labels(accounts, "xyz"), ["Phone"])

    async def test_labels_are_told_apart_by_their_keys(self) -> None:
        """One account's; another may have the same. What is refused changes nothing."""
        store = await self.store_with(FRED, XYZ)
        accounts = store.accounts
        await accounts.add_app_password("fred", PHONE)
        version = (await accounts.get("fred")).version
        for label in ("Phone", "phone", "PHONE"):
            await self.fault(AccountConflict, accounts.add_app_password("fred", replace(CHOSEN, label=label)))
        self.assertEqual((await accounts.get("fred")).version, version)
        await accounts.add_app_password("xyz", replace(PHONE, label="phone"))
        for label in ("Fred's phone (2)", "日本", "Ä", "ä", "a" * 64, "'", "%", "*"):
            await accounts.add_app_password("fred", replace(PHONE, label=label))
            self.assertIn(label, await self.labels(accounts))

    async def test_labels_that_are_none(self) -> None:
        """Empty, long, with blanks at an end, or with what cannot be printed."""
        accounts = (await self.store_with(FRED)).accounts
        for label in ("", " ", " a", "a ", "a\tb", "a\nb", "a\0", "\x7f", "a\u200bb", "a\u2028b", "\udcff",
                      "a\u00a0b", "a" * 65, "ä" * 33):
            await self.fault(AccountConflict, accounts.add_app_password("fred", replace(PHONE, label=label)))
        self.assertEqual(await self.labels(accounts), [])
        await self.fault(NoSuchAccount, accounts.add_app_password("fred@example.org", PHONE))

    async def test_how_many_there_may_be(self) -> None:
        """So many in all, and fewer of those whose verifiers cost; of each account."""
        accounts = (await self.store_with(FRED, XYZ)).accounts
        for number in range(MOST_CHOSEN_APP_PASSWORDS):
            await accounts.add_app_password("fred", replace(CHOSEN, label=f"chosen {number}"))
        await self.fault(AccountConflict, accounts.add_app_password("fred", CHOSEN))
        for number in range(MOST_APP_PASSWORDS - MOST_CHOSEN_APP_PASSWORDS):
            await accounts.add_app_password("fred", replace(PHONE, label=f"generated {number}"))
        await self.fault(AccountConflict, accounts.add_app_password("fred", PHONE))
        self.assertEqual(len(await accounts.app_passwords("fred")), MOST_APP_PASSWORDS)
        await accounts.add_app_password("xyz", CHOSEN)
        await accounts.revoke_app_passwords("fred", "chosen 0")
        await accounts.add_app_password("fred", CHOSEN)

    async def test_many_at_once(self) -> None:
        """The limit holds over two processes; each that was told so is there."""
        store = await self.store_with(FRED)
        other = await self.make_second(store)
        asked = [where.accounts.add_app_password("fred", replace(CHOSEN, label=f"{number}"))
                 for number, where in enumerate([store, other] * MOST_CHOSEN_APP_PASSWORDS)]
        outcomes = await DeferredList(asked, consumeErrors=True)
        told = [str(number) for number, (success, _) in enumerate(outcomes) if success]
        self.assertEqual(len(told), MOST_CHOSEN_APP_PASSWORDS)
        self.assertEqual(await self.labels(store.accounts), told)

    async def test_they_go_with_the_account(self) -> None:
        """An account added again under an old name has none of them."""
        store = await self.store_with(FRED)
        await store.accounts.add_app_password("fred", PHONE)
        await store.accounts.remove("fred")
        await store.accounts.add([FRED])
        self.assertEqual(await self.labels(store.accounts), [])
        self.assertEqual(await store.check(), [])

    async def test_last_use(self) -> None:
        """Time and address, of this password alone; another address is noted at once."""
        store = await self.store_with(FRED, XYZ)
        for name in ("fred", "xyz"):
            for one in (PHONE, CHOSEN):
                await store.accounts.add_app_password(name, one)
        before, version = self.now_ms(), (await store.accounts.get("fred")).version
        for used_from in ("192.0.2.1", "2001:db8::1", None, "192.0.2.1"):
            used = await self.used(store, "Phone", used_from)
            self.assertEqual(used.last_used_from, used_from)
            self.assertTrue(before - 1 <= used.last_used_ms <= self.now_ms() + 1)
        self.assertEqual((await self.used(store, "Phone", None, "xyz", "jim")).last_used_from, None)
        for name in ("fred", "xyz"):
            chosen = next(one for one in await store.accounts.app_passwords(name) if one.label != "Phone")
            self.assertEqual((chosen.last_used_ms, chosen.last_used_from), (None, None))
        self.assertEqual((await store.accounts.get("fred")).version, version)

    async def test_a_login_that_opens_nothing_is_no_use(self) -> None:
        """A maildrop that another session holds."""
        store = await self.store_with(FRED)
        await store.accounts.add_app_password("fred", PHONE)
        session = await self.login(store, "fred")
        admission = replace(await self.admission(store, "fred"), app_password="Phone", used_from="192.0.2.1")
        await self.fault(MaildropInUse, store.open(admission))
        await session.release()
        [phone] = await store.accounts.app_passwords("fred")
        self.assertIsNone(phone.last_used_ms)

    async def test_app_passwords_stand_in_the_way(self) -> None:
        """They serve no mechanism with a challenge, whatever is kept of the account's own password."""
        store = await self.store_with(
            Account("both", verifiers=("{ARGON2ID}x", "{SCRAM-SHA-256}y")),
            Account("disabled", verifiers=("{SCRAM-SHA-256}y",), disabled=True),
            Account("none"), Account("only"), Account("scram", verifiers=("{SCRAM-SHA-256}y",)))
        for name in ("both", "disabled", "only"):
            await store.accounts.add_app_password(name, PHONE)
        self.assertEqual(list(await store.accounts.lacking(["SCRAM-SHA-256"])), ["both", "only"])
        self.assertEqual(list(await store.accounts.lacking(["SCRAM-SHA-256"], 1)), ["both"])
        await store.accounts.revoke_app_passwords("both")
        self.assertEqual(list(await store.accounts.lacking(["SCRAM-SHA-256"])), ["only"])


class AccountChangeContract(StoreHooks):
    """Addresses and domains that come and go, and maildrops that are taken over."""

    async def store_with(self, *accounts: Account) -> IMaildropStore:
        store = await self.make_store()
        await store.accounts.add(accounts)
        return store

    async def test_an_address_comes_and_goes(self) -> None:
        """Mail for it, logins by it; in any case of its letters. The order of the others stays."""
        store = await self.store_with(FRED)
        accounts = store.accounts
        await accounts.add_received("Fred", "F.Bloggs@Example.com")
        self.assertEqual((await accounts.get("fred")).addresses, (*FRED.addresses, "F.Bloggs@Example.com"))
        self.assertEqual(await accounts.find_recipient("f.bloggs@example.COM"), Target("fred", account=True))
        self.assertEqual((await accounts.find_login("F.BLOGGS@example.com")).account.name, "fred")
        await self.fault(NoSuchRecipient, accounts.find_recipient("jim@example.com"))
        await accounts.remove_received("fred", "f.bloggs@EXAMPLE.com")
        self.assertEqual((await accounts.get("fred")).addresses, FRED.addresses)
        await self.fault(NoSuchDomain, accounts.find_recipient("f.bloggs@example.com"))
        self.assertIsNone(await accounts.find_login("f.bloggs@example.com"))
        self.assertEqual(await store.check(), [])

    async def test_a_domain_comes_and_goes(self) -> None:
        """All local parts of it, and the host's logins by it."""
        store = await self.store_with(XYZ)
        accounts = store.accounts
        await accounts.add_received("xyz", "XYZ.net")
        self.assertEqual(await accounts.find_recipient("jim@xyz.NET"), Target("xyz", "jim", True))
        self.assertEqual((await accounts.find_login("jim+xyz.net")).view, "jim")
        await accounts.remove_received("xyz", "xyz.NET")
        self.assertEqual((await accounts.get("xyz")).domains, XYZ.domains)
        await self.fault(NoSuchDomain, accounts.find_recipient("jim@xyz.net"))
        self.assertIsNone(await accounts.find_login("jim@xyz.net"))

    async def test_the_last_one_may_go(self) -> None:
        """Then nothing is received; the account logs in by its name, and keeps its mail."""
        store = await self.store_with(FRED, XYZ)
        await self.put(store, "fred", MIME)
        for address in FRED.addresses:
            await store.accounts.remove_received("fred", address)
        await store.accounts.remove_received("xyz", "xyz.example.org")
        for address in ("fred@example.org", "jim@xyz.example.org"):
            await self.fault(NoSuchDomain, store.accounts.find_recipient(address))
        self.assertEqual(await self.held(store, "fred"), [MIME])
        self.assertEqual((await store.accounts.find_login("jim@xyz")).view, "jim")
        await store.accounts.add([Account("new", addresses=("fred@example.org",))])

    async def test_the_version_grows(self) -> None:
        """A login by an address that is gone must not be remembered."""
        store = await self.store_with(FRED)
        for change in (store.accounts.add_received, store.accounts.remove_received):
            before, changes = await self.admission(store, "fred"), await store.accounts.changes()
            await change("fred", "new@example.org")
            await self.fault(StaleCredential, store.open(before))
            self.assertNotEqual(await store.accounts.changes(), changes)

    async def test_the_name_as_an_address(self) -> None:
        """An account's name may become an address of it, and be its name alone again."""
        store = await self.store_with(Account("fred@example.org"), Account("host.example.org", sdps=True))
        accounts = store.accounts
        for _ in range(2):
            for name, address in (("fred@example.org", "FRED@example.org"),
                                  ("host.example.org", "host.example.org")):
                recipient = address if "@" in address else f"jim@{address}"
                await accounts.add_received(name, address)
                self.assertEqual((await accounts.find_recipient(recipient)).maildrop, name)
                await accounts.remove_received(name, address)
                await self.fault(NoSuchDomain, accounts.find_recipient(recipient))
                self.assertEqual((await accounts.find_login(name)).account.name, name)
        self.assertEqual(await store.check(), [])

    async def test_what_cannot_come(self) -> None:
        """By the rules of `add`: what is taken, could be taken for another, or is no such thing."""
        store = await self.store_with(FRED, XYZ, Account("jim", addresses=("jim@example.org",)),
                                      Account("a@late.net"))
        await self.put(store, "theirs@example.org", MIME)
        before = await store.accounts.list()
        for name, received in (
                ("fred", "jim@example.org"), ("fred", "JIM@Example.org"), ("fred", "Fred@example.org"),
                ("fred", "a@xyz"), ("fred", "a@xyz.example.org"), ("fred", "a@late.net"),
                ("fred", "theirs@example.org"), ("fred", "nodomain"), ("fred", ""), ("fred", "@example.org"),
                ("fred", "\udcff@example.org"), ("fred", "x" * 65 + "@example.org"),
                ("xyz", "xyz.EXAMPLE.org"), ("xyz", "late.net"), ("xyz", "example.org"), ("xyz", "jim"),
                ("xyz", "a@b.org"), ("xyz", "a b"), ("xyz", "")):
            await self.fault(AccountConflict, store.accounts.add_received(name, received))
        self.assertEqual(await store.accounts.list(), before)

    async def test_what_cannot_go(self) -> None:
        """What it has not, another's, or the name itself."""
        store = await self.store_with(FRED, XYZ)
        before = await store.accounts.list()
        for name, received in (("fred", "xyz.example.org"), ("fred", "fred"), ("fred", "f@example.org"),
                               ("fred", ""), ("xyz", "xyz"), ("xyz", "fred@example.org")):
            await self.fault(NoSuchEntry, store.accounts.remove_received(name, received))
        for name in ("nobody", "fred@example.org", ""):
            await self.fault(NoSuchAccount, store.accounts.remove_received(name, "fred@example.org"))
            await self.fault(NoSuchAccount, store.accounts.add_received(name, "new@example.org"))
        self.assertEqual(await store.accounts.list(), before)

    async def test_two_that_want_one_address(self) -> None:
        """However many ask at once, over two processes, one gets it."""
        names = [f"user{number}" for number in range(6)]
        store = await self.store_with(*map(Account, names))
        other = await self.make_second(store)
        asked = [where.accounts.add_received(name, "one@example.org")
                 for name, where in zip(names, [store, other] * 3, strict=True)]
        outcomes = await DeferredList(asked, consumeErrors=True)
        [winner] = [name for name, (success, _) in zip(names, outcomes, strict=True) if success]
        self.assertEqual((await store.accounts.find_recipient("one@example.org")).maildrop, winner)

    # Taking over ------------------------------------------------------------------------------

    async def test_a_maildrop_is_adopted(self) -> None:
        """By an account of that name and by choice alone: with its mail, unique-ids and last login."""
        store = await self.make_store()
        await self.put(store, "alice", MIME, b"two\r\n")
        await self.held(store, "alice")
        before = await store.scan("alice")
        await self.fault(AccountConflict, store.accounts.add([Account("Alice")]))
        await store.accounts.add([Account("Alice", addresses=("alice@example.org",)), FRED], adopt=True)
        self.assertEqual(await store.scan("alice"), before)
        self.assertEqual(await self.held(store, "Alice"), [MIME, b"two\r\n"])
        self.assertEqual(len(await store.accounts.list()), 2)
        self.assertEqual(await store.check(), [])
        await store.accounts.remove("alice")
        self.assertEqual(await store.scan("alice"), [])

    async def test_only_by_its_own_name(self) -> None:
        """What has an address or a domain for its name stays another's; then nothing is added."""
        store = await self.make_store()
        for maildrop in ("alice@example.org", "xyz.example.org"):
            await self.put(store, maildrop, MIME)
        for account in (Account("alice", addresses=("alice@example.org",)), XYZ):
            await self.fault(AccountConflict, store.accounts.add([FRED, account], adopt=True))
        self.assertEqual(await store.accounts.list(), [])

    async def test_not_while_it_is_open(self) -> None:
        """Whoever has it open must end first: he would go on in an account that is not his."""
        store = await self.make_store()
        await self.put(store, "alice", MIME)
        session = await store.open(Admission("alice"))
        await self.fault(MaildropInUse, store.accounts.add([Account("alice")], adopt=True))
        self.assertEqual(await store.accounts.list(), [])
        await session.release()
        await store.accounts.add([Account("alice")], adopt=True)
        session = await store.open(Admission("bob"))
        await self.expire_holder(store)
        await store.accounts.add([Account("bob")], adopt=True)     # a dead session holds nothing
