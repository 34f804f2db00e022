"""System calls that an mbox is read and changed by: plain files only, and no link followed.

What changes something goes through a `Disk`, so that tests can let a process die after any of its steps.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from mailgate.errors import StoreUnavailable
from mailgate.stores.spools.places import Directory

PIECE_OCTETS = 1 << 20
MOST_OCTETS = 1 << 36       # a longer file is no mailbox: it may be a hole that would be read for years
_PLAIN = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK      # to open a pipe waits for its other end
_NO_ATIME = getattr(os, "O_NOATIME", 0)


class Spot(NamedTuple):
    """A name in an open folder: it means the same one, whatever becomes of the path that led there."""

    folder: Directory
    name: str

    def __str__(self) -> str:
        return str(self.folder.path / self.name)

    def beside(self, name: str) -> Spot:
        """Return another name in the same folder."""
        return Spot(self.folder, name)

    def status(self) -> os.stat_result | None:
        """Return what is known of what has the name, of a link itself; None if nothing has it."""
        return self.folder.status(self.name)


class Disk:
    """The calls that change something."""

    def create(self, spot: Spot, mode: int) -> int:
        """Make a file, open for reading and writing. Raises: OSError, FileExistsError among them."""
        return os.open(spot.name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _PLAIN, mode,
                       dir_fd=spot.folder.descriptor)

    def write(self, file: int, data: bytes, offset: int) -> None:
        """Write all of it."""
        rest = memoryview(data)
        while rest:
            count = os.pwrite(file, rest, offset)
            rest, offset = rest[count:], offset + count

    def truncate(self, file: int, octets: int) -> None:
        """Cut a file off."""
        os.ftruncate(file, octets)

    def sync(self, file: int) -> None:
        """Make durable what was written to a file."""
        os.fsync(file)

    def sync_folder(self, spot: Spot) -> None:
        """Make durable which names are in a name's folder."""
        spot.folder.sync()

    def rename(self, spot: Spot, new: Spot) -> None:
        """Give a file another name in its folder, in place of a file that may have it."""
        os.rename(spot.name, new.name, src_dir_fd=spot.folder.descriptor, dst_dir_fd=new.folder.descriptor)

    def link(self, spot: Spot, new: Spot) -> None:
        """Give a file one more name. Raises: OSError, FileExistsError among them."""
        os.link(spot.name, new.name, src_dir_fd=spot.folder.descriptor, dst_dir_fd=new.folder.descriptor,
                follow_symlinks=False)

    def unlink(self, spot: Spot) -> None:
        """Remove a name."""
        os.unlink(spot.name, dir_fd=spot.folder.descriptor)


class Signature(NamedTuple):
    """By what it shows that a file was not touched."""

    device: int
    inode: int
    octets: int
    modified_ns: int
    changed_ns: int


def signature(status: os.stat_result) -> Signature:
    """Return the signature of a file."""
    return Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def open_plain(spot: Spot, *, write: bool = False) -> int | None:
    """Open a file that is there; None if none is. Raises: StoreUnavailable, OSError.

    One that has more names than one is refused as a link is: what is written to it would show elsewhere.
    """
    status = spot.status()
    if status is None:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise StoreUnavailable(f"{spot} is no plain file; links are not followed")
    file = _open(spot, (os.O_RDWR if write else os.O_RDONLY) | _PLAIN)
    if file is None:
        return None
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(file)
        raise StoreUnavailable(f"{spot} is no plain file of one name; links are not followed")
    if status.st_size > MOST_OCTETS:
        os.close(file)
        raise StoreUnavailable(f"{spot} has {status.st_size} octets")
    return file


def _open(spot: Spot, how: int) -> int | None:
    """Open a file, without a trace in its time of access where we may."""
    for flags in (how | _NO_ATIME, how):
        try:
            return os.open(spot.name, flags, dir_fd=spot.folder.descriptor)
        except FileNotFoundError:
            return None
        except OSError as fault:
            if fault.errno in (errno.ELOOP, errno.ENXIO):
                raise StoreUnavailable(f"{spot} is no plain file; links are not followed") from fault
            if fault.errno != errno.EPERM or flags == how:      # O_NOATIME is its owner's right
                raise
    raise AssertionError("one of the two returns or raises")


def is_at(file: int, spot: Spot) -> bool:
    """Return whether an open file still has its name."""
    status = spot.status()
    return status is not None and os.path.samestat(os.fstat(file), status)


def read_all(file: int, offset: int, octets: int) -> bytes:
    """Return so many octets, fewer only at the file's end."""
    data = os.pread(file, octets, offset)
    while len(data) < octets and (more := os.pread(file, octets - len(data), offset + len(data))):
        data += more
    return data


def keep_news(file: int, before: os.stat_result, *, news: bool | None = None) -> None:
    """Set the time of access so that new mail stays new: shells and biff compare it with that of the change.

    Only a file's owner may; elsewhere mail that was read already may show as new once more.
    """
    after = os.fstat(file)
    if news is None:
        news = before.st_atime_ns < before.st_mtime_ns
    accessed = min(before.st_atime_ns, after.st_mtime_ns - 1) if news else after.st_mtime_ns
    try:
        os.utime(file, ns=(accessed, after.st_mtime_ns))
    except PermissionError:
        return
