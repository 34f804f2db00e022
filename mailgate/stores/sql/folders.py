"""A maildrop's folders, and what they hold: the SQL, as functions of a cursor.

A changing function runs inside a transaction that the caller began. Maildrops are given by key, folders
as stores keep their names (`names.check_folder`), or as None where no folder can be called so.
"""

from __future__ import annotations

from array import array
from typing import Any

from mailgate.errors import FolderConflict, NoSuchFolder
from mailgate.model import INBOX, Envelope, Listed, ScanListing
from mailgate.stores.kept import renamed
from mailgate.stores.sql.cursor import Cursor
from mailgate.stores.sql.leases import make_maildrop
from mailgate.stores.sql.messages import Snapshot, find_maildrop, make_folders

# Reading ------------------------------------------------------------------------------------


def maildrops(cursor: Cursor) -> list[str]:
    """Return the names of all maildrops, in order."""
    cursor.execute("SELECT name FROM maildrop")
    return sorted(name for (name,) in cursor.fetchall())


def scan(cursor: Cursor, maildrop: str, folder: str | None) -> list[Listed]:
    """Return what a folder of a maildrop (its key) holds now."""
    rows = _read(cursor, "octets, unique_id, user_key, flags, sender, recipient, arrived_ms",
                 find_maildrop(cursor, maildrop), folder)
    return [Listed(number, octets, unique_id, Envelope(*envelope), user, flags)
            for number, (octets, unique_id, user, flags, *envelope) in enumerate(rows, 1)]


def peek(cursor: Cursor, maildrop: str, folder: str | None) -> tuple[int, Snapshot]:
    """Return the id of a maildrop (0: there is none) and what a folder of it holds now."""
    maildrop_id = find_maildrop(cursor, maildrop)
    rows = _read(cursor, "serial, octets, unique_id", maildrop_id, folder)
    listing = ScanListing(array("Q", [octets for _, octets, _ in rows]), [row[2] for row in rows])
    return maildrop_id or 0, Snapshot(listing, array("Q", [serial for serial, *_ in rows]), 0)


def _read(cursor: Cursor, columns: str, maildrop_id: int | None, folder: str | None) -> list[Any]:
    """Return columns of the messages of a folder, in order."""
    source = "message" if folder == INBOX else "message INDEXED BY message_folder"
    where, values = _within(maildrop_id, folder)
    cursor.execute(f"SELECT {columns} FROM {source} WHERE {where} ORDER BY serial", values)
    return cursor.fetchall()


def _within(maildrop_id: int | None, folder: str | None) -> tuple[str, tuple[Any, ...]]:
    """Return the condition that picks the messages of a folder, and its values.

    What the index `message_folder` says of itself is said again: only then can it be used.
    """
    if folder == INBOX:
        return "maildrop_id = ? AND folder = 'INBOX'", (maildrop_id,)
    return "maildrop_id = ? AND folder = ? AND folder <> 'INBOX'", (maildrop_id, folder)


# Folders ------------------------------------------------------------------------------------


def folders(cursor: Cursor, maildrop: str) -> list[str]:
    """Return a maildrop's folders, INBOX first, the others in order."""
    return [INBOX, *_names(cursor, find_maildrop(cursor, maildrop))]


def _names(cursor: Cursor, maildrop_id: int | None) -> list[str]:
    cursor.execute("SELECT name FROM folder WHERE maildrop_id = ?", (maildrop_id,))
    return sorted(name for (name,) in cursor.fetchall())


def see_folder(cursor: Cursor, maildrop_id: int | None, folder: str | None) -> None:
    """Raise NoSuchFolder unless a maildrop (none: an empty one) has a folder."""
    if folder == INBOX:
        return
    cursor.execute("SELECT count(*) FROM folder WHERE maildrop_id = ? AND name = ?", (maildrop_id, folder))
    if not cursor.fetchone()[0]:
        raise NoSuchFolder(f"maildrop {maildrop_id}, folder {folder!r}")


def make_folder(cursor: Cursor, maildrop: str, name: str, folder: str) -> None:
    """Make a folder, and the maildrop (its key, its name) if there is none. Raises: FolderConflict."""
    maildrop_id = find_maildrop(cursor, maildrop)
    if maildrop_id is None:
        maildrop_id = make_maildrop(cursor, maildrop, name)
    if folder == INBOX or folder in _names(cursor, maildrop_id):
        raise FolderConflict(f"there is a folder {folder!r}")
    make_folders(cursor, maildrop_id, [folder])


def remove_folder(cursor: Cursor, maildrop: str, folder: str | None) -> None:
    """Remove an empty folder. Raises: NoSuchFolder, FolderConflict."""
    maildrop_id = find_maildrop(cursor, maildrop)
    if folder == INBOX:
        raise FolderConflict("INBOX stays")
    see_folder(cursor, maildrop_id, folder)
    where, values = _within(maildrop_id, folder)
    cursor.execute(f"SELECT count(*) FROM message WHERE {where}", values)
    if cursor.fetchone()[0]:
        raise FolderConflict(f"there is mail in folder {folder!r}")
    cursor.execute("DELETE FROM folder WHERE maildrop_id = ? AND name = ?", (maildrop_id, folder))


def rename_folder(cursor: Cursor, maildrop: str, folder: str | None, name: str) -> None:
    """Rename a folder with all below it. Raises: NoSuchFolder, FolderConflict."""
    maildrop_id = find_maildrop(cursor, maildrop)
    if folder == INBOX:
        raise FolderConflict("INBOX keeps its name")
    see_folder(cursor, maildrop_id, folder)
    assert folder is not None and maildrop_id is not None
    for old, new in renamed(_names(cursor, maildrop_id), folder, name):
        cursor.execute("UPDATE folder SET name = ? WHERE maildrop_id = ? AND name = ?",
                       (new, maildrop_id, old))
        where, values = _within(maildrop_id, old)
        cursor.execute(f"UPDATE message SET folder = ? WHERE {where}", (new, *values))
