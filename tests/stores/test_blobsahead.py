"""Small blobs read ahead: how many at once, in which order, what becomes of those that fail."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailgate.errors import StoreUnavailable
from mailgate.stores.blobsahead import MOST_AT_ONCE, Wish, read_small
from mailgate.stores.readahead import LONGEST_RUN
from tests.stores.contract_base import StoreHooks
from tests.stores.sqlite_hooks import SqliteHooks


class Blobs:
    """Blobs of ten octets, some of which are not there."""

    def __init__(self, calls_at_once: int, missing: tuple[str, ...] = ()) -> None:
        self.calls_at_once = calls_at_once
        self.opened: list[str] = []
        self.unclosed = 0
        self._missing = missing

    def open(self, key: str) -> Blobs:
        self.opened.append(key)
        if key in self._missing:
            raise StoreUnavailable(key)
        self.unclosed += 1
        return self

    def read(self, offset: int, octets: int) -> bytes:
        return self.opened[-1].encode().ljust(10)[offset:offset + octets]

    def close(self) -> None:
        self.unclosed -= 1


class ReadSmallTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.calls: list[tuple[Deferred[Any], Callable[[], Any]]] = []
        self.arrived: dict[int, bytes | Failure] = {}

    def in_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        self.calls.append((deferred, lambda: function(*args)))
        return deferred

    def read(self, blobs: Blobs, count: int, octets: int = 10) -> None:
        def arrived(index: int, outcome: bytes | Failure) -> None:
            self.assertNotIn(index, self.arrived)
            self.arrived[index] = outcome

        wishes = [Wish(index, f"key{index}", octets) for index in range(count)]
        read_small(self.in_thread, blobs, wishes, arrived)

    def finish(self, position: int) -> None:
        deferred, work = self.calls.pop(position)
        deferred.callback(work())

    def test_where_calls_are_quick(self) -> None:
        """One trip through a thread reads all, in order."""
        blobs = Blobs(1)
        self.read(blobs, 40)
        self.assertEqual(len(self.calls), 1)
        self.finish(0)
        self.assertEqual((blobs.opened, blobs.unclosed), ([f"key{index}" for index in range(40)], 0))
        self.assertEqual(self.arrived, {index: f"key{index}".encode().ljust(10) for index in range(40)})

    def test_where_calls_take_their_time(self) -> None:
        """So many at once and no more; each that ends makes room for the next; each arrives by itself."""
        for at_once, expected in ((4, 4), (1000, MOST_AT_ONCE)):
            self.arrived.clear()
            self.read(Blobs(at_once), 40)
            for number in range(40):
                self.assertEqual(len(self.calls), min(expected, 40 - number))
                self.assertEqual(len(self.arrived), number)
                self.finish(number % len(self.calls))
            self.assertEqual(len(self.arrived), 40)
        self.read(Blobs(8), 0)
        self.assertEqual(self.calls, [])

    def test_faults(self) -> None:
        """One that is missing, or too short, fails alone; a trip that fails, fails for all of its own."""
        for at_once in (1, 8):
            self.arrived.clear()
            blobs = Blobs(at_once, missing=("key1",))
            self.read(blobs, 3)
            while self.calls:
                self.finish(0)
            self.assertEqual([isinstance(self.arrived[index], Failure) for index in range(3)],
                             [False, True, False])
            self.assertEqual(blobs.unclosed, 0)
        self.arrived.clear()
        self.read(Blobs(1), 1, octets=11)
        self.finish(0)
        self.arrived[0].trap(StoreUnavailable)
        self.arrived.clear()
        self.read(Blobs(1), 3)
        self.calls.pop()[0].errback(StoreUnavailable("closed"))
        self.assertEqual([self.arrived[index].check(StoreUnavailable) for index in range(3)],
                         [StoreUnavailable] * 3)


class SessionTests(SqliteHooks, StoreHooks, TestCase):
    """A session whose small messages lie in files; so that each trip can be counted."""

    async def opened(self, count: int):
        """Return a store and a session of so many small messages, and a list that grows with each trip."""
        store = await self.make_store(inline_octets=100)
        self.mails = [b"a: %d\r\n\r\n" % number + b"b" * 500 + b"\r\n" for number in range(count)]
        await self.put(store, "mrose", *self.mails)
        session = await self.login(store, "mrose")
        trips: list[object] = []
        in_thread = store._database.in_thread

        def counted(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
            trips.append(function)
            return in_thread(function, *args)

        self.patch(store._database, "in_thread", counted)
        return store, session, trips

    async def test_in_order(self) -> None:
        """Files cost a trip for a run, as rows do: 1, 2, 4 ... messages."""
        _, session, trips = await self.opened(3 * LONGEST_RUN)
        self.assertEqual(await self.texts(session), self.mails)
        self.assertLessEqual(len(trips), 8)
        trips.clear()
        for number in (1, 2, 3):
            self.assertEqual(await self.text(session, number, 0), b"a: %d\r\n\r\n" % (number - 1))
        self.assertLess(len(trips), 3)

    async def test_a_store_whose_calls_take_their_time(self) -> None:
        """What is on its way is waited for, not asked for again."""
        store, session, trips = await self.opened(3 * LONGEST_RUN)
        store._database.blobs.calls_at_once = 8
        self.assertEqual(await self.texts(session), self.mails)
        self.assertEqual(len(trips), len(self.mails))

    async def test_a_body_that_is_missing(self) -> None:
        """Its message is an outage when its turn comes, and after that; the others are read."""
        store, session, _ = await self.opened(40)
        [(key,)] = self.sql(store, "SELECT key FROM body JOIN message ON body_id = body.id"
                                   " WHERE serial = 20")
        os.unlink(f"{store.folder}/bodies/{key[0]}/{key[1]}/{key}")
        for number, mail in enumerate(self.mails, 1):
            if mail is self.mails[19]:
                for _ in range(2):
                    await self.fault(StoreUnavailable, maybeDeferred(session.fetch, number))
            else:
                self.assertEqual(await self.text(session, number), mail)

    async def test_a_session_that_leaves(self) -> None:
        """Nothing is kept of what arrives for it later, or for a course that it has left."""
        store, session, _ = await self.opened(40)
        store._database.blobs.calls_at_once = 4
        for number in range(1, 9):
            await self.text(session, number)
        asked = [maybeDeferred(session.fetch, number) for number in (16, 30, 31)]
        await session.release()
        await gatherResults(asked)
        await store._database.in_thread(lambda: None)
        await store.stop()
        self.assertEqual(store._database.ahead.octets, 0)

    async def test_jumping(self) -> None:
        """Each message is right, whatever else was on its way."""
        store, session, _ = await self.opened(40)
        store._database.blobs.calls_at_once = 4
        numbers = [1, 2, 3, 4, 9, 10, 11, 5, 12, 13, 14, 1, 2, 3, 4, 5, 6, 7, 8]
        asked = [maybeDeferred(session.fetch, number, lines) for number in numbers for lines in (None, 0)]
        answers = await gatherResults(asked)
        for position, number in enumerate(numbers):
            mail = self.mails[number - 1]
            self.assertEqual(answers[2 * position], mail)
            self.assertEqual(answers[2 * position + 1], mail[:mail.index(b"\r\n\r\n") + 4])
