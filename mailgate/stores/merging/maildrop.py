"""One session's maildrop over several stores: one numbering, each command sent to the part that it is for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.errors import LeaseLost, MailgateError, NoSuchMessage, PartlyRemoved
from mailgate.interfaces import Content, IMaildrop
from mailgate.model import Envelope, ScanListing
from mailgate.stores.merging.parts import Part

log = Logger()


@implementer(IMaildrop)
class MergedMaildrop:
    """The open maildrops of the parts, in order. `guard`: a lease that is held beside them.

    `listing` is that of all parts, one after the other.
    """

    __slots__ = ("listing", "_ended", "_guard", "_leased", "_parts", "_starts")

    def __init__(self, parts: Sequence[tuple[Part, IMaildrop]], listing: ScanListing, *,
                 guard: IMaildrop | None = None, leased: bool = True) -> None:
        self.listing = listing
        self._parts = parts
        self._guard = guard
        self._leased = leased
        self._ended = False
        self._starts = [0]          # by part: how many messages are in front of it
        for _, maildrop in parts:
            self._starts.append(self._starts[-1] + len(maildrop.listing))

    # Reading --------------------------------------------------------------------------------

    def fetch(self, number: int, body_lines: int | None = None) -> Content | Deferred[Content]:
        try:
            index, own = self._place(number)
        except NoSuchMessage as fault:
            return fail(fault)
        found: Content | Deferred[Content] = self._parts[index][1].fetch(own, body_lines)
        return found

    def envelope(self, number: int) -> Envelope | Deferred[Envelope]:
        try:
            index, own = self._place(number)
        except NoSuchMessage as fault:
            return fail(fault)
        found: Envelope | Deferred[Envelope] = self._parts[index][1].envelope(own)
        return found

    def _place(self, number: int) -> tuple[int, int]:
        """Return a message's part, counted from 0, and its number there. Raises: NoSuchMessage."""
        if not 0 < number <= self._starts[-1]:
            raise NoSuchMessage(number)
        index = bisect_right(self._starts, number - 1) - 1
        return index, number - self._starts[index]

    # The end --------------------------------------------------------------------------------

    def commit(self, marked: Collection[int]) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()    # may be cancelled: the parts go on, or some would not begin

        def done(outcome: Any) -> None:
            if not waiting.called:
                waiting.callback(outcome)       # a Failure goes the errback's way
            elif isinstance(outcome, Failure) and not outcome.check(MailgateError):
                log.failure("after its client had gone", outcome)

        Deferred.fromCoroutine(self._commit(marked)).addBoth(done)
        return waiting

    async def _commit(self, marked: Collection[int]) -> None:
        """Remove what is marked, part by part.

        If one fails before anything was removed, nothing more is: then it is all or none, as in one
        store. After that the others are still asked, as the client wanted, and the answer is that some are
        left.
        """
        if self._ended or not self._leased:
            raise LeaseLost("the session has ended" if self._ended else "there is no lease")
        self._ended = True
        try:
            await self._remove(self._by_part(marked))
        finally:
            await self._release_all()

    def _by_part(self, marked: Collection[int]) -> list[list[int]]:
        """Return the marked messages of each part, by its own numbers. Raises: NoSuchMessage."""
        by_part: list[list[int]] = [[] for _ in self._parts]
        for index, own in map(self._place, sorted(set(marked))):
            by_part[index].append(own)
        return by_part

    async def _remove(self, by_part: list[list[int]]) -> None:
        removed: list[str] = []
        left: list[str] = []
        first: MailgateError | None = None
        for (part, maildrop), numbers in zip(self._parts, by_part, strict=True):
            if not numbers:
                continue
            try:
                await maildrop.commit(numbers)
                removed.append(part.name)
            except MailgateError as fault:
                first = first or part.told(fault)
                left.append(part.name)
                if not removed:
                    break
        if first is None:
            return
        words = f"removed in {', '.join(removed) or 'no store'}, not in {', '.join(left)}: {first}"
        log.warn("QUIT: {words}", words=words)
        if removed:
            raise PartlyRemoved(words) from first
        raise first

    def release(self) -> Deferred[None]:
        if self._ended:
            return succeed(None)
        self._ended = True
        return self._release_all()

    def _release_all(self) -> Deferred[None]:
        """Give up every lease; one that a commit has given up already is no error."""
        held = [maildrop for _, maildrop in self._parts]
        if self._guard is not None:
            held.append(self._guard)
        return DeferredList([one.release() for one in held]).addCallback(lambda _: None)
