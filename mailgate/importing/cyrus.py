"""Read a folder of Cyrus IMAP: the files of its messages, and the unique-ids that its POP3 server gave."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from mailgate.formats.cyrus import INDEX, BadIndex, read_header, read_records
from mailgate.formats.entries import BadSource, Folder, NotPlain
from mailgate.formats.uniqueids import CYRUS, Format
from mailgate.importing.source import PIECE_OCTETS, Unreadable, arrival_ms
from mailgate.model import INBOX


class CyrusFolder:
    """The messages of one folder, as its index has them."""

    def __init__(self, path: Path, unique_ids: Format = Format()) -> None:
        """Read the index. Raises: BadSource."""
        if not unique_ids.keeps(CYRUS):
            raise BadSource(f"{path}: a folder of Cyrus, but {unique_ids.name} keeps none")
        self._folder = Folder(path)
        self._messages: list[CyrusMessage] = []
        self.octets = 0
        try:
            names = frozenset(self._folder.names())
            last = 0
            with self._folder.open(INDEX) as file:
                header = read_header(file)
                for uid, arrived_seconds in read_records(file, header):
                    if uid <= last or f"{uid}." not in names:     # an index may say anything
                        continue
                    last = uid
                    unique_id = unique_ids.cyrus_id(header.uid_validity, uid, old=header.old_ids)
                    self._add(CyrusMessage(self._folder, uid, arrived_seconds, unique_id))
        except (BadIndex, NotPlain, OSError) as fault:
            words = fault.strerror if isinstance(fault, OSError) else fault
            raise BadSource(f"{path / INDEX}: {words}") from fault

    def _add(self, message: CyrusMessage) -> None:
        self._messages.append(message)
        self.octets += message.size
        message.octets = self.octets

    def messages(self) -> Iterator[CyrusMessage]:
        """Give the messages in the order of their UIDs."""
        yield from self._messages


def is_cyrus_folder(path: Path) -> bool:
    """Return whether a folder has Cyrus's index in it."""
    return (path / INDEX).is_file()


class CyrusMessage:
    """One file of a folder."""

    sender = None
    folder, flags = INBOX, ""

    def __init__(self, folder: Folder, uid: int, arrived_seconds: int, unique_id: bytes) -> None:
        self.name = f"{uid}."
        self.octets = 0
        self.unique_id = unique_id
        self.arrived_ms = arrival_ms(arrived_seconds)
        self._folder = folder
        self._digest = hashlib.sha256()
        status = folder.status(self.name)
        self.size = status.st_size if status else 0

    def identity(self) -> str:
        """Return unique-id and digest."""
        return f"cyrus:{self.unique_id.decode()}:{self._digest.hexdigest()}"

    def pieces(self) -> Iterator[bytes]:
        """Give the file's content; see SourceMessage."""
        self._digest = hashlib.sha256()
        try:
            with self._folder.open(self.name) as file:
                while piece := file.read(PIECE_OCTETS):
                    self._digest.update(piece)
                    yield piece
        except FileNotFoundError:
            raise
        except OSError as fault:
            raise Unreadable(fault.strerror) from fault
