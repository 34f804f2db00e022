"""Rewriting the end of an mbox in place, so that it can be finished whenever a process died in it.

Beside the mbox NAME lies then a file `.NAME.mailgate` with all that is to follow the last octet that stays
where it is. Once that is on disk, the end of the mbox need not be read again: it may be overwritten.

    P   the file is whole. Nothing of the mbox was overwritten, but for what the mark may have been
    A   the mark is on disk, in the part of the mbox that is going to be cut off
    D   done

The mark (random octets) is what tells whether the cut was made: it goes away with it, and mail that others
append afterwards, be it the same that was cut off, has none. Without it the length says nothing: MTAs append
whenever no lock is held, also between the crash and the repair. What they appended before the cut is carried
over. A program that rewrote the mbox meanwhile is found out by octets that ought to be the same; then what
had to stay and is not there any more is added at the end, and nothing is cut off.

A file in state D stays for a while: who comes late with the same journal learns that it was carried out.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from mailgate.errors import StoreUnavailable
from mailgate.formats.mbox import FROM_OCTETS, NoMbox, is_from_line, read_messages
from mailgate.stores.spools.mbox_files import PIECE_OCTETS, Disk, Spot, keep_news, open_plain, read_all

MODE = 0o600
ID_OCTETS = 16
MOST_DONE = 16              # journals that are remembered as done
KEPT_SECONDS = 3600.0       # how long, after the last of them
BEFORE_OCTETS = 4096        # of what stays that is compared
MARK_OCTETS = 64

_MAGIC = b"mailgate-mbox-1\n"
_HEAD = struct.Struct(f"<16sc16sQQQ16s16s16s16sB{MARK_OCTETS}s{MOST_DONE * ID_OCTETS}s16s")
_STAGE_AT = len(_MAGIC)
_TAIL_AT = 4096             # where in the file the mbox's new end begins
_PREPARED, _ARMED, _DONE = b"P", b"A", b"D"
_JUNK = b"From MAILER-DAEMON Thu Jan  1 00:00:00 1970\n"    # so that what is to go is no other message's

Range = tuple[int, int]     # two offsets


class Redo(NamedTuple):
    """The file's beginning. Offsets are those of the mbox."""

    stage: bytes
    journal_id: bytes
    begin: int              # from here on the mbox is rewritten
    old_end: int
    new_end: int
    tail_digest: bytes      # of what it is rewritten with
    before_digest: bytes    # of what lies before, BEFORE_OCTETS at most
    old_digest: bytes       # of what is overwritten
    junk_digest: bytes      # of what lies between mark and old end
    mark: bytes             # at the new end
    done: tuple[bytes, ...]     # journals carried out before

    def pack(self) -> bytes:
        """Return the octets of it."""
        done = b"".join(self.done[-MOST_DONE:])
        fields = (_MAGIC, self.stage, self.journal_id, self.begin, self.old_end, self.new_end,
                  self.tail_digest, self.before_digest, self.old_digest, self.junk_digest, len(self.mark),
                  self.mark, done)
        return _HEAD.pack(*fields, _seal(_HEAD.pack(*fields, b"")))


def _seal(head: bytes) -> bytes:
    """Return a digest of all but the stage, which changes in place, and of the digest's own place."""
    return _digest(head[:_STAGE_AT] + head[_STAGE_AT + 1:-16])


def _digest(octets: bytes) -> bytes:
    return hashlib.blake2b(octets, digest_size=16).digest()


def redo_spot(spot: Spot) -> Spot:
    """Return where an mbox's file lies."""
    name = spot.name
    if len(os.fsencode(name)) > 200:
        name = hashlib.blake2b(os.fsencode(name), digest_size=20).hexdigest()
    return spot.beside(f".{name}.mailgate")


class Rewriter:
    """Rewrites one mbox. All calls but `pending` want both of its locks held."""

    def __init__(self, spot: Spot, disk: Disk) -> None:
        self._spot = redo_spot(spot)
        self._draft = self._spot.beside(f"{self._spot.name}.new")
        self._disk = disk

    def pending(self) -> bool:
        """Return whether there is something to settle: a rewriting that was not finished, or an old file."""
        if self._draft.status() is not None:
            return True
        redo = self._read()
        return redo is not None and (redo.stage != _DONE or self._is_old())

    def settle(self, file: int, touch: Callable[[], None]) -> None:
        """Finish what was not finished, and remove what nobody needs. Raises: StoreUnavailable."""
        self._remove_draft()
        redo = self._read()
        if redo is not None and redo.stage == _DONE:
            if self._is_old():
                self._disk.unlink(self._spot)
        elif redo is not None:
            self._finish(redo, file, touch)

    def _is_old(self) -> bool:
        status = self._spot.status()
        return status is not None and time.time() > status.st_mtime + KEPT_SECONDS

    def is_done(self, journal_id: bytes) -> bool:
        """Return whether a journal was carried out already; finishes nothing."""
        redo = self._read()
        return redo is not None and journal_id in (*redo.done, redo.journal_id)

    def cut_out(self, file: int, journal_id: bytes, ranges: Sequence[Range],
                touch: Callable[[], None]) -> None:
        """Remove ranges of the mbox that are in order and apart. Raises: StoreUnavailable, OSError."""
        octets = os.fstat(file).st_size
        begin = ranges[0][0]
        removed = sum(end - start for start, end in ranges)
        kept = [(end, following) for (_, end), (following, _) in
                zip(ranges, [*ranges[1:], (octets, octets)], strict=True)]
        self._begin(file, journal_id, begin, octets - removed, _pieces(file, kept), touch)

    # What a rewriting consists of -------------------------------------------------------------

    def _begin(self, file: int, journal_id: bytes, begin: int, new_end: int, tail: Iterator[bytes],
               touch: Callable[[], None]) -> None:
        """Write the file that all is finished by, whatever comes, and finish it."""
        status = os.fstat(file)
        self._remove_draft()
        fresh = self._disk.create(self._draft, MODE)
        try:
            redo = self._write(fresh, file, journal_id, begin, new_end, tail, touch)
            self._disk.rename(self._draft, self._spot)
            self._disk.sync_folder(self._spot)
            self._apply(redo, fresh, file, touch)
        except OSError:
            self._remove_draft()
            raise
        finally:
            os.close(fresh)
        keep_news(file, status)

    def _write(self, fresh: int, file: int, journal_id: bytes, begin: int, new_end: int,
               tail: Iterator[bytes], touch: Callable[[], None]) -> Redo:
        """Write the file under the name of a draft, durably."""
        before = self._read()
        done = () if before is None else (*before.done, before.journal_id)
        octets = os.fstat(file).st_size
        digest = hashlib.blake2b(digest_size=16)
        at = _TAIL_AT
        for piece in tail:
            self._disk.write(fresh, piece, at)
            digest.update(piece)
            at += len(piece)
            touch()
        mark = _mark(octets - new_end)
        redo = Redo(_PREPARED, journal_id, begin, octets, new_end, digest.digest(), _before(file, begin),
                    _digest_of(file, begin, new_end), _digest_of(file, new_end + len(mark), octets), mark,
                    tuple(one for one in done if one != journal_id)[-MOST_DONE:])
        self._disk.write(fresh, redo.pack(), 0)
        self._disk.sync(fresh)
        return redo

    def _remove_draft(self) -> None:
        if self._draft.status() is not None:
            self._disk.unlink(self._draft)      # of a process that died, or had no room for more

    def _apply(self, redo: Redo, redo_file: int, file: int, touch: Callable[[], None]) -> None:
        """Rewrite the mbox, whatever of that was done before."""
        if redo.stage == _PREPARED:
            self._disk.write(file, redo.mark, redo.new_end)
            self._disk.sync(file)
            self._set_stage(redo_file, _ARMED)
        at = redo.begin
        for piece in _pieces(redo_file, [(_TAIL_AT, _TAIL_AT + redo.new_end - redo.begin)]):
            self._disk.write(file, piece, at)
            at += len(piece)
            touch()
        if at != redo.begin:
            self._disk.sync(file)
        self._disk.truncate(file, redo.new_end)
        self._disk.sync(file)
        self._close(redo_file)

    def _close(self, redo_file: int) -> None:
        self._set_stage(redo_file, _DONE)
        self._disk.truncate(redo_file, _HEAD.size)

    def _set_stage(self, redo_file: int, stage: bytes) -> None:
        self._disk.write(redo_file, stage, _STAGE_AT)
        self._disk.sync(redo_file)

    # What is done of one that somebody died in ------------------------------------------------

    def _finish(self, redo: Redo, file: int, touch: Callable[[], None]) -> None:
        redo_file = open_plain(self._spot, write=True)
        assert redo_file is not None, "the locks are held"
        try:
            octets = os.fstat(file).st_size
            if _is_uncut(redo, file, octets):
                if octets == redo.old_end:
                    status = os.fstat(file)
                    self._apply(redo, redo_file, file, touch)
                    keep_news(file, status)
                else:       # others have appended to it
                    ends = [_pieces(redo_file, [(_TAIL_AT, _TAIL_AT + redo.new_end - redo.begin)]),
                            _pieces(file, [(redo.old_end, octets)])]
                    self._begin(file, redo.journal_id, redo.begin, redo.new_end + octets - redo.old_end,
                                (piece for end in ends for piece in end), touch)
            elif _is_cut(redo, file):
                self._close(redo_file)
            else:
                self._salvage(redo, redo_file, file, touch)
        finally:
            os.close(redo_file)

    def _salvage(self, redo: Redo, redo_file: int, file: int, touch: Callable[[], None]) -> None:
        """Add what had to stay and is not in the mbox any more: another program has rewritten it."""
        octets = os.fstat(file).st_size
        try:
            present = Counter(found.digest for found in read_messages(_reading(file), 0, octets))
        except NoMbox:
            present = Counter()
        ends = os.pread(file, 2, max(octets - 2, 0))
        at = octets
        if octets and ends != b"\n\n":
            self._disk.write(file, b"\n" if ends.endswith(b"\n") else b"\n\n", at)
            at = os.fstat(file).st_size
        for found in read_messages(_reading(redo_file), _TAIL_AT, _TAIL_AT + redo.new_end - redo.begin):
            if present[found.digest] > 0:
                present[found.digest] -= 1
                continue
            for piece in _pieces(redo_file, [(found.offset, found.end)]):
                self._disk.write(file, piece, at)
                at += len(piece)
                touch()
        self._disk.sync(file)
        self._close(redo_file)

    def _read(self) -> Redo | None:
        """Return what is there. Raises: StoreUnavailable, if it is none of ours."""
        file = open_plain(self._spot)
        if file is None:
            return None
        try:
            owner = os.fstat(file).st_uid
            octets = read_all(file, 0, _HEAD.size)
        finally:
            os.close(file)
        if owner not in (0, os.geteuid()):
            raise StoreUnavailable(f"{self._spot} is not ours: it belongs to user number {owner}")
        if len(octets) != _HEAD.size or octets[:len(_MAGIC)] != _MAGIC or octets[-16:] != _seal(octets):
            raise StoreUnavailable(f"{self._spot} is not what was written there")
        _, stage, journal_id, begin, old_end, new_end, tail, before, old, junk, length, mark, done, _ = \
            _HEAD.unpack(octets)
        ids = [done[at:at + ID_OCTETS] for at in range(0, len(done), ID_OCTETS)]
        return Redo(stage, journal_id, begin, old_end, new_end, tail, before, old, junk, mark[:length],
                    tuple(one for one in ids if any(one)))


def _mark(room: int) -> bytes:
    """Return a mark that fits into what is going to be cut off."""
    if room >= MARK_OCTETS:
        return _JUNK + secrets.token_hex(MARK_OCTETS)[:MARK_OCTETS - len(_JUNK) - 1].encode() + b"\n"
    return secrets.token_hex(MARK_OCTETS)[:room].encode()


def _is_uncut(redo: Redo, file: int, octets: int) -> bool:
    """Return whether an mbox is as we left it before the cut, but for what others have appended."""
    if octets < redo.old_end or _before(file, redo.begin) != redo.before_digest:
        return False
    if redo.stage == _ARMED and os.pread(file, len(redo.mark), redo.new_end) != redo.mark:
        return False
    if redo.stage == _PREPARED and _digest_of(file, redo.begin, redo.new_end) != redo.old_digest:
        return False
    if _digest_of(file, redo.new_end + len(redo.mark), redo.old_end) != redo.junk_digest:
        return False
    appended = os.pread(file, FROM_OCTETS, redo.old_end).lstrip(b"\r\n")
    return not appended or is_from_line(appended[:appended.find(b"\n") + 1] or appended)


def _is_cut(redo: Redo, file: int) -> bool:
    """Return whether the cut was made, and nothing but appended to since."""
    return (redo.stage == _ARMED and _before(file, redo.begin) == redo.before_digest
            and _digest_of(file, redo.begin, redo.new_end) == redo.tail_digest)


def _before(file: int, begin: int) -> bytes:
    start = max(begin - BEFORE_OCTETS, 0)
    return _digest_of(file, start, begin)


def _digest_of(file: int, start: int, end: int) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for piece in _pieces(file, [(start, end)]):
        digest.update(piece)
    return digest.digest()


def _reading(file: int) -> Callable[[int, int], bytes]:
    return lambda offset, octets: read_all(file, offset, octets)


def _pieces(file: int, ranges: Sequence[Range]) -> Iterator[bytes]:
    """Give the octets of some ranges of a file, those that are there."""
    for start, end in ranges:
        while start < end and (piece := read_all(file, start, min(PIECE_OCTETS, end - start))):
            yield piece
            start += len(piece)
