"""What the tests of credentials share: a store in memory, hashing that is counted or held back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.checkers import matching
from mailgate.auth.hashing import Inline
from mailgate.auth.schemes import hash_password
from mailgate.errors import TooBusy
from mailgate.model import Account
from mailgate.stores.memory import MemoryStore


class Counted(Inline):
    """Hashes at once, and keeps a record of what was asked for."""

    def __init__(self) -> None:
        self.networks: list[str] = []
        self.tried: list[tuple[str, ...]] = []      # the verifiers of each check

    def run(self, network: str, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        self.networks.append(network)
        if function is matching:
            self.tried.append(tuple(args[0]))
        return super().run(network, function, *args)

    @property
    def hashes(self) -> int:
        return sum(map(len, self.tried))


class Busy:
    """A pool that is always full."""

    def run(self, network: str, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return fail(TooBusy(network))


class Held(Inline):
    """Does nothing before `go`; cancelled work is dropped."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def run(self, network: str, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        job: Deferred[Any] = Deferred(lambda d: self.waiting.remove((d, work)))
        def work() -> Any:
            return function(*args)
        self.waiting.append((job, work))
        return job

    def go(self) -> None:
        waiting, self.waiting = self.waiting, []
        for job, work in waiting:
            job.callback(work())


def fresh_path(case: SynchronousTestCase) -> Path:
    """Return the path of a file that is not there yet, in a folder that ends with the test."""
    folder = tempfile.TemporaryDirectory()
    case.addCleanup(folder.cleanup)
    return Path(folder.name) / "passwd"


def cheap(password: bytes) -> str:
    """Return a verifier that costs nothing to check."""
    return hash_password(password, "SSHA256")


def store_with(*accounts: Account, clock: Clock | None = None) -> MemoryStore:
    """Return a started store that holds these accounts."""
    store = MemoryStore(clock=clock or Clock())
    done = store.start()
    done.addCallback(lambda _: store.accounts.add(accounts))
    assert done.called
    return store


ALICE = Account("alice", verifiers=(cheap(b"open sesame"),), addresses=("alice@example.org",))
XYZ = Account("xyz", sdps=True, verifiers=(cheap(b"dial-up"), cheap(b"pop3")), domains=("xyz.example.org",))
GONE = Account("gone", verifiers=(cheap(b"open sesame"),), addresses=("gone@example.org",), disabled=True)
