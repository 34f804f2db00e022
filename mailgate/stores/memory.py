"""A store that keeps everything in memory: for tests, for embedding, for the client harness.

Quick and deterministic: no files, no threads, time by the clock it is given, and every Deferred
that it returns has fired. What it holds ends with the process.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random, SystemRandom
from typing import TypeVar

from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from mailgate.errors import (
    LeaseLost,
    LoginTooSoon,
    MaildropInUse,
    MailgateError,
    NoSuchMessage,
    NoSuchRecipient,
    OverQuota,
    StoreUnavailable,
)
from mailgate.interfaces import (
    Content,
    IDelivery,
    IMaildrop,
    IMaildropStore,
    IMessageStream,
    IPreparedDelivery,
)
from mailgate.model import INBOX, Admission, Envelope, Placement
from mailgate.names import find_folder, fold
from mailgate.stores.kept import as_kept
from mailgate.stores.memory_accounts import MemoryAccounts
from mailgate.stores.memory_data import NEVER, Body, Lease, Message, Rows, Shared, listing_of, overlap
from mailgate.stores.memory_folders import MemoryFolders
from mailgate.stores.memory_imports import MemoryImports
from mailgate.wire.dots import WireForm, cut_top

PIECE_OCTETS = 65536        # what one read gives; a longer message is fetched as a stream
RENEWALS_A_LEASE = 3        # a renewal may be late by two thirds of the lease

_T = TypeVar("_T")


@implementer(IMaildropStore)
class MemoryStore(MemoryFolders, MemoryImports):
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
        self.accounts = MemoryAccounts(shared.accounts, self._remove, shared.maildrops, self._refuse_if_held,
                                       lambda: int(self._clock.seconds() * 1000))

    def start(self) -> Deferred[None]:
        return execute(self._start)

    def stop(self) -> Deferred[None]:
        return execute(self._stop)

    def open(self, admission: Admission) -> Deferred[IMaildrop]:
        return self._run(self._open, admission)

    def deliver(self) -> IDelivery:
        return _Delivery(self)

    def peek(self, maildrop: str, folder: str = INBOX) -> Deferred[IMaildrop]:
        return self._run(self._peek, maildrop, folder)

    def remove(self, maildrop: str) -> Deferred[None]:
        return self._run(self._remove, maildrop)

    def expire(self, retention_seconds: int) -> Deferred[int]:
        return self._run(self._expire, retention_seconds)

    def sweep(self, grace_seconds: int) -> Deferred[int]:
        return self._run(lambda: 0)     # a body that no row names is gone already

    def check(self) -> Deferred[list[str]]:
        return self._run(list)

    def _run(self, function: Callable[..., _T], *args: object) -> Deferred[_T]:
        if self._renewal is None:
            return fail(StoreUnavailable("the store is not started"))
        return execute(function, *args)

    # This store's holder ------------------------------------------------------------------

    def _start(self) -> None:
        if self._renewal is None:
            self._renewal = self._clock.callLater(self._lease_seconds / RENEWALS_A_LEASE, self._renew)

    def _stop(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None
        if self._holder is not None:
            self._shared.drop_holder(self._holder)
            self._holder = None

    def _renew(self) -> None:
        self._renewal = None
        self._start()
        now = self._clock.seconds()
        if self._holder is not None and not self._shared.renew(self._holder, now, now + self._lease_seconds):
            self._holder = None     # dead for good, and with it every session until now

    def _new_lease(self, view: str | None, now: float) -> Lease:
        if self._holder is None or not self._shared.is_alive(self._holder, now):
            self._holder = self._shared.new_holder(now + self._lease_seconds)
        return Lease(view, self._holder)

    # What the calls do --------------------------------------------------------------------

    def _open(self, admission: Admission) -> IMaildrop:
        self._shared.accounts.verify(admission)
        now = self._clock.seconds()
        drop, view = self._shared.maildrop(admission.maildrop), admission.view
        if any(overlap(view, held) for held in self._shared.held_views(drop, now)):
            raise MaildropInUse(admission.maildrop)
        if now - drop.logins.get(view, NEVER) < admission.login_delay_seconds:
            raise LoginTooSoon(admission.maildrop)
        for expired in [held for held in drop.leases if overlap(view, held)]:
            del drop.leases[expired]
        drop.logins[view] = now
        self._shared.accounts.logged_in(admission, int(now * 1000))
        lease = drop.leases[view] = self._new_lease(view, now)
        return OpenMaildrop(self, drop, lease)

    def _peek(self, maildrop: str, folder: str) -> IMaildrop:
        return _Peeked(self._rows(maildrop), find_folder(folder))

    def _remove(self, maildrop: str) -> None:
        drop = self._shared.maildrops.get(fold(maildrop))
        if drop is None:
            return
        self._refuse_if_held(maildrop)
        del self._shared.maildrops[fold(maildrop)]

    def _refuse_if_held(self, maildrop: str) -> None:
        drop = self._shared.maildrops.get(fold(maildrop))
        if drop is not None and self._shared.held_views(drop, self._clock.seconds()):
            raise MaildropInUse(maildrop)

    def _expire(self, retention_seconds: int) -> int:
        now = self._clock.seconds()
        before_ms = int((now - retention_seconds) * 1000)
        removed = 0
        for drop in self._shared.maildrops.values():
            held = self._shared.held_views(drop, now)
            old = [m.serial for m in drop.within(INBOX) if m.envelope.arrived_ms < before_ms
                   and None not in held and m.user not in held]
            drop.remove(old)
            removed += len(old)
        return removed

    def _end(self, drop: Rows, lease: Lease) -> bool:
        """End a lease; return whether it was held until now."""
        if drop.leases.get(lease.view) is not lease:
            return False
        del drop.leases[lease.view]
        return self._shared.is_alive(lease.holder, self._clock.seconds())

    def _place(self, body: Body, placements: Sequence[Placement], all_or_nothing: bool,
               delivery_id: str | None) -> list[Exception | None]:
        """Store a body in every maildrop that takes it; return one outcome a placement."""
        outcomes: list[Exception | None] = []
        by_drop: dict[str, dict[bytes, Message]] = {}
        names = {fold(placement.maildrop): placement.maildrop for placement in reversed(placements)}
        for placement in placements:
            key = fold(placement.maildrop)
            drop, coming = self._shared.maildrops.get(key, Rows()), by_drop.setdefault(key, {})
            if not self._shared.accounts.is_as_said(placement):
                outcomes.append(NoSuchRecipient(placement.maildrop))
                continue
            if drop.has_taken(placement, coming) or self._shared.was_delivered(delivery_id, placement):
                outcomes.append(None)
                continue
            message = self._shared.message(drop, coming, placement, body)
            if message.octets <= self._room(drop) - sum(other.octets for other in coming.values()):
                coming[message.unique_id] = message
                outcomes.append(None)
            else:
                outcomes.append(OverQuota(placement.maildrop))
        if all_or_nothing and any(outcomes):
            return [outcome or StoreUnavailable("another recipient was refused") for outcome in outcomes]
        for key, coming in by_drop.items():
            for message in coming.values():
                self._shared.maildrop(names[key]).add(message)
        if delivery_id is not None:
            self._shared.note_delivered(delivery_id, [
                placement for placement, outcome in zip(placements, outcomes, strict=True)
                if outcome is None])
        return outcomes

    def _room(self, drop: Rows) -> float:
        return float("inf") if self._quota_octets is None else self._quota_octets - drop.octets


@implementer(IMaildrop)
class OpenMaildrop:
    """One session's maildrop."""

    __slots__ = ("listing", "_drop", "_lease", "_messages", "_store")

    def __init__(self, store: MemoryStore, drop: Rows, lease: Lease) -> None:
        self._store = store
        self._drop = drop
        self._lease = lease
        self.listing, self._messages = drop.snapshot(lease.view)

    def _message(self, number: int) -> Message:
        if not 0 < number <= len(self._messages):
            raise NoSuchMessage(number)
        return self._messages[number - 1]

    def fetch(self, number: int, body_lines: int | None = None) -> Content | Deferred[Content]:
        try:
            message = self._message(number)
        except NoSuchMessage as fault:
            return fail(fault)
        wire = message.body.wire
        if body_lines is not None:
            wire = cut_top(wire, message.body.head_octets, body_lines)
        if len(message.preamble) + len(wire) <= PIECE_OCTETS:
            return message.preamble + wire
        return _Stream(message.preamble, wire)

    def envelope(self, number: int) -> Envelope | Deferred[Envelope]:
        try:
            return self._message(number).envelope
        except NoSuchMessage as fault:
            return fail(fault)

    def commit(self, marked: Collection[int]) -> Deferred[None]:
        return execute(self.commit_blocking, marked)

    def commit_blocking(self, marked: Collection[int]) -> None:
        """Do what `commit` does before returning, for callers that cannot wait for a Deferred."""
        if not self._store._end(self._drop, self._lease):
            raise LeaseLost("the lease ran out before QUIT")
        self._drop.remove([self._message(number).serial for number in set(marked)])

    def release(self) -> Deferred[None]:
        self._store._end(self._drop, self._lease)
        return succeed(None)


class _Peeked(OpenMaildrop):
    """A folder's messages, read without a lease."""

    __slots__ = ()

    def __init__(self, drop: Rows, folder: str | None) -> None:
        self._drop = drop
        self._messages = drop.within(folder)
        self.listing = listing_of(self._messages)

    def _message(self, number: int) -> Message:
        message = super()._message(number)
        if message.serial not in self._drop.messages:
            raise NoSuchMessage(f"message {number} is gone")
        return message

    def commit_blocking(self, marked: Collection[int]) -> None:
        raise LeaseLost("there is no lease")

    def release(self) -> Deferred[None]:
        return succeed(None)


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


@implementer(IPreparedDelivery)
class _Delivery:
    """A message on its way in; its wire form grows piece by piece."""

    __slots__ = ("_complete", "_form", "_pieces", "_store")

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._form = WireForm()
        self._pieces: list[bytes] | None = []    # None: committed or aborted
        self._complete = False

    def write(self, content: bytes) -> Deferred[None] | None:
        if self._pieces is not None and not self._complete:
            self._pieces.append(self._form.feed(content))
        return None

    def prepare(self) -> Deferred[None]:
        if self._pieces is None or self._complete:
            return fail(StoreUnavailable("the delivery has ended"))
        self._complete = True
        return succeed(None)

    def commit(self, placements: Sequence[Placement], *, all_or_nothing: bool = False,
               delivery_id: str | None = None) -> Deferred[list[Exception | None]]:
        if self._pieces is None:
            return fail(StoreUnavailable("the delivery has ended"))
        try:
            kept = [as_kept(placement) for placement in placements]
        except MailgateError:
            self.abort()
            return fail()
        self._pieces.append(self._form.finish())
        body = Body(b"".join(self._pieces), self._form.octets, self._form.head_octets)
        self._pieces = None
        return self._store._run(self._store._place, body, kept, all_or_nothing, delivery_id)

    def abort(self) -> None:
        self._pieces = None
