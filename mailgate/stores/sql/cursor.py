"""What the SQL functions ask of a database driver's cursor: a part of DB-API 2.0 (PEP 249) that many give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Union

Parameters = Union[Sequence[Any], Mapping[str, Any]]


class Cursor(Protocol):
    """A cursor of an engine. Statements are written as SQLite reads them: `?` or `:name` for values.

    Where another engine wants other words its cursor puts them in their place.
    """

    @property
    def rowcount(self) -> int:
        """Rows that the last statement changed."""

    def execute(self, statement: str, parameters: Parameters = (), /) -> Any:
        """Run one statement; return the cursor."""

    def executemany(self, statement: str, parameters: Iterable[Parameters], /) -> Any:
        """Run a changing statement once for each of some rows."""

    def fetchone(self) -> Any:
        """Return the next row as a tuple, or None."""

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""

    def __iter__(self) -> Iterator[Any]:
        """Go through the rows that are left."""
