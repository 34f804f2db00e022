"""What is remembered of each message of an mbox from one session to the next, and what tells its envelope.

A row holds nothing that changes when other messages go or come; offsets follow from the lengths of all rows.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Mapping
from typing import NamedTuple

from mailgate.formats.mbox import DIGEST_OCTETS, Found, flags, read_from_line
from mailgate.model import Envelope, SpoolMessage
from mailgate.stores.spools.maildir_index import ADDRESS_OCTETS, Addresses
from mailgate.stores.spools.mbox_files import Signature

FILE = b"mbox"              # the row of the file itself; no message has so short a name
VERSION = 1
LATEST_MS = 253_402_300_799_999     # the end of the year 9999

_ROW = struct.Struct("<BBQHIQBQq8sBBHH")
_FILE = struct.Struct("<BBQQQQQQ")
_NUMBER = struct.Struct(">I")


class Entry(NamedTuple):
    """One message as it is remembered."""

    name: bytes             # the digest; of equal messages all but the first have a number behind it
    place: int              # grows in the order of the file
    shown: bool             # False: the folder's data
    from_octets: int        # of the From line
    head_octets: int        # of the header as it is
    length: int             # of the content: header and all that follows to the separator
    separator: int
    octets: int             # of what POP3 shows
    check: bytes            # of From line and header as they are
    envelope: Envelope
    flags: str
    unique_id: bytes

    @property
    def digest(self) -> bytes:
        """Return the digest of From line and what POP3 shows."""
        return self.name[:DIGEST_OCTETS]

    @property
    def span(self) -> int:
        """Return the octets that it takes in the file."""
        return self.from_octets + self.length + self.separator

    def message(self) -> SpoolMessage:
        """Return what the store is told of it."""
        return SpoolMessage(self.name, self.octets, self.unique_id, self.envelope, self.flags)

    def pack(self) -> bytes:
        """Return its row."""
        sender, recipient, arrived_ms = self.envelope
        return _ROW.pack(
            VERSION, self.shown, self.place, self.from_octets, self.head_octets, self.length, self.separator,
            self.octets, arrived_ms, self.check, len(self.unique_id), len(self.flags), len(sender),
            len(recipient)) + b"".join([self.unique_id, self.flags.encode(), sender, recipient])


def unpack(name: bytes, row: bytes) -> Entry | None:
    """Return the entry of a row; None for a row of another version."""
    if len(name) < DIGEST_OCTETS or row[0] != VERSION:
        return None
    (_, shown, place, from_octets, head_octets, length, separator, octets, arrived_ms, check, *ends
     ) = _ROW.unpack_from(row)
    parts, at = [], _ROW.size
    for size in ends:
        parts.append(row[at:at + size])
        at += size
    unique_id, letters, sender, recipient = parts
    return Entry(name, place, shown == 1, from_octets, head_octets, length, separator, octets, check,
                 Envelope(sender, recipient, arrived_ms), letters.decode(), unique_id)


class FileRow(NamedTuple):
    """What is remembered of the file itself."""

    signature: Signature
    trusted: bool           # it was old enough when it was read: no change of the same moment was missed
    start: int              # offset of the first From line

    def pack(self) -> bytes:
        """Return its row."""
        return _FILE.pack(VERSION, self.trusted, *self.signature, self.start)


def unpack_file(row: bytes | None) -> FileRow | None:
    """Return what a row says; None without one, or for one of another version."""
    if row is None or row[0] != VERSION:
        return None
    _, trusted, *signature, start = _FILE.unpack(row)
    return FileRow(Signature(*signature), trusted == 1, start)


def unpack_all(known: Mapping[bytes, bytes]) -> list[Entry]:
    """Return all entries in the order of the file."""
    entries = [entry for name, row in known.items() if (entry := unpack(name, row)) is not None]
    return sorted(entries, key=lambda entry: entry.place)


def numbered(digest: bytes, number: int) -> bytes:
    """Return the name of one of several equal messages; numbers begin with 1."""
    return digest if number == 1 else digest + _NUMBER.pack(number)


def number_of(name: bytes) -> int:
    """Return the number in a name."""
    return 1 if len(name) == DIGEST_OCTETS else _NUMBER.unpack(name[DIGEST_OCTETS:])[0]


def checksum(octets: bytes) -> bytes:
    """Return the check of a From line with its header."""
    return hashlib.blake2b(octets, digest_size=8).digest()


def make_entry(found: Found, name: bytes, place: int, unique_id: bytes, addresses: Addresses, *,
               shown: bool) -> Entry:
    """Return what is to be remembered of a message that was read."""
    return Entry(name, place, shown, len(found.from_line), len(found.head), found.length, found.separator,
                 found.octets, checksum(found.from_line + found.head), _envelope(found, addresses),
                 flags(found.head), unique_id)


def _envelope(found: Found, addresses: Addresses) -> Envelope:
    """Return who sent a message, which stands in the From line, and to whom, which a field may tell."""
    moment, sender = read_from_line(found.from_line)
    returned, recipient = addresses.read(found.head)
    return Envelope(returned if sender is None else sender[:ADDRESS_OCTETS], recipient, _local_ms(moment))


def _local_ms(moment: tuple[int, int, int, int, int, int]) -> int:
    """Return a From line's time: delivery agents write that of the machine's own zone."""
    try:
        seconds = int(time.mktime((*moment, 0, 0, -1)))
    except (OverflowError, ValueError):     # a date that no calendar has
        return 0
    return min(max(seconds * 1000, 0), LATEST_MS)
