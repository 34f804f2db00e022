"""`mailgate import`: take over the mail of another program, so that clients notice as little as may be."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mailgate.cli.arguments import name_argument
from mailgate.cli.commands import Settings, pass_settings
from mailgate.cli.convoy import Convoy
from mailgate.cli.delivering import read_sender
from mailgate.cli.rights import stand_in
from mailgate.cli.running import with_store
from mailgate.cli.telling import Refusal, reason, tell
from mailgate.config import Config
from mailgate.errors import BadAddress, MailgateError, NoSuchRecipient
from mailgate.importing.forked import ForkedSource
from mailgate.importing.maildir import Maildir, is_maildir
from mailgate.importing.mbox import Mbox
from mailgate.importing.source import BadSource, HeaderTap, NotPlain, Source, SourceMessage, Unreadable
from mailgate.lmtp.paths import read_forward_path
from mailgate.model import Account, Envelope, Placement, Target
from mailgate.names import fold, split_address
from mailgate.routing.router import Router
from mailgate.wire.faults import answer_for
from mailgate.wire.headers import preamble

PROGRESS_SECONDS = 0.5      # between two looks at a terminal
MOST_TARGETS = 1000         # remembered; each has the octets of two lines at most
ADDRESS_OCTETS = 512        # what a line of SMTP has room for (RFC 5321 section 4.5.3.1.4)
RECIPIENT_FIELDS = ("X-Original-To", "Envelope-To", "Delivered-To")     # nearest to RCPT first


@click.command("import")
@name_argument
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--progress/--no-progress", default=None,
              help="Show progress on standard error; by default where that is a terminal.")
@pass_settings
def import_(settings: Settings, name: str, path: Path, progress: bool | None) -> None:
    """Take a Maildir or an mbox into NAME's maildrop.

    Unique-ids are kept where the old server left them: in dovecot-uidlist, in courierpop3dsizelist,
    in X-UIDL fields. Messages stay as they are. An import may be repeated: what was taken before is
    not taken again, also when it was deleted since. Nothing is changed in PATH.
    """
    config = settings.config
    shown = sys.stderr.isatty() if progress is None else progress
    try:
        source = open_source(path)
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


def open_source(path: Path) -> Source:
    """Return what is at a path. Raises: BadSource."""
    if is_maildir(path):
        return Maildir(path)
    if path.is_dir():
        raise BadSource(f"{path}: a folder, but not a Maildir: it has no cur and new")
    return Mbox(path)


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
        self._router = Router(store.accounts, config.hostname)
        self._progress = progress
        self._targets: dict[bytes, Target | None] = {}      # where recipients lead
        self._counts = Counts()

    async def take(self, name: str, source: Source) -> Counts:
        """Take every message. Raises: NoSuchAccount; BadSource; StoreUnavailable, which ends it early."""
        account = await self._store.accounts.get(name)
        convoy = Convoy(self._settled)
        try:
            for message in source.messages():
                await self._take(account, message, convoy)
        except Exception:
            await convoy.arrive()       # what came before is taken all the same
            raise
        await convoy.arrive()
        self._counts.held = len(await self._store.scan(account.name))
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
        sender = _sender(header, message)
        recipient, user = await self._recipient(account, header)
        envelope = Envelope(sender, recipient, message.arrived_ms)
        own = preamble(envelope) if not header.fields("Return-Path") else b""
        return Placement(account.name, user, envelope, own, message.unique_id, identity(message),
                         account=True)

    async def _recipient(self, account: Account, header: HeaderTap) -> tuple[bytes, str | None]:
        """Return the recipient that the header tells of and its user: one whose mail comes here, if any."""
        candidates = [path for name in RECIPIENT_FIELDS for value in header.fields(name)
                      if (path := _path(value)) is not None]
        for path in candidates:
            target = await self._target(path)
            if target is not None and fold(target.maildrop) == fold(account.name):
                return path, target.user
        path = candidates[0] if candidates else _own_address(account)
        return path, fold(split_address(path.decode("utf-8", "replace"))[0])

    async def _target(self, path: bytes) -> Target | None:
        """Return where mail for a path goes now. The same few recipients are in most messages of a source."""
        if path not in self._targets:
            if len(self._targets) >= MOST_TARGETS:
                self._targets.clear()
            try:
                self._targets[path] = await self._router.route(path)
            except (NoSuchRecipient, BadAddress):
                self._targets[path] = None
        return self._targets[path]


def identity(message: SourceMessage) -> bytes:
    """Return what the store remembers a message by: the same whenever the source is read again."""
    return hashlib.sha256(os.fsencode(message.identity())).digest()


def _sender(header: HeaderTap, message: SourceMessage) -> bytes:
    """Return the envelope sender: of Return-Path, else of the format, else the null sender."""
    for value in [*header.fields("Return-Path")[:1], message.sender or b""]:
        try:
            if len(value) <= ADDRESS_OCTETS:
                return read_sender(value)
        except BadAddress:
            continue
    return b""


def _path(value: bytes) -> bytes | None:
    """Return the address that a header field holds, or None."""
    if len(value) > ADDRESS_OCTETS:
        return None
    try:
        path, rest = read_forward_path(value if value.startswith(b"<") else b"<%b>" % value)
        split_address(path.decode("utf-8", "replace"))      # a user's view needs its local part
    except BadAddress:
        return None
    return None if rest else path


def _own_address(account: Account) -> bytes:
    """Return the address that stands for a maildrop whose mail does not tell its recipient."""
    if account.addresses:
        return account.addresses[0].encode()
    return f"{account.name}@{account.domains[0]}".encode() if account.domains else account.name.encode()


