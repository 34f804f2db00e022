"""A second process over a store's files, for tests that stop or kill it."""

from __future__ import annotations

import os
import sys

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater

from mailgate.errors import MaildropInUse
from mailgate.model import Admission
from tests.stores.sqlite_hooks import SqliteHooks

POLL_SECONDS = 0.02


class Child(ProcessProtocol):
    """The process of `sqlite_child`: one line goes in, one comes out."""

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self._text = b""
        self._waiting: Deferred[str] | None = None

    def ask(self, line: str = "") -> Deferred[str]:
        """Send a line, unless it is empty; return the next answer."""
        if line:
            self.transport.write(line.encode() + b"\n")
        self._waiting = Deferred()
        return self._waiting

    def outReceived(self, data: bytes) -> None:
        self._text += data
        if b"\n" in self._text and self._waiting is not None:
            line, _, self._text = self._text.partition(b"\n")
            waiting, self._waiting = self._waiting, None
            waiting.callback(line.decode())

    def errReceived(self, data: bytes) -> None:
        sys.stderr.write(data.decode())

    def processEnded(self, reason) -> None:
        self.ended.callback(None)


class ChildHooks(SqliteHooks):
    """Tests with a second process."""

    async def child(self, folder: str, lease_seconds: float) -> Child:
        """Return a process over a store's files that has started its own store."""
        child = Child()
        arguments = [sys.executable, "-m", "tests.stores.sqlite_child", folder, str(lease_seconds)]
        reactor.spawnProcess(child, sys.executable, arguments, env=os.environ)
        self.addCleanup(self.end, child)
        self.assertEqual(await child.ask(), "ready")
        return child

    def end(self, child: Child) -> Deferred[None]:
        """Kill a process, if it has not ended."""
        if child.transport.pid is not None:
            child.transport.signalProcess("KILL")
        return child.ended

    async def until_opened(self, store, maildrop: str, view: str | None = None):
        """Open a maildrop as soon as the lease that is in the way has run out."""
        while True:
            try:
                return await store.open(Admission(maildrop, view))
            except MaildropInUse:
                await deferLater(reactor, POLL_SECONDS, lambda: None)
