"""The contract of bodies, over both places that they can lie in."""

from __future__ import annotations

import os
import shutil
import tempfile

from twisted.trial.unittest import SynchronousTestCase

from mailgate.stores.files import OWNER_FILE, FileBlobStore
from mailgate.stores.s3 import OWNER_OBJECT, S3BlobStore
from tests.engines.swift import swift
from tests.stores.contract_blobs import BlobStoreContract
from tests.stores.s3_hooks import new_bucket


class FileTests(BlobStoreContract, SynchronousTestCase):
    """Files below a folder."""

    listing = "_blobs"

    def new_blobs(self) -> FileBlobStore:
        folder = tempfile.mkdtemp(prefix="mailgate-test-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return FileBlobStore(f"{folder}/bodies")

    def same_blobs(self, blobs: FileBlobStore) -> FileBlobStore:
        return FileBlobStore(blobs.directory)

    def drop_owner(self, blobs: FileBlobStore) -> None:
        os.unlink(f"{blobs.directory}/{OWNER_FILE}")


class S3Tests(BlobStoreContract, SynchronousTestCase):
    """Objects of a bucket of OpenStack Swift."""

    listing = "_listed"

    def new_blobs(self) -> S3BlobStore:
        return S3BlobStore(new_bucket())

    def same_blobs(self, blobs: S3BlobStore) -> S3BlobStore:
        return S3BlobStore(blobs.bucket)

    def drop_owner(self, blobs: S3BlobStore) -> None:
        status, _ = swift().request("DELETE", f"/{blobs.bucket.name}/{blobs.bucket.prefix}/{OWNER_OBJECT}")
        self.assertEqual(status, 204)
