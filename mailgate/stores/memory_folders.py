"""What a store in memory gives beside sessions and deliveries: folders, flags, other unique-ids."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mailgate.errors import FolderConflict, MaildropInUse, NoSuchFolder, OverQuota
from mailgate.interfaces import IFolderStore
from mailgate.model import INBOX, Listed
from mailgate.names import check_folder, find_folder, fold
from mailgate.stores.kept import changed, check_unique_id, find_taken, ordered, renamed
from mailgate.stores.memory_data import Message, Rows, Shared

_T = TypeVar("_T")


@implementer(IFolderStore)
class MemoryFolders:
    """Maildrops by name, their folders, and messages by their unique-ids."""

    _clock: IReactorTime
    _quota_octets: int | None
    _shared: Shared

    def _run(self, function: Callable[..., _T], *args: object) -> Deferred[_T]:
        """Return what a function gives, now; what it raises as a failure."""
        raise NotImplementedError

    # The calls ------------------------------------------------------------------------------

    def maildrops(self) -> Deferred[list[str]]:
        return self._run(lambda: sorted(drop.name for drop in self._shared.maildrops.values()))

    def scan(self, maildrop: str, folder: str = INBOX) -> Deferred[list[Listed]]:
        return self._run(self._scan, maildrop, folder)

    def take_ids(self, maildrop: str, ids: Mapping[bytes, bytes]) -> Deferred[list[bytes]]:
        return self._run(self._take_ids, maildrop, ids)

    def folders(self, maildrop: str) -> Deferred[list[str]]:
        return self._run(lambda: [INBOX, *sorted(self._rows(maildrop).folders)])

    def make_folder(self, maildrop: str, folder: str) -> Deferred[None]:
        return self._run(self._make_folder, maildrop, folder)

    def remove_folder(self, maildrop: str, folder: str) -> Deferred[None]:
        return self._run(self._remove_folder, maildrop, find_folder(folder))

    def rename_folder(self, maildrop: str, folder: str, name: str) -> Deferred[None]:
        return self._run(self._rename_folder, maildrop, find_folder(folder), name)

    def flag(self, maildrop: str, folder: str, unique_ids: Collection[bytes], *, add: str = "",
             remove: str = "") -> Deferred[list[bytes]]:
        return self._run(self._flag, maildrop, folder, unique_ids, add, remove)

    def move(self, maildrop: str, folder: str, unique_ids: Collection[bytes],
             target: str) -> Deferred[list[bytes]]:
        return self._run(self._move, maildrop, find_folder(folder), unique_ids, find_folder(target))

    def copy(self, maildrop: str, folder: str, unique_ids: Collection[bytes],
             target: str) -> Deferred[list[bytes]]:
        return self._run(self._copy, maildrop, find_folder(folder), unique_ids, find_folder(target))

    def expunge(self, maildrop: str, folder: str, unique_ids: Collection[bytes]) -> Deferred[list[bytes]]:
        return self._run(self._expunge, maildrop, find_folder(folder), unique_ids)

    # What they find -------------------------------------------------------------------------

    def _rows(self, maildrop: str) -> Rows:
        """Return a maildrop; an empty one that is kept nowhere, if there is none."""
        return self._shared.maildrops.get(fold(maildrop)) or Rows()

    def _members(self, drop: Rows, folder: str | None, unique_ids: Collection[bytes]) -> list[Message]:
        """Return those messages that a folder has, in its order."""
        wanted = set(unique_ids)
        return [message for message in drop.within(folder) if message.unique_id in wanted]

    def _scan(self, maildrop: str, folder: str) -> list[Listed]:
        return [Listed(number, message.octets, message.unique_id, message.envelope, message.user,
                       message.flags)
                for number, message in enumerate(self._rows(maildrop).within(find_folder(folder)), 1)]

    # What they change -----------------------------------------------------------------------

    def _make_folder(self, maildrop: str, folder: str) -> None:
        name, drop = check_folder(folder), self._shared.maildrop(maildrop)
        if name == INBOX or name in drop.folders:
            raise FolderConflict(f"there is a folder {name!r}")
        drop.folders.add(name)

    def _remove_folder(self, maildrop: str, folder: str | None) -> None:
        drop = self._rows(maildrop)
        see_folder(drop, folder)
        if folder == INBOX or folder is None or drop.within(folder):
            raise FolderConflict(f"folder {folder!r} stays")
        drop.folders.remove(folder)

    def _rename_folder(self, maildrop: str, folder: str | None, name: str) -> None:
        drop, kept = self._rows(maildrop), check_folder(name)
        see_folder(drop, folder)
        if folder == INBOX or folder is None:
            raise FolderConflict("INBOX keeps its name")
        changes = dict(renamed(drop.folders, folder, kept))
        drop.folders = {changes.get(one, one) for one in drop.folders}
        drop.change([message._replace(folder=changes[message.folder])
                     for message in drop.messages.values() if message.folder in changes])

    def _flag(self, maildrop: str, folder: str, unique_ids: Collection[bytes], add: str,
              remove: str) -> list[bytes]:
        letters, drop = (ordered(add), ordered(remove)), self._rows(maildrop)
        messages = self._members(drop, find_folder(folder), unique_ids)
        drop.change([message._replace(flags=changed(message.flags, *letters)) for message in messages])
        return [message.unique_id for message in messages]

    def _move(self, maildrop: str, folder: str | None, unique_ids: Collection[bytes],
              target: str | None) -> list[bytes]:
        drop = self._rows(maildrop)
        for name in (folder, target):
            see_folder(drop, name)
        messages = self._members(drop, folder, unique_ids)
        if folder != target and target is not None:
            self._refuse_if_seen(drop, messages)
            drop.remove([message.serial for message in messages])
            for message in messages:
                drop.add(message._replace(folder=target))
        return [message.unique_id for message in messages]

    def _copy(self, maildrop: str, folder: str | None, unique_ids: Collection[bytes],
              target: str | None) -> list[bytes]:
        drop = self._rows(maildrop)
        for name in (folder, target):
            see_folder(drop, name)
        messages = self._members(drop, folder, unique_ids)
        octets = sum(message.octets for message in messages)
        if self._quota_octets is not None and messages and drop.octets + octets > self._quota_octets:
            raise OverQuota(maildrop)
        copies = []
        for message in messages:
            copies.append(self._shared.fresh_id())
            drop.add(message._replace(folder=target or INBOX, unique_id=copies[-1], identity=None))
        return copies

    def _expunge(self, maildrop: str, folder: str | None, unique_ids: Collection[bytes]) -> list[bytes]:
        drop = self._rows(maildrop)
        see_folder(drop, folder)
        messages = self._members(drop, folder, unique_ids)
        self._refuse_if_seen(drop, messages)
        drop.remove([message.serial for message in messages])
        return [message.unique_id for message in messages]

    def _take_ids(self, maildrop: str, ids: Mapping[bytes, bytes]) -> list[bytes]:
        for unique_id in ids.values():
            check_unique_id(unique_id)
        drop = self._rows(maildrop)
        if self._shared.held_views(drop, self._clock.seconds()):
            raise MaildropInUse(maildrop)
        inbox = {message.unique_id: message for message in drop.within(INBOX)}
        wanted = {present: new for present, new in ids.items() if present in inbox}
        refused = find_taken(wanted, {new for new in wanted.values() if new in drop.known_ids})
        taken = {present: new for present, new in wanted.items() if present not in refused}
        drop.change([inbox[present]._replace(unique_id=new) for present, new in taken.items()])
        for new in taken.values():      # an import brings it no more, also when removed
            drop.identities.setdefault(new, new)
        return refused

    def _refuse_if_seen(self, drop: Rows, messages: Collection[Message]) -> None:
        """Raise MaildropInUse if a living session's view shows one of some messages."""
        held = self._shared.held_views(drop, self._clock.seconds())
        if any(message.folder == INBOX and (None in held or message.user in held) for message in messages):
            raise MaildropInUse(drop.name)


def see_folder(drop: Rows, folder: str | None) -> None:
    """Raise NoSuchFolder unless a maildrop has a folder."""
    if folder != INBOX and folder not in drop.folders:
        raise NoSuchFolder(f"maildrop {drop.name}, folder {folder!r}")
