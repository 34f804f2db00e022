"""mailgate's POP3 over an application's own mailboxes.

    python own_mailboxes.py FOLDER [ENDPOINT]

Everybody's mail is the *.eml files of FOLDER/NAME; reading and removing happens in threads. The one
user is alice, her password is "secret".
"""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import react
from twisted.internet.threads import deferToThread
from twisted.mail.interfaces import IMailboxPOP3
from zope.interface import implementer

from mailgate.net.pop3 import POP3Factory


@implementer(IMailboxPOP3)
class FolderMailbox:
    """Each file is a message. Methods may return values or Deferreds."""

    def __init__(self, folder):
        self.folder = folder
        self.files = []
        self.marked = set()

    def listMessages(self, i=None):
        if i is not None:
            return 0 if i in self.marked else self.files[i].stat().st_size
        return deferToThread(self._list)

    def _list(self):
        self.files = sorted(self.folder.glob("*.eml"))
        return [file.stat().st_size for file in self.files]

    def getMessage(self, i):
        return deferToThread(open, self.files[i], "rb")

    def getUidl(self, i):
        return self.files[i].name       # what the standard forbids in it is taken care of

    def deleteMessage(self, i):
        self.marked.add(i)              # called by QUIT only

    def undeleteMessages(self):
        self.marked.clear()

    def sync(self):
        return deferToThread(self._remove)      # +OK waits for it, and a failure is -ERR

    def _remove(self):
        for i in sorted(self.marked):
            self.files[i].unlink()


@implementer(IRealm)
class FolderRealm:
    def __init__(self, folder):
        self.folder = folder

    def requestAvatar(self, avatarId, mind, *interfaces):
        if IMailboxPOP3 not in interfaces:
            raise NotImplementedError
        return IMailboxPOP3, FolderMailbox(self.folder / avatarId.decode()), lambda: None


async def main(reactor, folder, description="tcp:0:interface=127.0.0.1"):
    checker = InMemoryUsernamePasswordDatabaseDontUse(alice=b"secret")
    factory = POP3Factory(Portal(FolderRealm(Path(folder)), [checker]))
    port = await serverFromString(reactor, description).listen(factory)
    print("listening at port", port.getHost().port, flush=True)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor, *args: Deferred.fromCoroutine(main(reactor, *args)), sys.argv[1:])
