"""Deliveries that are under way together, so that they share commits, and stay in order.

Messages are known by a name and a position, not by themselves: a source's messages may hold much.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from mailgate.errors import MailgateError, StoreUnavailable
from mailgate.interfaces import IPreparedDelivery
from mailgate.model import Placement

MOST_MESSAGES = 64              # under way at once
MOST_OCTETS = 8 << 20           # of them, the one that is being read counted; a larger one goes alone

Fault = Exception
Settled = Callable[[str, int, "Fault | None"], None]


class Convoy:
    """Commits each message after those that were added before it, and tells the outcomes in that order.

    `settled(name, position, fault)` is told what became of a message. An outage (and a fault that
    nobody expects) ends the convoy: what was not committed is dropped, the commits that are under way
    are waited for, and whoever waits for the convoy gets the fault.
    """

    def __init__(self, settled: Settled) -> None:
        self._settled = settled
        self._octets = 0
        self._under_way: deque[_Ship] = deque()
        self._to_commit: deque[_Ship] = deque()     # the last of these, perhaps all
        self._ends = False                          # nothing more is committed
        self.ended_by: Fault | None = None

    async def room(self, octets: int) -> None:
        """Wait until so many octets of one more message have room. Raises: what ends the convoy."""
        while self._under_way and (self._ends or len(self._under_way) >= MOST_MESSAGES
                                   or self._octets + octets > MOST_OCTETS):
            await self._first_arrives()

    async def arrive(self) -> None:
        """Wait until every message is settled. Raises: what ends the convoy."""
        while self._under_way:
            await self._first_arrives()

    async def add(self, name: str, position: int, octets: int, delivery: Any, placement: Placement) -> None:
        """Add a message that has been read. One whose delivery cannot be prepared is waited for."""
        ship = self._enqueue(_Ship(name, position, octets, delivery, placement))
        can_wait = IPreparedDelivery.providedBy(delivery)
        preparing: Deferred[None] = delivery.prepare() if can_wait else succeed(None)
        preparing.addBoth(self._prepared, ship)
        if not can_wait:
            await self.arrive()

    async def add_fault(self, name: str, position: int, fault: Fault) -> None:
        """Add a message that cannot be delivered, to be told in its turn; what ends the convoy, at once."""
        self._prepared(Failure(fault), self._enqueue(_Ship(name, position)))
        if _is_end(fault):
            await self.arrive()

    def _enqueue(self, ship: _Ship) -> _Ship:
        self._octets += ship.octets
        self._under_way.append(ship)
        self._to_commit.append(ship)
        return ship

    def _prepared(self, outcome: Failure | None, ship: _Ship) -> None:
        ship.fault = outcome and outcome.value
        ship.ready = True
        while self._to_commit and self._to_commit[0].ready and not self._ends:
            self._to_commit.popleft().commit(self._committed)

    def _committed(self, ship: _Ship, fault: Fault | None) -> None:
        if fault is not None and _is_end(fault):
            self._ends = True
        ship.done.callback(fault)

    async def _first_arrives(self) -> None:
        fault = await self._under_way[0].done
        ship = self._under_way.popleft()
        self._octets -= ship.octets
        if fault is not None and _is_end(fault):
            await self._scatter()
            self.ended_by = fault
            raise fault
        self._settled(ship.name, ship.position, fault)

    async def _scatter(self) -> None:
        """Drop what is not committed, and wait for what is."""
        dropped = set(self._to_commit)
        self._to_commit.clear()
        for ship in dropped:
            ship.abort()
        while self._under_way:
            ship = self._under_way.popleft()
            if ship not in dropped:
                await ship.done


class _Ship:
    """One message under way; `delivery` is None where it cannot be delivered."""

    __slots__ = ("name", "position", "octets", "ready", "fault", "done", "_delivery", "_placement")

    def __init__(self, name: str, position: int, octets: int = 0, delivery: Any = None,
                 placement: Placement | None = None) -> None:
        self.name = name
        self.position = position
        self.octets = octets
        self.ready = False                  # to be committed
        self.fault: BaseException | None = None
        self.done: Deferred[Fault | None] = Deferred()
        self._delivery = delivery
        self._placement = placement

    def commit(self, committed: Callable[[_Ship, Any], None]) -> None:
        """Ask for the commit, and hand its fault over, or None."""
        if self.fault is not None:
            self.abort()
            committed(self, self.fault)
            return
        committing: Deferred[Any] = self._delivery.commit([self._placement])
        committing.addCallbacks(lambda outcomes: outcomes[0], lambda failure: failure.value)
        committing.addCallback(lambda fault: committed(self, fault))

    def abort(self) -> None:
        if self._delivery is not None:
            self._delivery.abort()


def _is_end(fault: BaseException) -> bool:
    """Return whether a fault is of more than one message."""
    return isinstance(fault, StoreUnavailable) or not isinstance(fault, (MailgateError, FileNotFoundError))
