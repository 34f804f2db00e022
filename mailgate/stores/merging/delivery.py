"""A delivery to a store that is not the one which has the accounts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from mailgate.errors import NoSuchAccount, NoSuchRecipient, StoreUnavailable
from mailgate.interfaces import IAccountStore, IDelivery
from mailgate.model import Placement

Outcomes = list[Any]


class Judge:
    """Says whether recipients still are whose they were when they were accepted; one delivery at a time."""

    def __init__(self, accounts: IAccountStore) -> None:
        self._accounts = accounts
        self._turn = DeferredLock()

    async def in_turn(self, placements: Sequence[Placement],
                      commit: Callable[[list[NoSuchRecipient | None]], Deferred[Outcomes]]) -> Outcomes:
        """Call `commit` with what is wrong with each placement, in the order of the calls of this."""
        await self._turn.acquire()
        try:
            committing = commit([await self._fault(one) for one in placements])
        finally:
            self._turn.release()
        return await committing

    async def _fault(self, placement: Placement) -> NoSuchRecipient | None:
        if placement.account is None:
            return None
        if placement.account:
            try:
                await self._accounts.get(placement.maildrop)
            except NoSuchAccount:
                return NoSuchRecipient(f"maildrop {placement.maildrop} has changed hands")
            return None
        login = await self._accounts.find_login(placement.maildrop)
        if login is not None and login.view is None:
            return NoSuchRecipient(f"maildrop {placement.maildrop} has changed hands")
        return None


@implementer(IDelivery)
class JudgedDelivery:
    """A delivery of the store `inner` is of. What else that delivery can do, this one can."""

    def __init__(self, inner: Any, judge: Judge) -> None:
        self._inner = inner
        self._judge = judge
        self._committed = False
        directlyProvides(self, providedBy(inner))

    def write(self, content: bytes) -> Deferred[None] | None:
        waiting: Deferred[None] | None = self._inner.write(content)
        return waiting

    def prepare(self) -> Deferred[None]:
        """See IPreparedDelivery."""
        prepared: Deferred[None] = self._inner.prepare()
        return prepared

    def commit(self, placements: Sequence[Placement], *, all_or_nothing: bool = False,
               delivery_id: str | None = None) -> Deferred[Outcomes]:
        def commit(faults: list[NoSuchRecipient | None]) -> Deferred[Outcomes]:
            return Deferred.fromCoroutine(self._commit(placements, faults, all_or_nothing, delivery_id))

        self._committed = True
        committing: Deferred[Outcomes] = Deferred.fromCoroutine(self._judge.in_turn(placements, commit))
        return committing.addErrback(self._forget)

    def _forget(self, failure: Failure) -> Failure:
        """Leave nothing of a message that could not be judged; to one whose commit failed it is nothing."""
        self._inner.abort()
        return failure

    async def _commit(self, placements: Sequence[Placement], faults: list[NoSuchRecipient | None],
                      all_or_nothing: bool, delivery_id: str | None) -> Outcomes:
        wanted = [one._replace(account=None) for one, fault in zip(placements, faults, strict=True)
                  if fault is None]
        if not wanted or (all_or_nothing and len(wanted) < len(placements)):
            self._inner.abort()
            other = StoreUnavailable("another recipient's copy was refused")
            return [fault or other for fault in faults]
        outcomes = iter(await self._inner.commit(wanted, all_or_nothing=all_or_nothing,
                                                 delivery_id=delivery_id))
        return [fault or next(outcomes) for fault in faults]

    def abort(self) -> None:
        if not self._committed:
            self._inner.abort()
