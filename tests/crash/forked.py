"""Services that are there in a few hundredths of a second: forked off a process that has imported all.

    forks = Forks()
    child = forks.start(site)       # the parts that twistd would start, from the same configuration
    child.kill()
    forks.close()

One child at a time: a test that wants two has two `Forks`. All here blocks. Run as a program, this
module is the process that forks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.services import WAIT_SECONDS, Site

PROJECT = Path(__file__).resolve().parents[2]
UNSYNCED = "unsynced"       # a child that never syncs its database, and one that answers a delivery long
HASTY = "hasty"             # before it commits: to show that the tests would notice


class Child:
    """One running service."""

    def __init__(self, forks: Forks, pid: int, pop3_port: int, lmtp_port: int) -> None:
        self._forks = forks
        self.pid = pid
        self.pop3_port = pop3_port
        self.lmtp_port = lmtp_port
        self._over = False

    def kill(self) -> None:
        """Send SIGKILL and return when the process is gone. One that died before is no error."""
        if not self._over:
            self._over = True
            os.kill(self.pid, signal.SIGKILL)       # still there: as a zombie at least
            self._forks.read_over()


class Forks:
    """The process that forks."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "tests.crash.forked"], cwd=PROJECT,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._child: Child | None = None

    def start(self, site: Site, kind: str = "-") -> Child:
        """Start a service and return when it is ready."""
        self._tell(f"{kind} {site.file}\n".encode())
        words = self._line().split()
        assert words[:1] == ["ready"], (words, self.log(site))
        self._child = Child(self, *map(int, words[1:]))
        return self._child

    def log(self, site: Site) -> str:
        """Return what the children of a site have logged."""
        return log_file(site.file).read_text("utf-8", "replace")

    def close(self) -> None:
        """End the child, if one is left, and the process."""
        if self._child is not None:
            self._child.kill()
        self._process.communicate()

    def read_over(self) -> None:
        """Wait until the child is gone."""
        words = self._line().split()
        assert words == ["over"], words
        self._tell(b"\n")       # now the process id may be used for others

    def _tell(self, octets: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(octets)
        self._process.stdin.flush()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode()


def log_file(config_file: Path) -> Path:
    """Return where the children of a configuration write their log."""
    return config_file.with_name("children.log")


# In the process that forks ------------------------------------------------------------------


def main() -> None:
    """Fork a child for every line of standard input, and say on standard output what becomes of it."""
    import mailgate.service  # noqa: F401  (with it comes nearly everything)

    requests = os.fdopen(0, "rb", buffering=0, closefd=False)
    while words := requests.readline().decode().split():
        pid = os.fork()
        if not pid:
            _be_child(words[0], Path(words[1]))
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)      # it stays a zombie until the test knows
        os.write(1, b"over\n")
        requests.readline()
        os.waitpid(pid, 0)


def _be_child(kind: str, config_file: Path) -> None:
    teller = os.dup(1)
    output = os.open(log_file(config_file), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        _serve(kind, config_file, teller)
    finally:
        os._exit(1)


def _serve(kind: str, config_file: Path, teller: int) -> None:
    from twisted.internet.default import install
    from twisted.logger import globalLogBeginner, textFileLogObserver

    from mailgate.config import load
    from mailgate.service import MailgateService

    sys.modules.pop("twisted.internet.reactor", None)      # its epoll descriptor is shared by all children
    install()
    reactor: Any = sys.modules["twisted.internet.reactor"]
    _spoil(kind, reactor)
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)

    def announce(service: MailgateService) -> None:
        ports = {one.protocol: one.port.getHost().port for one in service.listeners}
        os.write(teller, b"ready %d %d %d\n" % (os.getpid(), ports["pop3"], ports["lmtp"]))
        os.close(teller)

    service = MailgateService(load(config_file), reactor=reactor, announce=announce)
    service.startService()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    reactor.run(installSignalHandlers=False)


def _spoil(kind: str, reactor: Any) -> None:
    """Break a promise of the store, where that was asked for."""
    from twisted.internet.defer import succeed

    from mailgate.stores.sql.messages import Delivered
    from mailgate.stores.sqlite import SqliteStore
    from mailgate.stores.sqlite_threads import WriterThread

    writer: Any = WriterThread
    store: Any = SqliteStore
    set_sync, place = writer._set_sync, store._place

    def set_no_sync(self: Any, connection: Any, full: bool) -> None:
        set_sync(self, connection, False)

    def place_later(self: Any, body: Any, copies: Any, *rest: Any) -> Any:
        reactor.callLater(WAIT_SECONDS, place, self, body, copies, *rest)
        return succeed(Delivered([None] * len(copies), True))

    if kind == UNSYNCED:
        writer._set_sync = set_no_sync
    elif kind == HASTY:
        store._place = place_later


def _end_with_parent() -> None:
    os.read(0, 1)       # nothing is written while a child lives: this returns when the test is gone
    os._exit(1)


if __name__ == "__main__":
    main()
