"""Contract: one session a view, fenced; QUIT is atomic and truthful."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.trial.unittest import SkipTest

from mailgate.errors import LeaseLost, MaildropInUse, NoSuchMessage, StoreUnavailable
from mailgate.model import Admission
from tests.corpus import random_message
from tests.stores.contract_base import StoreHooks, crlf_form, without

MAILS = [b"a: 1\r\n\r\none\r\n", b"a: 2\r\n\r\ntwo, two\r\n", b"a: 3\r\n\r\nthree, three\r\n"]


class LeaseContract(StoreHooks):
    """Who may open what beside whom, and what a session may still do when its lease is gone."""

    # Which sessions exclude one another -----------------------------------------------------

    async def test_one_session_a_maildrop(self) -> None:
        """A second login is refused while the first session lasts, in either spelling of the name."""
        store = await self.make_store()
        first = await self.login(store, "mrose")
        await self.fault(MaildropInUse, store.open(Admission("mrose")))
        await self.fault(MaildropInUse, store.open(Admission("MRose")))
        await first.release()
        await (await self.login(store, "mrose")).release()

    async def test_one_session_a_maildrop_over_processes(self) -> None:
        """What one process holds, another cannot open; what one gives up, another may have."""
        store = await self.make_store()
        other = await self.make_second(store)
        first = await self.login(store, "mrose")
        await self.fault(MaildropInUse, other.open(Admission("mrose")))
        await first.release()
        second = await self.login(other, "mrose")
        await self.fault(MaildropInUse, store.open(Admission("mrose")))
        await second.release()

    async def test_maildrops_are_independent(self) -> None:
        """Sessions of different maildrops stand side by side."""
        store = await self.make_store()
        for name in ("mrose", "xyz", "mrose2"):
            await self.login(store, name)
        await self.fault(MaildropInUse, store.open(Admission("xyz")))

    async def test_views_that_exclude_each_other(self) -> None:
        """The same view, and the whole maildrop beside any view, both ways and over processes."""
        store = await self.make_store()
        other = await self.make_second(store)
        for held, wanted in [(None, None), (None, "fred"), ("fred", None), ("fred", "fred")]:
            session = await self.login(store, "xyz", held)
            for where in (store, other):
                await self.fault(MaildropInUse, where.open(Admission("xyz", wanted)))
            await session.release()
            for where in (store, other):
                await (await self.login(where, "xyz", wanted)).release()

    async def test_views_of_different_users_stand_side_by_side(self) -> None:
        """Views of several users are open together; the host's waits for the last of them."""
        store = await self.make_store()
        other = await self.make_second(store)
        fred, jim = await self.login(store, "xyz", "fred"), await self.login(other, "xyz", "jim")
        ann = await self.login(store, "xyz", "ann")
        for session in (fred, jim, ann):
            await self.fault(MaildropInUse, other.open(Admission("xyz")))
            await session.release()
        await (await self.login(other, "xyz")).release()

    async def test_of_simultaneous_logins_one_succeeds(self) -> None:
        """However many ask at once, over two processes, one gets the maildrop."""
        store = await self.make_store()
        other = await self.make_second(store)
        asked = [where.open(Admission("mrose")) for where in (store, other) * 5]
        outcomes = await DeferredList(asked, consumeErrors=True)
        self.assertEqual(sum(success for success, _ in outcomes), 1)
        for success, outcome in outcomes:
            if not success:
                outcome.trap(MaildropInUse)

    # Giving up ------------------------------------------------------------------------------

    async def test_release_is_idempotent(self) -> None:
        """release may come twice, and the second one does not end another session's lease."""
        store = await self.make_store()
        first = await self.login(store, "mrose")
        await gatherResults([first.release(), first.release()])
        second = await self.login(store, "mrose")
        await first.release()
        await self.fault(MaildropInUse, store.open(Admission("mrose")))
        await second.release()

    async def test_release_removes_nothing(self) -> None:
        """A session that ends without QUIT leaves all mail where it was."""
        store = await self.make_store()
        await self.put(store, "mrose", *MAILS)
        session = await self.login(store, "mrose")
        await session.release()
        self.assertEqual(await self.held(store, "mrose"), MAILS)

    async def test_release_after_commit_harms_no_other_session(self) -> None:
        """release after commit does nothing, to nobody."""
        store = await self.make_store()
        await self.put(store, "mrose", *MAILS)
        first = await self.login(store, "mrose")
        await first.commit({1})
        second = await self.login(store, "mrose")
        await first.release()
        await self.fault(MaildropInUse, store.open(Admission("mrose")))
        await second.commit({1})
        self.assertEqual(await self.held(store, "mrose"), MAILS[2:])

    async def test_stop_gives_up_every_lease(self) -> None:
        """What a process held is free as soon as it has stopped; its sessions remove nothing more."""
        store = await self.make_store()
        other = await self.make_second(store)
        await self.put(store, "mrose", *MAILS)
        session = await self.login(store, "mrose")
        await self.login(store, "xyz", "fred")
        await store.stop()
        await (await self.login(other, "xyz")).release()
        taken = await self.login(other, "mrose")
        await self.fault(StoreUnavailable, session.commit({1, 2, 3}))
        self.assertEqual(await self.texts(taken), MAILS)
        await taken.release()
        self.assertEqual(await self.held(other, "mrose"), MAILS)
        await self.fault(StoreUnavailable, store.open(Admission("mrose")))

    # QUIT -----------------------------------------------------------------------------------

    async def test_commit_removes_exactly_the_marked(self) -> None:
        """Any collection of numbers: what it names is gone, what it does not name stays, in order."""
        store = await self.make_store()
        other = await self.make_second(store)
        for marked in ([], {2}, [3, 1], frozenset({1, 2, 3}), (3,), range(1, 4), {1: "x", 2: "y"}.keys()):
            await self.put(store, "mrose", *MAILS)
            session = await self.login(store, "mrose")
            await session.commit(marked)
            left = without(set(marked), MAILS)
            self.assertEqual(await self.held(other, "mrose"), left)
            rest = await self.login(store, "mrose")
            await rest.commit(range(1, len(left) + 1))
            self.assertEqual(await self.held(other, "mrose"), [])

    async def test_commit_gives_up_the_lease(self) -> None:
        """After QUIT the maildrop is free, marked messages or none."""
        store = await self.make_store()
        await self.put(store, "mrose", *MAILS)
        for marked in ([1], []):
            session = await self.login(store, "mrose")
            await session.commit(marked)
            await (await self.login(store, "mrose")).release()

    async def test_commit_of_a_view_removes_only_its_own(self) -> None:
        """The numbers of a user's view are that view's; other users' mail is untouched."""
        store = await self.make_store()
        for user, mail in zip(("jim", "fred", "jim"), MAILS, strict=True):
            await self.put(store, "xyz", mail, user=user)
        fred, jim = await self.login(store, "xyz", "fred"), await self.login(store, "xyz", "jim")
        self.assertEqual(await self.texts(fred), MAILS[1:2])
        await fred.commit({1})
        self.assertEqual(await self.texts(jim), [MAILS[0], MAILS[2]])
        await jim.commit({2})
        self.assertEqual(await self.held(store, "xyz"), MAILS[:1])

    async def test_commit_of_many_at_once(self) -> None:
        """Every second of 2,000 messages goes in one QUIT; the rest is there, in order."""
        store = await self.make_store()
        await gatherResults([
            Deferred.fromCoroutine(self.deliver(store, b"a: %d\n\n" % number, self.placement("mrose")))
            for number in range(2000)])
        before = await store.scan("mrose")
        session = await self.login(store, "mrose")
        await session.commit(range(1, 2001, 2))
        after = await store.scan("mrose")
        self.assertEqual([one.unique_id for one in after], [one.unique_id for one in before[1::2]])
        self.assertEqual([one.number for one in after], list(range(1, 1001)))

    async def test_commit_blocking(self) -> None:
        """Where an adapter offers it (for callers that cannot wait), it is commit, done on return."""
        store = await self.make_store()
        other = await self.make_second(store)
        await self.put(store, "mrose", *MAILS)
        session = await self.login(store, "mrose")
        if not hasattr(session, "commit_blocking"):
            raise SkipTest("this adapter only commits asynchronously")
        session.commit_blocking({1, 3})
        self.assertEqual(await self.held(other, "mrose"), MAILS[1:2])
        stale = await self.login(store, "mrose")
        await self.expire_holder(store)
        self.assertRaises(LeaseLost, stale.commit_blocking, {1})
        self.assertEqual(await self.held(other, "mrose"), MAILS[1:2])

    # A session that slept past its lease ----------------------------------------------------

    async def test_expired_lease_is_free_for_others(self) -> None:
        """What a dead process held may be taken; what a living one holds may not."""
        store = await self.make_store()
        other = await self.make_second(store)
        await self.login(store, "mrose")
        await self.login(other, "xyz")
        await self.expire_holder(store)
        await self.login(other, "mrose")
        await self.fault(MaildropInUse, store.open(Admission("xyz")))
        await self.fault(MaildropInUse, store.open(Admission("mrose")))

    async def test_expired_session_removes_nothing(self) -> None:
        """Even when nobody took its maildrop over, and however much it had marked."""
        store = await self.make_store()
        await self.put(store, "mrose", *MAILS)
        session = await self.login(store, "mrose")
        await self.expire_holder(store)
        await self.fault(LeaseLost, session.commit({1, 3}))
        self.assertEqual(await self.held(store, "mrose"), MAILS)

    async def test_expired_session_stays_so(self) -> None:
        """New sessions of the awakened process do not bring the old ones back to life."""
        store = await self.make_store()
        await self.put(store, "mrose", *MAILS)
        session = await self.login(store, "mrose")
        await self.expire_holder(store)
        fresh = await self.login(store, "xyz")
        await self.fault(LeaseLost, session.commit({1, 2, 3}))
        await fresh.release()
        self.assertEqual(await self.held(store, "mrose"), MAILS)

    async def test_stale_session_spares_its_successor(self) -> None:
        """Views both ways: who slept removes nothing and frees nothing; who took over does both."""
        for old, new in [(None, None), (None, "fred"), ("fred", None), ("fred", "fred")]:
            store = await self.make_store()
            other = await self.make_second(store)
            await self.put(store, "xyz", *MAILS, user="fred")
            stale = await self.login(store, "xyz", old)
            unread = await self.login(store, "xyz2", old)
            await self.expire_holder(store)
            successor = await self.login(other, "xyz", new)
            await self.login(other, "xyz2", new)
            await self.fault(LeaseLost, stale.commit({1, 2, 3}))
            await stale.release()
            await unread.release()
            await self.fault(MaildropInUse, store.open(Admission("xyz", new)))
            await self.fault(MaildropInUse, store.open(Admission("xyz2", new)))
            self.assertEqual(await self.texts(successor), MAILS)
            await successor.commit({2})
            self.assertEqual(await self.held(store, "xyz"), [MAILS[0], MAILS[2]])

    async def test_stale_session_after_its_successor_has_gone(self) -> None:
        """A lease that was taken over and given up again is not the sleeper's again."""
        store = await self.make_store()
        other = await self.make_second(store)
        await self.put(store, "mrose", *MAILS)
        stale = await self.login(store, "mrose")
        await self.expire_holder(store)
        await (await self.login(other, "mrose")).commit({1})
        await self.fault(LeaseLost, stale.commit({2, 3}))
        self.assertEqual(await self.held(other, "mrose"), MAILS[1:])

    async def test_stale_session_reads_right_or_not_at_all(self) -> None:
        """A message that vanished behind the session's back is what it was, or a named fault."""
        store = await self.make_store()
        other = await self.make_second(store)
        large = b"a: b\r\n\r\n" + b".x\r\n" * 50_000
        await self.put(store, "mrose", MAILS[0], large)
        stale = await self.login(store, "mrose")
        await self.expire_holder(store)
        await (await self.login(other, "mrose")).commit({1, 2})
        await other.sweep(0)
        for number, text in ((1, MAILS[0]), (2, large)):
            try:
                self.assertEqual(await self.text(stale, number), text)
            except (NoSuchMessage, StoreUnavailable):
                pass                    # that is truthful too
        self.assertEqual(await self.held(store, "mrose"), [])

    # All of it together ---------------------------------------------------------------------

    async def test_any_history_ends_as_a_simple_model_says(self) -> None:
        """Deliveries, logins, QUITs, lost connections and sleeping processes in seeded disorder."""
        for seed in range(4):
            store = await self.make_store()
            history = _History(self, Random(seed), [store, await self.make_second(store)])
            for _ in range(80):
                await history.step()
            await history.check()


class _History:
    """A random history of one SDPS host on two processes, beside a model of what it must give."""

    def __init__(self, case: StoreHooks, random: Random, stores: list) -> None:
        self.case = case
        self.random = random
        self.stores = stores
        self.mail: list[tuple[str | None, bytes]] = []      # user and CRLF form, in order of arrival
        self.sessions: list[tuple] = []     # session, index of its store, view, its mail

    async def step(self) -> None:
        await self.random.choice(
            [self.deliver] * 5 + [self.login] * 6 + [self.quit] * 4 + [self.vanish, self.sleep, self.check])()

    async def deliver(self) -> None:
        user, content = self.random.choice([None, "fred", "jim"]), random_message(self.random)
        await self.case.put(self.random.choice(self.stores), "xyz", content, user=user)
        self.mail.append((user, crlf_form(content)))

    async def login(self) -> None:
        where, view = self.random.randrange(2), self.random.choice([None, "fred", "jim"])
        if any(view == held or None in (view, held) for _, _, held, _ in self.sessions):
            await self.case.fault(MaildropInUse, self.stores[where].open(Admission("xyz", view)))
            return
        mine = [mail for mail in self.mail if view in (None, mail[0])]
        session = await self.case.login(self.stores[where], "xyz", view)
        self.case.assertEqual(await self.case.texts(session), [text for _, text in mine])
        self.sessions.append((session, where, view, mine))

    async def quit(self) -> None:
        if not self.sessions:
            return
        session, _, _, mine = self.sessions.pop(self.random.randrange(len(self.sessions)))
        marked = [number for number in range(1, len(mine) + 1) if self.random.random() < 0.6]
        await session.commit(marked)
        gone = {id(mine[number - 1]) for number in marked}
        self.mail = [mail for mail in self.mail if id(mail) not in gone]

    async def vanish(self) -> None:
        if self.sessions:
            session, *_ = self.sessions.pop(self.random.randrange(len(self.sessions)))
            await session.release()

    async def sleep(self) -> None:
        where = self.random.randrange(2)
        await self.case.expire_holder(self.stores[where])
        for session, at, _, mine in self.sessions:
            if at == where and mine:
                await self.case.fault(LeaseLost, session.commit(range(1, len(mine) + 1)))
        self.sessions = [session for session in self.sessions if session[1] != where]

    async def check(self) -> None:
        listed = await self.random.choice(self.stores).scan("xyz")
        self.case.assertEqual([one.octets for one in listed], [len(text) for _, text in self.mail])
