"""A passwd-file in Dovecot's form: `user:{SCHEME}hash:uid:gid:gecos:home:shell:extra`, one a line.

Only the first two fields count here. A hash without a scheme is CRYPT; an empty field, `*` or `!`
in front of it is a user who receives mail and cannot log in. Lines beginning with `#` are comments.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from mailgate.auth.answers import digest_matches, scram_secret
from mailgate.auth.checkers import DUMMY_VERIFIER, matching, proven
from mailgate.auth.credentials import INamedLogin, IProvenLogin, Refused, Vouch, login_name, octets_of
from mailgate.auth.hashing import LOCAL_NETWORK, Hashing, default_pool, network_of
from mailgate.auth.invented import FAMILIES
from mailgate.auth.passwdtable import Entry, PasswdFile, Table, parse
from mailgate.auth.remembered import RememberedSuccess
from mailgate.auth.schemes import SCHEMES_FOR, scheme_of
from mailgate.errors import StoreUnavailable, TooBusy
from mailgate.interfaces import ISecretSource, IUserLookup
from mailgate.model import Habits, ScramSecret

HABIT_USERS = 1000      # that are looked at for what most of them keep

log = Logger()


def _habits_of(table: Table) -> Habits:
    """Return what most users have in common."""
    usual = {}
    verifiers = [entry.verifier for entry in table.entries.values() if entry.verifier is not None]
    for scheme in FAMILIES:
        forms = (scram_secret(scheme, (one,), None) for one in verifiers if scheme_of(one) == scheme)
        counted = Counter((form.iterations, len(form.salt)) for form in islice(forms, HABIT_USERS) if form)
        if counted:
            usual[scheme] = counted.most_common(1)[0][0]
    domains = {domain for local, _, domain in (key.rpartition("@") for key in table.entries) if local}
    return Habits(by_address=frozenset(domains), scram=usual)


@implementer(ICredentialsChecker, ISecretSource, IUserLookup)
class PasswdFileChecker:
    """The users of a passwd-file, as they are at each login.

    It answers with the plain user name, as any checker of `twisted.cred` does, so that realms of
    other applications can use it too. Without a pool it makes one of its own at the first login.
    """

    credentialInterfaces = (IUsernamePassword, IUsernameHashedPassword, IProvenLogin, INamedLogin)

    def __init__(self, path: str, pool: Hashing | None = None,
                 remembered: RememberedSuccess | None = None, now: Callable[[], float] = time.time) -> None:
        self.file = PasswdFile(os.path.abspath(path), now)
        self.pool = pool
        self.remembered = remembered
        self._told: frozenset[tuple[int, str]] = frozenset()    # problems that are in the log
        self._habits: tuple[Table, Habits] | None = None        # of which table
        self._kept: frozenset[str] | None = None                # of the latest one that was whole

    def requestAvatarId(self, credentials: Any) -> Any:
        """Return the user's name as octets, as the file spells it.

        Raises, by the Deferred: LoginRefused; TooBusy; StoreUnavailable, if the file cannot be read, or
        the user's line is gone from it while it is being written.
        """
        if IProvenLogin.providedBy(credentials):
            return proven(self, credentials)
        if not IUsernamePassword.providedBy(credentials):
            return Deferred.fromCoroutine(self._check_otherwise(credentials))
        username, password = octets_of(credentials)
        network = network_of(getattr(credentials, "peer", None))
        return Deferred.fromCoroutine(self._check(username, password, network))

    def knows(self, name: str) -> Deferred[bool]:
        """See IUserLookup."""
        return Deferred.fromCoroutine(self._knows(name))

    async def _entry(self, username: bytes) -> Entry | None:
        """Return the user of a login name, if there is one that can log in."""
        table, name = await self._current(LOCAL_NETWORK), login_name(username)
        entry = None if name is None else table.find(name)
        return None if entry is None or entry.verifier is None else entry

    async def _check_otherwise(self, credentials: Any) -> bytes:
        """Admit by the digest of a challenge, or by a name that was proven outside."""
        username = credentials.username
        entry = await self._entry(username.encode() if isinstance(username, str) else username)
        if entry is None:
            raise Refused("unknown to the passwd-file, or locked")
        digest = IUsernameHashedPassword.providedBy(credentials)
        if digest and not any(digest_matches(credentials, (entry.verifier or "",))):
            raise Refused("the digest is wrong, or nothing is kept for it")
        return entry.name.encode("utf-8")

    def scram_secret(self, scheme: str, name: bytes) -> Deferred[ScramSecret | None]:
        """See ISecretSource."""
        return Deferred.fromCoroutine(self._scram_secret(scheme, name))

    async def _scram_secret(self, scheme: str, name: bytes) -> ScramSecret | None:
        entry = await self._entry(name)
        if entry is None or entry.verifier is None:
            return None
        return scram_secret(scheme, (entry.verifier,), Vouch(self, entry.name.encode("utf-8")))

    def kept(self) -> Deferred[frozenset[str]]:
        """See ISecretSource."""
        return Deferred.fromCoroutine(self._what_is_kept())

    async def _what_is_kept(self) -> frozenset[str]:
        table = await self._current(LOCAL_NETWORK)
        if self._kept is None or not table.unsure:      # a part of the file says nothing of all users
            schemes = {scheme_of(one.verifier) for one in table.entries.values() if one.verifier is not None}
            self._kept = frozenset(kind for kind, serving in SCHEMES_FOR.items() if schemes <= set(serving))
        return self._kept

    def habits(self) -> Deferred[Habits]:
        """See ISecretSource. A name of the form local@domain is all that its user is known by."""
        return Deferred.fromCoroutine(self._what_is_usual())

    async def _what_is_usual(self) -> Habits:
        table = await self._current(LOCAL_NETWORK)
        if self._habits is None or self._habits[0] is not table:
            self._habits = table, _habits_of(table)
        return self._habits[1]

    def server_secret(self) -> Deferred[bytes | None]:
        """See ISecretSource: a file has none."""
        return succeed(None)

    async def _check(self, username: bytes, password: bytes, network: str) -> bytes:
        table = await self._current(network)
        name = login_name(username)
        entry = None if name is None else table.find(name)
        verifier = entry.verifier if entry is not None else None
        if entry is None or verifier is None:
            await self._hashing().run(network, matching, (DUMMY_VERIFIER,), password)
            raise Refused("unknown to the passwd-file, or locked")
        remembered, key = self.remembered, b""
        if remembered is not None:
            key = remembered.key(f"passwd-file:{self.file.path}", username, password, verifier.encode())
            if remembered.find(key) is not None:
                return entry.name.encode("utf-8")
        if True not in await self._hashing().run(network, matching, (verifier,), password):
            raise Refused("no password matches")
        if remembered is not None:
            remembered.remember(key, True)
        return entry.name.encode("utf-8")

    async def _knows(self, name: str) -> bool:
        try:
            table = await self._current(LOCAL_NETWORK)
        except TooBusy as busy:
            raise StoreUnavailable(str(busy)) from busy
        return table.find(name) is not None

    async def _current(self, network: str) -> Table:
        """Return the table; a changed file is read in the pool, for a long one takes a while."""
        table = self.file.unchanged()
        if table is None:
            table = await self._hashing().run(network, self.file.read)
            self._tell(table)
        return table

    def _tell(self, table: Table) -> None:
        for number, reason in table.problems:
            if (number, reason) not in self._told:
                log.warn("{path} line {number}: {reason}; the line is left out",
                         path=self.file.path, number=number, reason=reason)
        self._told = frozenset(table.problems)

    def _hashing(self) -> Hashing:
        if self.pool is None:
            from twisted.internet import reactor  # not before there is a login: twistd chooses it

            self.pool = default_pool(reactor)
            if self.remembered is None:
                self.remembered = RememberedSuccess(reactor)
        return self.pool


__all__ = ["Entry", "PasswdFile", "PasswdFileChecker", "parse"]
