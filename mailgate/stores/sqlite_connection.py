"""Connections to the embedded database: how they are opened, migrated, and what their errors mean."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from contextlib import suppress
from importlib import resources
from urllib.parse import quote

from twisted.logger import Logger
from twisted.python.failure import Failure

from mailgate.errors import MailgateError, StoreFull, StoreUnavailable
from mailgate.stores.files import heir, os_fault

BUSY_SECONDS = 10           # how long a write waits for another process's
CACHE_KIB = 8192            # page cache of a connection
WAL_LIMIT_OCTETS = 64 * 1024 * 1024     # the log is cut back to this after a burst
FILE_MODE = 0o600
APPLICATION_ID = 0x6D676174             # "mgat": what `file` and a second look recognize
WAL_ATTEMPTS = 100          # SQLite does not wait for others while a file turns to WAL: so we do
WAL_PAUSE_SECONDS = 0.05

_MIGRATION = re.compile(r"(\d{4})_\w+\.sql")
_FULL_CODES = frozenset({13, 4874})     # SQLITE_FULL; SQLITE_IOERR_SHMSIZE: no room for the log's index

log = Logger()


def connect(path: str, *, create: bool = False) -> sqlite3.Connection:
    """Return a connection in autocommit mode. Raises: sqlite3.Error, OSError."""
    if create and not os.path.exists(path):
        _make(path)
    connection = sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=BUSY_SECONDS,
                                 isolation_level=None, cached_statements=256)
    try:
        for pragma in (f"cache_size = -{CACHE_KIB}", f"journal_size_limit = {WAL_LIMIT_OCTETS}",
                       "synchronous = FULL", "secure_delete = FAST", "temp_store = MEMORY"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _make(path: str) -> None:
    """Make an empty file, unless there is one or another process is quicker: never where a link leads."""
    with suppress(FileExistsError):
        made = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE)
        try:
            owner = heir(os.path.dirname(os.path.abspath(path)))
            if owner is not None:       # SQLite gives the log and its index to the owner of the database
                os.fchown(made, *owner)
        finally:
            os.close(made)


def prepare(connection: sqlite3.Connection) -> None:
    """Turn a file to WAL and bring its schema up to date. Safe when two processes do it at once.

    Raises: StoreUnavailable, for a newer schema than this program's or somebody else's database.
    """
    _refuse_strangers(connection)
    _turn_to_wal(connection)
    steps = migrations()
    if _version(connection) == len(steps):
        return      # a store that only can be read still opens
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[_version(connection):]:
            for statement in split_statements(step):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def migrations() -> list[str]:
    """Return the SQL of every migration; the schema's version is how many of them were applied."""
    folder = resources.files("mailgate.stores") / "schema" / "sqlite"
    found = {entry.name: entry for entry in folder.iterdir() if _MIGRATION.fullmatch(entry.name)}
    numbers = [int(name[:4]) for name in sorted(found)]
    assert numbers == list(range(1, len(numbers) + 1)), f"migrations are not numbered 1..n: {numbers}"
    return [found[name].read_text("utf-8") for name in sorted(found)]


def split_statements(script: str) -> list[str]:
    """Return the statements of a script, each ending with its line.

    A script that SQLite runs whole would commit the transaction first.
    """
    statements, begun = [], ""
    for line in script.splitlines(keepends=True):
        begun += line
        if sqlite3.complete_statement(begun):
            statements.append(begun)
            begun = ""
    assert not begun.strip(), f"an unfinished statement: {begun!r}"
    return statements


def fault_of(error: Exception) -> MailgateError:
    """Return what an exception out of the database means, and log what an operator must know.

    Raises nothing. The only place that knows sqlite3's errors.
    """
    if isinstance(error, MailgateError):
        return error
    fault: MailgateError
    if isinstance(error, OSError):
        fault = os_fault(error)
    elif isinstance(error, sqlite3.Error) and _is_full(error):
        fault = StoreFull(str(error))
    else:
        fault = StoreUnavailable(f"{type(error).__name__}: {error}")
    fault.__cause__ = error
    if isinstance(error, (OSError, sqlite3.OperationalError)) or type(error) is sqlite3.DatabaseError:
        log.error("the store failed: {fault}", fault=fault)
    else:
        log.failure("a bug in the store", Failure(error))
    return fault


def _is_full(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)     # Python 3.11
    return code in _FULL_CODES if code is not None else "is full" in str(error)


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _refuse_strangers(connection: sqlite3.Connection) -> None:
    known = len(migrations())
    connection.execute("BEGIN")     # one look at all three: another process may be migrating
    try:
        version = _version(connection)
        ours = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    finally:
        connection.execute("ROLLBACK")
    if not ours and (version or tables):
        raise StoreUnavailable("the file is another program's database")
    if version > known:
        raise StoreUnavailable(f"the store has schema {version}, this program knows up to {known}")


def _turn_to_wal(connection: sqlite3.Connection) -> None:
    for attempt in range(1, WAL_ATTEMPTS + 1):
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or attempt == WAL_ATTEMPTS:
                raise
            time.sleep(WAL_PAUSE_SECONDS)
        else:
            if mode != "wal":
                raise StoreUnavailable(f"the file cannot have a write-ahead log (journal mode {mode!r})")
            return
