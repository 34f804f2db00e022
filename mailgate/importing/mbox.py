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
from mailgate.importing.entries import open_named
from mailgate.importing.source import (
    PIECE_OCTETS,
    BadSource,
    HeaderTap,
    NotPlain,
    arrival_ms,
    legal_unique_id,
)

_MONTHS = [name.encode() for name in calendar.month_abbr]
# Searched for behind the sender, not matched with it: octets made for that would cost their square.
_DATE = re.compile(
    rb"(?<![^ ])(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +"
    rb"(%b) +(\d\d?) +(\d\d):(\d\d)(?::(\d\d))? +(?:[A-Za-z+-][\w:+-]* +)*([1-9]\d{3})(?:\s|$)"
    % b"|".join(_MONTHS[1:]))
# Fields that mail programs change in an mbox while the message stays the same.
_VOLATILE = re.compile(
    rb"(?:X-)?(?:Status|Keywords|Mozilla-Status2?|Mozilla-Keys|UID|IMAP|IMAPbase|UIDL|Content-Length|Lines)"
    rb"[ \t]*:", re.IGNORECASE)
_FROM_OCTETS = 1000     # no From line is longer
_NO_SENDERS = (b"", b"-", b"MAILER-DAEMON")


class Mbox:
    """The messages of one mbox file."""

    def __init__(self, path: Path) -> None:
        """Look at the file. Raises: BadSource."""
        self._path = path
        with self._open() as file:
            self.octets = os.fstat(file.fileno()).st_size

    def messages(self) -> Iterator[MboxMessage]:
        """Give the messages in the order of the file. Raises: StoreUnavailable, while it is locked."""
        with self._open() as file:
            self._lock(file)
            seen: Counter[str] = Counter()
            from_line = self._first_line(file)
            number = 0
            while from_line:
                number += 1
                message = MboxMessage(file, from_line, number, seen)
                if not message.is_folder_data():
                    yield message
                for _ in message.pieces():      # what the caller left
                    pass
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
        if line and not _is_from(line):
            raise BadSource(f"{self._path}: not an mbox: it does not begin with a From line")
        return line


class MboxMessage:
    """One message; it must be read before the next one is asked for."""

    def __init__(self, file: BinaryIO, from_line: bytes, number: int, seen: Counter[str]) -> None:
        self.name = f"message {number}"
        self.octets = 0
        self.arrived_ms, self.sender = _read_from_line(from_line)
        self.next_from = b""
        self._is_first = number == 1
        self._file = file
        self._seen = seen                   # how many messages had this digest
        self._digest = hashlib.sha256(from_line)
        self._header = HeaderTap()
        self._lines = self._read_lines()
        self._first = self._next_piece()    # the header is looked at before the message is taken

    @property
    def unique_id(self) -> bytes | None:
        """The id that qpopper and others keep in X-UIDL."""
        found = self._header.fields("X-UIDL")
        return legal_unique_id(found[0]) if found else None

    def is_folder_data(self) -> bool:
        """Return whether this is the message in which imapd and Pine keep what they know of the folder.

        It is the first one; any later one that looks the same was sent by somebody.
        """
        if not self._is_first:
            return False
        subject = b"".join(self._header.fields("Subject"))
        return bool(self._header.fields("X-IMAP")) and b"FOLDER INTERNAL DATA" in subject

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
            if blank and begins and _is_from(line):
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


def _is_from(line: bytes) -> bool:
    return line.startswith(b"From ") and len(line) <= _FROM_OCTETS and _DATE.search(line, 5) is not None


def _read_from_line(line: bytes) -> tuple[int, bytes | None]:
    """Return the time of arrival in milliseconds since 1970, taken as UTC, and the envelope sender."""
    *_, found = _DATE.finditer(line, 5)
    month, day, hour, minute, second, year = found.groups()
    moment = (int(year), _MONTHS.index(month), int(day), int(hour), int(minute), int(second or 0))
    sender = line[5:found.start()].strip()
    return arrival_ms(calendar.timegm(moment)), None if sender in _NO_SENDERS else sender
