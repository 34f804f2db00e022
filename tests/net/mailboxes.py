"""Mailboxes as applications write them for twisted.mail, and a realm that hands them out."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.mail.interfaces import IMailboxPOP3
from twisted.mail.pop3 import Mailbox
from zope.interface import implementer

GREEN = b"Subject: green\n\n.dotted\n..\nlast\n"
BLUE = b"Subject: blue\n\nbody\n"


class ListMailbox(Mailbox):
    """Messages in a list; marks them in `marked`, and `calls` keeps what it was asked to change."""

    def __init__(self, messages: Sequence[bytes], uids: Sequence[Any] | None = None) -> None:
        self.messages = list(messages)
        self.uids = [b"id%d" % number for number in range(len(messages))] if uids is None else list(uids)
        self.marked: set[int] = set()
        self.calls: list[Any] = []
        self.files: list[io.BytesIO] = []
        self.faults: dict[str, Exception] = {}      # by method: raised once it is called

    def _called(self, method: str) -> None:
        if method in self.faults:
            raise self.faults[method]

    def listMessages(self, i: int | None = None) -> Any:
        self._called("listMessages")
        sizes = [0 if index in self.marked else len(message)
                 for index, message in enumerate(self.messages)]
        if i is not None and i >= len(sizes):
            raise ValueError(i)
        return sizes if i is None else sizes[i]

    def getMessage(self, i: int) -> Any:
        self._called("getMessage")
        file = io.BytesIO(self.messages[i])
        self.files.append(file)
        return file

    def getUidl(self, i: int) -> Any:
        self._called("getUidl")
        return self.uids[i]

    def deleteMessage(self, i: int) -> None:
        self.calls.append(("delete", i))
        self._called("deleteMessage")
        self.marked.add(i)

    def undeleteMessages(self) -> None:
        self.calls.append("undelete")
        self._called("undeleteMessages")
        self.marked.clear()

    def sync(self) -> None:
        self.calls.append("sync")
        self._called("sync")
        for index in self.marked:
            self.messages[index] = b""
        self.marked.clear()


@implementer(IMailboxPOP3)
class DeferredMailbox:
    """The same, every method's answer a Deferred; those named in `held` wait for `let_go`."""

    def __init__(self, mailbox: ListMailbox, held: Sequence[str] = ()) -> None:
        self.mailbox = mailbox
        self.held = set(held)
        self.waiting: list[tuple[str, Deferred[Any], Callable[[], Any]]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.mailbox, name)

        def ask(*args: Any) -> Deferred[Any]:
            if name not in self.held:
                return maybeDeferred(method, *args)
            answer: Deferred[Any] = Deferred()
            self.waiting.append((name, answer, lambda: method(*args)))
            return answer

        return ask

    def let_go(self) -> list[str]:
        """Answer everything that waits; return the methods' names."""
        waiting, self.waiting = self.waiting, []
        for _, answer, result in waiting:
            maybeDeferred(result).chainDeferred(answer)
        return [name for name, _, _ in waiting]


@implementer(IRealm)
class MailboxRealm:
    """Gives everybody the same mailbox; `logouts` counts."""

    def __init__(self, mailbox: Any) -> None:
        self.mailbox = mailbox
        self.logins = self.logouts = 0
        self.held: Deferred[None] = succeed(None)   # what a login waits for

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        if IMailboxPOP3 not in interfaces:
            raise NotImplementedError(interfaces)
        self.logins += 1
        return self.held.addCallback(lambda _: (IMailboxPOP3, self.mailbox, self._log_out))

    def _log_out(self) -> None:
        self.logouts += 1


def portal_for(realm: Any) -> Portal:
    """Return a stock portal that knows mrose with the password secret."""
    checker = InMemoryUsernamePasswordDatabaseDontUse()
    checker.addUser(b"mrose", b"secret")
    return Portal(realm, [checker])
