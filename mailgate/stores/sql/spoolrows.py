"""What is remembered of mail in files of other programs: its rows, as functions of a cursor.

A row holds what is remembered of many messages, those whose names have one checksum: 100,000 of them are
loaded as a thousand rows. The functions that change something run inside a transaction that the caller
began; `pack` and `unpack` do the long work, outside of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from zlib import crc32

from mailgate.errors import MailgateError, NoSuchRecipient
from mailgate.model import Envelope, Note
from mailgate.stores.sql.cursor import Cursor
from mailgate.stores.sql.leases import (
    NOW_MS,
    Lease,
    make_maildrop,
    refuse_if_held,
    relies_on_lease,
    still_holds,
)
from mailgate.stores.sql.messages import find_maildrop, remove_maildrop

ROWS = 1024             # of one folder, at most, and of each kind
KNOWN, NOTES = b"k", b"n"       # kinds: what spools asked to remember, and what the store notes
IDS_AT_ONCE = 500       # unique-ids in a statement
CLEANED_AT_ONCE = 256   # more messages that are gone are left to the next scan, which forgets them outside

_LENGTHS = struct.Struct(">HI")
_NOTE = struct.Struct(">BBHHHq")    # octets of unique-id; what is known; user, sender, recipient; time
_HAS_USER, _HAS_ENVELOPE = 1, 2

Entries = Mapping[bytes, bytes]


class Loaded(NamedTuple):
    """What is remembered of one folder, as it was read."""

    maildrop_id: int
    change: int                                 # the maildrop's change counter before the rest was read
    rows: list[tuple[bytes, bytes]]             # (name, data) of the folder
    journal: tuple[bytes, str | None] | None    # as stored


class Copy(NamedTuple):
    """One placement, in the form of the database's keys."""

    maildrop_key: str
    maildrop: str
    recipient: bytes
    account: bool | None
    identity: bytes | None
    folder: str
    note: Note


# Rows of many messages ------------------------------------------------------------------------


def prefix(folder: str, kind: bytes = b"") -> bytes:
    """Return how the names of a folder's rows begin. Folders' names have no control characters."""
    return folder.encode() + b"\0" + kind


def row_of(name: bytes) -> bytes:
    """Return the last part of the name of the row in which a message is remembered."""
    return b"%03x" % (crc32(name) % ROWS)


def pack(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return what is remembered of some messages as one row has it."""
    lengths = _LENGTHS.pack
    return b"".join([part for name, data in entries for part in (lengths(len(name), len(data)), name, data)])


def unpack(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give names, and what is remembered under them, of one row."""
    at, end, read = 0, len(data), _LENGTHS.unpack_from
    while at < end:
        name_octets, data_octets = read(data, at)
        name_end = at + 6 + name_octets
        yield data[at + 6:name_end], data[name_end:(at := name_end + data_octets)]


def pack_note(note: Note) -> bytes:
    """Return a note as octets."""
    unique_id, user = note.unique_id or b"", (note.user or "").encode("utf-8", "surrogateescape")
    sender, recipient, arrived_ms = note.envelope or (b"", b"", 0)
    known = (_HAS_USER if note.user is not None else 0) | (_HAS_ENVELOPE if note.envelope is not None else 0)
    return _NOTE.pack(len(unique_id), known, len(user), len(sender), len(recipient),
                      arrived_ms) + unique_id + user + sender + recipient


def unpack_note(data: bytes) -> Note:
    """Return a note of `pack_note`."""
    id_octets, known, user_octets, sender_octets, recipient_octets, arrived_ms = _NOTE.unpack_from(data)
    ends, at = [], _NOTE.size
    for octets in (id_octets, user_octets, sender_octets, recipient_octets):
        ends.append(data[at:(at := at + octets)])
    unique_id, user, sender, recipient = ends
    return Note(unique_id or None,
                Envelope(sender, recipient, arrived_ms) if known & _HAS_ENVELOPE else None,
                user.decode("utf-8", "surrogateescape") if known & _HAS_USER else None)


def rows_changed(folder: str, kind: bytes, before: Entries, after: Entries) -> list[tuple[bytes, bytes]]:
    """Return the rows, by whole name, that differ between two states of a folder; empty: there is none."""
    changed = {row_of(name) for name in before.keys() - after.keys()}
    changed.update(row_of(name) for name, data in after.items() if before.get(name) != data)
    if not changed:
        return []
    rows: dict[bytes, list[tuple[bytes, bytes]]] = {row: [] for row in changed}
    for item in after.items():
        row = row_of(item[0])
        if row in rows:
            rows[row].append(item)
    start = prefix(folder, kind)
    return [(start + row, pack(entries)) for row, entries in rows.items()]


# Reading and changing ---------------------------------------------------------------------------


def load(cursor: Cursor, maildrop_id: int, folder: str) -> Loaded | None:
    """Return what is remembered of a folder; None, if there is no such maildrop.

    The counter is read first: what is newer than it says is at worst read again.
    """
    row = cursor.execute("SELECT change FROM maildrop WHERE id = ?", (maildrop_id,)).fetchone()
    if row is None:
        return None
    start = prefix(folder)
    cursor.execute("SELECT name, data FROM spool_entry WHERE maildrop_id = ? AND name >= ? AND name < ?",
                   (maildrop_id, start, start[:-1] + b"\1"))
    rows = cursor.fetchall()
    return Loaded(maildrop_id, row[0], rows, journal_of(cursor, maildrop_id))


def load_by_key(cursor: Cursor, key: str, folder: str) -> Loaded | None:
    """Do what `load` does for the maildrop of a key."""
    maildrop_id = find_maildrop(cursor, key)
    return None if maildrop_id is None else load(cursor, maildrop_id, folder)


def journal_of(cursor: Cursor, maildrop_id: int) -> tuple[bytes, str | None] | None:
    """Return a maildrop's journal as stored, with the key of its blob; None if there is none."""
    row = cursor.execute("SELECT data, blob_key FROM spool_journal WHERE maildrop_id = ?",
                         (maildrop_id,)).fetchone()
    return None if row is None else (bytes(row[0]), row[1])


def replace(cursor: Cursor, maildrop_id: int, change: int, rows: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Write rows of a maildrop, if it is still as the counter says; return the next one, else None."""
    changed = cursor.execute("UPDATE maildrop SET change = change + 1 WHERE id = ? AND change = ?"
                             " RETURNING change", (maildrop_id, change)).fetchall()
    if not changed:
        return None
    _write(cursor, maildrop_id, rows)
    following: int = changed[0][0]
    return following


def amend(cursor: Cursor, maildrop_id: int, folder: str, kind: bytes,
          entries: Mapping[bytes, bytes | None]) -> None:
    """Remember something else of a few messages, or (None) nothing."""
    cursor.execute("UPDATE maildrop SET change = change + 1 WHERE id = ?", (maildrop_id,))
    if not cursor.rowcount:
        return      # removed meanwhile
    by_row: dict[bytes, dict[bytes, bytes | None]] = {}
    for name, data in entries.items():
        by_row.setdefault(prefix(folder, kind) + row_of(name), {})[name] = data
    rows = []
    for row_name, changes in by_row.items():
        row = cursor.execute("SELECT data FROM spool_entry WHERE maildrop_id = ? AND name = ?",
                             (maildrop_id, row_name)).fetchone()
        found = {**dict(unpack(bytes(row[0]) if row else b"")), **changes}
        rows.append((row_name, pack((name, data) for name, data in found.items() if data is not None)))
    _write(cursor, maildrop_id, rows)


def rename(cursor: Cursor, maildrop_id: int, folder: str, notes: Mapping[bytes, bytes],
           used: Sequence[bytes]) -> None:
    """Note other unique-ids; those that are used are never given to another message."""
    amend(cursor, maildrop_id, folder, NOTES, notes)
    if used:
        cursor.executemany("INSERT INTO imported (maildrop_id, unique_id, identity) VALUES (?, ?, ?)"
                           " ON CONFLICT DO NOTHING",
                           [(maildrop_id, unique_id, unique_id) for unique_id in used])


def used(cursor: Cursor, maildrop_id: int, ids: Sequence[bytes]) -> set[bytes]:
    """Return which of some unique-ids are, or were, noted or imported ones."""
    found: set[bytes] = set()
    for at in range(0, len(ids), IDS_AT_ONCE):
        some = ids[at:at + IDS_AT_ONCE]
        cursor.execute(f"SELECT unique_id FROM imported WHERE maildrop_id = ? AND unique_id IN"
                       f" ({','.join('?' * len(some))})", (maildrop_id, *some))
        found.update(bytes(unique_id) for (unique_id,) in cursor.fetchall())
    return found


def _write(cursor: Cursor, maildrop_id: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
    full, empty = [], []
    for name, data in rows:
        if data:
            full.append((maildrop_id, name, data))
        else:
            empty.append((maildrop_id, name))
    if full:
        cursor.executemany("INSERT INTO spool_entry (maildrop_id, name, data) VALUES (?, ?, ?)"
                           " ON CONFLICT (maildrop_id, name) DO UPDATE SET data = excluded.data", full)
    if empty:
        cursor.executemany("DELETE FROM spool_entry WHERE maildrop_id = ? AND name = ?", empty)


def know(cursor: Cursor, key: str, name: str) -> int:
    """Return the id of a maildrop, which is made if it is missing."""
    maildrop_id = find_maildrop(cursor, key)
    return make_maildrop(cursor, key, name) if maildrop_id is None else maildrop_id


def note(cursor: Cursor, key: str, name: str, folder: str, notes: Mapping[bytes, bytes],
         known: Mapping[bytes, bytes]) -> None:
    """Note what is known of messages, packed, and what a spool wants to remember."""
    for kind, entries in ((NOTES, notes), (KNOWN, known)):
        if entries:
            amend(cursor, know(cursor, key, name), folder, kind, entries)


def rename_folders(cursor: Cursor, key: str, names: Mapping[str, str]) -> None:
    """Keep what is remembered of folders under other names."""
    maildrop_id = find_maildrop(cursor, key)
    if maildrop_id is None:
        return
    moved = []
    for old, new in names.items():
        start = prefix(old)
        where = (maildrop_id, start, start[:-1] + b"\1")
        cursor.execute("SELECT name, data FROM spool_entry WHERE maildrop_id = ? AND name >= ? AND name < ?",
                       where)
        moved += [(prefix(new) + bytes(name)[len(start):], bytes(data)) for name, data in cursor.fetchall()]
        cursor.execute("DELETE FROM spool_entry WHERE maildrop_id = ? AND name >= ? AND name < ?", where)
    cursor.execute("UPDATE maildrop SET change = change + 1 WHERE id = ?", (maildrop_id,))
    _write(cursor, maildrop_id, moved)


# Removals ---------------------------------------------------------------------------------------


@relies_on_lease
def decide(cursor: Cursor, lease: Lease, journal: bytes,
           blob_key: str | None) -> tuple[bytes, str | None] | None:
    """Write a removal down; return the journal that is in its way, if there is one. Raises: LeaseLost."""
    still_holds(cursor, lease)
    other = journal_of(cursor, lease.maildrop_id)
    if other is None:
        cursor.execute("INSERT INTO spool_journal (maildrop_id, data, blob_key) VALUES (?, ?, ?)",
                       (lease.maildrop_id, journal, blob_key))
    return other


def carried_out(cursor: Cursor, maildrop_id: int, folder: str, journal: bytes,
                gone: Mapping[bytes, None]) -> None:
    """Forget a journal, if it is still that one, and the messages that went with it."""
    cursor.execute("DELETE FROM spool_journal WHERE maildrop_id = ? AND data = ?", (maildrop_id, journal))
    if 0 < len(gone) <= CLEANED_AT_ONCE:
        for kind in (KNOWN, NOTES):
            amend(cursor, maildrop_id, folder, kind, gone)


def forget(cursor: Cursor, key: str) -> None:
    """Remove all that is known of a maildrop, if there is one. Raises: MaildropInUse."""
    maildrop_id = find_maildrop(cursor, key)
    if maildrop_id is not None:
        refuse_if_held(cursor, maildrop_id)
        remove_maildrop(cursor, maildrop_id)


# Deliveries -------------------------------------------------------------------------------------


def accept(cursor: Cursor, copies: Iterable[Copy], delivery_id: str | None) -> list[bool | MailgateError]:
    """Return of each copy whether it is to be written: False if it was before; or why it must not be."""
    answers: list[bool | MailgateError] = []
    seen: set[tuple[str, bytes]] = set()
    for copy in copies:
        cursor.execute("""
            SELECT (SELECT id FROM maildrop WHERE key = :key),
                   EXISTS (SELECT 1 FROM account WHERE key = :key),
                   EXISTS (SELECT 1 FROM account_key WHERE key = :key)
            FROM (SELECT 1) AS one""", {"key": copy.maildrop_key})
        maildrop_id, is_account, is_taken = cursor.fetchone()
        if copy.account is not None and not (is_account if copy.account else not is_taken):
            answers.append(NoSuchRecipient(f"maildrop {copy.maildrop} has changed hands"))
            continue
        twice = copy.identity is not None and (copy.maildrop_key, copy.identity) in seen
        if copy.identity is not None:
            seen.add((copy.maildrop_key, copy.identity))
        answers.append(not (twice or _was_written(cursor, maildrop_id, copy, delivery_id)))
    return answers


def _was_written(cursor: Cursor, maildrop_id: int | None, copy: Copy, delivery_id: str | None) -> bool:
    if maildrop_id is None:
        return False
    cursor.execute("""
        SELECT EXISTS (SELECT 1 FROM delivery
                       WHERE maildrop_id = :maildrop AND id = :delivery AND recipient = :recipient)
            OR EXISTS (SELECT 1 FROM imported WHERE maildrop_id = :maildrop AND identity = :identity)
        """, {"maildrop": maildrop_id, "identity": copy.identity, "delivery": delivery_id,
              "recipient": copy.recipient})
    return bool(cursor.fetchone()[0])


def delivered(cursor: Cursor, copy: Copy, delivery_id: str | None, fresh_id: bytes,
              name: bytes | None) -> None:
    """Remember that a message was written, under a name if one is known.

    Done again it writes the delivery's time at least, so that its commit waits for the replicas, too.
    """
    maildrop_id = know(cursor, copy.maildrop_key, copy.maildrop)
    if delivery_id is not None:
        cursor.execute(f"INSERT INTO delivery (maildrop_id, id, recipient, at_ms) VALUES (?, ?, ?, {NOW_MS})"
                       " ON CONFLICT (maildrop_id, id, recipient) DO UPDATE SET at_ms = excluded.at_ms",
                       (maildrop_id, delivery_id, copy.recipient))
    note = copy.note
    if note.unique_id is not None:
        taken = cursor.execute("SELECT EXISTS (SELECT 1 FROM imported WHERE maildrop_id = ?"
                               " AND unique_id = ?)", (maildrop_id, note.unique_id)).fetchone()[0]
        note = note._replace(unique_id=fresh_id if taken else note.unique_id)
    if copy.identity is not None:
        cursor.execute("INSERT INTO imported (maildrop_id, unique_id, identity) VALUES (?, ?, ?)"
                       " ON CONFLICT DO NOTHING",
                       (maildrop_id, note.unique_id or fresh_id, copy.identity))
    if name is not None:
        amend(cursor, maildrop_id, copy.folder, NOTES, {name: pack_note(note)})
