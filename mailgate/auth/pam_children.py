"""The processes that ask PAM, and the time that each question may take. See `pam_child`, their program."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from mailgate.auth import pam_child
from mailgate.errors import StoreUnavailable

PROGRAM = os.path.abspath(pam_child.__file__)
QUESTIONS = 1000        # that one process answers: then another one begins, for modules leak
END_SECONDS = 5.0       # to wait for a killed process; one that hangs in the kernel is left to it


class Answer(NamedTuple):
    """What came back: whether it is a yes, and why not, for the log."""

    granted: bool
    words: str


class Settings(NamedTuple):
    """What a process is told when it begins."""

    service: str
    minimum_uid: int
    groups: Sequence[str] = ()
    seconds: float = 20.0           # that a question may take
    folder: str | None = None       # of service files; None: the system's


class Children:
    """At most as many processes as threads ask at once, begun when first needed and kept for the next.

    Everything blocks, and may be called from any thread.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()
        self._stopped = False

    @property
    def pids(self) -> list[int]:
        """The processes that there are."""
        with self._lock:
            return [one.process.pid for one in self._all]

    def ask(self, operation: str, name: bytes = b"", password: bytes = b"", peer: bytes = b"") -> Answer:
        """Return what PAM says. No argument may hold a NUL.

        Raises: StoreUnavailable, also if a module crashed or took longer than the time limit.
        """
        child = self._take()
        try:
            verdict, words = child.ask(operation.encode(), name, password, peer)
        except BaseException as fault:
            self._end(child)
            if isinstance(fault, _Lost):
                raise StoreUnavailable(f"PAM, service {self.settings.service}: {fault}") from fault
            raise
        self._give_back(child)
        if verdict == pam_child.UNAVAILABLE:
            raise StoreUnavailable(f"PAM, service {self.settings.service}: {words}")
        return Answer(verdict == pam_child.YES, words)

    def start(self) -> None:
        """Take questions again after a stop."""
        self._stopped = False

    def stop(self) -> None:
        """End all processes, with what they are about: who waits for an answer learns it."""
        with self._lock:
            self._stopped = True
            idle, self._idle = self._idle, []
            busy = self._all.difference(idle)
        for child in busy:
            child.process.kill()    # and the thread that waits for it sees its end
        for child in idle:
            self._end(child)

    def _take(self) -> _Child:
        with self._lock:
            if self._stopped:
                raise StoreUnavailable("PAM is not asked any more")
            while self._idle:
                child = self._idle.pop()
                if child.process.poll() is None:
                    return child
                self._all.discard(child)    # somebody has killed it meanwhile
                child.end()
            child = _Child(self.settings)   # under the lock: a stop would not see it otherwise
            self._all.add(child)
            return child

    def _give_back(self, child: _Child) -> None:
        with self._lock:
            if not self._stopped and child.questions < QUESTIONS:
                self._idle.append(child)
                return
        self._end(child)

    def _end(self, child: _Child) -> None:
        child.end()
        with self._lock:
            self._all.discard(child)


class _Lost(Exception):
    """A process that does not answer; the text says why."""


class _Child:
    """One process, used by one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self.questions = 0
        self._seconds = settings.seconds
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", PROGRAM, json.dumps(settings._asdict())], bufsize=0, cwd="/",
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        except OSError as fault:
            raise StoreUnavailable(f"PAM's process cannot begin: {fault}") from fault

    def ask(self, *fields: bytes) -> tuple[bytes, str]:
        """Return verdict and words. Raises: _Lost."""
        self.questions += 1
        self._until = time.monotonic() + self._seconds
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(pam_child.framed(*fields))     # less than a pipe holds
            verdict, words = pam_child.read_frame(self._read)
        except (OSError, EOFError) as fault:
            raise _Lost(self._how_it_ended()) from fault
        return verdict, words.decode("utf-8", "replace")

    def _read(self, octets: int) -> bytes:
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(max(0.0, self._until - time.monotonic()) * 1000):
            raise _Lost(f"no answer within {self._seconds:g} seconds")
        return os.read(descriptor, octets)

    def _how_it_ended(self) -> str:
        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return "its process has closed its channel"
        return f"its process ended by signal {-code}" if code < 0 else f"its process ended with {code}"

    def end(self) -> None:
        """Kill it. By the thread that uses it, for what it reads from is closed."""
        self.process.kill()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
