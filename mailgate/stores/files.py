"""Bodies as files: one file a blob, in two levels of fan-out folders.

A blob is written beside its final name (`KEY.part`), synced, renamed and its folder synced: a name
without `.part` is always whole and durable. Everything here blocks; call it in threads.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress

from zope.interface import implementer

from mailgate.errors import StoreFull, StoreUnavailable
from mailgate.interfaces import IBlobReader, IBlobStore, IBlobWriter

FOLDER_MODE = 0o700
FILE_MODE = 0o600
HALF_WRITTEN = ".part"
OWNER_FILE = "STORE"        # in the folder itself: the id of the store that the blobs belong to
OWNER_OCTETS = 100          # read of it
NO_WAIT: int | None = getattr(os, "RWF_NOWAIT", None)       # Linux
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})

_KEY = re.compile(r"[0-9A-Za-z]{8,100}")     # no dots or slashes: a key is never a path


def os_fault(error: OSError) -> StoreUnavailable:
    """Return the fault that an operating system's error means."""
    kind = StoreFull if error.errno in NO_SPACE else StoreUnavailable
    return kind(f"{error.strerror}: {error.filename}" if error.filename else str(error))


@implementer(IBlobStore)
class FileBlobStore:
    """Blobs under one folder, made with the first blob. Several processes may share it.

    What a service that the superuser runs makes belongs to the owner of the folder it is made in, so
    that it leaves nothing behind that a service without his rights cannot use. It follows no link that
    lies among the bodies. (A command that he runs gives his rights up first: `cli.rights`.)
    """

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)
        self._synced_folders: set[str] = set()    # their names are on disk for certain
        self._store_id: str | None = None         # whose folder it is to be
        self._marked = False                      # the folder says so

    def owner(self) -> str | None:
        try:
            if (owner := self._read_owner()) is not None or next(self._blobs(), None) is None:
                return owner
            # another process may have begun between the two looks: its mark comes before its bodies
            if (owner := self._read_owner()) is not None:
                return owner
        except OSError as error:
            raise os_fault(error) from error
        raise StoreUnavailable(f"{self.directory} has bodies, and no file {OWNER_FILE} that tells whose")

    def _read_owner(self) -> str | None:
        with (suppress(FileNotFoundError, NotADirectoryError),
              open(self._owner_file, encoding="ascii", errors="replace") as file):
            return file.read(OWNER_OCTETS).strip()
        return None

    def belong_to(self, store_id: str) -> None:
        owner = self.owner()
        if owner not in (None, store_id):
            raise StoreUnavailable(f"{self.directory} has the bodies of another store: of {owner!r},"
                                   f" where the database is {store_id!r}")
        self._store_id = store_id

    def create(self, key: str) -> FileBlobWriter:
        path = self._path(key)
        try:
            self._make_folder(self.directory)
            if self._store_id is not None and not self._marked:
                self._mark(self._store_id)
            self._make_folder(os.path.dirname(path))
            return FileBlobWriter(path, heir(self.directory))
        except OSError as error:
            raise os_fault(error) from error

    def _mark(self, store_id: str) -> None:
        """Leave the store's id in the folder, whole and synced, unless it is there.

        A link is never made over another file: of two that begin at once one finds the other's.
        """
        if self.owner() is None:
            fresh = os.path.join(self.directory, f"{OWNER_FILE}.{secrets.token_hex(8)}")
            writer = FileBlobWriter(fresh, heir(self.directory))
            try:
                writer.write(f"{store_id}\n".encode())
                writer.sync()
                with suppress(FileExistsError):
                    os.link(fresh + HALF_WRITTEN, self._owner_file)
            finally:
                writer.abandon()
        sync_folder(self.directory)     # who wrote it may have died before syncing
        self.belong_to(store_id)
        self._marked = True

    def open(self, key: str) -> FileBlobReader:
        try:
            return FileBlobReader(os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise os_fault(error) from error

    def remove(self, key: str) -> None:
        path = self._path(key)
        for name in (path, path + HALF_WRITTEN):
            try:
                os.unlink(name)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise os_fault(error) from error

    def keys(self) -> list[tuple[str, int]]:
        now = time.time()
        found: dict[str, int] = {}
        try:
            for entry in self._blobs():
                found[entry.name.removesuffix(HALF_WRITTEN)] = max(0, int(now - _modified(entry, now)))
        except OSError as error:
            raise os_fault(error) from error
        return list(found.items())

    def _blobs(self) -> Iterator[os.DirEntry[str]]:
        """Give the file of every blob, half-written ones too."""
        for folder in self._folders(self.directory, levels=2):
            for entry in os.scandir(folder):
                if _KEY.fullmatch(entry.name.removesuffix(HALF_WRITTEN)):
                    yield entry

    def _path(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise StoreUnavailable(f"{key!r} cannot be the key of a blob")
        return os.path.join(self.directory, key[0], key[1], key)

    @property
    def _owner_file(self) -> str:
        return os.path.join(self.directory, OWNER_FILE)

    def _folders(self, folder: str, levels: int) -> list[str]:
        if not os.path.isdir(folder):
            return []
        if levels == 0:
            return [folder]
        return [found for entry in os.scandir(folder) if len(entry.name) == 1 and entry.is_dir()
                for found in self._folders(entry.path, levels - 1)]

    def _make_folder(self, folder: str) -> None:
        """Make a folder and those above it up to the store's, and sync the name of each.

        The sync is done once a process even for a folder that was there: who made it may have
        died before syncing.
        """
        if folder in self._synced_folders:
            return
        parent = os.path.dirname(folder)
        if folder != self.directory:
            self._make_folder(parent)
        try:
            os.mkdir(folder, FOLDER_MODE)
            give_to_heir(folder)
        except FileExistsError:
            if folder != self.directory and heir(parent) and os.path.islink(folder):
                raise NotADirectoryError(errno.ENOTDIR, "a link, and root follows none", folder) from None
        sync_folder(parent)
        self._synced_folders.add(folder)


@implementer(IBlobWriter)
class FileBlobWriter:
    """A blob on its way to disk."""

    def __init__(self, path: str, owner: tuple[int, int] | None) -> None:
        self._path = path
        self._file: int | None = None
        self._file = os.open(
            path + HALF_WRITTEN, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        if owner is not None:
            try:
                os.fchown(self._file, *owner)
            except OSError:
                self.abandon()
                raise

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._open_file(), rest):]
        except OSError as error:
            raise os_fault(error) from error

    def sync(self) -> None:
        """Make durable what was written; the name is not part of that."""
        try:
            os.fsync(self._open_file())
        except OSError as error:
            raise os_fault(error) from error

    def finish(self) -> None:
        self.sync()
        try:
            self._close()
            os.rename(self._path + HALF_WRITTEN, self._path)
            sync_folder(os.path.dirname(self._path))
        except OSError as error:
            raise os_fault(error) from error

    def abandon(self) -> None:
        try:
            self._close()
            os.unlink(self._path + HALF_WRITTEN)
        except FileNotFoundError:
            pass        # finished or swept already
        except OSError as error:
            raise os_fault(error) from error

    def _open_file(self) -> int:
        if self._file is None:
            raise StoreUnavailable("the blob has ended")
        return self._file

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def __del__(self) -> None:
        self._close()       # where a store has stopped, no thread is left to abandon it in


@implementer(IBlobReader)
class FileBlobReader:
    """An open blob. It stays readable when the blob is removed."""

    def __init__(self, file: int) -> None:
        self._file: int | None = file

    def read(self, offset: int, octets: int) -> bytes:
        if self._file is None:
            raise StoreUnavailable("the blob was closed")
        try:
            data = os.pread(self._file, octets, offset)
            while len(data) < octets and (more := os.pread(self._file, octets - len(data),
                                                           offset + len(data))):
                data += more
        except OSError as error:
            raise os_fault(error) from error
        return data

    def read_at_hand(self, offset: int, octets: int) -> bytes | None:
        """Return what lies in the system's cache, without waiting for a disk; None if nothing does.

        An extra of this store: it saves a reader the trip through a thread.
        """
        if self._file is None or NO_WAIT is None:
            return None
        buffer = bytearray(octets)
        try:
            count = os.preadv(self._file, [buffer], offset, NO_WAIT)
        except OSError:
            return None         # nothing at hand, or a file system that cannot tell: read in a thread
        return bytes(memoryview(buffer)[:count]) if count else None

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def __del__(self) -> None:
        self.close()


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def heir(folder: str | int) -> tuple[int, int] | None:
    """Return user and group that a new file in a folder is given to; None where only root could give it."""
    if os.geteuid() != 0:
        return None
    status = os.stat(folder)
    return status.st_uid, status.st_gid


def give_to_heir(path: str) -> None:
    """Give a file or folder that was just made to whom it belongs by its folder (see `heir`)."""
    owner = heir(os.path.dirname(os.path.abspath(path)))
    if owner is not None:
        made = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.fchown(made, *owner)
        finally:
            os.close(made)


def _modified(entry: os.DirEntry[str], now: float) -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return now      # renamed or removed meanwhile: as good as new
