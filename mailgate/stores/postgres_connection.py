"""Connections to PostgreSQL: where they lead, what they are told at their start, and the schema.

No password gets into a text of ours: addresses are shown without, and libpq's own words name none.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from importlib import resources
from typing import Any, NamedTuple

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.string import StrDumper

from mailgate.errors import StoreUnavailable
from mailgate.stores.postgres_address import shown
from mailgate.stores.postgres_cursor import Connection

CONNECT_SECONDS = 5         # to each host of an address
KEEPALIVE = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
             "tcp_user_timeout": 20_000}        # whoever went away without a word is missed in half a minute
DEFAULTS = {"connect_timeout": CONNECT_SECONDS, "target_session_attrs": "read-write",
            "application_name": "mailgate", "client_encoding": "UTF8", **KEEPALIVE}
MIGRATION_ATTEMPTS = 60     # several processes may find an empty database at once: one of them fills it
MIGRATION_PAUSE_SECONDS = 0.2

_MIGRATION = re.compile(r"(\d{4})_\w+\.sql")
_RACES = (errors.UniqueViolation, errors.DuplicateTable, errors.DuplicateObject, errors.UndefinedTable,
          errors.SerializationFailure, errors.DeadlockDetected, errors.LockNotAvailable)


class Limits(NamedTuple):
    """How long the server lets a connection of ours do something, in milliseconds; all from the lease.

    A process that is stopped inside a transaction holds its locks no longer than `idle`, and whoever
    waits for these waits for longer than that.
    """

    idle: int           # in a transaction, between two statements
    lock: int           # wait for a lock
    statement: int      # run one statement, its locks included

    @classmethod
    def of(cls, lease_seconds: float) -> Limits:
        lease_ms = int(lease_seconds * 1000)
        return cls(max(lease_ms // 4, 250), max(lease_ms // 3, 500), max(lease_ms // 2, 1000))


class _Text(StrDumper):
    """Text that says so to the server. A NUL, which PostgreSQL cannot hold, becomes an escape."""

    def dump(self, obj: str) -> Any:
        return super().dump(_without_nul(obj))

    def quote(self, obj: str) -> Any:
        return super().quote(_without_nul(obj))


def _without_nul(text: str) -> str:
    return text.replace("\0", "\\x00") if "\0" in text else text


def settings_of(url: str, limits: Limits | None, *, indexes: bool = False) -> dict[str, Any]:
    """Return what psycopg is to connect with: the address's own settings before ours.

    Without `limits` statements may take as long as they need. With `indexes` the tables are read by
    their indexes alone: what a serializable transaction reads of a small table as a whole, any other
    transaction's row is in the way of.
    Raises: StoreUnavailable.
    """
    try:
        given: dict[str, Any] = dict(conninfo_to_dict(url))
    except psycopg.Error:       # whose words repeat the address with its password
        raise StoreUnavailable(f"{shown(url)} is no address of a PostgreSQL database") from None
    told = [f"-c {name}={value}" for name, value in (
        ("idle_in_transaction_session_timeout", limits.idle), ("lock_timeout", limits.lock),
        ("statement_timeout", limits.statement))] if limits is not None else []
    if indexes:
        told.append("-c enable_seqscan=off")
    options = " ".join([*told, given.pop("options", "")]).strip()
    return {**DEFAULTS, **given, **({"options": options} if options else {})}


def connect(settings: dict[str, Any], warned: Callable[[str], None] | None = None) -> Connection:
    """Return a connection in autocommit mode; `warned` is called with the words of the server's warnings.

    Raises: psycopg.Error.
    """
    connection = psycopg.connect(**settings, autocommit=True, prepare_threshold=None)
    connection.adapters.register_dumper(str, _Text)
    if warned is not None:
        connection.add_notice_handler(lambda remark: _take_notice(remark, warned))
    return connection


def _take_notice(remark: errors.Diagnostic, warned: Callable[[str], None]) -> None:
    if remark.severity_nonlocalized == "WARNING":       # it has to be read now: libpq frees it
        warned(remark.message_primary or "a warning")


# The schema ---------------------------------------------------------------------------------


def prepare(connection: Connection, *, may_create: Callable[[], bool],
            pause: Callable[[float], None] = time.sleep) -> None:
    """Bring the schema up to date. Safe when many processes do it at once.

    Raises: StoreUnavailable, for a newer schema than this program's, somebody else's database, and an
    empty one that is not to be filled; psycopg.Error.
    """
    steps = migrations()
    for _ in range(MIGRATION_ATTEMPTS):
        version = _version(connection)
        if version == len(steps):
            return
        if version > len(steps):
            raise StoreUnavailable(f"the store has schema {version}, this program knows up to {len(steps)}")
        if not version:
            _refuse_strangers(connection)
            if not may_create():
                raise StoreUnavailable("the database is empty: there is no store in it; the first"
                                       " `mailgate account add` makes it")
        try:
            with connection.transaction():
                _apply(connection, version, steps)
        except _RACES:
            pause(random.uniform(0, MIGRATION_PAUSE_SECONDS))   # another process is at it
    raise StoreUnavailable("the schema could not be brought up to date: others are always at it")


def _apply(connection: Connection, version: int, steps: list[str]) -> None:
    """Apply what is missing. Who comes second waits for the first one's row or table, then looks again."""
    if version and connection.execute(
            "SELECT version FROM mailgate_schema FOR UPDATE").fetchall() != [(version,)]:
        return
    for step in steps[version:]:
        connection.execute(step.encode())
    connection.execute("UPDATE mailgate_schema SET version = %s", (len(steps),))


def migrations() -> list[str]:
    """Return the SQL of every migration; the schema's version is how many of them were applied."""
    folder = resources.files("mailgate.stores") / "schema" / "postgres"
    found = {entry.name: entry for entry in folder.iterdir() if _MIGRATION.fullmatch(entry.name)}
    numbers = [int(name[:4]) for name in sorted(found)]
    assert numbers == list(range(1, len(numbers) + 1)), f"migrations are not numbered 1..n: {numbers}"
    return [found[name].read_text("utf-8") for name in sorted(found)]


def _version(connection: Connection) -> int:
    """Return the schema's version; 0 where there is none."""
    try:
        rows = connection.execute("SELECT version FROM mailgate_schema").fetchall()
    except errors.UndefinedTable:
        return 0
    version: int = rows[0][0]
    return version


def _refuse_strangers(connection: Connection) -> None:
    tables = connection.execute("SELECT count(*) FROM information_schema.tables WHERE table_schema ="
                                " current_schema() AND table_name <> 'mailgate_schema'").fetchall()
    if tables != [(0,)]:
        raise StoreUnavailable("the database is another program's")
