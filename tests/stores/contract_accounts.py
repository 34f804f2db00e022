"""The contract of IAccountStore, written from the interface alone: what every adapter must pass.

Mix it into a trial TestCase that gives the hooks of `StoreHooks`; a store's `accounts` is tested.
"""

from __future__ import annotations

from random import Random

from twisted.internet.defer import DeferredList, ensureDeferred

from mailgate.errors import (
    AccountConflict,
    BadAddress,
    MaildropInUse,
    NoSuchAccount,
    NoSuchDomain,
    NoSuchRecipient,
)
from mailgate.interfaces import IAccountStore
from mailgate.model import Account, Admission, Habits, Target
from mailgate.names import fold
from tests.stores.contract_base import MIME, StoreHooks

FRED = Account("fred", verifiers=("{PLAIN}f",), addresses=("fred@example.org", "freddy@example.net"))
XYZ = Account("xyz", sdps=True, verifiers=("{PLAIN}login", "{PLAIN}pop"),
              domains=("xyz.example.org", "xyz.net"))


class AccountStoreContract(StoreHooks):
    """Every guarantee of a store of accounts."""

    async def accounts(self, *accounts: Account) -> IAccountStore:
        """Return the accounts of a fresh store that holds these."""
        store = await self.make_store()
        await store.accounts.add(accounts)
        return store.accounts

    async def names(self, accounts: IAccountStore) -> list[str]:
        return [account.name for account in await accounts.list()]

    # add, get, list, change, remove ----------------------------------------------------------

    async def test_an_account_is_kept(self) -> None:
        """Name, kind, verifiers in their order, addresses, domains, disabled or not; a first version."""
        disabled = Account("Old.User", verifiers=(), addresses=("o@example.org",), disabled=True)
        store = await self.make_store()
        await store.accounts.add([FRED, XYZ, disabled])
        for accounts in (store.accounts, (await self.make_second(store)).accounts):
            for given in (FRED, XYZ, disabled):
                kept = await accounts.get(given.name)
                self.assertEqual((kept.name, kept.sdps, kept.verifiers, kept.disabled, kept.last_login_ms),
                                 (given.name, given.sdps, given.verifiers, given.disabled, None))
                self.assertEqual(sorted(kept.addresses), sorted(given.addresses))
                self.assertEqual(sorted(kept.domains), sorted(given.domains))
                self.assertIsInstance(kept.version, int)

    async def test_get_knows_the_key_of_a_name(self) -> None:
        """Any case of ASCII letters finds the account, under the name as it was given."""
        accounts = await self.accounts(Account("MRose", addresses=("mrose@example.org",)))
        for name in ("mrose", "MROSE", "MRose"):
            self.assertEqual((await accounts.get(name)).name, "MRose")
        for name in ("mrose@example.org", "mros", "", "mrose "):
            await self.fault(NoSuchAccount, accounts.get(name))

    async def test_list_gives_every_account_by_name(self) -> None:
        """Sorted, whatever the order of their coming; the same values as get."""
        store = await self.make_store()
        self.assertEqual(await store.accounts.list(), [])
        names = [f"user{number:03}" for number in range(50)]
        shuffled = Random(1).sample(names, 50)
        await store.accounts.add([
            Account(name, addresses=(f"{name}@example.org",)) for name in shuffled[:30]])
        await store.accounts.add([Account(name, sdps=True) for name in shuffled[30:]])
        listed = await store.accounts.list()
        self.assertEqual([account.name for account in listed], names)
        self.assertEqual(listed, [await store.accounts.get(name) for name in names])
        await store.accounts.add([])
        self.assertEqual(await store.accounts.list(), listed)

    async def test_the_version_grows_with_every_change(self) -> None:
        """Passwords, disabling, enabling; seen at once by other processes; no other account's grows."""
        store = await self.make_store()
        other = (await self.make_second(store)).accounts
        await store.accounts.add([FRED, XYZ])
        versions, before = [(await other.get("fred")).version], await other.get("xyz")
        for number in range(3):
            verifiers = (f"{{PLAIN}}{number}", "{PLAIN}b", "{PLAIN}a")
            await store.accounts.set_verifiers("FRED", list(verifiers))
            self.assertEqual((await other.get("fred")).verifiers, verifiers)
            versions.append((await other.get("fred")).version)
            for disabled in (True, False):
                await store.accounts.set_disabled("Fred", disabled)
                self.assertEqual((await other.get("fred")).disabled, disabled)
                versions.append((await other.get("fred")).version)
        self.assertEqual(versions, sorted(set(versions)))
        self.assertEqual(await other.get("xyz"), before)

    async def test_a_version_is_not_used_again(self) -> None:
        """An account added again under an old name does not answer to a remembered success."""
        accounts = await self.accounts(FRED)
        seen = set()
        for _ in range(3):
            for disabled in (True, False):
                seen.add((await accounts.get("fred")).version)
                await accounts.set_disabled("fred", disabled)
            seen.add((await accounts.get("fred")).version)
            await accounts.remove("fred")
            await accounts.add([FRED])
            self.assertNotIn((await accounts.get("fred")).version, seen)

    async def test_changes_of_an_unknown_account(self) -> None:
        """Are refused, and make none; what is no name but an address is unknown too."""
        accounts = await self.accounts(FRED)
        for name in ("nobody", "fred@example.org", ""):
            for change in (accounts.set_verifiers(name, []), accounts.set_disabled(name, True),
                           accounts.remove(name), accounts.get(name)):
                await self.fault(NoSuchAccount, change)
        self.assertEqual(await self.names(accounts), ["fred"])

    async def test_remove_takes_the_maildrop_and_frees_the_names(self) -> None:
        """Mail and logins are gone, and another account may have name, address and domain."""
        store = await self.make_store()
        await store.accounts.add([FRED, XYZ])
        await self.put(store, "fred", MIME)
        await self.put(store, "xyz", MIME, user="jim")
        for name in ("Fred", "xyz"):
            await store.accounts.remove(name)
        self.assertEqual([await store.scan(name) for name in ("fred", "xyz")], [[], []])
        self.assertEqual(await self.names(store.accounts), [])
        for login in ("fred", "fred@example.org", "xyz", "xyz.example.org", "jim@xyz", "jim+xyz"):
            self.assertIsNone(await store.accounts.find_login(login))
        for address in ("fred@example.org", "jim@xyz.example.org"):
            await self.fault(NoSuchDomain, store.accounts.find_recipient(address))
        await store.accounts.add([Account("jim@xyz", addresses=("fred@example.org", "a@xyz.example.org")),
                                  Account("fred", sdps=True, domains=("xyz.net",))])
        self.assertEqual(await self.held(store, "fred"), [])

    async def test_remove_waits_for_sessions(self) -> None:
        """An account whose maildrop is open, or a view of it, stays as it is, with its mail."""
        store = await self.make_store()
        await store.accounts.add([FRED, XYZ])
        for name, view in (("fred", None), ("xyz", "jim")):
            await self.put(store, name, MIME, user=view)
            session = await store.open(await self.admission(store, name, view))
            before = await store.accounts.get(name)
            await self.fault(MaildropInUse, store.accounts.remove(name))
            self.assertEqual(await store.accounts.get(name), before)
            self.assertEqual(await self.texts(session), [MIME])
            await session.release()
            await store.accounts.remove(name)
            await self.fault(NoSuchAccount, store.accounts.get(name))

    # Collisions -------------------------------------------------------------------------------

    async def refused(self, accounts: IAccountStore, one: Account, other: Account) -> None:
        """See that neither can be added beside the other, nor both together; nothing stays of it."""
        extra = Account("unrelated", addresses=("unrelated@example.com",))
        for before, after in (([one], [other]), ([other], [one]), ([], [one, other]), ([], [other, one])):
            await accounts.add(before)
            kept = await accounts.list()
            await self.fault(AccountConflict, accounts.add([extra, *after]))
            self.assertEqual(await accounts.list(), kept)
            self.assertIsNone(await accounts.find_login("unrelated@example.com"))
            await accounts.add([extra])
            for account in (extra, *before):
                await accounts.remove(account.name)

    async def test_equal_keys_collide(self) -> None:
        """Name, address and domain in every pairing, in any case of their letters."""
        accounts = await self.accounts()
        by_name = Account("A@b.org", addresses=("1@example.org",))
        by_address = Account("two", addresses=("2@example.org", "a@B.org"))
        by_other_address = Account("three", addresses=("A@B.ORG",))
        host = Account("b.org", sdps=True)
        by_domain = Account("four", sdps=True, domains=("x.org", "B.Org"))
        by_other_domain = Account("five", sdps=True, domains=("b.ORG",))
        name_of_domain = Account("X.ORG", addresses=("6@example.org",))
        for one, other in [(by_name, by_address), (by_name, by_name), (by_address, by_other_address),
                           (host, by_domain), (by_domain, by_other_domain), (by_domain, name_of_domain),
                           (Account("fred", sdps=True), FRED), (Account("FRED"), FRED)]:
            await self.refused(accounts, one, other)

    async def test_split_readings_collide(self) -> None:
        """What is exactly one account's may not be a user of an SDPS host as well, by name or domain."""
        accounts = await self.accounts()
        for key in ("jim@xyz", "JIM+XYZ", "jim@xyz.net", "jim+xyz.example.org", "a@b+xyz", "a+b@xyz",
                    "a+b+xyz", "@+xyz", "a@b@xyz"):
            await self.refused(accounts, XYZ, Account(key, addresses=("1@example.org",)))
        for address in ("jim@xyz.example.org", "Jim@XYZ.net", "a@xyz", "a@b+xyz.net", '"a@b"@xyz.net'):
            await self.refused(accounts, XYZ, Account("jim", addresses=("1@example.org", address)))

    async def test_what_does_not_collide(self) -> None:
        """Splits that lead to no SDPS host, and an account whose own names are alike."""
        accounts = await self.accounts(
            XYZ, Account("jim@example.org", addresses=("jim@example.org", "JIM@example.org")),
            Account("jim+tag@example.org", addresses=("jim+tag@example.org",)),
            Account("jim", addresses=("jim@xyz.example.com", "xyz@example.org")),
            Account("jim@jim", addresses=("jim@notxyz.net",)), Account("jim+jim"), Account("xyz+"),
            Account("@xyz"), Account("+xyz"), Account("xyz@"), Account("xyz@jim"), Account("jimxyz"),
            Account("xyz2", sdps=True, domains=("xyz2", "XYZ2.example.org", "a.xyz.example.org")))
        self.assertEqual(len(await accounts.list()), 13)

    async def test_add_is_all_or_none(self) -> None:
        """The last of many is refused: none is there; without it all are."""
        accounts = await self.accounts(FRED)
        many = [Account(f"user{number}", addresses=(f"u{number}@example.org",)) for number in range(100)]
        await self.fault(AccountConflict, accounts.add([*many, Account("FRED")]))
        self.assertEqual(await self.names(accounts), ["fred"])
        await self.fault(NoSuchRecipient, accounts.find_recipient("u7@example.org"))
        await accounts.add(many)
        self.assertEqual(len(await accounts.list()), 101)

    async def test_ill_formed_accounts(self) -> None:
        """Names, addresses and domains that cannot be such are refused, none with another fault."""
        accounts = await self.accounts()
        for name in ("", ".", "..", "a b", "a/b", "a\\b", "a:b", "a\nb", "\0", "\x7f", "x" * 249, "\udcff"):
            for sdps in (False, True):
                await self.fault(AccountConflict, accounts.add([Account(name, sdps=sdps)]))
        for name in ("a@b", "a+b", "-a", "a-", "a_b", "ä"):
            await self.fault(AccountConflict, accounts.add([Account(name, sdps=True)]))
        for domain in ("", "a b", "a@b.org", "-a.org", ".org", "a.org.", "x" * 256, "a\0b", "\udcff"):
            await self.fault(AccountConflict, accounts.add([Account("xyz", sdps=True, domains=(domain,))]))
        for address in ("", "@example.org", "fred@", "@", "x" * 65 + "@example.org", "a@" + "x" * 256,
                        "\udcff@x.org"):
            await self.fault(AccountConflict, accounts.add([Account("fred", addresses=(address,))]))
        self.assertEqual(await accounts.list(), [])

    async def test_accounts_of_neither_kind(self) -> None:
        """An SDPS host has domains, any other account addresses, and an address has a domain."""
        accounts = await self.accounts()
        for account in (Account("xyz", sdps=True, addresses=("a@example.org",)),
                        Account("fred", domains=("example.org",)), Account("fred", addresses=("fred",))):
            await self.fault(AccountConflict, accounts.add([account]))
        self.assertEqual(await accounts.list(), [])

    async def test_simultaneous_adds_that_collide(self) -> None:
        """However many ask at once, over two processes, one succeeds."""
        store = await self.make_store()
        other = await self.make_second(store)
        rivals = [Account("fred", addresses=("jim@xyz.net",)), Account("Fred", addresses=("a@xyz.net",)),
                  Account("xyz.net", sdps=True)]
        asked = [where.accounts.add([rival]) for rival in rivals for where in (store, other)]
        outcomes = await DeferredList(asked, consumeErrors=True)
        for success, outcome in outcomes:
            if not success:
                outcome.trap(AccountConflict)
        self.assertEqual(sum(success for success, _ in outcomes), 1)

    # habits -----------------------------------------------------------------------------------

    async def test_what_most_accounts_have_in_common(self) -> None:
        """How the users of each domain are named; where hosts' domains lie; iterations and salts."""
        accounts = await self.accounts(
            Account("Ann", addresses=("ann@Local.org", "x@mixed.org"), verifiers=(
                "{PLAIN}x", "{SCRAM-SHA-1}5000,AAAAAAAAAAAAAAAA,AA==,AA==")),
            Account("bea@whole.org", addresses=("Bea@whole.org",), verifiers=(
                "{scram-sha-1}5000,AAAAAAAAAAAAAAAA,AA==,AA==", "{SCRAM-SHA-256}7000,AAA=,A,A")),
            Account("cid", addresses=("cid@local.org", "y@local.org", "y@mixed.org", "cid@mixed.org"),
                    verifiers=("{SCRAM-SHA-1}6000,AAAAAAAAAAAAAAAAAAAAAA==,A,A",)),
            Account("Shire", sdps=True, domains=("shire.Pop.example.net", "shire.org", "elsewhere.com")),
            Account("a.b", sdps=True, domains=("a.b.example.net",), verifiers=("{SCRAM-SHA-256}broken",)))
        habits = await accounts.habits(("SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"))
        self.assertEqual(habits, Habits(
            frozenset({"local.org"}), frozenset({"whole.org", "mixed.org"}), True,
            frozenset({"pop.example.net", "org", "example.net"}),
            {"SCRAM-SHA-1": (5000, 12), "SCRAM-SHA-256": (7000, 2)}))

    async def test_no_account_has_no_habit(self) -> None:
        accounts = await self.accounts()
        self.assertEqual(await accounts.habits(("SCRAM-SHA-1",)), Habits())
        await accounts.add([Account("xyz", sdps=True)])
        self.assertEqual(await accounts.habits(()), Habits(sdps=True))

    # find_login -------------------------------------------------------------------------------

    async def found(self, accounts: IAccountStore, login: str) -> tuple[str, str | None] | None:
        found = await accounts.find_login(login)
        if found is not None:
            self.assertEqual(found.account, await accounts.get(found.account.name))
        return found and (found.account.name, found.view)

    async def test_the_readings_of_a_login_name(self) -> None:
        """An exact name, an address, a host by name or domain, a user of it by either separator."""
        accounts = await self.accounts(FRED, XYZ, Account("a@b", addresses=("a+b@example.org",)))
        for login, expected in {
            "fred": ("fred", None), "FRED": ("fred", None), "Fred@Example.ORG": ("fred", None),
            "freddy@example.net": ("fred", None), "a@b": ("a@b", None), "A+B@example.org": ("a@b", None),
            "xyz": ("xyz", None), "XYZ": ("xyz", None), "xyz.example.org": ("xyz", None),
            "XYZ.NET": ("xyz", None), "fred@xyz": ("xyz", "fred"), "fred+xyz": ("xyz", "fred"),
            "FRED@XYZ": ("xyz", "fred"), "Fred+Xyz.Net": ("xyz", "fred"),
            "fred@xyz.example.org": ("xyz", "fred"), "nobody@xyz": ("xyz", "nobody"),
            "a@b@xyz": ("xyz", "a@b"), "a+b+xyz": ("xyz", "a+b"), "a+b@xyz": ("xyz", "a+b"),
            "a@b+xyz": ("xyz", "a@b"), "fred@example.org+xyz": ("xyz", "fred@example.org"),
            "xyz@xyz": ("xyz", "xyz"), "@@xyz": ("xyz", "@"), "Ä@xyz": ("xyz", "Ä"),
        }.items():
            self.assertEqual(await self.found(accounts, login), expected, login)

    async def test_login_names_that_nobody_has(self) -> None:
        """No view of an ordinary account, no half of a split, no blank, no near miss."""
        accounts = await self.accounts(FRED, XYZ, Account("jim", addresses=("jim@example.org",)))
        for login in ("", "nobody", "@", "+", "@xyz", "+xyz", "xyz@", "xyz+", "jim@fred", "jim+fred",
                      "jim+fred@example.org", "xyz@fred", "fred@example.com", "example.org", "fred ", " fred",
                      "fred@xyz ", "fred%xyz", "fred@xyz.example", "xyz.example.org.", "xyz@jim", "fred\0",
                      "%", "_", "*", "fre_", "f%", "'", '"', "' OR 1=1 --", "\udcff", "\udcff@xyzz",
                      "x" * 100_000):
            self.assertIsNone(await self.found(accounts, login), login)

    async def test_disabled_accounts_are_found(self) -> None:
        """A checker must see them, to refuse them as slowly as a wrong password."""
        accounts = await self.accounts(FRED, XYZ)
        for login, view in (("fred", None), ("jim@xyz", "jim")):
            found = await accounts.find_login(login)
            await accounts.set_disabled(found.account.name, True)
            found = await accounts.find_login(login)
            self.assertEqual((found.account.disabled, found.view), (True, view))

    async def test_a_found_login_opens_its_maildrop(self) -> None:
        """The account and the view are what an admission needs; mail for the address is there."""
        store = await self.make_store()
        await store.accounts.add([FRED, XYZ])
        for login, address in (("fred", "Freddy@example.net"), ("JIM+xyz", "Jim@XYZ.net"),
                               ("xyz", "jim@xyz.net"), ("a+b@xyz.net", "A+b@xyz.net")):
            target = await store.accounts.find_recipient(address)
            await self.put(store, target.maildrop, MIME, user=target.user)
            found = await store.accounts.find_login(login)
            account = found.account
            session = await store.open(Admission(account.name, found.view, account.name, account.version))
            self.assertIn(MIME, await self.texts(session))
            await session.release()

    async def test_any_login_name_has_an_answer(self) -> None:
        """Seeded names of the characters that matter: None or one account, never a fault."""
        accounts, random = await self.accounts(FRED, XYZ), Random(2)
        parts = ["fred", "FRED", "xyz", "Xyz", "example.org", "xyz.net", "@", "+", "@", "+", ".", " ", "\0",
                 "ä", "\udcff", "'", "%", "\n", "日", ""]
        answers = set()
        for _ in range(400):
            login = "".join(random.choice(parts) for _ in range(random.randrange(1, 6)))
            expected = next((name for name in (fold(login), login.lower().rpartition("@")[2],
                                               login.lower().rpartition("+")[2])
                             if name in ("fred", "xyz", "xyz.net")), None)
            found = await self.found(accounts, login)
            answers.add(found and found[0])
            if found is not None and found[1] is None:
                self.assertIn(fold(login), ("fred", "fred@example.org", "xyz", "xyz.net"))
            elif found is not None:
                self.assertEqual(found[0], "xyz")
                self.assertIn(expected, ("xyz", "xyz.net"))
                self.assertTrue(fold(login).startswith(found[1]))
        self.assertEqual(answers, {None, "fred", "xyz"})

    # find_recipient ---------------------------------------------------------------------------

    async def test_where_mail_goes(self) -> None:
        """An account's addresses, every local part of a host's domains; the local part's key."""
        accounts = await self.accounts(FRED, XYZ)
        for address in ("fred@example.org", "FRED@EXAMPLE.ORG", "Freddy@example.net"):
            self.assertEqual((await accounts.find_recipient(address)).maildrop, "fred")
        for address, user in {
            "fred@xyz.example.org": "fred", "Fred.B@XYZ.net": "fred.b", "anyone@xyz.net": "anyone",
            "a+b@xyz.net": "a+b", "xyz@xyz.net": "xyz", "grüße@xyz.net": "grüße", "GRÜSSE@xyz.net": "grÜsse",
            "o'neil%x@xyz.net": "o'neil%x", "x" * 64 + "@xyz.net": "x" * 64,
        }.items():
            self.assertEqual(await accounts.find_recipient(address), Target("xyz", user, True), address)

    async def test_a_quoted_local_part_may_hold_any_separator(self) -> None:
        """The domain stands behind the last @."""
        accounts = await self.accounts(FRED, XYZ)
        target = await accounts.find_recipient('"fred@example.org"@xyz.net')
        self.assertEqual(target.maildrop, "xyz")
        await self.fault(NoSuchDomain, accounts.find_recipient('"fred@example.org"@example.com'))

    async def test_nobody_and_nowhere(self) -> None:
        """A local part that nobody has in a domain of ours is told from a domain that is not ours."""
        accounts = await self.accounts(FRED, XYZ, Account("b@example.com", addresses=("c@example.edu",)))
        for address in ("nobody@example.org", "freddy@EXAMPLE.org", "fred@example.net", "b@example.edu"):
            fault = await self.fault(NoSuchRecipient, accounts.find_recipient(address))
            self.assertIs(type(fault), NoSuchRecipient, address)
        for address in ("fred@example.com", "b@example.com", "fred@xyz", "fred@fred", "fred@org",
                        "fred@.example.org", "fred@xexample.org", "fred@xyz.example", "fred@a.xyz.net"):
            await self.fault(NoSuchDomain, accounts.find_recipient(address))

    async def test_a_domain_is_ours_as_long_as_an_account_has_it(self) -> None:
        """The last account that goes takes its domain along."""
        accounts = await self.accounts(FRED, Account("jim", addresses=("jim@example.org", "j@example.org")))
        for gone, expected in (("fred", NoSuchRecipient), ("jim", NoSuchDomain)):
            await accounts.remove(gone)
            fault = await self.fault(expected, accounts.find_recipient("fred@example.org"))
            self.assertIs(type(fault), expected)

    async def test_addresses_that_are_none(self) -> None:
        """A named fault for whatever comes, never another; disabled accounts do receive."""
        accounts = await self.accounts(FRED, XYZ)
        for address in ("", "@", "fred", "xyz", "fred@", "@example.org", "@xyz.net", "\0@xyz",
                        "\udcff@example.org", "x" * 65 + "@xyz.net", "x@" + "x" * 256, "x" * 100_000,
                        "fred@example.org\n", "'@%"):
            await self.fault((NoSuchRecipient, BadAddress), accounts.find_recipient(address))
        await accounts.set_disabled("fred", True)
        self.assertEqual((await accounts.find_recipient("fred@example.org")).maildrop, "fred")

    async def test_changes_are_told(self) -> None:
        """Another number after each change of any account, the same while nothing changes."""
        accounts = await self.accounts(FRED)
        seen = [await accounts.changes()]
        self.assertEqual(await accounts.changes(), seen[0])
        for change in (lambda: accounts.add([Account("new")]),
                       lambda: accounts.set_verifiers("new", ["{PLAIN}x"]),
                       lambda: accounts.set_disabled("new", True), lambda: accounts.remove("new")):
            await change()
            seen.append(await accounts.changes())
        self.assertEqual(len(set(seen)), len(seen))

    async def test_who_lacks_a_verifier(self) -> None:
        """By scheme word in any case, with or without suffix; who cannot log in does not count."""
        accounts = await self.accounts(
            Account("both", verifiers=("{ARGON2ID}x", "{SCRAM-SHA-256}y")),
            Account("first", verifiers=("{PLAIN}x",)),
            Account("suffix", verifiers=("{plain.b64}eA==",)), Account("other", verifiers=("{PLAIN-MD5}x",)),
            Account("sly", verifiers=('{ARGON2ID}["{PLAIN}', ', "{PLAIN}')), Account("none"),
            Account("disabled", verifiers=("{ARGON2ID}x",), disabled=True))
        self.assertEqual(list(await accounts.lacking(["PLAIN"])), ["both", "other", "sly"])
        self.assertEqual(list(await accounts.lacking(["PLAIN"], 1)), ["both"])
        self.assertEqual(list(await accounts.lacking(["SCRAM-SHA-256", "PLAIN"])), ["other", "sly"])
        self.assertEqual(list(await accounts.lacking(["PLAIN", "PLAIN-MD5", "ARGON2ID"])), [])

    async def test_server_secret(self) -> None:
        """Drawn once."""
        accounts = await self.accounts()
        secret = await accounts.server_secret()
        self.assertEqual(len(secret), 32)
        self.assertEqual(await accounts.server_secret(), secret)

    async def test_many_at_once(self) -> None:
        """Questions and changes side by side are each answered for themselves."""
        accounts = await self.accounts(*[
            Account(f"user{number}", addresses=(f"u{number}@example.org",)) for number in range(50)])

        async def one(number: int) -> tuple[str, str, bool]:
            await accounts.set_disabled(f"user{number}", number % 2 == 0)
            found = await accounts.find_login(f"U{number}@example.org")
            target = await accounts.find_recipient(f"u{number}@example.org")
            return found.account.name, target.maildrop, found.account.disabled

        outcomes = await DeferredList([ensureDeferred(one(number)) for number in range(50)])
        self.assertEqual(outcomes, [(True, (f"user{number}", f"user{number}", number % 2 == 0))
                                    for number in range(50)])
