"""A whole store read through: is every message what the store says of it?"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from mailgate.cli.copying_base import each
from mailgate.cli.copying_mail import pieces_of
from mailgate.cli.telling import field, printable, reason
from mailgate.errors import MailgateError, NoSuchMessage
from mailgate.interfaces import IFolderStore, IMaildrop
from mailgate.model import INBOX
from mailgate.names import fold
from mailgate.wire.dots import Unstuffer

MAILDROPS_AT_ONCE = 4

_UNSTUFFED = re.compile(rb"\r\n\.[^.]")
_BLANK = b"\r\n\r\n"
_BARE_LF = re.compile(rb"[^\r]\n")


class Verifying:
    """Reads stores through; what is wrong is told by `say`, a line each."""

    def __init__(self, names: Sequence[str], say: Callable[[str], object]) -> None:
        self._names = names
        self._say = say
        self.maildrops = 0
        self.messages = 0
        self.findings = 0

    async def work(self, *stores: Any) -> None:
        """Open each store, read it through. A store that cannot be had is a finding."""
        for name, store in zip(self._names, stores, strict=True):
            try:
                await store.start()
                for finding in await store.check():
                    self._find(name, finding)
                drops = [*await store.maildrops(), *[one.name for one in await store.accounts.list()]]
                looked = {fold(drop): _Drop(self, name, store, drop) for drop in reversed(drops)}
                await each(looked.values(), _Drop.work, MAILDROPS_AT_ONCE)
            except MailgateError as fault:
                self._find(name, reason(fault))

    def _find(self, store: str, words: str) -> None:
        self.findings += 1
        self._say(printable(f"{store}: {words}"))

    def summary(self) -> str:
        """Return how much was read, and how much of it was wrong."""
        return f"{self.maildrops} maildrops, {self.messages} messages read, findings: {self.findings}"


class _Drop:
    """One maildrop."""

    def __init__(self, verifying: Verifying, store_name: str, store: Any, name: str) -> None:
        self._verifying = verifying
        self._store_name = store_name
        self._store = store
        self._name = name

    async def work(self) -> None:
        """Read every folder."""
        folders = await self._store.folders(self._name) if IFolderStore.providedBy(self._store) else [INBOX]
        for folder in folders:
            peeked: IMaildrop = await self._store.peek(self._name, folder)
            try:
                for number in range(1, len(peeked.listing) + 1):
                    await self._look_at(peeked, folder, number)
            finally:
                await peeked.release()
        self._verifying.maildrops += 1

    async def _look_at(self, peeked: IMaildrop, folder: str, number: int) -> None:
        try:
            wrong = await faults_of(peeked, number)
        except NoSuchMessage:
            return              # removed meanwhile
        except MailgateError as fault:
            wrong = [reason(fault)]
        self._verifying.messages += 1
        for words in wrong:
            place = self._name if folder == INBOX else f"{self._name}, {field(folder)}"
            unique_id = field(peeked.listing.unique_id(number - 1))
            self._verifying._find(self._store_name, f"{place}: message {number} ({unique_id}): {words}")


async def faults_of(maildrop: IMaildrop, number: int) -> list[str]:
    """Return what is wrong with a message's wire form. Raises: NoSuchMessage, StoreUnavailable."""
    head = _Head()
    async for piece in pieces_of(maildrop, number, 0):
        head.feed(piece)
    form = _Form(head)
    async for piece in pieces_of(maildrop, number):
        form.feed(piece)
    return form.faults(maildrop.listing.sizes[number - 1])


class _Head:
    """What TOP gives without a line of the body, piece by piece: it may be all of a large message."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.octets = 0
        self._tail = b"\r\n"                # as if a line ended before it
        self._blank_end: int | None = None  # where the first blank line ends

    def feed(self, wire: bytes) -> None:
        """Take the next piece."""
        text = self._tail + wire
        if self._blank_end is None and (at := text.find(_BLANK)) >= 0:
            self._blank_end = self.octets - len(self._tail) + at + len(_BLANK)
        self.digest.update(wire)
        self.octets += len(wire)
        self._tail = text[-len(_BLANK):]

    def ends_right(self, message_octets: int) -> bool:
        """Return whether it ends at the first blank line, or with the message, if that has none."""
        return (self._blank_end or message_octets) == self.octets


class _Form:
    """What a message in wire form has to be, looked at piece by piece."""

    def __init__(self, head: _Head) -> None:
        self._head = head
        self._digest = hashlib.sha256()     # of as many octets of the message as the head has
        self._unstuffer = Unstuffer()
        self._octets = 0                    # before byte-stuffing
        self._wire_octets = 0
        self._tail = b"\r\n"                # the last octets: what is looked for may be cut
        self._unstuffed_dot = False
        self._bare_lf = False

    def feed(self, wire: bytes) -> None:
        """Take the next piece."""
        self._digest.update(wire[:max(0, self._head.octets - self._wire_octets)])
        self._wire_octets += len(wire)
        self._octets += len(self._unstuffer.feed(wire))
        text = self._tail + wire
        self._unstuffed_dot = self._unstuffed_dot or _UNSTUFFED.search(text) is not None
        self._bare_lf = self._bare_lf or _BARE_LF.search(text) is not None
        self._tail = text[-3:]

    def faults(self, size: int) -> list[str]:
        """Return what is wrong, now that the message has ended."""
        found = []
        if self._octets != size:
            found.append(f"{self._octets} octets, and its size is said to be {size}")
        if self._wire_octets and not self._tail.endswith(b"\r\n"):
            found.append("its last line has no end")
        if self._unstuffed_dot:
            found.append("a line that begins with a dot is not byte-stuffed")
        if self._bare_lf:
            found.append("a line ends in a bare LF")
        if self._digest.digest() != self._head.digest.digest():
            found.append("its header is not how it begins")
        elif not self._head.ends_right(self._wire_octets):
            found.append("its header does not end at the first blank line")
        return found
