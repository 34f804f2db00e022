"""A second process over a store's files, for tests that stop or kill it, and a clock that both go by."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol

from mailgate.stores import sqlite_database
from mailgate.stores.sqlite_connection import connect
from tests.stores.sqlite_hooks import SqliteHooks

DAY_SECONDS = 86_400
MOMENT_SECONDS = 0.01       # more than a rounded time may be off


def connect_by(clock: str) -> Callable[..., sqlite3.Connection]:
    """Return what opens databases whose time is what a file says, in seconds since 1970."""
    def connect_with_clock(path: str, *, create: bool = False) -> sqlite3.Connection:
        connection = connect(path, create=create)
        connection.create_function("julianday", 1, lambda _: (
            float(Path(clock).read_text("ascii")) / DAY_SECONDS + 2440587.5))
        return connection

    return connect_with_clock


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
    """Tests with a second process. By the databases' clock no time passes but what the test says."""

    def setUp(self) -> None:
        self.clock = f"{self.temporary_folder()}/clock"
        self.now = float(int(time.time()))
        self.pass_time(0)
        self.patch(sqlite_database, "connect", connect_by(self.clock))

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass for every process."""
        self.now += seconds
        Path(f"{self.clock}.new").write_text(repr(self.now), "ascii")
        os.rename(f"{self.clock}.new", self.clock)

    async def child(self, folder: str, lease_seconds: float) -> Child:
        """Return a process over a store's files that has started its own store."""
        child = Child()
        arguments = ["-m", "tests.stores.sqlite_child", folder, str(lease_seconds), self.clock]
        reactor.spawnProcess(child, sys.executable, [sys.executable, *arguments], env=os.environ)
        self.addCleanup(self.end, child)
        self.assertEqual(await child.ask(), "ready")
        return child

    def end(self, child: Child) -> Deferred[None]:
        """Kill a process, if it has not ended."""
        if child.transport.pid is not None:
            child.transport.signalProcess("KILL")
        return child.ended
