"""The users of this system, as PAM judges them: a checker of passwords, and who receives mail.

PAM runs in processes of its own (`pam_child`, decision 11), asked from a few threads, so that a module
that waits, hangs or crashes holds up or takes down nobody else.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.internet.defer import Deferred, DeferredList
from zope.interface import implementer

from mailgate.auth.credentials import INamedLogin, Refused, login_name, octets_of
from mailgate.auth.hashing import LOCAL_NETWORK, HashPool, network_of
from mailgate.auth.pam_child import FOLDERS
from mailgate.auth.pam_children import Answer, Children, Settings
from mailgate.auth.remembered import RememberedSuccess
from mailgate.errors import AccountConflict, StoreUnavailable, TooBusy
from mailgate.interfaces import IUserLookup
from mailgate.names import check_name, fold

SERVICE = "mailgate"            # of our own: nothing is inherited by chance from another program's
MINIMUM_UID = 1000              # the first that login.defs gives to people
PROCESSES = 4                   # a wrong password may take seconds in a module
SECONDS = 20.0                  # for one check: mail programs wait a minute at most
MAX_PASSWORD_OCTETS = 511       # PAM_MAX_RESP_SIZE, with its NUL
USER_FILES = ("/etc/passwd", "/etc/shadow")     # a change of these makes every success a stale one


@implementer(ICredentialsChecker, IUserLookup)
class PamChecker:
    """Checks names and passwords by PAM: authentication and account, no session.

    It answers with the user's name. Names are folded as everywhere, so that of two users whose names
    differ in case only the one in lower case can log in. A success is remembered; then the account is
    still asked for each time, so that a user who has expired or gone stays out.

    `processes` are asked at once, one more looks up recipients. They and their threads begin with the
    first question, and end with the reactor, or by `stop`.
    """

    credentialInterfaces = (IUsernamePassword, INamedLogin)

    def __init__(self, settings: Settings = Settings(SERVICE, MINIMUM_UID), *, processes: int = PROCESSES,
                 reactor: Any = None, remembered: RememberedSuccess[Any] | None = None) -> None:
        self.settings = settings
        self._reactor = reactor
        self._processes = processes
        self._remembered = remembered
        self._desks: tuple[Desk, Desk] | None = None        # of checks, of look-ups
        self._trigger: Any = None
        self._files = (*USER_FILES, os.path.join(settings.folder or FOLDERS[0], settings.service))

    def requestAvatarId(self, credentials: Any) -> Any:
        """Return the user's name as octets.

        Raises, by the Deferred: LoginRefused; TooBusy; StoreUnavailable, if PAM cannot say.
        """
        if IUsernamePassword.providedBy(credentials):
            return Deferred.fromCoroutine(self._check(
                *octets_of(credentials), getattr(credentials, "peer", None)))
        return Deferred.fromCoroutine(self._check_account(credentials.username))

    def knows(self, name: str) -> Deferred[bool]:
        """See IUserLookup."""
        return Deferred.fromCoroutine(self._knows(name))

    async def _check(self, username: bytes, password: bytes, peer: str | None) -> bytes:
        name = user_name(username)
        if name is None:
            raise Refused("no name that a user could have")
        if not password or b"\0" in password or len(password) > MAX_PASSWORD_OCTETS:
            raise Refused("no password that PAM could take")
        desk, key = self._begun()[0], b""
        operation = "check"
        if self._remembered is not None:
            key = self._remembered.key(f"pam:{self.settings.service}", name, password, self._marks())
            if self._remembered.find(key) is not None:
                operation = "account"
        answer = await desk.ask(network_of(peer), operation, name, password, remote_host(peer))
        if not answer.granted:
            if self._remembered is not None:
                self._remembered.forget(key)
            raise Refused(answer.words)
        if self._remembered is not None and operation == "check":
            self._remembered.remember(key, True)
        return name

    async def _check_account(self, username: bytes) -> bytes:
        """Admit a name that was proven outside."""
        name = user_name(username)
        if name is None:
            raise Refused("no name that a user could have")
        answer = await self._begun()[0].ask(LOCAL_NETWORK, "account", name)
        if not answer.granted:
            raise Refused(answer.words)
        return name

    async def _knows(self, name: str) -> bool:
        user = user_name(name.encode("utf-8", "surrogateescape"))
        if user is None:
            return False
        try:
            answer = await self._begun()[1].ask(LOCAL_NETWORK, "knows", user)
        except TooBusy as busy:
            raise StoreUnavailable(str(busy)) from busy
        return answer.granted

    def _marks(self) -> bytes:
        """Return what becomes another with each change of the system's own files."""
        marks: list[tuple[int, ...]] = []
        for path in self._files:
            try:
                found = os.stat(path)
                marks.append((found.st_mtime_ns, found.st_size, found.st_ino))
            except OSError as fault:
                marks.append((fault.errno or 0,))
        return repr(marks).encode()

    def _begun(self) -> tuple[Desk, Desk]:
        if self._desks is None:
            if self._reactor is None:
                from twisted.internet import reactor  # not before there is a login: twistd chooses it

                self._reactor = reactor
                if self._remembered is None:
                    self._remembered = RememberedSuccess(self._reactor)
            self._desks = (Desk(self.settings, self._reactor, self._processes),
                           Desk(self.settings, self._reactor, 1))
            self._trigger = self._reactor.addSystemEventTrigger("during", "shutdown", self._end)
        return self._desks

    def stop(self) -> Deferred[Any]:
        """End processes and threads; who waits is refused as by an outage. The next question begins anew."""
        if self._trigger is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
        return self._end()

    def _end(self) -> Deferred[Any]:
        desks, self._desks, self._trigger = self._desks, None, None
        return DeferredList([desk.stop() for desk in desks or ()], consumeErrors=True)


class Desk:
    """Where questions to PAM wait for their turn: threads, and a process for each."""

    def __init__(self, settings: Settings, reactor: Any, processes: int) -> None:
        self.children = Children(settings)
        self._pool = HashPool(reactor, threads=processes)
        self._pool.start()

    def ask(self, network: str, *question: Any) -> Deferred[Answer]:
        """See Children.ask; the turn is the network's. Raises, by the Deferred, TooBusy as well."""
        return self._pool.run(network, self.children.ask, *question)

    def stop(self) -> Deferred[None]:
        """Fires when the threads have ended, and the processes with them."""
        ended = self._pool.stop()
        self.children.stop()
        return ended


def user_name(username: bytes) -> bytes | None:
    """Return a login name as PAM is asked for it; None where it is none that a user of a system has.

    No controls, blanks or slashes reach PAM, and nothing that a module's program could take for an option.
    """
    text = login_name(username)
    if text is None or not text.isprintable() or text.startswith(("-", "+")):
        return None
    try:
        check_name(text, sdps=False)
    except AccountConflict:
        return None
    return fold(text).encode("utf-8")


def remote_host(peer: str | None) -> bytes:
    """Return a client's address as PAM_RHOST: an IPv4 one in its own form."""
    host = (peer or "").encode("ascii", "ignore").replace(b"\0", b"")
    mapped = host.removeprefix(b"::ffff:")
    return mapped if b"." in mapped else host
