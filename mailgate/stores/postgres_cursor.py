"""Cursors over psycopg that take the store's SQL as it is written, for SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Union

import psycopg

from mailgate.stores.postgres_dialect import translate
from mailgate.stores.sql.cursor import Parameters

LARGE_OCTETS = 8192     # of one value; as a literal it would be twice as long

Connection = psycopg.Connection[tuple[Any, ...]]
Rows = psycopg.Cursor[tuple[Any, ...]]
Statement = Union[str, bytes]


class _Outcome:
    """What the last statement came to, as the store's SQL asks for it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: Rows | None = None

    @property
    def rowcount(self) -> int:
        return self._told().rowcount

    def fetchone(self) -> Any:
        return self._told().fetchone()

    def fetchall(self) -> list[Any]:
        return self._told().fetchall()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._told())

    def _told(self) -> Rows:
        assert self._rows is not None, "no statement was executed"
        return self._rows


class PostgresCursor(_Outcome):
    """For reading: every statement is a round trip of its own, values and rows go as octets."""

    def execute(self, statement: str, parameters: Parameters = (), /) -> PostgresCursor:
        self._rows = self._connection.cursor(binary=True)
        self._rows.execute(translate(statement), parameters)
        return self

    def executemany(self, statement: str, parameters: Iterable[Parameters], /) -> PostgresCursor:
        for row in parameters:
            self.execute(statement, row)
        return self


class BatchCursor(_Outcome):
    """For a transaction: statements wait until somebody asks for rows, or how many there were.

    Then all of them go to the server in one message, which it works off as a whole, and so do those that
    are left with COMMIT. So no more round trips are needed than there are questions; and a process that
    is stopped leaves the server no half of a message to wait for: it waits in an open transaction at
    most, for which there is a limit.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._binder = psycopg.ClientCursor(connection)
        self._waiting: list[str] = []

    def execute(self, statement: str, parameters: Parameters = (), /) -> BatchCursor:
        query = translate(statement)
        if not self._waiting and _is_large(parameters):
            self._rows = self._connection.cursor(binary=True)
            self._rows.execute(query, parameters)
        else:
            self._rows = None
            self._waiting.append(self._binder.mogrify(query, parameters))
        return self

    def executemany(self, statement: str, parameters: Iterable[Parameters], /) -> BatchCursor:
        query = translate(statement)
        self._rows = None
        self._waiting += [self._binder.mogrify(query, row) for row in parameters]
        return self

    def add(self, *statements: str) -> None:
        """Let statements wait that are PostgreSQL's own."""
        self._rows = None
        self._waiting += statements

    def forget(self) -> None:
        """Drop what waits."""
        self._waiting.clear()

    def send(self) -> Rows:
        """Send what waits, in one message; return the outcome of its last statement."""
        rows = self._connection.cursor()
        waiting = ";".join(self._waiting).encode()
        self._waiting.clear()
        rows.execute(waiting)       # without parameters, by the simple protocol: many at a time
        while rows.nextset():
            pass
        return rows

    def _told(self) -> Rows:
        if self._rows is None:
            self._rows = self.send()
        return self._rows


def _is_large(parameters: Parameters) -> bool:
    values = parameters.values() if isinstance(parameters, Mapping) else parameters
    return any(isinstance(value, bytes) and len(value) > LARGE_OCTETS for value in values)
