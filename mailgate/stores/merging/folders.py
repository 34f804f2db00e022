"""Folders and flags over a merge: a folder is those of its name in all parts, one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailgate.errors import FolderConflict, NoSuchFolder
from mailgate.interfaces import IFolderStore
from mailgate.model import INBOX
from mailgate.names import check_folder, find_folder
from mailgate.stores.merging.parts import Part


@implementer(IFolderStore)
class MergedFolders:
    """The calls of IFolderStore, each sent to the parts that it is for. Parts may have no folders at all.

    What changes several parts does so one after the other: a fault of one leaves those before it changed.
    """

    _parts: Sequence[Part]
    _taker: Part

    def folders(self, maildrop: str) -> Deferred[list[str]]:
        return Deferred.fromCoroutine(self._folders(maildrop))

    async def _folders(self, maildrop: str) -> list[str]:
        found: set[str] = set()
        for part in self._filing():
            found.update(await part.call_or_skip("folders", maildrop) or ())
        return [INBOX, *sorted(found - {INBOX})]

    def _filing(self) -> list[Part]:
        return [part for part in self._parts if IFolderStore.providedBy(part.store)]

    async def _with(self, maildrop: str, folder: str) -> list[Part]:
        """Return the parts that have a folder."""
        name = find_folder(folder)
        return [part for part in self._filing() if name in await part.call("folders", maildrop)]

    def make_folder(self, maildrop: str, folder: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._make_folder(maildrop, folder))

    async def _make_folder(self, maildrop: str, folder: str) -> None:
        if not IFolderStore.providedBy(self._taker.store):
            raise FolderConflict(f"store {self._taker.name}, which takes new mail, has no folders")
        if await self._with(maildrop, check_folder(folder)):
            raise FolderConflict(f"there is a folder {folder!r}")
        await self._taker.call("make_folder", maildrop, folder)

    def remove_folder(self, maildrop: str, folder: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._remove_folder(maildrop, folder))

    async def _remove_folder(self, maildrop: str, folder: str) -> None:
        there = await self._having(maildrop, folder)
        for part in there:
            if await part.call("scan", maildrop, folder):
                raise FolderConflict(f"folder {folder!r} holds mail in store {part.name}")
        for part in there:
            await part.call("remove_folder", maildrop, folder)

    def rename_folder(self, maildrop: str, folder: str, name: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._rename_folder(maildrop, folder, name))

    async def _rename_folder(self, maildrop: str, folder: str, name: str) -> None:
        there = await self._having(maildrop, folder)
        if await self._with(maildrop, check_folder(name)):
            raise FolderConflict(f"there is a folder {name!r}")
        for part in there:
            await part.call("rename_folder", maildrop, folder, name)

    async def _having(self, maildrop: str, folder: str) -> list[Part]:
        """Return the parts that have a folder. Raises: NoSuchFolder."""
        there = await self._with(maildrop, folder)
        if not there:
            raise NoSuchFolder(f"maildrop {maildrop}, folder {folder!r}")
        return there

    def flag(self, maildrop: str, folder: str, unique_ids: Collection[bytes], *, add: str = "",
             remove: str = "") -> Deferred[list[bytes]]:
        async def one(part: Part, own: list[bytes]) -> Any:
            return await part.store.flag(maildrop, folder, own, add=add, remove=remove)

        return Deferred.fromCoroutine(self._routed(maildrop, folder, unique_ids, one))

    def move(self, maildrop: str, folder: str, unique_ids: Collection[bytes],
             target: str) -> Deferred[list[bytes]]:
        return Deferred.fromCoroutine(self._file("move", maildrop, folder, unique_ids, target))

    def copy(self, maildrop: str, folder: str, unique_ids: Collection[bytes],
             target: str) -> Deferred[list[bytes]]:
        return Deferred.fromCoroutine(self._file("copy", maildrop, folder, unique_ids, target))

    async def _file(self, method: str, maildrop: str, folder: str, unique_ids: Collection[bytes],
                    target: str) -> list[bytes]:
        """Move or copy messages within the part that has them; its folder is made, if only others have it."""
        await self._having(maildrop, folder)
        having = await self._having(maildrop, target)

        async def one(part: Part, own: list[bytes]) -> Any:
            if part not in having:
                await part.call("make_folder", maildrop, target)
            return await part.call(method, maildrop, folder, own, target)

        return await self._routed(maildrop, folder, unique_ids, one)

    def expunge(self, maildrop: str, folder: str, unique_ids: Collection[bytes]) -> Deferred[list[bytes]]:
        return Deferred.fromCoroutine(self._expunge(maildrop, folder, unique_ids))

    async def _expunge(self, maildrop: str, folder: str, unique_ids: Collection[bytes]) -> list[bytes]:
        await self._having(maildrop, folder)

        async def one(part: Part, own: list[bytes]) -> Any:
            return await part.call("expunge", maildrop, folder, own)

        return await self._routed(maildrop, folder, unique_ids, one)

    async def _routed(self, maildrop: str, folder: str, unique_ids: Collection[bytes],
                      call: Callable[[Part, list[bytes]], Awaitable[list[bytes]]]) -> list[bytes]:
        """Await `call(part, ids)` for each part that has some of the messages; return the ids it gives."""
        wanted = set(unique_ids)
        done: list[bytes] = []
        for part in self._filing():
            if not any(map(part.ids.is_ours, wanted)):
                continue
            own = [one.unique_id for one in await part.call("scan", maildrop, folder)
                   if part.ids.shown(one.unique_id) in wanted]
            if own:
                done += map(part.ids.shown, await call(part, own))
        return done
