"""The embedded store where the machine's clock is wrong: set back, or far ahead."""

from __future__ import annotations

import sqlite3
import time

from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import TestCase

from mailgate.errors import LeaseLost, MaildropInUse
from mailgate.model import Admission, Envelope, Placement
from mailgate.stores import sqlite_connection, sqlite_database
from mailgate.stores.sqlite import SqliteStore
from tests.stores.contract_base import MIME, StoreHooks
from tests.stores.sqlite_hooks import SqliteHooks

HOUR, DAY = 3600, 86_400
LEASE_SECONDS = 60


class ClockHooks(SqliteHooks, StoreHooks):
    """Stores whose databases tell a time that the test chooses. Nothing is renewed by itself."""

    lease_seconds = LEASE_SECONDS

    def setUp(self) -> None:
        self.ahead_seconds = 0.0        # of the time that it is
        connect = sqlite_connection.connect

        def connect_with_clock(path: str, *, create: bool = False) -> sqlite3.Connection:
            connection = connect(path, create=create)
            connection.create_function("julianday", 1, lambda _: (
                (time.time() + self.ahead_seconds) / DAY + 2440587.5))
            return connection

        self.patch(sqlite_database, "connect", connect_with_clock)

    def new_store(self, folder: str, **options: object) -> SqliteStore:
        store = super().new_store(folder, **options)
        store._database.reader._connect = lambda: sqlite_database.connect(f"{folder}/mail.db")
        return store

    async def two(self) -> tuple[SqliteStore, SqliteStore]:
        """Return two stores on one file, as two processes have."""
        store = await self.make_store()
        return store, await self.make_second(store)

    async def taken(self, store: SqliteStore) -> bool:
        """Whether a maildrop cannot be opened by a store; what could be opened is given up again."""
        try:
            session = await store.open(Admission("mrose"))
        except MaildropInUse:
            return True
        await session.release()
        return False


class SetBackTests(ClockHooks, TestCase):
    """A clock that is set back, by a step."""

    async def test_the_dead_hold_nothing_for_the_time_of_the_step(self) -> None:
        """Set back by an hour, a dead process's maildrop opens at once, not in an hour."""
        dead, other = await self.two()
        await dead.open(Admission("mrose"))
        self.assertTrue(await self.taken(other))
        self.ahead_seconds = -HOUR
        self.assertFalse(await self.taken(other))

    async def test_a_small_step_takes_nothing_from_the_living(self) -> None:
        """Set back by less than the lease, a process keeps its maildrop; a dead one, for two leases."""
        living, other = await self.two()
        await self.put(living, "mrose", MIME)
        session = await self.login(living, "mrose")
        self.ahead_seconds = 1 - LEASE_SECONDS
        self.assertTrue(await self.taken(other))
        self.ahead_seconds = LEASE_SECONDS + 1
        self.assertFalse(await self.taken(other))
        await self.fault(LeaseLost, session.commit([1]))

    async def test_the_living_quit_as_ever(self) -> None:
        """Set back by a day, a session that nobody took over ends with its removal, renewed or not."""
        for renewed in (False, True):
            store = await self.make_store()
            await self.put(store, "mrose", MIME)
            session = await self.login(store, "mrose")
            self.ahead_seconds -= DAY
            if renewed:
                await store._database._renew()
                [(left_ms,)] = self.sql(store, "SELECT expires_ms FROM holder")
                self.assertLess(left_ms / 1000 - time.time() - self.ahead_seconds, LEASE_SECONDS + 1)
            await session.commit([1])
            self.assertEqual(await self.held(store, "mrose"), [])

    async def test_a_process_takes_nothing_from_itself(self) -> None:
        """Of its own holder a process knows that it lives: a second session finds the maildrop in use."""
        store = await self.make_store()
        session = await self.login(store, "mrose")
        self.ahead_seconds = -DAY
        self.assertTrue(await self.taken(store))
        self.assertEqual(self.count(store, "holder"), 1)
        await session.commit([])
        self.assertFalse(await self.taken(store))

    async def test_who_was_taken_over_removes_nothing(self) -> None:
        """The living one that looked dead is fenced off, and its process's other sessions are not."""
        store, other = await self.two()
        for name in ("mrose", "fred"):
            await self.put(store, name, MIME)
        stale, untouched = await self.login(store, "mrose"), await self.login(store, "fred")
        self.ahead_seconds = -DAY
        taker = await self.login(other, "mrose")
        await self.fault(LeaseLost, stale.commit([1]))
        await store._database._renew()
        await untouched.commit([1])
        await taker.commit([])
        self.assertEqual((await self.held(store, "mrose"), await self.held(store, "fred")), ([MIME], []))

    async def test_rows_of_an_earlier_version(self) -> None:
        """A holder that does not say how long it lives is believed."""
        old, other = await self.two()
        await old.open(Admission("mrose"))
        self.sql(old, "UPDATE holder SET lease_ms = NULL")
        self.ahead_seconds = -HOUR
        self.assertTrue(await self.taken(other))
        self.ahead_seconds = LEASE_SECONDS + 1
        self.assertFalse(await self.taken(other))


class FarAheadTests(ClockHooks, TestCase):
    """Retention while the clock may be years ahead."""

    async def stored(self, age_days: float) -> SqliteStore:
        """Return a store that was looked after a moment ago, with a message of that age."""
        store = await self.make_store()
        delivery = store.deliver()
        delivery.write(b"x\n")
        arrived = int((time.time() - age_days * DAY) * 1000)
        await delivery.commit([Placement("mrose", None, Envelope(b"", b"mrose@x", arrived))])
        return store

    async def rounds(self, store: SqliteStore, count: int, every_seconds: float = HOUR) -> int:
        """Run rounds of retention at 30 days, and return how many messages they removed."""
        removed = 0
        for _ in range(count):
            self.ahead_seconds += every_seconds
            removed += await store.expire(30 * DAY)
        return removed

    async def test_a_wrong_year_removes_nothing(self) -> None:
        """Years ahead for most of a day: no mail goes, each round says why, and all is well afterwards."""
        store = await self.stored(1)
        told: list[str] = []
        self.watch_log(told)
        self.ahead_seconds = 12 * 365 * DAY
        self.assertEqual(await self.rounds(store, 17), 0)
        self.assertEqual(len(told), 17)
        self.assertIn("4380 days", told[0])
        self.ahead_seconds = 0
        self.assertEqual(await self.rounds(store, 20), 0)
        self.assertEqual((len(await store.scan("mrose")), len(told)), (1, 17))

    async def test_a_wrong_year_that_changes_is_no_more_believed(self) -> None:
        """Each step ahead is doubted anew."""
        store = await self.stored(1)
        for _ in range(4):
            self.ahead_seconds += 365 * DAY
            self.assertEqual(await self.rounds(store, 10), 0)
        self.assertEqual(len(await store.scan("mrose")), 1)

    async def test_time_off_is_believed_in_the_end(self) -> None:
        """After weeks off, what is too old goes once most of a day has passed."""
        store = await self.stored(1)
        self.ahead_seconds = 45 * DAY
        self.assertEqual(await self.rounds(store, 18), 0)
        self.assertEqual(await self.rounds(store, 1), 1)

    async def test_rounds_a_day_apart(self) -> None:
        """The rarest rounds there can be, and a weekend off, raise no doubt."""
        store = await self.stored(28.5)
        self.assertEqual(await self.rounds(store, 1, DAY), 0)
        self.assertEqual(await self.rounds(store, 1, 1.9 * DAY), 1)

    async def test_set_back(self) -> None:
        """A clock that is set back is believed: less is too old by it. What follows it is no step."""
        store = await self.stored(20)
        self.ahead_seconds = -365 * DAY
        self.assertEqual(await self.rounds(store, 3), 0)
        self.ahead_seconds = -363.5 * DAY
        told: list[str] = []
        self.watch_log(told)
        self.assertEqual(await self.rounds(store, 1), 0)
        self.assertEqual(told, [])

    def watch_log(self, told: list[str]) -> None:
        """Add to a list what is logged as a warning."""
        def observe(event: dict[str, object]) -> None:
            if event.get("log_level") is LogLevel.warn:
                told.append(str(event["log_format"]).format(**event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
