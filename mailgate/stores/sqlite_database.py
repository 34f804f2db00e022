"""The embedded database: one file, a thread that writes it and one that reads."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from mailgate.errors import MailgateError, StoreUnavailable
from mailgate.interfaces import IBlobStore
from mailgate.stores.sql.database import Database
from mailgate.stores.sql.upkeep import store_id
from mailgate.stores.sqlite_connection import connect, fault_of, prepare
from mailgate.stores.sqlite_threads import ReaderThread, WriterThread

T = TypeVar("T")


class SqliteDatabase(Database):
    """Threads, leases and caches of one `SqliteStore`."""

    def __init__(self, path: str, blobs: IBlobStore, reactor: Any, lease_seconds: float,
                 create: bool, process: str = "") -> None:
        writer = WriterThread(self._open_writer, reactor, "mailgate store writer")
        reader = ReaderThread(partial(connect, path), reactor, "mailgate store reader")
        writer.when_read_only = reader.reopen
        writer.closes_after = reader    # two connections that close at once both leave the log behind
        super().__init__(blobs, writer, reader, reactor, lease_seconds, process)
        self.path = path
        self._create = create
        self._store_id = ""     # that the bodies were told

    def _open_writer(self) -> sqlite3.Connection:
        if self._create and not os.path.exists(self.path) and self.blobs.owner() is not None:
            raise StoreUnavailable(f"{self.path} is missing, and its bodies are there: no new store is made")
        if not self._create and _is_missing(self.path):
            raise StoreUnavailable(f"there is no {self.path}; its disk may not be mounted")
        connection = connect(self.path, create=self._create)
        try:
            prepare(connection)
            name = store_id(connection.cursor())
            if name != self._store_id:      # a bucket that is out of reach keeps no database from going on
                self.blobs.belong_to(name)
                self._store_id = name
        except BaseException:
            connection.close()
            raise
        self._create = False        # opened again after a failure, it must still be there
        return connection

    def fault_of(self, error: Exception) -> MailgateError:
        return fault_of(error)

    def look_blocking(self, operation: Callable[..., T], *args: Any) -> T:
        connection = connect(self.path)
        try:
            cursor = connection.cursor()
            try:
                cursor.execute("BEGIN")
                return operation(cursor, *args)
            finally:
                cursor.close()
        finally:
            connection.close()


def _is_missing(path: str) -> bool:
    """Whether there is no such file; of what cannot be looked at, opening it tells the reason."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False
