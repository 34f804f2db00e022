"""Locks on an mbox, as Debian's policy asks of mail programs (section 11.6): fcntl first, then NAME.lock.

None is waited for while the other is held: who gets only one gives it up and begins anew after a while of
random length, so that programs which take them the other way round block nobody for good.

The fcntl lock is one of an open file description (F_OFD_SETLK): other programs' fcntl locks exclude it as
usual, and so do our own threads'; and it is not lost as soon as another thread closes the same file.

NAME.lock is made by link(2), which is atomic over NFS too, and taken for stale after five minutes without a
touch, as liblockfile does it. Programs that look for a process number in it find 0: on another machine ours
would tell them nothing. What stands behind that tells us, on the same machine, that its holder is dead.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import secrets
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TypeVar

from mailgate.errors import StoreUnavailable
from mailgate.stores.files import os_fault
from mailgate.stores.spools.mbox_files import Disk, Spot, is_at, open_plain
from mailgate.stores.spools.places import Directory, Places

STALE_SECONDS = 300         # without a touch; liblockfile's measure
TOUCH_SECONDS = 30          # between two touches of a lock that is held for long
PATIENCE_SECONDS = 10.0     # how long others are waited for
FIRST_WAIT_SECONDS = 0.01
LONGEST_WAIT_SECONDS = 0.5
MODE = 0o644                # of NAME.lock; of what value it is to others, its presence says

_SETLK = getattr(fcntl, "F_OFD_SETLK", 37 if sys.platform == "linux" else None)
_FLOCK = struct.Struct("@hhqqi4x")      # struct flock where offsets have 64 bits
_BUSY = (errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_SIGN = b"0 mailgate "
_SIGN_OCTETS = 300


T = TypeVar("T")


class _Busy(Exception):
    """Another program has a lock."""


class SpoolLocks:
    """The locks of one mbox. Calls block for some seconds at most."""

    def __init__(self, spot: Spot, disk: Disk, *, patience_seconds: float = PATIENCE_SECONDS,
                 sleep: Callable[[float], None] = time.sleep,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        self._spot = spot
        self._disk = disk
        self._patience_seconds = patience_seconds
        self._sleep = sleep
        self._monotonic = monotonic

    @contextmanager
    def shared(self) -> Iterator[int | None]:
        """Open the file for reading while no other program writes; None if there is none.

        Raises: StoreUnavailable.
        """
        file = self._insist(self._try_shared)
        try:
            yield file
        finally:
            if file is not None:
                os.close(file)

    @contextmanager
    def exclusive(self, make: Callable[[], int] | None = None) -> Iterator[tuple[int, DotLock] | None]:
        """Hold both locks; None if there is no file, unless `make` makes one and returns it, open.

        Raises: StoreUnavailable.
        """
        held = self._insist(lambda: self._try_exclusive(make))
        try:
            yield held
        finally:
            if held is not None:
                _let_go(*held)

    def is_stale(self) -> bool:
        """Return whether there is a NAME.lock that nobody holds. The next one who takes it removes it."""
        spot = self._spot.beside(f"{self._spot.name}.lock")
        return spot.status() is not None and not is_live(spot, time.time())

    def _insist(self, attempt: Callable[[], T]) -> T:
        """Try again until it succeeds or patience ends. Raises: StoreUnavailable."""
        deadline = self._monotonic() + self._patience_seconds
        longest = FIRST_WAIT_SECONDS
        while True:
            try:
                return attempt()
            except _Busy:
                if self._monotonic() >= deadline:
                    raise StoreUnavailable(f"{self._spot} is locked by another program") from None
            except OSError as fault:
                raise os_fault(fault) from fault
            self._sleep(random.uniform(longest / 2, longest))
            longest = min(longest * 1.5, LONGEST_WAIT_SECONDS)

    def _try_shared(self) -> int | None:
        file = open_plain(self._spot)
        if file is not None:
            try:
                self._lock(file, fcntl.F_RDLCK)
                if is_live(self._spot.beside(f"{self._spot.name}.lock"), time.time()):
                    raise _Busy     # of a program that locks by this alone
            except BaseException:
                os.close(file)
                raise
        return file

    def _try_exclusive(self, make: Callable[[], int] | None) -> tuple[int, DotLock] | None:
        file = open_plain(self._spot, write=True)
        dot_lock = DotLock(self._spot, self._disk, self._monotonic)
        if file is None and make is None:
            return None
        try:
            if file is not None:
                self._lock(file, fcntl.F_WRLCK)
            dot_lock.take()
            if file is None and make is not None:
                try:
                    file = make()
                except FileExistsError:
                    raise _Busy from None
                self._lock(file, fcntl.F_WRLCK)
            assert file is not None
            self._still_there(file)
        except BaseException:
            _let_go(file, dot_lock)
            raise
        return file, dot_lock

    def _lock(self, file: int, kind: int) -> None:
        """Lock all of a file. Raises: _Busy, StoreUnavailable."""
        if _SETLK is None:
            raise StoreUnavailable("this system has no fcntl locks of open files, without which threads would"
                                   " take each other's mail apart")
        try:
            fcntl.fcntl(file, _SETLK, _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0))
        except OSError as fault:
            if fault.errno in _BUSY:
                raise _Busy from fault
            if fault.errno in _NO_LOCKS:
                raise StoreUnavailable(
                    f"{self._spot} cannot be locked by fcntl: {fault.strerror}") from fault
            raise
        self._still_there(file)

    def _still_there(self, file: int) -> None:
        """Raise _Busy if the file was renamed or removed before it was locked."""
        if not is_at(file, self._spot):
            raise _Busy


def _let_go(file: int | None, dot_lock: DotLock) -> None:
    try:
        dot_lock.drop()
    finally:
        if file is not None:
            os.close(file)


class DotLock:
    """The lock that is a file: NAME.lock beside NAME."""

    def __init__(self, spot: Spot, disk: Disk, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._spot = spot.beside(f"{spot.name}.lock")
        self._disk = disk
        self._monotonic = monotonic
        self._taken: tuple[int, int] | None = None      # device and inode of ours
        self._touched = 0.0

    def take(self) -> None:
        """Take it, or raise _Busy. Raises: OSError; StoreUnavailable, where none can be made."""
        draft = self._spot.beside(f".lk{os.getpid()}{secrets.token_hex(6)}.{socket.gethostname()[:40]}")
        try:
            file = self._disk.create(draft, MODE)
        except OSError as fault:
            raise StoreUnavailable(f"{self._spot} cannot be made, without which no program may change the"
                                   f" mailbox: {fault.strerror}") from fault
        try:
            self._disk.write(file, _sign(), 0)
            made = os.fstat(file)
            now = made.st_mtime         # the file system's own clock
            with suppress(FileExistsError):
                self._disk.link(draft, self._spot)      # what it answers over NFS is not to be trusted
            if not is_at(file, self._spot):
                if is_live(self._spot, now):
                    raise _Busy
                self._remove_stale(now)
                raise _Busy     # and once more
        finally:
            os.close(file)
            self._disk.unlink(draft)
        self._taken = made.st_dev, made.st_ino
        self._touched = self._monotonic()

    def _remove_stale(self, now: float) -> None:
        """Remove a lock that nobody holds. Who holds the fcntl lock as well does that: one at a time."""
        before = self._spot.status()
        if before is None or is_live(self._spot, now):
            return
        after = self._spot.status()
        if after is not None and os.path.samestat(before, after):
            self._disk.unlink(self._spot)

    def touch(self) -> None:
        """Show that it is still held, if some time has gone by."""
        if self._monotonic() - self._touched > TOUCH_SECONDS and self._is_ours():
            os.utime(self._spot.name, dir_fd=self._spot.folder.descriptor, follow_symlinks=False)
            self._touched = self._monotonic()

    def drop(self) -> None:
        """Give it up, if we have it."""
        if self._taken is not None and self._is_ours():
            self._disk.unlink(self._spot)
        self._taken = None

    def _is_ours(self) -> bool:
        """Return whether nobody has taken it from us because we slept for too long."""
        status = self._spot.status()
        return status is not None and (status.st_dev, status.st_ino) == self._taken


def is_live(spot: Spot, now: float) -> bool:
    """Return whether there is a NAME.lock that somebody holds; `now` is the file system's time in seconds."""
    status = spot.status()
    if status is None or now >= status.st_mtime + STALE_SECONDS:
        return False
    return not stat.S_ISREG(status.st_mode) or not _is_of_the_dead(_read_sign(spot))


def _read_sign(spot: Spot) -> bytes:
    try:
        file = os.open(spot.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                       dir_fd=spot.folder.descriptor)
    except (PermissionError, FileNotFoundError):
        return b""      # not ours, or just given up
    try:
        return os.pread(file, _SIGN_OCTETS, 0)
    finally:
        os.close(file)


def _sign() -> bytes:
    """Return what stands in our locks: which process of which machine holds it."""
    place, pid = _place(), os.getpid()
    return b"%b%b %d %b\n" % (_SIGN, place, pid, _birth(pid)) if place else b"0\n"


def _is_of_the_dead(sign: bytes) -> bool:
    """Return whether it is a lock of ours, of this machine in its present run, whose holder is gone."""
    place = _place()
    words = sign.split()
    if not place or not sign.startswith(_SIGN) or len(words) != 5 or words[2] != place:
        return False
    return not words[3].isdigit() or _birth(int(words[3])) != words[4]


@lru_cache(maxsize=1)
def _place() -> bytes:
    """Return the machine's present run and the process numbers' realm in it; empty where that is not told."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().strip() + os.readlink("/proc/self/ns/pid").encode()
    except OSError:
        return b""


def _birth(pid: int) -> bytes:
    """Return when a process began, in ticks since the machine did; `none` if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return b"none"


class Lockable:
    """Knows in which folders mailboxes can be locked. One for a store: what worked is not tried again."""

    def __init__(self) -> None:
        self._folders: set[tuple[int, int]] = set()     # device and inode of those where it worked

    def check(self, folder: Directory) -> None:
        """Try it with a mailbox of our own. Raises: StoreUnavailable, in words for an operator."""
        status = os.fstat(folder.descriptor)
        key = status.st_dev, status.st_ino
        if key in self._folders:
            return
        spot = Spot(folder, f".mailgate-{secrets.token_hex(8)}")
        disk = Disk()
        try:
            with SpoolLocks(spot, disk, patience_seconds=0).exclusive(lambda: disk.create(spot, 0o600)):
                self._folders.add(key)
        except StoreUnavailable as fault:
            raise StoreUnavailable(f"{folder.path}: mailboxes cannot be locked here: {fault}") from fault
        finally:
            with suppress(FileNotFoundError):
                disk.unlink(spot)

    def findings(self, places: Places) -> list[str]:
        """Return why mailboxes cannot be locked, where they all lie in one folder; one line a finding."""
        place = places.of("postmaster")
        if str(place) != os.path.join(places.root, place.name):
            return []       # each has a folder of his own: that is for each one's login to find out
        try:
            self.check(place.parent())
        except StoreUnavailable as fault:
            return [str(fault)]
        except OSError as fault:
            return [f"{places.root}: {fault.strerror}"]
        return []
