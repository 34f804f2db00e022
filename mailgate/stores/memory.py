"""A store that keeps everything in memory: for tests, for embedding, for the client harness.

Quick and deterministic: no files, no threads, time by the clock it is given, and every Deferred
that it returns has fired. What it holds ends with the process.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Sequence
from itertools import count
from random import Random, SystemRandom
from typing import NamedTuple, TypeVar

from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from mailgate.errors import (
    LeaseLost,
    LoginTooSoon,
    MaildropInUse,
    NoSuchMessage,
    OverQuota,
    StoreUnavailable,
)
from mailgate.interfaces import Content, IDelivery, IMaildrop, IMaildropStore, IMessageStream
from mailgate.model import EMPTY_LISTING, Admission, Envelope, Listed, Placement, ScanListing
from mailgate.names import fold
from mailgate.stores.memory_accounts import AccountTable, MemoryAccounts
from mailgate.wire.dots import WireForm, cut_top

PIECE_OCTETS = 65536        # what one read gives; a longer message is fetched as a stream
RENEWALS_A_LEASE = 3        # a renewal may be late by two thirds of the lease

_T = TypeVar("_T")


@implementer(IMaildropStore)
class MemoryStore:
    """Maildrops in memory; `accounts` is the IAccountStore beside them.

    `clock.seconds()` judges leases and login delays and is the base of arrival times. A seeded
    `random` makes the unique-ids the same in every run.
    """

    def __init__(self, *, clock: IReactorTime, lease_seconds: float = 60,
                 quota_octets: int | None = None, random: Random | None = None) -> None:
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._quota_octets = quota_octets
        self._holder: int | None = None
        self._renewal: IDelayedCall | None = None
        self._share(Shared(random or SystemRandom()))

    @classmethod
    def beside(cls, other: MemoryStore, *, clock: IReactorTime | None = None) -> MemoryStore:
        """Return another store over the same data, as a second process would have it.

        A clock of its own must tell the same seconds; it may hold back calls, as if asleep.
        """
        store = cls(clock=clock or other._clock, lease_seconds=other._lease_seconds,
                    quota_octets=other._quota_octets)
        store._share(other._shared)
        return store

    def _share(self, shared: Shared) -> None:
        self._shared = shared
        self.accounts = MemoryAccounts(shared.accounts, self._remove)

    # IMaildropStore -----------------------------------------------------------------------

    def start(self) -> Deferred[None]:
        return execute(self._start)

    def stop(self) -> Deferred[None]:
        return execute(self._stop)

    def open(self, admission: Admission) -> Deferred[IMaildrop]:
        return self._run(self._open, admission)

    def deliver(self) -> IDelivery:
        return _Delivery(self)

    def scan(self, maildrop: str) -> Deferred[list[Listed]]:
        return self._run(self._scan, maildrop)

    def remove(self, maildrop: str) -> Deferred[None]:
        return self._run(self._remove, maildrop)

    def expire(self, retention_seconds: int) -> Deferred[int]:
        return self._run(self._expire, retention_seconds)

    def sweep(self, grace_seconds: int) -> Deferred[int]:
        return self._run(lambda: 0)     # a body without rows is gone already

    def check(self) -> Deferred[list[str]]:
        return self._run(lambda: [])

    # What the calls do --------------------------------------------------------------------

    def _run(self, function: Callable[..., _T], *args: object) -> Deferred[_T]:
        if self._renewal is None:
            return fail(StoreUnavailable("the store is not started"))
        return execute(function, *args)

    def _start(self) -> None:
        if self._renewal is None:
            self._renewal = self._clock.callLater(self._lease_seconds / RENEWALS_A_LEASE, self._renew)

    def _stop(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None
        if self._holder is not None:
            self._shared.holders.pop(self._holder, None)    # and with it every lease
            self._holder = None

    def _renew(self) -> None:
        """Keep this store's holder alive; one that was not renewed in time is dead for good."""
        self._renewal = None
        self._start()
        if self._holder is None:
            return
        if self._is_alive(self._holder):
            self._shared.holders[self._holder] = self._clock.seconds() + self._lease_seconds
        else:
            self._shared.holders.pop(self._holder, None)
            self._holder = None

    def _live_holder(self) -> int:
        if self._holder is None or not self._is_alive(self._holder):
            self._holder = next(self._shared.holder_serials)
            self._shared.holders[self._holder] = self._clock.seconds() + self._lease_seconds
        return self._holder

    def _is_alive(self, holder: int) -> bool:
        return self._shared.holders.get(holder, float("-inf")) > self._clock.seconds()

    def _held_views(self, drop: Rows) -> list[str | None]:
        return [view for view, lease in drop.leases.items() if self._is_alive(lease.holder)]

    def _open(self, admission: Admission) -> IMaildrop:
        self._shared.accounts.verify(admission)
        now = self._clock.seconds()
        drop, view = self._shared.maildrop(admission.maildrop), admission.view
        if any(overlap(view, held) for held in self._held_views(drop)):
            raise MaildropInUse(admission.maildrop)
        if now - drop.logins.get(view, float("-inf")) < admission.login_delay_seconds:
            raise LoginTooSoon(admission.maildrop)
        for expired in [held for held in drop.leases if overlap(view, held)]:
            del drop.leases[expired]
        drop.logins[view] = now
        self._shared.accounts.logged_in(admission, int(now * 1000))
        lease = drop.leases[view] = Lease(view, self._live_holder())
        return _OpenMaildrop(self, drop, lease)

    def _scan(self, maildrop: str) -> list[Listed]:
        drop = self._shared.maildrops.get(fold(maildrop), Rows())
        return [Listed(number, message.octets, message.unique_id, message.envelope)
                for number, message in enumerate(drop.messages.values(), 1)]

    def _remove(self, maildrop: str) -> None:
        drop = self._shared.maildrops.get(fold(maildrop))
        if drop is None:
            return
        if self._held_views(drop):
            raise MaildropInUse(maildrop)
        drop.leases.clear()
        del self._shared.maildrops[fold(maildrop)]

    def _expire(self, retention_seconds: int) -> int:
        before_ms = int((self._clock.seconds() - retention_seconds) * 1000)
        removed = 0
        for drop in self._shared.maildrops.values():
            held = self._held_views(drop)
            old = [m for m in drop.messages.values() if m.envelope.arrived_ms < before_ms
                   and None not in held and m.user not in held]
            if old:
                drop.remove(old)
                removed += len(old)
        return removed

    def _commit(self, drop: Rows, lease: Lease, marked: Collection[Message]) -> None:
        """Remove the marked messages of a session if it still has its lease, and end the lease."""
        has_lease = drop.leases.get(lease.view) is lease
        self._release(drop, lease)
        if not has_lease or not self._is_alive(lease.holder):
            raise LeaseLost("the lease ran out before QUIT")
        if marked:
            drop.remove(marked)

    def _release(self, drop: Rows, lease: Lease) -> None:
        if drop.leases.get(lease.view) is lease:
            del drop.leases[lease.view]

    def _place(self, body: Body, placements: Sequence[Placement], all_or_nothing: bool,
               delivery_id: str | None) -> list[Exception | None]:
        """Store a body in every maildrop that takes it; return one outcome a placement."""
        outcomes: list[Exception | None] = []
        fresh: list[tuple[Rows, Message]] = []
        done: set[tuple[str, str, bytes]] = set()
        for placement in placements:
            drop = self._shared.maildrop(placement.maildrop)
            coming = [message for taker, message in fresh if taker is drop]
            known_ids = drop.known_ids.union(message.unique_id for message in coming)
            attempt = (delivery_id or "", fold(placement.maildrop), placement.envelope.recipient)
            if attempt in self._shared.delivered or placement.unique_id in known_ids:
                outcomes.append(None)
                continue
            message = Message(placement.unique_id or self._shared.fresh_id(drop), placement.user,
                               placement.envelope, placement.preamble, body)
            if self._has_room(drop, [*coming, message]):
                fresh.append((drop, message))
                done.add(attempt)
                outcomes.append(None)
            else:
                outcomes.append(OverQuota(placement.maildrop))
        if all_or_nothing and any(outcomes):
            return [outcome or StoreUnavailable("another recipient was refused") for outcome in outcomes]
        for drop, message in fresh:
            drop.add(message)
        if delivery_id is not None:
            self._shared.delivered |= done
        return outcomes

    def _has_room(self, drop: Rows, coming: Sequence[Message]) -> bool:
        octets = drop.octets + sum(message.octets for message in coming)
        return self._quota_octets is None or octets <= self._quota_octets


@implementer(IMaildrop)
class _OpenMaildrop:
    """One session's maildrop."""

    __slots__ = ("listing", "_drop", "_lease", "_messages", "_store")

    def __init__(self, store: MemoryStore, drop: Rows, lease: Lease) -> None:
        self._store = store
        self._drop = drop
        self._lease = lease
        self.listing, self._messages = drop.snapshot(lease.view)

    def fetch(self, number: int, body_lines: int | None = None) -> Content | Deferred[Content]:
        if not 0 < number <= len(self._messages):
            return fail(NoSuchMessage(number))
        _, _, _, preamble, body = self._messages[number - 1]
        wire = body.wire
        if body_lines is not None:
            wire = cut_top(wire, body.head_octets, body_lines)
        if len(preamble) + len(wire) <= PIECE_OCTETS:
            return preamble + wire
        return _Stream(preamble, wire)

    def envelope(self, number: int) -> Envelope | Deferred[Envelope]:
        if not 0 < number <= len(self._messages):
            return fail(NoSuchMessage(number))
        return self._messages[number - 1].envelope

    def commit(self, marked: Collection[int]) -> Deferred[None]:
        return execute(self.commit_blocking, marked)

    def commit_blocking(self, marked: Collection[int]) -> None:
        """Do what `commit` does before returning, for callers that cannot wait for a Deferred."""
        messages = [self._messages[number - 1] for number in set(marked)]
        self._store._commit(self._drop, self._lease, messages)

    def release(self) -> Deferred[None]:
        return execute(self._store._release, self._drop, self._lease)


@implementer(IMessageStream)
class _Stream:
    """A large message, read in pieces: the preamble, then the shared body."""

    __slots__ = ("_at", "_parts")

    def __init__(self, preamble: bytes, wire: bytes) -> None:
        self._parts: list[bytes] | None = [part for part in (wire, preamble) if part]   # next one last
        self._at = 0                            # octets of it that were read

    def read(self) -> Deferred[bytes]:
        if self._parts is None:
            return fail(StoreUnavailable("the stream is closed"))
        if not self._parts:
            return succeed(b"")
        part = self._parts[-1]
        piece = part[self._at:self._at + PIECE_OCTETS]
        self._at += PIECE_OCTETS
        if self._at >= len(part):
            self._parts.pop()
            self._at = 0
        return succeed(piece)

    def close(self) -> None:
        self._parts = None


@implementer(IDelivery)
class _Delivery:
    """A message on its way in; its wire form grows piece by piece."""

    __slots__ = ("_form", "_pieces", "_store")

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._form = WireForm()
        self._pieces: list[bytes] | None = []    # None: committed or aborted

    def write(self, content: bytes) -> Deferred[None] | None:
        if self._pieces is not None:
            self._pieces.append(self._form.feed(content))
        return None

    def commit(self, placements: Sequence[Placement], *, all_or_nothing: bool = False,
               delivery_id: str | None = None) -> Deferred[list[Exception | None]]:
        if self._pieces is None:
            return fail(StoreUnavailable("the delivery has ended"))
        self._pieces.append(self._form.finish())
        body = Body(b"".join(self._pieces), self._form.octets, self._form.head_octets)
        self._pieces = None
        return self._store._run(self._store._place, body, placements, all_or_nothing, delivery_id)

    def abort(self) -> None:
        self._pieces = None
