"""Checkers of names and passwords: the store's accounts, and a row of checkers asked in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin, UnhandledCredentials
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from mailgate.auth.answers import digest_matches, scram_secret
from mailgate.auth.apppasswords import find_generated
from mailgate.auth.credentials import INamedLogin, IProvenLogin, Refused, Vouch, login_name, octets_of
from mailgate.auth.hashing import Hashing, network_of
from mailgate.auth.invented import FAMILIES
from mailgate.auth.outcomes import outcome_of
from mailgate.auth.remembered import RememberedSuccess
from mailgate.auth.schemes import SCHEMES_FOR, check_verifier, for_passwords, verify
from mailgate.errors import LoginRefused, MailgateError, StoreUnavailable, TooBusy, Undecided
from mailgate.interfaces import IAccountStore, ISecretSource
from mailgate.model import Admission, Habits, Login, ScramSecret
from mailgate.wire.shown import shown

# What an unknown name is checked against, so that it costs what a known one costs: the default
# scheme with its present costs, of a password that nobody kept. A match would be refused as well.
DUMMY_VERIFIER = ("{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$FkIoBaD0XmsNYayVMoYwpg"
                  "$SBDwZvYkFzFXNesFi4JNMqXeccpmK+VL+HYEW0MQuz4")

log = Logger()


@dataclass(frozen=True)
class CheckedAdmission(Admission):
    """An admission whose check may have been a remembered one."""

    forget: Callable[[], None] | None = field(default=None, repr=False, compare=False)


@implementer(ICredentialsChecker, ISecretSource)
class StoreChecker:
    """The accounts of the shared store: by password (its own or an app password), by what an account
    keeps for mechanisms with a challenge, or by a name that something else has proven.

    A remembered success is answered without asking the store: the store compares the credential
    version again while it takes the lease (`IMaildropStore.open`). Give `remembered` only where a
    realm does that.
    """

    credentialInterfaces = (IUsernamePassword, IUsernameHashedPassword, IProvenLogin, INamedLogin)

    def __init__(self, accounts: IAccountStore, pool: Hashing,
                 remembered: RememberedSuccess | None = None) -> None:
        self._accounts = accounts
        self._pool = pool
        self._remembered = remembered
        self._mark = "store:" + os.urandom(8).hex()     # tells the checkers of one table apart
        self._complaints = Complaints()
        self._secret: bytes | None = None
        self._kept: tuple[int, frozenset[str]] | None = None    # and at which change of the accounts
        self._habits: tuple[int, Habits] | None = None          # the same

    def requestAvatarId(self, credentials: Any) -> Any:
        """Return a CheckedAdmission, or a Deferred of one.

        Raises, by the Deferred: LoginRefused, the same for an unknown name, a wrong password and a
        disabled account; TooBusy; StoreUnavailable.
        """
        if IProvenLogin.providedBy(credentials):
            return proven(self, credentials)
        if not IUsernamePassword.providedBy(credentials):
            return Deferred.fromCoroutine(self._check_otherwise(credentials))
        username, password = octets_of(credentials)
        if self._remembered is not None:
            found = self._remembered.find(self._remembered.key(self._mark, username, password))
            if found is not None:
                return _used_from(found, credentials)
        checking = Deferred.fromCoroutine(self._check(username, password, _peer_of(credentials)))
        return checking.addCallback(_used_from, credentials)

    async def _check(self, username: bytes, password: bytes, peer: str | None) -> CheckedAdmission:
        """Hold a password against an account's own and its app passwords.

        A generated app password is found at once. Slow hashes are at most two own ones and
        MOST_CHOSEN_APP_PASSWORDS, all of them tried.
        """
        name = login_name(username)
        login = None if name is None else await self._accounts.find_login(name)
        if login is not None and not login.account.disabled:
            generated = find_generated(login.app_passwords, password)
            if generated is not None:
                return self._admit(login, username, password, generated.label)
        own = for_passwords(login.account.verifiers) if login is not None else ()
        chosen = [one for one in login.app_passwords if not one.generated] if login is not None else []
        verifiers = (*own, *(one.verifier for one in chosen))
        matches = await self._pool.run(
            network_of(peer), matching, verifiers or (DUMMY_VERIFIER,), password)
        if login is None or not verifiers or login.account.disabled or not any(matches):
            raise Refused(self._reason(login, matches, password))
        slot = matches.index(True)
        if slot >= len(own):
            return self._admit(login, username, password, chosen[slot - len(own)].label)
        if len(own) > 1:
            log.info("login of {login}: password {slot} of {slots}", login=shown(username),
                     slot=slot + 1, slots=len(own))
        return self._admit(login, username, password)

    async def _check_otherwise(self, credentials: Any) -> CheckedAdmission:
        """Admit by the digest of a challenge, or by a name that was proven outside."""
        username = credentials.username
        username = username.encode() if isinstance(username, str) else username
        name = login_name(username)
        login = None if name is None else await self._accounts.find_login(name)
        if login is None:
            raise Refused("no such account")
        if IUsernameHashedPassword.providedBy(credentials):
            matches = digest_matches(credentials, login.account.verifiers)
            if not any(matches):
                raise Refused("the digest is wrong" if matches else "nothing is kept for such a digest")
        if login.account.disabled:
            raise Refused("disabled")
        return self._admission(login)

    def scram_secret(self, scheme: str, name: bytes) -> Deferred[ScramSecret | None]:
        """See ISecretSource."""
        return Deferred.fromCoroutine(self._scram_secret(scheme, name))

    async def _scram_secret(self, scheme: str, name: bytes) -> ScramSecret | None:
        text = login_name(name)
        login = None if text is None else await self._accounts.find_login(text)
        if login is None:
            return None
        vouch = None if login.account.disabled else Vouch(self, self._admission(login))
        return scram_secret(scheme, login.account.verifiers, vouch)

    def kept(self) -> Deferred[frozenset[str]]:
        """See ISecretSource. Looks at all accounts only after one has changed."""
        return Deferred.fromCoroutine(self._what_is_kept())

    async def _what_is_kept(self) -> frozenset[str]:
        change = await self._accounts.changes()
        if self._kept is None or self._kept[0] != change:
            kinds = {kind for kind, schemes in SCHEMES_FOR.items()
                     if not await self._accounts.lacking(schemes, 1)}
            self._kept = change, frozenset(kinds)
        return self._kept[1]

    def habits(self) -> Deferred[Habits]:
        """See ISecretSource. Looks at all accounts only after one has changed."""
        return Deferred.fromCoroutine(self._what_is_usual())

    async def _what_is_usual(self) -> Habits:
        change = await self._accounts.changes()
        if self._habits is None or self._habits[0] != change:
            self._habits = change, await self._accounts.habits(tuple(FAMILIES))
        return self._habits[1]

    def server_secret(self) -> Deferred[bytes | None]:
        """See ISecretSource."""
        return Deferred.fromCoroutine(self._server_secret())

    async def _server_secret(self) -> bytes | None:
        if self._secret is None:
            self._secret = await self._accounts.server_secret()
        return self._secret

    def _admission(self, login: Login, app_password: str | None = None) -> CheckedAdmission:
        account = login.account
        return CheckedAdmission(account.name, login.view, account.name, account.version,
                                app_password=app_password)

    def _admit(self, login: Login, username: bytes, password: bytes,
               app_password: str | None = None) -> CheckedAdmission:
        admission, remembered = self._admission(login, app_password), self._remembered
        if remembered is None:
            return admission
        key = remembered.key(self._mark, username, password)
        admission = replace(admission, forget=lambda: remembered.forget(key))
        remembered.remember(key, admission)
        return admission

    def _reason(self, login: Login | None, matches: Sequence[bool], password: bytes) -> str:
        """Return why a login is refused: for the log, where an operator reads it; never for the client."""
        if login is None:
            return "no such account"
        self._complain(login)
        if login.account.disabled and (any(matches) or find_generated(login.app_passwords, password)):
            return "disabled"
        return "no password matches"

    def _complain(self, login: Login) -> None:
        name = login.account.name
        for slot, verifier in enumerate(login.account.verifiers, 1):
            self._complaints.about(verifier, f"account {name!r}, password {slot}")
        for one in login.app_passwords:
            self._complaints.about(one.verifier, f"account {name!r}, app password {one.label!r}")


def _peer_of(credentials: Any) -> str | None:
    peer: str | None = getattr(credentials, "peer", None)
    return peer


def _used_from(admission: CheckedAdmission, credentials: Any) -> CheckedAdmission:
    """Say where an app password is used from now: one that is remembered may have come from elsewhere."""
    if admission.app_password is None:
        return admission
    return replace(admission, used_from=_peer_of(credentials))


def proven(checker: Any, credentials: Any) -> Any:
    """Return what a checker vouched for when it gave out a secret. Raises: UnhandledCredentials."""
    vouch = credentials.vouch
    if vouch.checker is not checker:
        raise UnhandledCredentials("another checker's secret")
    return vouch.avatar_id


def matching(verifiers: Sequence[str], password: bytes) -> list[bool]:
    """Return which verifiers match. All are tried, also after a match: the time tells no slot. Blocks."""
    return [verify(verifier, password) for verifier in verifiers]


class Complaints:
    """Log lines about verifiers that no password can match, each told once."""

    LIMIT = 1000    # of places told; then the oldest may be told again

    def __init__(self) -> None:
        self._told: dict[str, None] = {}

    def about(self, verifier: str, place: str) -> None:
        """Tell what is wrong with a verifier, if anything is and it was not told before."""
        try:
            check_verifier(verifier)
        except ValueError as wrong:
            if place in self._told:
                return
            while len(self._told) >= self.LIMIT:
                del self._told[next(iter(self._told))]
            self._told[place] = None
            log.warn("{place}: {reason}", place=place, reason=str(wrong))
        else:
            self._told.pop(place, None)     # mended; the next mistake there is news


@implementer(ICredentialsChecker)
class CheckerChain:
    """Checkers asked in order; the next one when one refuses, or cannot answer.

    An outage is no refusal: while one checker is down the others let their users in, and nobody is
    told that a password is wrong.
    Checkers of other applications are welcome; they may return, raise, or return a Deferred.
    """

    def __init__(self, checkers: Iterable[ICredentialsChecker]) -> None:
        self.checkers = tuple(checkers)
        self.credentialInterfaces = tuple(dict.fromkeys(
            interface for checker in self.checkers for interface in checker.credentialInterfaces))

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """Return, by a Deferred, what `ask` does."""
        return Deferred.fromCoroutine(self.ask(credentials))

    async def ask(self, credentials: Any) -> Any:
        """Return what the first checker returns that does not refuse.

        Raises: LoginRefused, if all refuse; Undecided, if some do and others could not answer;
        StoreUnavailable or TooBusy, the first,
        if some could not answer and the others refuse; UnhandledCredentials, if none knows
        credentials of this kind; whatever else a checker raises, at once.
        """
        asked = False
        reasons = []
        outages: list[MailgateError] = []
        for checker in self.checkers:
            if not any(interface.providedBy(credentials) for interface in checker.credentialInterfaces):
                continue
            asked = True
            try:
                avatar_id = await outcome_of(checker.requestAvatarId, credentials)
            except (UnauthorizedLogin, LoginRefused, UnhandledCredentials) as refusal:
                reasons.append(getattr(refusal, "reason", type(refusal).__name__))
            except (StoreUnavailable, TooBusy) as fault:
                outages.append(fault)
            else:
                for outage in outages:
                    log.warn("a checker could not answer: {reason}", reason=ascii(str(outage)))
                return avatar_id
        if not asked:
            raise UnhandledCredentials(f"no checker for {type(credentials).__name__}")
        if outages and reasons:
            # to whoever guesses it is a refusal: answered in its time, and counted
            raise Undecided(f"{outages[0]} (others: {'; '.join(dict.fromkeys(reasons))})") from outages[0]
        if outages:
            raise outages[0]
        raise Refused("; ".join(dict.fromkeys(reasons)))
