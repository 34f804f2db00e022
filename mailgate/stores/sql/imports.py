"""What is remembered of imported messages for good: the SQL as functions of a cursor, and its calls."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailgate.interfaces import IImportRecords
from mailgate.names import fold
from mailgate.stores.sql.cursor import Cursor
from mailgate.stores.sql.database import Database
from mailgate.stores.sql.leases import make_maildrop
from mailgate.stores.sql.messages import find_maildrop, text

Records = Sequence["tuple[bytes, bytes | None]"]     # unique-ids with identities


def imported(cursor: Cursor, key: str) -> Records:
    """Return what imports brought to a maildrop."""
    cursor.execute("SELECT unique_id, identity FROM imported WHERE maildrop_id = ? ORDER BY unique_id",
                   (find_maildrop(cursor, key),))
    return [(unique_id, identity) for unique_id, identity in cursor.fetchall()]


def note(cursor: Cursor, key: str, name: str, records: Records) -> None:
    """Remember more; what is known stays as it is."""
    maildrop_id = find_maildrop(cursor, key)
    if maildrop_id is None:
        maildrop_id = make_maildrop(cursor, key, name)
    cursor.executemany("INSERT INTO imported (maildrop_id, unique_id, identity) VALUES (?, ?, ?)"
                       " ON CONFLICT DO NOTHING", [(maildrop_id, *record) for record in records])


@implementer(IImportRecords)
class SqlImportRecords:
    """The calls, over a store's database."""

    _database: Database

    def imported(self, maildrop: str) -> Deferred[Records]:
        return self._database.look(imported, text(fold(maildrop)))

    def note_imported(self, maildrop: str, records: Records) -> Deferred[None]:
        return self._database.writer.run(note, text(fold(maildrop)), text(maildrop), list(records),
                                         durable=True)
