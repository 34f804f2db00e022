"""Leases of the embedded store: fencing between processes, one write for all renewals, dead holders."""

from __future__ import annotations

import os
import signal
import sqlite3

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from mailgate.errors import LeaseLost, MaildropInUse, StoreUnavailable
from mailgate.model import Admission
from mailgate.stores import sqlite_connection
from mailgate.stores.sql.leases import still_holds
from tests.stores.contract_base import MIME, StoreHooks
from tests.stores.sqlite_hooks import SqliteHooks
from tests.stores.sqlite_process import MOMENT_SECONDS, Child, ChildHooks

LEASE_SECONDS = 0.6         # of the child, by the databases' clock; it renews three times as often by its own
POLL_SECONDS = 0.02


class StoppedProcessTests(ChildHooks, StoreHooks, TestCase):
    """A process that is stopped past its lease, and wakes."""

    async def stopped(self, store, child: Child, view: str, taker_view: str | None) -> None:
        """Stop the child for as long as its lease; another session takes over and ends."""
        os.kill(child.transport.pid, signal.SIGSTOP)
        await self.fault(MaildropInUse, store.open(Admission("xyz", taker_view)))
        self.pass_time(LEASE_SECONDS + MOMENT_SECONDS)
        session = await store.open(Admission("xyz", taker_view))
        await self.put(store, "xyz", b"later\r\n", user="fred")
        await session.release()
        os.kill(child.transport.pid, signal.SIGCONT)

    async def test_it_deletes_nothing(self) -> None:
        """Whichever view it held and whichever took over: its QUIT fails and removes nothing."""
        store = await self.make_store()
        await self.put(store, "xyz", MIME, MIME, user="fred")
        for view, taker_view in (("", None), ("fred", None), ("", "fred"), ("fred", "fred")):
            child = await self.child(store.folder, LEASE_SECONDS)
            before = len(await store.scan("xyz"))
            self.assertEqual(await child.ask(f"open xyz {view}"), f"ok {before}")
            await self.stopped(store, child, view, taker_view)
            self.assertEqual(await child.ask("commit 1 2"), "LeaseLost")
            self.assertEqual(len(await store.scan("xyz")), before + 1)
            self.assertEqual(await child.ask(f"open xyz {view}"), f"ok {before + 1}")
            self.assertEqual(await child.ask("end"), "ok")
            await child.ended

    async def test_it_deletes_nothing_even_if_nobody_took_over(self) -> None:
        """A lease that has run out is dead for good; the next session of the process is a new one."""
        store = await self.make_store()
        await self.put(store, "xyz", MIME)
        child = await self.child(store.folder, LEASE_SECONDS)
        self.assertEqual(await child.ask("open xyz "), "ok 1")
        os.kill(child.transport.pid, signal.SIGSTOP)
        self.pass_time(LEASE_SECONDS + MOMENT_SECONDS)
        os.kill(child.transport.pid, signal.SIGCONT)
        self.assertEqual(await child.ask("commit 1"), "LeaseLost")
        self.assertEqual(await child.ask("open xyz "), "ok 1")
        self.assertEqual(await child.ask("commit 1"), "ok")
        self.assertEqual(await store.scan("xyz"), [])

    async def test_a_killed_process_holds_its_maildrops_for_a_lease(self) -> None:
        """No longer, and not a moment less; then the maildrop opens."""
        store = await self.make_store()
        child = await self.child(store.folder, LEASE_SECONDS)
        self.assertEqual(await child.ask("open xyz "), "ok 0")
        child.transport.signalProcess("KILL")
        await child.ended
        self.pass_time(LEASE_SECONDS - MOMENT_SECONDS)
        await self.fault(MaildropInUse, store.open(Admission("xyz")))
        self.pass_time(2 * MOMENT_SECONDS)
        await (await store.open(Admission("xyz"))).release()

    async def test_a_process_that_lives_keeps_its_lease(self) -> None:
        """It renews by itself: after several leases' time the session is as good as new."""
        store = await self.make_store()
        await self.put(store, "xyz", MIME)
        child = await self.child(store.folder, LEASE_SECONDS)
        self.assertEqual(await child.ask("open xyz "), "ok 1")
        for _ in range(4):
            [(before_ms,)] = self.sql(store, "SELECT expires_ms FROM holder")
            self.pass_time(LEASE_SECONDS - MOMENT_SECONDS)
            while self.sql(store, "SELECT expires_ms FROM holder") == [(before_ms,)]:
                await deferLater(reactor, POLL_SECONDS, lambda: None)
            [(after_ms,)] = self.sql(store, "SELECT expires_ms FROM holder")
            self.assertTrue(abs(after_ms - before_ms - (LEASE_SECONDS - MOMENT_SECONDS) * 1000) < 5)
        await self.fault(MaildropInUse, store.open(Admission("xyz")))
        self.assertEqual(await child.ask("commit 1"), "ok")


class FencingTests(SqliteHooks, StoreHooks, TestCase):
    """Two stores on one file; a holder expires by a write of the test."""

    async def test_a_dead_process_is_buried_at_once(self) -> None:
        """By whoever knows that it is dead; sessions of other processes stay, with such a word or without."""
        store = await self.make_store(process="w1-")
        stores = [store, *[await self.make_second(store, process=word) for word in ("w2-", "w3-", "")]]
        sessions = []
        for name, one in zip(("one", "two", "three", "four"), stores, strict=True):
            await self.put(store, name, MIME)
            sessions.append(await self.login(one, name))
        await store.bury_process("w2-")
        self.assertEqual((self.count(store, "lease"), self.count(store, "holder")), (3, 3))
        await (await self.login(store, "two")).release()
        for number, session in enumerate(sessions):
            if number == 1:
                await self.fault(LeaseLost, session.commit([1]))
            else:
                await session.commit([1])
        self.assertEqual(len(await self.held(store, "two")), 1)

    async def test_every_pair_of_views(self) -> None:
        """A stale session removes nothing, whether what took over is still open or has ended."""
        store = await self.make_store()
        other = await self.make_second(store)
        await self.put(store, "xyz", MIME, MIME, user="fred")
        for view in (None, "fred"):
            for taker_view in (None, "fred", "jim"):
                for taker_ends in (True, False):
                    stale = await self.login(store, "xyz", view)
                    await self.expire_holder(store)
                    taker = await self.login(other, "xyz", taker_view)
                    if taker_ends:
                        await taker.release()
                    await self.fault(LeaseLost, stale.commit([1, 2]))
                    await taker.release()
        self.assertEqual(await self.held(store, "xyz"), [MIME] * 2)
        self.assertEqual(self.count(store, "lease"), 0)

    async def test_a_stale_commit_leaves_the_new_lease_alone(self) -> None:
        """The maildrop stays held by who took over, and that session's QUIT works."""
        store = await self.make_store()
        other = await self.make_second(store)
        await self.put(store, "xyz", MIME, MIME)
        stale = await self.login(store, "xyz")
        await self.expire_holder(store)
        taker = await self.login(other, "xyz")
        await self.fault(LeaseLost, stale.commit([1]))
        await stale.release()
        await self.fault(MaildropInUse, store.open(Admission("xyz")))
        await taker.commit([1])
        self.assertEqual(await self.held(store, "xyz"), [MIME])

    async def test_a_dead_holder_takes_all_its_sessions_along(self) -> None:
        """Once it is found expired, by a renewal or by a login, none of its leases counts again."""
        for find in ("renewal", "login"):
            store = await self.make_store()
            await self.put(store, "a", MIME)
            sessions = [await self.login(store, name) for name in "abc"]
            await self.expire_holder(store)
            if find == "renewal":
                await store._database._renew()
                self.assertEqual((self.count(store, "lease"), self.count(store, "holder")), (0, 0))
            fresh = await self.login(store, "d")
            self.assertEqual((self.count(store, "lease"), self.count(store, "holder")), (1, 1))
            for session in sessions:
                await self.fault(LeaseLost, session.commit([1]) if session is sessions[0]
                                 else store._database.writer.run(still_holds, session._lease))
            await fresh.commit([])
            self.assertEqual(await self.held(store, "a"), [MIME])

    async def test_an_expired_holder_is_not_renewed(self) -> None:
        """Not even when nobody else has looked: the write finds no row that lives."""
        store = await self.make_store()
        await self.put(store, "xyz", MIME)
        session = await self.login(store, "xyz")
        await self.expire_holder(store)
        for _ in range(3):
            await store._database._renew()
        await self.fault(LeaseLost, session.commit([1]))
        self.assertEqual(await self.held(store, "xyz"), [MIME])

    async def test_only_overlapping_leases_are_cleared(self) -> None:
        """Taking a lease deletes the expired rows in its way, in its own transaction, and no others."""
        store = await self.make_store()
        other = await self.make_second(store)
        for maildrop, view in (("xyz", "fred"), ("xyz", "jim"), ("abc", None)):
            await self.login(store, maildrop, view)
        await self.expire_holder(store)
        await (await self.login(other, "xyz", "fred")).release()
        self.assertEqual(self.sql(store, "SELECT view FROM lease ORDER BY view"), [("",), ("jim",)])
        await (await self.login(other, "xyz")).release()
        self.assertEqual(self.sql(store, "SELECT view FROM lease"), [("",)])
        await other.sweep(0)
        self.assertEqual((self.count(store, "lease"), self.count(store, "holder")), (0, 1))


class RenewalTests(SqliteHooks, StoreHooks, TestCase):
    """What a process writes to keep its sessions."""

    async def test_ten_thousand_sessions_are_renewed_by_one_write(self) -> None:
        """One UPDATE of one row, in one transaction, without a sync; every lease lives on."""
        store = self.new_store(self.temporary_folder())
        store._database._renewal.clock = Clock()        # no renewal but ours, however long all this takes
        await store.start()
        self.addCleanup(store.stop)
        sessions = await gatherResults([store.open(Admission(f"user{number}")) for number in range(10_000)])
        self.assertEqual((self.count(store, "lease"), self.count(store, "holder")), (10_000, 1))
        before = self.sql(store, "SELECT expires_ms FROM holder")[0][0]
        statements = await self.trace(store)
        await store._database._renew()
        writes = [line.split()[0] for line in statements]
        self.assertEqual(writes, ["BEGIN", "UPDATE", "COMMIT"])
        self.assertGreater(self.sql(store, "SELECT expires_ms FROM holder")[0][0], before)
        await gatherResults([session.release() for session in sessions])
        self.assertEqual(self.count(store, "lease"), 0)

    async def test_renewals_come_three_times_a_lease(self) -> None:
        """Timed by the reactor's clock, and none without a session or after the stop."""
        clock = Clock()
        store = self.new_store(self.temporary_folder(), lease_seconds=60)
        store._database._renewal.clock = clock
        await store.start()
        statements = await self.trace(store)
        for name, expected in (("before", 0), ("after", 3)):
            for _ in range(3):
                clock.advance(20)
                await store._database.writer.run(lambda cursor: None)
            self.assertEqual(sum("UPDATE holder" in line for line in statements), expected)
            await self.login(store, name)
        await store.stop()
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_a_lease_that_could_not_be_given_up_is_given_up_later(self) -> None:
        """While the store refuses, release succeeds all the same; the next renewal deletes the row."""
        store = await self.make_store()
        await self.put(store, "b", MIME)
        sessions = [await self.login(store, name) for name in "ab"]
        lock = await self.locked(store)
        await sessions[0].release()
        await self.fault(StoreUnavailable, sessions[1].commit([1]))
        lock.close()
        self.assertEqual(self.count(store, "lease"), 2)
        await store._database._renew()
        self.assertEqual(self.count(store, "lease"), 0)
        self.assertEqual(await self.held(store, "b"), [MIME])
        self.assertEqual(store._database._unreleased, set())

    async def test_a_renewal_that_fails_is_followed_by_others(self) -> None:
        """An outage shorter than the lease costs no session."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME)
        session = await self.login(store, "mrose")
        lock = await self.locked(store)
        await store._database._renew()
        lock.close()
        await store._database._renew()
        await session.commit([1])
        self.assertEqual(await self.held(store, "mrose"), [])

    async def locked(self, store):
        """Return a connection that keeps all others from writing; the store does not wait for it."""
        self.patch(sqlite_connection, "BUSY_SECONDS", 0.001)
        await store._database.writer.run(_do_not_wait)
        connection = sqlite3.connect(f"{store.folder}/mail.db", isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        self.addCleanup(connection.close)
        return connection


def _do_not_wait(cursor: sqlite3.Cursor) -> None:
    cursor.execute("PRAGMA busy_timeout = 1").fetchall()
