"""A store over Maildirs: what it has beside the INBOX."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import implementer

from mailgate.errors import NoSuchFolder, StoreUnavailable
from mailgate.formats.maildir import unique_of
from mailgate.interfaces import IBlobStore, IFolderStore, ISpool, ITenure
from mailgate.model import INBOX, Note
from mailgate.names import check_folder, find_folder, fold
from mailgate.stores.kept import ordered
from mailgate.stores.spools.listing import NO_NOTE, Shown
from mailgate.stores.spools.maildir import Habits, MaildirSpool
from mailgate.stores.spools.maildir_folders import MaildirTree
from mailgate.stores.spools.places import Places
from mailgate.stores.spools.store import SpoolStore

T = TypeVar("T")


@implementer(IFolderStore)
class MaildirStore(SpoolStore):
    """Maildrops that are Maildirs, with Maildir++ folders.

    What is moved or removed in several files is so one file after the other.
    """

    def __init__(self, metadata: Any, blobs: IBlobStore, places: Places, habits: Habits, *, reactor: Any,
                 quota_octets: int | None = None) -> None:
        self._places = places
        self._habits = habits
        super().__init__(metadata, blobs, lambda maildrop: self._tree(maildrop).spool(INBOX), reactor=reactor,
                         quota_octets=quota_octets)

    def _tree(self, maildrop: str) -> MaildirTree:
        return MaildirTree(self._places.of(fold(maildrop)), self._habits)

    def _spool(self, maildrop: str, folder: str = INBOX) -> ISpool:
        return self._tree(maildrop).spool(folder)

    def check(self) -> Deferred[list[str]]:
        return self._do(self._check)

    async def _check(self) -> list[str]:
        found: list[str] = await super().check()
        return found + await self._threads.run(self._places.findings)

    # Folders ----------------------------------------------------------------------------------

    def folders(self, maildrop: str) -> Deferred[list[str]]:
        return maybeDeferred(lambda: self._threads.run(self._tree(maildrop).names))

    def make_folder(self, maildrop: str, folder: str) -> Deferred[None]:
        return self._do(lambda: self._make_folder(maildrop, check_folder(folder)))

    async def _make_folder(self, maildrop: str, folder: str) -> None:
        await self._threads.run(self._tree(maildrop).make, folder)
        await self._records.know(maildrop)

    def remove_folder(self, maildrop: str, folder: str) -> Deferred[None]:
        return self._do(lambda: self._remove_folder(maildrop, _known(folder)))

    async def _remove_folder(self, maildrop: str, folder: str) -> None:
        await self._threads.run(self._tree(maildrop).remove, folder)

    def rename_folder(self, maildrop: str, folder: str, name: str) -> Deferred[None]:
        return self._do(lambda: self._rename_folder(maildrop, folder, check_folder(name)))

    async def _rename_folder(self, maildrop: str, folder: str, name: str) -> None:
        tree = self._tree(maildrop)
        changes = await self._threads.run(tree.rename, _known(folder), name)
        await self._records.rename_folders(maildrop, changes)

    async def _remove_folders(self, maildrop: str) -> None:
        try:
            tree = self._tree(maildrop)
        except StoreUnavailable:
            return      # none that there can be
        await self._threads.run(tree.clear)

    # Messages ---------------------------------------------------------------------------------

    def flag(self, maildrop: str, folder: str, unique_ids: Collection[bytes], *, add: str = "",
             remove: str = "") -> Deferred[list[bytes]]:
        return self._do(lambda: self._flag(maildrop, find_folder(folder), unique_ids, ordered(add),
                                           ordered(remove)))

    async def _flag(self, maildrop: str, folder: str | None, unique_ids: Collection[bytes], add: str,
                    remove: str) -> list[bytes]:
        if folder is None:
            return []
        some = _Some((await self._look(maildrop, folder))[1], unique_ids)
        if some.names:
            await self._threads.run(self._tree(maildrop).flag, folder, some.names, add, remove)
        return some.ids

    def move(self, maildrop: str, folder: str, unique_ids: Collection[bytes],
             target: str) -> Deferred[list[bytes]]:
        return self._do(lambda: self._move(maildrop, _known(folder), unique_ids, _known(target)))

    async def _move(self, maildrop: str, folder: str, unique_ids: Collection[bytes],
                    target: str) -> list[bytes]:
        tree = self._tree(maildrop)
        await self._threads.run(tree.require, folder, target)

        async def move(some: _Some, tenure: ITenure) -> list[bytes]:
            notes, arrivals = some.notes(), some.arrivals()
            await self._records.note(maildrop, target, notes)       # before: no id changes on its way
            moved = await self._threads.run(tree.move, folder, some.names, target)
            await self._records.note(
                maildrop, target, {moved[name]: note for name, note in notes.items() if name in moved},
                {moved[name]: known for name, known in arrivals.items() if name in moved})
            return some.ids

        if folder == target:
            return _Some((await self._look(maildrop, folder))[1], unique_ids).ids
        return await self._with_some(maildrop, folder, unique_ids, move)

    def copy(self, maildrop: str, folder: str, unique_ids: Collection[bytes],
             target: str) -> Deferred[list[bytes]]:
        return self._do(lambda: self._copy(maildrop, _known(folder), unique_ids, _known(target)))

    async def _copy(self, maildrop: str, folder: str, unique_ids: Collection[bytes],
                    target: str) -> list[bytes]:
        tree = self._tree(maildrop)
        await self._threads.run(tree.require, folder, target)
        some = _Some((await self._look(maildrop, folder))[1], unique_ids)
        copies = await self._threads.run(tree.copy, folder, some.names, target)
        await self._records.note(maildrop, target, {
            copies[name]: note._replace(unique_id=None) for name, note in some.notes().items()
            if name in copies and note.envelope is not None})
        shown = (await self._look(maildrop, target))[1]
        by_name = {shown.message(index).name: shown.listing.unique_id(index)
                   for index in range(len(shown.listing))}
        return [by_name[name] for name in copies.values()]

    def expunge(self, maildrop: str, folder: str, unique_ids: Collection[bytes]) -> Deferred[list[bytes]]:
        return self._do(lambda: self._expunge(maildrop, _known(folder), unique_ids))

    async def _expunge(self, maildrop: str, folder: str, unique_ids: Collection[bytes]) -> list[bytes]:
        await self._threads.run(self._tree(maildrop).require, folder)

        async def expunge(some: _Some, tenure: ITenure) -> list[bytes]:
            if folder == INBOX:
                await self._removal.remove(tenure, some.spool, some.names)
            else:
                await self._removal.remove_at_once(some.spool, some.names)
            return some.ids

        return await self._with_some(maildrop, folder, unique_ids, expunge)

    async def _with_some(self, maildrop: str, folder: str, unique_ids: Collection[bytes],
                         change: Callable[[_Some, ITenure], Coroutine[Any, Any, T]]) -> T | list[bytes]:
        """Change some messages of a folder; those of the INBOX while no session may see them."""
        tenure, shown, spool = await self._look(maildrop, folder)
        some = _Some(shown, unique_ids, spool)
        if not some.names:
            return []
        if folder != INBOX:
            return await change(some, tenure)
        tenure = await self._hold(maildrop)
        try:
            spool = self._spool(maildrop)
            return await change(_Some(await self._scan(maildrop, tenure, spool), unique_ids, spool), tenure)
        finally:
            await tenure.release()

    def _do(self, begin: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> Deferred[T]:
        return maybeDeferred(lambda: self._threads.see_through(begin()))


class _Some:
    """Those messages of a folder that have one of some unique-ids, in its order."""

    def __init__(self, shown: Shown, unique_ids: Collection[bytes], spool: ISpool | None = None) -> None:
        wanted = set(unique_ids)
        self._shown = shown
        self._indexes = [index for index in range(len(shown.listing))
                         if shown.listing.unique_id(index) in wanted]
        self.ids = [shown.listing.unique_id(index) for index in self._indexes]
        self.names = [shown.message(index).name for index in self._indexes]
        self._spool = spool

    @property
    def spool(self) -> MaildirSpool:
        """What has scanned them."""
        assert isinstance(self._spool, MaildirSpool)
        return self._spool

    def arrivals(self) -> Mapping[bytes, bytes]:
        """Return, by name, what is to be remembered of messages in the folder to which they come now."""
        return self.spool.arrivals(self.names)

    def notes(self) -> Mapping[bytes, Note]:
        """Return, by name, what is to be noted of messages that their files do not tell in another folder."""
        return {name: self._shown.notes.get(name, NO_NOTE)._replace(unique_id=unique_id)
                for name, unique_id in zip(self.names, self.ids, strict=True)
                if name in self._shown.notes or unique_id != unique_of(name)}


def _known(folder: str) -> str:
    """Return a folder's name as stores keep it. Raises: NoSuchFolder, if no folder can be called so."""
    name = find_folder(folder)
    if name is None:
        raise NoSuchFolder(f"no folder is called {folder!r}")
    return name
