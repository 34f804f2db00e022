"""The embedded store: the contracts, its interfaces, begin and end, what it keeps in memory."""

from __future__ import annotations

import os
import threading
import time
from array import array
from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from mailgate.errors import LeaseLost, MaildropInUse, MessageMalformed, NoSuchMessage, StoreUnavailable
from mailgate.interfaces import (
    IAccountStore,
    IFolderStore,
    IMaildrop,
    IMaildropStore,
    IMessageStream,
    IPreparedDelivery,
)
from mailgate.model import EMPTY_LISTING, Account, Admission, ScanListing
from mailgate.stores.sql.database import MESSAGE_OCTETS, SNAPSHOT_OCTETS, SnapshotCache
from mailgate.stores.sql.messages import Snapshot
from tests.stores.contract_accounts import AccountStoreContract
from tests.stores.contract_app_passwords import AccountChangeContract, AppPasswordContract
from tests.stores.contract_base import MIME, StoreHooks
from tests.stores.contract_folders import FolderContract
from tests.stores.contract_maildrops import MaildropStoreContract
from tests.stores.contract_moving import MovingContract
from tests.stores.sqlite_hooks import SqliteHooks

LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcd\r\n" * 20_000


class MaildropTests(SqliteHooks, MaildropStoreContract, TestCase):
    """The contract of maildrops."""


class SmallInlineTests(SqliteHooks, MaildropStoreContract, TestCase):
    """The contract of maildrops, with every body but the smallest in a file."""

    def new_store(self, folder: str, **options: object):
        return super().new_store(folder, inline_octets=len(MIME), **options)


class FolderTests(SqliteHooks, FolderContract, TestCase):
    """The contract of folders."""


class SmallInlineFolderTests(SqliteHooks, FolderContract, TestCase):
    """The contract of folders, with every body but the smallest in a file."""

    def new_store(self, folder: str, **options: object):
        return super().new_store(folder, inline_octets=1, **options)


class AccountTests(SqliteHooks, AccountStoreContract, TestCase):
    """The contract of accounts."""


class AppPasswordTests(SqliteHooks, AppPasswordContract, TestCase):
    """The contract of accounts: app passwords."""


class MovingTests(SqliteHooks, MovingContract, TestCase):
    """The contract of what a move from another store needs."""


class AccountChangeTests(SqliteHooks, AccountChangeContract, TestCase):
    """The contract of accounts: what they answer to, changed."""


class BeginAndEndTests(SqliteHooks, StoreHooks, TestCase):
    """A store before its start, after its stop, and in between."""

    async def test_interfaces(self) -> None:
        """Store, accounts, maildrop, stream and delivery provide what they say."""
        store = await self.make_store()
        await self.put(store, "mrose", LARGE)
        session = await self.login(store, "mrose")
        stream = await session.fetch(1)
        for interface, thing in [
            (IMaildropStore, store), (IFolderStore, store), (IAccountStore, store.accounts),
            (IMaildrop, session), (IMaildrop, await store.peek("mrose")), (IMessageStream, stream),
            (IPreparedDelivery, store.deliver()),
        ]:
            verifyObject(interface, thing)
        stream.close()

    async def test_nothing_is_touched_before_start(self) -> None:
        """A store that was only made has no file, and refuses; so it does after its stop."""
        folder = self.temporary_folder()
        store = self.new_store(f"{folder}/not/there")
        for _ in range(2):
            delivery = store.deliver()
            delivery.write(LARGE)
            for outcome in (store.open(Admission("mrose")), store.scan("mrose"), store.remove("mrose"),
                            store.expire(1), store.sweep(1), store.check(), store.accounts.list(),
                            store.accounts.add([Account("mrose")]),
                            delivery.commit([self.placement("mrose")])):
                await self.fault(StoreUnavailable, outcome)
            await store.stop()
            store = await self.make_store()
            await store.stop()

    async def test_a_folder_that_is_missing(self) -> None:
        """It is an outage; the store can be started once it is there."""
        store = self.new_store(self.temporary_folder() + "/later")
        for _ in range(2):
            await self.fault(StoreUnavailable, store.start())
        os.mkdir(store.folder)
        await store.start()
        self.addCleanup(store.stop)
        await self.put(store, "mrose", MIME)

    async def test_a_store_is_not_made_unless_asked(self) -> None:
        """With `create` off a missing file is an outage: a disk may not have been mounted."""
        store = self.new_store(self.temporary_folder(), create=False)
        await self.fault(StoreUnavailable, store.start())
        self.assertEqual(os.listdir(store.folder), [])
        await (await self.started(store.folder)).stop()
        await store.start()
        await store.stop()

    async def test_stop_gives_up_every_lease(self) -> None:
        """Of this process alone; a session that is left over can do nothing and fails by name."""
        store = await self.make_store()
        other = await self.make_second(store)
        await self.put(store, "mrose", MIME)
        session = await self.login(store, "mrose")
        kept = await self.login(other, "other")
        await store.stop()
        await store.stop()
        self.assertEqual((self.count(other, "lease"), self.count(other, "holder")), (1, 1))
        await (await self.login(other, "mrose")).release()
        await self.fault(StoreUnavailable, session.fetch(1))
        await self.fault(StoreUnavailable, session.commit([1]))
        await session.release()
        await kept.commit([])
        self.assertEqual(await self.held(other, "mrose"), [MIME])

    async def test_stop_finishes_what_is_queued(self) -> None:
        """What was asked for before the stop is done and answered, bodies in files too."""
        store = await self.make_store()
        asked = []
        for content in (MIME, LARGE) * 5:
            delivery = store.deliver()
            delivery.write(content)
            asked.append(delivery.commit([self.placement("mrose")]))
        await store.stop()
        self.assertEqual(await gatherResults(asked), [[None]] * 10)
        await store.start()
        self.assertEqual(len(await self.held(store, "mrose")), 10)

    async def test_stop_leaves_no_log_behind(self) -> None:
        """The database is one file then, to copy or move: the last connection to close folds the log in."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME)
        closed: list[str] = []
        for name in ("writer", "reader"):
            thread = getattr(store._database, name)

            def close(name: str = name, drop: Callable[[], None] = thread._drop_connection) -> None:
                if name == "reader":
                    time.sleep(0.05)    # as long as the other would take
                drop()
                closed.append(name)

            self.patch(thread, "_drop_connection", close)
        await store.stop()
        self.assertEqual(closed, ["reader", "writer"])
        self.assertEqual(os.listdir(store.folder), ["mail.db"])

    async def test_start_twice(self) -> None:
        """The second start finds everything there already."""
        store = await self.make_store()
        threads = set(threading.enumerate())
        await store.start()
        self.assertEqual(set(threading.enumerate()) - threads, set())   # an earlier test's may have ended
        await self.put(store, "mrose", MIME)

    async def test_the_file_is_private(self) -> None:
        """Nobody else can read the database, its log, or the bodies."""
        store = await self.make_store()
        await self.put(store, "mrose", LARGE)
        for folder, folders, names in os.walk(store.folder):
            for name in names:
                self.assertEqual(os.stat(f"{folder}/{name}").st_mode & 0o077, 0, name)
            for name in folders:
                self.assertEqual(os.stat(f"{folder}/{name}").st_mode & 0o077, 0, name)


class SessionTests(SqliteHooks, StoreHooks, TestCase):
    """One session's maildrop."""

    async def test_a_login_that_is_cancelled_leaves_no_lease(self) -> None:
        """At any step, the listing included."""
        store = await self.make_store()
        await self.put(store, "mrose", *[MIME] * 3)
        for steps in range(3):
            opening = store.open(Admission("mrose")).addErrback(lambda failure: None)
            for _ in range(steps):
                await store._database.writer.run(lambda cursor: None)
            opening.cancel()
            await store._database.writer.run(lambda cursor: None)
            session = opening.result if steps == 2 else None
            if session is not None:
                await session.release()
            self.assertEqual(self.count(store, "lease"), 0)

    async def test_a_listing_that_fails_leaves_no_lease(self) -> None:
        """A session that cannot be listed is not left open."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME)
        await store._database.reader.stop()
        await self.fault(StoreUnavailable, store.open(Admission("mrose")))
        await store._database.writer.run(lambda cursor: None)
        self.assertEqual(self.count(store, "lease"), 0)
        await store._database.reader.start()
        await (await self.login(store, "mrose")).release()

    async def test_snapshots_are_shared_until_something_changes(self) -> None:
        """Sessions between two changes have the very same listing; an empty one is everyone's."""
        store = await self.make_store()
        other = await self.make_second(store)
        await self.put(store, "xyz", MIME, user="fred")
        listings = []
        for view in (None, None, "fred", "fred", "jim"):
            session = await self.login(store, "xyz", view)
            listings.append(session.listing)
            await session.release()
        self.assertIs(listings[0], listings[1])
        self.assertIs(listings[2], listings[3])
        self.assertIs(listings[4], EMPTY_LISTING)
        self.assertIsNot(listings[0], listings[2])
        await self.put(other, "xyz", MIME)
        self.assertEqual(len((await self.login(store, "xyz", None)).listing), 2)

    async def test_a_removed_maildrop_that_comes_back_is_not_mistaken(self) -> None:
        """What was kept in memory of the old one does not show in the new one of the same name."""
        store = await self.make_store()
        other = await self.make_second(store)
        for content in (b"one\r\n", b"two\r\n", b"three\r\n"):
            await self.put(store, "mrose", content)
            self.assertEqual(await self.held(store, "mrose"), [content])
            await other.remove("mrose")

    async def test_commit_blocking(self) -> None:
        """It has removed, durably, when it returns; it raises what commit fails with."""
        store = await self.make_store()
        await self.put(store, "mrose", b"1\r\n", LARGE, b"3\r\n")
        session = await self.login(store, "mrose")
        statements = await self.trace(store)
        self.assertIsNone(session.commit_blocking([1, 2]))
        self.assertIn("COMMIT", statements)
        self.assertEqual(self.sql(store, "SELECT messages, octets FROM maildrop"), [(1, 3)])
        self.assertEqual(self.count(store, "lease"), 0)
        self.assertRaises(LeaseLost, session.commit_blocking, [3])
        session = await self.login(store, "mrose")
        await self.expire_holder(store)
        self.assertRaises(LeaseLost, session.commit_blocking, [1])
        session = await self.login(store, "mrose")
        self.assertIsNone(session.commit_blocking([]))
        self.assertEqual(await self.held(store, "mrose"), [b"3\r\n"])

    async def test_numbers_that_are_no_messages(self) -> None:
        """They are refused; a commit of one removes nothing and gives up the lease."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME)
        session = await self.login(store, "mrose")
        for number in (0, -1, 2):
            await self.fault(NoSuchMessage, session.fetch(number))
            await self.fault(NoSuchMessage, session.envelope(number))
        await self.fault(NoSuchMessage, session.commit([1, 0]))
        self.assertEqual(await self.held(store, "mrose"), [MIME])

    async def test_a_message_that_vanished(self) -> None:
        """After its lease was lost a session may find a message gone; that fault has a name."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME, LARGE)
        session = await self.login(store, "mrose")
        await self.expire_holder(store)
        await (await self.login(await self.make_second(store), "mrose")).commit([1, 2])
        for number in (1, 2):
            await self.fault(NoSuchMessage, session.fetch(number))
            await self.fault(NoSuchMessage, session.envelope(number))

    async def test_a_second_commit(self) -> None:
        """A session ends once: what comes later removes nothing, and release is always welcome."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME)
        for end in ("commit", "release"):
            session = await self.login(store, "mrose")
            await (session.commit([]) if end == "commit" else session.release())
            await self.fault(LeaseLost, session.commit([1]))
            await session.release()
        self.assertEqual(await self.held(store, "mrose"), [MIME])

    async def test_release_while_a_commit_is_under_way(self) -> None:
        """A client that vanishes after QUIT: the commit is made whole."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME, MIME)
        session = await self.login(store, "mrose")
        committing = session.commit([1, 2])
        await session.release()
        await committing
        self.assertEqual((await self.held(store, "mrose"), self.count(store, "lease")), ([], 0))

    async def test_views_and_names_that_are_no_text(self) -> None:
        """Octets of a login or a recipient that were no UTF-8 are data like any other."""
        store = await self.make_store()
        place = self.placement("xyz", "gr\udcfc\udcdfe", recipient=b"gr\xfc\xdfe@xyz")
        await self.deliver(store, MIME, place)
        self.assertEqual(await self.held(store, "xyz", "gr\udcfc\udcdfe"), [MIME])
        self.assertEqual(await self.held(store, "xyz", "gr\udcfc"), [])
        await self.deliver(store, MIME, self.placement("\udcff", recipient=b"\xff@xyz"))
        self.assertEqual(await self.held(store, "\udcff"), [MIME])

    async def test_unique_ids_that_pop3_cannot_carry(self) -> None:
        """An import that brings one is refused whole, and leaves nothing."""
        store = await self.make_store()
        for unique_id in (b"", b"a b", b"\x7f", b"\xff", b"x" * 71, b"a\r\n"):
            place = self.placement("mrose", unique_id=unique_id)
            with self.assertRaises(MessageMalformed):
                await self.deliver(store, LARGE, place)
        self.assertEqual(await store.scan("mrose"), [])
        while self.body_files(store):       # they are removed in threads, and nobody waits for that
            await deferLater(reactor, 0.01)
        self.assertEqual((await store.sweep(0), self.count(store, "maildrop")), (0, 0))

    async def test_a_long_listing(self) -> None:
        """Numbers, sizes and unique-ids belong together, in order of arrival, in any view."""
        store = await self.make_store()
        await self.put(store, "xyz", MIME, user="u0")
        rows = [(1, serial, serial * 7, b"id-%d" % serial, f"u{serial % 3}", 1, 0, b"", b"", b"")
                for serial in range(2, 20_001)]
        await store._database.writer.run(lambda cursor: cursor.executemany(
            "INSERT INTO message (maildrop_id, serial, octets, unique_id, user_key, body_id, arrived_ms,"
            " sender, recipient, preamble) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows))
        for view, expected in ((None, rows), ("u1", rows[2::3]), ("u2", rows[0::3])):
            session = await self.login(store, "xyz", view)
            listing, first = session.listing, 1 if view is None else 0
            self.assertEqual(list(listing.sizes[first:]), [row[2] for row in expected])
            self.assertEqual([listing.unique_id(index) for index in range(first, len(listing))],
                             [row[3] for row in expected])
            await session.release()

    async def test_in_use(self) -> None:
        """A refused login leaves the session that is there alone."""
        store = await self.make_store()
        session = await self.login(store, "mrose")
        for _ in range(3):
            await self.fault(MaildropInUse, store.open(Admission("mrose")))
        await session.commit([])


class SnapshotCacheTests(SynchronousTestCase):
    """What a process keeps of listings."""

    def snapshot(self, change: int, messages: int) -> Snapshot:
        ids = [b"%d" % number for number in range(messages)]
        return Snapshot(ScanListing(array("Q", range(messages)), ids), array("Q", range(messages)), change)

    def test_only_the_present_state(self) -> None:
        """A snapshot counts for the change that it was read at; a newer one takes its place."""
        cache = SnapshotCache()
        old, new = self.snapshot(1, 5), self.snapshot(2, 6)
        cache.put(1, "", old)
        self.assertIs(cache.get(1, "", 1), old)
        self.assertIsNone(cache.get(1, "", 2) or cache.get(1, "fred", 1) or cache.get(2, "", 1))
        cache.put(1, "", new)
        self.assertIsNone(cache.get(1, "", 1))
        self.assertIs(cache.get(1, "", 2), new)

    def test_bounded_in_octets(self) -> None:
        """The one that was used longest ago gives way; for what is too large, none does."""
        cache = SnapshotCache(4 * (SNAPSHOT_OCTETS + 10 * MESSAGE_OCTETS))
        for maildrop_id in range(4):
            cache.put(maildrop_id, "", self.snapshot(1, 10))
        self.assertIsNotNone(cache.get(0, "", 1))
        cache.put(4, "", self.snapshot(1, 10))
        self.assertEqual([cache.get(number, "", 1) is not None for number in range(5)],
                         [True, False, True, True, True])
        cache.put(5, "", self.snapshot(1, 1000))
        self.assertIsNone(cache.get(5, "", 1))
        self.assertIsNotNone(cache.get(0, "", 1))
