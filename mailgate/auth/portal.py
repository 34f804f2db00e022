"""The portal between protocols and the realm: `twisted.cred`'s, with what remembered logins need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import LoginDenied, UnauthorizedLogin, UnhandledCredentials
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, maybeDeferred

from mailgate.auth.abandoned import undone_if_abandoned
from mailgate.auth.checkers import CheckerChain
from mailgate.auth.credentials import Refused
from mailgate.auth.outcomes import outcome_of
from mailgate.auth.realm import MaildropRealm
from mailgate.errors import LoginRefused, StaleCredential, StoreUnavailable


class MailgatePortal(Portal):
    """A Portal whose checkers are asked in order, and whose refusals are all LoginRefused.

    A login that turns out to rest on a stale, remembered check is checked afresh, once.
    """

    def __init__(self, realm: IRealm, checkers: Iterable[ICredentialsChecker] = ()) -> None:
        checkers = tuple(checkers)
        super().__init__(realm, (CheckerChain(checkers),) if checkers else ())

    def login(self, credentials: Any, mind: object, *interfaces: Any) -> Deferred[Any]:
        """See Portal.login. May be cancelled: then nothing stays open, whenever it would have opened.

        Raises, by the Deferred: LoginRefused; UnhandledCredentials, if no checker takes credentials
        of this kind; whatever else checkers and realm raise.
        """
        return Deferred.fromCoroutine(self.log_in(credentials, mind, *interfaces))

    async def log_in(self, credentials: Any, mind: object, *interfaces: Any) -> Any:
        """Do what `login` does, for callers that are coroutines: without a Deferred between."""
        checker = self._checker_for(credentials)
        try:
            try:
                return await self._attempt(checker, credentials, mind, interfaces)
            except StaleCredential:
                return await self._attempt(checker, credentials, mind, interfaces)
        except StaleCredential as stale:
            raise StoreUnavailable("the account changed twice during one login") from stale
        except LoginRefused:
            raise
        except (UnauthorizedLogin, LoginDenied) as refusal:
            raise Refused(str(refusal)) from refusal

    async def _attempt(self, checker: ICredentialsChecker, credentials: Any, mind: object,
                       interfaces: tuple[Any, ...]) -> Any:
        if isinstance(checker, CheckerChain):
            avatar_id = await checker.ask(credentials)
        else:
            avatar_id = await outcome_of(checker.requestAvatarId, credentials)
        if isinstance(self.realm, MaildropRealm):
            return await self.realm.open(avatar_id, *interfaces)
        avatar = maybeDeferred(self.realm.requestAvatar, avatar_id, mind, *interfaces)
        return await undone_if_abandoned(avatar, _log_out)

    def _checker_for(self, credentials: Any) -> ICredentialsChecker:
        for interface, checker in self.checkers.items():
            if interface.providedBy(credentials):
                return checker
        raise UnhandledCredentials(f"no checker for {type(credentials).__name__}")


def _log_out(avatar: Any) -> Any:
    _, _, logout = avatar
    return logout()
