"""Read a Maildir: its files, and the unique-ids that Dovecot or Courier gave them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

from mailgate.importing.source import PIECE_OCTETS, BadSource
from mailgate.importing.uidlists import KnownId, read_known_ids

_DELIVERED = re.compile(r"(\d+)\.(?:[^,:]*?M(\d{1,6})(?!\d))?")


class Maildir:
    """The messages of one Maildir: `cur` and `new`, no folders below it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        files: dict[str, Path] = {}
        for folder in ("cur", "new"):
            try:
                entries = [entry for entry in (path / folder).iterdir() if not entry.name.startswith(".")]
            except OSError as fault:
                raise BadSource(f"{path / folder}: {fault.strerror}") from fault
            files.update((_base(entry.name), entry) for entry in entries)
        known = read_known_ids(path)
        found = [MaildirMessage(base, entry, known.get(base))
                 for base, entry in files.items() if entry.is_file()]
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
    """One file. It may get other flags, so another name, while it is read."""

    sender = None

    def __init__(self, base: str, path: Path, known: KnownId | None) -> None:
        self.name = base
        self.octets = 0
        self._path = path
        try:
            status = path.stat()
        except FileNotFoundError:
            status = None       # renamed or removed since the folder was listed
        self.size = status.st_size if status else 0
        self.arrived_ms = _arrived_ms(base, int(status.st_mtime * 1000) if status else 0)
        self.unique_id = known.unique_id if known else None
        self.rank = (0, known.order, 0, base) if known else (1, 0, self.arrived_ms, base)

    def identity(self) -> str:
        """Return the base name: it is unique by the rules of the format."""
        return f"maildir:{self.name}"

    def pieces(self) -> Iterator[bytes]:
        """Give the file's content. Raises: FileNotFoundError, when the message is gone."""
        with self._current().open("rb") as file:
            while piece := file.read(PIECE_OCTETS):
                yield piece

    def _current(self) -> Path:
        if not self._path.exists():
            for entry in (self._path.parent.parent / "cur").iterdir():
                if _base(entry.name) == self.name:
                    return entry
        return self._path


def _arrived_ms(base: str, otherwise_ms: int) -> int:
    """Return the time of delivery, which a Maildir file's name begins with."""
    found = _DELIVERED.match(base)
    if not found:
        return otherwise_ms
    return int(found[1]) * 1000 + int(found[2] or 0) // 1000
