"""The contract of maildrops over an embedded database whose bodies lie in a bucket; what is its own there."""

from __future__ import annotations

from pathlib import Path
from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mailgate.errors import StoreUnavailable
from mailgate.stores.s3 import S3BlobStore
from tests.engines.swift import DEVICES, Swift, swift
from tests.stores.contract_base import MIME, StoreHooks
from tests.stores.contract_maildrops import MaildropStoreContract
from tests.stores.s3_hooks import S3Hooks, new_bucket
from tests.stores.sqlite_hooks import SqliteHooks

LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcd\r\n" * 20_000


class MaildropTests(S3Hooks, SqliteHooks, MaildropStoreContract, TestCase):
    """The contract of maildrops, with every body but the smallest in the bucket."""

    def new_store(self, folder: str, **options: object):
        return super().new_store(folder, **{"inline_octets": 1000, **options})


class BucketTests(S3Hooks, SqliteHooks, StoreHooks, TestCase):
    """A database here and a bucket there, which know each other by the store's id alone."""

    def new_store(self, folder: str, **options: object):
        return super().new_store(folder, **{"inline_octets": 100, **options})

    async def test_another_database(self) -> None:
        """It is refused at its start, and sweeps nothing that is not its own."""
        store = await self.make_store()
        await self.put(store, "mrose", LARGE)
        other = self.temporary_folder()
        self._buckets[other] = self._buckets[store.folder]
        Path(other, "mail.db").touch()
        fault = await self.fault(StoreUnavailable, self.new_store(other).start())
        self.assertIn("has the bodies of another store", str(fault))
        self.assertEqual(await self.held(store, "mrose"), [LARGE])

    async def test_a_start_without_the_database(self) -> None:
        """Makes no new one beside bodies that are there."""
        store = await self.make_store()
        await self.put(store, "mrose", LARGE)
        empty = self.temporary_folder()
        self._buckets[empty] = self._buckets[store.folder]
        fault = await self.fault(StoreUnavailable, self.new_store(empty).start())
        self.assertIn("its bodies are there", str(fault))

    async def test_small_mail_alone(self) -> None:
        """Nothing comes into the bucket."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME)
        self.assertEqual((self.body_files(store), self.new_bodies(store.folder).owner()), ([], None))

    async def test_the_sweep(self) -> None:
        """What no row names goes, and what is removed; half-written parts are no objects."""
        store = await self.make_store()
        await self.put(store, "mrose", LARGE, LARGE)
        stray = self.new_bodies(store.folder).create("0" * 26)
        stray.write(b"x")
        stray.finish()
        await (await self.login(store, "mrose")).commit([1])
        self.assertEqual(len(self.body_files(store)), 3)
        self.assertEqual(await store.sweep(3600), 0)
        self.assertEqual(await store.sweep(0), 2)
        self.assertEqual(len(self.body_files(store)), 1)
        self.assertEqual(await self.held(store, "mrose"), [LARGE])

    async def test_check(self) -> None:
        """A body that is gone is told; one that only the listing lacks, as may be for a while, is not."""
        store = await self.make_store()
        await self.put(store, "mrose", LARGE, LARGE)
        self.patch(S3BlobStore, "keys", lambda blobs: [])
        self.assertEqual(await store.check(), [])
        key, _ = (row[0] for row in self.sql(store, "SELECT key FROM body WHERE key IS NOT NULL"))
        self.new_bodies(store.folder).remove(key)
        [finding] = await store.check()
        self.assertIn(f"its blob {key} is missing", finding)

    async def test_a_bucket_that_is_gone(self) -> None:
        """Is an outage: mail is put off, and what is there stays listed."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME, LARGE)
        session = await self.login(store, "mrose")
        self._buckets[store.folder] = self._buckets[store.folder]._replace(name="no-such-bucket")
        store._database.blobs._store = S3BlobStore(self._buckets[store.folder])._open()
        await self.fault(StoreUnavailable, session.fetch(2))
        self.assertEqual(await self.text(session, 1), MIME)
        await self.fault(StoreUnavailable, Deferred.fromCoroutine(
            self.deliver(store, LARGE, self.placement("mrose"))))
        await session.release()
        self.assertEqual([one.octets for one in await store.scan("mrose")], [len(MIME), len(LARGE)])


class DeviceTests(S3Hooks, SqliteHooks, StoreHooks, TestCase):
    """A device of the bucket's cluster is lost while mail comes and goes."""

    def setUp(self) -> None:
        self.cluster: Swift = swift()
        self.bucket = self.cluster.make_bucket()    # of our own: its listings are out of step afterwards
        self.addCleanup(lambda: [self.cluster.give_back(device) for device in DEVICES])

    def new_bodies(self, folder: str) -> S3BlobStore:
        return S3BlobStore(self._buckets.setdefault(folder, new_bucket(name=self.bucket)))

    async def test_mail_goes_on(self) -> None:
        """Streams that are under way, small bodies read ahead, deliveries: all as if nothing had been."""
        store = await self.make_store(inline_octets=100)
        random = Random(1)
        mails = [b"a: %d\r\n\r\n" % number + random.randbytes(octets).hex().encode() + b"\r\n"
                 for number, octets in enumerate([400_000, 3_500_000, *[1000] * 20])]
        await self.put(store, "mrose", *mails)
        for device in DEVICES:
            session = await self.login(store, "mrose")
            streams = [await session.fetch(number) for number in (1, 2)]
            pieces = [[await stream.read()] for stream in streams]
            self.cluster.take_away(device)
            for stream, read in zip(streams, pieces, strict=True):
                while piece := await stream.read():
                    read.append(piece)
            self.assertTrue([b"".join(read) for read in pieces] == mails[:2], device)
            await session.release()
            mails.append(b"while %s is away\r\n" % device.encode() * 100)
            await self.put(store, "mrose", mails[-1])
            self.assertTrue(await self.held(store, "mrose") == mails, device)
            self.cluster.give_back(device)
        self.assertTrue(await self.held(store, "mrose") == mails)
        self.assertEqual(await store.check(), [])
