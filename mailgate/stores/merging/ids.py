"""Unique-ids over a merge, and the listings that show them.

What a part's id becomes depends on that id and on the names of the merge, on nothing else: an id stays the
same whatever the other parts hold. The first part's ids are shown as they are, so that its clients
download nothing again; the others' stand behind their part's name. Ids of the first part that look as if
they were another's are put behind its name too, so that no two messages can ever share one.
"""

from __future__ import annotations

from array import array
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256

from mailgate.model import EMPTY_LISTING, ScanListing

ID_OCTETS = 70          # RFC 1939 section 7
NAMED, HASHED = b":", b";"      # what follows a part's name: the id, or where that is too long its digest
DIGEST_OCTETS = 24      # 32 characters
KEPT_MESSAGES = 300_000     # of all merged listings that are kept: some 30 MB
ENTRY_MESSAGES = 16         # what a listing costs beside its messages: as much as so many


class PartIds:
    """How the ids of one part are shown. `names` are those of all parts, `plain` says: as they are."""

    def __init__(self, name: str, names: Sequence[str], *, plain: bool) -> None:
        self._name = name.encode("ascii")
        self._plain = plain
        self._foreign = tuple(one.encode("ascii") + mark for one in names for mark in (NAMED, HASHED))

    def shown(self, unique_id: bytes) -> bytes:
        """Return what clients see of an id of the part."""
        if self._plain and not unique_id.startswith(self._foreign):
            return unique_id
        named = self._name + NAMED + unique_id
        if len(named) <= ID_OCTETS:
            return named
        return self._name + HASHED + urlsafe_b64encode(sha256(unique_id).digest()[:DIGEST_OCTETS])

    def shown_of(self, listing: ScanListing) -> list[bytes]:
        """Return what clients see of all ids of a listing of the part, in order: `shown` for many at once."""
        found = list(map(listing.unique_id, range(len(listing))))
        if self._plain:
            return [self.shown(one) if one.startswith(self._foreign) else one for one in found]
        named = self._name + NAMED
        room = ID_OCTETS - len(named)
        return [named + one if len(one) <= room else self.shown(one) for one in found]

    def is_ours(self, shown: bytes) -> bool:
        """Return whether an id that clients see can be one of this part."""
        if self._plain and not shown.startswith(self._foreign):
            return True
        return shown.startswith((self._name + NAMED, self._name + HASHED))

    def is_kept(self, unique_id: bytes) -> bool:
        """Return whether clients see this id of the part as it is."""
        return self.shown(unique_id) == unique_id


class Listings:
    """Merged listings: made once for as long as the parts' own are the same, and shared by sessions."""

    def __init__(self, most: int = KEPT_MESSAGES) -> None:
        self._most = most
        self._messages = 0
        self._kept: OrderedDict[tuple[int, ...], tuple[tuple[ScanListing, ...], ScanListing]] = OrderedDict()

    def merged(self, parts: Sequence[tuple[PartIds, ScanListing]]) -> ScanListing:
        """Return the listings of the parts, one after the other, as one."""
        listings = tuple(listing for _, listing in parts)
        if not any(map(len, listings)):
            return EMPTY_LISTING
        key = tuple(map(id, listings))      # of objects that stay for as long as the entry does
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found[1]
        merged = _merge(parts)
        self._kept[key] = listings, merged
        self._messages += len(merged) + ENTRY_MESSAGES
        while self._messages > self._most:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._messages -= len(dropped) + ENTRY_MESSAGES
        return merged


def _merge(parts: Sequence[tuple[PartIds, ScanListing]]) -> ScanListing:
    sizes: array[int] = array("Q")
    unique_ids: list[bytes] = []
    for ids, listing in parts:
        sizes.extend(listing.sizes)
        unique_ids += ids.shown_of(listing)
    return ScanListing(sizes, unique_ids)
