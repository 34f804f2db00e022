"""The realm: from what a checker vouches for to an open maildrop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.mail.interfaces import IMailboxPOP3
from zope.interface import Interface, implementer

from mailgate.auth.abandoned import undone_if_abandoned
from mailgate.auth.credentials import Refused
from mailgate.errors import AccountConflict, LoginRefused, StaleCredential
from mailgate.interfaces import IMaildrop, IMaildropStore
from mailgate.model import Admission
from mailgate.names import check_name
from mailgate.wire.shown import shown

log = Logger()

Avatar = tuple[type[Interface], Any, Callable[[], Any]]     # interface, avatar, logout


@implementer(IRealm)
class MaildropRealm:
    """Opens maildrops of a store for any protocol that asks for `IMaildrop`.

    With `mailbox`, a function that makes an `IMailboxPOP3` of an open IMaildrop, it serves Twisted's
    own POP3 too. `login_delay_seconds` is the least time between two logins to a maildrop view.
    """

    def __init__(self, store: IMaildropStore, *, login_delay_seconds: int = 0,
                 mailbox: Callable[[IMaildrop], Any] | None = None) -> None:
        self._store = store
        self._login_delay_seconds = login_delay_seconds
        self._mailbox = mailbox

    def requestAvatar(self, avatarId: Any, mind: object, *interfaces: Any) -> Deferred[Avatar]:
        """Return interface, avatar and logout; logout gives up the lease and may return a Deferred.

        `avatarId` is an Admission, or the name that another application's checker returned: it opens
        the maildrop of that name. May be cancelled: a lease that still comes is given up at once.

        Raises, by the Deferred: LoginRefused, for an anonymous or unusable name and for one that an
        account of the store answers to; what else `IMaildropStore.open` raises. Raises:
        NotImplementedError, if no interface is served here.
        """
        return Deferred.fromCoroutine(self._open(avatarId, *self._served(interfaces)))

    async def open(self, avatar_id: Any, *interfaces: Any) -> Avatar:
        """Do what `requestAvatar` does, for callers that are coroutines: without a Deferred between."""
        return await self._open(avatar_id, *self._served(interfaces))

    def _served(self, interfaces: tuple[Any, ...]) -> tuple[Any, Callable[[IMaildrop], Any] | None]:
        """Return the first interface that is served, and what makes it of an IMaildrop."""
        for interface in interfaces:
            if interface is IMaildrop:
                return interface, None
            if interface is IMailboxPOP3 and self._mailbox is not None:
                return interface, self._mailbox
        raise NotImplementedError(f"{type(self).__name__} serves none of {interfaces}")

    async def _open(self, avatar_id: Any, interface: Any,
                    adapt: Callable[[IMaildrop], Any] | None) -> Avatar:
        admission = self._admission(avatar_id)
        try:
            maildrop: Any = await undone_if_abandoned(self._store.open(admission), _give_up)
        except StaleCredential:
            forget = getattr(avatar_id, "forget", None)
            if forget is not None:
                forget()        # the next check, by the portal or the client's next try, is a fresh one
            raise
        except LoginRefused as refusal:
            raise Refused(str(refusal)) from refusal
        if admission.app_password is not None:
            log.info("login of {account}: app password {label}, from {peer}",
                     account=shown(admission.account or ""), label=repr(admission.app_password),
                     peer=admission.used_from)
        if adapt is None:
            return interface, maildrop, maildrop.release
        try:
            return interface, adapt(maildrop), maildrop.release
        except BaseException:
            await maildrop.release()
            raise

    def _admission(self, avatar_id: Any) -> Admission:
        admission = avatar_id if isinstance(avatar_id, Admission) else Admission(_maildrop_name(avatar_id))
        if self._login_delay_seconds:
            admission = replace(admission, login_delay_seconds=self._login_delay_seconds)
        return admission


def _give_up(maildrop: IMaildrop) -> Deferred[None]:
    return maildrop.release()


def _maildrop_name(avatar_id: Any) -> str:
    """Return the maildrop of a plain name. Raises: LoginRefused, for ANONYMOUS and what is no name."""
    try:
        name = avatar_id.decode("utf-8") if isinstance(avatar_id, bytes) else avatar_id
        if not isinstance(name, str):
            raise Refused(f"no maildrop for {type(avatar_id).__name__}")
        check_name(name, sdps=False)
    except (UnicodeDecodeError, AccountConflict) as unusable:
        raise Refused(f"no maildrop for {avatar_id!r}") from unusable
    return name
