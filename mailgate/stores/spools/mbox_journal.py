"""Which messages of an mbox are to be removed: written down at QUIT, found again when it is done.

Between the two others may append, and may change what they like: so a message is removed where its digest
is found, and one that is not found is passed over. Of equal ones as many stay as had to.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from mailgate.errors import StoreUnavailable
from mailgate.formats.mbox import DIGEST_OCTETS, FROM_OCTETS, NoMbox, Read, read_messages
from mailgate.stores.spools.mbox_files import Signature
from mailgate.stores.spools.mbox_redo import ID_OCTETS, Range

MOST_OCTETS = 65536         # a longer one lies beside

_HEAD = struct.Struct(f"<8s{ID_OCTETS}sQQQQQI")
_ITEM = struct.Struct(f"<{DIGEST_OCTETS}sQQI")
_MAGIC = b"mbox 1\n\0"


class Item(NamedTuple):
    """A message that is to be removed."""

    digest: bytes
    offset: int             # where it was
    octets: int             # that it took in the file
    staying: int            # how many equal ones had to stay


class Journal(NamedTuple):
    """What a session has decided to remove."""

    journal_id: bytes       # random
    signature: Signature    # of the file as it was then
    items: Sequence[Item]

    def pack(self) -> tuple[bytes, list[bytes] | None]:
        """Return it as octets, and what lies beside because it is too long."""
        items = b"".join(_ITEM.pack(*item) for item in self.items)
        beside = len(items) > MOST_OCTETS
        head = _HEAD.pack(_MAGIC, self.journal_id, *self.signature, len(self.items))
        return (head, [items]) if beside else (head + items, None)


def unpack(octets: bytes, beside: bytes | None) -> Journal:
    """Return what `pack` has packed. Raises: StoreUnavailable for anything else."""
    if not octets.startswith(_MAGIC) or len(octets) < _HEAD.size:
        raise StoreUnavailable("a journal of another kind of mailbox")
    _, journal_id, *numbers, count = _HEAD.unpack_from(octets)
    items = octets[_HEAD.size:] if beside is None else beside
    if len(items) != count * _ITEM.size:
        raise StoreUnavailable("a journal that is not whole")
    return Journal(journal_id, Signature(*numbers), [Item(*one) for one in _ITEM.iter_unpack(items)])


def ranges(journal: Journal, read: Read, now: Signature) -> list[Range]:
    """Return what is to be cut out of the file, in order. Raises: StoreUnavailable, OSError."""
    try:
        found = _where_they_were(journal, read, now)
        return sorted(_wherever_they_are(journal, read, now) if found is None else found)
    except NoMbox as fault:
        raise StoreUnavailable(f"the mailbox is none any more: {fault}") from fault


def _where_they_were(journal: Journal, read: Read, now: Signature) -> list[Range] | None:
    """Return their places if the file looks untouched and they are there; None if not."""
    if now != journal.signature:
        return None
    found = []
    for item in journal.items:
        end = item.offset + item.octets
        # As much as shows that it ends there, and no more: the next one may be large.
        one = next(read_messages(read, item.offset, min(now.octets, end + FROM_OCTETS + 1)), None)
        if one is None or one.end != end or one.digest != item.digest:
            return None
        found.append((item.offset, end))
    return found


def _wherever_they_are(journal: Journal, read: Read, now: Signature) -> list[Range]:
    wanted: dict[bytes, list[Item]] = defaultdict(list)
    for item in journal.items:
        wanted[item.digest].append(item)
    there: dict[bytes, list[Range]] = defaultdict(list)
    for one in read_messages(read, 0, now.octets):
        if one.digest in wanted:
            there[one.digest].append((one.offset, one.end))
    found = []
    for digest, places in there.items():
        items = wanted[digest]
        offsets = {item.offset for item in items}
        places.sort(key=lambda place: place[0] not in offsets)      # of equal ones those that were meant
        found += places[:min(len(items), max(len(places) - items[0].staying, 0))]
    return found
