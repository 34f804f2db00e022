"""What keeps a store over SQL tidy: retention, sweep and check, as functions of a cursor.

Those that look through whole tables are meant for a connection of their own, in a thread that
nobody waits for.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable

from mailgate.errors import StoreUnavailable
from mailgate.stores.sql.cursor import Cursor
from mailgate.stores.sql.leases import DEAD, NOW_MS, sweep_dead
from mailgate.stores.sql.messages import INBOX, remove_messages

DAY_MS = 86_400_000
DELIVERY_KEPT_MS = DAY_MS           # our own retries, and a mail server's after a lost reply, come sooner
VIEW_LOGIN_KEPT_MS = 30 * DAY_MS    # of single users of an SDPS host: any name is one, so they pile up
MOST_STEP_MS = 2 * DAY_MS           # of the clock between two rounds of retention: more is doubted ...
DOUBT_MS = 18 * 3_600_000           # ... until it has gone on for so long from there
MOST_FINDINGS = 20                  # of one kind


# Retention ----------------------------------------------------------------------------------


def now_ms(cursor: Cursor) -> int:
    """Return the time, in milliseconds since 1970, UTC."""
    now: int = cursor.execute(f"SELECT {NOW_MS}").fetchone()[0]
    return now


def doubt_clock(cursor: Cursor) -> int:
    """Return by how many milliseconds the clock is too far ahead to remove mail by it; 0 if it is not.

    It is doubted when it has made a step since the last round, and believed once most of a day has
    passed by it: time to mend a wrong one, or else the service was off for so long.
    """
    cursor.execute(f"SELECT {NOW_MS}, at_ms, doubted_ms FROM retention_clock")
    now_ms, at_ms, doubted_ms = cursor.fetchone()
    if now_ms > at_ms + MOST_STEP_MS:
        if doubted_ms is None or not 0 <= now_ms - doubted_ms <= MOST_STEP_MS:
            cursor.execute("UPDATE retention_clock SET doubted_ms = ?", (now_ms,))
            doubted_ms = now_ms
        if now_ms - doubted_ms < DOUBT_MS:
            ahead_ms: int = now_ms - at_ms
            return ahead_ms
    cursor.execute("UPDATE retention_clock SET at_ms = ?, doubted_ms = NULL", (now_ms,))
    return 0


def find_expired(cursor: Cursor, retention_ms: int) -> list[int]:
    """Return the maildrops whose INBOX has messages past the retention. Reads the whole table.

    What somebody filed in a folder stays: nobody is told of the retention there.
    """
    cursor.execute(f"SELECT DISTINCT maildrop_id FROM message WHERE arrived_ms < {NOW_MS} - ?"
                   f" AND {INBOX}", (retention_ms,))
    return [maildrop_id for (maildrop_id,) in cursor.fetchall()]


def expire(cursor: Cursor, maildrop_id: int, retention_ms: int) -> int:
    """Remove the messages of an INBOX that are past the retention and that no session sees."""
    cursor.execute(f"""
        SELECT serial FROM message WHERE maildrop_id = ? AND arrived_ms < {NOW_MS} - ? AND {INBOX}
        AND NOT EXISTS (SELECT 1 FROM lease WHERE lease.maildrop_id = message.maildrop_id
                        AND (lease.view = '' OR lease.view = message.user_key) AND NOT {DEAD})""",
                   (maildrop_id, retention_ms))
    return remove_messages(cursor, maildrop_id, [serial for (serial,) in cursor.fetchall()])


# Sweep --------------------------------------------------------------------------------------


def store_id(cursor: Cursor) -> str:
    """Return the id of the store: what its bodies belong to."""
    name: str = cursor.execute("SELECT id FROM store").fetchall()[0][0]
    return name


def see_owner(cursor: Cursor, owner: str | None) -> None:
    """Raise StoreUnavailable if blobs belong to another store: what it names is not known here."""
    own = store_id(cursor)
    if owner not in (None, own):
        raise StoreUnavailable(f"the bodies belong to another store: to {owner!r}, the database is {own!r}")


def find_removed_blobs(cursor: Cursor, owner: str | None, grace_ms: int) -> list[str]:
    """Return the keys of blobs that lost their body longer ago than the grace. Raises: as `see_owner`."""
    see_owner(cursor, owner)
    cursor.execute(f"SELECT key FROM removed_blob WHERE at_ms <= {NOW_MS} - ?", (grace_ms,))
    return [key for (key,) in cursor.fetchall()]


def find_unknown_blobs(cursor: Cursor, owner: str | None, keys: Collection[str]) -> list[str]:
    """Return those of some keys that no body, removal or journal names. Raises: as `see_owner`."""
    see_owner(cursor, owner)
    cursor.execute("""
        SELECT value FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM body WHERE key = value)
        AND NOT EXISTS (SELECT 1 FROM removed_blob WHERE key = value)
        AND NOT EXISTS (SELECT 1 FROM spool_journal WHERE blob_key = value)""", (json.dumps(list(keys)),))
    return [key for (key,) in cursor.fetchall()]


def forget(cursor: Cursor, removed_blobs: Iterable[str]) -> None:
    """Delete the rows of blobs that are gone, and every other row that has served its time."""
    cursor.execute("DELETE FROM removed_blob WHERE key IN (SELECT value FROM json_each(?))",
                   (json.dumps(list(removed_blobs)),))
    cursor.execute(f"DELETE FROM delivery WHERE at_ms < {NOW_MS} - {DELIVERY_KEPT_MS}")
    _forget_view_logins(cursor)
    sweep_dead(cursor)


def _forget_view_logins(cursor: Cursor) -> None:
    """Delete old logins to single views; the account's last login stays, as one to the whole maildrop."""
    old = f"view <> '' AND at_ms < {NOW_MS} - {VIEW_LOGIN_KEPT_MS}"
    cursor.execute(f"""
        INSERT INTO login (maildrop_id, view, at_ms)
        SELECT maildrop_id, '', max(at_ms) FROM login WHERE {old} GROUP BY maildrop_id
        ON CONFLICT (maildrop_id, view) DO UPDATE SET at_ms = excluded.at_ms
        WHERE excluded.at_ms > login.at_ms""")
    cursor.execute(f"DELETE FROM login WHERE {old}")


# Check --------------------------------------------------------------------------------------

_RELATIONS = {
    "body {} has a wrong count of messages": """
        SELECT body.id FROM body LEFT JOIN
            (SELECT body_id, count(*) AS refs FROM message GROUP BY body_id) AS found
            ON found.body_id = body.id
        LEFT JOIN dropped_ref ON dropped_ref.body_id = body.id
        WHERE body.refs <> ifnull(found.refs, 0) + ifnull(dropped_ref.refs, 0)""",
    "maildrop {}: message {} has no body": """
        SELECT maildrop_id, serial FROM message WHERE body_id NOT IN (SELECT id FROM body)""",
    "references were dropped of body {}, which is none": """
        SELECT body_id FROM dropped_ref WHERE body_id NOT IN (SELECT id FROM body)""",
    "maildrop {}: message {} has wrong octets": """
        SELECT maildrop_id, serial FROM message JOIN body ON body.id = body_id
        WHERE message.octets <> body.octets + length(preamble)""",
    "body {} is not as long as its row says": """
        SELECT id FROM body WHERE data IS NOT NULL AND length(data) <> wire_octets""",
    "maildrop {} ({}) has wrong counters": """
        SELECT id, name FROM maildrop LEFT JOIN
            (SELECT maildrop_id, count(*) AS messages, sum(octets) AS octets, max(serial) AS last
             FROM message GROUP BY maildrop_id) AS found ON found.maildrop_id = id
        WHERE maildrop.messages <> ifnull(found.messages, 0)
           OR maildrop.octets <> ifnull(found.octets, 0) OR next_serial <= ifnull(found.last, 0)""",
    "message rows name maildrop {}, which is none": """
        SELECT DISTINCT maildrop_id FROM message WHERE maildrop_id NOT IN (SELECT id FROM maildrop)""",
    "maildrop {}: message {} lies in a folder that is none": """
        SELECT maildrop_id, serial FROM message WHERE folder <> 'INBOX' AND NOT EXISTS
            (SELECT 1 FROM folder WHERE folder.maildrop_id = message.maildrop_id AND name = folder)""",
    "folders of maildrop {}, which is none": """
        SELECT DISTINCT maildrop_id FROM folder WHERE maildrop_id NOT IN (SELECT id FROM maildrop)""",
    "account {} does not answer to its own name": """
        SELECT name FROM account LEFT JOIN account_key ON account_key.key = account.key
        WHERE account_key.account_id IS NOT account.id""",
    "{} is a name of no account": """
        SELECT key FROM account_key WHERE account_id NOT IN (SELECT id FROM account)""",
    "{} is an app password of no account": """
        SELECT label FROM app_password WHERE account_id NOT IN (SELECT id FROM account)""",
}


def check(cursor: Cursor) -> list[str]:
    """Return what is wrong inside the database, one line a finding."""
    cursor.execute(f"PRAGMA quick_check({MOST_FINDINGS})")
    findings = [f"database: {line}" for (line,) in cursor.fetchall() if line != "ok"]
    if findings:
        return findings     # what tables say of one another means little then
    for words, query in _RELATIONS.items():
        cursor.execute(f"{query} LIMIT {MOST_FINDINGS}")
        findings += [words.format(*row) for row in cursor.fetchall()]
    return findings


def blob_keys(cursor: Cursor) -> dict[str, int]:
    """Return the key of every body in the blob store, with the body's id."""
    cursor.execute("SELECT key, id FROM body WHERE key IS NOT NULL")
    return dict(cursor.fetchall())
