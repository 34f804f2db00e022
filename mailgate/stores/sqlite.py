"""The embedded store: maildrops and accounts in one SQLite file, large bodies beside it."""

from __future__ import annotations

import os
from typing import Any

from mailgate.interfaces import IBlobStore
from mailgate.stores.sql.store import INLINE_OCTETS, SqlStore
from mailgate.stores.sqlite_database import SqliteDatabase


class SqliteStore(SqlStore):
    """Maildrops in the file `path`, bodies above `inline_octets` in `blobs`; `accounts` beside them.

    Several processes may use one file. `quota_octets` bounds each maildrop. Without `create` a
    missing file is an outage, not an empty store: a disk may not have been mounted. `process` is a
    word for this process, a random one, by which another can tell that it is dead (`bury_process`).
    """

    def __init__(self, path: str, blobs: IBlobStore, *, reactor: Any, lease_seconds: float = 60,
                 quota_octets: int | None = None, inline_octets: int = INLINE_OCTETS,
                 create: bool = True, process: str = "") -> None:
        database = SqliteDatabase(os.path.abspath(path), blobs, reactor, lease_seconds, create, process)
        super().__init__(database, quota_octets=quota_octets, inline_octets=inline_octets)
