"""From a proven Kerberos principal to a maildrop: credentials and a checker for `twisted.cred`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import Attribute, implementer

from mailgate.auth.credentials import Refused, login_name
from mailgate.errors import AccountConflict
from mailgate.interfaces import IAccountStore, IUserLookup
from mailgate.model import Admission
from mailgate.names import check_name, fold
from mailgate.principals import Principal, Rules
from mailgate.wire.shown import shown

log = Logger()


class IKerberosPrincipal(ICredentials):
    """A client whose ticket was found good; it asks for a maildrop by a login name."""

    principal = Attribute("mailgate.principals.Principal: who the client has proven to be")
    username = Attribute("the login name that it chose, as octets")


@implementer(IKerberosPrincipal)
class PrincipalLogin:
    """A principal and the login name that it chose."""

    __slots__ = ("principal", "username", "peer")

    def __init__(self, principal: Principal, username: bytes, peer: str | None = None) -> None:
        self.principal = principal
        self.username = username
        self.peer = peer        # address of the client's host, if there is one

    def __repr__(self) -> str:
        return f"PrincipalLogin({str(self.principal)!r}, {self.username!r}, peer={self.peer!r})"


@implementer(ICredentialsChecker)
class PrincipalChecker:
    """Admits a principal to the maildrops that the rules permit.

    The login name is resolved first, as in any login: what it stands for is then held to the rules,
    so that no spelling opens more than another. Only who has an account gets in: one of the store's,
    or a name that one of `lookups` knows. A ticket makes none.
    """

    credentialInterfaces = (IKerberosPrincipal,)

    def __init__(self, rules: Rules, accounts: IAccountStore | None,
                 lookups: Sequence[IUserLookup] = ()) -> None:
        self._rules = rules
        self._accounts = accounts
        self._lookups = tuple(lookups)

    def requestAvatarId(self, credentials: IKerberosPrincipal) -> Any:
        """Return a Deferred of the Admission, of a store's account with its credential version.

        Raises, by the Deferred: LoginRefused, the same for a maildrop that no rule opens to this
        principal, one that is not there, and a disabled account; StoreUnavailable.
        """
        return Deferred.fromCoroutine(self._check(credentials.principal, credentials.username))

    async def _check(self, principal: Principal, username: bytes) -> Admission:
        name = login_name(username)
        admission = None if name is None else await self._find(name)
        if admission is None:
            raise _refused(principal, username, "no such account, or a disabled one")
        if not self._rules.permit(principal, admission.maildrop, admission.view):
            raise _refused(principal, username, "no rule opens it")
        log.info("{principal} opens {login}", principal=shown(str(principal)), login=shown(username))
        return admission

    async def _find(self, name: str) -> Admission | None:
        """Return what a login name stands for, if it is somebody's who may log in."""
        if self._accounts is not None:
            login = await self._accounts.find_login(name)
            if login is not None:
                account = login.account
                return None if account.disabled else Admission(
                    account.name, login.view, account.name, account.version)
        try:
            check_name(name, sdps=False)
        except AccountConflict:
            return None
        for lookup in self._lookups:
            if await lookup.knows(name):
                return Admission(fold(name))
        return None


def _refused(principal: Principal, username: bytes, why: str) -> Refused:
    """Tell the log why; a portal's refusals all look the same."""
    log.info("{principal} may not open {login}: {why}", principal=shown(str(principal)),
             login=shown(username), why=why)
    return Refused(why)
