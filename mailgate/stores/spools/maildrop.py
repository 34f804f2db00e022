"""One session's maildrop over files of other programs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from mailgate.errors import LeaseLost, MailgateError, NoSuchMessage, StoreUnavailable
from mailgate.interfaces import Content, IMaildrop, ISpool, ISpoolReader, ITenure
from mailgate.model import Envelope, SpoolMessage
from mailgate.stores.readahead import Course, ReadAhead
from mailgate.stores.spools.listing import Shown
from mailgate.stores.spools.removal import Removal
from mailgate.stores.spools.streams import SpoolStream, WrongSize, read_small
from mailgate.stores.spools.threads import SpoolThreads

SMALL_OCTETS = 65536        # a message up to this is read whole, and ahead; a larger one is a stream

log = Logger()


@implementer(IMaildrop)
class SpoolMaildrop:
    """The avatar of one POP login: a lease, what the scan found, and how far was read ahead."""

    __slots__ = ("listing", "_ahead", "_course", "_ended", "_mistaken", "_one_call", "_removal", "_shown",
                 "_spool", "_tenure", "_threads")

    def __init__(self, threads: SpoolThreads, removal: Removal, ahead: ReadAhead[bytes], tenure: ITenure,
                 spool: ISpool, shown: Shown) -> None:
        self.listing = shown.listing
        self._threads = threads
        self._removal = removal
        self._ahead = ahead
        self._tenure = tenure
        self._spool = spool
        self._shown = shown
        self._course = Course()
        self._one_call = DeferredLock()         # a spool is used by one thread at a time
        self._mistaken: set[bytes] = set()      # names of messages that have other sizes than was remembered
        self._ended = False

    # Reading --------------------------------------------------------------------------------

    def fetch(self, number: int, body_lines: int | None = None) -> Content | Deferred[Content]:
        index, sizes = number - 1, self.listing.sizes
        if not 0 <= index < len(sizes):
            return fail(NoSuchMessage(number))
        if self._ended:
            return fail(StoreUnavailable("the session has ended"))
        if body_lines is not None and body_lines >= sizes[index]:
            body_lines = None       # a line has an octet at least: that is the whole message
        if not self._course.goes_on(index, body_lines):
            self._forget()
            self._course.restart(body_lines)
        self._course.advance(index)
        content = self._ahead.take((self, index))
        if content is not None:
            return content
        if sizes[index] > SMALL_OCTETS:
            return self._one_call.run(self._open_large, self._shown.message(index), body_lines)
        run = self._course.run(index, sizes, SMALL_OCTETS)
        messages = [self._shown.message(one) for one in run]
        reading = self._one_call.run(self._threads.run, self._read_run, messages, body_lines)
        return reading.addCallback(self._take_run, run)

    def _read_run(self, messages: Sequence[SpoolMessage],
                  body_lines: int | None) -> list[bytes | MailgateError | OSError]:
        """Return what can be read of some messages; in a thread."""
        found: list[bytes | MailgateError | OSError] = []
        for message in messages:
            try:
                found.append(read_small(self._spool, message, body_lines))
            except (MailgateError, OSError) as fault:
                found.append(fault)
        return found

    def _take_run(self, found: Sequence[bytes | MailgateError | OSError], run: range) -> bytes:
        for index, content in zip(run[1:], found[1:], strict=True):
            if isinstance(content, bytes) and not self._ended:
                self._ahead.put((self, index), content, len(content))
        self._mistaken.update(fault.name for fault in found if isinstance(fault, WrongSize))
        first = found[0]
        if isinstance(first, MailgateError):
            raise first
        if isinstance(first, OSError):
            log.error("a message cannot be read: {reason}", reason=first)
            raise StoreUnavailable(str(first)) from first
        return first

    def _open_large(self, message: SpoolMessage, body_lines: int | None) -> Deferred[Content]:
        opening: Deferred[ISpoolReader] = self._threads.run(self._spool.open, message.name)
        return opening.addCallback(self._opened, message, body_lines)

    def _opened(self, reader: ISpoolReader, message: SpoolMessage, body_lines: int | None) -> Content:
        if self._ended:
            reader.close()         # the client went away while the file was being opened
            raise StoreUnavailable("the session has ended")
        return SpoolStream(self._threads.run, reader, message, body_lines, self._mistaken.add)

    def envelope(self, number: int) -> Envelope | Deferred[Envelope]:
        if not 0 < number <= len(self.listing):
            return fail(NoSuchMessage(number))
        return self._shown.envelope(number - 1)

    def _forget(self) -> None:
        self._ahead.drop((self, index) for index in self._course.leftovers())

    # The end --------------------------------------------------------------------------------

    def commit(self, marked: Collection[int]) -> Deferred[None]:
        if self._ended:
            return fail(LeaseLost("the session has ended"))
        self._end()
        return self._threads.see_through(self._commit(sorted(set(marked))))

    async def _commit(self, marked: Sequence[int]) -> None:
        try:
            unknown = [number for number in marked if not 0 < number <= len(self.listing)]
            if unknown:
                raise NoSuchMessage(unknown)
            names = [self._shown.message(number - 1).name for number in marked]
            await self._one_call.acquire()
            await self._tell_mistakes()
            if names:
                await self._removal.remove(self._tenure, self._spool, names)
        finally:
            await self._tenure.release()

    def release(self) -> Deferred[None]:
        if self._ended:
            return succeed(None)
        self._end()
        return self._threads.see_through(self._release())

    async def _release(self) -> None:
        try:
            await self._tell_mistakes()
        finally:
            await self._tenure.release()

    def _end(self) -> None:
        self._ended = True
        self._forget()

    async def _tell_mistakes(self) -> None:
        """Have remembered what reading has shown otherwise than was remembered before."""
        learnt: dict[bytes, Any] = {**dict.fromkeys(self._mistaken), **self._spool.learnt()}
        if learnt:
            try:
                await self._tenure.amend(learnt)
            except MailgateError as fault:
                log.warn("sizes that were wrong stay so for now: {fault}", fault=fault)


class PeekedMaildrop(SpoolMaildrop):
    """What is there now, to be read without a lease."""

    __slots__ = ()

    def envelope(self, number: int) -> Envelope | Deferred[Envelope]:
        if not 0 < number <= len(self.listing):
            return fail(NoSuchMessage(number))
        looking = self._one_call.run(self._threads.run, self._look, self._shown.message(number - 1).name)
        return looking.addCallback(lambda _: self._shown.envelope(number - 1))

    def _look(self, name: bytes) -> None:
        """See that a message is there still; in a thread. Raises: NoSuchMessage."""
        self._spool.open(name).close()

    def commit(self, marked: Collection[int]) -> Deferred[None]:
        ending = self.release()
        return ending.addCallback(lambda _: fail(LeaseLost("there is no lease")))
