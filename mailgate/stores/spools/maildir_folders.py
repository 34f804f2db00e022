"""Maildir++: folders `.a.b` in a Maildir, each a Maildir of its own. Everything here blocks."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Collection, Mapping, Sequence

from mailgate.errors import FolderConflict, NoSuchFolder, StoreUnavailable
from mailgate.formats.maildir import flags_of
from mailgate.formats.maildirnames import directory_of, folder_of
from mailgate.model import FLAGS, INBOX
from mailgate.stores.spools.maildir import Habits, MaildirSpool
from mailgate.stores.spools.maildir_delivery import copy_message
from mailgate.stores.spools.maildir_files import FOLDER_MODE, Box
from mailgate.stores.spools.places import Directory, Place

NAME_OCTETS = 255       # of a directory's name, which is ASCII
_TRASH = "..mailgate-trash."    # a folder that is being removed: no folder's name


class MaildirTree:
    """One maildrop's Maildir with its folders."""

    def __init__(self, place: Place, habits: Habits) -> None:
        self._place = place
        self._habits = habits

    def spool(self, folder: str) -> MaildirSpool:
        """Return a folder's Maildir; whether it is there does not matter yet."""
        return MaildirSpool(self._place_of(folder), self._habits)

    def _place_of(self, folder: str) -> Place:
        if folder == INBOX:
            return self._place
        there = self._directories().get(folder)
        return self._place.inner(there if there is not None else directory_of(folder))

    def _directories(self) -> dict[str, str]:
        """Return the directories of the folders that are there, by folder."""
        root = self._place.open()
        found: dict[str, str] = {}
        for name in sorted(os.listdir(root.descriptor)) if root is not None else ():
            folder = folder_of(name)
            if folder is None or root is None or not _is_maildir(root, name):
                continue
            if folder not in found or name == directory_of(folder):
                found[folder] = name
        return found

    def names(self) -> list[str]:
        """Return the folders, INBOX first."""
        return [INBOX, *sorted(self._directories())]

    def require(self, *folders: str | None) -> None:
        """Raise NoSuchFolder unless these are there."""
        there = {INBOX, *self._directories()}
        for folder in folders:
            if folder not in there:
                raise NoSuchFolder(f"{self._place}: no folder {folder!r}")

    def make(self, folder: str) -> None:
        """Make a folder. Raises: FolderConflict, StoreUnavailable."""
        if folder in self.names():
            raise FolderConflict(f"{self._place}: there is a folder {folder!r} already")
        try:
            Box.make(self._place.inner(directory_of(folder)).make(FOLDER_MODE), is_folder=True)
        except OSError as fault:
            raise _as_conflict(fault, folder) from fault

    def remove(self, folder: str) -> None:
        """Remove an empty folder. Raises: NoSuchFolder, FolderConflict, StoreUnavailable."""
        self.require(folder)
        if folder == INBOX:
            raise FolderConflict("the INBOX stays")
        root, name = self._root(), self._directories()[folder]
        if _has_mail(root.inner(name)):
            raise FolderConflict(f"{self._place}: the folder {folder!r} has mail")
        trash = _TRASH + secrets.token_hex(6)
        _rename(root, name, trash)
        if _has_mail(root.inner(trash)):        # it came just now
            _rename(root, trash, name)
            raise FolderConflict(f"{self._place}: the folder {folder!r} has mail")
        _remove_tree(root, trash)

    def rename(self, folder: str, name: str) -> Mapping[str, str]:
        """Rename a folder with all below it, one after the other; return the new names by the old ones.

        Raises: NoSuchFolder, FolderConflict, StoreUnavailable.
        """
        self.require(folder)
        directories = self._directories()
        moving = {one: name + one[len(folder):] for one in directories if f"{one}/".startswith(f"{folder}/")}
        left = {INBOX, *directories} - set(moving)
        if folder in (INBOX, name) or name.startswith(f"{folder}/") or not left.isdisjoint(moving.values()):
            raise FolderConflict(f"{self._place}: {folder!r} cannot be called {name!r}")
        if any(len(directory_of(new)) > NAME_OCTETS for new in moving.values()):
            raise FolderConflict(f"{self._place}: no directory can have so long a name as {name!r}")
        root = self._root()
        try:
            for old, new in sorted(moving.items()):
                _rename(root, directories[old], directory_of(new))
        except OSError as fault:
            raise _as_conflict(fault, name) from fault
        root.sync()
        return moving

    def clear(self) -> None:
        """Remove all folders with all their mail; the INBOX stays. Raises: StoreUnavailable, OSError."""
        root = self._place.open()
        for name in self._directories().values() if root is not None else ():
            self._discard(self._root(), name)

    def _discard(self, root: Directory, name: str) -> None:
        """Remove a folder's directory and all that is in it."""
        trash = _TRASH + secrets.token_hex(6)
        _rename(root, name, trash)
        _remove_tree(root, trash)

    def _root(self) -> Directory:
        root = self._place.open()
        if root is None:
            raise NoSuchFolder(f"{self._place} is not there")
        return root

    # Messages ---------------------------------------------------------------------------------

    def flag(self, folder: str, names: Collection[bytes], add: str, remove: str) -> None:
        """Change the flags of messages."""
        box, stock = self._stock(folder)
        for name in names:
            if name in stock:
                old = set(flags_of(stock[name])) - set(remove) | set(add)
                box.flag(stock[name], "".join(letter for letter in FLAGS if letter in old))
        box.cur.sync()

    def move(self, folder: str, names: Sequence[bytes], target: str) -> dict[bytes, bytes]:
        """Move messages; return their names there, by those they had, of all that were still there."""
        box, stock = self._stock(folder)
        other, taken = self._stock(target)
        moved = {}
        for name in names:
            new = box.give(stock[name], other, taken) if name in stock else None
            if new is not None:
                moved[name] = new
        other.cur.sync()
        box.cur.sync()
        return moved

    def copy(self, folder: str, names: Sequence[bytes], target: str) -> dict[bytes, bytes]:
        """Copy messages; return the copies' names by the originals', of all that were still there."""
        box, stock = self._stock(folder)
        other = self._stock(target)[0]
        copies = {}
        for name in names:
            if name in stock:
                file = box.open_file(name, stock[name])
                try:
                    copies[name] = copy_message(other, file, flags_of(stock[name]))
                finally:
                    os.close(file)
        return copies

    def _stock(self, folder: str) -> tuple[Box, Mapping[bytes, bytes]]:
        box = Box.make(self._place_of(folder).make(FOLDER_MODE), is_folder=folder != INBOX)
        return box, box.take_stock()


def _remove_tree(root: Directory, name: str) -> None:
    """Remove a directory and all in it, files of other programs too; no link is followed.

    Directories in it are brought up before: there is no end to how deep somebody may have put them.
    """
    left = [name]
    while left:
        inner = root.inner(left[-1])
        deeper = []
        for entry in os.listdir(inner.descriptor):
            status = inner.status(entry)
            if status is not None and stat.S_ISDIR(status.st_mode):
                deeper.append(_TRASH + secrets.token_hex(6))
                os.rename(entry, deeper[-1], src_dir_fd=inner.descriptor, dst_dir_fd=root.descriptor)
            elif status is not None:
                os.unlink(entry, dir_fd=inner.descriptor)
        os.rmdir(left.pop(), dir_fd=root.descriptor)
        left += deeper
    root.sync()


def _is_maildir(root: Directory, name: str) -> bool:
    try:
        return Box.at(root.inner(name)) is not None
    except OSError:
        return False        # a file, a link


def _has_mail(root: Directory) -> bool:
    box = Box.at(root)
    return box is not None and bool(box.take_stock())


def _rename(root: Directory, name: str, new: str) -> None:
    os.rename(name, new, src_dir_fd=root.descriptor, dst_dir_fd=root.descriptor)


def _as_conflict(fault: OSError, folder: str) -> FolderConflict | StoreUnavailable:
    if fault.errno in (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EILSEQ):
        return FolderConflict(f"no directory can have the name of the folder {folder!r}")
    return StoreUnavailable(f"{fault.strerror}: {folder!r}")
