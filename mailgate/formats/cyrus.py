"""What Cyrus IMAP keeps of a folder: `cyrus.index`, minor versions 6 to 20 but 11. Numbers are big-endian.

A message of UID n lies beside it in the file `n.`, with CRLF line ends. From version 12 on a message that was
expunged keeps its record, and for some days its file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

INDEX = "cyrus.index"

_BASE_OCTETS = 24           # what all versions begin with
_MOST_HEADER = 4096         # octets of a header: far more than any version's
_MOST_RECORD = 1024
_VERSIONS = frozenset(range(6, 21)) - {11}
_NEW_UIDL = 1               # of the options: unique-ids are not the UID alone
_EXPUNGED = 3 << 30         # of the flags: expunged, unlinked
_BLOCK_RECORDS = 1000


class Header(NamedTuple):
    """What is said of the folder."""

    version: int
    start: int              # octets of the header, in front of the records
    record_octets: int
    records: int
    uid_validity: int
    old_ids: bool           # made before unique-ids had UIDVALIDITY in them


class Record(NamedTuple):
    """One message."""

    uid: int
    arrived_seconds: int    # since 1970, UTC


class BadIndex(ValueError):
    """A file that is no index, or one of a version that is not known."""


def read_header(file: BinaryIO) -> Header:
    """Read the beginning of an index. Raises: BadIndex, OSError."""
    base = file.read(_BASE_OCTETS)
    if len(base) < _BASE_OCTETS:
        raise BadIndex("too short for an index")
    version, start, record_octets, records = (_number(base, offset) for offset in (8, 12, 16, 20))
    if version not in _VERSIONS:
        raise BadIndex(f"an index of version {version}, which is not known")
    if not 68 <= start <= _MOST_HEADER or not 56 <= record_octets <= _MOST_RECORD:
        raise BadIndex("not an index")
    header = base + file.read(start - _BASE_OCTETS)
    if len(header) < start or (version == 20 and start < 96):
        raise BadIndex("the index ends within its header")
    uid_validity = _number(header, 92 if version == 20 else 44)
    options = _number(header, 60 if version < 19 else 64)
    return Header(version, start, record_octets, records, uid_validity, not options & _NEW_UIDL)


def read_records(file: BinaryIO, header: Header) -> Iterator[Record]:
    """Give the messages that were not expunged. Raises: BadIndex, OSError."""
    left, flags_at = header.records, 36 if header.version == 20 else 32
    while left > 0:
        block = file.read(min(left, _BLOCK_RECORDS) * header.record_octets)
        for start in range(0, len(block) - header.record_octets + 1, header.record_octets):
            record = block[start:start + header.record_octets]
            left -= 1
            if header.version >= 12 and _number(record, flags_at) & _EXPUNGED:
                continue
            seconds = int.from_bytes(record[8:16], "big") // 10**9 if header.version == 20 \
                else _number(record, 4)
            yield Record(_number(record, 0), seconds)
        if left and len(block) < header.record_octets:
            raise BadIndex("the index ends before its last record")


def _number(octets: bytes, offset: int) -> int:
    return int.from_bytes(octets[offset:offset + 4], "big")
