"""The users of an LDAP directory: a checker of passwords by binding as them, and who receives mail."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from zope.interface import implementer

from mailgate.auth.credentials import INamedLogin, Refused, login_name, octets_of
from mailgate.auth.hashing import LOCAL_NETWORK, HashPool, network_of
from mailgate.auth.ldapserver import Directory, Entry, Search
from mailgate.auth.remembered import RememberedSuccess
from mailgate.directories import LoginName, Pattern, parse_login, prepared
from mailgate.errors import StoreUnavailable, TooBusy
from mailgate.interfaces import IMaildropLookup
from mailgate.names import fold

CONNECTIONS = 4                 # logins that are checked at the same time
TIMEOUT_SECONDS = 15.0          # for one login or look-up, waiting for its turn included
LEEWAY_SECONDS = 0.5            # the thread, which knows more of what is wrong, may speak first
WAITING = 256                   # logins that wait for a connection
MAX_PASSWORD_OCTETS = 4096      # what surely fits a socket's buffer with its request

Result = TypeVar("Result")

log = Logger()


class Naming(NamedTuple):
    """What a login name's domain may be: of `domains` where they are given, none is `default` otherwise."""

    default: str = ""
    domains: tuple[str, ...] | None = None

    def read(self, login: str, pattern: Pattern) -> LoginName | None:
        """Return a name's parts, or None if it is none of ours.

        Where a pattern passes the domain over, it has to be the default one.
        """
        name = parse_login(login, self.default)
        domains = self.domains
        if domains is None and not pattern.places & {"login", "domain"}:
            domains = (self.default,)
        if not name.user or (domains is not None and "@" in login
                             and fold(name.domain) not in map(fold, domains)):
            return None
        return name


@implementer(ICredentialsChecker)
class BindChecker:
    """Binds as a DN made of the login name. The maildrop has the login name, as the directory compares it.

    It does not know who is there, so that mail for its users has to be accepted by another checker.
    Connections and threads, at most `connections`, begin with the first question and end with the
    reactor, or by `stop`. What takes longer than `timeout_seconds` is an outage.
    """

    credentialInterfaces: Sequence[Any] = (IUsernamePassword,)

    def __init__(self, directory: Directory, pattern: Pattern, naming: Naming = Naming(), *,
                 connections: int = CONNECTIONS, timeout_seconds: float = TIMEOUT_SECONDS,
                 reactor: Any = None, remembered: RememberedSuccess[Any] | None = None) -> None:
        self.directory = directory
        self.pattern = pattern
        self._naming = naming
        self._connections = connections
        self._timeout_seconds = timeout_seconds
        self._reactor = reactor
        self._remembered = remembered
        self._mark = "ldap:" + os.urandom(8).hex()      # tells the checkers of one table apart
        self._pools: tuple[HashPool, HashPool] | None = None        # of logins, of look-ups
        self._trigger: Any = None

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """Return the maildrop's name as octets.

        Raises, by the Deferred: LoginRefused; TooBusy; StoreUnavailable, if no server can say.
        """
        username, password = octets_of(credentials)
        network = network_of(getattr(credentials, "peer", None))
        return Deferred.fromCoroutine(self._check(username, password, network))

    def stop(self) -> Deferred[Any]:
        """End threads and connections; who waits meets an outage. The next question begins anew."""
        if self._trigger is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
        return self._end()

    async def _check(self, username: bytes, password: bytes, network: str) -> bytes:
        # An empty one would bind nobody, with success (RFC 4513 section 5.1.2), and to some servers all is
        # empty that begins with NUL.
        if not password or b"\0" in password or len(password) > MAX_PASSWORD_OCTETS:
            raise Refused("LDAP: no password that could be right")
        name = self._name(username, self.pattern)
        remembered, key = self._begun(), b""
        if remembered is not None:
            key = remembered.key(self._mark, username, password)
            found: bytes | None = remembered.find(key)
            if found is not None:
                return found
        maildrop = (await self._run(0, network, self._judge, name, password)).encode("utf-8")
        if remembered is not None:
            remembered.remember(key, maildrop)
        return maildrop

    def _name(self, username: bytes, pattern: Pattern) -> LoginName:
        login = login_name(username)
        name = None if login is None else self._naming.read(login, pattern)
        if name is None:
            raise Refused("LDAP: no name that could be there")
        return name

    def _judge(self, name: LoginName, password: bytes, until: float) -> str:
        """Return the maildrop's name, if the password is right. Blocks.

        Raises: LoginRefused; StoreUnavailable.
        """
        whole = name.login if self.pattern.places & {"login", "domain"} else name.user
        if prepared(whole) != fold(whole):
            # equal to another name here and maybe not there: nobody gets what may be somebody else's
            raise Refused("LDAP: not the plain spelling of the name")
        self.directory.log_in(self.pattern.filled(name), password, until)
        return fold(whole)

    async def _run(self, pool: int, network: str, function: Callable[..., Result], *args: Any) -> Result:
        """Call a function with the arguments and until when it may take, in a thread of a pool."""
        self._begun()
        assert self._pools is not None
        until = time.monotonic() + self._timeout_seconds
        waiting = self._pools[pool].run(network, function, *args, until)

        def late(value: object, timeout: float) -> None:
            raise StoreUnavailable(f"LDAP: nothing within {self._timeout_seconds:g} s")

        waiting.addTimeout(self._timeout_seconds + LEEWAY_SECONDS, self._reactor, late)
        return await waiting

    def _begun(self) -> RememberedSuccess[Any] | None:
        """Begin what is not yet there, and return the successes."""
        if self._pools is None:
            if self._reactor is None:
                from twisted.internet import reactor  # not before there is a login: twistd chooses it

                self._reactor = reactor
                if self._remembered is None:
                    self._remembered = RememberedSuccess(self._reactor)
            self._pools = (HashPool(self._reactor, threads=self._connections, queue_limit=WAITING),
                           HashPool(self._reactor, threads=1, queue_limit=WAITING))
            for pool in self._pools:
                pool.start()
            self.directory.tell = partial(self._reactor.callFromThread, _tell)
            self._trigger = self._reactor.addSystemEventTrigger("during", "shutdown", self._end)
        return self._remembered

    def _end(self) -> Deferred[Any]:
        pools, self._pools, self._trigger = self._pools, None, None
        ended = [pool.stop() for pool in pools or ()]
        self.directory.close()
        return DeferredList(ended, consumeErrors=True)


@implementer(IMaildropLookup)
class SearchChecker(BindChecker):
    """Searches for the one entry of the login name, then binds as it. An attribute of it names the maildrop.

    `mail_pattern` is the filter for recipients where that is another. A name that was proven outside
    opens what a search finds; whether the entry is locked no search tells.
    """

    credentialInterfaces = (IUsernamePassword, INamedLogin)

    def __init__(self, directory: Directory, search: Search, pattern: Pattern, naming: Naming = Naming(), *,
                 mail_pattern: Pattern | None = None, **options: Any) -> None:
        super().__init__(directory, pattern, naming, **options)
        self.search = search
        self._mail_pattern = mail_pattern or pattern

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """See BindChecker."""
        if IUsernamePassword.providedBy(credentials):
            return super().requestAvatarId(credentials)
        return Deferred.fromCoroutine(self._check_name(credentials.username))

    def knows(self, name: str) -> Deferred[bool]:
        """See IUserLookup."""
        return self.maildrop_of(name).addCallback(lambda maildrop: maildrop is not None)

    def maildrop_of(self, name: str) -> Deferred[str | None]:
        """See IMaildropLookup."""
        return Deferred.fromCoroutine(self._maildrop_of(name))

    async def _check_name(self, username: bytes) -> bytes:
        """Admit a name that was proven outside."""
        name = self._name(username, self.pattern)
        return (await self._run(0, LOCAL_NETWORK, self._found, name)).encode("utf-8")

    def _judge(self, name: LoginName, password: bytes, until: float) -> str:
        entry = self._entry(name, until)
        maildrop = self._maildrop(entry)
        self.directory.log_in(entry.dn, password, until)
        return maildrop

    def _found(self, name: LoginName, until: float) -> str:
        return self._maildrop(self._entry(name, until))

    def _entry(self, name: LoginName, until: float) -> Entry:
        found = self.directory.search(self.search, self.pattern.filled(name), until)
        if len(found) != 1:
            raise Refused("LDAP: several entries match" if found else "LDAP: no entry matches")
        return found[0]

    def _maildrop(self, entry: Entry) -> str:
        if len(entry.values) != 1:
            raise Refused(f"LDAP: {entry.dn}: {len(entry.values)} values of {self.search.attribute}, not one")
        try:
            return entry.values[0].decode("utf-8")
        except UnicodeDecodeError:
            raise Refused(f"LDAP: {entry.dn}: {self.search.attribute} is not UTF-8") from None

    async def _maildrop_of(self, name: str) -> str | None:
        try:
            parts = self._name(name.encode("utf-8", "surrogateescape"), self._mail_pattern)
            return await self._run(1, LOCAL_NETWORK, self._recipient, parts)
        except TooBusy as busy:
            raise StoreUnavailable(str(busy)) from busy
        except Refused:
            return None

    def _recipient(self, name: LoginName, until: float) -> str | None:
        """Return the maildrop of a recipient. What could be two entries' mail waits until it is one's."""
        found = self.directory.search(self.search, self._mail_pattern.filled(name), until)
        if len(found) > 1:
            raise StoreUnavailable(f"LDAP: several entries match the recipient {name.login!r}")
        if not found:
            return None
        if len(found[0].values) > 1:
            raise StoreUnavailable(f"LDAP: {found[0].dn}: several values of {self.search.attribute}")
        return self._maildrop(found[0])


def _tell(words: str) -> None:
    log.warn("LDAP: {words}", words=words)
