"""The mail of one store copied into another, maildrop by maildrop.

A message goes with its unique-id and the identity by which an import knows it, so that the target takes
it once, however often the copy is broken off and begun again, also when it was removed there since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.defer import maybeDeferred

from mailgate.cli.convoy import Convoy
from mailgate.cli.copying_base import Counts, Wishes
from mailgate.cli.telling import field, reason
from mailgate.errors import MaildropInUse, MailgateError, NoSuchAccount, NoSuchMessage
from mailgate.interfaces import IFolderStore, IImportRecords, IMaildrop
from mailgate.model import INBOX, Admission, Listed, Placement
from mailgate.wire.dots import Unstuffer


class Known(NamedTuple):
    """A message that the target has."""

    folder: str
    listed: Listed


class Expected(NamedTuple):
    """What reading a message back has to give."""

    digest: bytes
    listed: Listed | None       # None: it was there before, and may have been filed otherwise since


class MailCopy:
    """Copies maildrops, several at a time. `look` is called now and then, to show progress."""

    def __init__(self, source: Any, target: Any, wishes: Wishes, counts: Counts,
                 look: Callable[[], None]) -> None:
        self.source = source
        self.target = target
        self.wishes = wishes
        self.counts = counts
        self.look = look
        self.gone: dict[str, set[bytes]] = {}       # by maildrop: what is to be pruned

    async def copy(self, name: str) -> None:
        """Copy one maildrop. Raises: StoreUnavailable; what is copied stays, and is passed over next time."""
        copy = _DropCopy(self, name, await self._whose(name))
        await copy.work()
        self.counts.maildrops += 1
        self.look()

    def to_prune(self) -> list[str]:
        """Return the maildrops to prune, once all are copied: none, if FROM looks like a disk unmounted."""
        if self.gone and not self.counts.seen:
            self.counts.find("nothing is pruned: FROM holds no message at all")
            return []
        return list(self.gone)

    async def prune(self, name: str) -> None:
        """Remove from a maildrop what an earlier run copied, and FROM has no more."""
        gone = self.gone[name]
        try:
            session: IMaildrop = await self.target.open(Admission(name, judged=True))
        except MaildropInUse:
            self.counts.find(f"{name}: {len(gone)} messages that FROM has no more are left:"
                             " somebody is logged in")
            return
        listing = session.listing
        numbers = [index + 1 for index in range(len(listing)) if listing.unique_id(index) in gone]
        await session.commit(numbers)
        self.counts.pruned += len(numbers)

    async def _whose(self, name: str) -> bool | None:
        """Return whether a maildrop is an account's; None: that is not to matter."""
        if self.wishes.accounts == "none":
            return None
        try:
            await self.source.accounts.get(name)
        except NoSuchAccount:
            return False
        return True


class _DropCopy:
    """One maildrop on its way."""

    def __init__(self, copy: MailCopy, name: str, account: bool | None) -> None:
        self._source = copy.source
        self._target = copy.target
        self._wishes = copy.wishes
        self._counts = copy.counts
        self._look = copy.look
        self._gone = copy.gone
        self._name = name
        self._account = account
        self._there: dict[bytes, Known] = {}                    # at the target, by unique-id
        self._seen: set[bytes] = set()                          # at the source
        self._identities: dict[bytes, bytes | None] = {}        # at the source: of what was imported
        self._taken: dict[bytes, bytes | None] = {}             # at the target: the same
        self._expected: dict[str, dict[bytes, Expected]] = {}   # to be verified, by folder
        self._under_way: dict[str, tuple[str, bytes, int, Expected]] = {}   # folder, id, octets

    async def work(self) -> None:
        """Copy the folders, verify, hand over what is remembered of imports, and say what is to be pruned."""
        theirs = await _folders(self._target, self._name)
        for folder in theirs:
            for one in await self._target.scan(self._name, folder):
                self._there[one.unique_id] = Known(folder, one)
        self._identities = dict(await _imported(self._source, self._name))
        self._taken = dict(await _imported(self._target, self._name))
        for folder in await _folders(self._source, self._name):
            await self._copy_folder(folder, is_there=folder in theirs)
        for folder, expected in self._expected.items():
            await self._verify(folder, expected)
        await self._hand_over()
        if self._wishes.prune and (gone := await self._find_gone()):
            self._gone[self._name] = gone

    # Copying --------------------------------------------------------------------------------

    async def _copy_folder(self, folder: str, *, is_there: bool) -> None:
        peeked: IMaildrop = await self._source.peek(self._name, folder)
        try:
            if not is_there and not IFolderStore.providedBy(self._target):
                if len(peeked.listing):
                    self._find(f"folder {field(folder)} not copied: TO has no folders")
                return
            if not is_there and not len(peeked.listing):
                await self._target.make_folder(self._name, folder)
            await self._copy_messages(peeked, folder)
        finally:
            await peeked.release()

    async def _copy_messages(self, peeked: IMaildrop, folder: str) -> None:
        if not len(peeked.listing):
            return
        listed = {one.unique_id: one for one in await self._source.scan(self._name, folder)}
        convoy = Convoy(self._settled)
        try:
            for index in range(len(peeked.listing)):
                one = listed.get(peeked.listing.unique_id(index))
                if one is None:                 # it was removed a moment ago
                    continue
                if one.unique_id in self._seen:
                    one = one._replace(unique_id=_second_id(folder, one.unique_id))
                self._seen.add(one.unique_id)
                self._counts.seen += 1
                await self._copy_message(peeked, index + 1, folder, one, convoy)
        except Exception:
            await convoy.arrive()               # what came before is copied all the same
            raise
        await convoy.arrive()

    async def _copy_message(self, peeked: IMaildrop, number: int, folder: str, one: Listed,
                            convoy: Convoy) -> None:
        known, identity = self._there.get(one.unique_id), self._identity(one.unique_id)
        if known is not None:
            await self._pass_over(peeked, number, one, known)
        elif self._taken.get(one.unique_id) == identity:
            self._counts.removed_since += 1
        else:
            placement = Placement(self._name, one.user, one.envelope, b"", one.unique_id, identity,
                                  self._account, folder, one.flags)
            await self._send(peeked, number, one, placement, convoy)
        self._look()

    def _identity(self, unique_id: bytes) -> bytes:
        """Return what a message is known by: as an import had it, else by its unique-id."""
        return self._identities.get(unique_id) or unique_id

    async def _pass_over(self, peeked: IMaildrop, number: int, one: Listed, known: Known) -> None:
        if known.listed.octets != one.octets:
            self._find(f"{_shown(one)}: TO has another message of this unique-id")
            return
        self._counts.passed += 1
        if self._wishes.verify == "all":
            try:
                digest = await digest_of(peeked, number)
            except NoSuchMessage:
                return
            self._expected.setdefault(known.folder, {})[one.unique_id] = Expected(digest, None)

    async def _send(self, peeked: IMaildrop, number: int, one: Listed, placement: Placement,
                    convoy: Convoy) -> None:
        """Read one message and send it on its way."""
        await convoy.room(one.octets if one.octets < CONVOY_OCTETS else 0)
        delivery = self._target.deliver()
        digest, unstuffer, octets = hashlib.sha256(), Unstuffer(), 0
        try:
            async for piece in pieces_of(peeked, number):
                octets += len(piece)
                await convoy.room(octets)
                digest.update(piece)
                waiting = delivery.write(unstuffer.feed(piece))
                if waiting is not None:
                    await waiting
        except NoSuchMessage:           # removed meanwhile
            delivery.abort()
            self._seen.discard(one.unique_id)
        except BaseException:
            delivery.abort()
            raise
        else:
            key = field(one.unique_id)
            self._under_way[key] = placement.folder, one.unique_id, octets, Expected(digest.digest(), one)
            await convoy.add(key, one.number, octets, delivery, placement)

    def _settled(self, key: str, number: int, fault: Exception | None) -> None:
        folder, unique_id, octets, expected = self._under_way.pop(key)
        if fault is not None:
            assert isinstance(fault, MailgateError)
            self._find(f"message {number} ({key}): not copied: {reason(fault)}")
            return
        self._counts.copied += 1
        self._counts.octets += octets
        if self._wishes.verify != "none":
            self._expected.setdefault(folder, {})[unique_id] = expected

    async def _hand_over(self) -> None:
        """Have the target remember what was imported to the source; sooner, it would refuse its messages."""
        fresh = [(unique_id, identity) for unique_id, identity in self._identities.items()
                 if unique_id not in self._taken and unique_id not in self._seen]
        if fresh and IImportRecords.providedBy(self._target):
            await self._target.note_imported(self._name, fresh)

    # Verifying ------------------------------------------------------------------------------

    async def _verify(self, folder: str, expected: dict[bytes, Expected]) -> None:
        """Read messages back from the target and compare them with what was sent."""
        peeked: IMaildrop = await self._target.peek(self._name, folder)
        try:
            listed = {one.unique_id: one for one in await self._target.scan(self._name, folder)}
            for index in range(len(peeked.listing)):
                wanted = expected.pop(peeked.listing.unique_id(index), None)
                if wanted is not None:
                    await self._compare(peeked, index + 1, listed, wanted)
        finally:
            await peeked.release()
        for unique_id in expected:
            self._find(f"message {field(unique_id)}: not found in TO: its unique-id was another message's"
                       " there, or it was removed a moment ago")

    async def _compare(self, peeked: IMaildrop, number: int, listed: dict[bytes, Listed],
                       wanted: Expected) -> None:
        unique_id = peeked.listing.unique_id(number - 1)
        try:
            same = await digest_of(peeked, number) == wanted.digest
        except NoSuchMessage:
            return
        there = listed.get(unique_id)
        if not same:
            self._find(f"message {field(unique_id)}: TO holds other octets than FROM")
        elif wanted.listed is not None and there is not None and _filed(there) != _filed(wanted.listed):
            self._find(f"message {field(unique_id)}: TO holds another size, envelope, user or flags")
        else:
            self._counts.verified += 1
        self._look()

    async def _find_gone(self) -> set[bytes]:
        """Return what an earlier run copied, and FROM has no more. New mail of the target is not known so."""
        copied = dict(await _imported(self._target, self._name))
        return {unique_id for unique_id, known in self._there.items()
                if known.folder == INBOX and unique_id not in self._seen
                and (copied.get(unique_id) or b"") == self._identity(unique_id)}

    def _find(self, words: str) -> None:
        self._counts.find(f"{self._name}: {words}")


CONVOY_OCTETS = 1 << 20     # of a message for which room is made before it is read
SECOND_ID_CHARACTERS = 40


async def pieces_of(maildrop: IMaildrop, number: int, body_lines: int | None = None) -> Any:
    """Give the wire form of a message, or its top, in pieces. Raises: NoSuchMessage, StoreUnavailable."""
    content: Any = await maybeDeferred(maildrop.fetch, number, body_lines)
    if isinstance(content, bytes):
        yield content
        return
    try:
        while piece := await content.read():
            yield piece
    finally:
        content.close()


async def digest_of(maildrop: IMaildrop, number: int) -> bytes:
    """Return the SHA-256 of a message's wire form. Raises: NoSuchMessage, StoreUnavailable."""
    digest = hashlib.sha256()
    async for piece in pieces_of(maildrop, number):
        digest.update(piece)
    return digest.digest()


async def _folders(store: Any, name: str) -> list[str]:
    if not IFolderStore.providedBy(store):
        return [INBOX]
    found: list[str] = await store.folders(name)
    return found


async def _imported(store: Any, name: str) -> Any:
    return await store.imported(name) if IImportRecords.providedBy(store) else ()


def _second_id(folder: str, unique_id: bytes) -> bytes:
    """Return the id of a message whose own one in a folder before has: other programs make such copies."""
    digest = hashlib.sha256(b"%b\0%b" % (folder.encode(), unique_id)).hexdigest()
    return digest[:SECOND_ID_CHARACTERS].encode()


def _filed(one: Listed) -> tuple[Any, ...]:
    return one.octets, one.envelope, one.user, one.flags


def _shown(one: Listed) -> str:
    return f"message {one.number} ({field(one.unique_id)})"
