"""What the parts of a copy share: what is wished, what came of it, and several things done at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, TypeVar

from twisted.internet.defer import Deferred, DeferredList

from mailgate.cli.telling import tell

Thing = TypeVar("Thing")


class Wishes(NamedTuple):
    """What a copy is to do."""

    verify: str = "copied"              # all, copied, none
    accounts: str = "add"               # add, update, none
    maildrops: tuple[str, ...] = ()     # none: all
    prune: bool = False


class Counts:
    """What came of a copy."""

    def __init__(self) -> None:
        self.accounts = 0           # of FROM
        self.added = 0              # of them, or replaced
        self.maildrops = 0          # looked through
        self.of_maildrops = 0       # to be looked through
        self.seen = 0               # messages of FROM
        self.copied = 0             # of them
        self.octets = 0             # of them, in wire form
        self.passed = 0             # messages that were there
        self.removed_since = 0      # that had been there, and were removed
        self.verified = 0
        self.pruned = 0
        self.findings = 0

    def find(self, line: str) -> None:
        """Tell what is wrong."""
        self.findings += 1
        tell(line)


async def each(things: Iterable[Thing], work: Callable[[Thing], Awaitable[None]], at_once: int) -> None:
    """Await `work(thing)` for every thing, several at a time. Raises: the first fault, at the end."""
    waiting = iter(things)
    faults: list[BaseException] = []

    async def worker() -> None:
        for thing in waiting:
            if faults:
                return
            try:
                await work(thing)
            except BaseException as fault:
                faults.append(fault)

    await DeferredList([Deferred.fromCoroutine(worker()) for _ in range(at_once)])
    if faults:
        raise faults[0]
