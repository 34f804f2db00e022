"""The files of one Maildir, while it is open: found by base name, wherever other programs have put them."""

from __future__ import annotations

import os
import secrets
import socket
import stat
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from twisted.logger import Logger

from mailgate.errors import NoSuchMessage
from mailgate.formats.entries import NotPlain
from mailgate.formats.maildir import base_of, with_flags
from mailgate.stores.spools.places import Directory, Place

FOLDER_MODE = 0o700
FOLDER_MARK = "maildirfolder"   # of Maildir++: the folder is one of the Maildir that it lies in
QUOTA_FILE = "maildirsize"      # of Maildir++: octets and messages, a line a change

_ENCODING = sys.getfilesystemencoding()

log = Logger()


class Identity(NamedTuple):
    """What tells a file from another one of the same base name."""

    inode: int
    octets: int


class Box:
    """An open Maildir: its folders `new` and `cur`."""

    def __init__(self, root: Directory, new: Directory, cur: Directory) -> None:
        self.root = root
        self.new = new
        self.cur = cur

    @classmethod
    def open(cls, place: Place) -> Box | None:
        """Open a Maildir; None if there is none. Raises: StoreUnavailable, OSError."""
        root = place.open()
        return None if root is None else cls.at(root)

    @classmethod
    def at(cls, root: Directory) -> Box | None:
        """Open the Maildir that a folder is; None if it is none yet. Raises: OSError."""
        try:
            new = root.inner("new")
        except FileNotFoundError:
            return None
        root.make("cur", FOLDER_MODE)
        return cls(root, new, root.inner("cur"))

    @classmethod
    def make(cls, root: Directory, *, is_folder: bool = False) -> Box:
        """Open the Maildir that a folder is to be, and make what is missing of it."""
        for name in ("tmp", "cur", "new"):      # it is one as soon as there is `new`
            root.make(name, FOLDER_MODE)
        if is_folder:
            with suppress(FileExistsError):
                os.close(root.create(FOLDER_MARK, 0o600))
        box = cls.at(root)
        assert box is not None
        return box

    # Finding ----------------------------------------------------------------------------------

    def take_stock(self) -> dict[bytes, bytes]:
        """Move what is new to `cur`; return the file of every base name there is.

        `new` is listed first: what another program moves meanwhile is then seen twice, not overlooked.
        """
        fresh = _names(self.new)
        found = self._in_cur()
        overlooked = [name for name in fresh if not self._bring_in(name, found)]
        if overlooked:      # moved by somebody else, after `cur` was listed
            found = {**self._in_cur(), **found}
        return found

    def _in_cur(self) -> dict[bytes, bytes]:
        names = _names(self.cur)
        found = {name.partition(b":")[0]: name for name in names}
        if len(found) == len(names):
            return found
        found = {}
        for name in sorted(names):      # some base occurs twice; who else looks now decides as we do
            base = base_of(name)
            if base in found and not self._settle(base, name, found):
                continue
            found[base] = name
        return found

    def _settle(self, base: bytes, name: bytes, found: dict[bytes, bytes]) -> bool:
        """Tell what two names of one base in `cur` mean; return whether the second is the base's file."""
        first, second = self.status(found[base]), self.status(name)
        if first is None or second is None:     # renamed while the folder was listed
            return second is not None
        if first.st_ino == second.st_ino:       # two links: somebody died between making and removing one
            _unlink(self.cur, name)
            return False
        other = unique_name() + b":2,"          # two messages: no base may be another's
        with suppress(FileNotFoundError):       # somebody else has done it
            os.rename(name, other, src_dir_fd=self.cur.descriptor, dst_dir_fd=self.cur.descriptor)
            found[base_of(other)] = other
        return False

    def _bring_in(self, name: bytes, found: dict[bytes, bytes]) -> bool:
        """Move a file from `new` to `cur`, flags kept if it has any; return False if it has gone.

        Where it cannot be moved it stays, and is known by its path from `cur`.
        """
        status = _status(self.new, name)
        if status is None:
            return base_of(name) in found
        if not stat.S_ISREG(status.st_mode):
            return True
        base = base_of(name)
        if base in found:
            other = self.status(found[base])
            if other is not None and other.st_ino == status.st_ino:
                _unlink(self.new, name)
                return True
            base = unique_name()
        target = name if b":2," in name and base == base_of(name) else base + b":2,"
        try:
            os.rename(name, target, src_dir_fd=self.new.descriptor, dst_dir_fd=self.cur.descriptor)
        except FileNotFoundError:
            return False
        except OSError as fault:
            log.debug("{path} stays in new: {reason}", path=str(self.root.path), reason=fault)
            found[base_of(name)] = IN_NEW + name
            return True
        found[base] = target
        return True

    def find(self, bases: Collection[bytes]) -> dict[bytes, list[bytes]]:
        """Return where files with some base names lie now: paths from `cur`."""
        found: dict[bytes, list[bytes]] = {}
        for prefix, folder in ((IN_NEW, self.new), (b"", self.cur)):
            for name in _names(folder):
                if (base := base_of(name)) in bases:
                    found.setdefault(base, []).append(prefix + name)
        return found

    def status(self, path: bytes) -> os.stat_result | None:
        """Return what is known of a file by its path from `cur`; None if it has gone."""
        return _status(*self._folder_of(path))

    def open_file(self, base: bytes, path: bytes | None) -> int:
        """Open the file of a base name, wherever it lies now. Raises: NoSuchMessage, OSError."""
        try:
            if path is not None:
                try:
                    return self._plain(path)
                except FileNotFoundError:
                    pass
            for _ in range(3):      # it may be on its way just now
                for moved in self.find({base}).get(base, ()):
                    try:
                        return self._plain(moved)
                    except FileNotFoundError:
                        pass
        except NotPlain:
            pass
        raise NoSuchMessage(f"{base!r} is not there any more")

    def _plain(self, path: bytes) -> int:
        folder, name = self._folder_of(path)
        return folder.plain_file(os.fsdecode(name))

    def _folder_of(self, path: bytes) -> tuple[Directory, bytes]:
        if path.startswith(IN_NEW):
            return self.new, path.removeprefix(IN_NEW)
        return self.cur, path

    # Marking and moving -----------------------------------------------------------------------

    def flag(self, path: bytes, flags: str) -> bool:
        """Give a file these flags in place of those it has; return False if it has gone."""
        folder, name = self._folder_of(path)
        try:
            os.rename(name, with_flags(name, flags), src_dir_fd=folder.descriptor,
                      dst_dir_fd=self.cur.descriptor)
        except FileNotFoundError:
            return False
        return True

    def give(self, path: bytes, other: Box, taken: Collection[bytes]) -> bytes | None:
        """Move a file to another Maildir; return its base name there, None if the file has gone."""
        folder, name = self._folder_of(path)
        target = name if b":2," in name else base_of(name) + b":2,"
        if base_of(target) in taken:
            target = unique_name() + b":2," + target.partition(b":2,")[2]
        try:
            os.rename(name, target, src_dir_fd=folder.descriptor, dst_dir_fd=other.cur.descriptor)
        except FileNotFoundError:
            return None
        return base_of(target)

    # Removing ---------------------------------------------------------------------------------

    def remove(self, wanted: Mapping[bytes, Identity], files: Mapping[bytes, bytes]) -> None:
        """Remove the files of base names, wherever they are; those that have gone already are fine.

        `files` is where they may be found at once. A file of the same name that is another one stays.
        """
        left = dict(wanted)
        gone: list[Identity] = []
        self._remove_at(((base, [files[base]]) for base in wanted if base in files), left, gone)
        unseen = 0
        while left and unseen < 2:      # a name that changes while it is listed may be overlooked once
            found = self.find(left.keys())
            before = len(left)
            self._remove_at(found.items(), left, gone)
            for base in found.keys() & left.keys():
                if any(self.status(path) is not None for path in found[base]):
                    del left[base]      # not the one that was meant
            unseen = unseen + 1 if len(left) == before else 0
        self.new.sync()
        self.cur.sync()
        self.count(-sum(one.octets for one in gone), -len(gone))

    def _remove_at(self, found: Iterable[tuple[bytes, list[bytes]]], left: dict[bytes, Identity],
                   gone: list[Identity]) -> None:
        for base, paths in found:
            for path in paths:
                status = self.status(path)
                if status is None or not _is_meant(status, left[base], alone=len(paths) == 1):
                    continue
                folder, name = self._folder_of(path)
                try:
                    os.unlink(name, dir_fd=folder.descriptor)
                except FileNotFoundError:
                    continue
                gone.append(left.pop(base))
                break

    def count(self, octets: int, messages: int) -> None:
        """Tell a Maildir++ quota of what has changed, where one is kept."""
        if not messages:
            return
        try:
            self._count(b"%d %d\n" % (octets, messages))
        except FileNotFoundError:
            return
        except OSError as fault:    # the mail itself has come or gone all the same
            log.warn("{path}: the quota is not kept: {reason}", path=str(self.root.path), reason=fault)

    def _count(self, line: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        file = os.open(QUOTA_FILE, flags, dir_fd=self.root.descriptor)
        try:
            status = os.fstat(file)
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:   # else it is something else, too
                os.write(file, line)
        finally:
            os.close(file)


IN_NEW = b"../new/"     # before the name of a file that is not in `cur`; no name has a slash


def _is_meant(status: os.stat_result, meant: Identity, *, alone: bool) -> bool:
    """Return whether a file is the one that was looked at.

    Files that were brought back from a backup have other inodes: the only one of its name and as long is it.
    """
    return status.st_size == meant.octets and (alone or status.st_ino == meant.inode)


def _names(folder: Directory) -> list[bytes]:
    """Return the names in a folder that may be messages'."""
    return [name.encode(_ENCODING, "surrogateescape") for name in os.listdir(folder.descriptor)
            if name[0] != "."]


def _status(folder: Directory, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _unlink(folder: Directory, name: bytes) -> None:
    with suppress(FileNotFoundError):       # somebody else was faster
        os.unlink(name, dir_fd=folder.descriptor)


_last_us = 0


def unique_name() -> bytes:
    """Return the base name for a new file: no other program and no other process makes the same one.

    Of one process those that are made later sort later: time in microseconds, process, chance, host.
    """
    global _last_us     # two threads that read the same time still differ by chance
    _last_us = now_us = max(time.time_ns() // 1000, _last_us + 1)
    host = socket.gethostname().replace("/", "\\057").replace(":", "\\072").replace(",", "\\054")
    seconds, us = divmod(now_us, 1_000_000)
    return (f"{seconds}.M{us:06}P{os.getpid()}R{secrets.token_hex(6)}".encode()
            + b"." + host.encode("ascii", "replace")[:20])
