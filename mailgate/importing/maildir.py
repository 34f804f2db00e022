"""Read a Maildir: its files, and the unique-ids that Dovecot or Courier gave them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

from mailgate.importing.entries import Folder
from mailgate.importing.source import PIECE_OCTETS, Unreadable, arrival_ms
from mailgate.importing.uidlists import KnownId, read_known_ids

_DELIVERED = re.compile(r"(\d{1,10})\.(?:[^,:]*?M(\d{1,6})(?!\d))?", re.ASCII)


class Maildir:
    """The messages of one Maildir: `cur` and `new`, no folders below it."""

    def __init__(self, path: Path) -> None:
        """Open the Maildir and look at what is there. Raises: BadSource."""
        root = Folder(path)
        new, cur = root.folder("new"), root.folder("cur")
        entries = [(folder, name) for folder in (new, cur)      # in the order in which messages move
                   for name in folder.names() if not name.startswith(".")]
        known = read_known_ids(root, {_base(name) for _, name in entries})
        found = [MaildirMessage(folder, name, cur, known.get(_base(name))) for folder, name in entries]
        self._messages = sorted(found, key=attrgetter("rank"))
        self.octets = sum(message.size for message in found)

    def messages(self) -> Iterator[MaildirMessage]:
        """Give the messages: those the old server knew in its order, then the others by arrival."""
        done = 0
        for message in self._messages:
            done += message.size
            message.octets = done
            yield message


def is_maildir(path: Path) -> bool:
    """Return whether a folder has the shape of a Maildir."""
    return (path / "cur").is_dir() and (path / "new").is_dir()


def _base(name: str) -> str:
    """Return the part of a file's name that never changes; flags follow behind a colon."""
    return name.partition(":")[0]


class MaildirMessage:
    """One file, or what lies there as if it were one. It may be renamed or moved while it is read."""

    sender = None

    def __init__(self, folder: Folder, file_name: str, cur: Folder, known: KnownId | None) -> None:
        self.name = _base(file_name)
        self.octets = 0
        self._folder = folder
        self._file_name = file_name
        self._cur = cur
        self._digest = hashlib.sha256()
        status = folder.status(file_name)
        self.size = status.st_size if status else 0
        self.arrived_ms = _arrived_ms(self.name, status.st_mtime_ns // 1_000_000 if status else 0)
        self.unique_id = known.unique_id if known else None
        self.rank = (0, known.order, 0, file_name) if known else (1, 0, self.arrived_ms, file_name)

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
                if _base(name) == self.name:
                    return self._cur.open(name)
            raise


def _arrived_ms(base: str, otherwise_ms: int) -> int:
    """Return the time of delivery, which a Maildir file's name begins with."""
    found = _DELIVERED.match(base)
    if not found:
        return arrival_ms(0, otherwise_ms)
    return arrival_ms(int(found[1]), int(found[2] or 0) // 1000)
