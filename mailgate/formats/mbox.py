"""Where the messages of an mbox begin and end, and what the format itself says of them (RFC 4155).

A `From ` line counts where it carries a date as ctime writes it, at the file's start or behind a blank
line; that blank line is the format's, not the message's. Content-Length is not believed: of Debian's programs
none writes a mailbox that needs it, and a sender can put any number there. What programs quoted as `>From `
is kept: so all servers show it.
"""

from __future__ import annotations

import calendar
import hashlib
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

PIECE_OCTETS = 1 << 20      # of one read
HEAD_OCTETS = 1 << 20       # what is looked at of a header; of a longer one no field behind that is hidden
FROM_OCTETS = 1000          # no From line is longer
DIGEST_OCTETS = 16

_MONTHS = [name.encode() for name in calendar.month_abbr]
# Searched for behind the sender, not matched with it: octets made for that would cost their square.
_DATE = re.compile(
    rb"(?<![^ ])(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +"
    rb"(%b) +(\d\d?) +(\d\d):(\d\d)(?::(\d\d))? +(?:[A-Za-z+-][\w:+-]* +)*([1-9]\d{3})(?:\s|$)"
    % b"|".join(_MONTHS[1:]))
_NO_SENDERS = (b"", b"-", b"MAILER-DAEMON")
_BLANK = re.compile(rb"\n\r?\n")
_MARK = b"\nFrom "
_HELD = FROM_OCTETS + 8     # octets that a From line and the blank line before it may take

# Fields in which mail programs keep what they know of a message; they change while the message does not.
_KEPT = (rb"^(?:Status|X-Status|X-Keywords|X-UID|X-UIDL|X-IMAP|X-IMAPbase|X-Mozilla-Status2?|X-Mozilla-Keys"
         rb"|Content-Length|Lines)[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)")
_HIDDEN = re.compile(_KEPT, re.IGNORECASE | re.MULTILINE)
_UIDL = re.compile(rb"^X-UIDL[ \t]*:([^\n]*)", re.IGNORECASE | re.MULTILINE)
_STATUS = re.compile(rb"^(X-)?Status[ \t]*:([^\n]*)", re.IGNORECASE | re.MULTILINE)
_LETTERS = {b"R": "S"}                                          # of Status; O (old) has no letter of ours
_X_LETTERS = {b"A": "R", b"F": "F", b"D": "T", b"T": "D"}       # of X-Status

Read = Callable[[int, int], bytes]      # offset, octets: as os.pread


class NoMbox(Exception):
    """What is read has no `From ` line where one has to be."""


class Found(NamedTuple):
    """One message of an mbox. Offsets and lengths are octets of the file, if not said otherwise."""

    offset: int             # of the From line
    from_line: bytes        # with its end
    head: bytes             # the header as it is, without the blank line behind it
    length: int             # of the content: head and all that follows to the separator
    separator: int          # blank line behind it: 0 (none at the file's end), 1 or 2
    octets: int             # of what POP3 shows: CRLF line ends, before byte-stuffing
    digest: bytes           # of the From line, X-UIDL and what POP3 shows

    @property
    def end(self) -> int:
        """Return the offset behind it, where the next From line is."""
        return self.offset + len(self.from_line) + self.length + self.separator


def is_from_line(line: bytes) -> bool:
    """Return whether a line begins a message, if it stands where one may begin."""
    return line.startswith(b"From ") and len(line) <= FROM_OCTETS and _DATE.search(line, 5) is not None


def read_from_line(line: bytes) -> tuple[tuple[int, int, int, int, int, int], bytes | None]:
    """Return year, month, day, hour, minute, second as they stand there, and the envelope sender.

    The sender is None where the line names none.
    """
    *_, found = _DATE.finditer(line, 5)
    month, day, hour, minute, second, year = found.groups()
    moment = (int(year), _MONTHS.index(month), int(day), int(hour), int(minute), int(second or 0))
    sender = line[5:found.start()].strip()
    return moment, None if sender in _NO_SENDERS else sender


def visible(head: bytes) -> bytes:
    """Return a header without the fields that mail programs keep in it for themselves."""
    return _HIDDEN.sub(b"", head)


def flags(head: bytes) -> str:
    """Return what Status and X-Status say, as letters of `model.FLAGS`, in their order."""
    found: set[str] = set()
    for extended, letters in _STATUS.findall(head):
        table = _X_LETTERS if extended else _LETTERS
        found.update(table[one] for one in (letters[at:at + 1] for at in range(len(letters))) if one in table)
    return "".join(sorted(found))


class Measure:
    """Take what POP3 shows of a message, in pieces: its digest, and its octets with CRLF line ends.

    The digest is that of the From line, too, and of X-UIDL, which others leave alone: so equal messages may
    be told apart.
    """

    __slots__ = ("_digest", "_octets", "_last", "_cr")

    def __init__(self, from_line: bytes, head: bytes) -> None:
        """Begin with the header as it is in the file."""
        uidl = _UIDL.search(head)
        self._digest = hashlib.blake2b(from_line, digest_size=DIGEST_OCTETS)
        if uidl is not None:
            self._digest.update(uidl[1].strip() + b"\n")
        self._octets = 0
        self._last = 10         # the last octet, or as if a line had ended
        self._cr = False        # a piece ended in CR: bare, or half of a CRLF
        self.feed(visible(head))

    def feed(self, data: bytes, begin: int = 0, end: int | None = None) -> None:
        """Take the next piece: a part of `data`."""
        end = len(data) if end is None else end
        if begin >= end:
            return
        self._digest.update(memoryview(data)[begin:end])
        self._octets += end - begin + data.count(b"\n", begin, end) - (self._cr and data[begin] == 10)
        if data.find(b"\r", begin, end) >= 0:
            self._octets -= data.count(b"\r\n", begin, end)
        self._last = data[end - 1]
        self._cr = self._last == 13

    @property
    def octets(self) -> int:
        """Of all that came, a missing last line end counted."""
        return self._octets + (0 if self._last == 10 else 2)

    def digest(self) -> bytes:
        """Return the digest of all that came."""
        return self._digest.digest()


class _Window:
    """What lies in memory of a file that is read from front to back."""

    __slots__ = ("_read", "_end", "base", "octets", "final")

    def __init__(self, read: Read, start: int, end: int) -> None:
        self._read = read
        self._end = end
        self.base = start           # offset of its first octet
        self.octets = b""
        self.final = False          # it reaches to the end
        self.grow(0)

    def grow(self, begin: int) -> None:
        """Drop what lies before an index, and take one more piece."""
        self.octets = self.octets[begin:]
        self.base += begin
        offset = self.base + len(self.octets)
        piece = self._read(offset, min(PIECE_OCTETS, self._end - offset)) if offset < self._end else b""
        self.octets += piece
        self.final = not piece or offset + len(piece) >= self._end


def read_messages(read: Read, start: int, end: int) -> Iterator[Found]:
    """Give the messages between two offsets, the folder's data too; `start` is 0 or that of a From line.

    Of a large message only a part lies in memory at a time. Raises: NoMbox.
    """
    window = _Window(read, start, end)
    offset = start if start else _skip_blanks(window)
    while offset < window.base + len(window.octets) or not window.final:
        found = _read_message(window, offset)
        yield found
        offset = found.end


def _skip_blanks(window: _Window) -> int:
    """Return the offset of the first octet that ends no line; of these there may be any number."""
    while True:
        blanks = len(window.octets) - len(window.octets.lstrip(b"\r\n"))
        if window.final or blanks < len(window.octets):
            return window.base + blanks
        window.grow(blanks)


def _read_message(window: _Window, offset: int) -> Found:
    at = offset - window.base
    while len(window.octets) - at < FROM_OCTETS and not window.final:
        window.grow(at)
        at = 0
    line = _from_line_at(window, at)
    if not line:
        raise NoMbox(f"no From line at octet {offset}")
    begin = offset + len(line)
    body = begin + _head_octets(window, begin)
    head = window.octets[begin - window.base:body - window.base]
    measure = Measure(line, head)
    end, separator = _read_body(window, body, measure)
    return Found(offset, line, head, end - begin, separator, measure.octets, measure.digest())


def _from_line_at(window: _Window, at: int) -> bytes | None:
    """Return the From line at an index; empty if it is none, None if it is not all there."""
    stop = window.octets.find(b"\n", at, at + FROM_OCTETS) + 1
    if not stop:
        if len(window.octets) - at > FROM_OCTETS:
            return b""
        if not window.final:
            return None
        stop = len(window.octets)
    line = window.octets[at:stop]
    return line if is_from_line(line) else b""


def _head_octets(window: _Window, begin: int) -> int:
    """Return the length of the header whose offset is `begin`, without the blank line behind it."""
    while True:
        at = begin - window.base
        limit = at + HEAD_OCTETS
        blank = _BLANK.search(window.octets, at - 1, limit)
        if blank:
            return blank.start() + 1 - at
        if window.final or len(window.octets) >= limit:
            break
        window.grow(at - 1)
    if len(window.octets) <= limit:
        return len(window.octets) - at
    return max(window.octets.rfind(b"\n", at, limit) + 1 - at, 0)


def _read_body(window: _Window, done: int, measure: Measure) -> tuple[int, int]:
    """Measure from an offset to the message's end; return that offset and the length of the separator."""
    while True:
        at = done - window.base
        if mark := _next_mark(window, at):
            separator = 2 if window.octets[mark - 2] == 13 else 1
            end = mark - separator
        elif window.final:
            end, separator = _without_blank_line(window.octets, at)
        else:
            # Nothing behind this can belong to a From line, nor to the blank line before one.
            end, separator = max(at, len(window.octets) - _HELD), -1
            if end > at and window.octets[end - 1] == 13:
                end -= 1
        measure.feed(window.octets, at, end)
        done = window.base + end
        if separator >= 0:
            return done, separator
        window.grow(max(end - 2, 0))


def _next_mark(window: _Window, begin: int) -> int:
    """Return the index of the next From line behind a blank line that ends at or behind `begin`; 0: none."""
    octets = window.octets
    at = octets.find(_MARK, begin)
    while at >= 0:
        if octets[at - 1] == 10 or octets[at - 2:at] == b"\n\r":
            line = _from_line_at(window, at + 1)
            if line is None:
                return 0
            if line:
                return at + 1
        at = octets.find(_MARK, at + 1)
    return 0


def _without_blank_line(octets: bytes, begin: int) -> tuple[int, int]:
    """Return where the last message's content ends, and the length of the blank line behind it."""
    for blank in (b"\r\n", b"\n"):
        end = len(octets) - len(blank)
        if end >= begin and octets.endswith(b"\n" + blank):
            return end, len(blank)
    return len(octets), 0
