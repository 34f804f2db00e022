"""Who may read and empty a maildrop: the SQL of holders and leases, as functions of a cursor.

Every one runs inside a transaction that the caller began. Time is the database's clock.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from sqlite3 import Cursor
from typing import NamedTuple

from mailgate.errors import LeaseLost, LoginRefused, LoginTooSoon, MaildropInUse, StaleCredential

NOW_MS = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
HOLDER_ID_OCTETS = 16
DEAD = f"NOT EXISTS (SELECT 1 FROM holder WHERE holder.id = lease.holder AND holder.expires_ms > {NOW_MS})"

# Views exclude each other when they are the same or one is the whole maildrop (the empty view).
OVERLAP = "(lease.view = :view OR lease.view = '' OR :view = '')"


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


class Admitted(NamedTuple):
    """What a session has once its lease is taken."""

    lease: Lease
    change: int             # the maildrop's change counter


class Holder:
    """This process's row, which its leases point at. Only the writer's thread touches it.

    A holder that expired is never renewed; the next session gets a new one. If the transaction
    that made a row is undone, the id names no row, and that is found as if it had expired.
    """

    def __init__(self, lease_seconds: float) -> None:
        self.lease_ms = int(lease_seconds * 1000)
        self.id = ""            # none yet


_LOOK = f"""
    SELECT maildrop.id, maildrop.change, account.version, account.disabled,
           (SELECT at_ms FROM login WHERE maildrop_id = maildrop.id AND view = :view),
           EXISTS (SELECT 1 FROM lease WHERE maildrop_id = maildrop.id AND {OVERLAP}),
           EXISTS (SELECT 1 FROM holder WHERE id = :holder AND expires_ms > {NOW_MS}),
           :account IS NULL AND EXISTS (SELECT 1 FROM account_key WHERE key = :maildrop),
           {NOW_MS}
    FROM (SELECT 1)
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
    if fenced:
        raise LoginRefused(f"{wanted.maildrop!r} is an account's; another checker vouched for it")
    if wanted.account_key is not None and (version is None or disabled or version != wanted.version):
        raise StaleCredential(f"account {wanted.account_key}")
    if held:
        _drop_dead(cursor, maildrop_id, wanted.view)
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
    return Admitted(Lease(maildrop_id, wanted.view, session), change)


def make_maildrop(cursor: Cursor, key: str, name: str) -> int:
    """Make an empty maildrop and return its id."""
    cursor.execute("INSERT INTO maildrop (key, name) VALUES (?, ?)", (key, name))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _drop_dead(cursor: Cursor, maildrop_id: int, view: str) -> None:
    """Delete the expired leases that overlap a view. Raises: MaildropInUse, if a living one does."""
    row = {"maildrop": maildrop_id, "view": view}
    cursor.execute(f"DELETE FROM lease WHERE maildrop_id = :maildrop AND {OVERLAP} AND {DEAD}", row)
    cursor.execute(f"SELECT count(*) FROM lease WHERE maildrop_id = :maildrop AND {OVERLAP}", row)
    if cursor.fetchone()[0]:
        raise MaildropInUse(f"maildrop {maildrop_id}, view {view!r}")


def refuse_if_held(cursor: Cursor, maildrop_id: int) -> None:
    """Delete a maildrop's expired leases. Raises: MaildropInUse, if a living one is left."""
    _drop_dead(cursor, maildrop_id, "")


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


def _new_holder(cursor: Cursor, holder: Holder) -> None:
    if holder.id:
        drop_holder(cursor, holder)
    holder.id = secrets.token_hex(HOLDER_ID_OCTETS)
    cursor.execute(f"INSERT INTO holder (id, expires_ms) VALUES (?, {NOW_MS} + ?)",
                   (holder.id, holder.lease_ms))


def sweep_dead(cursor: Cursor) -> None:
    """Delete every expired holder and lease."""
    cursor.execute(f"DELETE FROM holder WHERE expires_ms <= {NOW_MS}")
    cursor.execute(f"DELETE FROM lease WHERE {DEAD}")
