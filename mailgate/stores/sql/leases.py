"""Who may read and empty a maildrop: the SQL of holders and leases, as functions of a cursor.

Every one runs inside a transaction that the caller began. Time is the database's clock.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple, TypeVar

from mailgate.errors import LeaseLost, LoginRefused, LoginTooSoon, MaildropInUse, StaleCredential
from mailgate.stores.account_changes import USE_NOTED_MS
from mailgate.stores.sql.cursor import Cursor

NOW_MS = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
HOLDER_ID_OCTETS = 16
DEAD = f"NOT EXISTS (SELECT 1 FROM holder WHERE holder.id = lease.holder AND holder.expires_ms > {NOW_MS})"

# What is in a newcomer's way. No holder lives for longer than its lease from now on: one that claims two of
# them wrote so before the clock was set back, and may have died since. A step of less than a lease takes
# nothing from the living, and of its own holder (:holder) a process knows that it lives.
HELD = f"""EXISTS (SELECT 1 FROM holder WHERE holder.id = lease.holder AND holder.expires_ms > {NOW_MS}
    AND (holder.id = :holder OR holder.lease_ms IS NULL
         OR holder.expires_ms <= {NOW_MS} + 2 * holder.lease_ms))"""

# Views exclude each other when they are the same or one is the whole maildrop (the empty view).
OVERLAP = "(lease.view = :view OR lease.view = '' OR :view = '')"

RELYING: set[Callable[..., object]] = set()     # see `relies_on_lease`
Operation = TypeVar("Operation", bound=Callable[..., object])


class Lease(NamedTuple):
    """One session's right to a view of a maildrop, as its row has it."""

    maildrop_id: int
    view: str               # empty: the whole maildrop
    session: str            # random


class Wanted(NamedTuple):
    """What an admission asks for, in the form of the database's keys."""

    maildrop_key: str
    maildrop: str
    view: str               # empty: the whole maildrop
    account_key: str | None
    version: int | None
    delay_ms: int           # least time since the last login to this view
    app_password_key: str | None = None     # the app password whose use is to be noted
    used_from: str | None = None            # and from where
    judged: bool = False                    # by another store's accounts: this one's do not count


class Admitted(NamedTuple):
    """What a session has once its lease is taken."""

    lease: Lease
    change: int             # the maildrop's change counter


class Holder:
    """This process's row, which its leases point at. Only the writer's thread touches it.

    A holder that expired is never renewed; the next session gets a new one. If the transaction
    that made a row is undone, the id names no row, and that is found as if it had expired. Every id
    begins with `process`, if it is given.
    """

    def __init__(self, lease_seconds: float, process: str = "") -> None:
        self.lease_ms = int(lease_seconds * 1000)
        self.process = process
        self.id = ""            # none yet


_LOOK = f"""
    SELECT maildrop.id, maildrop.change, account.version, account.disabled,
           (SELECT at_ms FROM login WHERE maildrop_id = maildrop.id AND view = :view),
           EXISTS (SELECT 1 FROM lease WHERE maildrop_id = maildrop.id AND {OVERLAP}),
           EXISTS (SELECT 1 FROM holder WHERE id = :holder AND expires_ms > {NOW_MS}),
           :account IS NULL AND EXISTS (SELECT 1 FROM account_key WHERE key = :maildrop),
           {NOW_MS}
    FROM (SELECT 1) AS one
    LEFT JOIN maildrop ON maildrop.key = :maildrop
    LEFT JOIN account ON account.key = :account
"""


def take(cursor: Cursor, holder: Holder, wanted: Wanted, session: str) -> Admitted:
    """Verify an admission and take the lease of its view; make the maildrop if there is none.

    Raises: StaleCredential, LoginRefused, MaildropInUse, LoginTooSoon.
    """
    cursor.execute(_LOOK, {"view": wanted.view, "holder": holder.id, "maildrop": wanted.maildrop_key,
                           "account": wanted.account_key})
    maildrop_id, change, version, disabled, last_ms, held, alive, fenced, now_ms = cursor.fetchone()
    if fenced and not wanted.judged:
        raise LoginRefused(f"{wanted.maildrop!r} is an account's; another checker vouched for it")
    if wanted.account_key is not None and (version is None or disabled or version != wanted.version):
        raise StaleCredential(f"account {wanted.account_key}")
    if held:
        _drop_dead(cursor, maildrop_id, wanted.view, holder.id)
    if last_ms is not None and 0 <= now_ms - last_ms < wanted.delay_ms:
        raise LoginTooSoon(f"maildrop {wanted.maildrop}")
    if maildrop_id is None:
        maildrop_id, change = make_maildrop(cursor, wanted.maildrop_key, wanted.maildrop), 0
    if not alive:
        _new_holder(cursor, holder)
    cursor.execute("INSERT INTO lease (maildrop_id, view, session, holder) VALUES (?, ?, ?, ?)",
                   (maildrop_id, wanted.view, session, holder.id))
    cursor.execute("INSERT INTO login (maildrop_id, view, at_ms) VALUES (?, ?, ?)"
                   " ON CONFLICT (maildrop_id, view) DO UPDATE SET at_ms = excluded.at_ms",
                   (maildrop_id, wanted.view, now_ms))
    if wanted.app_password_key is not None:
        _note_use(cursor, wanted, now_ms)
    return Admitted(Lease(maildrop_id, wanted.view, session), change)


def hold(cursor: Cursor, holder: Holder, maildrop_id: int, session: str) -> Lease:
    """Take the lease of a whole maildrop for upkeep: nobody logs in. Raises: MaildropInUse."""
    refuse_if_held(cursor, maildrop_id)
    cursor.execute(f"SELECT count(*) FROM holder WHERE id = ? AND expires_ms > {NOW_MS}", (holder.id,))
    if not cursor.fetchone()[0]:
        _new_holder(cursor, holder)
    lease = Lease(maildrop_id, "", session)
    cursor.execute("INSERT INTO lease (maildrop_id, view, session, holder) VALUES (?, ?, ?, ?)",
                   (*lease, holder.id))
    return lease


def _note_use(cursor: Cursor, wanted: Wanted, now_ms: int) -> None:
    """Note that an app password was used, unless that was done a moment ago for the same address."""
    cursor.execute("""
        UPDATE app_password SET last_used_ms = :now, last_used_from = :used_from
        WHERE account_id = (SELECT id FROM account WHERE key = :account) AND key = :label
        AND (last_used_ms IS NULL OR last_used_from IS NOT :used_from
             OR last_used_ms NOT BETWEEN :now - :period + 1 AND :now)""",
                   {"now": now_ms, "used_from": wanted.used_from, "account": wanted.account_key,
                    "label": wanted.app_password_key, "period": USE_NOTED_MS})


def make_maildrop(cursor: Cursor, key: str, name: str) -> int:
    """Make an empty maildrop and return its id."""
    cursor.execute("INSERT INTO maildrop (key, name) VALUES (?, ?) RETURNING id", (key, name))
    row_id: int = cursor.fetchall()[0][0]
    return row_id


def _drop_dead(cursor: Cursor, maildrop_id: int, view: str, holder_id: str = "") -> None:
    """Delete the expired leases that overlap a view. Raises: MaildropInUse, if a living one does."""
    row = {"maildrop": maildrop_id, "view": view, "holder": holder_id}
    cursor.execute(f"DELETE FROM lease WHERE maildrop_id = :maildrop AND {OVERLAP} AND NOT {HELD}", row)
    cursor.execute(f"SELECT count(*) FROM lease WHERE maildrop_id = :maildrop AND {OVERLAP}", row)
    if cursor.fetchone()[0]:
        raise MaildropInUse(f"maildrop {maildrop_id}, view {view!r}")


def refuse_if_seen(cursor: Cursor, maildrop_id: int, users: Collection[str | None]) -> None:
    """Raise MaildropInUse if a living session's view shows messages for some users (keys)."""
    row = {"maildrop": maildrop_id, "view": "", "holder": ""}
    cursor.execute(f"DELETE FROM lease WHERE maildrop_id = :maildrop AND {OVERLAP} AND NOT {HELD}", row)
    cursor.execute("SELECT view FROM lease WHERE maildrop_id = ?", (maildrop_id,))
    if users and any(view == "" or view in users for (view,) in cursor.fetchall()):
        raise MaildropInUse(f"maildrop {maildrop_id}")


def refuse_if_held(cursor: Cursor, maildrop_id: int) -> None:
    """Delete a maildrop's expired leases. Raises: MaildropInUse, if a living one is left."""
    _drop_dead(cursor, maildrop_id, "")


def relies_on_lease(operation: Operation) -> Operation:
    """Mark an operation on a Lease that must be committed before the lease runs out, or not at all.

    Where nobody else can write between its look at the lease and its commit, that look is enough.
    """
    RELYING.add(operation)
    return operation


def still_holds(cursor: Cursor, lease: Lease) -> None:
    """Raise LeaseLost unless a lease is there and alive, in the transaction that relies on it."""
    cursor.execute(f"SELECT count(*) FROM lease WHERE maildrop_id = ? AND view = ? AND session = ?"
                   f" AND NOT {DEAD}", lease)
    if not cursor.fetchone()[0]:
        raise LeaseLost(f"maildrop {lease.maildrop_id}, view {lease.view!r}")


def release(cursor: Cursor, lease: Lease) -> None:
    """Give up a lease; one that is gone is no error."""
    cursor.execute("DELETE FROM lease WHERE maildrop_id = ? AND view = ? AND session = ?", lease)


def release_sessions(cursor: Cursor, sessions: Iterable[str]) -> None:
    """Give up leases that may never have been taken. Looks through all leases: for the rare case."""
    cursor.executemany("DELETE FROM lease WHERE session = ?", [(session,) for session in sessions])


def renew(cursor: Cursor, holder: Holder) -> None:
    """Keep this process's holder alive: one write, however many sessions point at it.

    One that has expired stays dead, and its leases go with it.
    """
    if not holder.id:
        return
    cursor.execute(f"UPDATE holder SET expires_ms = {NOW_MS} + ? WHERE id = ? AND expires_ms > {NOW_MS}",
                   (holder.lease_ms, holder.id))
    if not cursor.rowcount:
        drop_holder(cursor, holder)


def drop_holder(cursor: Cursor, holder: Holder) -> None:
    """Give up every lease of this process."""
    cursor.execute("DELETE FROM lease WHERE holder = ?", (holder.id,))
    cursor.execute("DELETE FROM holder WHERE id = ?", (holder.id,))
    holder.id = ""


def drop_process(cursor: Cursor, process: str) -> None:
    """Give up every lease of another process, which is dead for certain. Looks through all leases."""
    for table, column in (("lease", "holder"), ("holder", "id")):
        cursor.execute(f"DELETE FROM {table} WHERE substr({column}, 1, length(:word)) = :word",
                       {"word": process})


def _new_holder(cursor: Cursor, holder: Holder) -> None:
    if holder.id:
        drop_holder(cursor, holder)
    holder.id = holder.process + secrets.token_hex(HOLDER_ID_OCTETS)
    cursor.execute(f"INSERT INTO holder (id, expires_ms, lease_ms) VALUES (:id, {NOW_MS} + :lease, :lease)",
                   {"id": holder.id, "lease": holder.lease_ms})


def sweep_dead(cursor: Cursor) -> None:
    """Delete every expired holder and lease."""
    cursor.execute(f"DELETE FROM holder WHERE expires_ms <= {NOW_MS}")
    cursor.execute(f"DELETE FROM lease WHERE {DEAD}")
