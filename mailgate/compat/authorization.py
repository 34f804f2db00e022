"""The AUTHORIZATION state of the stand-in for Twisted's POP3, and the end of a session."""

from __future__ import annotations

import binascii
import hashlib
import hmac
from typing import Any

from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import LoginDenied, LoginFailed, UnauthorizedLogin
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.mail._except import IllegalClientResponse
from twisted.mail.interfaces import IMailboxPOP3
from twisted.mail.pop3 import APOPCredentials
from twisted.mail.smtp import messageid
from twisted.python.failure import Failure

from mailgate.auth import sasl
from mailgate.compat.conversation import Conversation
from mailgate.errors import BadExchange, LoginRefused, MailgateError
from mailgate.wire.shown import shown

log = Logger()


class TimestampCredentials(APOPCredentials):
    """APOP's claim (RFC 1939 section 7). Twisted's own compares text with octets, so that none is true."""

    def checkPassword(self, password: bytes | str) -> bool:
        """Return whether the digest is that of the challenge and this password."""
        octets = password.encode("utf-8") if isinstance(password, str) else password
        expected = hashlib.md5(self.magic + octets).hexdigest().encode()
        return hmac.compare_digest(expected, self.digest.lower())


class Authorization(Conversation):
    """Greeting, USER, PASS, APOP, AUTH and logging out.

    Whatever happens, each login is logged out once, and what was not committed by QUIT is undone.
    """

    portal: Any = None
    magic: bytes | None = None              # the APOP challenge; made when the client connects
    _userIs: bytes | None = None
    _onLogout: Any = None
    _auth: Any = None
    _marking = False                        # the mailbox holds marks that no QUIT has committed
    _quitting = False                       # a subclass's QUIT commits, or did
    _changing = False                       # the mailbox is about to mark, unmark or commit

    # The ends of a connection -----------------------------------------------------------------

    def connectionMade(self) -> None:
        """Greet."""
        no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if no_delay is not None:
            no_delay(True)                  # without it a small reply may wait 40 ms
        if self.magic is None:
            self.magic = self.generateMagic()
        self.successResponse(self.magic)
        self.setTimeout(self.timeOut)
        self._note("connected")

    def connectionLost(self, reason: Any = None) -> None:
        """Log out. A deletion or a QUIT that is under way is awaited."""
        super().connectionLost(reason)
        if not self._changing:
            self._leave()

    def generateMagic(self) -> bytes:
        """Return a fresh msg-id for APOP (RFC 1939 section 7)."""
        magic: bytes = messageid()
        return magic

    def _operationsOver(self) -> None:
        self._leave()

    def _leave(self) -> Deferred[None]:
        """Take back what was not committed, and log out, once. The Deferred never fails."""
        return Deferred.fromCoroutine(self._takeLeave())

    async def _takeLeave(self) -> None:
        marking, self._marking = self._marking, False
        if marking and not self._quitting:
            await self._undelete()
        logout, self._onLogout = self._onLogout, None
        if logout is not None:
            await self._logOut(logout)

    async def _change(self, method: Any, *args: Any) -> None:
        self._changing = True
        try:
            await maybeDeferred(method, *args)
        finally:
            self._changing = False

    async def _undelete(self) -> None:
        try:
            await maybeDeferred(self.mbox.undeleteMessages)
        except Exception:
            log.failure("marks could not be taken back: the mailbox may have lost messages")

    async def _logOut(self, logout: Any) -> None:
        try:
            await maybeDeferred(logout)
        except Exception:
            log.failure("logout failed")

    # Logging in -------------------------------------------------------------------------------

    def do_USER(self, user: bytes) -> None:
        """Keep the name for PASS."""
        self._userIs = user
        self.successResponse(b"USER accepted, send PASS")

    def do_PASS(self, password: bytes, *words: bytes) -> Any:
        """Log in with a password, which may hold blanks."""
        if self._userIs is None:
            self.failResponse(b"USER required before PASS")
            return None
        user, self._userIs = self._userIs, None
        return self._logIn(user, self.authenticateUserPASS, user, b" ".join((password, *words)))

    def do_APOP(self, user: bytes, digest: bytes) -> Any:
        """Log in with a digest of the greeting's challenge and the password."""
        return self._logIn(user, self.authenticateUserAPOP, user, digest)

    def do_RPOP(self, user: bytes) -> None:
        """Refuse: the client's word is no proof."""
        self.failResponse(b"RPOP is not supported")

    def authenticateUserAPOP(self, user: bytes, digest: bytes) -> Any:
        """Return (IMailboxPOP3, mailbox, logout), or a Deferred of it. Raises: UnauthorizedLogin."""
        return self._ask(TimestampCredentials(self.magic, user, digest))

    def authenticateUserPASS(self, user: bytes, password: bytes) -> Any:
        """The same for a name and a password."""
        return self._ask(UsernamePassword(user, password))

    def authenticateUserAUTH(self, credentials: Any) -> Any:
        """The same for credentials that one of `factory.challengers` made and the client completed."""
        return self._ask(credentials)

    def _ask(self, credentials: Any) -> Any:
        if self.portal is None:
            raise UnauthorizedLogin()
        return self.portal.login(credentials, None, IMailboxPOP3)

    def _logIn(self, user: bytes, authenticate: Any, *args: Any) -> Any:
        login = maybeDeferred(authenticate, *args)
        login.addCallbacks(self._cbMailbox, self._ebMailbox, callbackArgs=(user,))
        return self._longOperation(login.addErrback(self._ebUnexpected))

    def _cbMailbox(self, result: Any, user: bytes) -> Any:
        """Begin the session, or log out at once what nobody can use any more."""
        interface, avatar, logout = result
        if interface is not IMailboxPOP3 or self.mbox is not None or self._gone:
            if not self._gone:
                log.error("a login gave {interface}, a second one or none", interface=interface)
                self.failResponse(b"Authentication failed")
            return Deferred.fromCoroutine(self._logOut(logout))
        self.mbox = avatar
        self._onLogout = logout
        self._note("logged in as {user}", user=shown(user))
        self.successResponse("Authentication succeeded")
        return None

    def _ebMailbox(self, failure: Failure) -> None:
        """Answer a refused login."""
        failure.trap(LoginDenied, LoginFailed, MailgateError)
        self._note("login refused")
        if failure.check(LoginDenied):
            self.failResponse(b"Access denied")
        elif failure.check(LoginFailed, LoginRefused):
            self.failResponse(b"Authentication failed")
        else:                               # the maildrop is in use, the store is down ...
            self.failResponse(self._refusal(failure))

    def _ebUnexpected(self, failure: Failure) -> None:
        """Answer a login that could not be judged."""
        self._ebCommand(failure)

    # AUTH -------------------------------------------------------------------------------------

    def do_AUTH(self, args: bytes | None = None, initial: bytes | None = None) -> Any:
        """Begin an exchange with one of `factory.challengers`, or list them (RFC 5034 section 4)."""
        challengers = getattr(self.factory, "challengers", None)
        if not challengers:
            self.failResponse(b"AUTH extension unsupported")
            return None
        if args is None:
            self.successResponse("Supported authentication methods:")
            for name in challengers:
                self.sendLine(name.upper())
            self.sendLine(b".")
            return None
        begin = challengers.get(args.strip().upper())
        if not self.portal or not begin:
            self.failResponse(b"Unsupported SASL selected")
            return None
        self._auth = begin()
        challenge = self._auth.getChallenge()
        if initial is None:
            return self._challenge(challenge)
        if challenge:
            self.failResponse(b"the server begins with this mechanism")
            return None
        return self._respond(b"" if initial == b"=" else initial)

    def state_AUTH(self, line: bytes) -> None:
        """Take the response to a challenge (RFC 5034 section 4)."""
        self.state = "COMMAND"
        if line == b"*":
            self.failResponse(b"authentication cancelled")
        else:
            self._respond(line)

    def _challenge(self, challenge: bytes) -> None:
        self.state = "AUTH"
        self.sendLine(b"+ " + binascii.b2a_base64(challenge, newline=False))

    def _respond(self, line: bytes) -> Any:
        try:
            response = sasl.decode(line)
        except BadExchange:
            self.failResponse(b"Invalid BASE64 encoding")
            return None
        auth = self._auth
        try:
            if hasattr(auth, "setResponse"):
                auth.setResponse(response)
                if auth.moreChallenges():
                    return self._challenge(auth.getChallenge())
            else:
                auth.username, auth.response = response.split(None, 1)
        except (ValueError, IndexError, IllegalClientResponse):
            self.failResponse(b"Invalid AUTH response")
            return None
        return self._logIn(auth.username, self.authenticateUserAUTH, auth)

    def _note(self, event: str, **fields: Any) -> None:
        if getattr(self.factory, "noisy", True):
            log.info("{peer}: " + event, peer=shown(str(self.transport.getPeer())), **fields)
