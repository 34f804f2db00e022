"""Adding a message to an mbox as Debian's delivery agents do: `From ` line, LF line ends, a blank line.

A line that begins with `From ` gets a `>` in front, and `>From ` stays as it is (mboxo): so Postfix, Exim and
procmail write, and as no server takes anything away on the way out, one more `>` would be one more too many.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator

from mailgate.errors import MailgateError
from mailgate.formats.mbox import HEAD_OCTETS, read_messages, visible
from mailgate.interfaces import IBlobReader
from mailgate.model import Envelope, Placement
from mailgate.stores.spools.mbox_files import Disk, read_all

PIECE_OCTETS = 1 << 18
MOST_SENDER_OCTETS = 900    # readers want the line to be shorter than 1,000

_LINE_END = re.compile(rb"(?<!\r)\r\n")     # behind a bare CR it stays, to come out as it went in
_FROM = re.compile(rb"^From ", re.MULTILINE)
_LATER_FROM = re.compile(rb"(?<=\n)From ")
_BLANK = re.compile(rb"\n\r?\n")
_NO_SENDER = re.compile(rb"[\x00-\x20\x7f]")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def append(disk: Disk, file: int, content: IBlobReader, placement: Placement,
           touch: Callable[[], None]) -> bytes:
    """Add a message durably, with both locks held; return its digest, which no other one has.

    One that does not fit, or cannot be read to its end, leaves nothing. Raises: OSError, StoreUnavailable.
    """
    octets = os.fstat(file).st_size
    gap = _gap(os.pread(file, 3, max(octets - 3, 0)))
    begin = at = octets + len(gap)
    try:
        if gap:
            disk.write(file, gap, octets)
        for piece in _pieces(content, placement):
            disk.write(file, piece, at)
            at += len(piece)
            touch()
        disk.sync(file)
    except (OSError, MailgateError):        # the file's fault, or that of the body
        disk.truncate(file, octets)
        disk.sync(file)
        raise
    return next(read_messages(lambda offset, most: read_all(file, offset, most), begin, at)).digest


def from_line(envelope: Envelope) -> bytes:
    """Return the `From ` line of a message; its time is that of the machine's zone, as others write it."""
    sender = _NO_SENDER.sub(b"-", envelope.sender)[:MOST_SENDER_OCTETS] or b"MAILER-DAEMON"
    then = time.localtime(envelope.arrived_ms // 1000)
    date = (f"{_DAYS[then.tm_wday]} {_MONTHS[then.tm_mon - 1]} {then.tm_mday:2} "
            f"{then.tm_hour:02}:{then.tm_min:02}:{then.tm_sec:02} {then.tm_year:04}")
    return b"From %b %b\n" % (sender, date.encode())


def _gap(end: bytes) -> bytes:
    """Return what the last message lacks, in a file that ends so, to be the last one no more."""
    if not end or end.endswith((b"\n\n", b"\n\r\n")):
        return b""
    return b"\n" if end.endswith(b"\n") else b"\n\n"


def _pieces(content: IBlobReader, placement: Placement) -> Iterator[bytes]:
    """Give a message as it stands in the file."""
    yield from_line(placement.envelope)
    last = b"\n"
    for piece in _quoted(_with_status(_lines(content), placement)):
        if piece:
            yield piece
            last = piece
    yield b"\n" if last.endswith(b"\n") else b"\n\n"


def _lines(content: IBlobReader) -> Iterator[bytes]:
    """Give the content with LF line ends, in pieces that end with a line's end or hold no part of one."""
    offset = 0
    held = b""
    while piece := content.read(offset, PIECE_OCTETS):
        offset += len(piece)
        text = held + piece
        end = len(text.rstrip(b"\r"))
        text, held = text[:end], text[end:]
        yield _LINE_END.sub(b"\n", text)
    yield held


def _with_status(pieces: Iterator[bytes], placement: Placement) -> Iterator[bytes]:
    """Take away what only the mailbox itself has to say in a header, and say it at its end.

    (On top it would take the first line for its own, where that begins with a blank.)
    """
    head, blank = b"", None
    for piece in pieces:
        head += piece
        blank = _BLANK.search(b"\n" + head)
        if blank is not None or len(head) > HEAD_OCTETS:
            break
    if blank is None and len(head) > HEAD_OCTETS:
        yield head          # no header of a message
    else:
        end = len(head) if blank is None else blank.start()
        fields = visible(head[:end])
        if fields and not fields.endswith(b"\n"):
            fields += b"\n"
        yield fields + _status(placement) + head[end:]
    yield from pieces


def _status(placement: Placement) -> bytes:
    """Return the fields that keep a message's flags, and what makes it another one than all that are equal.

    That is X-UIDL, where other servers look for a unique-id, too.
    """
    fields = [b"X-UIDL: %b\n" % secrets.token_hex(16).encode()]
    if "S" in placement.flags:
        fields.append(b"Status: RO\n")
    extended = "".join(letter for ours, letter in (("R", "A"), ("F", "F"), ("T", "D"), ("D", "T"))
                       if ours in placement.flags)
    if extended:
        fields.append(b"X-Status: %b\n" % extended.encode())
    return b"".join(fields)


def _quoted(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Quote lines that begin with `From `, wherever the pieces are cut."""
    held, begins = b"", True    # what was held back, or what comes next, begins a line
    for piece in pieces:
        text = held + piece
        line = text.rfind(b"\n") + 1    # where the last line begins
        short = (line or begins) and len(text) - line < len(b"From ")
        cut = line if short else len(text)
        passed, held = text[:cut], text[cut:]
        yield (_FROM if begins else _LATER_FROM).sub(b">From ", passed)
        begins = passed.endswith(b"\n") if passed else begins
    yield held
