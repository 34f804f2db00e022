"""Reading a message of an mbox while other programs may change the file.

What is given out is what was listed, or nothing: the digest of a message is its name. A small one is looked
at as a whole before anything of it is given out; of a large one the end is held back until the digest fits,
so that no client takes a wrong one for complete.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from zope.interface import implementer

from mailgate.errors import StoreUnavailable
from mailgate.formats.mbox import Measure, visible
from mailgate.interfaces import ISpoolReader
from mailgate.stores.spools.mbox_files import read_all, signature
from mailgate.stores.spools.mbox_rows import Entry, checksum

SMALL_OCTETS = 1 << 18      # up to this a message is read at once
PIECE_OCTETS = 1 << 16      # of a larger one
MOST_MOVES = 3              # while one message is read

Find = Callable[[], "tuple[int, Entry, int]"]     # open file, entry, offset


class Moved(Exception):
    """What was to be read is not where it was."""


@implementer(ISpoolReader)
class MboxReader:
    """One message. `find` looks at the file anew, and raises NoSuchMessage if it is not there any more."""

    def __init__(self, file: int, entry: Entry, offset: int, find: Find) -> None:
        """Begin to read. Raises: NoSuchMessage, StoreUnavailable. Owns the file, also then."""
        self._file: int | None = file
        self._entry = entry
        self._offset = offset
        self._find = find
        self._moves = 0
        self._ready = b""       # read, and not given out
        self._measure: Measure | None = None    # of what was read of a large message; None: all was
        self._at = 0            # of its content, what was read
        try:
            self._settle(self._begin)
        except BaseException:
            self.close()
            raise

    def read(self, octets: int) -> bytes:
        while not self._ready and self._measure is not None:
            self._read_on(self._measure)
        part, self._ready = self._ready[:octets], self._ready[octets:]
        return part

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def __del__(self) -> None:
        self.close()

    def _settle(self, step: Callable[[], None]) -> None:
        """Take a step, and if need be find the message first. Raises: NoSuchMessage, StoreUnavailable."""
        while True:
            try:
                return step()
            except Moved:
                self._moves += 1
                if self._moves > MOST_MOVES:
                    raise StoreUnavailable("another program changes the mailbox without an end") from None
            self.close()
            before = self._entry.head_octets
            self._file, self._entry, self._offset = self._find()
            self._at += self._entry.head_octets - before    # what others keep in the header may have changed

    def _begin(self) -> None:
        entry = self._entry
        if entry.span <= SMALL_OCTETS:
            self._ready = self._whole()
            return
        from_line, head = self._head()
        self._measure = Measure(from_line, head)
        self._ready = visible(head)
        self._at = entry.head_octets

    def _whole(self) -> bytes:
        """Return all of a message. Raises: Moved."""
        entry = self._entry
        raw = self._pread(self._offset, entry.from_octets + entry.length)
        begin = entry.from_octets + entry.head_octets
        head = raw[entry.from_octets:begin]
        measure = Measure(raw[:entry.from_octets], head)
        measure.feed(raw, begin)
        if measure.digest() != entry.digest:
            raise Moved
        return visible(head) + raw[begin:]

    def _head(self) -> tuple[bytes, bytes]:
        """Return From line and header as they are. Raises: Moved."""
        self._signature = signature(os.fstat(self._open_file()))
        raw = self._pread(self._offset, self._entry.from_octets + self._entry.head_octets)
        if checksum(raw) != self._entry.check:
            raise Moved
        return raw[:self._entry.from_octets], raw[self._entry.from_octets:]

    def _read_on(self, measure: Measure) -> None:
        """Read the next piece of a large message. Raises: NoSuchMessage, StoreUnavailable."""
        self._settle(self._next_piece)
        measure.feed(self._ready)
        self._at += len(self._ready)
        if self._at >= self._entry.length or not self._ready:
            self._measure = None
            if measure.digest() != self._entry.digest:
                self._ready = b""
                raise StoreUnavailable("another program has changed a message while it was read")

    def _next_piece(self) -> None:
        start = self._offset + self._entry.from_octets + self._at
        self._ready = self._pread(start, min(PIECE_OCTETS, self._entry.length - self._at))
        if signature(os.fstat(self._open_file())) != self._signature:    # looked at after reading
            self._head()

    def _pread(self, offset: int, octets: int) -> bytes:
        return read_all(self._open_file(), offset, octets)

    def _open_file(self) -> int:
        if self._file is None:
            raise StoreUnavailable("the reader is closed")
        return self._file
