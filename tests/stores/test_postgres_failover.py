"""The store over PostgreSQL when servers die: a primary under load, its synchronous replica in its place."""

from __future__ import annotations

import time
from collections import Counter
from functools import cache
from threading import Event

import psycopg
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailgate.errors import LeaseLost, MaildropInUse, StaleCredential, StoreUnavailable
from mailgate.model import Admission
from mailgate.stores import postgres_threads
from mailgate.stores.postgres_connection import Limits
from mailgate.stores.postgres_faults import OutcomeUnknown
from mailgate.stores.postgres_threads import Chance
from tests.engines import postgres
from tests.engines.relay import Relay
from tests.stores.contract_base import MIME, StoreHooks, unique_ids
from tests.stores.postgres_hooks import PostgresHooks

LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcd\r\n" * 5_000
RECOVERED_SECONDS = 60      # at most, on a busy machine; otherwise three


@cache
def pair() -> tuple[postgres.Server, postgres.Server]:
    """Return a primary that syncs, and the replica that it waits for with every commit."""
    first = postgres.Server().create()
    return first, postgres.Server().copy_of(first, synchronous=True)


class FailoverHooks(PostgresHooks, StoreHooks):
    """Stores that know both servers."""

    async def make_store(self, **options: object):
        self.server, other = pair()
        url = self.server.url(self.server.create_database(), other)     # gone with the servers
        return await self.started(url, self.temporary_folder(), **options)

    def until_recovered(self) -> float:
        return time.monotonic() + RECOVERED_SECONDS

    async def held_soon(self, store, maildrop: str) -> list[bytes]:
        """Return what a maildrop holds, once the lease of a session that failed is given up."""
        end = self.until_recovered()
        while True:
            try:
                return await self.held(store, maildrop)
            except MaildropInUse:
                self.assertLess(time.monotonic(), end)
                await self.wait()

    async def wait(self, seconds: float = 0.05) -> None:
        await deferLater(reactor, seconds, lambda: None)


class SilentReplicaTests(FailoverHooks, TestCase):
    """A replica that answers nobody: commits are on one machine only, and are not told as done."""

    async def hasty(self, store):
        """Return another node that gives up after a second or two, once it has started."""
        self.patch(postgres_threads, "UNKNOWN_SECONDS", 1)
        limits = self.patch(Limits, "of", lambda _: Limits(idle=15_000, lock=20_000, statement=1000))
        node = await self.make_second(store)
        limits.restore()
        node._database.writer._round_seconds = 1.5
        return node

    async def test_commits_that_are_not_on_the_replica(self) -> None:
        """Nothing is acknowledged meanwhile; a delivery that is tried again later is there once."""
        store = await self.make_store()
        await self.put(store, "ann", MIME)
        hasty = await self.hasty(store)
        session = await self.login(hasty, "ann")
        replica = pair()[1]
        replica.freeze()
        try:
            for ask in (lambda: session.commit([1]),
                        lambda: Deferred.fromCoroutine(self.add_account(hasty, "bob")),
                        lambda: Deferred.fromCoroutine(self.deliver(
                            hasty, LARGE, self.placement("mrose"), delivery_id="one"))):
                self.assertIsInstance(await self.fault(StoreUnavailable, ask()), OutcomeUnknown)
        finally:
            replica.thaw()
        outcome = await self.deliver(store, LARGE, self.placement("mrose"), delivery_id="one")
        self.assertEqual(outcome, [None])
        self.assertTrue(await self.held(store, "mrose") == [LARGE])
        self.assertEqual(await store.check(), [])
        self.assertEqual(await self.held(store, "ann"), [])     # it was done, and nobody was told so


    async def test_a_wait_that_an_operator_ends(self) -> None:
        """The server says that it is done, and remarks that the replica may not have it: not enough."""
        store = await self.make_store()
        await self.put(store, "ann", MIME)
        session = await self.login(store, "ann")
        replica = pair()[1]
        replica.freeze()
        try:
            asked = session.commit([1])
            while not self.sql(store, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                                      " WHERE wait_event = 'SyncRep'"):
                await self.wait()
            self.assertIn("canceling wait", str(await self.fault(OutcomeUnknown, asked)))
        finally:
            replica.thaw()


class SilentServerTests(FailoverHooks, TestCase):
    """A server that is there and answers nobody."""

    async def test_rounds_are_broken_off(self) -> None:
        """Whoever waits is told that it failed, after a time; when the server goes on so does the store."""
        now = [0.0]
        self.server = postgres.primary()
        url = self.fresh_database() + "?connect_timeout=2"
        store = await self.started(url, self.temporary_folder(), chance=Chance(clock=lambda: now[0]))
        await self.put(store, "mrose", MIME)
        session = await self.login(store, "mrose")
        await store.accounts.list()
        self.server.freeze()
        try:
            asked = [store.open(Admission("other")), session.commit([1]), store.accounts.list()]
            failing = gatherResults([Deferred.fromCoroutine(self.fault(StoreUnavailable, one))
                                     for one in asked])
            while not failing.called:
                await self.wait()
                now[0] += 1000
                store._database.writer.break_off_stuck()
                store._database.reader.break_off_stuck()
            await failing
        finally:
            self.server.thaw()
        self.assertLessEqual(len(await self.held_soon(store, "mrose")), 1)
        await self.put(store, "other", MIME)


    async def test_a_new_connection_is_broken_off(self) -> None:
        """A server that takes connections and then answers nothing, the first question included."""
        now = [0.0]
        url = self.fresh_database()
        relay = Relay(postgres.primary().port)
        self.addCleanup(relay.close)
        relay.hold_back = b"mailgate_schema"
        store = self.new_store(url.replace(f":{relay.upstream}/", f":{relay.port}/"), self.temporary_folder(),
                               chance=Chance(clock=lambda: now[0]), writers=1)
        failing = Deferred.fromCoroutine(self.fault(StoreUnavailable, store.start()))
        while not relay.is_holding():
            await self.wait()
        self.assertFalse(failing.called)
        now[0] += 1000
        store._database.writer.break_off_stuck()
        await failing

    async def test_renewals_go_first(self) -> None:
        """However much waits: no session loses its lease because many others want something."""
        self.server = postgres.primary()
        store = await self.started(self.fresh_database(), self.temporary_folder(), writers=1)
        await self.login(store, "mrose")
        running, let_go, order = Event(), Event(), []
        first = store._database.writer.run(lambda cursor: (running.set(), let_go.wait(60)))
        await deferToThread(running.wait, 60)
        run = store._database.writer.run
        waiting = [run(lambda cursor, name=name: name).addCallback(order.append) for name in ("one", "two")]
        waiting.append(store._database._renew().addCallback(lambda _: order.append("renewed")))
        let_go.set()
        await gatherResults([first, *waiting])
        self.assertEqual(order, ["renewed", "one", "two"])

    async def test_renewals_while_commits_hang(self) -> None:
        """Nor because nothing durable can be committed, as where a synchronous replica is silent."""
        self.server = postgres.primary()
        store = await self.started(self.fresh_database(), self.temporary_folder(), writers=2)
        session, let_go, order = await self.login(store, "mrose"), Event(), []
        run = store._database.writer.run
        hanging = [run(lambda cursor, number=number: (let_go.wait(10), number)[1], durable=True)
                   .addCallback(order.append) for number in range(4)]
        await store._database._renew()
        await (await self.login(store, "other")).release()
        self.assertEqual(order, [])
        let_go.set()
        await gatherResults(hanging)
        self.assertEqual(order, [0, 1, 2, 3])
        await session.commit([])

    async def test_renewals_after_a_loss(self) -> None:
        """Nor because leases are compared with sessions meanwhile: that waits for nobody."""
        self.server = postgres.primary()
        store = await self.started(self.fresh_database(), self.temporary_folder(), writers=2)
        session, running, let_go, order = await self.login(store, "mrose"), Event(), Event(), []
        slow = store._database.writer.run(lambda cursor: (running.set(), let_go.wait(10)))
        slow.addCallback(lambda _: order.append("slow"))
        await deferToThread(running.wait, 60)
        store._database._note_loss()
        for _ in range(2):
            await store._database._renew()
            order.append("renewed")
        let_go.set()
        await slow
        self.assertEqual(order, ["renewed", "renewed", "slow"])
        await session.commit([])

    async def test_renewals_beside_a_lease_that_cannot_be_given_up(self) -> None:
        """Its row is locked, as by a QUIT whose client is lost: no other session loses its lease for that."""
        self.server = postgres.primary()
        limits = self.patch(Limits, "of", lambda _: Limits(idle=15_000, lock=200, statement=1000))
        store = await self.started(self.fresh_database(), self.temporary_folder())
        limits.restore()
        ended = await self.login(store, "mrose")
        with psycopg.connect(store.url) as in_the_way:
            in_the_way.execute("SELECT * FROM lease FOR UPDATE")
            await ended.release()
            self.assertEqual(store._database._unreleased, {ended._lease.session})
            late = self.sql(store, "UPDATE holder SET expires_ms = expires_ms - 30000 RETURNING expires_ms")
            await store._database._renew()
            self.assertGreater(self.sql(store, "SELECT expires_ms FROM holder"), late)
        await self.held_soon(store, "mrose")

    async def test_who_waits_for_too_long(self) -> None:
        """Is refused unseen, after a server was away for long; leases are given up all the same."""
        now = [0.0]
        self.server = postgres.primary()
        store = await self.started(self.fresh_database(), self.temporary_folder(), writers=1,
                                   chance=Chance(clock=lambda: now[0]))
        session, running, let_go = await self.login(store, "mrose"), Event(), Event()
        first = store._database.writer.run(lambda cursor: (running.set(), let_go.wait(60)))
        await deferToThread(running.wait, 60)
        late, ends = [store.open(Admission(name)) for name in ("ann", "bob")], session.commit([])
        now[0] += postgres_threads.WAITED_SECONDS + 1
        let_go.set()
        await first
        for one in late:
            self.assertIn("no connection was free", str(await self.fault(StoreUnavailable, one)))
        await ends
        self.assertEqual(await self.held(store, "mrose"), [])


class AwayBucketTests(FailoverHooks, TestCase):
    """Bodies that cannot be asked for."""

    async def test_the_database_comes_back_before_the_bucket(self) -> None:
        """Whose the bodies are was seen: a new connection does not wait for them, small mail goes on."""
        self.server = postgres.primary()
        store = await self.started(self.fresh_database(), self.temporary_folder())
        self.patch(store._database.blobs, "belong_to", self.fail)
        self.patch(store._database.blobs, "owner", self.fail)
        self.sql(store, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND pid <> pg_backend_pid()")
        await self.put(store, "mrose", MIME)
        self.assertEqual(await self.held(store, "mrose"), [MIME])


class StrayTests(FailoverHooks, TestCase):
    """Leases that were given up, and are there again: a server forgot it when it crashed."""

    async def test_leases_without_a_session(self) -> None:
        """Are given up again after a connection was lost; those of sessions stay."""
        self.server = postgres.primary()
        store = await self.started(self.fresh_database(), self.temporary_folder())
        session = await self.login(store, "mrose")
        ended = await self.login(store, "ann")
        rows = self.sql(store, "SELECT * FROM lease WHERE session = %s", ended._lease.session)
        await ended.release()
        self.sql(store, "INSERT INTO lease VALUES (%s, %s, %s, %s)", *rows[0])
        await self.fault(MaildropInUse, store.open(Admission("ann")))
        await store._database._renew()
        await self.fault(MaildropInUse, store.open(Admission("ann")))
        self.sql(store, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE application_name = 'mailgate'")
        await self.held(store, "other")     # the loss is seen
        await store._database._renew()
        await self.held_soon(store, "ann")
        await self.fault(MaildropInUse, store.open(Admission("mrose")))
        await session.commit([])


class UndoneChangeTests(FailoverHooks, TestCase):
    """A password that was set on a server whose replica, in its place, does not know it."""

    async def test_a_remembered_success(self) -> None:
        """Is stale when the password was set again, to another: no node takes the one for the other."""
        self.server = postgres.primary()
        store = await self.started(self.fresh_database(), self.temporary_folder())
        await self.add_account(store, "mrose")
        known = self.sql(store, "SELECT last, version FROM account_version, account")[0]
        await store.accounts.set_verifiers("mrose", ("{PLAIN}lost",))
        remembered = await self.admission(store, "mrose")
        self.sql(store, "UPDATE account_version SET last = %s", known[0])
        self.sql(store, "UPDATE account SET version = %s", known[1])
        await store.accounts.set_verifiers("mrose", ("{PLAIN}another",))
        await self.fault(StaleCredential, store.open(remembered))
        await (await self.login(store, "mrose")).release()


class FailoverTests(FailoverHooks, TestCase):
    """The primary is killed under load and its replica promoted. The last test here: the pair is used up."""

    async def test_no_acknowledged_delivery_is_lost(self) -> None:
        """Each is there exactly once; sessions see an outage, and new ones work again within seconds."""
        store = await self.make_store(inline_octets=len(MIME))
        second = await self.make_second(store)
        await gatherResults([Deferred.fromCoroutine(self.put(store, f"user{n}", MIME)) for n in range(4)])
        session = await self.login(store, "user0")
        stale = unique_ids(session.listing)
        acknowledged: Counter[bytes] = Counter()
        refused: list[bytes] = []
        stopping = []

        async def load(where, lane: int) -> None:
            number = 0
            while not stopping:
                number += 1
                content = b"a: %d.%d\r\n\r\n" % (lane, number) + (LARGE if number % 5 == 0 else b"")
                try:
                    outcomes = await self.deliver(where, content, self.placement(f"user{lane % 4}"))
                except StoreUnavailable:
                    refused.append(content)
                    await self.wait()
                else:
                    self.assertEqual(outcomes, [None])
                    acknowledged[content] += 1

        loads = [Deferred.fromCoroutine(load((store, second)[lane % 2], lane)) for lane in range(8)]
        while len(acknowledged) < 20:
            await self.wait()
        before = len(acknowledged)
        first, replica = pair()
        await deferToThread(first.kill)
        quitting = session.commit([1])      # its outcome is the client's to learn at the next login
        await self.fault((StoreUnavailable, LeaseLost), quitting)
        await deferToThread(replica.promote)
        end = self.until_recovered()
        while True:
            try:
                fresh = await second.open(Admission("user1"))
                break
            except StoreUnavailable:
                self.assertLess(time.monotonic(), end)
                await self.wait()
        await fresh.release()
        while len(acknowledged) < before + 20:      # deliveries go on, too
            self.assertLess(time.monotonic(), end)
            await self.wait()
        stopping.append(True)
        await gatherResults(loads)
        self.server = replica
        found: Counter[bytes] = Counter()
        for number in range(4):
            found.update(await self.held_soon(store, f"user{number}"))
        found -= Counter({MIME: 4})
        self.assertEqual([content for content in acknowledged if found[content] != 1], [])
        self.assertEqual([content for content, times in found.items() if times > 1], [])
        self.assertLessEqual(set(found), set(acknowledged) | set(refused))
        self.assertEqual(await store.check(), [])
        again = await self.login(store, "user0")
        self.assertIn(stale[0], unique_ids(again.listing))      # nothing went without a +OK
        await again.commit([1])
