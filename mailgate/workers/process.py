"""A worker as its parent sees it: a process, what it is told, and what it tells."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailgate.errors import MailgateError
from mailgate.wire.shown import shown
from mailgate.workers.channel import FIRST_SOCKET, ORDERS, TOLD, Lines, publish, spoken

PING_SECONDS = 10.0
PINGS_UNANSWERED = 6        # by a worker that hangs: it is killed then
OF_SYSTEMD = ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")    # what is the parent's alone

log = Logger()


class WorkerFailed(MailgateError):
    """A worker ended before it served. `code` is an exit code of sysexits.h."""

    def __init__(self, problems: Sequence[str], code: int = os.EX_TEMPFAIL) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)
        self.code = code


class WorkerProcess(ProcessProtocol):
    """One process, from `begin` to its end.

    `ready` fires when it serves (None) or will never (why not); `closed` when it accepts nobody any
    more; `over` when it is dead and all that it said was heard, with words on how it ended. `buried`
    is called with the words of processes whose sessions it has ended.
    """

    def __init__(self, order: dict[str, Any], reactor: Any, buried: Callable[[Sequence[str]], None]) -> None:
        # No holder of a process without a parent begins with a w, and of these all are of one length.
        self.pid: int | None = None
        self.word = f"w{secrets.token_hex(8)}-"
        self.serves = False
        self.began = reactor.seconds()
        self.ready: Deferred[WorkerFailed | None] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self.over: Deferred[str] = Deferred()
        self._order = {**order, "process": self.word, "reactor": type(reactor).__module__}
        self._reactor = reactor
        self._buried = buried
        self._lines = {descriptor: Lines() for descriptor in (1, 2, TOLD)}
        self._failed: WorkerFailed | None = None
        self._ended = ""            # how, once it is dead
        self._unanswered = 0
        self._pings = LoopingCall(self._ping)
        self._pings.clock = reactor

    def begin(self, sockets: Sequence[int]) -> None:
        """Start the process, with descriptors to listen at. That it cannot be started, `ready` tells."""
        descriptors: dict[int, Any] = {ORDERS: "w", 1: "r", 2: "r", TOLD: "r"}
        descriptors.update(enumerate(sockets, FIRST_SOCKET))
        environment = {name: value for name, value in os.environ.items() if name not in OF_SYSTEMD}
        try:
            self.pid = self._reactor.spawnProcess(
                self, sys.executable, [sys.executable, "-m", "mailgate.workers", self._order["file"]],
                env=environment, childFDs=descriptors).pid
        except OSError as fault:
            self._ended = f"cannot begin: {fault}"
            self._finish()
            return
        self.say(**self._order)
        self._pings.start(PING_SECONDS, now=False)

    def say(self, **words: Any) -> None:
        """Tell it something; what comes too late is lost."""
        if not self._ended and self.transport is not None:
            try:
                self.transport.writeToChild(ORDERS, spoken(words))
            except KeyError:
                pass        # it has closed its end, and is about to be dead

    def kill(self) -> None:
        """End it at once."""
        try:
            if self.transport is not None:
                self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            pass

    def _ping(self) -> None:
        """Ask for a sign of life. Questions count, not seconds: this process may have stood still too."""
        if self._unanswered >= PINGS_UNANSWERED:
            log.error("worker {pid} hangs, and is killed", pid=self.pid)
            self.kill()
            return
        self._unanswered += 1
        self.say(do="ping")

    # What it says ---------------------------------------------------------------------------

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Take what it says; what it writes like any program becomes lines of the log."""
        for line in self._lines[childFD].feed(data):
            if childFD == TOLD:
                self._hear(line)
            else:
                text = line.decode("utf-8", "replace")
                log.warn("worker {pid} wrote: {line}", pid=self.pid, line=shown(text))

    def _hear(self, line: bytes) -> None:
        words = json.loads(line)
        if "log" in words:
            publish(words)
        elif "failed" in words:
            self._failed = WorkerFailed(words["failed"], words["code"])
        elif words["now"] == "alive":
            self._unanswered = 0
        elif words["now"] == "buried":
            self._buried(words["processes"])
        elif words["now"] == "closed":
            self._fire(self.closed)
        elif words["now"] == "ready":
            self.serves = True
            self._fire(self.ready)

    # Its end ----------------------------------------------------------------------------------

    def processExited(self, reason: Failure) -> None:
        """It is dead."""
        self._ended = _how(reason)
        self.serves = False
        if self._pings.running:
            self._pings.stop()
        self._over_if_silent()

    def childConnectionLost(self, childFD: int) -> None:
        """It says no more: it is dead, or will be."""
        if childFD == TOLD:
            self._lines.pop(TOLD, None)
            self.serves = False
            self._over_if_silent()

    def _over_if_silent(self) -> None:
        """Its other pipes may be open longer than it lives, in a process that it has started."""
        if self._ended and TOLD not in self._lines and not self.over.called:
            self._finish()

    def _finish(self) -> None:
        self._fire(self.closed)
        if not self.ready.called:
            self.ready.callback(self._failed or WorkerFailed([f"a worker {self._ended}"]))
        self.over.callback(self._failed.problems[0] if self._failed is not None else self._ended)

    @staticmethod
    def _fire(deferred: Deferred[Any]) -> None:
        if not deferred.called:
            deferred.callback(None)


def _how(reason: Failure) -> str:
    if not isinstance(reason.value, ProcessTerminated):
        return "has ended"
    number = reason.value.signal
    return f"was ended by signal {number}" if number else f"ended with code {reason.value.exitCode}"
