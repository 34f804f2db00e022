"""Twisted's mailboxes behind our conversation: an application's IMailboxPOP3 as an IMaildrop.

The mailbox's methods may return values or Deferreds. Nothing is marked in it before QUIT: a client
that vanishes has changed nothing, whatever `deleteMessage` does at once.
"""

from __future__ import annotations

import hashlib
import io
import re
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from twisted.cred.portal import IRealm
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    FirstError,
    execute,
    fail,
    gatherResults,
    maybeDeferred,
    succeed,
)
from twisted.internet.task import coiterate
from twisted.logger import Logger
from twisted.mail.interfaces import IMailboxPOP3
from zope.interface import implementer

from mailgate.auth.mailboxes import MaildropMailbox
from mailgate.errors import BadCommand, MailgateError, NoSuchMessage, StoreUnavailable
from mailgate.interfaces import Content, IMaildrop, IMessageStream
from mailgate.model import Envelope, ScanListing
from mailgate.wire.dots import TopCutter, WireForm

PIECE_OCTETS = 65536        # of wire form in one read; a longer message is a stream
ASKED_AT_ONCE = 64          # unique-ids that a mailbox may be looking up at the same time

_LEGAL_ID = re.compile(rb"[!-~]{1,70}")      # RFC 1939 section 7

log = Logger()


def open_mailbox(mailbox: Any, *, exact_sizes: bool = False) -> Deferred[Any]:
    """Return the IMaildrop over an IMailboxPOP3, its listing read.

    Sizes are what the mailbox says, and may count another form of the line ends than RETR sends;
    with `exact_sizes` every message is read once and measured. A maildrop of the store that our realm
    dressed as a mailbox is undressed. Raises: StoreUnavailable.
    """
    if isinstance(mailbox, MaildropMailbox):
        return succeed(mailbox.maildrop)
    return Deferred.fromCoroutine(_open(mailbox, exact_sizes))


@implementer(IRealm)
class MailboxRealm:
    """Hands out IMaildrop over the IMailboxPOP3 avatars of another realm, and all else unchanged.

    A POP3Factory opens mailboxes by itself; this is for who wants `exact_sizes`.
    """

    def __init__(self, realm: Any, *, exact_sizes: bool = False) -> None:
        self._realm = realm
        self._exact_sizes = exact_sizes

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        """Return (interface, avatar, logout), or a Deferred of it. Raises: StoreUnavailable."""
        if IMaildrop not in interfaces:
            return self._realm.requestAvatar(avatarId, mind, *interfaces)
        return Deferred.fromCoroutine(self._maildrop(avatarId, mind))

    async def _maildrop(self, avatarId: Any, mind: Any) -> tuple[Any, Any, Callable[[], Any]]:
        _, mailbox, logout = await maybeDeferred(
            self._realm.requestAvatar, avatarId, mind, IMailboxPOP3)
        try:
            maildrop = await open_mailbox(mailbox, exact_sizes=self._exact_sizes)
        except BaseException:
            await maybeDeferred(logout)
            raise
        return IMaildrop, maildrop, logout


def legal_unique_id(said: object) -> bytes:
    """Return what a mailbox gave as unique-id, or its digest where RFC 1939 section 7 forbids it."""
    octets = said if isinstance(said, bytes) else str(said).encode()
    return octets if _LEGAL_ID.fullmatch(octets) else hashlib.sha256(octets).hexdigest().encode()


# Opening ----------------------------------------------------------------------------------


async def _open(mailbox: Any, exact_sizes: bool) -> Any:
    try:
        said = await maybeDeferred(mailbox.listMessages)
        # A size of 0 or None stands for a message that is deleted already: no message of this session.
        indexes = [index for index, size in enumerate(said) if size]
        if exact_sizes:
            sizes = await _measured(mailbox, indexes)
        else:
            sizes = array("Q", [said[index] for index in indexes])
        ids = _distinct(await unique_ids(mailbox, indexes))
    except Exception as fault:
        raise _as_outage("the mailbox could not be listed", fault) from fault
    return MailboxMaildrop(mailbox, indexes, ScanListing(sizes, ids))


async def unique_ids(mailbox: Any, indexes: Sequence[int]) -> list[bytes]:
    """Return the unique-ids of messages, legal but not told apart. Raises: what the mailbox raises."""
    said: list[object] = []
    for start in range(0, len(indexes), ASKED_AT_ONCE):
        answers = [mailbox.getUidl(index) for index in indexes[start:start + ASKED_AT_ONCE]]
        if any(isinstance(answer, Deferred) for answer in answers):
            later = [answer if isinstance(answer, Deferred) else succeed(answer) for answer in answers]
            try:
                answers = await gatherResults(later, consumeErrors=True)
            except FirstError as first:
                raise first.subFailure.value from first
        said += answers
    return [legal_unique_id(answer) for answer in said]


def _distinct(unique_ids: list[bytes]) -> list[bytes]:
    """Tell copies apart: with one id for two messages many clients fetch only the first."""
    taken = set(unique_ids)
    if len(taken) == len(unique_ids):
        return unique_ids
    given: set[bytes] = set()
    distinct = []
    for unique_id in unique_ids:
        serial, fresh = 1, unique_id
        while fresh in given or (serial > 1 and fresh in taken):
            serial += 1
            fresh = legal_unique_id(b"%b.%d" % (unique_id, serial))
        given.add(fresh)
        distinct.append(fresh)
    return distinct


async def _measured(mailbox: Any, indexes: Sequence[int]) -> array[int]:
    """Return the octets of each message as RETR sends it. Other connections get their turns."""
    sizes = array("Q")

    def measure(file: Any) -> None:
        stream = FileStream(file)
        try:
            while stream.piece():
                pass
        finally:
            stream.close()
        sizes.append(stream.octets)

    def each() -> Iterator[Deferred[None]]:
        for index in indexes:
            yield maybeDeferred(mailbox.getMessage, index).addCallback(measure)

    await coiterate(each())
    return sizes


def _as_outage(what: str, fault: Exception) -> MailgateError:
    """Return our fault for an exception of the application's; a bug of it is logged in full."""
    if isinstance(fault, MailgateError):
        return fault
    if not isinstance(fault, (OSError, CancelledError)):
        log.failure("{what}", what=what)
    return StoreUnavailable(f"{what}: {fault!r}")


# The maildrop -----------------------------------------------------------------------------


@implementer(IMaildrop)
class MailboxMaildrop:
    """One session on an application's mailbox."""

    __slots__ = ("listing", "_indexes", "_mailbox")

    def __init__(self, mailbox: Any, indexes: Sequence[int], listing: ScanListing) -> None:
        self.listing = listing
        self._mailbox = mailbox
        self._indexes = indexes             # of the mailbox, by number - 1

    def fetch(self, number: int, body_lines: int | None = None) -> Content | Deferred[Content]:
        """See IMaildrop. Raises: NoSuchMessage, if the mailbox has it no more; StoreUnavailable."""
        if not 0 < number <= len(self._indexes):
            return fail(NoSuchMessage(str(number)))
        return fetch_message(self._mailbox, self._indexes[number - 1], body_lines)

    def envelope(self, number: int) -> Envelope | Deferred[Envelope]:
        """Raises: BadCommand. A mailbox of Twisted's knows no envelopes."""
        return fail(BadCommand("this mailbox keeps no envelopes"))

    def commit(self, marked: Collection[int]) -> Deferred[None]:
        """Delete in the mailbox and sync. After a fault the marks are taken back, as far as it can."""
        return Deferred.fromCoroutine(self._commit(sorted(marked)))

    def release(self) -> Deferred[None]:
        """Nothing to undo: before `commit` the mailbox heard of no deletion. The realm logs out."""
        return succeed(None)

    async def _commit(self, numbers: Sequence[int]) -> None:
        try:
            for number in numbers:          # ascending: MaildirMailbox undeletes in that order
                await maybeDeferred(self._mailbox.deleteMessage, self._indexes[number - 1])
            await maybeDeferred(self._mailbox.sync)
        except Exception as fault:
            if numbers:
                await self._undelete()
            raise _as_outage("the mailbox did not delete", fault) from fault

    async def _undelete(self) -> None:
        try:
            await maybeDeferred(self._mailbox.undeleteMessages)
        except Exception:
            log.failure("marks could not be taken back: the mailbox may have lost messages")


# Messages ---------------------------------------------------------------------------------


def fetch_message(mailbox: Any, index: int, body_lines: int | None = None) -> Deferred[Content]:
    """Return a message of an IMailboxPOP3 in wire form, as IMaildrop.fetch does.

    Raises: NoSuchMessage, StoreUnavailable.
    """
    if isinstance(mailbox, MaildropMailbox):
        return maybeDeferred(mailbox.maildrop.fetch, index + 1, body_lines)
    return Deferred.fromCoroutine(_fetch(mailbox, index, body_lines))


async def _fetch(mailbox: Any, index: int, body_lines: int | None) -> Content:
    try:
        file = await maybeDeferred(mailbox.getMessage, index)
    except (ValueError, IndexError, FileNotFoundError) as gone:
        raise NoSuchMessage(f"index {index}") from gone
    except Exception as fault:
        raise _as_outage("the mailbox gave no message", fault) from fault
    stream = FileStream(file, body_lines)
    whole = stream.whole()
    return stream if whole is None else whole


@implementer(IMessageStream)
class FileStream:
    """The message in a file object, in wire form and in pieces; with `body_lines`, its top alone.

    `form` may stand in for WireForm, if what comes from the file has another form. Reads block, as
    file objects do. The file is closed as soon as it is read, or by `close`.
    """

    __slots__ = ("_cutter", "_file", "_form", "_ready")

    def __init__(self, file: Any, body_lines: int | None = None, *, form: Any = None) -> None:
        # MaildirMailbox opens its files as text: mail is octets.
        self._file: Any = file.detach() if isinstance(file, io.TextIOWrapper) else file
        self._form = WireForm() if form is None else form
        self._cutter = None if body_lines is None else TopCutter(body_lines)
        self._ready = b""

    @property
    def octets(self) -> int:
        """Octets read so far, CRLF line ends, before byte-stuffing."""
        return self._form.octets

    def whole(self) -> bytes | None:
        """Return all of it if it fits into one piece. Raises: StoreUnavailable."""
        self._fill()
        return self._ready if self._file is None and len(self._ready) <= PIECE_OCTETS else None

    def piece(self) -> bytes:
        """Return the next piece, at most 64 KiB; empty at the end. Raises: StoreUnavailable."""
        self._fill()
        piece, self._ready = self._ready[:PIECE_OCTETS], self._ready[PIECE_OCTETS:]
        return piece

    def read(self) -> Deferred[bytes]:
        """See IMessageStream."""
        return execute(self.piece)

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        close = getattr(file, "close", None)
        if close is not None:
            close()

    def _fill(self) -> None:
        while self._file is not None and len(self._ready) <= PIECE_OCTETS:
            try:
                data = self._file.read(PIECE_OCTETS)
                if isinstance(data, str):
                    data = data.encode("utf-8", "surrogateescape")
            except Exception as fault:
                self.close()
                raise _as_outage("a message could not be read", fault) from fault
            wire = self._form.feed(data) if data else self._form.finish()
            if self._cutter is not None:
                wire = self._cutter.feed(wire)
            self._ready += wire
            if not data or (self._cutter is not None and self._cutter.done):
                self.close()
