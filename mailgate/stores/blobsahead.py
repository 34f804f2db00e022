"""Small blobs read ahead: those that a client will ask for next, several at once where calls take their time.

A disk answers soonest when one thread reads one after the other; a service over the network, when all are
asked for before the first has come. The blob store says which it is (`calls_at_once`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from twisted.python.failure import Failure

from mailgate.errors import MailgateError, StoreUnavailable
from mailgate.interfaces import IBlobStore
from mailgate.stores.blobs import InThread

SMALL_OCTETS = 65_536       # a larger blob is read by itself, piece by piece
MOST_AT_ONCE = 16           # calls for one session


class Wish(NamedTuple):
    """A blob that is to be read, from its beginning."""

    place: int              # what it is known by to who wants it
    key: str
    octets: int             # as many are wanted, and have to be there


Arrived = Callable[[int, "bytes | Failure"], None]


def read_small(in_thread: InThread, blobs: IBlobStore, wishes: Sequence[Wish], arrived: Arrived) -> None:
    """Read small blobs and hand each to `arrived` as it comes, or the failure (a MailgateError) in its place.

    The first wishes are read first.
    """
    lanes = min(getattr(blobs, "calls_at_once", 1), MOST_AT_ONCE, len(wishes))
    waiting, at_once = iter(wishes), len(wishes) if lanes == 1 else 1
    for _ in range(lanes):
        _go_on(in_thread, blobs, waiting, at_once, arrived)


def _go_on(in_thread: InThread, blobs: IBlobStore, waiting: Iterator[Wish], at_once: int,
           arrived: Arrived) -> None:
    """Read the next that wait, and so on till none does."""
    batch = list(islice(waiting, at_once))
    if not batch:
        return

    def done(outcome: list[bytes | Failure] | Failure) -> None:
        _go_on(in_thread, blobs, waiting, at_once, arrived)
        for position, wish in enumerate(batch):
            arrived(wish.place, outcome if isinstance(outcome, Failure) else outcome[position])

    in_thread(_read, blobs, batch).addBoth(done)


def _read(blobs: IBlobStore, batch: Sequence[Wish]) -> list[bytes | Failure]:
    """Runs in a thread."""
    outcomes: list[bytes | Failure] = []
    for wish in batch:
        try:
            outcomes.append(_read_one(blobs, wish))
        except MailgateError as fault:
            outcomes.append(Failure(fault))
    return outcomes


def _read_one(blobs: IBlobStore, wish: Wish) -> bytes:
    reader = blobs.open(wish.key)
    try:
        data = reader.read(0, wish.octets)
    finally:
        reader.close()
    if len(data) < wish.octets:
        raise StoreUnavailable(f"blob {wish.key} is shorter than its row says")
    return data
