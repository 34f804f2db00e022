"""A maildrop of the store as Twisted's IMailboxPOP3, for stock `twisted.mail.pop3.POP3` and its kind.

Made for what that protocol does with a mailbox: it turns each LF of a file into CRLF, stuffs dots
chunk by chunk, ignores a Deferred of `sync`, and answers only ValueError.
"""

from __future__ import annotations

import io
import tempfile
from typing import Any, overload

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

# twisted.mail.pop3 gives the same name, but loading it installs a reactor
from twisted.mail._except import POP3Error
from twisted.mail.interfaces import IMailboxPOP3
from zope.interface import implementer

from mailgate.errors import MailgateError, StoreUnavailable
from mailgate.interfaces import IMessageStream
from mailgate.wire.dots import Unstuffer

log = Logger()


class MessageUnavailable(StoreUnavailable, ValueError):
    """No message came. A ValueError too: for any other exception the stock protocol sends no answer."""


@implementer(IMailboxPOP3)
class MaildropMailbox:
    """One session's maildrop; give the class to `MaildropRealm(store, mailbox=MaildropMailbox)`.

    Indexes count from 0. Marks are kept here and reach the store with `sync`; a session that ends
    without it has removed nothing. The realm's logout gives up the lease.
    """

    def __init__(self, maildrop: Any) -> None:
        self.maildrop = maildrop            # the IMaildrop, for who can use it directly
        self._marked: set[int] = set()      # indexes
        self._synced = False                # the maildrop is committed and takes no more

    @overload
    def listMessages(self) -> list[int]: ...

    @overload
    def listMessages(self, i: int) -> int: ...

    def listMessages(self, i: int | None = None) -> int | list[int]:
        """Return the octets of a message or of all; 0 for a marked one. Raises: ValueError."""
        sizes = self.maildrop.listing.sizes
        if i is None:
            return [0 if index in self._marked else size for index, size in enumerate(sizes)]
        self._check(i)
        return 0 if i in self._marked else int(sizes[i])

    def getMessage(self, i: int) -> Any:
        """Return a file with the message, or a Deferred of it. Raises: MessageUnavailable.

        Its line ends are LF, and a dot that begins the message is doubled: the stock sender makes
        RETR's octets of that. A large message rests in a temporary file.
        """
        self._check_unmarked(i)
        content = self.maildrop.fetch(i + 1)
        if isinstance(content, bytes):
            return _file_of(content)
        return Deferred.fromCoroutine(self._message(content))

    def getUidl(self, i: int) -> bytes:
        """Return a message's unique-id. Raises: ValueError."""
        self._check(i)
        unique_id: bytes = self.maildrop.listing.unique_id(i)
        return unique_id

    def deleteMessage(self, i: int) -> None:
        """Mark a message. Raises: ValueError, if there is none or it is marked (RFC 1939 section 5)."""
        self._check_unmarked(i)
        self._marked.add(i)

    def undeleteMessages(self) -> None:
        """Unmark every message."""
        self._marked.clear()

    def sync(self) -> Any:
        """Remove the marked messages durably, and give up the lease: nothing can follow but logout.

        Blocks until it is done, since stock QUIT answers +OK to a Deferred. Only a maildrop that
        has no `commit_blocking` (one of another store) makes it return a Deferred.
        Raises: POP3Error, which stock QUIT answers with -ERR; nothing was removed.
        """
        commit = getattr(self.maildrop, "commit_blocking", self.maildrop.commit)
        try:
            return self._ending(commit)
        except MailgateError as fault:
            raise _refusal(fault) from fault

    def commit(self) -> Deferred[None]:
        """Do what `sync` does without blocking. Raises, by the Deferred: LeaseLost, StoreUnavailable."""
        return maybeDeferred(self._ending, self.maildrop.commit)

    def _ending(self, commit: Any) -> Any:
        if self._synced:
            if self._marked:
                raise StoreUnavailable("the maildrop was committed before")
            return None
        self._synced = True
        outcome = commit(frozenset(index + 1 for index in self._marked))
        self._marked.clear()
        return outcome

    def _check(self, index: int) -> None:
        # Octets: stock POP3 joins the arguments of an exception as such.
        if not 0 <= index < len(self.maildrop.listing):
            raise ValueError(b"no such message")

    def _check_unmarked(self, index: int) -> None:
        self._check(index)
        if index in self._marked:
            raise ValueError(b"message deleted")

    async def _message(self, coming: Any) -> Any:
        try:
            content = await coming if isinstance(coming, Deferred) else coming
            if IMessageStream.providedBy(content):
                return await _spooled(content)
            return _file_of(content)
        except (MailgateError, OSError) as fault:
            log.error("a message could not be fetched: {reason}", reason=ascii(str(fault)))
            raise MessageUnavailable(str(fault)) from fault


def _refusal(fault: MailgateError) -> POP3Error:
    log.error("sync failed: {reason}", reason=ascii(str(fault)))
    return POP3Error(b"some deleted messages not removed")


# Files as the stock sender wants them -----------------------------------------------------


class _LineFeeds:
    """From wire form in pieces to LF line ends, a first dot left doubled."""

    def __init__(self) -> None:
        self._unstuffer = Unstuffer()
        self._rest = b""        # a CR that may be half of a line end
        self._first = True

    def feed(self, wire: bytes) -> bytes:
        plain = self._rest + self._unstuffer.feed(wire)
        if self._first and plain:
            self._first = False
            if plain.startswith(b"."):
                plain = b"." + plain
        self._rest = b"\r" if plain.endswith(b"\r") else b""
        return plain.removesuffix(self._rest).replace(b"\r\n", b"\n")


def _file_of(wire: bytes) -> MessageFile:
    return MessageFile(io.BytesIO(_LineFeeds().feed(wire)))     # wire form ends in CRLF: no CR is left


async def _spooled(stream: Any) -> MessageFile:
    """Copy a stream to a file: the stock sender cannot wait for pieces."""
    file: Any = tempfile.TemporaryFile()        # noqa: SIM115  (MessageFile closes it)
    try:
        form = _LineFeeds()
        while piece := await stream.read():
            file.write(form.feed(piece))
        file.seek(0)
    except BaseException:
        file.close()
        raise
    finally:
        stream.close()
    return MessageFile(file)


class MessageFile:
    """A file that is read in pieces which the stock sender cannot spoil.

    It stuffs a dot, and finds the end of the header, only within one piece; for TOP it also puts off
    a line that is cut. So pieces begin with a line that begins neither with a dot nor with its end.
    Where there is none in reach, no piece at least ends between a line end and a dot or an empty
    line. The file is closed at its end.
    """

    def __init__(self, file: Any) -> None:
        self._file: Any = file
        self._ahead = b""

    def read(self, octets: int = -1) -> bytes:
        """Return the next octets, at most so many; empty at the end."""
        if octets is None or octets < 0:
            rest, self._ahead = self._ahead + self._take(-1), b""
            return rest
        if octets >= len(self._ahead):
            self._ahead += self._take(octets + 1 - len(self._ahead))
        cut = self._cut(octets) if octets < len(self._ahead) else octets
        piece, self._ahead = self._ahead[:cut], self._ahead[cut:]
        return piece

    def _cut(self, most: int) -> int:
        """Return where a piece ends best, 1 to `most`; an octet after it is known."""
        ahead, at = self._ahead, most
        while (at := ahead.rfind(b"\n", 0, at)) >= 0:
            if ahead[at + 1] not in b".\n":
                return at + 1
        if ahead[most - 1:most + 1] in (b"\n.", b"\n\n"):
            return len(ahead[:most].rstrip(b"\n")) or most
        return most

    def close(self) -> None:
        """Close the file beneath. May be called twice."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    __del__ = close         # the stock sender drops its files unclosed

    def _take(self, octets: int) -> bytes:
        if self._file is None:
            return b""
        data: bytes = self._file.read(octets)
        if not data or octets < 0:
            self.close()
        return data
