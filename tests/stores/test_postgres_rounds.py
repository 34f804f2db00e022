"""The store over PostgreSQL behind a relay: round trips counted, answers lost, commits that come too late."""

from __future__ import annotations

import time
from itertools import product

import psycopg
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mailgate.errors import LeaseLost, MaildropInUse, StoreUnavailable
from mailgate.model import Account, Admission
from mailgate.stores.postgres_faults import OutcomeUnknown
from mailgate.stores.postgres_threads import Chance
from tests.engines import postgres
from tests.engines.relay import Relay
from tests.stores.contract_base import MIME, StoreHooks
from tests.stores.postgres_hooks import PostgresHooks

LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcd\r\n" * 20_000
COMMIT = b"COMMIT"
PATIENT = "?options=-c%20idle_in_transaction_session_timeout%3D0"


class FakeClock:
    """A clock that only waiting moves on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += 1

    def chance(self) -> Chance:
        return Chance(lambda: self.now, self.pause)


class RelayHooks(PostgresHooks, StoreHooks):
    """A store that reaches its server through a relay, by one connection that writes and one that reads."""

    async def relayed(self, query: str = "", **options: object):
        """Return a store behind a relay that is connected already, and the relay."""
        url = self.fresh_database()
        relay = Relay(postgres.primary().port)
        self.addCleanup(relay.close)
        behind = url.replace(f":{relay.upstream}/", f":{relay.port}/") + query
        store = await self.started(behind, self.temporary_folder(), writers=1, readers=1, **options)
        store.direct = url
        await (await self.login(store, "warm")).release()       # a holder, and a login's listing
        relay.sent.clear()
        return store, relay

    async def beside(self, store):
        """Return another node over the same data, that reaches the server without a relay."""
        return await self.started(store.direct, store.folder)


class RoundTripTests(RelayHooks, TestCase):
    """How often a client's command waits for the server."""

    async def test_each_operation(self) -> None:
        """Login, RETR, QUIT, delivery: a few each, and no more with more messages."""
        store, relay = await self.relayed()
        await store.accounts.add([Account("mrose", verifiers=("{PLAIN}x",))])
        cost = {}

        async def count(name: str, asked):
            relay.sent.clear()
            result = await asked
            cost[name] = relay.turns
            return result

        await count("first delivery", self.deliver(store, MIME, self.placement("mrose")))
        await count("delivery", self.deliver(store, MIME, self.placement("mrose")))
        await count("large delivery", self.deliver(store, LARGE, self.placement("mrose")))
        await count("delivery to five", self.deliver(store, MIME, *[
            self.placement(f"user{number}") for number in range(5)]))
        await count("look-up", store.accounts.find_login("mrose"))
        admission = await self.admission(store, "mrose")
        session = await count("login", store.open(admission))
        await count("RETR of three", self.texts(session))
        await count("QUIT", session.commit([]))
        session = await count("login, nothing new", store.open(admission))
        await count("QUIT, one removed", session.commit([1]))
        session = await count("login, one gone", store.open(admission))
        await count("QUIT, two removed", session.commit([1, 2]))
        self.assertEqual(cost, {
            "first delivery": 4, "delivery": 4, "large delivery": 4, "delivery to five": 12,
            "look-up": 1, "login": 3, "login, nothing new": 2, "login, one gone": 3,
            "RETR of three": 2, "QUIT": 1, "QUIT, one removed": 4, "QUIT, two removed": 4})


class LostAnswerTests(RelayHooks, TestCase):
    """A commit whose answer does not come: never acknowledged unseen, never done twice."""

    async def test_a_delivery(self) -> None:
        """It is acknowledged once it is seen to be there, and is there once; its file stays."""
        store, relay = await self.relayed(inline_octets=len(MIME))
        for number, (content, cut, options) in enumerate(product(
                (MIME, LARGE), ("cut_after", "cut_before"), ({}, {"delivery_id": "given"}))):
            setattr(relay, cut, COMMIT)
            place = self.placement(f"user{number}")
            self.assertEqual(await self.deliver(store, content, place, **options), [None])
            self.assertIsNone(getattr(relay, cut))
            self.assertEqual(await store.sweep(0), 0)
            self.assertTrue(await self.held(store, f"user{number}") == [content])
        self.assertEqual(await store.check(), [])

    async def test_a_delivery_that_is_refused_after_all(self) -> None:
        """What became of all copies is told as it is."""
        store, relay = await self.relayed(quota_octets=len(MIME))
        await self.put(store, "full", MIME)
        relay.cut_after = COMMIT
        outcomes = await self.deliver(store, MIME, self.placement("ann"), self.placement("full"))
        self.assertEqual([type(one).__name__ for one in outcomes], ["NoneType", "OverQuota"])
        self.assertEqual(await self.held(store, "ann"), [MIME])

    async def test_a_server_that_stays_away(self) -> None:
        """The outcome is looked for, for a while with pauses, then the delivery fails; its file stays."""
        clock = FakeClock()
        store, relay = await self.relayed(chance=clock.chance())
        relay.cut_after, upstream = COMMIT, relay.upstream
        relay.upstream = postgres.free_port()
        asked = self.deliver(store, LARGE, self.placement("mrose"), delivery_id="one")
        fault = await self.fault(StoreUnavailable, Deferred.fromCoroutine(asked))
        self.assertIsInstance(fault, OutcomeUnknown)
        self.assertGreater(len(clock.pauses), 10)
        self.flushLoggedErrors()
        relay.upstream = upstream
        self.assertTrue(await self.held(store, "mrose") == [LARGE])
        self.assertEqual(await self.deliver(store, LARGE, self.placement("mrose"), delivery_id="one"), [None])
        self.assertTrue(await self.held(store, "mrose") == [LARGE])
        self.assertEqual(await store.check(), [])

    async def test_quit(self) -> None:
        """It fails, whether it was done or not, and gives its lease up."""
        store, relay = await self.relayed()
        await self.put(store, "mrose", MIME, MIME)
        for cut, left in (("cut_before", 2), ("cut_after", 1)):
            session = await self.login(store, "mrose")
            setattr(relay, cut, COMMIT)
            if cut == "cut_before":     # COMMIT did not arrive: who says so? Nobody knows.
                await self.fault(StoreUnavailable, session.commit([1]))
            else:
                fault = await self.fault(StoreUnavailable, session.commit([1]))
                self.assertIsInstance(fault, OutcomeUnknown)
            self.assertEqual(len(await self.held(store, "mrose")), left)

    async def test_login(self) -> None:
        """It fails, and its lease is given up though nobody knows whether it was taken."""
        store, relay = await self.relayed()
        for cut in ("cut_before", "cut_after"):
            setattr(relay, cut, COMMIT)
            await self.fault(StoreUnavailable, store.open(Admission("mrose")))
            await (await store.open(Admission("mrose"))).release()
        self.assertEqual(self.count(store, "lease"), 0)

    async def test_a_login_that_the_server_commits_later(self) -> None:
        """When its lease was given up already, and leases were compared: they are compared again."""
        store, relay = await self.relayed()
        with psycopg.connect(store.direct) as in_the_way:
            in_the_way.execute("SELECT * FROM login FOR UPDATE")
            opening = store.open(Admission("warm"))
            while not self.sql(store, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                                      " AND datname = current_database()"):
                await deferLater(reactor, 0.01, lambda: None)
            relay.end_connections()
            self.assertIsInstance(await self.fault(StoreUnavailable, opening), OutcomeUnknown)
            await self.renewed(store)
            self.assertEqual(self.count(store, "lease"), 0)
        while not self.count(store, "lease"):
            await deferLater(reactor, 0.01, lambda: None)
        await self.renewed(store)
        await (await store.open(Admission("warm"))).release()

    async def renewed(self, store) -> None:
        """Let a store renew and compare its leases: by its one thread, before what is asked for next."""
        await store._database._renew()
        await store._database.writer.run(lambda cursor: None)

    async def test_a_connection_that_died_while_idle(self) -> None:
        """Costs nobody anything: what had not been committed for certain is begun anew."""
        store, _ = await self.relayed()
        await self.put(store, "mrose", MIME)
        for _ in range(2):
            self.sql(store, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                            " WHERE application_name = 'mailgate'")
            self.assertEqual(await self.held(store, "mrose"), [MIME])
            await self.put(store, "other", MIME)


class LateCommitTests(RelayHooks, TestCase):
    """A node that is stopped in the middle of QUIT: its COMMIT arrives when the lease has run out."""

    lease_seconds = 1

    async def run_out(self, store, view: str = "") -> None:
        """Wait until the leases of a store have run out by the database's clock."""
        while self.sql(store, "SELECT 1 FROM holder WHERE expires_ms > floor(extract(epoch FROM"
                              " clock_timestamp()) * 1000)"):
            await deferLater(reactor, 0.05, lambda: None)

    async def held_up(self, query: str):
        """Return a store, its relay, and a QUIT whose last words are held back until the lease is over."""
        store, relay = await self.relayed(query)
        store.direct += query
        await self.put(store, "mrose", MIME, MIME)
        session = await self.login(store, "mrose")
        relay.hold_back = COMMIT        # of the renewals, too
        asked = session.commit([1])
        while not relay.is_holding():
            await deferLater(reactor, 0.01, lambda: None)
        store.url = store.direct        # for a look inside
        await self.run_out(store)
        return store, relay, asked

    async def test_nobody_has_come(self) -> None:
        """It is refused by the clock alone: nothing is removed, though nobody was in its way."""
        store, relay, asked = await self.held_up(PATIENT)
        relay.let_go()
        await self.fault(LeaseLost, asked)
        self.assertEqual(await self.held(store, "mrose"), [MIME, MIME])

    async def test_another_has_taken_over(self) -> None:
        """He sees all there was, and nothing is removed behind his back."""
        store, relay, asked = await self.held_up(PATIENT)
        other = await self.beside(store)
        session = await other.open(Admission("mrose"))
        relay.let_go()
        await self.fault(LeaseLost, asked)
        self.assertEqual(await self.texts(session), [MIME, MIME])
        await session.commit([1, 2])
        self.assertEqual(await self.held(other, "mrose"), [])

    async def test_the_server_has_ended_its_transaction(self) -> None:
        """With the limits that are told to the server nothing is held for longer than a part of the lease."""
        store, relay, asked = await self.held_up("")
        end = time.monotonic() + 60
        while self.sql(store, "SELECT 1 FROM pg_stat_activity WHERE application_name = 'mailgate'"
                              " AND state LIKE 'idle in transaction%'"):
            self.assertLess(time.monotonic(), end)
            await deferLater(reactor, 0.05, lambda: None)
        relay.let_go()
        await self.fault((LeaseLost, StoreUnavailable), asked)
        self.assertEqual(await self.held(store, "mrose"), [MIME, MIME])


class SlowRoundTests(RelayHooks, TestCase):
    """One slow round holds up nobody else."""

    async def test_other_maildrops(self) -> None:
        """A delivery whose COMMIT does not come through keeps its own maildrop waiting, not the others."""
        url = self.fresh_database()
        relay = Relay(postgres.primary().port)
        self.addCleanup(relay.close)
        store = await self.started(url.replace(f":{relay.upstream}/", f":{relay.port}/"),
                                   self.temporary_folder(), writers=3, lease_seconds=60)
        await gatherResults([Deferred.fromCoroutine(self.put(store, name, MIME)) for name in ("ann", "bob")])
        relay.hold_back = b"'ann'"
        stuck = Deferred.fromCoroutine(self.put(store, "ann", b"later words\r\n"))
        behind = Deferred.fromCoroutine(self.put(store, "ann", b"last\r\n"))
        while not relay.is_holding():
            await deferLater(reactor, 0.01, lambda: None)
        began = time.monotonic()
        for _ in range(3):
            await self.put(store, "bob", MIME)
            self.assertEqual(await self.fault(MaildropInUse, self.twice(store)) is None, False)
        self.assertLess(time.monotonic() - began, 30)
        self.assertFalse(stuck.called or behind.called)
        relay.let_go()
        await gatherResults([stuck, behind])
        self.assertEqual(await self.held(store, "ann"), [MIME, b"later words\r\n", b"last\r\n"])

    def twice(self, store) -> Deferred:
        """Open one maildrop while it is open; the first session ends then."""
        async def work() -> None:
            session = await self.login(store, "bob")
            try:
                await self.login(store, "bob")
            finally:
                await session.release()
        return Deferred.fromCoroutine(work())
