"""What an account proves itself by, in the embedded store: its version, verifiers and app passwords.

Functions of a cursor; those that change something run inside a transaction that the caller began.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from mailgate.errors import NoSuchAccount, NoSuchEntry
from mailgate.model import AppPassword
from mailgate.names import fold
from mailgate.stores.account_changes import refuse_more
from mailgate.stores.sql.cursor import Cursor
from mailgate.stores.sql.leases import NOW_MS

# All app passwords of the row of `account` that is looked at, as JSON: one look-up brings them along.
APP_PASSWORDS = """
    (SELECT json_group_array(json_array(label, verifier, generated, created_ms, last_used_ms, last_used_from))
     FROM app_password WHERE account_id = account.id)"""
NONE = "[]"             # what that gives for most accounts


def new_version(cursor: Cursor) -> int:
    """Return a credential version that no account ever had."""
    cursor.execute("UPDATE account_version SET last = last + 1")
    version: int = cursor.execute("SELECT last FROM account_version").fetchone()[0]
    return version


def existing(cursor: Cursor, name: str) -> int:
    """Return the id of an account. Raises: NoSuchAccount."""
    row = cursor.execute("SELECT id FROM account WHERE key = ?", (fold(name),)).fetchone()
    if row is None:
        raise NoSuchAccount(f"no account {name!r}")
    account_id: int = row[0]
    return account_id


def changed(cursor: Cursor, account_id: int) -> None:
    """Let an account's version grow."""
    cursor.execute("UPDATE account SET version = ? WHERE id = ?", (new_version(cursor), account_id))


def set_verifiers(cursor: Cursor, name: str, verifiers: str, revoke_app_passwords: bool) -> None:
    """Replace the verifiers (a JSON array). Raises: NoSuchAccount."""
    account_id = existing(cursor, name)
    cursor.execute("UPDATE account SET verifiers = ? WHERE id = ?", (verifiers, account_id))
    if revoke_app_passwords:
        drop_app_passwords(cursor, account_id)
    changed(cursor, account_id)


def set_disabled(cursor: Cursor, name: str, disabled: bool) -> None:
    """Disable or enable. Raises: NoSuchAccount."""
    account_id = existing(cursor, name)
    cursor.execute("UPDATE account SET disabled = ? WHERE id = ?", (disabled, account_id))
    changed(cursor, account_id)


# App passwords --------------------------------------------------------------------------------


def read_app_passwords(listed: str) -> tuple[AppPassword, ...]:
    """Return what `APP_PASSWORDS` gave, by label."""
    if listed == NONE:
        return ()
    found = [AppPassword(label, verifier, bool(generated), *times)
             for label, verifier, generated, *times in json.loads(listed)]
    return tuple(sorted(found, key=lambda one: fold(one.label)))


def app_passwords(cursor: Cursor, name: str) -> tuple[AppPassword, ...]:
    """Return an account's app passwords. Raises: NoSuchAccount."""
    row = cursor.execute(f"SELECT {APP_PASSWORDS} FROM account WHERE key = ?", (fold(name),)).fetchone()
    if row is None:
        raise NoSuchAccount(f"no account {name!r}")
    return read_app_passwords(row[0])


def add_app_password(cursor: Cursor, name: str, password: AppPassword) -> None:
    """Add one whose label was checked by itself. Raises: NoSuchAccount, AccountConflict."""
    account_id, key = existing(cursor, name), fold(password.label)
    cursor.execute("SELECT count(*), count(*) FILTER (WHERE NOT generated), count(*) FILTER (WHERE key = ?)"
                   " FROM app_password WHERE account_id = ?", (key, account_id))
    there, chosen, same = cursor.fetchone()
    refuse_more(name, password, there=there, chosen=chosen, same=same)
    cursor.execute("INSERT INTO app_password (account_id, key, label, verifier, generated, created_ms)"
                   f" VALUES (?, ?, ?, ?, ?, {NOW_MS})",
                   (account_id, key, password.label, password.verifier, password.generated))
    changed(cursor, account_id)


def insert_app_passwords(cursor: Cursor, account_id: int, passwords: Sequence[AppPassword]) -> None:
    """Add app passwords as another store had them, to an account that has none."""
    cursor.executemany("INSERT INTO app_password (account_id, key, label, verifier, generated, created_ms,"
                       " last_used_ms, last_used_from) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                       [(account_id, fold(one.label), one.label, one.verifier, one.generated, one.created_ms,
                         one.last_used_ms, one.last_used_from) for one in passwords])


def revoke_app_passwords(cursor: Cursor, name: str, label: str | None) -> None:
    """Remove one, or all. Raises: NoSuchAccount, NoSuchEntry."""
    account_id = existing(cursor, name)
    if label is None:
        drop_app_passwords(cursor, account_id)
    else:
        cursor.execute("DELETE FROM app_password WHERE account_id = ? AND key = ?",
                       (account_id, fold(label)))
        if not cursor.rowcount:
            raise NoSuchEntry(f"account {name!r} has no app password {label!r}")
    changed(cursor, account_id)


def drop_app_passwords(cursor: Cursor, account_id: int) -> None:
    """Remove all app passwords of an account."""
    cursor.execute("DELETE FROM app_password WHERE account_id = ?", (account_id,))
