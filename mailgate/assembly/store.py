"""The store that a configuration names."""

from __future__ import annotations

from typing import Any

from mailgate.config import Config
from mailgate.stores.files import FileBlobStore
from mailgate.stores.sqlite import SqliteStore


def make_store(config: Config, reactor: Any) -> SqliteStore:
    """Return the configured store, with its `accounts`; `start` opens it."""
    return SqliteStore(
        str(config.metadata_path), FileBlobStore(str(config.bodies_path)), reactor=reactor,
        lease_seconds=config.store.lease_seconds, quota_octets=config.store.quota_octets,
        inline_octets=config.store.inline_octets)
