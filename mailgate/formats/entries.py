"""Open what lies in somebody else's mailbox: plain files and folders, nothing else.

Its owner may put there what he likes and change it while it is read, and who reads it often has the
rights to read everybody's files. So no link is followed, nothing is waited for, and what was opened
is looked at, not what the name meant before.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from pathlib import Path
from typing import BinaryIO

from mailgate.errors import MailgateError

_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK     # to open a pipe waits for its writer


class BadSource(MailgateError):
    """A path that is no mailbox of a kind that we know, or one that cannot be read."""


class NotPlain(MailgateError):
    """Something in a message's place that is no plain file: a link, a folder, a pipe."""


class Folder:
    """An open folder: it stays the same one, whatever becomes of its name. Closed when nobody has it."""

    def __init__(self, path: Path) -> None:
        """Open a folder that the operator named: links lead to it. Raises: BadSource."""
        self._open_folder(path, path, None)

    def folder(self, name: str) -> Folder:
        """Return a folder in it. Raises: BadSource, for a link too."""
        inner = Folder.__new__(Folder)
        inner._open_folder(self.path / name, name, self._descriptor)
        return inner

    def _open_folder(self, path: Path, name: Path | str, inside: int | None) -> None:
        self.path = path        # for an operator only
        flags = _FOLDER if inside is None else _FOLDER | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(name, flags, dir_fd=inside)
        except OSError as fault:
            if inside is not None and fault.errno in (errno.ENOTDIR, errno.ELOOP):
                raise BadSource(f"{path}: not a folder; links are not followed") from fault
            raise BadSource(f"{path}: {fault.strerror}") from fault
        self._take(self._descriptor)

    def _take(self, descriptor: int) -> None:
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    def names(self) -> list[str]:
        """Return the names of what is in it. Raises: BadSource."""
        try:
            return os.listdir(self._descriptor)
        except OSError as fault:
            raise BadSource(f"{self.path}: {fault.strerror}") from fault

    def status(self, name: str) -> os.stat_result | None:
        """Return what is known of an entry, of a link itself; None if it has gone. Raises: OSError."""
        try:
            return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open(self, name: str) -> BinaryIO:
        """Open a plain file in it. Raises: NotPlain, OSError."""
        status = self.status(name)
        if status is not None and not stat.S_ISREG(status.st_mode):
            raise NotPlain("not a plain file")      # a device may do something as soon as it is opened
        try:
            return _plain(os.open(name, _FILE | os.O_NOFOLLOW, dir_fd=self._descriptor))
        except OSError as fault:
            if fault.errno in (errno.ELOOP, errno.ENXIO):       # a link, a socket
                raise NotPlain("not a plain file") from fault
            raise


def open_named(path: Path) -> BinaryIO:
    """Open a plain file that the operator named: links lead to it. Raises: NotPlain, OSError."""
    return _plain(os.open(path, _FILE))


def _plain(descriptor: int) -> BinaryIO:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotPlain("not a plain file")
    return open(descriptor, "rb")
