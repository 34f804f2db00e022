"""The store that a configuration names."""

from __future__ import annotations

from typing import Any

from mailgate.config import Config
from mailgate.stores.files import FileBlobStore
from mailgate.stores.sqlite import SqliteStore


def make_store(config: Config, reactor: Any, *, create: bool = False, process: str = "") -> SqliteStore:
    """Return the configured store, with its `accounts`; `start` opens it.

    A missing database is an outage, so that an empty mount point does not turn into an empty store
    that refuses everybody's mail for good. It is made where `create` asks for it, and where it
    stands beside the configuration: what holds the one file can hold the other. `process`: see SqliteStore.
    """
    return SqliteStore(
        str(config.metadata_path), FileBlobStore(str(config.bodies_path)), reactor=reactor,
        lease_seconds=config.store.lease_seconds, quota_octets=config.store.quota_octets,
        inline_octets=config.store.inline_octets, create=create or belongs_to_folder(config),
        process=process)


def belongs_to_folder(config: Config) -> bool:
    """Return whether the database is to lie in the configuration's own folder: not below, behind no link."""
    path = config.metadata_path
    return path.parent == config.folder and not path.is_symlink()
