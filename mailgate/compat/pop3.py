"""A stand-in for `twisted.mail.pop3.POP3`: its hooks and its words over our framing and order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import coiterate
from twisted.logger import Logger
from twisted.mail.pop3 import POP3Error

from mailgate.auth.mailboxes import MaildropMailbox
from mailgate.compat.authorization import Authorization
from mailgate.compat.capabilities import capabilities
from mailgate.errors import NoSuchMessage
from mailgate.interfaces import IMessageStream
from mailgate.net.mailboxes import FileStream, fetch_message, unique_ids
from mailgate.pop3.replies import commit_refusal

MAX_NUMBER_DIGITS = 10
BAD_NUMBER = b"Bad message number argument"

log = Logger()


class POP3(Authorization):
    """A POP3 server protocol over the IMailboxPOP3 avatars of a portal.

    Put it in the place of `twisted.mail.pop3.POP3` under existing subclasses. A mailbox is asked
    and told at the same moments, but each of its methods may return a Deferred.
    """

    schedule: Any = staticmethod(coiterate)     # for subclasses
    _highest = 0                                # message-number that LAST answers

    # What is there ----------------------------------------------------------------------------

    def listCapabilities(self) -> list[bytes]:
        """Return the lines of CAPA."""
        return capabilities(self.factory, self.mbox)

    def do_CAPA(self) -> None:
        """List what is offered (RFC 2449)."""
        said = self.listCapabilities()
        self._say(b"+OK I can do the following:\r\n" + b"".join([line + b"\r\n" for line in said]) + b".\r\n")

    def do_STAT(self) -> Any:
        """Count the messages that are not deleted, and their octets."""
        def answer(sizes: Any) -> None:
            there = [size for size in sizes if size]
            self.successResponse(b"%d %d" % (len(there), sum(there)))

        return self._longOperation(maybeDeferred(self.mbox.listMessages).addCallback(answer))

    def do_LIST(self, i: Any = None) -> Any:
        """The scan listing, or one line of it."""
        if i is not None:
            return self._about(i, lambda number, size: self.successResponse(b"%d %d" % (number, size)),
                               b"Invalid message-number: %b" % _argument(i))

        def answer(sizes: Any) -> None:
            rows = [b"%d %d\r\n" % (number, size) for number, size in enumerate(sizes, 1) if size]
            self._say(b"+OK %d\r\n%b.\r\n" % (len(rows), b"".join(rows)))

        return self._longOperation(maybeDeferred(self.mbox.listMessages).addCallback(answer))

    def do_UIDL(self, i: Any = None) -> Any:
        """The unique-ids, or one (RFC 1939 section 7)."""
        if i is None:
            return self._operate(self._listIds())

        async def answer(number: int, size: int) -> None:
            unique_id, = await unique_ids(self.mbox, [number - 1])
            self.successResponse(b"%d %b" % (number, unique_id))

        return self._about(i, answer, BAD_NUMBER)

    async def _listIds(self) -> None:
        sizes = await maybeDeferred(self.mbox.listMessages)
        indexes = [index for index, size in enumerate(sizes) if size]
        ids = await unique_ids(self.mbox, indexes)
        rows = [b"%d %b\r\n" % (index + 1, said) for index, said in zip(indexes, ids)]  # noqa: B905
        self._say(b"+OK \r\n%b.\r\n" % b"".join(rows))

    def _about(self, i: Any, answer: Callable[[int, int], Any], bad: bytes) -> Any:
        """Call `answer` with number and size of a message; answer `bad` where there is none."""
        number = _number(i)
        if number is None:
            self.failResponse(bad)
            return None
        return self._operate(self._sized(number, answer, bad))

    async def _sized(self, number: int, answer: Callable[[int, int], Any], bad: bytes) -> None:
        try:
            size = await maybeDeferred(self.mbox.listMessages, number - 1)
            if not size:
                self.failResponse(b"message deleted")
                return
            done = answer(number, size)
            if done is not None:
                await done
        except (ValueError, IndexError, NoSuchMessage) as none:
            if self._answered:
                raise POP3Error(b"the answer had begun") from none
            self.failResponse(bad)

    # Messages ---------------------------------------------------------------------------------

    def do_RETR(self, i: Any) -> Any:
        """A whole message."""
        return self._sendMessage(i, None, lambda size: b"%d" % size)

    def do_TOP(self, i: Any, size: Any) -> Any:
        """The header, the blank line and the first lines of the body (RFC 1939 section 7)."""
        lines = _digits(size)
        if lines is None:
            self.failResponse(b"Bad line count argument")
            return None
        return self._sendMessage(i, lines, lambda size: b"Top of message follows")

    def _sendMessage(self, i: Any, lines: int | None, words: Callable[[int], bytes]) -> Any:
        async def answer(number: int, size: int) -> None:
            content = await self._content(number - 1, lines)
            if self._gone:
                if IMessageStream.providedBy(content):
                    content.close()
                return
            self._highest = max(self._highest, number)
            self.successResponse(words(size))
            if isinstance(content, bytes):
                self._say(content + b".\r\n")
                return
            await self._pour(content)
            self._say(b".\r\n")

        return self._about(i, answer, BAD_NUMBER)

    async def _content(self, index: int, lines: int | None) -> Any:
        if type(self).transformChunk is POP3.transformChunk:
            return await fetch_message(self.mbox, index, lines)
        file = await maybeDeferred(self.mbox.getMessage, index)
        stream = FileStream(file, lines, form=_Transformed(self.transformChunk))
        whole = stream.whole()
        return stream if whole is None else whole

    def transformChunk(self, chunk: bytes) -> bytes:
        """Return a piece of a message in wire form; override it to send files that need another change.

        This one is not used: a piece alone does not tell whether it begins a line.
        """
        return chunk.replace(b"\n", b"\r\n").replace(b"\r\n.", b"\r\n..")

    # Marks ------------------------------------------------------------------------------------

    def do_DELE(self, i: Any) -> Any:
        """Mark a message in the mailbox; any end but QUIT takes it back."""
        async def answer(number: int, size: int) -> None:
            self._marking = True
            await self._change(self.mbox.deleteMessage, number - 1)
            self.successResponse()

        return self._about(i, answer, BAD_NUMBER)

    def do_NOOP(self) -> None:
        """Nothing."""
        self.successResponse()

    def do_RSET(self) -> Any:
        """Unmark every message."""
        async def unmark() -> None:
            await self._change(self.mbox.undeleteMessages)
            self._marking = False
            self._highest = 0
            self.successResponse()

        return self._operate(unmark())

    def do_LAST(self) -> None:
        """The highest message-number that was read (RFC 1460)."""
        self.successResponse(self._highest)

    # QUIT -------------------------------------------------------------------------------------

    def processCommand(self, command: bytes, *args: bytes) -> Any:
        """See Conversation. A subclass's own QUIT is trusted to sync."""
        if command.upper() == b"QUIT" and type(self).do_QUIT is not POP3.do_QUIT:
            self._quitting = True
        return super().processCommand(command, *args)

    def do_QUIT(self) -> Any:
        """Remove what is marked, log out, and say +OK only then (RFC 1939 section 6)."""
        if self.mbox is None:
            self.successResponse()
            self._close()
            return None
        return self._operate(self._quit())

    async def _quit(self) -> None:
        failure: Exception | None = None
        try:
            # Our own mailbox blocks in sync, for who cannot wait.
            commit = self.mbox.commit if isinstance(self.mbox, MaildropMailbox) else self.mbox.sync
            await self._change(commit)
            self._marking = False
        except Exception as fault:
            log.failure("sync failed")
            failure = fault
        await self._leave()
        if failure is None:
            self.successResponse()
        else:
            self.sendLine(commit_refusal(failure).removesuffix(b"\r\n"))
        self._close()


class _Transformed:
    """A subclass's transformChunk in the place of WireForm."""

    def __init__(self, transform: Callable[[bytes], bytes]) -> None:
        self._transform = transform
        self._line_start = True
        self.octets = 0

    def feed(self, data: bytes) -> bytes:
        wire = self._transform(data)
        self.octets += len(wire)
        if wire:
            self._line_start = wire.endswith(b"\n")
        return wire

    def finish(self) -> bytes:
        return b"" if self._line_start else b"\r\n"


def _digits(argument: Any) -> int | None:
    """Return a decimal number, or None for what is none; unlike int() it knows no sign, `_` or blank."""
    if isinstance(argument, int):
        return argument if argument >= 0 else None
    if not argument.isdigit() or len(argument) > MAX_NUMBER_DIGITS:
        return None
    return int(argument)


def _number(argument: Any) -> int | None:
    """Return a message-number, or None."""
    return _digits(argument) or None


def _argument(argument: Any) -> bytes:
    octets = argument if isinstance(argument, bytes) else str(argument).encode()
    return octets[:MAX_NUMBER_DIGITS] if octets.isalnum() else b"?"
