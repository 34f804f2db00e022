"""Twisted's own POP3 over mailgate's store.

    python stock_over_store.py FOLDER [ENDPOINT]

The store comes into being in FOLDER. It is the one that mailgate's service would use too: several
processes, of both kinds, may serve it at once. The one user is alice, her password is "secret".
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import react
from twisted.mail.pop3 import POP3

from mailgate.auth.mailboxes import MaildropMailbox
from mailgate.auth.realm import MaildropRealm
from mailgate.model import Envelope, Placement
from mailgate.stores.files import FileBlobStore
from mailgate.stores.sqlite import SqliteStore

WELCOME = b"Subject: welcome\n\nThis message came with the example.\n"


class StockFactory(ServerFactory):
    """Twisted's POP3 is told its portal by hand."""

    protocol = POP3

    def __init__(self, portal):
        self.portal = portal

    def buildProtocol(self, address):
        protocol = super().buildProtocol(address)
        protocol.portal = self.portal
        return protocol


async def welcome(store):
    """Deliver a message to alice, if she has none."""
    if not await store.scan("alice"):
        delivery = store.deliver()
        delivery.write(WELCOME)
        envelope = Envelope(b"", b"alice@mail.example.org", int(time.time() * 1000))
        for outcome in await delivery.commit([Placement("alice", None, envelope)]):
            if outcome is not None:
                raise outcome


async def main(reactor, folder, description="tcp:0:interface=127.0.0.1"):
    path = Path(folder)
    store = SqliteStore(str(path / "mail.db"), FileBlobStore(str(path / "bodies")), reactor=reactor)
    await store.start()
    reactor.addSystemEventTrigger("during", "shutdown", store.stop)
    await welcome(store)

    # Any checker will do: the name it vouches for is the name of the maildrop.
    checker = InMemoryUsernamePasswordDatabaseDontUse(alice=b"secret")
    portal = Portal(MaildropRealm(store, mailbox=MaildropMailbox), [checker])

    port = await serverFromString(reactor, description).listen(StockFactory(portal))
    print("listening at port", port.getHost().port, flush=True)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor, *args: Deferred.fromCoroutine(main(reactor, *args)), sys.argv[1:])
