"""What stores in memory share when they stand beside one another, as processes share a database."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Container, Mapping, Sequence
from itertools import count
from random import Random
from typing import NamedTuple

from mailgate.model import EMPTY_LISTING, INBOX, Envelope, Placement, ScanListing
from mailgate.names import fold
from mailgate.stores.memory_accounts import AccountTable

NEVER = float("-inf")


class Body(NamedTuple):
    """What the recipients of one delivery share."""

    wire: bytes
    octets: int
    head_octets: int


class Message(NamedTuple):
    """One recipient's copy."""

    unique_id: bytes
    user: str | None
    envelope: Envelope
    preamble: bytes
    body: Body
    identity: bytes | None = None
    folder: str = INBOX
    flags: str = ""
    serial: int = 0             # the maildrop's; grows in the order in which folders got their messages

    @property
    def octets(self) -> int:
        return len(self.preamble) + self.body.octets


def identity_of(placement: Placement) -> bytes | None:
    """Return what an import is known by."""
    return placement.unique_id if placement.identity is None else placement.identity


class Lease:
    """One session's right to a view; told from every other by its identity."""

    __slots__ = ("holder", "view")

    def __init__(self, view: str | None, holder: int) -> None:
        self.view = view
        self.holder = holder


def overlap(one: str | None, other: str | None) -> bool:
    """Return whether two views exclude each other: the same, or either is the whole maildrop."""
    return one == other or one is None or other is None


class Rows:
    """The messages of one maildrop in the order of their arrival, and who holds them."""

    __slots__ = ("folders", "identities", "known_ids", "leases", "logins", "messages", "name", "octets",
                 "_last_serial", "_snapshots")

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.messages: dict[int, Message] = {}          # by serial, in order
        self.octets = 0
        self.folders: set[str] = set()                  # beside INBOX
        self.known_ids: set[bytes] = set()              # every unique-id there ever was
        self.identities: dict[bytes, bytes] = {}        # of all that imports brought; with unique-ids
        self.leases: dict[str | None, Lease] = {}       # by view
        self.logins: dict[str | None, float] = {}       # by view: the second of the last one
        self._last_serial = 0
        self._snapshots: dict[str | None, tuple[ScanListing, tuple[Message, ...]]] = {}

    def add(self, message: Message) -> None:
        """Take a message that stands after all others."""
        self._last_serial += 1
        self.messages[self._last_serial] = message._replace(serial=self._last_serial)
        self.known_ids.add(message.unique_id)
        if message.identity is not None:
            self.identities[message.identity] = message.unique_id
        if message.folder != INBOX:
            self.folders.add(message.folder)
        self.octets += message.octets
        self._snapshots.clear()

    def has_taken(self, placement: Placement, coming: Mapping[bytes, Message]) -> bool:
        """Return whether an import brought this message before, or with those coming."""
        identity = identity_of(placement)
        return identity is not None and (
            identity in self.identities or any(one.identity == identity for one in coming.values()))

    def remove(self, serials: Collection[int]) -> None:
        """Forget messages; their unique-ids and identities stay known."""
        for serial in serials:
            self.octets -= self.messages.pop(serial).octets
        if serials:
            self._snapshots.clear()

    def change(self, messages: Collection[Message]) -> None:
        """Put messages in the place of those that have their serials."""
        for message in messages:
            self.messages[message.serial] = message
            self.known_ids.add(message.unique_id)
        self._snapshots.clear()

    def within(self, folder: str | None) -> tuple[Message, ...]:
        """Return what a folder holds, in order."""
        return tuple([m for m in self.messages.values() if m.folder == folder])

    def snapshot(self, view: str | None) -> tuple[ScanListing, tuple[Message, ...]]:
        """Return listing and messages of a view; sessions between two changes share them."""
        if view not in self._snapshots:
            seen = tuple([m for m in self.within(INBOX) if view is None or m.user == view])
            if not seen:
                return EMPTY_LISTING, seen
            self._snapshots[view] = listing_of(seen), seen
        return self._snapshots[view]


def listing_of(messages: Sequence[Message]) -> ScanListing:
    """Return the scan listing of some messages."""
    return ScanListing(array("Q", [m.octets for m in messages]), [m.unique_id for m in messages])


class Shared:
    """Maildrops, accounts and the holders of leases."""

    def __init__(self, random: Random) -> None:
        self.maildrops: dict[str, Rows] = {}    # by the name's key
        self.accounts = AccountTable()
        self._delivered: set[tuple[str, str, bytes]] = set()
        self._holders: dict[int, float] = {}    # holder -> the second in which it expires
        self._holder_serials = count(1)
        self._id_prefix = f"{random.getrandbits(64):016x}."
        self._id_serials = count(1)

    def maildrop(self, name: str) -> Rows:
        """Return a maildrop, an empty one if there was none."""
        return self.maildrops.setdefault(fold(name), Rows(name))

    # Holders ------------------------------------------------------------------------------

    def new_holder(self, until: float) -> int:
        """Return a holder that is alive until then."""
        holder = next(self._holder_serials)
        self._holders[holder] = until
        return holder

    def renew(self, holder: int, now: float, until: float) -> bool:
        """Keep a living holder alive; one that expired is dead for good. Return which."""
        alive = self.is_alive(holder, now)
        if alive:
            self._holders[holder] = until
        else:
            self.drop_holder(holder)
        return alive

    def is_alive(self, holder: int, now: float) -> bool:
        """Return whether the leases of a holder count."""
        return self._holders.get(holder, NEVER) > now

    def drop_holder(self, holder: int) -> None:
        """End a holder and every lease that points at it."""
        self._holders.pop(holder, None)

    def held_views(self, drop: Rows, now: float) -> list[str | None]:
        """Return the views of a maildrop that living sessions hold."""
        return [view for view, lease in drop.leases.items() if self.is_alive(lease.holder, now)]

    # Delivery -----------------------------------------------------------------------------

    def was_delivered(self, delivery_id: str | None, placement: Placement) -> bool:
        """Return whether an earlier delivery of this id reached this recipient."""
        return delivery_id is not None and _attempt(delivery_id, placement) in self._delivered

    def note_delivered(self, delivery_id: str, placements: Sequence[Placement]) -> None:
        """Remember whom a delivery reached."""
        self._delivered.update(_attempt(delivery_id, placement) for placement in placements)

    def fresh_id(self) -> bytes:
        """Return a unique-id that no message was given before."""
        return f"{self._id_prefix}{next(self._id_serials):x}".encode()

    def message(self, drop: Rows, coming: Container[bytes], placement: Placement, body: Body) -> Message:
        """Return one recipient's copy. Its unique-id is one that the maildrop never had and none of
        those coming: the given one, else a fresh one.
        """
        unique_id = placement.unique_id
        while unique_id is None or unique_id in drop.known_ids or unique_id in coming:
            unique_id = self.fresh_id()
        return Message(unique_id, placement.user, placement.envelope, placement.preamble, body,
                       identity_of(placement), placement.folder, placement.flags)


def _attempt(delivery_id: str, placement: Placement) -> tuple[str, str, bytes]:
    return delivery_id, fold(placement.maildrop), placement.envelope.recipient
