"""One transaction, in as few round trips as its reading allows, and the truth about its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import errors, sql
from psycopg.pq import TransactionStatus

from mailgate.errors import LeaseLost
from mailgate.stores.postgres_cursor import BatchCursor, Connection, PostgresCursor
from mailgate.stores.postgres_dialect import NOW
from mailgate.stores.postgres_faults import OutcomeUnknown, is_undone, words_of
from mailgate.stores.sql.database import renew_and_release
from mailgate.stores.sql.leases import release, release_sessions

T = TypeVar("T")

BEGIN = "BEGIN ISOLATION LEVEL SERIALIZABLE"
# For what is true of each of its statements by itself: it is in no other's way, and no other in its.
BEGIN_PLAIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
PLAIN: set[Callable[..., Any]] = {release, release_sessions, renew_and_release}
LOOK = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# A crash of the server may undo it, and a replica need not have it: for leases and such.
NOT_DURABLE = "SET LOCAL synchronous_commit TO OFF"
# Goes in one message with COMMIT: it fails, and COMMIT is not even tried, once the holder's time is over.
FENCE = sql.SQL("SELECT 1 / count(*) FROM holder WHERE id = {} AND expires_ms > " + NOW)


class MustBeAlone(Exception):
    """An operation would change its process's holder while others rely on it."""


def transact(connection: Connection, operation: Callable[..., T], args: tuple[Any, ...], *,
             durable: bool = True, holder: str | None = None, warnings: list[str] | None = None) -> T:
    """Run an operation as a transaction and return its value, once that is committed.

    With `holder` it commits only while that holder is alive by the database's clock. `warnings` is
    where the server's go. Raises: LeaseLost; OutcomeUnknown; psycopg.Error, and then nothing
    was done; what the operation raises.
    """
    cursor = BatchCursor(connection)
    cursor.add(BEGIN_PLAIN if operation in PLAIN else BEGIN, *(() if durable else (NOT_DURABLE,)))
    committing = False
    try:
        value = operation(cursor, *args)
        if holder is not None:
            cursor.add(FENCE.format(holder).as_string(connection))
        cursor.add("COMMIT")
        if warnings is not None:
            warnings.clear()
        committing = True
        _see_committed(cursor.send(), warnings or ())
        return value
    except errors.DivisionByZero as error:
        raise LeaseLost("the lease ran out before the commit") from error
    except psycopg.Error as error:
        if committing and not is_undone(error):
            raise OutcomeUnknown(f"the outcome of a commit is not known: {words_of(error)}") from error
        raise
    finally:
        _leave(connection)


def _see_committed(commit: psycopg.Cursor[Any], warnings: Sequence[str]) -> None:
    """Raise OutcomeUnknown if the answer to COMMIT does not say without a doubt that it is done."""
    if warnings or commit.statusmessage != "COMMIT":    # it is not on the replica that was waited for
        raise OutcomeUnknown(f"a commit ended with {commit.statusmessage}: {'; '.join(warnings)}")


def _leave(connection: Connection) -> None:
    """Leave no transaction open; a connection on which that fails is closed."""
    if connection.closed or connection.info.transaction_status is TransactionStatus.IDLE:
        return
    try:
        connection.execute(b"ROLLBACK")
    except psycopg.Error:
        connection.close()


def look(connection: Connection, operation: Callable[..., T], args: tuple[Any, ...]) -> T:
    """Run a reading operation on one state of the database. Raises: psycopg.Error, what it raises."""
    connection.execute(LOOK)
    try:
        return operation(PostgresCursor(connection), *args)
    finally:
        _leave(connection)
