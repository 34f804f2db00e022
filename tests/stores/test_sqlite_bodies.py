"""Bodies in rows and in files: shared, counted, swept; streams, reading ahead, back-pressure."""

from __future__ import annotations

import os
import tracemalloc
from functools import partial
from threading import Event
from weakref import finalize

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mailgate.errors import NoSuchMessage, OverQuota, StoreFull, StoreUnavailable
from mailgate.interfaces import IMessageStream
from mailgate.stores import blobs as blobs_module
from mailgate.stores.readahead import FIRST_RUN, FIRST_RUN_OF_SMALL, LONGEST_RUN
from mailgate.wire.dots import to_wire
from tests.stores.contract_base import MIME, StoreHooks, top_of
from tests.stores.sqlite_hooks import SqliteHooks, open_files

LARGE = b"Subject: large\r\n\r\n" + b".123456789abcd\r\n" * 20_000
FIELD = b"Return-Path: <a@b>\r\n"


class SharedBodyTests(SqliteHooks, StoreHooks, TestCase):
    """One body for all recipients, for as long as one of them has it."""

    async def test_one_row_one_file(self) -> None:
        """Three recipients, one body row, one file; it goes with the last of them."""
        store = await self.make_store()
        places = [self.placement(name) for name in ("ann", "bob", "cid")]
        for content in (MIME, LARGE):
            self.assertEqual(await self.deliver(store, content, *places), [None] * 3)
        self.assertEqual(self.sql(store, "SELECT refs, key IS NULL FROM body ORDER BY id"), [(3, 1), (3, 0)])
        self.assertEqual(len(self.body_files(store)), 1)
        for left, name in ((2, "ann"), (1, "bob")):
            await (await self.login(store, name)).commit([1, 2])
            self.assertEqual(self.sql(store, "SELECT refs FROM body"), [(left,), (left,)])
            await store.sweep(0)
            self.assertEqual(await self.held(store, "cid"), [MIME, LARGE])
        await store.remove("cid")
        self.assertEqual((self.count(store, "body"), len(self.body_files(store))), (0, 1))
        self.assertEqual(await store.sweep(0), 1)
        self.assertEqual((self.body_files(store), self.count(store, "removed_blob")), ([], 0))

    async def test_copies_in_one_maildrop(self) -> None:
        """Two users of one host share a body too; one QUIT may remove one copy or both."""
        store = await self.make_store()
        for marked in ([1], [2], [1, 2], [1, 2, 3]):
            await self.deliver(store, MIME, *[self.placement("xyz", user) for user in ("a", "b", "c")])
            await (await self.login(store, "xyz")).commit(marked)
            self.assertEqual(self.sql(store, "SELECT refs FROM body") or [(0,)], [(3 - len(marked),)])
            self.assertEqual(await store.check(), [])
            await store.remove("xyz")
            self.assertEqual(self.count(store, "body"), 0)

    async def test_many_marks_of_many_deliveries(self) -> None:
        """Counters and references stay true whatever is removed together."""
        store = await self.make_store()
        for number in range(30):
            names = ["xyz"] * (number % 4) + ["abc"] * (number % 3)
            await self.deliver(store, b"%d\r\n" % number, *[self.placement(name, "u") for name in names])
        for step in (7, 3, 2, 1):
            session = await self.login(store, "xyz")
            await session.commit(range(1, len(session.listing) + 1, step))
            self.assertEqual(await store.check(), [])
        self.assertEqual(self.sql(store, "SELECT messages, octets FROM maildrop WHERE key = 'xyz'"), [(0, 0)])

    async def test_a_body_that_nobody_took(self) -> None:
        """All over quota, a repeated delivery, no recipient at all: neither row nor file is left."""
        store = await self.make_store(quota_octets=400_000)
        self.assertEqual(await self.deliver(store, LARGE, self.placement("ann"), delivery_id="x"), [None])
        for places, options in [([self.placement("ann")], {}), ([], {}),
                                ([self.placement("ann")], {"delivery_id": "x"}),
                                ([self.placement("ann"), self.placement("bob")], {"all_or_nothing": True})]:
            outcomes = await self.deliver(store, LARGE, *places, **options)
            self.assertEqual(any(outcomes), options in ({}, {"all_or_nothing": True}) and places != [])
        while len(self.body_files(store)) > 1:      # they are removed in threads, and nobody waits for that
            await deferLater(reactor, 0.01)
        self.assertEqual((await store.sweep(0), len(self.body_files(store))), (0, 1))
        self.assertEqual(self.count(store, "body"), 1)

    async def test_quota_counts_the_preamble(self) -> None:
        """Octets are those of LIST."""
        store = await self.make_store(quota_octets=2 * len(MIME) + len(FIELD))
        await self.put(store, "ann", MIME)
        place = self.placement("ann", preamble=FIELD + b"x: y\r\n")
        self.assertIsInstance((await self.deliver(store, MIME, place))[0], OverQuota)
        self.assertEqual(await self.deliver(store, MIME, self.placement("ann", preamble=FIELD)), [None])


class SweepTests(SqliteHooks, StoreHooks, TestCase):
    """What a crash leaves, and what has served its time."""

    async def test_leftovers(self) -> None:
        """Half-written files and bodies without a row go after the grace, nothing else does."""
        store = await self.make_store()
        await self.put(store, "mrose", LARGE)
        kept = self.body_files(store)
        blobs = store._database.blobs
        half, whole = blobs.create("half" * 5), blobs.create("whole" * 5)
        for writer in (half, whole):
            writer.write(b"x")
        whole.finish()
        half._close()
        self.assertEqual(await store.sweep(3600), 0)
        self.assertEqual(len(self.body_files(store)), 3)
        for name in self.body_files(store):
            path = f"{store.folder}/bodies/{name[0]}/{name[1]}/{name}"
            os.utime(path, (1, 1))
        self.assertEqual(await store.sweep(3600), 2)
        self.assertEqual(self.body_files(store), kept)
        self.assertEqual(await self.held(store, "mrose"), [LARGE])

    async def test_a_removed_body_has_its_grace_from_the_removal(self) -> None:
        """However old it is: a session elsewhere may be reading it."""
        store = await self.make_store()
        await self.put(store, "mrose", LARGE)
        for name in self.body_files(store):
            os.utime(f"{store.folder}/bodies/{name[0]}/{name[1]}/{name}", (1, 1))
        await (await self.login(store, "mrose")).commit([1])
        self.assertEqual(await store.sweep(3600), 0)
        self.assertEqual(len(self.body_files(store)), 1)
        self.sql(store, "UPDATE removed_blob SET at_ms = at_ms - 3601000")
        self.assertEqual(await store.sweep(3600), 1)
        self.assertEqual(self.body_files(store), [])

    async def test_a_delivery_under_way_is_safe(self) -> None:
        """Its own process never sweeps what it is writing."""
        store = await self.make_store()
        delivery = store.deliver()
        for _ in range(5):
            await maybeDeferred(delivery.write, LARGE)
            self.assertEqual(await store.sweep(0), 0)
        committing = delivery.commit([self.placement("mrose")])
        self.assertEqual(await store.sweep(0), 0)
        self.assertEqual(await committing, [None])
        self.assertEqual(await self.held(store, "mrose"), [LARGE * 5])

    async def test_what_is_being_removed_is_not_left_over(self) -> None:
        """A delivery that was given up removes its body itself: a sweep that saw it does not count it."""
        for prepared in (False, True):
            store = await self.make_store()
            blobs, seen, gone = store._database.blobs, Event(), Event()

            def listed(keys=blobs.keys, seen=seen, gone=gone) -> list[tuple[str, int]]:
                found = keys()
                seen.set()
                gone.wait(60)
                return found

            def later(*args, remove, seen=seen) -> None:
                seen.wait(60)
                remove(*args)

            delivery = store.deliver()
            await delivery.write(LARGE)
            if prepared:
                await delivery.prepare()
                self.patch(blobs, "remove", partial(later, remove=blobs.remove))
            else:
                writer = delivery._feed._writer
                self.patch(writer, "abandon", partial(later, remove=writer.abandon))
            self.patch(blobs, "keys", listed)
            finalize(delivery._feed, gone.set)
            delivery.abort()
            del delivery
            self.assertEqual(await store.sweep(0), 0)
            self.assertEqual(self.body_files(store), [])

    async def test_old_rows(self) -> None:
        """Delivery ids of yesterday, logins to single views of last month, dead holders."""
        store = await self.make_store()
        other = await self.make_second(store)
        await self.deliver(store, MIME, self.placement("xyz", "fred"), delivery_id="x")
        for view in ("fred", "jim", None):
            await (await self.login(store, "xyz", view)).release()
        await self.login(other, "xyz")
        self.sql(store, "UPDATE delivery SET at_ms = at_ms - 86000000")
        self.sql(store, "UPDATE login SET at_ms = 1000 WHERE view = 'fred'")
        self.sql(store, "UPDATE login SET at_ms = 500 WHERE view = ''")
        await store.sweep(3600)
        self.assertEqual([self.count(store, table) for table in ("delivery", "login", "lease")], [1, 2, 1])
        self.assertEqual(self.sql(store, "SELECT at_ms FROM login WHERE view = ''"), [(1000,)])
        self.sql(store, "UPDATE delivery SET at_ms = at_ms - 86400000")
        await self.expire_holder(other)
        await store.sweep(3600)
        self.assertEqual([self.count(store, table) for table in ("delivery", "login", "lease")], [0, 2, 0])
        self.assertEqual(await store.check(), [])

    async def test_an_import_stays_known(self) -> None:
        """A sweep years later does not make it forget, but the removal of the maildrop does."""
        store = await self.make_store()
        places = [self.placement("mrose", unique_id=b"old-1"), self.placement("mrose", identity=b"one"),
                  self.placement("mrose", unique_id=b"old-2", identity=b"two")]
        await self.deliver(store, MIME, *places, delivery_id="import")
        await (await self.login(store, "mrose")).commit([1, 2])
        self.sql(store, "UPDATE delivery SET at_ms = 0")
        await store.sweep(0)
        self.assertEqual(await self.deliver(store, MIME, *places), [None] * 3)
        self.assertEqual([one.unique_id for one in await store.scan("mrose")], [b"old-2"])
        await store.remove("mrose")
        self.assertEqual(self.count(store, "imported"), 0)
        self.assertEqual(await self.deliver(store, MIME, *places), [None] * 3)
        self.assertEqual(len(await store.scan("mrose")), 3)


class CheckTests(SqliteHooks, StoreHooks, TestCase):
    """What the check finds, and that a sound store has no findings."""

    async def test_every_kind_of_finding(self) -> None:
        """Each wrong row or missing file is told in one line that says where it is."""
        store = await self.make_store()
        await self.add_account(store, "mrose", addresses=("mrose@example.org",))
        await self.put(store, "mrose", MIME, LARGE, user="fred")
        self.assertEqual(await store.check(), [])
        for damage, words in [
            ("UPDATE body SET refs = 2 WHERE id = 1", "body 1 has a wrong count of messages"),
            ("UPDATE message SET octets = octets + 1 WHERE serial = 2", "message 2 has wrong octets"),
            ("UPDATE maildrop SET messages = 7", "maildrop 1 (mrose) has wrong counters"),
            ("UPDATE maildrop SET octets = 7", "maildrop 1 (mrose) has wrong counters"),
            ("UPDATE maildrop SET next_serial = 2", "maildrop 1 (mrose) has wrong counters"),
            ("UPDATE message SET folder = 'a' WHERE serial = 2", "message 2 lies in a folder that is none"),
            ("INSERT INTO folder VALUES (9, 'b')", "folders of maildrop 9, which is none"),
            ("UPDATE body SET data = x'00' WHERE id = 1", "body 1 is not as long as its row says"),
            ("DELETE FROM body WHERE id = 1", "message 1 has no body"),
            ("UPDATE message SET maildrop_id = 9", "message rows name maildrop 9"),
            ("DELETE FROM account_key WHERE key = 'mrose'", "mrose does not answer to its own name"),
            ("DELETE FROM account", "mrose@example.org is a name of no account"),
        ]:
            self.sql(store, damage)
            findings = await store.check()
            self.assertTrue(any(words in finding for finding in findings), (words, findings))
        key, = self.body_files(store)
        os.unlink(f"{store.folder}/bodies/{key[0]}/{key[1]}/{key}")
        self.assertIn(f"body 2: its blob {key} is missing", await store.check())


class ReadingTests(SqliteHooks, StoreHooks, TestCase):
    """How messages come out."""

    async def trips(self, store) -> list[int]:
        """Return a list that grows by the number of rows with every trip to the reader."""
        trips: list[int] = []
        run = store._database.reader.run

        def noted(operation, *args, **options):
            if operation.__name__ in ("read_bodies", "read_envelopes"):
                trips.append(len(args[1]))
            return run(operation, *args, **options)

        self.patch(store._database.reader, "run", noted)
        return trips

    async def test_reading_in_order_takes_few_trips(self) -> None:
        """The run doubles; what was read ahead comes without a Deferred; each entry is used once."""
        store = await self.make_store()
        contents = [b"a: b\r\n\r\n%d\r\n.\r\n" % number for number in range(100)]
        await self.put(store, "mrose", *contents)
        session = await self.login(store, "mrose")
        trips = await self.trips(store)
        at_once = 0
        for number, content in enumerate(contents, 1):
            fetched = session.fetch(number)
            at_once += isinstance(fetched, bytes)
            self.assertEqual(await maybeDeferred(lambda fetched=fetched: fetched), to_wire(content))
        self.assertEqual(trips, [FIRST_RUN, 16, LONGEST_RUN, LONGEST_RUN, 12])
        self.assertEqual(at_once, 100 - len(trips))
        self.assertEqual(store._database.ahead.octets, 0)

    async def test_top_and_envelopes_are_read_ahead_too(self) -> None:
        """Each in its own course, also when a client goes through both together."""
        store = await self.make_store()
        await self.put(store, "mrose", *[b"a: b\r\n\r\n%d\r\nx\r\n" % number for number in range(20)])
        small = [FIRST_RUN_OF_SMALL, 20 - FIRST_RUN_OF_SMALL]       # headers alone, envelopes
        whole = [FIRST_RUN, 12]
        for body_lines, expected, trips_of_text in (
                (0, b"a: b\r\n\r\n", small), (1, b"a: b\r\n\r\n%d\r\n", whole),
                (99_999_999, b"a: b\r\n\r\n%d\r\nx\r\n", whole)):
            session = await self.login(store, "mrose")
            trips = await self.trips(store)
            for index in range(20):
                wire = await maybeDeferred(session.fetch, index + 1, body_lines)
                self.assertEqual(wire, expected % index if b"%d" in expected else expected)
                envelope = await maybeDeferred(session.envelope, index + 1)
                self.assertEqual(envelope.recipient, b"any@mrose.example.org")
            self.assertEqual(sorted(trips), sorted(small + trips_of_text))
            await session.release()

    async def test_out_of_order(self) -> None:
        """Jumps and changes of the command are right, read no more than asked, and leave nothing."""
        store = await self.make_store()
        contents = [b"a: b\r\n\r\n%d\r\n" % number for number in range(40)]
        await self.put(store, "mrose", *contents)
        session = await self.login(store, "mrose")
        trips = await self.trips(store)
        for number in (40, 2, 20, 19, 18, 3):
            self.assertEqual(await maybeDeferred(session.fetch, number), contents[number - 1])
            self.assertEqual(await maybeDeferred(session.fetch, number, 0), b"a: b\r\n\r\n")
        self.assertEqual(trips, [1] * 12)
        for number in (1, 2, 3, 4):
            await maybeDeferred(session.fetch, number)
        self.assertGreater(store._database.ahead.octets, 0)
        await maybeDeferred(session.fetch, 30)
        self.assertEqual(store._database.ahead.octets, 0)

    async def test_what_was_read_ahead_goes_with_its_session(self) -> None:
        """Commit, release and a lost session free it."""
        store = await self.make_store()
        await self.put(store, "mrose", *[MIME] * 10)
        for end in ("commit", "release"):
            session = await self.login(store, "mrose")
            for number in (1, 2, 3, 4):
                await maybeDeferred(session.fetch, number)
                await maybeDeferred(session.envelope, number)
            self.assertGreater(store._database.ahead.octets, 0)
            await (session.commit([]) if end == "commit" else session.release())
            self.assertEqual(store._database.ahead.octets, 0)
        session = await self.login(store, "mrose")
        reading = session.fetch(1)
        await session.release()
        await reading
        self.assertEqual(store._database.ahead.octets, 0)

    async def test_large_ones_among_small_ones(self) -> None:
        """A run stops before a large body, and goes on behind it."""
        store = await self.make_store()
        contents = [LARGE if number % 5 == 0 else MIME for number in range(1, 21)]
        await self.put(store, "mrose", *contents)
        session = await self.login(store, "mrose")
        self.assertTrue(await self.texts(session) == contents)

    async def test_bodies_stored_under_another_setting(self) -> None:
        """A larger or smaller `inline_octets` than at delivery changes nothing of what comes out."""
        store = await self.make_store(inline_octets=1)
        contents = [MIME, MIME + b"x\r\n", LARGE, MIME]
        await self.put(store, "mrose", *contents)
        for inline_octets in (1, 65536, 1 << 30):
            other = await self.make_second(store, inline_octets=inline_octets)
            session = await self.login(other, "mrose")
            self.assertTrue(await self.texts(session) == contents)
            for number, content in enumerate(contents, 1):
                for body_lines in (0, 1, 3):
                    self.assertEqual(await self.text(session, number, body_lines),
                                     top_of(content, body_lines))
            await session.release()
            await self.put(other, "mrose", LARGE)
            contents.append(LARGE)


class StreamTests(SqliteHooks, StoreHooks, TestCase):
    """Large messages on their way out."""

    async def opened(self, *contents: bytes):
        """Return a store and a session over large messages with a preamble."""
        store = await self.make_store()
        for content in contents:
            await self.deliver(store, content, self.placement("mrose", preamble=FIELD))
        return store, await self.login(store, "mrose")

    def no_cache(self) -> None:
        """Let every read go through a thread."""
        from mailgate.stores.files import FileBlobReader
        self.patch(FileBlobReader, "read_at_hand", lambda reader, offset, octets: None)

    async def test_pieces(self) -> None:
        """At most 64 KiB each, empty at the end and after it, the file closed by then."""
        for cached in (True, False):
            store, session = await self.opened(LARGE)
            if not cached:
                self.no_cache()
            stream = await session.fetch(1)
            self.assertTrue(IMessageStream.providedBy(stream))
            pieces, wire = [await stream.read() for _ in range(8)], FIELD + to_wire(LARGE)
            self.assertEqual([len(piece) for piece in pieces], [65536] * 5 + [len(wire) % 65536, 0, 0])
            self.assertTrue(b"".join(pieces) == wire)
            self.assertEqual(open_files(f"{store.folder}/bodies"), [])
            stream.close()
            await self.fault(StoreUnavailable, stream.read())

    async def test_top_of_a_large_message(self) -> None:
        """A small top comes as octets and leaves no file open; a large one is a stream, cut exactly."""
        store, session = await self.opened(LARGE)
        for body_lines in (0, 1, 100, 3000):
            self.assertEqual(await session.fetch(1, body_lines),
                             FIELD + to_wire(top_of(LARGE, body_lines)))
            self.assertEqual(open_files(f"{store.folder}/bodies"), [])
        for body_lines in (5000, 19_999, 20_000, 20_001, 10 ** 9):
            self.assertTrue(await self.wire(session, 1, body_lines)
                            == FIELD + to_wire(top_of(LARGE, body_lines)))
            self.assertEqual(open_files(f"{store.folder}/bodies"), [])

    async def test_a_large_header(self) -> None:
        """TOP 0 of a header larger than a piece."""
        content = b"".join(b"x-%d: %s\r\n" % (number, b"y" * 60) for number in range(4000)) + b"\r\nbody\r\n"
        _, session = await self.opened(content)
        self.assertTrue(await self.wire(session, 1, 0) == FIELD + content[:-6])
        self.assertTrue(await self.wire(session, 1) == FIELD + content)

    async def test_closed_midway(self) -> None:
        """At any step, between reads or while one is pending, no file stays open."""
        for cached in (True, False):
            store, session = await self.opened(LARGE)
            if not cached:
                self.no_cache()
            for reads in range(5):
                for pending in (False, True):
                    stream = await session.fetch(1)
                    for _ in range(reads):
                        await stream.read()
                    reading = stream.read() if pending else None
                    stream.close()
                    stream.close()
                    if reading is not None:
                        await reading
                    self.assertEqual(open_files(f"{store.folder}/bodies"), [])
                    await self.fault(StoreUnavailable, stream.read())

    async def test_a_client_that_vanishes_while_the_file_is_opened(self) -> None:
        """The stream that nobody waits for is closed at once."""
        store, session = await self.opened(LARGE)
        fetching = session.fetch(1)
        await session.release()
        await self.fault(StoreUnavailable, fetching)
        self.assertEqual(open_files(f"{store.folder}/bodies"), [])

    async def test_a_body_that_is_missing_or_short(self) -> None:
        """Fails before the first octet, or where it ends; never a short message with a good end."""
        store, session = await self.opened(LARGE)
        name, = self.body_files(store)
        path = f"{store.folder}/bodies/{name[0]}/{name[1]}/{name}"
        for cached in (True, False):
            if not cached:
                self.no_cache()
            os.truncate(path, 100_000)
            stream = await session.fetch(1)
            got = len(await stream.read()) + len(await stream.read())
            self.assertEqual(got, len(FIELD) + 100_000)
            await self.fault(StoreUnavailable, stream.read())
            await self.fault(StoreUnavailable, stream.read())
            os.truncate(path, 100)
            await self.fault(StoreUnavailable, session.fetch(1))
            self.assertEqual(open_files(f"{store.folder}/bodies"), [])
        os.unlink(path)
        await self.fault(StoreUnavailable, session.fetch(1))

    async def test_a_removed_body_is_read_to_its_end(self) -> None:
        """A stream that is open survives the removal and the sweep of its file."""
        store, session = await self.opened(LARGE)
        self.no_cache()
        stream = await session.fetch(1)
        first = await stream.read()
        await self.expire_holder(store)
        await (await self.login(await self.make_second(store), "mrose")).commit([1])
        await store.sweep(0)
        self.assertEqual(self.body_files(store), [])
        rest = [await stream.read() for _ in range(8)]
        self.assertTrue(first + b"".join(rest) == FIELD + to_wire(LARGE))
        await self.fault(NoSuchMessage, session.fetch(1))


class HeldThreads:
    """Calls into threads that wait until the test lets them go."""

    def __init__(self) -> None:
        self.calls: list[tuple[Deferred, object, tuple]] = []

    def __call__(self, function, *args) -> Deferred:
        deferred: Deferred = Deferred()
        self.calls.append((deferred, function, args))
        return deferred

    def run_one(self) -> None:
        deferred, function, args = self.calls.pop(0)
        try:
            outcome = function(*args)
        except StoreUnavailable:
            deferred.errback()
        else:
            deferred.callback(outcome)


class BackPressureTests(SqliteHooks, StoreHooks, TestCase):
    """Large messages on their way in."""

    async def test_fifty_megabytes_cost_little_memory(self) -> None:
        """A sender that waits when it is told to never has more than some pieces in memory."""
        store = await self.make_store()
        piece = b"0123456789abcd\r\n" * 4096
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        delivery = store.deliver()
        for _ in range(800):
            waiting = delivery.write(piece)
            if waiting is not None:
                await waiting
        self.assertEqual(await delivery.commit([self.placement("mrose")]), [None])
        self.assertLess(tracemalloc.get_traced_memory()[1], 2_000_000)
        listed, = await store.scan("mrose")
        self.assertEqual(listed.octets, 800 * 65536)
        session = await self.login(store, "mrose")
        stream, octets = await session.fetch(1), 0
        while got := await stream.read():
            octets += len(got)
        self.assertEqual(octets, listed.octets)
        self.assertLess(tracemalloc.get_traced_memory()[1], 2_000_000)

    async def test_the_sender_is_held_back(self) -> None:
        """While the disk is slow write asks to wait; once it has caught up it does not."""
        store = await self.make_store()
        threads = HeldThreads()
        self.patch(store._database, "in_thread", threads)
        delivery = store.deliver()
        waiting, octets = None, 0
        while waiting is None:
            waiting = delivery.write(b"x" * 10_000)
            octets += 10_000
        self.assertLess(octets, blobs_module.MOST_UNWRITTEN_OCTETS + 100_000)
        self.assertIs(delivery.write(b"x"), waiting)
        self.assertEqual(len(threads.calls), 1)
        threads.run_one()
        self.assertTrue(waiting.called)
        committing = delivery.commit([self.placement("mrose")])
        while threads.calls:
            threads.run_one()
        self.assertEqual(await committing, [None])
        self.assertEqual(self.sql(store, "SELECT octets FROM maildrop"), [(octets + 3,)])

    async def test_a_disk_that_fails_under_way(self) -> None:
        """The sender who waits hears of it, commit fails alike, and nothing is left."""
        store = await self.make_store()
        threads = HeldThreads()
        self.patch(store._database, "in_thread", threads)
        delivery = store.deliver()
        delivery.write(b"x" * 100_000)
        threads.run_one()
        self.patch(type(delivery._feed._writer), "write", full)
        waiting = delivery.write(b"x" * 400_000)
        threads.run_one()
        await self.fault(StoreFull, waiting)
        self.assertIsNone(delivery.write(b"x" * 400_000))
        await self.fault(StoreFull, delivery.commit([self.placement("mrose")]))
        while threads.calls:
            threads.run_one()
        self.assertEqual(self.body_files(store), [])
        delivery.abort()

    async def test_a_sync_that_fails(self) -> None:
        """Nothing is acknowledged, no row names the body, and the file is gone."""
        store = await self.make_store()
        delivery = store.deliver()
        delivery.write(LARGE)
        from mailgate.stores.files import FileBlobWriter
        self.patch(FileBlobWriter, "finish", lambda writer: full(writer, b""))
        await self.fault(StoreFull, delivery.commit([self.placement("mrose")]))
        await self.until(lambda: self.body_files(store) == [])
        self.assertEqual(self.count(store, "body"), 0)

    async def test_a_transaction_that_fails(self) -> None:
        """For want of space: the file goes at once. Of unknown outcome: it waits for the sweep."""
        store = await self.make_store()
        for fault, left in ((StoreFull("full"), 0), (StoreUnavailable("who knows"), 1)):
            self.patch(store._database.writer, "run", lambda *args, fault=fault, **options: fail(fault))
            delivery = store.deliver()
            delivery.write(LARGE)
            await self.fault(type(fault), delivery.commit([self.placement("mrose")]))
            await self.until(lambda left=left: len(self.body_files(store)) == left)
        del delivery, store._database.writer.run
        self.assertEqual(await store.sweep(0), 1)
        self.assertEqual(self.body_files(store), [])

    async def test_abort_at_any_step(self) -> None:
        """Before, during and after a write; twice; nothing is left and nothing is delivered."""
        store = await self.make_store()
        threads = HeldThreads()
        self.patch(store._database, "in_thread", threads)
        for steps in range(4):
            delivery = store.deliver()
            for step in range(steps):
                delivery.write(b"x" * 70_000)
                if step % 2 == 0:
                    threads.run_one()
            delivery.abort()
            delivery.abort()
            while threads.calls:
                threads.run_one()
            self.assertIsNone(delivery.write(b"x" * 100_000))
            await self.fault(StoreUnavailable, delivery.commit([self.placement("mrose")]))
            self.assertEqual((threads.calls, self.body_files(store)), ([], []))

    async def test_abort_when_the_store_has_stopped(self) -> None:
        """There is no thread left to remove the file: it waits for the sweep, and nothing keeps it open."""
        store = await self.make_store()
        delivery = store.deliver()
        waiting = delivery.write(b"x" * 400_000)
        await waiting
        await store.stop()
        self.assertEqual(len(open_files(f"{store.folder}/bodies")), 1)
        delivery.abort()
        self.assertEqual((open_files(f"{store.folder}/bodies"), len(self.body_files(store))), ([], 1))
        del delivery        # else the sweep took it for one that is under way
        await store.start()
        self.assertEqual((await store.sweep(0), self.body_files(store)), (1, []))

    async def test_commit_that_nobody_waits_for_any_more(self) -> None:
        """Cancelled while the rows are written it says so, as a login does; what is under way goes on."""
        store = await self.make_store()
        for content in (MIME, LARGE):
            delivery = store.deliver()
            delivery.write(content)
            await delivery.prepare()
            committing = delivery.commit([self.placement("mrose")])
            committing.cancel()
            await self.fault(CancelledError, committing)
            await store._database.writer.run(lambda cursor: None)
        self.assertEqual(await self.held(store, "mrose"), [MIME, LARGE])
        self.assertEqual((await store.sweep(0), await store.check()), (0, []))

    async def test_abort_after_commit(self) -> None:
        """Has no effect, whether the commit is under way or done."""
        store = await self.make_store()
        delivery = store.deliver()
        delivery.write(LARGE)
        committing = delivery.commit([self.placement("mrose")])
        delivery.abort()
        self.assertEqual(await committing, [None])
        delivery.abort()
        await self.fault(StoreUnavailable, delivery.commit([self.placement("mrose")]))
        self.assertEqual(await self.held(store, "mrose"), [LARGE])

    async def until(self, true) -> None:
        """Wait for something that happens in a thread."""
        while not true():
            await deferLater(reactor, 0.01, lambda: None)


def full(writer, data: bytes) -> None:
    """Write to a disk that is full."""
    raise StoreFull("no space")
