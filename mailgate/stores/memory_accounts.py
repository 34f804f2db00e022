"""The accounts of a store in memory, and the rule by which their names are kept apart."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from itertools import count

from twisted.internet.defer import Deferred, execute
from zope.interface import implementer

from mailgate.errors import (
    AccountConflict,
    BadAddress,
    LoginRefused,
    MailgateError,
    NoSuchAccount,
    NoSuchDomain,
    NoSuchEntry,
    NoSuchRecipient,
    StaleCredential,
)
from mailgate.interfaces import IAccountStore
from mailgate.model import Account, Admission, AppPassword, Habits, Login, Placement, Target
from mailgate.names import check_domain, check_label, check_name, fold, login_candidates, split_address
from mailgate.stores.account_changes import USE_NOTED_MS, refuse_more, with_received, without_received
from mailgate.stores.habits import habits_of


class AccountTable:
    """What the account stores of all `MemoryStore`s beside one another share."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}   # by the name's key
        self.app_passwords: dict[str, dict[str, AppPassword]] = {}   # by the name's key, then the label's
        self.owners: dict[str, str] = {}         # every exact key -> the key of its account's name
        self.hosts: set[str] = set()             # those of them that are an SDPS host's
        self.domains: Counter[str] = Counter()   # of ordinary accounts' addresses
        self.changes = 0                         # the version of the latest change of any account
        self._secret: bytes | None = None
        self._versions = count(1)                # of all accounts: one added again is never mistaken

    def server_secret(self, fresh: bytes | None = None) -> bytes:
        """Return the secret; who asks first may give it."""
        if self._secret is None:
            self._secret = fresh or os.urandom(32)
        return self._secret

    def _change(self) -> int:
        self.changes = next(self._versions)
        return self.changes

    def add(self, account: Account) -> None:
        """Take an account whose keys are free, with a version of its own."""
        self._claim(account)
        self.app_passwords[fold(account.name)] = {}

    def put_back(self, account: Account, app_passwords: dict[str, AppPassword]) -> None:
        """Take an account that was removed a moment ago, with another version."""
        self.add(account)
        self.app_passwords[fold(account.name)] = app_passwords

    def _claim(self, account: Account) -> None:
        name_key = fold(account.name)
        self.accounts[name_key] = replace(account, version=self._change())
        self.owners.update(dict.fromkeys(exact_keys(account), name_key))
        self.hosts.update(exact_keys(account) if account.sdps else ())
        self.domains.update(address_domains(account))

    def _free(self, account: Account) -> None:
        del self.accounts[fold(account.name)]
        for key in exact_keys(account):
            del self.owners[key]
        self.hosts -= exact_keys(account)
        self.domains -= Counter(address_domains(account))

    def get(self, name: str) -> Account:
        """Return an account. Raises: NoSuchAccount."""
        try:
            return self.accounts[fold(name)]
        except KeyError:
            raise NoSuchAccount(name) from None

    def owner(self, key: str) -> Account | None:
        """Return the account that answers to an exact key."""
        name_key = self.owners.get(key)
        return None if name_key is None else self.accounts[name_key]

    def change(self, account: Account) -> None:
        """Replace what an account proves itself by; its version grows."""
        self.accounts[fold(account.name)] = replace(account, version=self._change())

    def remove(self, name: str) -> None:
        """Forget an account and free its keys. Raises: NoSuchAccount."""
        account = self.get(name)
        self._change()
        self._free(account)
        del self.app_passwords[fold(name)]

    def change_received(self, account: Account) -> None:
        """Replace an account by one that answers to other keys, which are free; its version grows."""
        self._free(self.get(account.name))
        self._claim(account)

    def app_passwords_of(self, name: str) -> tuple[AppPassword, ...]:
        """Return an account's app passwords by label. Raises: NoSuchAccount."""
        found = self.app_passwords[fold(self.get(name).name)]
        return tuple(found[key] for key in sorted(found))

    def add_app_password(self, name: str, password: AppPassword) -> None:
        """Add one; the version grows. Raises: NoSuchAccount, AccountConflict."""
        account = self.get(name)
        there, key = self.app_passwords[fold(name)], fold(password.label)
        refuse_more(name, password, there=len(there), same=key in there,
                    chosen=sum(not one.generated for one in there.values()))
        there[key] = password
        self.change(account)

    def revoke_app_passwords(self, name: str, label: str | None) -> None:
        """Remove one, or all; the version grows. Raises: NoSuchAccount, NoSuchEntry."""
        account = self.get(name)
        there = self.app_passwords[fold(name)]
        if label is None:
            there.clear()
        elif there.pop(fold(label), None) is None:
            raise NoSuchEntry(f"account {name!r} has no app password {label!r}")
        self.change(account)

    def verify(self, admission: Admission) -> None:
        """Raise StaleCredential unless the account of an admission is as the checker found it.

        Raises: LoginRefused, for an account's name that another checker vouched for.
        """
        if admission.account is None:
            if fold(admission.maildrop) in self.owners and not admission.judged:
                raise LoginRefused(f"{admission.maildrop!r} is an account's; another checker vouched for it")
            return
        account = self.accounts.get(fold(admission.account))
        if account is None or account.disabled or account.version != admission.version:
            raise StaleCredential(admission.account)

    def is_as_said(self, placement: Placement) -> bool:
        """Return whether a maildrop is whose it was when the recipient was accepted."""
        key = fold(placement.maildrop)
        if placement.account is None:
            return True
        return key in self.accounts if placement.account else key not in self.owners

    def logged_in(self, admission: Admission, now_ms: int) -> None:
        """Remember when the account of an admission was last used; no change of its credential."""
        if admission.account is None:
            return
        account = self.get(admission.account)
        self.accounts[fold(account.name)] = replace(account, last_login_ms=now_ms)
        if admission.app_password is not None:
            self._note_use(self.app_passwords[fold(account.name)], fold(admission.app_password),
                           admission.used_from, now_ms)

    def _note_use(self, there: dict[str, AppPassword], key: str, used_from: str | None, now_ms: int) -> None:
        password = there[key]       # revoked, it would have given the account another version
        last_ms = password.last_used_ms
        same = last_ms is not None and password.last_used_from == used_from
        if not same or not 0 <= now_ms - (last_ms or 0) < USE_NOTED_MS:
            there[key] = replace(password, last_used_ms=now_ms, last_used_from=used_from)


def exact_keys(account: Account) -> set[str]:
    """Return every key that an account answers to exactly."""
    return {fold(name) for name in (account.name, *account.addresses, *account.domains)}


def address_domains(account: Account) -> list[str]:
    """Return the key of every address's domain."""
    return [split_address(fold(address))[1] for address in account.addresses]


def _later(there: Account | None, account: Account) -> int | None:
    """Return the later of two last logins."""
    known = [one.last_login_ms for one in (there, account) if one and one.last_login_ms is not None]
    return max(known, default=None)


def check_account(account: Account) -> None:
    """Raise AccountConflict unless the account is well formed by itself."""
    check_name(account.name, sdps=account.sdps)
    if account.addresses if account.sdps else account.domains:
        raise AccountConflict(f"{account.name}: an SDPS host has domains, any other account addresses")
    for domain in account.domains:
        check_domain(domain)
    for address in account.addresses:
        try:
            has_domain = bool(split_address(address)[1])
        except BadAddress as fault:
            raise AccountConflict(str(fault)) from fault
        if not has_domain:
            raise AccountConflict(f"{address!r} lacks a domain")


def check_free(table: AccountTable, accounts: Sequence[Account]) -> None:
    """Raise AccountConflict if a login name could mean two of these accounts and the table's.

    Two accounts collide when they share an exact key, or when an exact key of one splits (at its
    last `@` or `+`) into a user of the other, an SDPS host.
    """
    fresh: dict[str, Account] = {}
    for account in accounts:
        for key in exact_keys(account):
            if key in fresh:
                raise AccountConflict(f"{key!r} is taken")
            fresh[key] = account
    check_keys(table, fresh)


def check_keys(table: AccountTable, fresh: Mapping[str, Account]) -> None:
    """The same for keys that are to be an account's, whether or not it is in the table."""
    for key in fresh:
        if key in table.owners:
            raise AccountConflict(f"{key!r} is taken")
    hosts = {key for key, account in fresh.items() if account.sdps}
    _refuse_splits(fresh, hosts | table.hosts)
    if hosts:
        _refuse_splits(table.owners, hosts)


def _refuse_splits(keys: Iterable[str], hosts: Set[str]) -> None:
    for key in keys:
        for host, user in login_candidates(key)[1:]:
            if host in hosts:
                raise AccountConflict(f"{key!r} would be {user!r} of the SDPS host {host!r} too")


@implementer(IAccountStore)
class MemoryAccounts:
    """Accounts in memory. Every Deferred has fired."""

    def __init__(self, table: AccountTable, remove_maildrop: Callable[[str], None],
                 maildrops: Container[str], refuse_if_held: Callable[[str], None],
                 now_ms: Callable[[], int]) -> None:
        self._table = table
        self._remove_maildrop = remove_maildrop   # raises MaildropInUse
        self._maildrops = maildrops               # their keys
        self._refuse_if_held = refuse_if_held     # of one of them; raises MaildropInUse
        self._now_ms = now_ms

    def find_login(self, login: str) -> Deferred[Login | None]:
        return execute(self._find_login, login)

    def find_recipient(self, address: str) -> Deferred[Target]:
        return execute(self._find_recipient, address)

    def get(self, name: str) -> Deferred[Account]:
        return execute(self._table.get, name)

    def list(self) -> Deferred[list[Account]]:
        accounts = self._table.accounts
        return execute(lambda: [accounts[key] for key in sorted(accounts)])

    def add(self, accounts: Sequence[Account], *, adopt: bool = False) -> Deferred[None]:
        return execute(self._add, accounts, adopt)

    def restore(self, account: Account, app_passwords: Sequence[AppPassword]) -> Deferred[None]:
        return execute(self._restore, account, app_passwords)

    def set_verifiers(self, name: str, verifiers: Sequence[str], *,
                      revoke_app_passwords: bool = False) -> Deferred[None]:
        return execute(self._set_verifiers, name, tuple(verifiers), revoke_app_passwords)

    def add_received(self, name: str, received: str) -> Deferred[None]:
        return execute(self._add_received, name, received)

    def remove_received(self, name: str, received: str) -> Deferred[None]:
        return execute(lambda: self._table.change_received(
            without_received(self._table.get(name), received)))

    def app_passwords(self, name: str) -> Deferred[Sequence[AppPassword]]:
        return execute(self._table.app_passwords_of, name)

    def add_app_password(self, name: str, password: AppPassword) -> Deferred[None]:
        return execute(self._add_app_password, name, password)

    def revoke_app_passwords(self, name: str, label: str | None = None) -> Deferred[None]:
        return execute(self._table.revoke_app_passwords, name, label)

    def set_disabled(self, name: str, disabled: bool) -> Deferred[None]:
        return execute(lambda: self._table.change(replace(self._table.get(name), disabled=disabled)))

    def remove(self, name: str) -> Deferred[None]:
        return execute(self._remove, name)

    def changes(self) -> Deferred[int]:
        return execute(lambda: self._table.changes)

    def lacking(self, schemes: Sequence[str], most: int | None = None) -> Deferred[Sequence[str]]:
        return execute(self._lacking, schemes, most)

    def _lacking(self, schemes: Sequence[str], most: int | None) -> Sequence[str]:
        prefixes = tuple(f"{{{scheme}{end}" for scheme in map(fold, schemes) for end in "}.")
        names = [account.name for _, account in sorted(self._table.accounts.items())
                 if not account.disabled and (
                     self._table.app_passwords_of(account.name) or (account.verifiers and not any(
                         fold(one).startswith(prefixes) for one in account.verifiers)))]
        return names[:most]

    def habits(self, schemes: Sequence[str]) -> Deferred[Habits]:
        return execute(lambda: habits_of(self._table.accounts.values(), schemes))

    def server_secret(self) -> Deferred[bytes]:
        return execute(self._table.server_secret)

    def take_secret(self, octets: bytes) -> Deferred[bool]:
        return execute(lambda: self._table.server_secret(octets) == octets)

    def _find_login(self, login: str) -> Login | None:
        for key, user in login_candidates(login):
            account = self._table.owner(key)
            if account is not None and (user is None or account.sdps):
                return Login(account, user, self._table.app_passwords_of(account.name))
        return None

    def _find_recipient(self, address: str) -> Target:
        key = fold(address)
        try:
            local, domain = split_address(key)
        except BadAddress as fault:
            raise NoSuchRecipient(str(fault)) from fault
        owner = self._table.owner(key)
        if owner is not None and key in map(fold, owner.addresses):
            return Target(owner.name, account=True)
        host = self._table.owner(domain)
        if host is not None and domain in map(fold, host.domains):
            return Target(host.name, local, account=True)
        if domain in self._table.domains:
            raise NoSuchRecipient(address)
        raise NoSuchDomain(address)

    def _add(self, accounts: Sequence[Account], adopt: bool) -> None:
        for account in accounts:
            check_account(account)
        check_free(self._table, accounts)
        adopted = set(map(fold, [account.name for account in accounts])) if adopt else set()
        self._refuse_maildrops({key for account in accounts for key in exact_keys(account)} - adopted)
        for key in adopted:
            if key in self._maildrops:
                self._refuse_if_held(key)
        for account in accounts:
            self._table.add(account)

    def _restore(self, account: Account, passwords: Sequence[AppPassword]) -> None:
        key = fold(account.name)
        there, kept = self._table.accounts.get(key), self._table.app_passwords.get(key, {})
        if there is not None:
            self._table.remove(account.name)
        try:
            self._add([replace(account, last_login_ms=_later(there, account))], there is not None)
        except MailgateError:
            if there is not None:
                self._table.put_back(there, kept)
            raise
        self._table.app_passwords[key] = {fold(one.label): one for one in passwords}

    def _refuse_maildrops(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key in self._maildrops:
                raise AccountConflict(f"{key!r} is the maildrop of another checker's user")

    def _set_verifiers(self, name: str, verifiers: tuple[str, ...], revoke_app_passwords: bool) -> None:
        account = self._table.get(name)
        if revoke_app_passwords:
            self._table.revoke_app_passwords(name, None)
        self._table.change(replace(account, verifiers=verifiers))

    def _add_received(self, name: str, received: str) -> None:
        account = self._table.get(name)
        changing = with_received(account, received)
        check_account(changing)
        fresh = exact_keys(changing) - exact_keys(account)
        check_keys(self._table, dict.fromkeys(fresh, changing))
        self._refuse_maildrops(fresh)
        self._table.change_received(changing)

    def _add_app_password(self, name: str, password: AppPassword) -> None:
        check_label(password.label)
        self._table.add_app_password(name, replace(
            password, created_ms=self._now_ms(), last_used_ms=None, last_used_from=None))

    def _remove(self, name: str) -> None:
        account = self._table.get(name)
        self._remove_maildrop(account.name)
        self._table.remove(name)
