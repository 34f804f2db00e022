"""The end of a process's parent, noticed at once and whatever the process itself is busy with.

Linux can send a signal when a parent dies (PR_SET_PDEATHSIG), but it means the thread that started us: a
test runner whose worker thread ends would lose its server. So a thread waits for the parent itself, by a
descriptor of the process (pidfd_open), or where there is none by asking now and then. A parent behind a
shell is not our own: he is known by the pipe that he holds to our standard input. It is never read, since it
may have been meant for others.
"""

from __future__ import annotations

import os
import select
import stat
import threading
import time
from collections.abc import Callable

ASK_MILLISECONDS = 200      # where no descriptor of a process is to be had
GRACE_SECONDS = 20.0        # for an orderly end on a busy machine; then the process ends anyhow
STDIN = 0
INIT = 1                    # who takes the orphans


class Parent:
    """The process to end with: `pid`, or who started this one."""

    def __init__(self, pid: int | None = None) -> None:
        self._own = pid is None
        self._pid = os.getppid() if pid is None else pid
        self._poll = select.poll()
        self._process = self._descriptor()
        self._pipe = is_pipe(STDIN)
        if self._process is not None:
            self._poll.register(self._process, select.POLLIN)
        if self._pipe and self._has_hung_up():      # whoever had it before us
            self._poll.unregister(STDIN)
            self._pipe = False

    def _has_hung_up(self) -> bool:
        self._poll.register(STDIN, 0)       # hanging up is always told
        return any(descriptor == STDIN for descriptor, _ in self._poll.poll(0))

    def _descriptor(self) -> int | None:
        try:
            return os.pidfd_open(self._pid)
        except (AttributeError, OSError):   # no Linux, an old or a guarded one; or he is gone
            return None

    def is_gone(self) -> bool:
        """Whether it has ended."""
        if self._poll.poll(0):
            return True
        if self._own:
            return os.getppid() != self._pid or (self._pid == INIT and is_pipe(STDIN) and not self._pipe)
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass                            # another user's: it is there
        return False

    def wait(self) -> None:
        """Return when it has ended."""
        while not self.is_gone():
            self._poll.poll(None if self._process is not None else ASK_MILLISECONDS)

    def watch(self, end: Callable[[], object]) -> None:
        """Have `end` called, in a thread of its own, when it has ended; soon afterwards the process ends."""
        def look() -> None:
            self.wait()
            end()
            time.sleep(GRACE_SECONDS)
            os._exit(os.EX_SOFTWARE)

        threading.Thread(target=look, name="parent", daemon=True).start()


def is_pipe(descriptor: int) -> bool:
    """Whether somebody holds the other end of a descriptor: a pipe, or a socket as Node's."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
