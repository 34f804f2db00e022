"""Contract: names of accounts and names that only other checkers know never share a maildrop."""

from __future__ import annotations

from twisted.internet.defer import DeferredList

from mailgate.errors import AccountConflict, LoginRefused, NoSuchRecipient, StoreUnavailable
from mailgate.model import Account, Admission
from tests.stores.contract_base import MIME, StoreHooks

FRED = Account("fred", verifiers=("{PLAIN}f",), addresses=("fred@example.org", "freddy@example.net"))
XYZ = Account("xyz", sdps=True, verifiers=("{PLAIN}x",), domains=("xyz.example.org",))
LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcd\r\n" * 20_000


class FenceContract(StoreHooks):
    """What another checker vouches for is not an account, and mail for an account is for nobody else."""

    # Logins -----------------------------------------------------------------------------------

    async def test_another_checkers_word_opens_no_account(self) -> None:
        """Not by its name, an address or a domain, in any case; in no view; enabled or not; held or not."""
        store = await self.make_store()
        other = await self.make_second(store)
        await store.accounts.add([FRED, XYZ, Account("off", disabled=True)])
        await self.put(store, "fred", MIME)
        session = await other.open(await self.admission(other, "fred"))
        for name in ("fred", "FRED", "Fred@Example.org", "freddy@example.net", "xyz", "XYZ.example.org",
                     "off"):
            for view in (None, "jim"):
                for where in (store, other):
                    await self.fault(LoginRefused, where.open(Admission(name, view)))
        self.assertEqual(await self.texts(session), [MIME])
        await session.commit([1])
        for name in ("fred", "xyz"):
            await (await store.open(await self.admission(store, name))).release()

    async def test_another_checkers_users_are_served(self) -> None:
        """Names that are no account's, though they look like one's: they have maildrops of their own."""
        store = await self.make_store()
        await store.accounts.add([FRED, XYZ])
        for name in ("alice", "fred@example.net", "jim@xyz", "jim+xyz", "xyz.net"):
            session = await store.open(Admission(name))
            self.assertEqual(await self.texts(session), [])
            await session.release()

    async def test_a_name_is_free_when_its_account_is_gone(self) -> None:
        """Nothing of the account's is left for the other."""
        store = await self.make_store()
        await store.accounts.add([FRED])
        await self.put(store, "fred", MIME)
        await store.accounts.remove("fred")
        session = await store.open(Admission("fred"))
        self.assertEqual(await self.texts(session), [])

    # Accounts ---------------------------------------------------------------------------------

    async def test_a_maildrop_of_another_checker_becomes_no_account(self) -> None:
        """Whether mail or a login made it, by whichever key; none of those added with it is there."""
        store = await self.make_store()
        await self.put(store, "Alice", MIME)
        await (await store.open(Admission("fred@example.org"))).release()
        await (await store.open(Admission("xyz.example.org"))).release()
        for account in (Account("alice"), Account("ALICE", sdps=True), FRED, XYZ):
            await self.fault(AccountConflict, store.accounts.add([Account("bob"), account]))
            self.assertEqual(await store.accounts.list(), [])
        self.assertEqual(len(await store.scan("alice")), 1)
        await store.accounts.add([Account("bob", addresses=("alice@example.org",))])
        for name in ("alice", "fred@example.org", "xyz.example.org"):
            await store.remove(name)
        await store.accounts.add([Account("alice"), FRED, XYZ])

    async def test_a_refused_login_or_delivery_leaves_no_maildrop(self) -> None:
        """Which would keep an account of that name from being added."""
        store = await self.make_store(quota_octets=10)
        await store.accounts.add([FRED])
        await self.fault(LoginRefused, store.open(Admission("freddy@example.net")))
        for name, said in (("alice", True), ("alice", None), ("freddy@example.net", False)):
            outcomes = await self.deliver(store, MIME, self.placement(name, account=said))
            self.assertIsInstance(outcomes[0], Exception)
        await store.accounts.add([Account("alice")])
        await store.accounts.remove("fred")
        await store.accounts.add([FRED])

    async def test_an_account_and_a_login_of_its_name_at_once(self) -> None:
        """One of the two is refused, over two processes, whoever comes first."""
        store = await self.make_store()
        other = await self.make_second(store)
        for number in range(10):
            name = f"user{number}"
            asked = [store.accounts.add([Account(name)]), other.open(Admission(name))]
            (added, conflict), (opened, refusal) = await DeferredList(asked, consumeErrors=True)
            self.assertNotEqual(added, opened)
            (refusal if added else conflict).trap(LoginRefused, AccountConflict)

    # Deliveries -------------------------------------------------------------------------------

    async def test_mail_for_an_account_that_is_gone(self) -> None:
        """Is for nobody: no maildrop is made, the next of that name does not get it; others have theirs."""
        store = await self.make_store()
        await store.accounts.add([FRED, XYZ])
        for content in (MIME, LARGE):
            mails = [self.placement("Fred", account=True), self.placement("xyz", "jim", account=True)]
            self.assertEqual(await self.deliver(store, content, *mails), [None, None])
            await store.accounts.remove("fred")
            outcomes = await self.deliver(store, content, *mails)
            self.assertIsInstance(outcomes[0], NoSuchRecipient)
            self.assertIsNone(outcomes[1])
            self.assertEqual(await store.scan("fred"), [])
            await store.accounts.add([FRED])
            session = await store.open(await self.admission(store, "fred"))
            self.assertEqual(await self.texts(session), [])
            await session.release()
        self.assertEqual(len(await store.scan("xyz")), 4)
        self.assertEqual(await store.check(), [])

    async def test_mail_for_nobody_else_any_more(self) -> None:
        """With `all_or_nothing` one that is gone keeps all out; nothing of it stays."""
        store = await self.make_store()
        await store.accounts.add([FRED])
        mails = [self.placement("fred", account=True), self.placement("gone", account=True),
                 self.placement("alice", account=False)]
        for content in (MIME, LARGE):
            outcomes = await self.deliver(store, content, *mails, all_or_nothing=True)
            self.assertEqual([type(one) for one in outcomes],
                             [StoreUnavailable, NoSuchRecipient, StoreUnavailable])
        self.assertEqual([await store.scan(name) for name in ("fred", "gone", "alice")], [[], [], []])
        self.assertEqual(await store.check(), [])

    async def test_an_address_is_no_account(self) -> None:
        """An account is meant by its name."""
        store = await self.make_store()
        await store.accounts.add([FRED])
        outcomes = await self.deliver(store, MIME, self.placement("fred@example.org", account=True))
        self.assertIsInstance(outcomes[0], NoSuchRecipient)

    async def test_mail_for_another_checkers_user_whose_name_was_given_away(self) -> None:
        """The account that came meanwhile does not get it, by none of its keys."""
        store = await self.make_store()
        mails = [self.placement(name, account=False) for name in ("fred", "Fred@example.org", "alice")]
        self.assertEqual(await self.deliver(store, MIME, *mails), [None] * 3)
        for placement in mails:
            await store.remove(placement.maildrop)
        await store.accounts.add([FRED])
        outcomes = await self.deliver(store, MIME, *mails)
        self.assertEqual([type(one) for one in outcomes], [NoSuchRecipient, NoSuchRecipient, type(None)])
        self.assertEqual(await store.scan("fred"), [])

    async def test_a_repeated_delivery_to_one_who_is_gone(self) -> None:
        """Is not taken for done."""
        store = await self.make_store()
        await store.accounts.add([FRED])
        mail = self.placement("fred", account=True)
        for _ in range(2):
            self.assertEqual(await self.deliver(store, MIME, mail, delivery_id="one"), [None])
        await store.accounts.remove("fred")
        outcomes = await self.deliver(store, MIME, mail, delivery_id="one")
        self.assertIsInstance(outcomes[0], NoSuchRecipient)

    async def test_recipients_are_told_as_accounts(self) -> None:
        """So that who asks can say so when the message is there."""
        store = await self.make_store()
        await store.accounts.add([FRED, XYZ])
        for address in ("fred@example.org", "jim@xyz.example.org"):
            self.assertIs((await store.accounts.find_recipient(address)).account, True)
