"""Messages and their bodies: the SQL of reading, placing and removing, as functions of a cursor.

A changing function runs inside a transaction that the caller began. Lists of serials go in as
JSON, so that one statement (and one pass of the interpreter lock) does for any number.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mailgate.errors import NoSuchRecipient, OverQuota, StoreUnavailable
from mailgate.model import EMPTY_LISTING, Envelope, ScanListing
from mailgate.stores.sql.cursor import Cursor
from mailgate.stores.sql.leases import (
    NOW_MS,
    Lease,
    make_maildrop,
    refuse_if_held,
    release,
    relies_on_lease,
    still_holds,
)

INBOX = "folder = 'INBOX'"
SERIALS = "maildrop_id = ? AND serial IN (SELECT value FROM json_each(?))"
BURIED_OCTETS = 1024 * 1024     # of bodies in rows that one transaction may free
MOST_BURIED = 1024              # bodies that one such transaction looks at


class Snapshot:
    """One state of one view: the listing that sessions share, and what finds the rows again."""

    __slots__ = ("listing", "serials", "change")

    def __init__(self, listing: ScanListing, serials: array[int], change: int) -> None:
        self.listing = listing
        self.serials = serials      # array('Q'), by index
        self.change = change


class StoredBody(NamedTuple):
    """One message's row with its body, or with the key under which the blob store has it."""

    preamble: bytes
    head_octets: int            # of the body in wire form: the header with its blank line
    wire_octets: int
    key: str | None
    data: bytes | None          # None: in the blob store; only the header, if no more was asked for


class NewBody(NamedTuple):
    """A body that is to be stored."""

    octets: int
    wire_octets: int
    head_octets: int
    key: str | None
    data: bytes | None


class NewCopy(NamedTuple):
    """One recipient's copy that is to be stored."""

    maildrop_key: str
    maildrop: str
    octets: int                 # preamble and body
    unique_id: bytes            # a fresh one
    old_id: bytes | None        # an old server's, to be kept unless the maildrop has or had it
    identity: bytes | None      # what tells an imported message from all others
    user_key: str | None
    envelope: Envelope
    preamble: bytes
    account: bool | None        # see Placement
    folder: str
    flags: str


class Delivered(NamedTuple):
    """The outcomes of a delivery, one a copy; `body_used` tells whether any row names the body."""

    outcomes: list[Exception | None]
    body_used: bool


def text(name: str) -> str:
    """Return a name as the database can hold it: octets that were no UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


# Reading ------------------------------------------------------------------------------------


def load_snapshot(cursor: Cursor, maildrop_id: int, view: str) -> Snapshot:
    """Return the present state of a view (empty: the whole maildrop).

    The rows come as three long strings: the database makes them without the interpreter lock, where
    100,000 rows would take it twice each.
    """
    index, only = ("message_user", "AND user_key = :view") if view else ("message_listing", "")
    cursor.execute(f"""
        SELECT coalesce((SELECT change FROM maildrop WHERE id = :maildrop), 0),
               group_concat(serial, ','), group_concat(octets, ','), group_concat(unique_id, ' ')
        FROM (SELECT serial, octets, unique_id FROM message INDEXED BY {index}
              WHERE maildrop_id = :maildrop {only} AND {INBOX} ORDER BY serial) AS listed""",
                   {"maildrop": maildrop_id, "view": view})
    change, serials, sizes, unique_ids = cursor.fetchall()[0]
    if serials is None:
        return Snapshot(EMPTY_LISTING, array("Q"), change)
    return Snapshot(ScanListing(_unpack(sizes), unique_ids.encode().split(b" ")), _unpack(serials), change)


def _unpack(numbers: str) -> array[int]:
    return array("Q", json.loads(f"[{numbers}]"))       # half the price of a split and an int() each


def read_bodies(cursor: Cursor, maildrop_id: int, serials: Sequence[int],
                heads_only: bool) -> dict[int, StoredBody]:
    """Return the bodies of some messages by serial; those that vanished are left out."""
    data = "ifnull(substr(data, 1, head_octets), x'')" if heads_only else "data"
    cursor.execute(f"""
        SELECT serial, preamble, head_octets, wire_octets, key, CASE WHEN key IS NULL THEN {data} END
        FROM message JOIN body ON body.id = body_id
        WHERE maildrop_id = ? AND serial IN ({",".join("?" * len(serials))})""", (maildrop_id, *serials))
    return {row[0]: StoredBody(*row[1:]) for row in cursor.fetchall()}


def read_envelopes(cursor: Cursor, maildrop_id: int, serials: Sequence[int]) -> dict[int, Envelope]:
    """Return the envelopes of some messages by serial; those that vanished are left out."""
    cursor.execute(f"""
        SELECT serial, sender, recipient, arrived_ms FROM message
        WHERE maildrop_id = ? AND serial IN ({",".join("?" * len(serials))})""", (maildrop_id, *serials))
    return {row[0]: Envelope(*row[1:]) for row in cursor.fetchall()}


# Placing ------------------------------------------------------------------------------------


class _Drop:
    """A maildrop while a delivery looks at it."""

    __slots__ = ("row_id", "octets", "next_serial", "is_account", "is_taken", "copies", "known")

    def __init__(self, row_id: int | None, octets: int, next_serial: int, is_account: int,
                 is_taken: int) -> None:
        self.row_id = row_id        # None: there is none yet
        self.octets = octets
        self.next_serial = next_serial
        self.is_account = is_account    # an account has this name
        self.is_taken = is_taken        # or answers to it
        self.copies: list[NewCopy] = []     # to be stored
        self.known: list[NewCopy] = []      # stored before

    def is_as_said(self, copy: NewCopy) -> bool:
        """Return whether the maildrop is whose it was when the recipient was accepted."""
        return copy.account is None or bool(self.is_account if copy.account else not self.is_taken)


def place(cursor: Cursor, body: NewBody, copies: Sequence[NewCopy], all_or_nothing: bool,
          delivery_id: str | None, quota_octets: int | None) -> Delivered:
    """Store one body and its copies in every maildrop that takes them."""
    drops: dict[str, _Drop] = {}
    outcomes: list[Exception | None] = []
    for copy in copies:
        drop = drops.get(copy.maildrop_key)
        if drop is None:
            drop = drops[copy.maildrop_key] = _look_up(cursor, copy.maildrop_key)
        if not drop.is_as_said(copy):
            outcomes.append(NoSuchRecipient(f"maildrop {copy.maildrop} has changed hands"))
        elif _is_known(cursor, drop, copy, delivery_id):
            outcomes.append(None)
            drop.known.append(copy)
        elif quota_octets is not None and drop.octets + copy.octets > quota_octets:
            outcomes.append(OverQuota(f"maildrop {copy.maildrop}"))
        else:
            outcomes.append(None)
            drop.copies.append(_with_old_id(cursor, drop, copy))
            drop.octets += copy.octets
    if all_or_nothing and any(outcomes):
        other = StoreUnavailable("another recipient's copy was refused")
        return Delivered([outcome or other for outcome in outcomes], False)
    refs = sum(len(drop.copies) for drop in drops.values())
    if refs:
        _insert(cursor, body, refs, drops)
    for drop in drops.values():
        _note_reached(cursor, drop, delivery_id)
    return Delivered(outcomes, refs > 0)


def _look_up(cursor: Cursor, key: str) -> _Drop:
    cursor.execute("""
        SELECT maildrop.id, ifnull(octets, 0), ifnull(next_serial, 1),
               EXISTS (SELECT 1 FROM account WHERE key = :key),
               EXISTS (SELECT 1 FROM account_key WHERE key = :key)
        FROM (SELECT 1) AS one LEFT JOIN maildrop ON maildrop.key = :key""", {"key": key})
    return _Drop(*cursor.fetchone())


def _is_known(cursor: Cursor, drop: _Drop, copy: NewCopy, delivery_id: str | None) -> bool:
    """Return whether this copy was placed before, by an earlier delivery or by this one."""
    if copy.identity is not None and any(other.identity == copy.identity for other in drop.copies):
        return True
    if drop.row_id is None or (copy.identity is None and delivery_id is None):
        return False
    row = {"maildrop": drop.row_id, "identity": copy.identity,
           "delivery": delivery_id, "recipient": copy.envelope.recipient}
    cursor.execute("""
        SELECT EXISTS (SELECT 1 FROM delivery
                       WHERE maildrop_id = :maildrop AND id = :delivery AND recipient = :recipient)
            OR EXISTS (SELECT 1 FROM imported WHERE maildrop_id = :maildrop AND identity = :identity)
        """, row)
    return bool(cursor.fetchone()[0])


def _with_old_id(cursor: Cursor, drop: _Drop, copy: NewCopy) -> NewCopy:
    """Return a copy with the id of the old server, if no other message has it or had it."""
    if copy.old_id is None or any(other.unique_id == copy.old_id for other in drop.copies):
        return copy
    cursor.execute("""
        SELECT EXISTS (SELECT 1 FROM imported WHERE maildrop_id = :maildrop AND unique_id = :unique_id)
            OR EXISTS (SELECT 1 FROM message WHERE maildrop_id = :maildrop AND unique_id = :unique_id)
        """, {"maildrop": drop.row_id, "unique_id": copy.old_id})
    return copy if cursor.fetchone()[0] else copy._replace(unique_id=copy.old_id)


def _insert(cursor: Cursor, body: NewBody, refs: int, drops: dict[str, _Drop]) -> None:
    cursor.execute("INSERT INTO body (refs, octets, wire_octets, head_octets, key, data)"
                   " VALUES (?, ?, ?, ?, ?, ?) RETURNING id", (refs, *body))
    body_id = cursor.fetchall()[0][0]
    for key, drop in sorted(drops.items()):     # in one order everywhere: so nobody waits for each other
        if not drop.copies:
            continue
        if drop.row_id is None:
            drop.row_id = make_maildrop(cursor, key, drop.copies[0].maildrop)
        cursor.executemany(
            "INSERT INTO message (maildrop_id, serial, octets, unique_id, user_key, body_id, folder, flags,"
            " arrived_ms, sender, recipient, preamble) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(drop.row_id, serial, copy.octets, copy.unique_id, copy.user_key, body_id, copy.folder,
              copy.flags, copy.envelope.arrived_ms, copy.envelope.sender, copy.envelope.recipient,
              copy.preamble)
             for serial, copy in enumerate(drop.copies, drop.next_serial)])
        folders = {copy.folder for copy in drop.copies}
        cursor.execute("UPDATE maildrop SET messages = messages + ?, octets = ?, change = change + ?,"
                       " next_serial = next_serial + ? WHERE id = ?",
                       (len(drop.copies), drop.octets, int("INBOX" in folders), len(drop.copies),
                        drop.row_id))
        make_folders(cursor, drop.row_id, folders)


def make_folders(cursor: Cursor, maildrop_id: int, names: Iterable[str]) -> None:
    """Make those of some folders that there are not."""
    rows = [(maildrop_id, name) for name in names if name != "INBOX"]
    if rows:
        cursor.executemany("INSERT INTO folder (maildrop_id, name) VALUES (?, ?)"
                           " ON CONFLICT (maildrop_id, name) DO NOTHING", rows)


def _note_reached(cursor: Cursor, drop: _Drop, delivery_id: str | None) -> None:
    """Remember whom a delivery reached, and what an import brought."""
    reached = drop.known + drop.copies
    if delivery_id is not None:
        cursor.executemany(
            f"INSERT INTO delivery (maildrop_id, id, recipient, at_ms) VALUES (?, ?, ?, {NOW_MS})"
            " ON CONFLICT (maildrop_id, id, recipient) DO UPDATE SET at_ms = excluded.at_ms",
            [(drop.row_id, delivery_id, copy.envelope.recipient) for copy in reached])
    imported = [(drop.row_id, copy.unique_id, copy.identity)
                for copy in drop.copies if copy.identity is not None]
    if imported:
        cursor.executemany("INSERT INTO imported (maildrop_id, unique_id, identity) VALUES (?, ?, ?)",
                           imported)


# Removing -----------------------------------------------------------------------------------


@relies_on_lease
def remove_marked(cursor: Cursor, lease: Lease, serials: Iterable[int]) -> None:
    """Remove what a session marked and give up its lease. Raises: LeaseLost, and nothing is removed."""
    still_holds(cursor, lease)
    remove_messages(cursor, lease.maildrop_id, serials)
    release(cursor, lease)


def remove_messages(cursor: Cursor, maildrop_id: int, serials: Iterable[int]) -> int:
    """Remove messages, and every body that no other message names; return how many there were.

    Where they are large, their bodies are left to `bury`: others want to write, too.
    """
    where = (maildrop_id, json.dumps(list(serials)))
    cursor.execute(f"SELECT body_id, octets FROM message WHERE {SERIALS}", where)
    rows = cursor.fetchall()
    if not rows:
        return 0
    cursor.execute(f"DELETE FROM message WHERE {SERIALS}", where)
    octets = sum(octets for _, octets in rows)
    counted = Counter(body_id for body_id, _ in rows)
    if octets > BURIED_OCTETS:
        cursor.executemany("INSERT INTO dropped_ref (body_id, refs) VALUES (?, ?)"
                           " ON CONFLICT (body_id) DO UPDATE SET refs = dropped_ref.refs + excluded.refs",
                           counted.items())
    else:
        for refs, body_ids in _by_count(counted).items():
            drop_refs(cursor, body_ids, refs)
    cursor.execute("UPDATE maildrop SET messages = messages - ?, octets = octets - ?, change = change + 1"
                   " WHERE id = ?", (len(rows), octets, maildrop_id))
    return len(rows)


def add_refs(cursor: Cursor, counted: Mapping[int, int]) -> None:
    """Add to bodies, by id, how many more messages name them."""
    for refs, body_ids in _by_count(counted).items():
        cursor.execute("UPDATE body SET refs = refs + ? WHERE id IN (SELECT value FROM json_each(?))",
                       (refs, json.dumps(body_ids)))


def drop_refs(cursor: Cursor, body_ids: list[int], refs: int) -> None:
    """Take some references from each of some bodies; remove those that have none left."""
    ids = json.dumps(body_ids)
    last = "id IN (SELECT value FROM json_each(?)) AND refs <= ?"
    cursor.execute(f"INSERT INTO removed_blob (key, at_ms) SELECT key, {NOW_MS} FROM body"
                   f" WHERE {last} AND key IS NOT NULL"
                   " ON CONFLICT (key) DO UPDATE SET at_ms = excluded.at_ms", (ids, refs))
    cursor.execute(f"DELETE FROM body WHERE {last}", (ids, refs))
    if cursor.rowcount < len(body_ids):
        cursor.execute("UPDATE body SET refs = refs - ? WHERE id IN (SELECT value FROM json_each(?))",
                       (refs, ids))


def bury(cursor: Cursor) -> bool:
    """Take up some of the references that large removals have left; return whether there are more."""
    cursor.execute("SELECT body_id, dropped_ref.refs, body.refs, wire_octets, key IS NULL"
                   " FROM dropped_ref JOIN body ON id = body_id LIMIT ?", (MOST_BURIED,))
    dropped: dict[int, list[int]] = {}
    octets = count = 0
    for body_id, refs, body_refs, wire_octets, inline in cursor:
        dropped.setdefault(refs, []).append(body_id)
        count += 1
        octets += wire_octets if inline and refs >= body_refs else 0
        if octets >= BURIED_OCTETS:
            break
    for refs, body_ids in dropped.items():
        cursor.execute("DELETE FROM dropped_ref WHERE body_id IN (SELECT value FROM json_each(?))",
                       (json.dumps(body_ids),))
        drop_refs(cursor, body_ids, refs)
    return count == MOST_BURIED or octets >= BURIED_OCTETS


def remove_maildrop(cursor: Cursor, maildrop_id: int) -> None:
    """Remove a maildrop and all that belongs to it."""
    cursor.execute("SELECT serial FROM message WHERE maildrop_id = ?", (maildrop_id,))
    remove_messages(cursor, maildrop_id, [serial for (serial,) in cursor.fetchall()])
    for table in ("lease", "login", "delivery", "imported", "folder", "spool_entry", "spool_journal"):
        cursor.execute(f"DELETE FROM {table} WHERE maildrop_id = ?", (maildrop_id,))
    cursor.execute("DELETE FROM maildrop WHERE id = ?", (maildrop_id,))


def remove_by_key(cursor: Cursor, key: str) -> None:
    """Remove a maildrop, if there is one. Raises: MaildropInUse."""
    maildrop_id = find_maildrop(cursor, key)
    if maildrop_id is not None:
        refuse_if_held(cursor, maildrop_id)
        remove_maildrop(cursor, maildrop_id)


def _by_count(counted: Mapping[int, int]) -> dict[int, list[int]]:
    """Return bodies by how often they occur: the copies of one delivery may lie in one maildrop."""
    by_count: dict[int, list[int]] = {}
    for body_id, count in counted.items():
        by_count.setdefault(count, []).append(body_id)
    return by_count


def find_maildrop(cursor: Cursor, key: str) -> int | None:
    """Return the id of a maildrop, or None."""
    row = cursor.execute("SELECT id FROM maildrop WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]
