"""Messages of a folder by their unique-ids: flags, moves, copies, other ids. SQL, as functions of a cursor.

A changing function runs inside a transaction that the caller began. Maildrops are given by key, folders
as stores keep their names (`names.check_folder`), or as None where no folder can be called so.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from mailgate.errors import OverQuota
from mailgate.model import INBOX
from mailgate.stores.kept import changed, find_taken
from mailgate.stores.sql.cursor import Cursor
from mailgate.stores.sql.folders import see_folder
from mailgate.stores.sql.leases import (
    Holder,
    Lease,
    hold,
    refuse_if_held,
    refuse_if_seen,
    relies_on_lease,
    still_holds,
)
from mailgate.stores.sql.messages import SERIALS, add_refs, find_maildrop, remove_messages

MESSAGES = "message INDEXED BY message_unique_id"
IDS_AT_ONCE = 500       # unique-ids in a statement: as values of their own, since JSON holds no octets


# Finding ------------------------------------------------------------------------------------


def _find(cursor: Cursor, columns: str, source: str, maildrop_id: int,
          unique_ids: Iterable[bytes]) -> Iterator[Any]:
    """Give columns of those rows of a maildrop that have one of some unique-ids."""
    ids = iter(unique_ids)
    while some := list(islice(ids, IDS_AT_ONCE)):
        cursor.execute(f"SELECT {columns} FROM {source} WHERE maildrop_id = ? AND unique_id IN"
                       f" ({','.join('?' * len(some))})", (maildrop_id, *some))
        yield from cursor.fetchall()


def _members(cursor: Cursor, columns: str, maildrop_id: int | None, folder: str | None,
             unique_ids: Iterable[bytes]) -> list[Any]:
    """Return serial, unique-id and more columns of those messages that a folder has, in its order."""
    if maildrop_id is None or folder is None:
        return []
    found = _find(cursor, f"folder, serial, unique_id, {columns}", MESSAGES, maildrop_id,
                  dict.fromkeys(unique_ids))
    return sorted((row[1:] for row in found if row[0] == folder), key=lambda row: row[0])


# Flags, moves, copies -----------------------------------------------------------------------


def flag(cursor: Cursor, maildrop: str, folder: str | None, unique_ids: Collection[bytes], add: str,
         remove: str) -> list[bytes]:
    """Change flags; return the ids that the folder has."""
    maildrop_id = find_maildrop(cursor, maildrop)
    rows = _members(cursor, "flags", maildrop_id, folder, unique_ids)
    serials: dict[str, list[int]] = {}      # by flags that are to be
    for serial, _, flags in rows:
        if changed(flags, add, remove) != flags:
            serials.setdefault(changed(flags, add, remove), []).append(serial)
    for flags, some in serials.items():
        cursor.execute(f"UPDATE message SET flags = ? WHERE {SERIALS}",
                       (flags, maildrop_id, json.dumps(some)))
    return [unique_id for _, unique_id, _ in rows]


def move(cursor: Cursor, maildrop: str, folder: str | None, unique_ids: Collection[bytes],
         target: str | None) -> list[bytes]:
    """Move messages; return their ids. Raises: NoSuchFolder, MaildropInUse."""
    maildrop_id = find_maildrop(cursor, maildrop)
    for name in (folder, target):
        see_folder(cursor, maildrop_id, name)
    rows = _members(cursor, "user_key", maildrop_id, folder, unique_ids)
    moved = [unique_id for _, unique_id, _ in rows]
    if not rows or folder == target:
        return moved
    assert maildrop_id is not None
    if folder == INBOX:
        refuse_if_seen(cursor, maildrop_id, {user for _, _, user in rows})
    first = _take_serials(cursor, maildrop_id, len(rows), (folder, target))
    cursor.executemany(
        "UPDATE message SET serial = ?, folder = ? WHERE maildrop_id = ? AND serial = ?",
        [(new, target, maildrop_id, serial) for new, (serial, *_) in enumerate(rows, first)])
    return moved


def copy(cursor: Cursor, maildrop: str, folder: str | None, unique_ids: Collection[bytes],
         target: str | None, key: str, quota_octets: int | None) -> list[bytes]:
    """Copy messages; return the copies' ids, which begin with `key`. Raises: NoSuchFolder, OverQuota."""
    maildrop_id = find_maildrop(cursor, maildrop)
    for name in (folder, target):
        see_folder(cursor, maildrop_id, name)
    rows = _members(cursor, "octets, body_id, user_key, flags, arrived_ms, sender, recipient, preamble",
                    maildrop_id, folder, unique_ids)
    if not rows:
        return []
    assert maildrop_id is not None
    octets = sum(row[2] for row in rows)
    first = _take_serials(cursor, maildrop_id, len(rows), (target,))
    cursor.execute("UPDATE maildrop SET messages = messages + ?, octets = octets + ? WHERE id = ?"
                   " RETURNING octets", (len(rows), octets, maildrop_id))
    if quota_octets is not None and cursor.fetchall()[0][0] > quota_octets:
        raise OverQuota(f"maildrop {maildrop_id}")
    copies = [f"{key}.{number}".encode() for number in range(1, len(rows) + 1)]
    cursor.executemany(
        "INSERT INTO message (maildrop_id, serial, unique_id, folder, octets, body_id, user_key, flags,"
        " arrived_ms, sender, recipient, preamble) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(maildrop_id, first + index, copies[index], target, *row[2:]) for index, row in enumerate(rows)])
    add_refs(cursor, Counter(row[3] for row in rows))
    return copies


def expunge(cursor: Cursor, maildrop: str, folder: str | None, unique_ids: Collection[bytes]) -> list[bytes]:
    """Remove messages; return their ids. Raises: NoSuchFolder, MaildropInUse."""
    maildrop_id = find_maildrop(cursor, maildrop)
    see_folder(cursor, maildrop_id, folder)
    rows = _members(cursor, "user_key", maildrop_id, folder, unique_ids)
    if rows:
        assert maildrop_id is not None
        if folder == INBOX:
            refuse_if_seen(cursor, maildrop_id, {user for _, _, user in rows})
        remove_messages(cursor, maildrop_id, [serial for serial, *_ in rows])
    return [unique_id for _, unique_id, _ in rows]


def _take_serials(cursor: Cursor, maildrop_id: int, count: int, folders: Collection[str | None]) -> int:
    """Return the first of some serials that are the highest; what changes INBOX shows in its counter."""
    cursor.execute("UPDATE maildrop SET next_serial = next_serial + ?, change = change + ? WHERE id = ?"
                   " RETURNING next_serial", (count, int(INBOX in folders), maildrop_id))
    after: int = cursor.fetchall()[0][0]
    return after - count


# Unique-ids ---------------------------------------------------------------------------------


def take_ids(cursor: Cursor, maildrop: str, ids: Mapping[bytes, bytes]) -> list[bytes]:
    """Give messages of an INBOX other unique-ids, by present ones; return the ids of those it fails for.

    Raises: MaildropInUse.
    """
    maildrop_id = find_maildrop(cursor, maildrop)
    if maildrop_id is None:
        return []
    refuse_if_held(cursor, maildrop_id)
    return _take_ids(cursor, maildrop_id, ids)


def hold_by_key(cursor: Cursor, holder: Holder, maildrop: str, session: str) -> Lease | None:
    """Take the lease of a whole maildrop, if there is one. Raises: MaildropInUse."""
    maildrop_id = find_maildrop(cursor, maildrop)
    return None if maildrop_id is None else hold(cursor, holder, maildrop_id, session)


@relies_on_lease
def take_part_of_ids(cursor: Cursor, lease: Lease, ids: Mapping[bytes, bytes]) -> list[bytes]:
    """Do what `take_ids` does for one of several parts. Raises: LeaseLost."""
    still_holds(cursor, lease)
    return _take_ids(cursor, lease.maildrop_id, ids)


def _take_ids(cursor: Cursor, maildrop_id: int, ids: Mapping[bytes, bytes]) -> list[bytes]:
    present = {unique_id: serial for unique_id, serial, folder in
               _find(cursor, "unique_id, serial, folder", MESSAGES, maildrop_id, ids) if folder == INBOX}
    wanted = {old: new for old, new in ids.items() if old in present}
    known = {unique_id for table in (MESSAGES, "imported")
             for (unique_id,) in _find(cursor, "unique_id", table, maildrop_id, wanted.values())}
    refused = find_taken(wanted, known)
    for old in refused:
        del wanted[old]
    _give_ids(cursor, maildrop_id, [(old, new, present[old]) for old, new in wanted.items() if old != new])
    return refused


def _give_ids(cursor: Cursor, maildrop_id: int, changes: Sequence[tuple[bytes, bytes, int]]) -> None:
    """Change unique-ids: the old one, the new one, and the serial of each message."""
    if not changes:
        return
    changing = "UPDATE message SET unique_id = ? WHERE maildrop_id = ? AND serial = ?"
    coming = {new for _, new, _ in changes}
    between = [(b"\0%d" % serial, maildrop_id, serial) for old, _, serial in changes if old in coming]
    if between:     # messages that swap their ids: no two may have the same one in between
        cursor.executemany(changing, between)
    cursor.executemany(changing, [(new, maildrop_id, serial) for _, new, serial in changes])
    # An import brings none of the new ones any more, also when their messages are removed.
    known: list[tuple[int, bytes, bytes | None]] = [(maildrop_id, new, new) for new in coming]
    known += [(maildrop_id, old, None) for old, _, _ in changes if old not in coming]
    cursor.executemany("INSERT INTO imported (maildrop_id, unique_id, identity) VALUES (?, ?, ?)"
                       " ON CONFLICT DO NOTHING", known)
    cursor.execute("UPDATE maildrop SET change = change + 1 WHERE id = ?", (maildrop_id,))
