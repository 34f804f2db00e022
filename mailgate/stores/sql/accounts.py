"""Accounts in the embedded store: the SQL as functions of a cursor, and the adapter that runs them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from mailgate.errors import (
    AccountConflict,
    BadAddress,
    NoSuchAccount,
    NoSuchDomain,
    NoSuchRecipient,
)
from mailgate.interfaces import IAccountStore
from mailgate.model import Account, AppPassword, Habits, Login, Target
from mailgate.names import check_domain, check_label, check_name, fold, login_candidates, split_address
from mailgate.stores.account_changes import with_received, without_received
from mailgate.stores.habits import read_habits
from mailgate.stores.sql.credentials import (
    APP_PASSWORDS,
    add_app_password,
    app_passwords,
    changed,
    drop_app_passwords,
    existing,
    insert_app_passwords,
    new_version,
    read_app_passwords,
    revoke_app_passwords,
    set_disabled,
    set_verifiers,
)
from mailgate.stores.sql.cursor import Cursor
from mailgate.stores.sql.database import IRunner
from mailgate.stores.sql.leases import make_maildrop, refuse_if_held
from mailgate.stores.sql.messages import find_maildrop, remove_by_key, text

MOST_ROWS = 2**63 - 1       # all of them: what every engine takes for a LIMIT

_COLUMNS = """account.name, sdps, verifiers, addresses, domains, disabled, version,
    (SELECT max(at_ms) FROM maildrop JOIN login ON maildrop_id = maildrop.id
     WHERE maildrop.key = account.key)"""


class Key(NamedTuple):
    """Something that an account answers to exactly, and the hosts that an SDPS split of it would name."""

    key: str
    is_address: bool
    is_domain: bool
    at_tail: str | None
    plus_tail: str | None


class Prepared(NamedTuple):
    """An account that was checked by itself, as its rows will be."""

    account: Account
    keys: list[Key]


# Before the transaction ---------------------------------------------------------------------


def prepare(account: Account) -> Prepared:
    """Return an account's rows. Raises: AccountConflict, unless it is well formed by itself."""
    if text(account.name) != account.name:
        raise AccountConflict(f"{account.name!r} is no text")
    check_name(account.name, sdps=account.sdps)
    if account.addresses if account.sdps else account.domains:
        raise AccountConflict(f"{account.name}: an SDPS host has domains, any other account addresses")
    for domain in account.domains:
        check_domain(domain)
    for address in account.addresses:
        _check_address(address)
    addresses, domains = set(map(fold, account.addresses)), set(map(fold, account.domains))
    keys = [Key(key, key in addresses, key in domains, _tail(key, "@"), _tail(key, "+"))
            for key in sorted({fold(account.name)} | addresses | domains)]
    return Prepared(account, keys)


def _check_address(address: str) -> None:
    try:
        domain = split_address(address)[1]
    except (BadAddress, UnicodeEncodeError) as fault:
        raise AccountConflict(f"{address!r} is not an address") from fault
    if not domain:
        raise AccountConflict(f"{address!r} lacks a domain")


def _tail(key: str, separator: str) -> str | None:
    before, _, tail = key.rpartition(separator)
    return tail if before and tail else None


# In the transaction -------------------------------------------------------------------------


def add(cursor: Cursor, accounts: Sequence[Prepared], adopt: bool) -> None:
    """Add accounts. Raises: AccountConflict, MaildropInUse, and then the caller undoes all."""
    for account, keys in accounts:
        for key in keys:
            _refuse_conflict(cursor, key, account.sdps)
            _refuse_maildrop(cursor, key.key, adopt=adopt and key.key == fold(account.name))
        cursor.execute(
            "INSERT INTO account (key, name, sdps, disabled, version, verifiers, addresses, domains)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (fold(account.name), account.name, account.sdps, account.disabled, new_version(cursor),
             json.dumps(account.verifiers), json.dumps(account.addresses), json.dumps(account.domains)))
        _insert_keys(cursor, cursor.fetchall()[0][0], keys)


def _refuse_maildrop(cursor: Cursor, key: str, *, adopt: bool) -> None:
    """Refuse a key by which another checker's user has a maildrop; to adopt it, nobody may have it open."""
    maildrop_id = find_maildrop(cursor, key)
    if maildrop_id is not None and not adopt:
        raise AccountConflict(f"{key!r} is the maildrop of another checker's user")
    if maildrop_id is not None:
        refuse_if_held(cursor, maildrop_id)


def _insert_keys(cursor: Cursor, account_id: int, keys: Sequence[Key]) -> None:
    cursor.executemany(
        "INSERT INTO account_key (account_id, key, is_address, is_domain, at_tail, plus_tail)"
        " VALUES (?, ?, ?, ?, ?, ?)", [(account_id, *key) for key in keys])


_CONFLICTS = """
    SELECT account_key.key, account.name FROM account_key JOIN account ON account.id = account_id
    WHERE account_key.key IN (:key, :at_tail, :plus_tail) AND (account_key.key = :key OR sdps)
    UNION ALL
    SELECT account_key.key, account.name FROM account_key JOIN account ON account.id = account_id
    WHERE :sdps AND (at_tail = :key OR plus_tail = :key)
    LIMIT 1"""


def _refuse_conflict(cursor: Cursor, key: Key, sdps: bool) -> None:
    """Raise AccountConflict if a login by this key could mean an account that is there already."""
    cursor.execute(_CONFLICTS, {"key": key.key, "at_tail": key.at_tail, "plus_tail": key.plus_tail,
                                "sdps": sdps})
    taken = cursor.fetchone()
    if taken is not None and taken[0] == key.key:
        raise AccountConflict(f"{key.key!r} belongs to account {taken[1]!r}")
    if taken is not None:
        raise AccountConflict(f"a login by {key.key!r} could be taken for one by {taken[0]!r} of account"
                              f" {taken[1]!r}: one would be an SDPS user of the other")


def restore(cursor: Cursor, prepared: Prepared, passwords: Sequence[AppPassword]) -> None:
    """Make an account what another store had. Raises: AccountConflict, MaildropInUse."""
    account, key = prepared.account, fold(prepared.account.name)
    cursor.execute("SELECT id FROM account WHERE key = ?", (key,))
    there = cursor.fetchone()
    if there is not None:
        _drop(cursor, there[0])
    add(cursor, [prepared], adopt=there is not None)
    insert_app_passwords(cursor, existing(cursor, account.name), passwords)
    if account.last_login_ms is not None:
        maildrop_id = find_maildrop(cursor, key) or make_maildrop(cursor, key, account.name)
        cursor.execute("""
            INSERT INTO login (maildrop_id, view, at_ms) VALUES (?, '', ?)
            ON CONFLICT (maildrop_id, view) DO UPDATE
            SET at_ms = CASE WHEN login.at_ms < excluded.at_ms THEN excluded.at_ms ELSE login.at_ms END""",
                       (maildrop_id, account.last_login_ms))


def add_received(cursor: Cursor, name: str, received: str) -> None:
    """Give an account one more address or domain. Raises: NoSuchAccount, AccountConflict."""
    account = get(cursor, name)
    changing = prepare(with_received(account, received))
    own = {key.key for key in prepare(account).keys}
    for key in changing.keys:
        if key.key not in own:
            _refuse_conflict(cursor, key, account.sdps)
            _refuse_maildrop(cursor, key.key, adopt=False)
    _change_received(cursor, changing)


def remove_received(cursor: Cursor, name: str, received: str) -> None:
    """Take an address or domain away. Raises: NoSuchAccount, NoSuchEntry."""
    _change_received(cursor, prepare(without_received(get(cursor, name), received)))


def _change_received(cursor: Cursor, changing: Prepared) -> None:
    account, account_id = changing.account, existing(cursor, changing.account.name)
    cursor.execute("UPDATE account SET addresses = ?, domains = ? WHERE id = ?",
                   (json.dumps(account.addresses), json.dumps(account.domains), account_id))
    cursor.execute("DELETE FROM account_key WHERE account_id = ?", (account_id,))
    _insert_keys(cursor, account_id, changing.keys)
    changed(cursor, account_id)


def remove(cursor: Cursor, name: str) -> None:
    """Remove an account, its maildrop and its mail. Raises: NoSuchAccount, MaildropInUse."""
    account_id = existing(cursor, name)
    new_version(cursor)        # for `changes`
    remove_by_key(cursor, fold(name))
    _drop(cursor, account_id)


def _drop(cursor: Cursor, account_id: int) -> None:
    drop_app_passwords(cursor, account_id)
    cursor.execute("DELETE FROM account_key WHERE account_id = ?", (account_id,))
    cursor.execute("DELETE FROM account WHERE id = ?", (account_id,))


# Reading ------------------------------------------------------------------------------------


def get(cursor: Cursor, name: str) -> Account:
    """Return one account. Raises: NoSuchAccount."""
    row = cursor.execute(f"SELECT {_COLUMNS} FROM account WHERE key = ?", (fold(name),)).fetchone()
    if row is None:
        raise NoSuchAccount(f"no account {name!r}")
    return _account(*row)


def get_all(cursor: Cursor) -> list[Account]:
    """Return every account, by name."""
    return [_account(*row) for row in
            cursor.execute(f"SELECT {_COLUMNS} FROM account ORDER BY key").fetchall()]


def find_login(cursor: Cursor, login: str) -> Login | None:
    """Return what a login name means, or None."""
    candidates = login_candidates(login)
    keys = [candidate.key for candidate in candidates]
    cursor.execute(f"""
        SELECT account_key.key, {APP_PASSWORDS}, {_COLUMNS}
        FROM account_key JOIN account ON account.id = account_id
        WHERE account_key.key IN ({",".join("?" * len(keys))})""", keys)
    found = {row[0]: (_account(*row[2:]), row[1]) for row in cursor.fetchall()}
    for key, user in candidates:
        if key in found:
            account, app_passwords = found[key]
            if user is None or account.sdps:
                return Login(account, user, read_app_passwords(app_passwords))
    return None


def find_recipient(cursor: Cursor, address: str) -> Target:
    """Return where an address's mail goes. Raises: NoSuchRecipient, NoSuchDomain."""
    key = fold(address)
    local, domain = split_address(key)
    cursor.execute("SELECT is_address, name FROM account_key JOIN account ON account.id = account_id"
                   " WHERE (account_key.key = ? AND is_address) OR (account_key.key = ? AND is_domain)",
                   (key, domain))
    found = dict(cursor.fetchall())
    if 1 in found:
        return Target(found[1], account=True)
    if 0 in found:
        return Target(found[0], local, account=True)
    cursor.execute("SELECT EXISTS (SELECT 1 FROM account_key WHERE at_tail = ? AND is_address)", (domain,))
    if cursor.fetchone()[0]:
        raise NoSuchRecipient(f"nobody is {address!r}")
    raise NoSuchDomain(f"no account receives mail for {domain!r}")


def changes(cursor: Cursor) -> int:
    """Return the version that was given last."""
    last: int = cursor.execute("SELECT last FROM account_version").fetchone()[0]
    return last


def lacking(cursor: Cursor, schemes: Sequence[str], most: int | None) -> list[str]:
    """Return who has verifiers, but none of some schemes, and who has app passwords.

    The JSON is matched as it is written: a quote inside a verifier has a backslash before it.
    """
    patterns = [f'{before}"{{{scheme}{end}%' for scheme in schemes for before in ("[", "%, ") for end in "}."]
    cursor.execute(f"""
        SELECT name FROM account WHERE NOT disabled
        AND (verifiers <> '[]' {"AND verifiers NOT LIKE ? " * len(patterns)}
             OR EXISTS (SELECT 1 FROM app_password WHERE account_id = account.id))
        ORDER BY key LIMIT ?""",
                   (*patterns, MOST_ROWS if most is None else most))
    return [name for name, in cursor.fetchall()]


def server_secret(cursor: Cursor, fresh: bytes) -> bytes:
    """Return the store's secret; the first one to ask gives it."""
    cursor.execute("INSERT INTO server_secret (id, octets) VALUES (1, ?) ON CONFLICT DO NOTHING", (fresh,))
    octets: bytes = cursor.execute("SELECT octets FROM server_secret").fetchone()[0]
    return octets


def _account(name: str, sdps: int, verifiers: str, addresses: str, domains: str, disabled: int,
             version: int, last_login_ms: int | None) -> Account:
    return Account(name=name, sdps=bool(sdps), verifiers=tuple(json.loads(verifiers)),
                   addresses=tuple(json.loads(addresses)), domains=tuple(json.loads(domains)),
                   disabled=bool(disabled), version=version, last_login_ms=last_login_ms)


# The adapter --------------------------------------------------------------------------------


@implementer(IAccountStore)
class SqlAccounts:
    """The accounts of a store over SQL."""

    def __init__(self, reader: IRunner, writer: IRunner) -> None:
        self._reader = reader
        self._writer = writer

    def find_login(self, login: str) -> Deferred[Login | None]:
        return self._reader.run(find_login, text(login))

    def find_recipient(self, address: str) -> Deferred[Target]:
        return self._reader.run(find_recipient, text(address))

    def get(self, name: str) -> Deferred[Account]:
        return self._reader.run(get, text(name))

    def list(self) -> Deferred[list[Account]]:
        return self._reader.run(get_all)

    def add(self, accounts: Sequence[Account], *, adopt: bool = False) -> Deferred[None]:
        try:
            prepared = [prepare(account) for account in accounts]
        except AccountConflict:
            return fail()
        return self._writer.run(add, prepared, adopt, durable=True)

    def restore(self, account: Account, app_passwords: Sequence[AppPassword]) -> Deferred[None]:
        try:
            prepared = prepare(account)
        except AccountConflict:
            return fail()
        return self._writer.run(restore, prepared, tuple(app_passwords), durable=True)

    def set_verifiers(self, name: str, verifiers: Sequence[str], *,
                      revoke_app_passwords: bool = False) -> Deferred[None]:
        return self._writer.run(set_verifiers, text(name), json.dumps(list(verifiers)),
                                revoke_app_passwords, durable=True)

    def add_received(self, name: str, received: str) -> Deferred[None]:
        return self._writer.run(add_received, text(name), received, durable=True)

    def remove_received(self, name: str, received: str) -> Deferred[None]:
        return self._writer.run(remove_received, text(name), received, durable=True)

    def app_passwords(self, name: str) -> Deferred[Sequence[AppPassword]]:
        return self._reader.run(app_passwords, text(name))

    def add_app_password(self, name: str, password: AppPassword) -> Deferred[None]:
        try:
            check_label(password.label)
        except AccountConflict:
            return fail()
        return self._writer.run(add_app_password, text(name), password, durable=True)

    def revoke_app_passwords(self, name: str, label: str | None = None) -> Deferred[None]:
        return self._writer.run(revoke_app_passwords, text(name), None if label is None else text(label),
                                durable=True)

    def set_disabled(self, name: str, disabled: bool) -> Deferred[None]:
        return self._writer.run(set_disabled, text(name), disabled, durable=True)

    def remove(self, name: str) -> Deferred[None]:
        return self._writer.run(remove, text(name), durable=True)

    def changes(self) -> Deferred[int]:
        return self._reader.run(changes)

    def lacking(self, schemes: Sequence[str], most: int | None = None) -> Deferred[Sequence[str]]:
        return self._reader.run(lacking, tuple(schemes), most)

    def habits(self, schemes: Sequence[str]) -> Deferred[Habits]:
        return self._reader.run(read_habits, tuple(schemes))

    def server_secret(self) -> Deferred[bytes]:
        return self._writer.run(server_secret, os.urandom(32), durable=True)

    def take_secret(self, octets: bytes) -> Deferred[bool]:
        return self._writer.run(server_secret, octets, durable=True).addCallback(octets.__eq__)
