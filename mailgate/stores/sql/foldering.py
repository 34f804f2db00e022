"""What a store over SQL gives beside sessions and deliveries: folders, flags, reading without a lease."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import implementer

from mailgate.interfaces import IFolderStore, IMaildrop
from mailgate.model import INBOX, Listed
from mailgate.names import check_folder, find_folder, fold
from mailgate.stores.kept import check_unique_id, ordered, parted
from mailgate.stores.sql import filing, folders
from mailgate.stores.sql.database import Database
from mailgate.stores.sql.delivery import new_key
from mailgate.stores.sql.leases import Lease
from mailgate.stores.sql.maildrop import PeekedMaildrop
from mailgate.stores.sql.messages import Snapshot, text

IDS_A_TRANSACTION = 1000    # of 100,000 that change, others would wait for seconds

T = TypeVar("T")


@implementer(IFolderStore)
class SqlFolders:
    """Maildrops by name, their folders, and messages by their unique-ids."""

    _database: Database
    _quota_octets: int | None
    _inline_octets: int

    def _new_session(self) -> str:
        """Return a word that no other session has."""
        raise NotImplementedError

    # Looking --------------------------------------------------------------------------------

    def maildrops(self) -> Deferred[list[str]]:
        return self._database.look(folders.maildrops)

    def scan(self, maildrop: str, folder: str = INBOX) -> Deferred[list[Listed]]:
        return self._database.look(folders.scan, key_of(maildrop), find_folder(folder))

    def peek(self, maildrop: str, folder: str = INBOX) -> Deferred[IMaildrop]:
        looking = self._database.look(folders.peek, key_of(maildrop), find_folder(folder))
        return looking.addCallback(self._peeked)

    def _peeked(self, found: tuple[int, Snapshot]) -> IMaildrop:
        maildrop_id, snapshot = found
        return PeekedMaildrop(self._database, Lease(maildrop_id, "", self._new_session()), snapshot,
                              self._inline_octets)

    def folders(self, maildrop: str) -> Deferred[list[str]]:
        return self._database.look(folders.folders, key_of(maildrop))

    # Changing -------------------------------------------------------------------------------

    def make_folder(self, maildrop: str, folder: str) -> Deferred[None]:
        return maybeDeferred(lambda: self._change(folders.make_folder, maildrop, text(maildrop),
                                                  check_folder(folder)))

    def remove_folder(self, maildrop: str, folder: str) -> Deferred[None]:
        return self._change(folders.remove_folder, maildrop, find_folder(folder))

    def rename_folder(self, maildrop: str, folder: str, name: str) -> Deferred[None]:
        return maybeDeferred(lambda: self._change(folders.rename_folder, maildrop, find_folder(folder),
                                                  check_folder(name)))

    def flag(self, maildrop: str, folder: str, unique_ids: Collection[bytes], *, add: str = "",
             remove: str = "") -> Deferred[list[bytes]]:
        return maybeDeferred(lambda: self._change(filing.flag, maildrop, find_folder(folder),
                                                  list(unique_ids), ordered(add), ordered(remove)))

    def move(self, maildrop: str, folder: str, unique_ids: Collection[bytes],
             target: str) -> Deferred[list[bytes]]:
        return self._change(filing.move, maildrop, find_folder(folder), list(unique_ids), find_folder(target))

    def copy(self, maildrop: str, folder: str, unique_ids: Collection[bytes],
             target: str) -> Deferred[list[bytes]]:
        return self._change(filing.copy, maildrop, find_folder(folder), list(unique_ids),
                            find_folder(target), new_key(), self._quota_octets)

    def expunge(self, maildrop: str, folder: str, unique_ids: Collection[bytes]) -> Deferred[list[bytes]]:
        removing = self._change(filing.expunge, maildrop, find_folder(folder), list(unique_ids))
        return removing.addCallback(self._expunged)

    def _expunged(self, removed: list[bytes]) -> list[bytes]:
        self._database.bury()
        return removed

    def take_ids(self, maildrop: str, ids: Mapping[bytes, bytes]) -> Deferred[list[bytes]]:
        return Deferred.fromCoroutine(self._take_ids(maildrop, ids))

    async def _take_ids(self, maildrop: str, ids: Mapping[bytes, bytes]) -> list[bytes]:
        for unique_id in ids.values():
            check_unique_id(unique_id)
        parts = list(parted(ids, IDS_A_TRANSACTION))
        if len(parts) == 1:
            return await self._change(filing.take_ids, maildrop, parts[0])
        return await self._take_parts(key_of(maildrop), parts)

    async def _take_parts(self, key: str, parts: Iterable[Mapping[bytes, bytes]]) -> list[bytes]:
        """Take ids in several transactions. The lease keeps sessions out that would see some of them."""
        database, session = self._database, self._new_session()
        refused: list[bytes] = []
        try:
            lease = await database.writer.run(filing.hold_by_key, database.holder, key, session)
            if lease is None:
                return refused
            for part in parts:
                refused += await database.writer.run(filing.take_part_of_ids, lease, part, durable=True)
                await database.let_others()
        except BaseException:
            database.release_session(session)
            raise
        await database.release(lease)
        return refused

    def _change(self, operation: Callable[..., T], maildrop: str, *args: Any) -> Deferred[T]:
        return self._database.writer.run(operation, key_of(maildrop), *args, durable=True)


def key_of(name: str) -> str:
    """Return the key of a maildrop's, an account's or a view's name as the database holds it."""
    return text(fold(name))
