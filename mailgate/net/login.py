"""Logging in on a connection, and out again: the portal, refusals held back, the maildrop let go.

The rules that are not the portal's (when a refusal leaves, what is refused unasked) are those of the
factory's `Attempts`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.mail.interfaces import IMailboxPOP3
from twisted.python.failure import Failure

from mailgate.auth.credentials import credentials_of
from mailgate.auth.outcomes import outcome_of
from mailgate.auth.portal import MailgatePortal
from mailgate.errors import LoginRefused, MailgateError, TooManyLogins, Undecided
from mailgate.interfaces import IMaildrop
from mailgate.net.attempts import NAME_OCTETS, Attempt
from mailgate.net.connection import LATER, Connection
from mailgate.net.mailboxes import open_mailbox
from mailgate.net.refusals import NAME_CHARACTERS, tell_put_off, tell_refused
from mailgate.pop3.effects import LogIn, Refuse
from mailgate.wire.shown import shown

log = Logger()


class LoginConnection(Connection):
    """A connection on which somebody logs in.

    Its factory has a `portal`, `attempts`, and says whether it `cancels_logins`.
    """

    __slots__ = ("_maildrop", "_logout", "_committing", "_logging_in", "_attempt", "_delayed", "_began")

    def __init__(self, factory: Any) -> None:
        super().__init__(factory)
        self._maildrop: Any = None
        self._logout: Callable[[], object] | None = None
        self._committing = False                 # QUIT is under way: it ends by itself
        self._logging_in: Deferred[Any] | None = None   # while the portal is asked
        self._attempt: Attempt | None = None     # the latest
        self._delayed: Any = None                # the delayed call of a refused login's answer
        self._began = 0.0                        # time since which a login is awaited

    @property
    def _login_name(self) -> str:
        """The name of the latest login, as a log line may show it."""
        return "" if self._attempt is None else shown(self._attempt.name, NAME_CHARACTERS)

    # In ---------------------------------------------------------------------------------------

    def _credentials(self, claim: Any) -> Any:
        """Return what the portal is given for a claim; a protocol that knows its client says more."""
        return credentials_of(claim, self.peer)

    def _begin_login(self, ask: LogIn) -> Deferred[Any]:
        pending = Deferred.fromCoroutine(self._log_in(ask))
        if not pending.called:
            self._logging_in = pending
        return pending

    async def _log_in(self, ask: LogIn) -> Any:
        """Return the maildrop of the claim. A client that is gone by then is logged out at once."""
        try:
            attempt = self._begin_attempt(ask.claim.name)
            interface, avatar, self._logout = await self._ask_portal(self._credentials(ask.claim))
            maildrop = avatar if interface is IMaildrop else await outcome_of(open_mailbox, avatar)
        except BaseException:
            await self._leave()                     # after -ERR no lock is kept (RFC 1939 section 4)
            raise
        finally:
            self._logging_in = None
        self._maildrop = maildrop
        if self.transport is None:
            await self._leave()
        else:
            self.factory.attempts.opened(attempt)
        return maildrop

    def _ask_portal(self, credentials: Any) -> Awaitable[Any]:
        portal, interfaces = self.factory.portal, (IMaildrop, IMailboxPOP3)
        if isinstance(portal, MailgatePortal):
            return portal.log_in(credentials, None, *interfaces)
        return outcome_of(portal.login, credentials, None, *interfaces)

    def _refuse(self, ask: Refuse) -> object:
        """Fail as a login fails that the portal judged."""
        self._begin_attempt(ask.name)
        raise ask.fault

    def _begin_attempt(self, name: bytes) -> Attempt:
        """Return the attempt that an exchange has begun with this name, or a new one."""
        latest, now = self._attempt, self.factory.clock.seconds()
        if latest is not None and latest.open and not latest.granted:
            if latest.name == name[:NAME_OCTETS]:
                latest.began = now
                return latest
            self._abandon(latest)
        attempt = self._attempt = Attempt(name, self.peer, now)
        try:
            self.factory.attempts.begin(attempt)
        except TooManyLogins as fault:
            tell_put_off(*self._whose(attempt), str(fault))
            raise
        attempt.open = True
        return attempt

    def _abandon(self, attempt: Attempt) -> None:
        attempt.open = False
        self.factory.attempts.left(attempt)

    def _whose(self, attempt: Attempt) -> tuple[str | None, str, str, bytes]:
        """Return what a log line says of an attempt: address, protocol, mechanism and name."""
        spoken = self.factory.spoken + ("+tls" if self.tls else "")
        return self.peer, spoken, self._session.mechanism.decode("ascii", "replace"), attempt.name

    # Refused ----------------------------------------------------------------------------------

    def _judged(self, result: object) -> object:
        """Turn a failure into its fault, and hold a refused login back until its time."""
        unheard = self.transport is None and not self._committing
        if unheard and isinstance(result, Failure) and result.check(MailgateError, CancelledError):
            result = result.value                   # the session ended first, and nobody is answered
        else:
            result = super()._judged(result)
        if isinstance(result, (LoginRefused, Undecided)):
            return self._held_back(result)
        if isinstance(result, BaseException) and not (self._attempt and self._attempt.granted):
            self._end_attempt()                     # nobody's password was wrong
        return result

    def _held_back(self, fault: LoginRefused | Undecided) -> object:
        if self._attempt is None:                   # refused before there was a name
            self._attempt = Attempt(b"", self.peer, self.factory.clock.seconds())
        tell = tell_put_off if isinstance(fault, Undecided) else tell_refused
        tell(*self._whose(self._attempt), getattr(fault, "reason", "") or str(fault))
        if self.transport is None:
            return fault
        delay = self.factory.attempts.refused(self._attempt)
        if delay <= 0:
            self._end_attempt()
            return fault
        self._delayed = self.factory.clock.callLater(delay, self._refuse_late, fault)
        return LATER

    def _refuse_late(self, fault: LoginRefused | Undecided) -> None:
        self._delayed = None
        self._end_attempt()
        self._began = self.factory.clock.seconds()      # another try has the whole time again
        self._go_on(fault)

    # Out --------------------------------------------------------------------------------------

    def _give_up(self) -> None:
        """The client is gone: log it out, or whatever is on its way to be logged in.

        A plain Portal that is cancelled would lose sight of an avatar: it is waited for.
        """
        attempt = self._attempt
        if attempt is not None and attempt.open and not attempt.granted:
            if self._delayed is None and self._logging_in is None:
                tell_refused(*self._whose(attempt), "the client left the exchange")
            self._abandon(attempt)
        if self._delayed is not None:
            self._delayed.cancel()
            self._delayed = None
        if self._logging_in is None:
            if not self._committing:
                Deferred.fromCoroutine(self._leave())
        elif self.factory.cancels_logins:
            self._logging_in.cancel()

    async def _leave(self) -> None:
        """Release the maildrop unless QUIT has, and log the avatar out; each once."""
        maildrop, self._maildrop = self._maildrop, None
        logout, self._logout = self._logout, None
        for step in (maildrop and maildrop.release, logout):
            if step:
                try:
                    await outcome_of(step)
                except Exception:
                    log.failure("a session could not be ended in order")
        if self._attempt is not None and self._attempt.granted:
            self._end_attempt()

    def _end_attempt(self) -> None:
        if self._attempt is not None and self._attempt.open:
            self._attempt.open = False
            self.factory.attempts.ended(self._attempt)
