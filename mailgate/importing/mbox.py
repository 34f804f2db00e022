"""Read an mbox: messages one after the other, each behind a `From ` line (RFC 4155).

A `From ` line counts where it carries a date as ctime writes it, at the file's start or behind a
blank line. What programs quoted as `>From ` is kept: so the old server showed it too.
"""

from __future__ import annotations

import calendar
import fcntl
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mailgate.errors import StoreUnavailable
from mailgate.formats.entries import BadSource, NotPlain, open_named
from mailgate.formats.header import HeaderTap
from mailgate.formats.known import Distinct, legal_unique_id
from mailgate.formats.mbox import flags, is_from_line, read_from_line
from mailgate.formats.mboxids import is_folder_data
from mailgate.formats.uniqueids import MBOX, Format
from mailgate.importing.source import PIECE_OCTETS, arrival_ms
from mailgate.model import INBOX

# Fields that mail programs change in an mbox while the message stays the same.
_VOLATILE = re.compile(
    rb"(?:X-)?(?:Status|Keywords|Mozilla-Status2?|Mozilla-Keys|UID|IMAP|IMAPbase|UIDL|Content-Length|Lines)"
    rb"[ \t]*:", re.IGNORECASE)


class Mbox:
    """The messages of one mbox file."""

    def __init__(self, path: Path, unique_ids: Format = Format()) -> None:
        """Look at the file. Raises: BadSource."""
        if not unique_ids.keeps(MBOX):
            raise BadSource(f"{path}: an mbox, but {unique_ids.name} keeps none")
        self._path = path
        self._unique_ids = unique_ids
        with self._open() as file:
            self.octets = os.fstat(file.fileno()).st_size

    def messages(self) -> Iterator[MboxMessage]:
        """Give the messages in the order of the file. Raises: StoreUnavailable, while it is locked."""
        with self._open() as file:
            self._lock(file)
            seen: Counter[str] = Counter()
            ids = Ids(self._unique_ids)
            from_line = self._first_line(file)
            number = 0
            while from_line:
                number += 1
                message = MboxMessage(file, from_line, number, seen, ids)
                if not message.is_folder_data():
                    yield message
                for _ in message.pieces():      # what the caller left
                    pass
                message.settle()
                from_line = message.next_from

    def _open(self) -> BinaryIO:
        try:
            return open_named(self._path)
        except OSError as fault:
            raise BadSource(f"{self._path}: {fault.strerror}") from fault
        except NotPlain as fault:
            raise BadSource(f"{self._path}: {fault}") from fault

    def _lock(self, file: BinaryIO) -> None:
        """Keep programs that obey fcntl locks from changing the file while it is read."""
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as fault:
            raise StoreUnavailable(f"{self._path} is in use") from fault

    def _first_line(self, file: BinaryIO) -> bytes:
        line = b"\n"
        while line.strip() == b"" and line:
            line = _read_line(file)
        if line and not is_from_line(line):
            raise BadSource(f"{self._path}: not an mbox: it does not begin with a From line")
        return line


class Ids:
    """The unique-ids of one reading: of every message in order, and no two the same."""

    def __init__(self, unique_ids: Format) -> None:
        self._told = unique_ids.mbox_ids()
        self._distinct = Distinct()

    def settle(self, from_line: bytes, header: bytes, *, given: bool) -> bytes | None:
        """Return the next message's id; none is `given` to what is no message."""
        unique_id = self._told.of(from_line, header)
        if not given or unique_id is None or legal_unique_id(unique_id) is None:
            return None
        return self._distinct.give(unique_id)


class MboxMessage:
    """One message; it must be read before the next one is asked for."""

    folder = INBOX

    def __init__(self, file: BinaryIO, from_line: bytes, number: int, seen: Counter[str], ids: Ids) -> None:
        self.name = f"message {number}"
        self.octets = 0
        moment, self.sender = read_from_line(from_line)
        self.arrived_ms = arrival_ms(calendar.timegm(moment))       # taken as UTC
        self.next_from = b""
        self._is_first = number == 1
        self._file = file
        self._seen = seen                   # how many messages had this digest
        self._from_line = from_line
        self._ids = ids
        self._settled = False
        self._unique_id: bytes | None = None
        self._digest = hashlib.sha256(from_line)
        self._header = HeaderTap()
        self._lines = self._read_lines()
        self._first = self._next_piece()    # the header is looked at before the message is taken

    @property
    def unique_id(self) -> bytes | None:
        """As the old server gave it. See SourceMessage."""
        self.settle()
        return self._unique_id

    @property
    def flags(self) -> str:
        """What Status and X-Status say. See SourceMessage."""
        return flags(self._header.octets())

    def settle(self) -> None:
        """Find out the unique-id, before the next message begins."""
        if not self._settled:
            self._settled = True
            self._unique_id = self._ids.settle(self._from_line, self._header.octets(),
                                               given=not self.is_folder_data())

    def is_folder_data(self) -> bool:
        """Return whether this is the message in which imapd and Pine keep what they know of the folder.

        It is the first one; any later one that looks the same was sent by somebody.
        """
        if not self._is_first:
            return False
        return is_folder_data(self._header.octets())

    def identity(self) -> str:
        """Return a digest of From line and content; of equal messages, with their number."""
        digest = self._digest.hexdigest()
        self._seen[digest] += 1
        return f"mbox:{digest}:{self._seen[digest]}"

    def pieces(self) -> Iterator[bytes]:
        """Give the content up to the next From line, without the blank line before that."""
        while piece := self._first or self._next_piece():
            self._first = b""
            yield piece

    def _next_piece(self) -> bytes:
        lines, octets = [], 0
        for line in self._lines:
            lines.append(line)
            octets += len(line)
            if octets >= PIECE_OCTETS:
                break
        piece = b"".join(lines)
        self._header.feed(piece)
        self.octets = self._file.tell()
        return piece

    def _read_lines(self) -> Iterator[bytes]:
        """Give lines (long ones in parts); a blank line is held back until more of the message comes."""
        blank, begins, in_header = b"", True, True
        while line := _read_line(self._file):
            if blank and begins and is_from_line(line):
                self.next_from = line
                return
            if blank:
                self._digest.update(b"\n")
                yield blank
                blank = b""
            if begins and line in (b"\n", b"\r\n"):
                blank, in_header = line, False
                continue
            if not (in_header and begins and _VOLATILE.match(line)):
                self._digest.update(line)
            begins = line.endswith(b"\n")
            yield line


def _read_line(file: BinaryIO) -> bytes:
    try:
        return file.readline(PIECE_OCTETS)
    except OSError as fault:
        raise BadSource(f"{file.name}: {fault.strerror}") from fault
