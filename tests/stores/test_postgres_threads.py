"""The threads of a store over PostgreSQL: transactions in one another's way, order, and the holder."""

from __future__ import annotations

import random
from threading import Event, Thread

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailgate.errors import LeaseLost, MaildropInUse, StoreUnavailable
from mailgate.model import Admission
from mailgate.stores.postgres_connection import Limits, connect, settings_of
from mailgate.stores.postgres_holder import HolderLock, SeenHolder
from mailgate.stores.postgres_lanes import Job, Lanes
from mailgate.stores.postgres_threads import CONFLICT_SECONDS, Chance
from mailgate.stores.postgres_transaction import MustBeAlone, transact
from mailgate.stores.sql.database import renew_and_release
from mailgate.stores.sql.leases import Holder, Lease, Wanted, drop_holder, release, release_sessions, take
from mailgate.stores.sql.messages import remove_marked
from tests.stores.contract_base import MIME, StoreHooks
from tests.stores.postgres_hooks import PostgresHooks


class ConflictTests(PostgresHooks, StoreHooks, TestCase):
    """Two transactions that cannot both have been alone."""

    async def test_a_conflict_is_tried_again(self) -> None:
        """What another has changed between our look and our write is looked at once more."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME)
        seen: list[int] = []

        def count_octets(cursor) -> None:
            octets = cursor.execute("SELECT octets FROM maildrop").fetchone()[0]
            seen.append(octets)
            if len(seen) == 1:
                self.sql(store, "UPDATE maildrop SET octets = octets + 1")
            cursor.execute("UPDATE maildrop SET messages = ?", (octets,))

        await store._database.writer.run(count_octets, durable=True)
        self.assertEqual(seen, [len(MIME), len(MIME) + 1])
        self.assertEqual(self.sql(store, "SELECT messages FROM maildrop"), [(len(MIME) + 1,)])

    async def test_conflicts_without_end(self) -> None:
        """Are tried for a time, with pauses that chance makes unequal, then the store is unavailable."""
        pauses: list[float] = []
        store = await self.make_store(chance=Chance(
            lambda: len(pauses) * 0.5, pauses.append, random.Random(7)))
        await self.put(store, "mrose", MIME)

        def never(cursor) -> None:
            cursor.execute("SELECT octets FROM maildrop").fetchone()
            self.sql(store, "UPDATE maildrop SET octets = octets + 1")
            cursor.execute("UPDATE maildrop SET messages = 7")

        await self.fault(StoreUnavailable, store._database.writer.run(never))
        self.assertEqual(len(pauses), 2 * CONFLICT_SECONDS + 1)
        self.assertEqual(len(set(pauses)), len(pauses))
        self.assertGreater(max(pauses), 10 * min(pauses))
        self.assertEqual(self.sql(store, "SELECT messages FROM maildrop"), [(1,)])

    async def test_deliveries_from_two_nodes_to_one_maildrop(self) -> None:
        """All come in, once each, and the store's counters fit them."""
        store = await self.make_store()
        other = await self.make_second(store)
        places = [self.placement("ann"), self.placement("bob")]
        await gatherResults([Deferred.fromCoroutine(self.deliver(where, b"%d\r\n" % number, *order))
                             for number in range(12) for where, order in
                             ((store, places), (other, places[::-1]))])
        for name in ("ann", "bob"):
            self.assertEqual(sorted(await self.held(store, name)),
                             sorted(b"%d\r\n" % number for number in range(12) for _ in range(2)))
        self.assertEqual(await store.check(), [])


class FenceTests(PostgresHooks, StoreHooks, TestCase):
    """Two connections: a QUIT that has done all but its COMMIT, and a login when its lease has expired."""

    async def test_who_comes_second_waits_and_then_sees(self) -> None:
        """The taker waits for the row that QUIT holds; which of the two is first the other one knows."""
        for commits in (True, False):
            store = await self.make_store()
            other = await self.make_second(store)
            await self.put(store, "mrose", MIME, MIME)
            session = await self.login(store, "mrose")
            store._database._renewal.stop()     # a node that is stopped
            url = store.url + "?options=-c%20idle_in_transaction_session_timeout%3D0"
            quitting = connect(settings_of(url, Limits.of(60)))
            self.addCleanup(quitting.close)
            reached, go_on = Event(), Event()

            def all_but_commit(cursor, lease, serials, commits=commits, reached=reached, go_on=go_on) -> None:
                remove_marked(cursor, lease, serials)
                cursor.execute("SELECT 1").fetchone()
                reached.set()
                go_on.wait(60)
                if not commits:
                    raise LeaseLost("the node died")

            ending = deferToThread(transact, quitting, all_but_commit, (session._lease, [1]))
            await deferToThread(reached.wait, 60)
            await self.expire_holder(store)
            taking = self.open_soon(other)
            await self.until_waiting(store)
            go_on.set()
            if commits:
                await ending
            else:
                await self.fault(LeaseLost, ending)
            taken = await taking
            self.assertEqual(await self.texts(taken), [MIME] * (1 if commits else 2))
            await taken.release()
            store._database._renewal.start(10, now=False)

    async def test_a_commit_of_its_own_after_the_lease(self) -> None:
        """The fence that goes with COMMIT undoes it all."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME)
        session = await self.login(store, "mrose")
        holder = store._database.holder.id
        with connect(settings_of(store.url, Limits.of(60))) as connection:

            def late(cursor) -> None:
                remove_marked(cursor, session._lease, [1])
                cursor.execute("UPDATE holder SET expires_ms = 0 WHERE id = ?", (holder,))

            with self.assertRaises(LeaseLost):
                transact(connection, late, (), holder=holder)
        self.assertEqual(self.count(store, "message"), 1)
        self.assertEqual(self.count(store, "lease"), 1)

    async def until_waiting(self, store) -> None:
        while not self.sql(store, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            await deferToThread(Event().wait, 0.02)

    def open_soon(self, store) -> Deferred:
        async def work():
            while True:
                try:
                    return await store.open(Admission("mrose"))
                except (MaildropInUse, StoreUnavailable):       # the lock's own limit is a part of the lease
                    await deferToThread(Event().wait, 0.02)
        return Deferred.fromCoroutine(work())


class ManyLoginsTests(PostgresHooks, StoreHooks, TestCase):
    """Writers side by side, and the one holder of their process."""

    async def test_the_first_logins_of_a_process(self) -> None:
        """Twenty at once have one holder, which is the one that is renewed; so they have after it expired."""
        store = await self.make_store()
        for _ in range(2):
            sessions = await gatherResults([store.open(Admission(f"user{n}")) for n in range(20)])
            self.assertEqual(self.sql(store, "SELECT DISTINCT holder FROM lease"),
                             [(store._database.holder.id,)])
            self.assertEqual(self.count(store, "lease"), 20)
            await self.expire_holder(store)
            for session in sessions[:2]:
                await session.release()

    async def test_a_session_that_ends_and_one_that_begins(self) -> None:
        """A login that is asked for after a release does not overtake it."""
        store = await self.make_store()
        session = await self.login(store, "mrose")
        for _ in range(30):
            session.release()
            session = await store.open(Admission("mrose"))
        await session.release()


class LaneTests(SynchronousTestCase):
    """Which jobs wait for which."""

    wanted = Wanted("ann", "ann", "", None, None, 0)

    def test_a_session_that_is_given_up_early(self) -> None:
        """While its lease is on its way to be taken: else it would be taken after all, and nobody's."""
        lanes, holder = Lanes(), Holder(60)
        taking, renewing, giving_up = (Job(take, (holder, self.wanted, "s1"), False),
                                       Job(renew_and_release, (holder, {"s1"}), False),
                                       Job(release_sessions, ({"s1", "s2"},), False))
        self.assertEqual([lanes.enter(job) for job in (taking, renewing, giving_up)], [True, True, False])
        self.assertEqual([lanes.leave(job) for job in (taking, giving_up)], [[giving_up], []])
        self.assertEqual(lanes.sessions(), [])

    def test_order(self) -> None:
        """One maildrop's jobs follow each other, from a login to its release; others go beside them."""
        lanes, holder = Lanes(), Holder(60)
        first = Job(take, (holder, self.wanted, "s1"), False)
        lease = Lease(1, "", "s1")
        ends = Job(release, (lease,), False)
        other = Job(take, (holder, self.wanted._replace(maildrop_key="bob"), "s2"), False)
        self.assertEqual([lanes.enter(job) for job in (first, ends, other)], [True, False, True])
        self.assertEqual(lanes.sessions(), ["s1", "s2"])
        self.assertEqual(lanes.leave(first), [ends])
        self.assertEqual(lanes.leave(ends), [])
        self.assertEqual(lanes.sessions(), ["s2"])
        self.assertFalse(lanes.is_empty())
        other.error = MaildropInUse("refused")
        lanes.leave(other)
        self.assertTrue(lanes.is_empty())
        self.assertEqual(lanes.sessions(), [])

    def test_who_holds_a_maildrop_for_upkeep(self) -> None:
        """Has a session like one that logged in, named by more values; where there is no maildrop, none."""
        lanes, holder = Lanes(), Holder(60)
        jobs = [Job(print, (holder, name, None, f"s-{name}"), False) for name in ("ann", "bob")]
        self.assertEqual([lanes.enter(job) for job in jobs], [True, True])
        self.assertFalse(lanes.enter(Job(take, (holder, self.wanted, "s1"), False)))
        self.assertEqual(lanes.sessions(), ["s-ann", "s-bob", "s1"])
        jobs[0].value = Lease(1, "", "s-ann")
        for job in jobs:
            lanes.leave(job)
        self.assertEqual(lanes.sessions(), ["s-ann", "s1"])

    def test_last_words(self) -> None:
        """What gives all leases up waits for everybody, and everybody for it."""
        lanes, holder = Lanes(), Holder(60)
        before = [Job(take, (holder, self.wanted._replace(maildrop_key=name), name), False) for name in "ab"]
        last = Job(drop_holder, (holder,), False)
        after = Job(print, (), False)
        self.assertEqual([lanes.enter(job) for job in (*before, last, after)], [True, True, False, False])
        self.assertEqual(lanes.leave(before[0]), [])
        self.assertEqual(lanes.leave(before[1]), [last])
        self.assertEqual(lanes.leave(last), [after])
        self.assertTrue(lanes.enter(Job(print, (), False)))

    def test_a_holder_that_is_only_seen(self) -> None:
        """Who would change it learns that he has to be alone; alone he waits for all others."""
        holder = Holder(60, "process")
        holder.id = "one"
        seen = SeenHolder(holder)
        self.assertEqual((seen.id, seen.lease_ms, seen.process), ("one", 60_000, "process"))
        with self.assertRaises(MustBeAlone):
            seen.id = ""
        lock, order, inside = HolderLock(), [], Event()

        def change() -> None:
            inside.set()
            with lock.alone():
                order.append("alone")

        with lock.seeing():
            thread = Thread(target=change)
            thread.start()
            inside.wait(10)
            order.append("seeing")
        thread.join(10)
        with lock.seeing():
            order.append("again")
        self.assertEqual(order, ["seeing", "alone", "again"])


