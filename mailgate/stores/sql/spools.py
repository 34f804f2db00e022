"""Leases on maildrops whose mail lies in files of other programs, and what is remembered of it: over SQL."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from mailgate.errors import (
    LeaseLost,
    LoginRefused,
    LoginTooSoon,
    MaildropInUse,
    MailgateError,
    StaleCredential,
)
from mailgate.interfaces import ISpoolRecords, ITenure
from mailgate.model import INBOX, Admission, Note, Placement
from mailgate.names import fold
from mailgate.stores.sql import spoolrows
from mailgate.stores.sql.cursor import Cursor
from mailgate.stores.sql.database import Database
from mailgate.stores.sql.delivery import new_key
from mailgate.stores.sql.leases import Holder, Lease, Wanted, hold, make_maildrop, take
from mailgate.stores.sql.messages import find_maildrop, text
from mailgate.stores.sql.spoolrows import KNOWN, NOTES, Copy, Loaded

NOTHING: Mapping[bytes, bytes] = MappingProxyType({})

_WORD_END = b"\n"       # in a stored journal: behind the word that tells it from all others
_REFUSALS = (StaleCredential, LoginRefused, MaildropInUse, LoginTooSoon)


@implementer(ISpoolRecords)
class SqlSpoolRecords:
    """What a store over SQL keeps for maildrops in files.

    `wanted` reads an admission; `new_session` names a session as no other is named.
    """

    def __init__(self, database: Database, wanted: Callable[[Admission], Wanted],
                 new_session: Callable[[], str]) -> None:
        self.database = database
        self._wanted = wanted
        self._new_session = new_session

    def take(self, admission: Admission) -> Deferred[ITenure]:
        return Deferred.fromCoroutine(self._take(admission))

    async def _take(self, admission: Admission) -> ITenure:
        session = self._new_session()
        try:
            admitted = await self.database.writer.run(take, self.database.holder, self._wanted(admission),
                                                      session)
            return await self._load(admitted.lease, INBOX)
        except BaseException as fault:
            self._not_taken(fault, session)
            raise

    def hold(self, maildrop: str, folder: str = INBOX, *, make: bool = False) -> Deferred[ITenure | None]:
        return Deferred.fromCoroutine(self._hold(maildrop, folder, make))

    async def _hold(self, maildrop: str, folder: str, make: bool) -> ITenure | None:
        session = self._new_session()
        try:
            lease = await self.database.writer.run(_hold, self.database.holder, _key(maildrop),
                                                   text(maildrop) if make else None, session)
            return None if lease is None else await self._load(lease, folder)
        except BaseException as fault:
            self._not_taken(fault, session)
            raise

    def look(self, maildrop: str, folder: str = INBOX) -> Deferred[ITenure | None]:
        return Deferred.fromCoroutine(self._look(maildrop, folder))

    async def _look(self, maildrop: str, folder: str) -> ITenure | None:
        loaded = await self.database.reader.run(spoolrows.load_by_key, _key(maildrop), folder)
        return None if loaded is None else await self._unpack(loaded, None, folder)

    def accept(self, placements: Sequence[Placement],
               delivery_id: str | None) -> Deferred[list[bool | MailgateError]]:
        copies = [_copy(placement) for placement in placements]
        answers: Deferred[list[bool | MailgateError]] = self.database.writer.run(
            spoolrows.accept, copies, delivery_id)
        return answers

    def delivered(self, placement: Placement, delivery_id: str | None, name: bytes | None) -> Deferred[None]:
        return self.database.writer.run(spoolrows.delivered, _copy(placement), delivery_id,
                                        new_key().encode(), name, durable=True)

    def know(self, maildrop: str) -> Deferred[None]:
        knowing = self.database.writer.run(spoolrows.know, _key(maildrop), text(maildrop))
        return knowing.addCallback(lambda _: None)

    def note(self, maildrop: str, folder: str, notes: Mapping[bytes, Note],
             known: Mapping[bytes, bytes] = NOTHING) -> Deferred[None]:
        packed = {name: spoolrows.pack_note(note) for name, note in notes.items()}
        return self.database.writer.run(spoolrows.note, _key(maildrop), text(maildrop), folder, packed,
                                        dict(known))

    def rename_folders(self, maildrop: str, names: Mapping[str, str]) -> Deferred[None]:
        return self.database.writer.run(spoolrows.rename_folders, _key(maildrop), dict(names))

    def forget(self, maildrop: str) -> Deferred[None]:
        return self.database.writer.run(spoolrows.forget, _key(maildrop), durable=True)

    # Loading --------------------------------------------------------------------------------

    async def _load(self, lease: Lease, folder: str) -> ITenure:
        loaded = await self.database.reader.run(spoolrows.load, lease.maildrop_id, folder)
        if loaded is None:
            raise LeaseLost("the maildrop was removed")
        return await self._unpack(loaded, lease, folder)

    async def _unpack(self, loaded: Loaded, lease: Lease | None, folder: str) -> ITenure:
        known, notes = await self.database.in_thread(_entries, loaded.rows, folder)
        return SqlTenure(self.database, lease, folder, loaded, known, notes)

    def _not_taken(self, fault: BaseException, session: str) -> None:
        """Leave no lease behind: a failed commit may have taken one, and a caller may have cancelled."""
        if not isinstance(fault, _REFUSALS):
            self.database.release_session(session)


@implementer(ITenure)
class SqlTenure:
    """A lease (or none) on a maildrop, and what was remembered when it was taken."""

    __slots__ = ("_change", "_database", "_folder", "_lease", "_maildrop_id", "_raw_notes", "_released",
                 "_stored", "_word", "journal", "known", "notes")

    def __init__(self, database: Database, lease: Lease | None, folder: str, loaded: Loaded,
                 known: dict[bytes, bytes], notes: dict[bytes, bytes]) -> None:
        self._database = database
        self._lease = lease
        self._folder = folder
        self._maildrop_id = loaded.maildrop_id
        self._released = False
        self._word = new_key().encode()
        self._take_in(loaded, known, notes)

    def _take_in(self, loaded: Loaded, known: dict[bytes, bytes], notes: dict[bytes, bytes]) -> None:
        self._change = loaded.change
        self._see_journal(loaded.journal)
        self.known: Mapping[bytes, bytes] = known
        self._raw_notes = notes
        self.notes: Mapping[bytes, Note] = _Notes(notes)

    def _see_journal(self, stored: tuple[bytes, str | None] | None) -> None:
        """Take notice of a journal as it is stored."""
        self._stored = stored and stored[0]
        self.journal = stored and (stored[0].partition(_WORD_END)[2], stored[1])

    def remember(self, known: Mapping[bytes, bytes]) -> Deferred[bool]:
        return Deferred.fromCoroutine(self._remember(known))

    async def _remember(self, known: Mapping[bytes, bytes]) -> bool:
        if known is self.known:
            return True
        notes = self._raw_notes
        if notes.keys() - known.keys():
            notes = {name: note for name, note in notes.items() if name in known}
        rows = await self._database.in_thread(_all_rows, self._folder, (self.known, known),
                                              (self._raw_notes, notes))
        if rows:
            change = await self._database.writer.run(spoolrows.replace, self._maildrop_id, self._change, rows)
            if change is None:
                await self._reload()
                return False
            self._change = change
        self.known, self._raw_notes, self.notes = known, notes, _Notes(notes)
        return True

    async def _reload(self) -> None:
        loaded = await self._database.reader.run(spoolrows.load, self._maildrop_id, self._folder)
        if loaded is None:
            raise LeaseLost("the maildrop was removed")
        self._take_in(loaded, *await self._database.in_thread(_entries, loaded.rows, self._folder))

    def amend(self, known: Mapping[bytes, bytes | None]) -> Deferred[None]:
        return self._database.writer.run(spoolrows.amend, self._maildrop_id, self._folder, KNOWN, dict(known))

    def rename(self, ids: Mapping[bytes, bytes | None], used: Collection[bytes] = ()) -> Deferred[None]:
        notes = {name: spoolrows.pack_note(self.notes.get(name, Note())._replace(unique_id=unique_id))
                 for name, unique_id in ids.items()}
        return self._database.writer.run(spoolrows.rename, self._maildrop_id, self._folder, notes,
                                         list(used), durable=True)

    def used(self, ids: Collection[bytes]) -> Deferred[Collection[bytes]]:
        return self._database.reader.run(spoolrows.used, self._maildrop_id, list(ids))

    def decide(self, journal: bytes, blob_key: str | None) -> Deferred[bool]:
        if self._lease is None or self._released:
            return fail(LeaseLost("there is no lease"))
        stored = self._word + _WORD_END + journal
        deciding = self._database.writer.run(spoolrows.decide, self._lease, stored, blob_key, durable=True)
        return deciding.addCallback(self._decided, (stored, blob_key))

    def _decided(self, other: tuple[bytes, str | None] | None, ours: tuple[bytes, str | None]) -> bool:
        self._see_journal(other or ours)
        return other is None

    def carried_out(self, gone: Collection[bytes]) -> Deferred[None]:
        stored, self._stored, self.journal = self._stored, None, None
        if stored is None:
            return succeed(None)
        return self._database.writer.run(spoolrows.carried_out, self._maildrop_id, self._folder, stored,
                                         dict.fromkeys(gone))

    def release(self) -> Deferred[None]:
        if self._released or self._lease is None:
            return succeed(None)
        self._released = True
        return self._database.release(self._lease)


class _Notes(Mapping[bytes, Note]):
    """Notes as they are packed, and read one by one."""

    __slots__ = ("_packed",)

    def __init__(self, packed: Mapping[bytes, bytes]) -> None:
        self._packed = packed

    def __getitem__(self, name: bytes) -> Note:
        return spoolrows.unpack_note(self._packed[name])

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def __contains__(self, name: object) -> bool:
        return name in self._packed


def _hold(cursor: Cursor, holder: Holder, key: str, name: str | None, session: str) -> Lease | None:
    """Take the lease of a maildrop, which is made if it is missing and a name is given."""
    maildrop_id = find_maildrop(cursor, key)
    if maildrop_id is None and name is not None:
        maildrop_id = make_maildrop(cursor, key, name)
    return None if maildrop_id is None else hold(cursor, holder, maildrop_id, session)


def _entries(rows: list[tuple[bytes, bytes]], folder: str) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """Return what some rows of a folder remember: what is known, and notes."""
    found: dict[bytes, dict[bytes, bytes]] = {KNOWN: {}, NOTES: {}}
    at = len(spoolrows.prefix(folder))
    for name, data in rows:
        found[bytes(name[at:at + 1])].update(spoolrows.unpack(bytes(data)))
    return found[KNOWN], found[NOTES]


def _all_rows(folder: str, known: tuple[Mapping[bytes, bytes], Mapping[bytes, bytes]],
              notes: tuple[Mapping[bytes, bytes], Mapping[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [*spoolrows.rows_changed(folder, KNOWN, *known), *spoolrows.rows_changed(folder, NOTES, *notes)]


def _copy(placement: Placement) -> Copy:
    unique_id = placement.unique_id
    user = None if placement.user is None else fold(placement.user)
    return Copy(maildrop_key=_key(placement.maildrop), maildrop=text(placement.maildrop),
                recipient=placement.envelope.recipient, account=placement.account,
                identity=unique_id if placement.identity is None else placement.identity,
                folder=placement.folder,
                note=Note(unique_id, placement.envelope, user))


def _key(name: str) -> str:
    return text(fold(name))
