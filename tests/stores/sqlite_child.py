"""A process of its own over an embedded store, driven by lines: for tests that stop or kill it.

    python -m tests.stores.sqlite_child FOLDER LEASE_SECONDS CLOCK

Its database goes by the time in the file CLOCK. It says `ready`, then answers every line of `open NAME VIEW`,
`commit NUMBER...`, `deliver NAME OCTETS` and `end` by one line: `ok ...`, or the name of the fault.
"""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineReceiver

from mailgate.errors import MailgateError
from mailgate.model import Admission, Envelope, Placement
from mailgate.stores import sqlite_database
from mailgate.stores.files import FileBlobStore
from mailgate.stores.sqlite import SqliteStore
from tests.stores.sqlite_process import connect_by


class Driver(LineReceiver):
    """Do what the lines say, one after the other."""

    delimiter = b"\n"

    def __init__(self, folder: str, lease_seconds: float) -> None:
        self.store = SqliteStore(f"{folder}/mail.db", FileBlobStore(f"{folder}/bodies"), reactor=reactor,
                                 lease_seconds=lease_seconds)
        self.session = None

    def connectionMade(self) -> None:
        self.store.start().addCallback(lambda _: self.sendLine(b"ready"))

    def connectionLost(self, reason=None) -> None:
        if reactor.running:
            reactor.stop()

    def lineReceived(self, line: bytes) -> None:
        verb, *args = line.decode().split(" ")
        Deferred.fromCoroutine(getattr(self, "on_" + verb)(*args)).addErrback(self.refused).addCallback(
            lambda words: self.sendLine(words.encode()))

    def refused(self, failure) -> str:
        failure.trap(MailgateError)
        return type(failure.value).__name__

    async def on_open(self, maildrop: str, view: str) -> str:
        self.session = await self.store.open(Admission(maildrop, view or None))
        return f"ok {len(self.session.listing)}"

    async def on_commit(self, *numbers: str) -> str:
        await self.session.commit([int(number) for number in numbers])
        return "ok"

    async def on_deliver(self, maildrop: str, octets: str) -> str:
        delivery = self.store.deliver()
        waiting = delivery.write(b"a: b\r\n\r\n" + b"x" * int(octets))
        if waiting is not None:
            await waiting
        envelope = Envelope(b"a@b", b"c@d", 1)
        outcomes = await delivery.commit([Placement(maildrop, None, envelope)])
        if outcomes != [None]:
            raise outcomes[0]
        return "ok"

    async def on_end(self) -> str:
        await self.store.stop()
        reactor.callLater(0, self.transport.loseConnection)
        return "ok"


if __name__ == "__main__":
    sqlite_database.connect = connect_by(sys.argv[3])
    StandardIO(Driver(sys.argv[1], float(sys.argv[2])))
    reactor.run()
