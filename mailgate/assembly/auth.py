"""Who may log in and who receives mail, as a configuration says: checkers, portals, the router."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from mailgate.assembly.directory import ldap_checker
from mailgate.auth.checkers import StoreChecker
from mailgate.auth.hashing import Hashing
from mailgate.auth.passwdfile import PasswdFileChecker
from mailgate.auth.portal import MailgatePortal
from mailgate.auth.principals import PrincipalChecker
from mailgate.auth.realm import MaildropRealm
from mailgate.auth.remembered import RememberedSuccess
from mailgate.config import CheckerSection, Config, ListenSection
from mailgate.errors import ConfigurationError
from mailgate.interfaces import IUserLookup
from mailgate.principals import Rules
from mailgate.routing.router import Router


class Doors:
    """Makes portals and routers whose parts listeners share: one checker a section, one pool.

    `further` are checkers that came another way (twistd's `--auth`): they are asked after the
    configured ones, and those of them that can look users up have their mail accepted. `now` tells, in
    seconds since 1970, which tokens have expired.
    """

    def __init__(self, config: Config, store: Any, pool: Hashing, clock: Any,
                 further: Sequence[Any] = (), now: Callable[[], float] = time.time) -> None:
        self._config = config
        self._store = store
        self._pool = pool
        self._clock = clock
        self._now = now
        self._remembered: RememberedSuccess[Any] = RememberedSuccess(clock, config.limits.remember_seconds)
        self._further = tuple(further)
        self._checkers = {one.name: self._checker(one) for one in config.checkers}

    def portal(self, listener: ListenSection | None = None, mailbox: Any = None) -> MailgatePortal:
        """Return the portal of a listener (of all checkers, without one).

        `mailbox` makes an IMailboxPOP3 of an open maildrop, for those who ask the realm for one.
        """
        realm = MaildropRealm(
            self._store, login_delay_seconds=self._config.pop3.login_delay_seconds, mailbox=mailbox)
        principals = [self._principals(listener)] if listener is not None and listener.takes_tickets else []
        return MailgatePortal(realm, [*self._asked(listener), *principals])

    def principals(self, listener: ListenSection) -> MailgatePortal:
        """Return the portal of a listener whose clients prove a Kerberos principal and nothing else."""
        realm = MaildropRealm(self._store, login_delay_seconds=self._config.pop3.login_delay_seconds)
        return MailgatePortal(realm, [self._principals(listener)])

    def _principals(self, listener: ListenSection) -> PrincipalChecker:
        """Return what gives principals, among the accounts of a listener's checkers, what the rules open."""
        section = self._config.kerberos
        assert section is not None, "the configuration was checked"
        rules = Rules.of_realms(section.trusted_realms) if section.rules is None else Rules(section.rules)
        kinds = {one.kind for one in self._config.checkers_of(listener)}
        lookups = [one for one in self._asked(listener) if IUserLookup.providedBy(one)]
        return PrincipalChecker(rules, self._store.accounts if "store" in kinds else None, lookups)

    def router(self, listener: ListenSection | None = None) -> Router:
        """Return the router of a listener: to the store's accounts, and to users of other checkers."""
        lookups = [one for one in self._asked(listener) if IUserLookup.providedBy(one)]
        return Router(self._store.accounts, self._config.hostname, lookups, self._config.postmaster)

    def _asked(self, listener: ListenSection | None) -> list[Any]:
        sections = self._config.checkers if listener is None else self._config.checkers_of(listener)
        return [*(self._checkers[one.name] for one in sections), *self._further]

    def _checker(self, section: CheckerSection) -> Any:
        if section.kind == "store":
            return StoreChecker(self._store.accounts, self._pool, self._remembered)
        if section.kind == "oauth":
            return self._tokens(section)
        if section.kind == "ldap":
            return self._directory(section)
        if section.kind == "pam":
            from mailgate.assembly.pam import pam_checker  # what few configurations have, few have to load

            return pam_checker(section, self._clock, self._remembered)
        return PasswdFileChecker(str(self._config.passwd_path(section)), self._pool, self._remembered)

    def _tokens(self, section: CheckerSection) -> Any:
        """Return a checker of bearer tokens. Raises: ConfigurationError."""
        from mailgate.assembly.tokens import token_checker

        try:
            return token_checker(section, self._config.folder, self._pool, self._clock, self._store.accounts,
                                 self._now)
        except ConfigurationError as fault:
            where = self._where(section)
            raise ConfigurationError([f"{where}.{words}" for words in fault.problems]) from fault

    def _directory(self, section: CheckerSection) -> Any:
        """Return a checker of an LDAP directory. Raises: ConfigurationError."""
        try:
            return ldap_checker(self._config, section, self._clock, self._remembered)
        except ConfigurationError as fault:
            where = self._where(section)
            raise ConfigurationError([f"{where}: {words}" for words in fault.problems]) from fault

    def _where(self, section: CheckerSection) -> str:
        return f"checker[{[one.name for one in self._config.checkers].index(section.name)}]"
