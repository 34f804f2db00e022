"""A Maildir that Postfix, procmail, Dovecot or Courier use at the same time, as an ISpool."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from twisted.logger import Logger
from zope.interface import implementer

from mailgate.errors import NoSuchMessage, StoreUnavailable
from mailgate.formats.entries import BadSource
from mailgate.formats.header import HeaderTap
from mailgate.formats.known import Distinct, KnownId, legal_unique_id
from mailgate.formats.maildir import arrived_us, sizes_of, unique_of
from mailgate.formats.uniqueids import Format
from mailgate.interfaces import IBlobReader, ISpool, ISpoolReader
from mailgate.model import INBOX, Placement, SpoolMessage
from mailgate.stores.spools.maildir_delivery import write_message
from mailgate.stores.spools.maildir_files import FOLDER_MODE, Box, Identity
from mailgate.stores.spools.maildir_index import Addresses, Entry, Found, unpack
from mailgate.stores.spools.places import Place
from mailgate.wire.dots import WireForm

PIECE_OCTETS = 65536
SMALL_OCTETS = 65536            # a file up to this is measured when it is first seen
MOST_OCTETS = 1 << 32           # a longer one is no mail: it may be a hole that would be read for years
JOURNAL_OCTETS = 65536          # a longer one lies beside
RECIPIENT_FIELDS = ("X-Original-To", "Delivered-To")

_JOURNAL, _JOURNAL_BESIDE = b"maildir 1\n", b"maildir 1 beside\n"
_REMOVED = struct.Struct(">HQQ")

log = Logger()


class Habits(NamedTuple):
    """How the Maildirs of one store are read."""

    addresses: Addresses = Addresses(RECIPIENT_FIELDS)
    unique_ids: Format = Format()

    def old_ids(self, box: Box, names: Collection[bytes],
                files: Mapping[bytes, bytes]) -> dict[bytes, KnownId]:
        """Return what another server knew of some messages. Raises: StoreUnavailable."""
        try:
            found = self.unique_ids.maildir_ids(box.root, {os.fsdecode(name) for name in names},
                                                lambda base: _header(box, os.fsencode(base), files))
        except BadSource as fault:      # all would be fetched again, under ids of our own
            raise StoreUnavailable(str(fault)) from fault
        return {os.fsencode(base): one for base, one in found.items()}


@implementer(ISpool)
class MaildirSpool:
    """One Maildir. Messages are known by the base names of their files."""

    def __init__(self, place: Place, habits: Habits = Habits()) -> None:
        self._place = place
        self._habits = habits
        self._files: Mapping[bytes, bytes] = {}     # path from `cur`, by name, as the last scan found it
        self._known: Mapping[bytes, bytes] = {}     # what is remembered since then
        self._learnt: dict[bytes, bytes] = {}
        self._right: set[bytes] = set()             # names whose claims have been counted, and were right

    # Scanning ---------------------------------------------------------------------------------

    def scan(self, known: Mapping[bytes, bytes]) -> tuple[Sequence[SpoolMessage], Mapping[bytes, bytes]]:
        box = Box.open(self._place)
        if box is None:         # what was known is not forgotten: the folder may come back
            self._files, self._known = {}, {}
            return [], known
        files = box.take_stock()
        if not known.keys() <= files.keys():    # a file that is renamed may be missed by one who lists
            files = {**files, **box.take_stock()}
        if files.keys() != known.keys():
            known = self._remembered(box, known, files)
        names = sorted(known, key=known.__getitem__)
        self._files, self._known = files, known
        return Found(names, known, files), known

    def _remembered(self, box: Box, known: Mapping[bytes, bytes],
                    files: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Return what is to be remembered of the files that there are."""
        kept = {name: value for name, value in known.items() if name in files}
        fresh = [name for name in files if name not in kept]
        if not fresh:
            return kept
        old_ids = self._habits.old_ids(box, fresh, files)
        ids = Distinct(unpack(value).unique_id for value in kept.values())
        for name in sorted(fresh, key=lambda name: (_place(old_ids.get(name)), name)):
            entry = self._look_at(box, name, files[name])
            if entry is None:
                continue
            old = old_ids.get(name)
            unique_id = _unique_id(name, old and old.unique_id, ids)
            if old is not None and old.order is not None:
                entry = entry._replace(listed=True, place=old.order)
            kept[name] = entry._replace(unique_id=unique_id).pack()
        return kept

    def _look_at(self, box: Box, name: bytes, path: bytes) -> Entry | None:
        """Return what a file is; None, with a word to the operator, if it is no message that can be read."""
        try:
            reader = FileReader(box.open_file(name, path))
        except NoSuchMessage:
            return None         # gone, or no plain file
        except OSError as fault:
            log.warn("{path}: {name} is left out: {reason}", path=str(self._place), name=path, reason=fault)
            return None
        try:
            status, start = reader.status(), reader.read(PIECE_OCTETS)
            if status.st_size > MOST_OCTETS:
                log.warn("{path}: {name} is left out: {octets} octets", path=str(self._place), name=path,
                         octets=status.st_size)
                return None
            claimed = _claimed_octets(name, status.st_size)
            octets = claimed if claimed is not None else _measure(reader, start)
            us = arrived_us(name, status.st_mtime_ns)
            sender, recipient = self._habits.addresses.read(start)
            return Entry(listed=False, place=us, octets=octets, file_octets=status.st_size,
                         arrived_ms=us // 1000, measured=claimed is None, unique_id=b"", sender=sender,
                         recipient=recipient)
        finally:
            reader.close()

    # Reading ----------------------------------------------------------------------------------

    def open(self, name: bytes) -> ISpoolReader:
        box = Box.open(self._place)
        value = self._known.get(name)
        if box is None or value is None:
            raise NoSuchMessage(f"{name!r} is not there any more")
        reader = FileReader(box.open_file(name, self._files.get(name)))
        entry = unpack(value)
        try:
            octets = reader.status().st_size
            if octets != entry.file_octets or not (entry.measured or name in self._right):
                self._measure_again(name, entry, reader, octets)
        except BaseException:
            reader.close()
            raise
        return reader

    def _measure_again(self, name: bytes, entry: Entry, reader: FileReader, file_octets: int) -> None:
        """Count what the name claimed, or what has changed. Raises: StoreUnavailable, if that was wrong."""
        if file_octets > MOST_OCTETS:
            raise StoreUnavailable(f"{name!r} has grown to {file_octets} octets")
        octets = _measure(reader, reader.read(PIECE_OCTETS))
        reader.rewind()
        value = entry._replace(octets=octets, file_octets=file_octets, measured=True).pack()
        self._learnt[name] = value
        if octets != entry.octets:
            raise StoreUnavailable(f"{name!r} has {octets} octets, and not {entry.octets}")
        self._right.add(name)

    def learnt(self) -> Mapping[bytes, bytes]:
        return self._learnt

    def arrivals(self, names: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return what is to be remembered of messages that come to another folder now, behind all there."""
        now_us = time.time_ns() // 1000
        return {name: unpack(self._known[name])._replace(listed=False, place=now_us + number).pack()
                for number, name in enumerate(names)}

    # Removing ---------------------------------------------------------------------------------

    def plan(self, names: Collection[bytes]) -> tuple[bytes, Iterable[bytes] | None]:
        entries = b"".join(_REMOVED.pack(len(name), inode, octets) + name
                           for name, (inode, octets) in self._identities(names))
        if len(entries) <= JOURNAL_OCTETS:
            return _JOURNAL + entries, None
        return _JOURNAL_BESIDE, [entries]

    def _identities(self, names: Collection[bytes]) -> Iterator[tuple[bytes, Identity]]:
        """Give which files the names mean, by now; those that have gone, or are others now, are left out."""
        box = Box.open(self._place)
        if box is None:
            return
        moved = []
        for name in names:
            path = self._files.get(name)
            status = None if path is None else box.status(path)
            if status is None:
                moved.append(name)
            elif self._is_listed(name, status):
                yield name, Identity(status.st_ino, status.st_size)
        for name, paths in (box.find(set(moved)) if moved else {}).items():
            for status in filter(None, map(box.status, paths)):
                if self._is_listed(name, status):
                    yield name, Identity(status.st_ino, status.st_size)
                    break

    def _is_listed(self, name: bytes, status: os.stat_result) -> bool:
        """Return whether a file can be the one that was listed, as far as its size tells."""
        value = self._learnt.get(name) or self._known.get(name)
        return (stat.S_ISREG(status.st_mode)
                and (value is None or unpack(value).file_octets == status.st_size))

    def carry_out(self, journal: bytes, beside: IBlobReader | None) -> None:
        if journal.startswith(_JOURNAL):
            entries = journal[len(_JOURNAL):]
        elif journal == _JOURNAL_BESIDE and beside is not None:
            entries = b"".join(_pieces(beside))
        else:
            raise StoreUnavailable(f"{self._place}: a journal of another kind of mailbox")
        box = Box.open(self._place)
        if box is not None:
            box.remove(_identities_in(entries), self._files)

    # Delivering -------------------------------------------------------------------------------

    def deliver(self, content: IBlobReader, placement: Placement) -> bytes | None:
        box = Box.make(self._place.make(FOLDER_MODE), is_folder=placement.folder != INBOX)
        return write_message(box, content, placement.flags, placement.envelope.arrived_ms)


@implementer(ISpoolReader)
class FileReader:
    """An open file."""

    def __init__(self, file: int) -> None:
        self._file: int | None = file

    def status(self) -> os.stat_result:
        """Return what is known of the file."""
        return os.fstat(self._open())

    def read(self, octets: int) -> bytes:
        return os.read(self._open(), octets)

    def rewind(self) -> None:
        """Begin again."""
        os.lseek(self._open(), 0, os.SEEK_SET)

    def _open(self) -> int:
        if self._file is None:
            raise StoreUnavailable("the file was closed")
        return self._file

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def __del__(self) -> None:
        self.close()


def _claimed_octets(name: bytes, file_octets: int) -> int | None:
    """Return the octets that a large file's name claims, if it can be so; a small one is better measured."""
    in_file, on_wire = sizes_of(name)
    if file_octets <= SMALL_OCTETS or on_wire is None or in_file not in (None, file_octets):
        return None
    return on_wire if file_octets <= on_wire <= 2 * file_octets else None


def _measure(reader: FileReader, start: bytes) -> int:
    """Return the octets of a message with CRLF line ends, of which the start was read.

    One that grows beyond all bounds meanwhile is not as long as that.
    """
    form, piece = WireForm(), start
    while piece and form.octets <= 2 * MOST_OCTETS:
        form.feed(piece)
        piece = reader.read(PIECE_OCTETS)
    form.finish()
    return form.octets


def _header(box: Box, name: bytes, files: Mapping[bytes, bytes]) -> bytes | None:
    """Return a message's header; None, if it cannot be read now."""
    tap = HeaderTap()
    try:
        reader = FileReader(box.open_file(name, files.get(name)))
        while not tap.complete and (piece := reader.read(PIECE_OCTETS)):
            tap.feed(piece)
        reader.close()
    except (NoSuchMessage, OSError):
        return None
    return tap.octets()


def _place(old: KnownId | None) -> tuple[bool, int]:
    """Return by what messages are sorted that another server may have known."""
    return (True, 0) if old is None or old.order is None else (False, old.order)


def _unique_id(name: bytes, old: bytes | None, ids: Distinct) -> bytes:
    """Return an id for a new message: another server's, or what its maker chose, or a digest of that."""
    for candidate in (old, unique_of(name), name, hashlib.sha256(name).hexdigest().encode()):
        if candidate is not None and legal_unique_id(candidate) and (given := ids.give(candidate)):
            return given
    raise AssertionError("a digest has room for a number behind it")


def _identities_in(entries: bytes) -> dict[bytes, Identity]:
    found, at = {}, 0
    while at < len(entries):
        octets, *identity = _REMOVED.unpack_from(entries, at)
        at += _REMOVED.size + octets
        found[entries[at - octets:at]] = Identity(*identity)
    return found


def _pieces(reader: IBlobReader) -> Iterator[bytes]:
    offset = 0
    while piece := reader.read(offset, PIECE_OCTETS):
        offset += len(piece)
        yield piece
