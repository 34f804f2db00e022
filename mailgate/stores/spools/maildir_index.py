"""What is remembered of each message of a Maildir, so that no file is read twice: octets, packed.

A value begins with the message's place in the order: values sort as the messages do.
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple, overload

from mailgate.formats.maildir import flags_of
from mailgate.model import Envelope, SpoolMessage
from mailgate.stores.spools.listing import Columns

ADDRESS_OCTETS = 1000       # of one in a header; a longer one is cut

_HEAD = struct.Struct(">BQQQQ?BHH")
_BLANK = re.compile(rb"\n\r?\n")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_BRACKETS = re.compile(rb"<([^<>]*)>\s*$")


class Entry(NamedTuple):
    """One message as it is remembered."""

    listed: bool            # an old server's list had a place for it: before all others
    place: int              # in that list, or the microsecond of arrival
    octets: int             # CRLF line ends
    file_octets: int
    arrived_ms: int
    measured: bool          # the octets were counted; else the file's name claims them
    unique_id: bytes
    sender: bytes
    recipient: bytes

    def pack(self) -> bytes:
        """Return it as octets."""
        return _HEAD.pack(not self.listed, self.place, self.octets, self.file_octets, self.arrived_ms,
                          self.measured, len(self.unique_id), len(self.sender),
                          len(self.recipient)) + self.unique_id + self.sender + self.recipient


def unpack(value: bytes) -> Entry:
    """Return what `Entry.pack` has packed."""
    late, place, octets, file_octets, arrived_ms, measured, a, b, _ = _HEAD.unpack_from(value)
    a += _HEAD.size
    b += a
    return Entry(not late, place, octets, file_octets, arrived_ms, measured, value[_HEAD.size:a], value[a:b],
                 value[b:])


class Found(Sequence[SpoolMessage]):
    """The messages of a scan, in order, each made when it is asked for."""

    __slots__ = ("_files", "_known", "_names")

    def __init__(self, names: list[bytes], known: Mapping[bytes, bytes],
                 files: Mapping[bytes, bytes]) -> None:
        self._names = names
        self._known = known
        self._files = files

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> SpoolMessage: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[SpoolMessage]: ...

    def __getitem__(self, index: int | slice) -> SpoolMessage | Sequence[SpoolMessage]:
        if isinstance(index, slice):
            return Found(self._names[index], self._known, self._files)
        name = self._names[index]
        value = self._known[name]
        _, _, octets, _, arrived_ms, _, a, b, _ = _HEAD.unpack_from(value)
        a += _HEAD.size
        b += a
        return SpoolMessage(name, octets, value[_HEAD.size:a], Envelope(value[a:b], value[b:], arrived_ms),
                            flags_of(self._files[name]))


    def columns(self) -> Columns:
        """See Columns. A fifth of the time that it takes to make all messages."""
        sizes, ids, recipients = array("Q"), [], []
        read, start = _HEAD.unpack_from, _HEAD.size
        for value in map(self._known.__getitem__, self._names):
            _, _, octets, _, _, _, a, b, _ = read(value)
            sizes.append(octets)
            ids.append(value[start:start + a])
            recipients.append(value[start + a + b:])
        return Columns(self._names, sizes, ids, recipients)


class Addresses:
    """Reads envelopes: the sender from Return-Path, the recipient from the first field that is there."""

    def __init__(self, recipient_fields: Sequence[str]) -> None:
        self._order = [name.lower().encode() for name in recipient_fields]
        names = b"|".join(re.escape(name) for name in [b"return-path", *self._order])
        self._field = re.compile(rb"^(%b)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)" % names,
                                 re.IGNORECASE | re.MULTILINE)

    def read(self, start: bytes) -> tuple[bytes, bytes]:
        """Return sender and recipient of a message from its first octets; empty where there is none."""
        blank = _BLANK.search(b"\n" + start)        # a line ended before it
        found: dict[bytes, bytes] = {}
        for name, value in self._field.findall(start[:blank.start()] if blank else start):
            found.setdefault(name.lower(), value)       # the last hop has put its own on top
        recipient = next((found[name] for name in self._order if name in found), b"")
        return _address(found.get(b"return-path", b"")), _address(recipient)


def _address(value: bytes) -> bytes:
    text = _FOLD.sub(b"", value).strip()
    bracketed = _BRACKETS.search(text)
    return (bracketed[1].strip() if bracketed else text)[:ADDRESS_OCTETS]
