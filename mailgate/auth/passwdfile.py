"""A passwd-file in Dovecot's form: `user:{SCHEME}hash:uid:gid:gecos:home:shell:extra`, one a line.

Only the first two fields count here. A hash without a scheme is CRYPT; an empty field, `*` or `!`
in front of it is a user who receives mail and cannot log in. Lines beginning with `#` are comments.
"""

from __future__ import annotations

import os
import threading
from typing import Any, NamedTuple

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from mailgate.auth.answers import digest_matches, scram_secret
from mailgate.auth.checkers import DUMMY_VERIFIER, matching, proven
from mailgate.auth.credentials import INamedLogin, IProvenLogin, Refused, Vouch, login_name, octets_of
from mailgate.auth.hashing import LOCAL_NETWORK, Hashing, default_pool, network_of
from mailgate.auth.remembered import RememberedSuccess
from mailgate.auth.schemes import SCHEMES_FOR, check_verifier, scheme_of
from mailgate.errors import AccountConflict, StoreUnavailable, TooBusy
from mailgate.interfaces import ISecretSource, IUserLookup
from mailgate.model import ScramSecret
from mailgate.names import check_name, fold

log = Logger()


class Entry(NamedTuple):
    """One user of the file."""

    name: str               # as the file spells it
    verifier: str | None    # None: cannot log in


class Table(NamedTuple):
    """What the file held when it was read."""

    entries: dict[str, Entry]           # by the name's key
    problems: list[tuple[int, str]]     # lines that were left out: number from 1, and why
    signature: tuple[int, ...]          # of the file that was read


class PasswdFile:
    """The file, and its table as long as the file does not change. Calls block; any thread may call."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._table: Table | None = None
        self._reading = threading.Lock()

    def unchanged(self) -> Table | None:
        """Return the table, or None when the file must be read (again). Costs one stat.

        Raises: StoreUnavailable, if the file is not there.
        """
        try:
            signature = _signature(os.stat(self.path))
        except OSError as fault:
            raise _unreadable(fault) from fault
        table = self._table
        return table if table is not None and table.signature == signature else None

    def read(self) -> Table:
        """Return the table of the file as it is now. Raises: StoreUnavailable."""
        with self._reading:     # many logins may have seen the change; one of them reads
            table = self.unchanged()
            if table is None:
                table = self._table = self._load()
            return table

    def _load(self) -> Table:
        try:
            with open(self.path, "rb") as file:
                signature = _signature(os.fstat(file.fileno()))    # before the octets: a change shows later
                content = file.read()
        except OSError as fault:
            raise _unreadable(fault) from fault
        entries, problems = parse(content)
        return Table(entries, problems, signature)


def parse(content: bytes) -> tuple[dict[str, Entry], list[tuple[int, str]]]:
    """Return the users of a passwd-file by the keys of their names, and what is wrong with other lines.

    Of two lines for one user the first counts. No reason shows a hash.
    """
    entries: dict[str, Entry] = {}
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(content.split(b"\n"), 1):
        line = line.removesuffix(b"\r")
        if not line.strip() or line.startswith(b"#"):
            continue
        try:
            entry = _entry(line)
            if fold(entry.name) in entries:
                raise ValueError(f"{entry.name!r} has a line already")
            entries[fold(entry.name)] = entry
        except (ValueError, AccountConflict) as wrong:
            problems.append((number, str(wrong)))
    return entries, problems


def _entry(line: bytes) -> Entry:
    try:
        fields = line.decode("utf-8").split(":", 2)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if len(fields) < 2:
        raise ValueError("no colon behind the user")
    name, verifier = fields[:2]
    check_name(name, sdps=False)
    if not verifier or verifier[0] in "*!":
        return Entry(name, None)
    if not verifier.startswith("{"):
        verifier = "{CRYPT}" + verifier
    check_verifier(verifier)
    return Entry(name, verifier)


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev)


def _unreadable(fault: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"passwd-file: {fault}")


@implementer(ICredentialsChecker, ISecretSource, IUserLookup)
class PasswdFileChecker:
    """The users of a passwd-file, as they are at each login.

    It answers with the plain user name, as any checker of `twisted.cred` does, so that realms of
    other applications can use it too. Without a pool it makes one of its own at the first login.
    """

    credentialInterfaces = (IUsernamePassword, IUsernameHashedPassword, IProvenLogin, INamedLogin)

    def __init__(self, path: str, pool: Hashing | None = None,
                 remembered: RememberedSuccess | None = None) -> None:
        self.file = PasswdFile(os.path.abspath(path))
        self.pool = pool
        self.remembered = remembered
        self._told: frozenset[tuple[int, str]] = frozenset()    # problems that are in the log

    def requestAvatarId(self, credentials: Any) -> Any:
        """Return the user's name as octets, as the file spells it.

        Raises, by the Deferred: LoginRefused; TooBusy; StoreUnavailable, if the file cannot be read.
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
        entry = None if name is None else table.entries.get(fold(name))
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
        verifiers = [entry.verifier for entry in table.entries.values() if entry.verifier is not None]
        schemes = set(map(scheme_of, verifiers))
        return frozenset(kind for kind, serving in SCHEMES_FOR.items() if schemes <= set(serving))

    def server_secret(self) -> Deferred[bytes | None]:
        """See ISecretSource: a file has none."""
        return succeed(None)

    async def _check(self, username: bytes, password: bytes, network: str) -> bytes:
        table = await self._current(network)
        name = login_name(username)
        entry = None if name is None else table.entries.get(fold(name))
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
        return fold(name) in table.entries

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
