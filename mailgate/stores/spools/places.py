"""Where a maildrop's files lie: a path with its name in it, and how to get there safely.

Who reads everybody's mail must not be led astray by one of them: a link on the way is followed only where
it, and the folder that it lies in, belong to the superuser or to the user that we run as; and so is each
one that it leads over.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from mailgate.errors import StoreUnavailable
from mailgate.formats.entries import Folder, NotPlain
from mailgate.formats.paths import PathPattern
from mailgate.stores.files import heir

MOST_LINKS = 40         # one after the other, as Linux bounds it

_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY


class Places:
    """Where maildrops lie by a pattern; relative paths start from a folder."""

    def __init__(self, pattern: PathPattern, folder: Path, default_domain: str) -> None:
        self._pattern = pattern
        self._domain = default_domain
        self.root = str(folder / pattern.split()[0])    # the folder above all that has a name in it

    def of(self, maildrop: str) -> Place:
        """Return the place of a maildrop. Raises: StoreUnavailable, if its name can be in no path."""
        try:
            return Place(self.root, self._pattern.fill(maildrop, self._domain))
        except ValueError as fault:
            raise StoreUnavailable(f"the maildrop {maildrop!r} can have no files: {fault}") from fault


    def findings(self) -> list[str]:
        """Return what keeps all maildrops from their mail, one line a finding; blocks."""
        if not os.path.isdir(self.root):
            return [f"maildrops: there is no folder {self.root}: its disk may not be mounted"]
        if not os.access(self.root, os.R_OK | os.X_OK):
            return [f"maildrops: {self.root}: no permission to read"]
        return []


class Place:
    """One maildrop's path: `root` is the operator's, what is `below` may be its user's.

    The last `own` parts are made where they are missing; what they lie in has to be there.
    """

    def __init__(self, root: str, below: list[str], own: int = 1) -> None:
        self._root = root
        self._below = below
        self._own = own

    def __str__(self) -> str:
        return os.path.join(self._root, *self._below)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self._below[-1]

    def inner(self, name: str) -> Place:
        """Return the place of a folder in it."""
        return Place(self._root, [*self._below, name], self._own + 1)

    def parent(self) -> Directory:
        """Open the folder that it lies in. Raises: StoreUnavailable: a disk may not be mounted; OSError."""
        try:
            folder = Directory.at(os.open(self._root, _FOLDER), Path(self._root))
            for part in self._below[:-self._own]:
                folder = folder.step(part)
        except FileNotFoundError as fault:
            raise StoreUnavailable(f"{self}: the folder that it should lie in is missing") from fault
        return folder

    def open(self) -> Directory | None:
        """Open the folder that it is; None if it is missing. Raises: StoreUnavailable, OSError."""
        folder = self.parent()
        try:
            for part in self._below[-self._own:]:
                folder = folder.step(part)
        except FileNotFoundError:
            return None
        return folder

    def make(self, mode: int) -> Directory:
        """Open the folder that it is, and make it if it is missing. Raises: StoreUnavailable, OSError."""
        folder = self.parent()
        for part in self._below[-self._own:]:
            folder.make(part, mode)
            folder = folder.step(part)
        return folder


class Directory(Folder):
    """An open folder in which something is changed. What we make belongs to who owns the folder."""

    @classmethod
    def at(cls, descriptor: int, path: Path) -> Directory:
        """Return the folder that a descriptor has open; it closes it in the end."""
        directory = cls.__new__(cls)
        directory.path = path
        directory._take(descriptor)
        return directory

    @property
    def descriptor(self) -> int:
        """The open folder, for calls that take one."""
        return self._descriptor

    def inner(self, name: str) -> Directory:
        """Open a folder in it; no link. Raises: OSError."""
        return Directory.at(os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=self._descriptor), self.path / name)

    def step(self, name: str, links: int = MOST_LINKS) -> Directory:
        """Open a folder in it, by a link too where that can be trusted. Raises: StoreUnavailable, OSError.

        So many links are followed at most.
        """
        try:
            return self.inner(name)
        except OSError as fault:
            if fault.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
        link = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        trusted = {0, os.geteuid()}
        if not stat.S_ISLNK(link.st_mode):
            raise StoreUnavailable(f"{self.path / name} is no folder")
        if link.st_uid not in trusted or os.fstat(self._descriptor).st_uid not in trusted:
            raise StoreUnavailable(f"{self.path / name} is a link of its user's: it is not followed")
        if not links:
            raise StoreUnavailable(f"{self.path / name}: too many links")
        return self._follow(os.readlink(name, dir_fd=self._descriptor), links - 1)

    def _follow(self, target: str, links: int) -> Directory:
        """Open the folder that a link leads to, which may lead over links of its user's."""
        folder = self
        if target.startswith("/"):
            folder = Directory.at(os.open("/", _FOLDER), Path("/"))
        for part in target.split("/"):
            if part not in ("", "."):
                folder = folder.step(part, links)
        return folder

    def make(self, name: str, mode: int) -> None:
        """Make a folder in it, unless it is there; its name is durable then."""
        try:
            os.mkdir(name, mode, dir_fd=self._descriptor)
        except FileExistsError:
            return
        owner = heir(self._descriptor)
        if owner is not None:       # the folder, and not what its user may have put into its place since
            made = self.inner(name)
            os.fchown(made.descriptor, *owner)
        self.sync()

    def create(self, name: str, mode: int) -> int:
        """Make a file in it and return it, open for writing. Raises: OSError."""
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode,
                       dir_fd=self._descriptor)
        owner = heir(self._descriptor)
        if owner is not None:
            os.fchown(file, *owner)
        return file

    def plain_file(self, name: str) -> int:
        """Open a plain file in it for reading. Raises: NotPlain, OSError.

        One that has several names and belongs to another user than the folder is none: it may be only here
        that somebody could not read it.
        """
        file = -1
        try:
            file = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY,
                           dir_fd=self._descriptor)
            status = os.fstat(file)
            if stat.S_ISREG(status.st_mode) and (status.st_nlink == 1 or self._is_of(status.st_uid)):
                found, file = file, -1
                return found
        except OSError as fault:
            if fault.errno not in (errno.ELOOP, errno.ENXIO):       # a link, a socket
                raise
        finally:
            if file >= 0:
                os.close(file)
        raise NotPlain("not a plain file")

    def _is_of(self, user: int) -> bool:
        return user == os.fstat(self._descriptor).st_uid

    def sync(self) -> None:
        """Make durable which names are in it."""
        os.fsync(self._descriptor)
