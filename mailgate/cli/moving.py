"""One account's unique-ids on their way from another POP3 server; its missing messages too, if so wished."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from mailgate.cli.convoy import Convoy
from mailgate.cli.envelopes import Envelopes
from mailgate.config import Config
from mailgate.errors import MailgateError, NoSuchAccount, NoSuchMessage
from mailgate.formats.header import HeaderTap
from mailgate.importing.matching import UNCOUNTED, Known, Matching, PrintReader, candidates
from mailgate.importing.source import arrival_ms
from mailgate.interfaces import IImportRecords, IMaildrop, IMessageStream
from mailgate.model import Account, Placement
from mailgate.net.pop3_source import POP3Source
from mailgate.wire.dots import Unstuffer
from mailgate.wire.headers import preamble


class Wishes(NamedTuple):
    """What a move is to do."""

    copy: bool = False                              # fetch what is missing here
    dry_run: bool = False                           # change nothing here
    ignore_sizes: bool = False                      # equal header fields are enough
    uncounted: Collection[bytes] = UNCOUNTED        # names of header fields, in lower case


class Tally:
    """What came of a move, in messages."""

    def __init__(self) -> None:
        self.source = 0         # there are at the source
        self.kept = 0           # had their unique-id here before
        self.taken = 0          # have it now
        self.copied = 0         # were fetched with it
        self.missing = 0        # are not here
        self.refused = 0        # are here, and their unique-id was another message's once
        self.unreadable = 0     # could not be read at the source
        self.bad_ids = 0        # have an illegal unique-id at the source, or an earlier one's
        self.only_here = 0      # are not at the source
        self.faults: list[MailgateError] = []       # why others were not stored

    def columns(self) -> list[str]:
        """Return `name=number` of each, in this order."""
        counts = {**vars(self), "faults": len(self.faults)}
        return [f"{name.replace('_', '-')}={number}" for name, number in counts.items()]


class Owner(NamedTuple):
    """Whose a maildrop is: an account's, or that of somebody whom another checker knows."""

    account: Account
    is_account: bool


class Step(NamedTuple):
    """How far a move is."""

    words: str
    done: int
    of: int


class Move:
    """Moves of one run. `at` is told how each goes on."""

    def __init__(self, store: Any, config: Config, wishes: Wishes, at: Callable[[Step], None]) -> None:
        self._store = store
        self._wishes = wishes
        self._envelopes = Envelopes(store, config)
        self._at = at

    async def owner(self, name: str) -> Owner:
        """Return whose a maildrop is. Raises: NoSuchAccount, StoreUnavailable."""
        try:
            return Owner(await self._store.accounts.get(name), True)
        except NoSuchAccount:
            if not await self._store.scan(name):
                raise
            return Owner(Account(name), False)

    async def move(self, owner: Owner, source: POP3Source, origin: bytes) -> Tally:
        """Take over what there is; `origin` tells the maildrop there from all others.

        Raises: NotOffered, ServerFault; MaildropInUse, StoreUnavailable.
        """
        tally = Tally()
        here: IMaildrop = await self._store.peek(owner.account.name)
        try:
            return await _Pass(self, owner, source, origin, here, tally).run()
        finally:
            await here.release()


class _Pass:
    """One account's move, once."""

    def __init__(self, move: Move, owner: Owner, source: POP3Source, origin: bytes, here: IMaildrop,
                 tally: Tally) -> None:
        self._store, self._wishes, self._at = move._store, move._wishes, move._at
        self._envelopes = move._envelopes
        self._account, self._is_account = owner
        self._source = source
        self._origin = origin
        self._here = here
        self._tally = tally
        self._ids: dict[int, bytes] = {}            # that are to be had here, by number at the source
        self._prints: dict[int, Known] = {}         # of messages at the source
        self._sizes: dict[int, int] = {}
        self._equals: Counter[bytes] = Counter()    # copied, of equal messages without a unique-id

    async def run(self) -> Tally:
        tally, listing = self._tally, self._here.listing
        present = {listing.unique_id(index): index + 1 for index in range(len(listing))}
        told = await self._source.unique_ids()
        self._ids = first_of_each(told)
        tally.source, tally.bad_ids = len(told), len(told) - len(self._ids)
        kept = {number for number, unique_id in self._ids.items() if unique_id in present}
        tally.kept = len(kept)
        # Where nothing is copied, a message that brings no unique-id needs no partner.
        wanted = [number for number in (told if self._wishes.copy else self._ids) if number not in kept]
        pairs: dict[int, int] = {}
        if wanted:
            if not self._wishes.dry_run:
                await self._store.take_ids(self._account.name, {})      # in use? better known at once
            sizes = await self._source.sizes()
            self._sizes = {number: sizes[number] for number in wanted if number in sizes}
            free = set(present.values()).difference(present[self._ids[number]] for number in kept)
            pairs = await self._match(free)
            await self._take(pairs)
        missing = [number for number in self._sizes if number not in pairs]
        tally.only_here = len(present) - len(kept) - len(pairs)
        removed: set[int] = set()
        if self._wishes.copy and not self._wishes.dry_run:
            removed = await self._removed_since(missing)
            tally.kept += len(removed)
            await self._copy([number for number in missing if number not in removed])
        tally.missing = (len(wanted) - len(pairs) - len(removed) - tally.copied - tally.unreadable
                         - len(tally.faults))
        return tally

    async def _removed_since(self, missing: list[int]) -> set[int]:
        """Return those whose unique-id a message here had that an import brought, and that is gone."""
        if not IImportRecords.providedBy(self._store):
            return set()
        had = {unique_id for unique_id, identity in await self._store.imported(self._account.name)
               if identity is not None}
        return {number for number in missing if self._ids.get(number) in had}

    # Matching ---------------------------------------------------------------------------------

    async def _match(self, free: set[int]) -> dict[int, int]:
        """Return which messages at the source are which of those here. Reads as few headers as will do."""
        octets = {number: self._here.listing.sizes[number - 1] for number in sorted(free)}
        numbers, ours = list(self._sizes), list(octets)
        if not self._wishes.ignore_sizes:
            numbers = candidates(self._sizes, list(octets.values()), source=True)
            ours = candidates(octets, [self._sizes[number] for number in numbers], source=False)
        if not ours:
            return {}
        await self._read_source(numbers)
        here = [known for number in ours if (known := await self._read_here(number)) is not None]
        matching = Matching(self._prints.values(), here)
        matching.by_size()
        if in_question := matching.in_question():
            matching.by_size_in_lf({number: await self._count_lines(number) for number in in_question})
        matching.by_size_nearly()
        if self._wishes.ignore_sizes:
            matching.by_fields()
        return matching.pairs

    async def _read_source(self, numbers: list[int]) -> None:
        """Read headers, by TOP or where there is none by RETR."""
        readers: dict[int, PrintReader] = {}
        tally = self._tally

        def sink(number: int) -> Callable[[bytes], None]:
            readers[number] = PrintReader()
            return readers[number].feed

        def ended(number: int, ok: bool) -> None:
            reader = readers.pop(number)
            if ok:
                found = reader.print(self._wishes.uncounted)
                self._prints[number] = Known(number, self._sizes[number], found)
            else:
                tally.unreadable += 1
                del self._sizes[number]
            done = len(self._prints) + tally.unreadable
            self._at(Step("headers read", done, len(numbers)))

        if numbers and await self._source.has_top(numbers[0], self._sizes[numbers[0]]):
            await self._source.headers({number: self._sizes[number] for number in numbers}, sink, ended)
            return
        for number in numbers:
            ok = await self._source.retrieve(number, self._sizes[number], sink(number))
            reader = readers[number]
            ended(number, ok)
            if ok:      # better than what LIST says
                known = self._prints[number]
                self._prints[number] = known._replace(octets=known.print.octets + reader.body_octets)

    async def _read_here(self, number: int) -> Known | None:
        """Read the header of a message here; None, if it has gone."""
        reader = PrintReader()
        try:
            await pour(self._here, number, 0, reader.feed)
        except NoSuchMessage:
            return None
        return Known(number, self._here.listing.sizes[number - 1], reader.print(self._wishes.uncounted))

    async def _count_lines(self, number: int) -> int:
        """Return the lines behind the header of a message here."""
        reader = PrintReader()
        try:
            await pour(self._here, number, None, reader.feed)
        except NoSuchMessage:
            pass
        return reader.body_lines

    async def _take(self, pairs: Mapping[int, int]) -> None:
        """Give the messages here the unique-ids of their partners."""
        ids = {self._here.listing.unique_id(number - 1): self._ids[partner]
               for partner, number in pairs.items() if partner in self._ids}
        if ids and not self._wishes.dry_run:
            self._tally.refused = len(await self._store.take_ids(self._account.name, ids))
        self._tally.taken = len(ids) - self._tally.refused

    # Copying ----------------------------------------------------------------------------------

    async def _copy(self, numbers: list[int]) -> None:
        """Fetch messages and deliver them, in order."""
        convoy = Convoy(self._settled)
        try:
            for done, number in enumerate(numbers):
                self._at(Step("messages copied", done, len(numbers)))
                await self._copy_one(number, convoy)
        except Exception:
            await convoy.arrive()       # what came before is kept all the same
            raise
        await convoy.arrive()

    async def _copy_one(self, number: int, convoy: Convoy) -> None:
        await convoy.room(0)
        delivery = self._store.deliver()
        header, reader = HeaderTap(), PrintReader()
        octets = 0

        async def take(piece: bytes) -> None:
            nonlocal octets
            octets += len(piece)
            await convoy.room(octets)
            header.feed(piece)
            reader.feed(piece)
            waiting = delivery.write(piece)
            if waiting is not None:
                await waiting

        try:
            ok = await self._source.retrieve(number, self._sizes[number],
                                             lambda piece: Deferred.fromCoroutine(take(piece)))
            placement = await self._placement(number, header, reader) if ok else None
        except BaseException:
            delivery.abort()
            raise
        if placement is None:
            delivery.abort()
            self._tally.unreadable += 1
            return
        await convoy.add(str(number), octets, octets, delivery, placement)

    async def _placement(self, number: int, header: HeaderTap, reader: PrintReader) -> Placement:
        envelope, user = await self._envelopes.read(self._account, header, arrived(header))
        own = preamble(envelope) if not header.fields("Return-Path") else b""
        unique_id = self._ids.get(number)
        identity = self._identity(reader) if unique_id is None else None
        return Placement(self._account.name, user, envelope, own, unique_id, identity, self._is_account)

    def _identity(self, reader: PrintReader) -> bytes:
        """Return what tells a message without a unique-id of its own from all others, in every run."""
        found = reader.print()
        text = repr((self._origin, found, reader.body_octets)).encode()
        self._equals[text] += 1
        return hashlib.sha256(b"%b %d" % (text, self._equals[text])).digest()

    def _settled(self, name: str, position: int, fault: Exception | None) -> None:
        if fault is None:
            self._tally.copied += 1
        elif not isinstance(fault, MailgateError):
            raise fault
        else:
            self._tally.faults.append(fault)


def first_of_each(told: Mapping[int, bytes | None]) -> dict[int, bytes]:
    """Return the legal unique-ids, each for the first message that shows it.

    A client that has seen one twice has fetched one of the messages at least: the first.
    """
    first: dict[bytes, int] = {}
    for number, unique_id in told.items():
        if unique_id is not None:
            first.setdefault(unique_id, number)
    return {number: unique_id for unique_id, number in first.items()}


async def pour(maildrop: IMaildrop, number: int, body_lines: int | None,
               sink: Callable[[bytes], object]) -> None:
    """Read a message, unstuffed, or its header and so many lines. Raises: NoSuchMessage, StoreUnavailable."""
    content = maildrop.fetch(number, body_lines)
    if isinstance(content, Deferred):
        content = await content
    unstuffer = Unstuffer()
    if isinstance(content, bytes):
        sink(unstuffer.feed(content))
        return
    stream: IMessageStream = content
    try:
        while piece := await stream.read():
            sink(unstuffer.feed(piece))
    finally:
        stream.close()


def arrived(header: HeaderTap) -> int:
    """Return when a message was delivered: its topmost Received field says it, else it is now."""
    for value in header.fields("Received")[:1]:
        try:
            when = parsedate_to_datetime(value.rpartition(b";")[2].decode("ascii", "replace").strip())
            return arrival_ms(int(when.timestamp()))
        except (ValueError, TypeError, OverflowError, IndexError):
            break
    return arrival_ms(int(time.time()))
