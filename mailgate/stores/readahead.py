"""Read ahead what a client will ask for next: clients fetch in order, and a trip to the store costs.

`ReadAhead` keeps what was read too early, for all sessions of a process together and bounded in
octets; `Course` is one session's view of how far to read. Neither knows a store.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, TypeVar

CAPACITY_OCTETS = 16 * 1024 * 1024
ENTRY_OCTETS = 200              # what an entry costs beside its content
LONGEST_RUN = 32                # messages
FIRST_RUN = 8                   # messages, of a client that begins at the first: it will want the others
# The same of what is small whatever its message is: headers, envelopes. A trip costs as much as thirty.
LONGEST_RUN_OF_SMALL, FIRST_RUN_OF_SMALL, GROWTH_OF_SMALL = 64, 16, 4
LARGEST_RUN_OCTETS = 256 * 1024

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """What was read before it was asked for. Each entry is taken once; the oldest give way."""

    def __init__(self, capacity_octets: int = CAPACITY_OCTETS) -> None:
        self._capacity = capacity_octets
        self._entries: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self.octets = 0

    def put(self, key: Hashable, value: T, octets: int) -> None:
        """Keep a value that is that large, if it fits at all."""
        self.take(key)
        cost = octets + ENTRY_OCTETS
        if cost > self._capacity:
            return
        self._entries[key] = value, cost
        self.octets += cost
        while self.octets > self._capacity:
            self.octets -= self._entries.popitem(last=False)[1][1]

    def take(self, key: Hashable) -> T | None:
        """Return and forget a value, or return None."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self.octets -= entry[1]
        return entry[0]

    def drop(self, keys: Iterable[Hashable]) -> None:
        """Forget values that nobody will take."""
        for key in keys:
            self.take(key)


class Course:
    """How one session goes through its messages, and how many to read at once next time.

    The run doubles while the client goes on in order in the same way (`kind`: whole messages, or
    TOP with one number of lines; headers alone grow faster) and starts again when it does not: with one
    message, or with FIRST_RUN where a client begins at the first.
    """

    __slots__ = ("kind", "_next", "_run", "_end")

    def __init__(self, kind: Hashable = None) -> None:
        self.kind = kind
        self._next = 0          # the index that would be in order
        self._run = 0           # messages read at the last trip
        self._end = 0           # index after the last one that was read

    def goes_on(self, index: int, kind: Hashable) -> bool:
        """Return whether a request goes on in order."""
        return index == self._next and kind == self.kind

    def restart(self, kind: Hashable) -> None:
        """Begin anew, in another way or at another place."""
        self.kind = kind
        self._run = self._end = 0

    def advance(self, index: int) -> None:
        """Take notice of a request."""
        self._next = index + 1

    def leftovers(self) -> range:
        """Return the indexes that were read ahead and not asked for yet."""
        return range(self._next, self._end)

    def run(self, index: int, sizes: Sequence[int], most_octets: int) -> range:
        """Return the indexes to read now, the wanted one first; none of the others above `most_octets`."""
        self._run = self._next_run(index)
        end, total = index + 1, sizes[index]
        while (end < len(sizes) and end - index < self._run and sizes[end] <= most_octets
               and total + sizes[end] <= LARGEST_RUN_OCTETS):
            total += sizes[end]
            end += 1
        self._end = end
        return range(index, end)

    def run_of_small(self, index: int, count: int) -> range:
        """Return the indexes to read now where size does not matter; there are `count` in all."""
        self._run = self._next_run(index, GROWTH_OF_SMALL, LONGEST_RUN_OF_SMALL, FIRST_RUN_OF_SMALL)
        self._end = min(index + self._run, count)
        return range(index, self._end)

    def _next_run(self, index: int, growth: int = 2, longest: int = LONGEST_RUN,
                  first: int = FIRST_RUN) -> int:
        """Return how many to read: so many times as many as before; one when what was read ahead gave way.

        Where more sessions read ahead than there is room for, each would else read all of it again
        and again.
        """
        if index < self._end:
            return 1
        return min(self._run * growth, longest) or (first if index == 0 else 1)
