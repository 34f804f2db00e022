"""Read a Maildir: its files and folders, and the unique-ids that the old server gave them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

from mailgate.formats.entries import BadSource, Folder, NotPlain
from mailgate.formats.header import HeaderTap
from mailgate.formats.known import Distinct, KnownId
from mailgate.formats.maildir import arrived_us, flags_of
from mailgate.formats.maildirnames import folder_of
from mailgate.formats.uniqueids import MAILDIR, Format
from mailgate.importing.source import PIECE_OCTETS, Unreadable
from mailgate.model import INBOX


class Maildir:
    """The messages of one Maildir: `cur` and `new`, and of the folders below it (Maildir++).

    What lies in folders has no unique-id: POP3 never showed it.
    """

    def __init__(self, path: Path, unique_ids: Format = Format(), *, folders: bool = True) -> None:
        """Open the Maildir and look at what is there. Raises: BadSource."""
        if not unique_ids.keeps(MAILDIR):
            raise BadSource(f"{path}: a Maildir, but {unique_ids.name} keeps none")
        root = Folder(path)
        new, cur = root.folder("new"), root.folder("cur")
        entries = [(folder, name) for folder in (new, cur)      # in the order in which messages move
                   for name in folder.names() if not name.startswith(".")]
        places = {_base(name): (folder, name) for folder, name in entries}
        known = unique_ids.maildir_ids(root, places.keys(), lambda base: _header(*places[base]))
        found = [MaildirMessage(folder, name, cur, known.get(_base(name))) for folder, name in entries]
        self._messages = sorted(found, key=attrgetter("rank"))
        ids = Distinct()
        for message in self._messages:
            message.unique_id = message.unique_id and ids.give(message.unique_id)
        self._root = root
        self._below = sorted(name for name in root.names() if name.startswith(".")) if folders else []
        self.octets = sum(message.size for message in found) + sum(
            message.size for name in self._below for message in _messages_below(root, name))

    def messages(self) -> Iterator[MaildirMessage | Unusable]:
        """Give the messages: those the old server knew in its order, then the others by arrival.

        Folders follow one by one: no more of them are open at a time, however many there are.
        """
        below = (message for name in self._below for message in _messages_below(self._root, name))
        done = 0
        for message in chain(self._messages, below):
            done += message.size
            message.octets = done
            yield message


def _messages_below(root: Folder, directory: str) -> list[MaildirMessage] | list[Unusable]:
    """Return the messages of a folder, or what to tell of it; none, if the directory is no folder."""
    status = root.status(directory)
    if status is None or not (stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        return []
    if stat.S_ISLNK(status.st_mode):
        return [Unusable(directory, NotPlain("a link; links are not followed"))]
    try:
        inner = root.folder(directory)
        if inner.status("cur") is None or inner.status("new") is None:
            return []
        cur = inner.folder("cur")
        found = [MaildirMessage(folder, name, cur, None, directory) for folder in (inner.folder("new"), cur)
                 for name in folder.names() if not name.startswith(".")]
    except BadSource as fault:
        return [Unusable(directory, Unreadable(str(fault)))]
    except OSError as fault:
        return [Unusable(directory, Unreadable(fault.strerror))]
    if found and folder_of(directory) is None:
        return [Unusable(directory, NotPlain("no folder can have this name; its mail is left out"))]
    return sorted(found, key=attrgetter("rank"))


def is_maildir(path: Path) -> bool:
    """Return whether a folder has the shape of a Maildir."""
    return (path / "cur").is_dir() and (path / "new").is_dir()


def _base(name: str) -> str:
    """Return the part of a file's name that never changes; flags follow behind a colon."""
    return name.partition(":")[0]


def _header(folder: Folder, file_name: str) -> bytes | None:
    """Return a message's header, as far as it can be read now."""
    tap = HeaderTap()
    try:
        with folder.open(file_name) as file:
            while not tap.complete and (piece := file.read(PIECE_OCTETS)):
                tap.feed(piece)
    except (NotPlain, OSError):     # what it is will be told when it is taken
        return None
    return tap.octets()


class MaildirMessage:
    """One file, or what lies there as if it were one. It may be renamed or moved while it is read."""

    sender = None

    def __init__(self, folder: Folder, file_name: str, cur: Folder, known: KnownId | None,
                 directory: str = "") -> None:
        """Look at a file; `directory` is where in the Maildir its folder lies, if it is not the INBOX."""
        self.name = f"{directory}/{_base(file_name)}" if directory else _base(file_name)
        self.folder = (directory and folder_of(directory)) or INBOX
        self.flags = flags_of(os.fsencode(file_name))
        self.octets = 0
        self._folder = folder
        self._file_name = file_name
        self._cur = cur
        self._digest = hashlib.sha256()
        status = folder.status(file_name)
        self.size = status.st_size if status else 0
        base = os.fsencode(_base(file_name))
        self.arrived_ms = arrived_us(base, status.st_mtime_ns if status else 0) // 1000
        self.unique_id = known.unique_id if known else None
        place = known.order if known else None
        self.rank = (1, 0, self.arrived_ms, file_name) if place is None else (0, place, 0, file_name)

    def identity(self) -> str:
        """Return base name and digest: not all programs make names that nobody used before."""
        return f"maildir:{self.name}:{self._digest.hexdigest()}"

    def pieces(self) -> Iterator[bytes]:
        """Give the file's content; see SourceMessage."""
        self._digest = hashlib.sha256()
        try:
            with self._open() as file:
                while piece := file.read(PIECE_OCTETS):
                    self._digest.update(piece)
                    yield piece
        except FileNotFoundError:
            raise
        except OSError as fault:
            raise Unreadable(fault.strerror) from fault

    def _open(self) -> BinaryIO:
        try:
            return self._folder.open(self._file_name)
        except FileNotFoundError:
            for name in self._cur.names():
                if _base(name) == _base(self._file_name):
                    return self._cur.open(name)
            raise


class Unusable:
    """What stands for a folder whose mail cannot be taken: to read it says why."""

    arrived_ms = size = 0
    unique_id = sender = None
    folder, flags = INBOX, ""

    def __init__(self, name: str, fault: NotPlain | Unreadable) -> None:
        self.name = name
        self.octets = 0
        self._fault = fault

    def identity(self) -> str:
        """See SourceMessage."""
        return ""

    def pieces(self) -> Iterator[bytes]:
        """Raises: NotPlain, Unreadable."""
        raise self._fault
