"""Fill a mailgate's store before it serves, through the store's own interface and without a network.

Runs in a process of its own (`python -m bench.fill CONFIGURATION`), which reads what is wanted as JSON: a
list of objects with `kind`, the rest of each being the arguments of the function of that name here. What is
written this way is committed like any delivery, only many messages at a time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bench import corpus

PASSWORD = "secret"
DOMAIN = "bench.example"
TOGETHER = 200              # deliveries under way at a time
ACCOUNTS_TOGETHER = 10_000  # in one transaction
ARRIVED_MS = 1_700_000_000_000


def fill(configuration: Path, *wanted: dict[str, Any]) -> None:
    """Do what is wanted in a process that ends with it. Raises: CalledProcessError."""
    command = [sys.executable, "-m", "bench.fill", str(configuration)]
    subprocess.run(command, input=json.dumps(wanted), text=True, check=True,
                   cwd=Path(__file__).resolve().parent.parent)


async def accounts(store: Any, user: str, count: int, verifier: str = f"{{PLAIN}}{PASSWORD}") -> None:
    """Add accounts by a printf form of their names."""
    from mailgate.model import Account

    for first in range(0, count, ACCOUNTS_TOGETHER):
        names = [user % number for number in range(first, min(first + ACCOUNTS_TOGETHER, count))]
        await store.accounts.add([Account(name, verifiers=(verifier,), addresses=(f"{name}@{DOMAIN}",))
                                  for name in names])


async def mixed(store: Any, user: str, users: int, messages: int) -> None:
    """Deliver the mixed corpus."""
    await _deliver_all(store, (([user % number], [text]) for number in range(users)
                               for text in corpus.mixed(number, messages)))


async def small(store: Any, user: str, messages: int) -> None:
    """Deliver small messages to one user, each with a body of its own."""
    await _deliver_all(store, (([user], [text]) for text in corpus.small(0, messages)))


async def large(store: Any, users: list[str], octets: int) -> None:
    """Deliver one large message; its recipients share the body."""
    await _deliver(store, users, corpus.large(octets))


async def copies(store: Any, user: str, messages: int, together: int = 1000) -> None:
    """Put so many messages into one maildrop, `together` in a transaction, which share a body."""
    texts = corpus.small(1, messages)
    for first in range(0, messages, together):
        await _deliver(store, [user] * min(together, messages - first), [next(texts)])


async def spread(store: Any, user: str, users: int, messages: int, together: int = 1000) -> None:
    """Put messages into each of many maildrops, a thousand recipients in a transaction that share a body."""
    for text in corpus.small(2, messages):
        for first in range(0, users, together):
            names = [user % number for number in range(first, min(first + together, users))]
            await _deliver(store, names, [text])


async def _deliver_all(store: Any, deliveries: Iterable[tuple[list[str], Iterable[bytes]]]) -> None:
    from twisted.internet.defer import Deferred, gatherResults

    pending = []
    for names, pieces in deliveries:
        pending.append(Deferred.fromCoroutine(_deliver(store, names, pieces)))
        if len(pending) == TOGETHER:
            await gatherResults(pending)
            pending = []
    await gatherResults(pending)


async def _deliver(store: Any, names: list[str], pieces: Iterable[bytes]) -> None:
    from mailgate.model import Envelope, Placement

    delivery = store.deliver()
    for piece in pieces:
        waiting = delivery.write(piece)
        if waiting is not None:
            await waiting
    placements = [Placement(name, name, Envelope(b"a@bench.example", f"{name}@{DOMAIN}".encode(), ARRIVED_MS),
                            account=True) for name in names]
    outcomes = await delivery.commit(placements)
    faults = [outcome for outcome in outcomes if outcome is not None]
    if faults:
        raise faults[0]


KINDS = {function.__name__: function for function in (accounts, mixed, small, large, copies, spread)}


async def _perform(path: str, wanted: Iterator[dict[str, Any]] | list[dict[str, Any]], reactor: Any) -> None:
    from mailgate.assembly.store import make_store
    from mailgate.config import load

    store = make_store(load(path), reactor, create=True)
    await store.start()
    try:
        for one in wanted:
            await KINDS[one.pop("kind")](store, **one)
    finally:
        await store.stop()


def main() -> None:
    """Read what is wanted, do it, end."""
    from twisted.internet.task import react

    wanted = json.load(sys.stdin)
    react(lambda reactor: _performed(sys.argv[1], wanted, reactor))


def _performed(path: str, wanted: list[dict[str, Any]], reactor: Any) -> Any:
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(_perform(path, wanted, reactor))


if __name__ == "__main__":
    main()
