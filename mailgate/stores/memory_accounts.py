"""The accounts of a store in memory, and the rule by which their names are kept apart."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence, Set
from dataclasses import replace
from itertools import count

from twisted.internet.defer import Deferred, execute
from zope.interface import implementer

from mailgate.errors import (
    AccountConflict,
    BadAddress,
    LoginRefused,
    NoSuchAccount,
    NoSuchDomain,
    NoSuchRecipient,
    StaleCredential,
)
from mailgate.interfaces import IAccountStore
from mailgate.model import Account, Admission, Login, Placement, Target
from mailgate.names import check_domain, check_name, fold, login_candidates, split_address


class AccountTable:
    """What the account stores of all `MemoryStore`s beside one another share."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}   # by the name's key
        self.owners: dict[str, str] = {}         # every exact key -> the key of its account's name
        self.hosts: set[str] = set()             # those of them that are an SDPS host's
        self.domains: Counter[str] = Counter()   # of ordinary accounts' addresses
        self.changes = 0                         # the version of the latest change of any account
        self.secret = os.urandom(32)
        self._versions = count(1)                # of all accounts: one added again is never mistaken

    def _change(self) -> int:
        self.changes = next(self._versions)
        return self.changes

    def add(self, account: Account) -> None:
        """Take an account whose keys are free, with a version of its own."""
        name_key = fold(account.name)
        self.accounts[name_key] = replace(account, version=self._change())
        self.owners.update(dict.fromkeys(exact_keys(account), name_key))
        self.hosts.update(exact_keys(account) if account.sdps else ())
        self.domains.update(address_domains(account))

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
        del self.accounts[fold(name)]
        for key in exact_keys(account):
            del self.owners[key]
        self.hosts -= exact_keys(account)
        self.domains -= Counter(address_domains(account))

    def verify(self, admission: Admission) -> None:
        """Raise StaleCredential unless the account of an admission is as the checker found it.

        Raises: LoginRefused, for an account's name that another checker vouched for.
        """
        if admission.account is None:
            if fold(admission.maildrop) in self.owners:
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
        if admission.account is not None:
            account = self.get(admission.account)
            self.accounts[fold(account.name)] = replace(account, last_login_ms=now_ms)


def exact_keys(account: Account) -> set[str]:
    """Return every key that an account answers to exactly."""
    return {fold(name) for name in (account.name, *account.addresses, *account.domains)}


def address_domains(account: Account) -> list[str]:
    """Return the key of every address's domain."""
    return [split_address(fold(address))[1] for address in account.addresses]


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
            if key in table.owners or key in fresh:
                raise AccountConflict(f"{key!r} is taken")
            fresh[key] = account
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
                 maildrops: Container[str]) -> None:
        self._table = table
        self._remove_maildrop = remove_maildrop   # raises MaildropInUse
        self._maildrops = maildrops               # their keys

    def find_login(self, login: str) -> Deferred[Login | None]:
        return execute(self._find_login, login)

    def find_recipient(self, address: str) -> Deferred[Target]:
        return execute(self._find_recipient, address)

    def get(self, name: str) -> Deferred[Account]:
        return execute(self._table.get, name)

    def list(self) -> Deferred[list[Account]]:
        accounts = self._table.accounts
        return execute(lambda: [accounts[key] for key in sorted(accounts)])

    def add(self, accounts: Sequence[Account]) -> Deferred[None]:
        return execute(self._add, accounts)

    def set_verifiers(self, name: str, verifiers: Sequence[str]) -> Deferred[None]:
        return execute(lambda: self._table.change(
            replace(self._table.get(name), verifiers=tuple(verifiers))))

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
                 if account.verifiers and not account.disabled
                 and not any(fold(one).startswith(prefixes) for one in account.verifiers)]
        return names[:most]

    def server_secret(self) -> Deferred[bytes]:
        return execute(lambda: self._table.secret)

    def _find_login(self, login: str) -> Login | None:
        for key, user in login_candidates(login):
            account = self._table.owner(key)
            if account is not None and (user is None or account.sdps):
                return Login(account, user)
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

    def _add(self, accounts: Sequence[Account]) -> None:
        for account in accounts:
            check_account(account)
        check_free(self._table, accounts)
        for key in {key for account in accounts for key in exact_keys(account)}:
            if key in self._maildrops:
                raise AccountConflict(f"{key!r} is the maildrop of another checker's user")
        for account in accounts:
            self._table.add(account)

    def _remove(self, name: str) -> None:
        account = self._table.get(name)
        self._remove_maildrop(account.name)
        self._table.remove(name)
