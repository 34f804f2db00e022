"""What a store in memory remembers of imported messages for good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailgate.interfaces import IImportRecords
from mailgate.names import fold
from mailgate.stores.memory_data import Rows, Shared

Records = Sequence["tuple[bytes, bytes | None]"]     # unique-ids with identities
_T = TypeVar("_T")


@implementer(IImportRecords)
class MemoryImports:
    """The calls, over what the stores beside one another share."""

    _shared: Shared

    def _run(self, function: Callable[..., _T], *args: object) -> Deferred[_T]:
        raise NotImplementedError

    def imported(self, maildrop: str) -> Deferred[Records]:
        return self._run(self._imported, maildrop)

    def note_imported(self, maildrop: str, records: Records) -> Deferred[None]:
        return self._run(self._note_imported, maildrop, records)

    def _imported(self, maildrop: str) -> Records:
        drop = self._shared.maildrops.get(fold(maildrop), Rows())
        return sorted((unique_id, identity) for identity, unique_id in drop.identities.items())

    def _note_imported(self, maildrop: str, records: Records) -> None:
        drop = self._shared.maildrop(maildrop)
        for unique_id, identity in records:
            drop.known_ids.add(unique_id)
            if identity is not None:
                drop.identities.setdefault(identity, unique_id)
