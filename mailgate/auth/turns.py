"""Whose turn it is: what waits, by place, one place after the other. Pure, and for one thread at a time."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar, Union

Job = TypeVar("Job")


class Turns(Generic[Job]):
    """Like a deque of jobs whose next comes from each place in turn. A place's own jobs keep their order.

    `place_of` tells where a job belongs, `queue_of` makes a place's queue: another Turns makes its
    places share one turn here.
    """

    def __init__(self, place_of: Callable[[Job], str],
                 queue_of: Callable[[str], Union[deque[Job], Turns[Job]]] = lambda place: deque()) -> None:
        self._place_of = place_of
        self._queue_of = queue_of
        self._queues: OrderedDict[str, Any] = OrderedDict()     # next turn first; none is empty
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, job: Job) -> None:
        """Let a job wait."""
        place = self._place_of(job)
        if place not in self._queues:
            self._queues[place] = self._queue_of(place)
        self._queues[place].append(job)
        self._count += 1

    def popleft(self) -> Job:
        """Take the job out whose turn it is. Raises: KeyError, when there is none."""
        place, queue = self._queues.popitem(last=False)
        job: Job = queue.popleft()
        self._count -= 1
        if queue:
            self._queues[place] = queue         # its next turn comes after all others'
        return job

    def pop(self) -> Job:
        """Take out the latest of the place where most wait. Raises: ValueError, when there is none."""
        place = max(self._queues, key=lambda one: len(self._queues[one]))
        return self._pop_from(place)

    def give_way(self, newcomer: Job) -> Job | None:
        """Take out what gives way to a newcomer: the latest of the longest queue.

        None, where that is not longer than the newcomer's own would be.
        """
        if not self._queues:
            return None
        own = self._place_of(newcomer)
        longest = max(self._queues, key=lambda one: len(self._queues[one]))
        if longest == own:
            within = self._queues[own]
            job = within.give_way(newcomer) if isinstance(within, Turns) else None
            self._count -= job is not None
            return job
        if len(self._queues[longest]) <= len(self._queues.get(own, ())) + 1:
            return None
        return self._pop_from(longest)

    def remove(self, job: Job) -> bool:
        """Take a job out; False if it is not there."""
        place = self._place_of(job)
        queue = self._queues.get(place)
        if queue is None:
            return False
        if isinstance(queue, Turns):
            if not queue.remove(job):
                return False
        elif job in queue:
            queue.remove(job)
        else:
            return False
        self._count -= 1
        if not queue:
            del self._queues[place]
        return True

    def clear(self) -> list[Job]:
        """Take out all."""
        return [self.popleft() for _ in range(self._count)]

    def _pop_from(self, place: str) -> Job:
        queue = self._queues[place]
        job: Job = queue.pop()
        self._count -= 1
        if not queue:
            del self._queues[place]
        return job
