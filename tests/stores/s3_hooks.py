"""What the tests of bodies in a bucket share: a bucket of Swift's, stores below prefixes of their own."""

from __future__ import annotations

import itertools
import os
import tempfile
from functools import cache
from typing import Any

from mailgate.stores.s3 import Bucket, S3BlobStore
from tests.engines.swift import REGION, Swift, swift

_prefixes = itertools.count(1)


def credentials_file(cluster: Swift, key: str | None = None, secret: str | None = None) -> str:
    """Write a file of credentials and return its path."""
    descriptor, path = tempfile.mkstemp(prefix="credentials-", dir=cluster.folder)
    with open(descriptor, "w") as file:
        file.write(f"[default]\naws_access_key_id = {key or cluster.access_key}\n"
                   f"aws_secret_access_key = {secret or cluster.secret_key}\n")
    return path


@cache
def common_bucket() -> tuple[str, str]:
    """Return the name of a bucket that tests use below prefixes of their own, and a file of credentials."""
    cluster = swift()
    return cluster.make_bucket(), credentials_file(cluster)


def new_bucket(**changes: object) -> Bucket:
    """Return a place where nothing is yet, in the common bucket."""
    name, credentials = common_bucket()
    place = Bucket(name, f"tests/{os.getpid()}-{next(_prefixes)}", swift().endpoint, REGION,
                   credentials_file=credentials)
    return place._replace(**changes)


class S3Hooks:
    """Mixed in before the hooks of a store: bodies in a bucket instead of a folder.

    A store's folder is what its prefix is found by.
    """

    _buckets: dict[str, Bucket] = {}

    def new_bodies(self, folder: str) -> S3BlobStore:
        """Return the bodies of a store over this folder; the same place each time."""
        if folder not in self._buckets:
            self._buckets[folder] = new_bucket()
        return S3BlobStore(self._buckets[folder])

    def body_files(self, store: Any) -> list[str]:
        """Return the keys of the bodies that are in the bucket."""
        return sorted(dict(self.new_bodies(store.folder).keys()))
