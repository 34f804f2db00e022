"""An mbox (`/var/mail/NAME`) that MTAs and mail programs use at the same time, as an ISpool.

No lock is held between calls: mail may be added at any time. What other programs have changed is found out
by the file's signature and by digests of the messages, and messages are found again where they are then.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from zope.interface import implementer

from mailgate.errors import NoSuchMessage, StoreFull, StoreUnavailable
from mailgate.formats.mbox import NoMbox, Read
from mailgate.formats.uniqueids import Format
from mailgate.interfaces import IBlobReader, ISpool, ISpoolReader
from mailgate.model import Placement, SpoolMessage
from mailgate.stores.files import heir, os_fault
from mailgate.stores.spools.maildir_index import Addresses
from mailgate.stores.spools.mbox_append import append
from mailgate.stores.spools.mbox_files import (
    Disk,
    Signature,
    Spot,
    keep_news,
    open_plain,
    read_all,
    signature,
)
from mailgate.stores.spools.mbox_journal import Item, Journal, ranges, unpack
from mailgate.stores.spools.mbox_listing import Listing, look
from mailgate.stores.spools.mbox_locks import PATIENCE_SECONDS, DotLock, Lockable, SpoolLocks
from mailgate.stores.spools.mbox_reader import MboxReader
from mailgate.stores.spools.mbox_redo import ID_OCTETS, Rewriter
from mailgate.stores.spools.mbox_rows import FILE, Entry, FileRow, unpack_all, unpack_file
from mailgate.stores.spools.places import Place

PIECE_OCTETS = 1 << 18
RECIPIENT_FIELDS = ("X-Original-To", "Delivered-To")
SHARED_MODE = 0o660         # where a group may make files: group mail, in whose name MTAs deliver
SETTLED_SECONDS = 2.0       # a file that was changed less long ago may change once more in the same moment
MOST_LOOKS = 3              # at a file that somebody changes without a lock
SPARE_OCTETS = 1 << 16      # beside what is written to finish a removal by

_NOT_OURS = re.compile(r"\A\.(?:lk|mailgate-)|(?:\.lock|\.mailgate|\.mailgate\.new)\Z")
NOTHING = Signature(0, 0, 0, 0, 0)      # of no file
Held = tuple[int, DotLock]              # an open file


class MboxHabits(NamedTuple):
    """How the mboxes of one store are read."""

    addresses: Addresses = Addresses(RECIPIENT_FIELDS)
    unique_ids: Format = Format()
    patience_seconds: float = PATIENCE_SECONDS      # how long other programs' locks are waited for
    lockable: Lockable = Lockable()
    disk: Disk = Disk()
    now: Callable[[], float] = time.time


@implementer(ISpool)
class MboxSpool:
    """One mbox. Messages are known by digests of what they are."""

    def __init__(self, place: Place, habits: MboxHabits = MboxHabits()) -> None:
        """Raises: StoreUnavailable, where the file has a name that locks and the like have."""
        if _NOT_OURS.search(place.name):
            raise StoreUnavailable(f"{place} cannot be a mailbox: files that belong to one are called so")
        self._place = place
        self._habits = habits
        self._listing = Listing([], None)

    # Scanning ---------------------------------------------------------------------------------

    def scan(self, known: Mapping[bytes, bytes]) -> tuple[Sequence[SpoolMessage], Mapping[bytes, bytes]]:
        with _as_ours():
            spot = self._spot()
            self._habits.lockable.check(spot.folder)
            self._settle(spot)
            row = unpack_file(known.get(FILE))
            status = spot.status()
            if row is not None and row.trusted and status is not None and row.signature == signature(status):
                self._listing = Listing(unpack_all(known), row)
            else:
                listing = self._look(spot, unpack_all(known), row)
                if listing is None:     # what was known is not forgotten: the file may come back
                    self._listing = Listing([], None)
                    return [], known
                self._listing = listing
                known = listing.rows(known)
        return [entry.message() for entry in self._listing.entries if entry.shown], known

    def learnt(self) -> Mapping[bytes, bytes]:
        return {}       # sizes are exact from the beginning

    def _spot(self) -> Spot:
        return Spot(self._place.parent(), self._place.name)

    def _locks(self, spot: Spot) -> SpoolLocks:
        return SpoolLocks(spot, self._habits.disk, patience_seconds=self._habits.patience_seconds)

    def _settle(self, spot: Spot) -> None:
        """Finish a removal that a process has died in; remove a lock that it left for all to wait at."""
        rewriter, locks = Rewriter(spot, self._habits.disk), self._locks(spot)
        if rewriter.pending() or locks.is_stale():
            with locks.exclusive() as held:
                if held is not None:
                    rewriter.settle(held[0], held[1].touch)

    def _look(self, spot: Spot, entries: Sequence[Entry], row: FileRow | None) -> Listing | None:
        """Look at the file while nobody writes; None if there is none."""
        for _ in range(MOST_LOOKS):
            with self._locks(spot).shared() as file:
                if file is None:
                    return None
                listing = self._look_at(spot, file, entries, row)
                if listing is not None:
                    return listing
        raise StoreUnavailable(f"{spot} is changed all the time by a program that does not lock it")

    def _look_at(self, spot: Spot, file: int, entries: Sequence[Entry],
                 row: FileRow | None) -> Listing | None:
        """Look at an open file; None if it was changed meanwhile."""
        settled_ns = int((self._habits.now() - SETTLED_SECONDS) * 1e9)
        before = signature(os.fstat(file))
        trusted = max(before.modified_ns, before.changed_ns) < settled_ns
        try:
            listing = look(file, before, entries, row, self._habits.addresses,
                           self._habits.unique_ids.mbox_ids, trusted=trusted)
        except NoMbox as fault:
            raise StoreUnavailable(f"{spot} is no mbox: {fault}") from fault
        return listing if signature(os.fstat(file)) == before else None

    # Reading ----------------------------------------------------------------------------------

    def open(self, name: bytes) -> ISpoolReader:
        found = self._listing.find(name)
        if found is None:
            raise NoSuchMessage(f"{name!r} is not there any more")
        with _as_ours():
            file = open_plain(self._spot())
            if file is None:
                raise NoSuchMessage(f"{self._place} is not there any more")
            return _Reader(file, *found, lambda: self._find_again(name))

    def _find_again(self, name: bytes) -> tuple[int, Entry, int]:
        """Look for a message that is not where it was. Raises: NoSuchMessage, StoreUnavailable."""
        spot = self._spot()
        self._settle(spot)
        self._listing = self._look(spot, self._listing.entries, self._listing.file) or Listing([], None)
        found = self._listing.find(name)
        file = None if found is None else open_plain(spot)
        if found is None or file is None:
            raise NoSuchMessage(f"{name!r} is not there any more")
        return file, *found

    # Removing ---------------------------------------------------------------------------------

    def plan(self, names: Collection[bytes]) -> tuple[bytes, Iterable[bytes] | None]:
        spot = self._spot()
        with self._held(spot) as held:
            if held is None:
                listing = Listing([], None)
            else:
                listing = self._looked_again(spot, held)
            self._listing = listing
            found = sorted((offset, entry) for name in names if (at := listing.find(name)) is not None
                           for entry, offset in [at])
            self._has_room(held, found)
            return self._journal(listing, found).pack()

    def _looked_again(self, spot: Spot, held: Held) -> Listing:
        row = self._listing.file
        if row is not None and row.trusted and row.signature == signature(os.fstat(held[0])):
            return self._listing
        listing = self._look_at(spot, held[0], self._listing.entries, row)
        if listing is None:
            raise StoreUnavailable(f"{spot} is changed by a program that does not lock it")
        return listing

    def _journal(self, listing: Listing, found: Sequence[tuple[int, Entry]]) -> Journal:
        there = Counter(entry.digest for entry in listing.entries)
        removed = Counter(entry.digest for _, entry in found)
        seen = NOTHING if listing.file is None else listing.file.signature
        return Journal(secrets.token_bytes(ID_OCTETS), seen, [
            Item(entry.digest, offset, entry.span, there[entry.digest] - removed[entry.digest])
            for offset, entry in found])

    def _has_room(self, held: Held | None, found: Sequence[tuple[int, Entry]]) -> None:
        """Refuse a removal that could not be finished for lack of room."""
        if held is None or not found:
            return
        space = os.statvfs(held[0])
        needed = os.fstat(held[0]).st_size - found[0][0] - sum(entry.span for _, entry in found)
        if space.f_bavail * space.f_frsize < needed + SPARE_OCTETS:
            raise StoreFull(f"{self._place}: {needed} octets are needed beside it to remove messages")

    def carry_out(self, journal: bytes, beside: IBlobReader | None) -> None:
        decided = unpack(journal, None if beside is None else b"".join(_pieces(beside)))
        spot = self._spot()
        rewriter = Rewriter(spot, self._habits.disk)
        with self._held(spot) as held:
            if held is None or rewriter.is_done(decided.journal_id):
                return
            file, dot_lock = held
            where = ranges(decided, _reading(file), signature(os.fstat(file)))
            if where:
                rewriter.cut_out(file, decided.journal_id, where, dot_lock.touch)

    @contextmanager
    def _held(self, spot: Spot, make: Callable[[], int] | None = None) -> Iterator[Held | None]:
        """Hold both locks of the file, with nothing left half-done in it; None if there is no file."""
        with _as_ours(), self._locks(spot).exclusive(make) as held:
            if held is not None:
                Rewriter(spot, self._habits.disk).settle(held[0], held[1].touch)
            yield held

    # Delivering -------------------------------------------------------------------------------

    def deliver(self, content: IBlobReader, placement: Placement) -> bytes | None:
        spot = self._spot()
        with self._held(spot, lambda: self._make(spot)) as held:
            assert held is not None, "it is made"
            file, dot_lock = held
            before = os.fstat(file)
            name = append(self._habits.disk, file, content, placement, dot_lock.touch)
            keep_news(file, before, news=True)
            return name

    def _make(self, spot: Spot) -> int:
        """Make the user's mailbox; in a folder of the superuser's it is his whom it is named after."""
        disk = self._habits.disk
        file = disk.create(spot, 0o600)
        try:
            self._give_away(spot, file)
            disk.sync_folder(spot)
        except BaseException:
            os.close(file)
            raise
        return file

    def _give_away(self, spot: Spot, file: int) -> None:
        owner = heir(spot.folder.descriptor)
        if owner is not None:
            if owner[0] == 0:
                with suppress(KeyError):        # a user of no account on this machine
                    owner = pwd.getpwnam(spot.name).pw_uid, owner[1]
            os.fchown(file, *owner)
        shared = os.fstat(spot.folder.descriptor).st_mode & 0o020
        os.fchmod(file, SHARED_MODE if shared else 0o600)


class _Reader(MboxReader):
    """A reader whose faults are ours."""

    def read(self, octets: int) -> bytes:
        with _as_ours():
            return super().read(octets)


@contextmanager
def _as_ours() -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise os_fault(fault) from fault


def _reading(file: int) -> Read:
    return lambda offset, octets: read_all(file, offset, octets)


def _pieces(beside: IBlobReader) -> Iterator[bytes]:
    offset = 0
    while piece := beside.read(offset, PIECE_OCTETS):
        yield piece
        offset += len(piece)
