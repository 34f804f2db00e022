"""The messages of an mbox in order, found with as little reading as their safety allows.

What a file holds up to the first change is known by the From line and header of each message, which are
compared with what is remembered; only what lies behind is read as a whole. So a login over a spool that only
grew, or from which only our own sessions removed something, reads headers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

from mailgate.formats.known import Distinct
from mailgate.formats.mbox import Found, NoMbox, read_messages
from mailgate.formats.mboxids import MboxIds, is_folder_data
from mailgate.stores.spools.maildir_index import Addresses
from mailgate.stores.spools.mbox_files import Signature, read_all
from mailgate.stores.spools.mbox_rows import (
    FILE,
    Entry,
    FileRow,
    checksum,
    make_entry,
    number_of,
    numbered,
    unpack_all,
)


class Listing:
    """What one look at the file has found."""

    __slots__ = ("entries", "file", "offsets", "_by_name")

    def __init__(self, entries: Sequence[Entry], file: FileRow | None) -> None:
        self.entries = entries
        self.file = file            # None: there is none
        self.offsets: list[int] = []
        offset = 0 if file is None else file.start
        for entry in entries:
            self.offsets.append(offset)
            offset += entry.span
        self._by_name = {entry.name: index for index, entry in enumerate(entries) if entry.shown}

    def find(self, name: bytes) -> tuple[Entry, int] | None:
        """Return a message and its offset."""
        index = self._by_name.get(name)
        return None if index is None else (self.entries[index], self.offsets[index])

    def rows(self, known: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
        """Return what is to be remembered; `known` itself if nothing else is."""
        rows = {entry.name: entry.pack() for entry in self.entries}
        if self.file is not None:
            rows[FILE] = self.file.pack()
        return known if rows == known else rows


class Lister:
    """Reads one file, with the help of what is remembered of it."""

    def __init__(self, file: int, entries: Sequence[Entry], addresses: Addresses,
                 ids: Callable[[], MboxIds]) -> None:
        self._file = file
        self._known = entries
        self._addresses = addresses
        self._make_ids = ids

    def read(self, start: int, octets: int) -> tuple[list[Entry], int]:
        """Return all messages, and the offset of the first one.

        `start` is where that was when last it was looked. Raises: NoMbox, OSError.
        """
        count, offset = self._verify(start, octets)
        try:
            found = self._read(offset, octets)
        except NoMbox:
            if not count:
                raise
            count -= 1      # what comes behind is no message: it belongs to the last one, then
            found = self._read(offset - self._known[count].span, octets)
        first = next(found, None)
        if first is None:
            return list(self._known[:count]), start if count else 0
        if not count:
            start = first.offset
        return self._join(list(self._known[:count]), first, found, start), start

    def _read(self, offset: int, octets: int) -> Iterator[Found]:
        """Give the messages from an offset on. Raises: NoMbox, at once or not at all."""
        found = read_messages(lambda at, most: read_all(self._file, at, most), offset, octets)
        first = next(found, None)
        return found if first is None else chain([first], found)

    def _verify(self, start: int, octets: int) -> tuple[int, int]:
        """Return how many messages are still where they were, and the offset behind them."""
        offset = start
        for index, entry in enumerate(self._known):
            head = os.pread(self._file, entry.from_octets + entry.head_octets, offset)
            if checksum(head) != entry.check or offset + entry.span > octets:
                return (index, offset) if index else (0, 0)
            if not entry.separator and offset + entry.span < octets:
                return (index, offset) if index else (0, 0)     # it was the last one, and has grown
            offset += entry.span
        return (len(self._known), offset) if self._known else (0, 0)

    def _join(self, entries: list[Entry], first: Found, others: Iterator[Found], start: int) -> list[Entry]:
        """Add messages to those that were verified, as they are read: all headers together may be large."""
        names = Names(entries, self._known[len(entries):])
        ids = self._begin_ids(entries, first, start)
        for one in chain([first], others):
            theirs = ids.of(one.from_line, one.head)    # asked of each: some count
            name, old = names.take(one.digest)
            place = entries[-1].place + 1 if entries else 0
            if old is not None and old.place > place:
                place = old.place
            unique_id = old.unique_id if old is not None else names.unique_id(name, theirs)
            shown = bool(entries) or not is_folder_data(one.head)
            entries.append(make_entry(one, name, place, unique_id, self._addresses, shown=shown))
        return entries

    def _begin_ids(self, entries: Sequence[Entry], first: Found, start: int) -> MboxIds:
        """Return a reader of ids that has seen what it must of the messages before.

        That is the first; and all of them where the first new one has a UID, which may not be believed.
        (Where it has none, no later one's is.)
        """
        ids = self._make_ids()
        counted = b"x-uid" in first.head.lower()
        offset = start
        for entry in entries if counted else entries[:1]:
            head = os.pread(self._file, entry.from_octets + entry.head_octets, offset)
            ids.of(head[:entry.from_octets], head[entry.from_octets:])
            offset += entry.span
        return ids


class Names:
    """Gives messages their names and unique-ids: the old ones where they are known."""

    def __init__(self, entries: Sequence[Entry], others: Sequence[Entry]) -> None:
        """`entries` are in place; of `others` it is not known yet where they are, or whether."""
        self._others: dict[bytes, list[Entry]] = {}
        self._numbers: dict[bytes, int] = {}        # the highest, by digest
        self._ids = Distinct(entry.unique_id for entry in (*entries, *others))
        for entry in (*entries, *others):
            digest = entry.digest
            self._numbers[digest] = max(self._numbers.get(digest, 0), number_of(entry.name))
        for entry in reversed(others):
            self._others.setdefault(entry.digest, []).append(entry)

    def take(self, digest: bytes) -> tuple[bytes, Entry | None]:
        """Return the name of the next message with a digest, and what is known of it."""
        if others := self._others.get(digest):
            old = others.pop()
            return old.name, old
        number = self._numbers.get(digest, 0) + 1
        self._numbers[digest] = number
        return numbered(digest, number), None

    def unique_id(self, name: bytes, theirs: bytes | None) -> bytes:
        """Return a unique-id for a new message: what another server gave it, if that is one and is free."""
        chosen = None if not theirs else self._ids.give(theirs)
        if chosen is None:
            digest, number = name[:16].hex().encode(), number_of(name)
            chosen = self._ids.give(digest if number == 1 else b"%b.%d" % (digest, number))
        assert chosen is not None
        return chosen


def remembered(known: Mapping[bytes, bytes], file: FileRow) -> Listing:
    """Return the listing of a file that was not touched since it was looked at."""
    return Listing(unpack_all(known), file)


def look(file: int, status: Signature, known: Sequence[Entry], row: FileRow | None, addresses: Addresses,
         ids: Callable[[], MboxIds], *, trusted: bool) -> Listing:
    """Look at a file. Raises: NoMbox, OSError."""
    lister = Lister(file, known, addresses, ids)
    entries, start = lister.read(0 if row is None else row.start, status.octets)
    return Listing(entries, FileRow(status, trusted, start))
