"""`mailgate import`: take over the mail of another program, so that clients notice as little as may be."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mailgate.cli.arguments import name_argument
from mailgate.cli.commands import Settings, pass_settings
from mailgate.cli.convoy import Convoy
from mailgate.cli.envelopes import Envelopes
from mailgate.cli.maildrops import folder_names
from mailgate.cli.rights import stand_in
from mailgate.cli.running import with_store
from mailgate.cli.telling import Refusal, reason, tell
from mailgate.config import Config
from mailgate.errors import MailgateError
from mailgate.formats.entries import BadSource, NotPlain
from mailgate.formats.header import HeaderTap
from mailgate.formats.uniqueids import Format, parse_format
from mailgate.importing.cyrus import CyrusFolder, is_cyrus_folder
from mailgate.importing.forked import ForkedSource
from mailgate.importing.maildir import Maildir, is_maildir
from mailgate.importing.mbox import Mbox
from mailgate.importing.source import Source, SourceMessage, Unreadable
from mailgate.interfaces import IFolderStore
from mailgate.model import INBOX, Account, Placement
from mailgate.wire.faults import answer_for
from mailgate.wire.headers import preamble

PROGRESS_SECONDS = 0.5      # between two looks at a terminal


class UniqueIds(click.ParamType):
    """A server, as `parse_format` reads it."""

    name = "format"

    def convert(self, value: Any, param: Any, ctx: Any) -> Format:
        """Return what is meant. Raises: BadParameter."""
        try:
            return parse_format(value)
        except ValueError as fault:
            self.fail(f"{value!r}: {fault}", param, ctx)


@click.command("import")
@name_argument
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--progress/--no-progress", default=None,
              help="Show progress on standard error; by default where that is a terminal.")
@click.option("--unique-ids", "unique_ids", type=UniqueIds(), default="auto", metavar="FORMAT",
              help="Whose unique-ids the messages have: auto (what the files tell), dovecot:TEMPLATE with "
              "Dovecot's pop3_uidl_format, courier, cyrus, uw, x-uidl, qpopper, popa3d.")
@click.option("--folders/--no-folders", "folders", default=True, show_default=True,
              help="Take the folders below a Maildir (Maildir++), too; POP3 does not show them.")
@pass_settings
def import_(settings: Settings, name: str, path: Path, progress: bool | None, unique_ids: Format,
            folders: bool) -> None:
    """Take a Maildir, an mbox or a folder of Cyrus into NAME's maildrop.

    Unique-ids are kept where the old server left them: in dovecot-uidlist, in courierpop3dsizelist,
    in cyrus.index, in fields of the messages. Messages stay as they are. An import may be repeated: what
    was taken before is not taken again, also when it was deleted since. Nothing is changed in PATH.
    Folders below a Maildir become folders, which POP3 does not show; marks (read, answered ...) are kept.
    """
    config = settings.config
    shown = sys.stderr.isatty() if progress is None else progress
    try:
        source = open_source(path, unique_ids, folders=folders)
        if stand_in(config) is not None:    # whose mailbox it is, only root may be able to read
            source = ForkedSource(source)
        counts = with_store(config, lambda store: Import(
            store, config, Progress(source.octets, shown)).take(name, source))
    except BadSource as fault:
        raise Refusal(str(fault), code=os.EX_DATAERR if path.exists() else os.EX_NOINPUT) from fault
    for line in counts.skipped:
        tell(line)
    skipped = f", {len(counts.skipped)} skipped" if counts.skipped else ""
    click.echo(f"{counts.read} messages read, {counts.held} now in the maildrop{skipped}")
    if counts.faults:
        raise Refusal(*(f"{one}: not taken: {words}" for one, words, _ in counts.faults),
                      code=counts.faults[0][2])


def open_source(path: Path, unique_ids: Format = Format(), *, folders: bool = True) -> Source:
    """Return what is at a path, its messages with the ids that a server gave them. Raises: BadSource."""
    if is_maildir(path):
        return Maildir(path, unique_ids, folders=folders)
    if is_cyrus_folder(path):
        return CyrusFolder(path, unique_ids)
    if path.is_dir():
        raise BadSource(f"{path}: a folder, but neither a Maildir (it has no cur and new) nor one of Cyrus")
    return Mbox(path, unique_ids)


class Progress:
    """How far an import is, on one line of standard error that is written over."""

    def __init__(self, octets: int, shown: bool, seconds: Callable[[], float] = time.monotonic) -> None:
        self._octets = octets
        self._shown = shown
        self._seconds = seconds
        self._next = 0.0
        self._overwrites = sys.stderr.isatty()

    def at(self, messages: int, octets: int, *, last: bool = False) -> None:
        """Show it, but not too often."""
        if not self._shown or (not last and self._seconds() < self._next):
            return
        self._next = self._seconds() + PROGRESS_SECONDS
        percent = 100 if last else octets * 100 // (self._octets or 1)
        line = f"{messages} messages, {percent} %"
        click.echo(f"\r{line}" if self._overwrites else line, err=True, nl=last or not self._overwrites)


class Counts:
    """What came of an import."""

    def __init__(self) -> None:
        self.read = 0
        self.held = 0
        self.skipped: list[str] = []        # lines for an operator: what is no message
        self.faults: list[tuple[str, str, int]] = []        # message, words, exit code


class Import:
    """One source on its way into one maildrop."""

    def __init__(self, store: Any, config: Config, progress: Progress) -> None:
        self._store = store
        self._envelopes = Envelopes(store, config)
        self._progress = progress
        self._counts = Counts()

    async def take(self, name: str, source: Source) -> Counts:
        """Take every message. Raises: NoSuchAccount; BadSource; StoreUnavailable, which ends it early."""
        account = await self._store.accounts.get(name)
        has_folders = IFolderStore.providedBy(self._store)
        left_out: Counter[str] = Counter()
        convoy = Convoy(self._settled)
        try:
            for message in source.messages():
                if message.folder == INBOX or has_folders:
                    await self._take(account, message, convoy)
                else:
                    left_out[message.folder] += 1
        except Exception:
            await convoy.arrive()       # what came before is taken all the same
            raise
        await convoy.arrive()
        self._counts.skipped += [f"{folder}: skipped: the store has no folders; {count} messages"
                                 for folder, count in left_out.items()]
        self._counts.held = sum([len(await self._store.scan(account.name, folder))
                                 for folder in await folder_names(self._store, account.name)])
        self._progress.at(self._counts.read, source.octets, last=True)
        return self._counts

    async def _take(self, account: Account, message: SourceMessage, convoy: Convoy) -> None:
        """Read one message and send it on its way. Raises: BadSource; what ends the convoy."""
        await convoy.room(0)
        delivery = self._store.deliver()
        header = HeaderTap()
        octets = 0
        try:
            for piece in message.pieces():
                octets += len(piece)
                await convoy.room(octets)
                header.feed(piece)
                waiting = delivery.write(piece)
                if waiting is not None:
                    await waiting
            placement = await self._placement(account, message, header)
        except BaseException as fault:
            delivery.abort()
            if not isinstance(fault, Exception) or isinstance(fault, BadSource) or fault is convoy.ended_by:
                raise
            await convoy.add_fault(message.name, message.octets, fault)
        else:
            await convoy.add(message.name, message.octets, octets, delivery, placement)

    def _settled(self, name: str, position: int, fault: Exception | None) -> None:
        """Count what became of a message."""
        counts = self._counts
        if fault is None:
            counts.read += 1
        elif isinstance(fault, FileNotFoundError):      # removed from the Maildir while we read it
            return
        elif isinstance(fault, NotPlain):
            counts.skipped.append(f"{name}: skipped: {fault}")
        elif isinstance(fault, Unreadable):
            counts.faults.append((name, str(fault), os.EX_NOINPUT))
        elif isinstance(fault, MailgateError):
            counts.faults.append((name, reason(fault), answer_for(fault).exit))
        self._progress.at(counts.read, position)

    async def _placement(self, account: Account, message: SourceMessage, header: HeaderTap) -> Placement:
        envelope, user = await self._envelopes.read(account, header, message.arrived_ms, message.sender)
        own = preamble(envelope) if not header.fields("Return-Path") else b""
        return Placement(account.name, user, envelope, own, message.unique_id, identity(message),
                         account=True, folder=message.folder, flags=message.flags)


def identity(message: SourceMessage) -> bytes:
    """Return what the store remembers a message by: the same whenever the source is read again."""
    return hashlib.sha256(os.fsencode(message.identity())).digest()
