"""From a proven Kerberos principal to a maildrop: a checker for `twisted.cred`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from mailgate.auth.credentials import IKerberosPrincipal, PrincipalLogin, Refused, login_name
from mailgate.auth.known import known_maildrop
from mailgate.errors import AccountConflict
from mailgate.interfaces import IAccountStore, IUserLookup
from mailgate.model import Admission
from mailgate.names import check_name
from mailgate.principals import Principal, Rules
from mailgate.wire.shown import shown

log = Logger()


@implementer(ICredentialsChecker)
class PrincipalChecker:
    """Admits a principal to the maildrops that the rules permit.

    The login name is resolved first, as in any login: what it stands for is then held to the rules,
    so that no spelling opens more than another. Who asks by the principal's own name, realm and all,
    gets what the rules say it stands for. Only who has an account gets in: one of the store's, or a
    name that one of `lookups` knows. A ticket makes none.
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
        if name == str(principal):
            name = self._rules.own(principal)       # or none, and then it is nobody's
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
        maildrop = await known_maildrop(self._lookups, name)
        return None if maildrop is None else Admission(maildrop)


def _refused(principal: Principal, username: bytes, why: str) -> Refused:
    """Tell the log why; a portal's refusals all look the same."""
    log.info("{principal} may not open {login}: {why}", principal=shown(str(principal)),
             login=shown(username), why=why)
    return Refused(why)


__all__ = ["IKerberosPrincipal", "PrincipalChecker", "PrincipalLogin"]
