"""One session's maildrop over SQL, and one that is read without a session."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.errors import LeaseLost, MailgateError, NoSuchMessage, StoreUnavailable
from mailgate.interfaces import Content, IMaildrop
from mailgate.model import Envelope
from mailgate.stores.blobs import fetch_blob
from mailgate.stores.blobsahead import SMALL_OCTETS, Wish, read_small
from mailgate.stores.readahead import Course
from mailgate.stores.sql.database import Database
from mailgate.stores.sql.leases import Lease
from mailgate.stores.sql.messages import (
    BURIED_OCTETS,
    Snapshot,
    StoredBody,
    read_bodies,
    read_envelopes,
    remove_marked,
)
from mailgate.wire.dots import TopCutter, cut_top

ENVELOPE = "envelope"           # a kind of reading ahead, beside None (whole messages) and TOP's lines
ENVELOPE_OCTETS = 300           # of one, as the read-ahead store counts it

Coming = dict[int, "list[Deferred[Content]]"]   # by index; each with those who wait for it


@implementer(IMaildrop)
class SqlMaildrop:
    """The avatar of one POP login: a shared snapshot, a lease, and how far was read ahead."""

    __slots__ = ("listing", "_coming", "_contents", "_database", "_ended", "_envelopes", "_inline_octets",
                 "_lease", "_snapshot")

    def __init__(self, database: Database, lease: Lease, snapshot: Snapshot, inline_octets: int) -> None:
        self.listing = snapshot.listing
        self._snapshot = snapshot
        self._database = database
        self._lease = lease
        self._inline_octets = inline_octets
        self._contents = Course()
        self._envelopes = Course(ENVELOPE)
        self._coming: Coming | None = None      # small bodies on their way from the blob store
        self._ended = False

    # Reading --------------------------------------------------------------------------------

    def fetch(self, number: int, body_lines: int | None = None) -> Content | Deferred[Content]:
        index = number - 1
        if not 0 <= index < len(self.listing):
            return fail(NoSuchMessage(number))
        if body_lines is not None and body_lines >= self.listing.sizes[index]:
            body_lines = None       # a line has an octet at least: that is the whole message
        content: Content | None = self._read_before(self._contents, index, body_lines)
        if content is not None:
            return content
        if self._coming and index in self._coming:
            waiting: Deferred[Content] = Deferred()
            self._coming[index].append(waiting)
            return waiting
        if body_lines == 0:
            run = self._contents.run_of_small(index, len(self.listing))
        else:
            run = self._contents.run(index, self.listing.sizes, max(self._inline_octets, SMALL_OCTETS))
        return self._read_rows(read_bodies, run, body_lines == 0).addCallback(
            self._take_bodies, run, body_lines)

    def envelope(self, number: int) -> Envelope | Deferred[Envelope]:
        index = number - 1
        if not 0 <= index < len(self.listing):
            return fail(NoSuchMessage(number))
        envelope: Envelope | None = self._read_before(self._envelopes, index, ENVELOPE)
        if envelope is not None:
            return envelope
        run = self._envelopes.run_of_small(index, len(self.listing))
        return self._read_rows(read_envelopes, run).addCallback(self._take_envelopes, run)

    def _read_before(self, course: Course, index: int, kind: Any) -> Any:
        """Return what was read ahead for a request, or None; take notice of the request."""
        if not course.goes_on(index, kind):
            self._forget(course)
            course.restart(kind)
            if course is self._contents:
                self._coming = None
        course.advance(index)
        return self._database.ahead.take((self._lease.session, index, kind))

    def _read_rows(self, operation: Callable[..., dict[int, Any]], run: range, *args: Any) -> Deferred[Any]:
        if self._ended:
            return fail(StoreUnavailable("the session has ended"))
        serials = self._snapshot.serials[run.start:run.stop]
        return self._database.reader.run(operation, self._lease.maildrop_id, serials, *args)

    def _take_bodies(self, bodies: dict[int, StoredBody], run: range,
                     body_lines: int | None) -> Content | Deferred[Content]:
        wanted: StoredBody = self._first(bodies, run)
        small: dict[int, StoredBody] = {}       # in the blob store
        for index in run:
            body = bodies.get(self._snapshot.serials[index])
            if body is None:
                continue
            if body.data is None:
                if _octets(body, body_lines) <= SMALL_OCTETS:
                    small[index] = body
            elif index != run.start:
                content = _cut(body, body_lines)
                self._keep(index, body_lines, content, len(content))
        waiting: Deferred[Content] = Deferred()
        self._read_small(small, body_lines, run.start, waiting)
        if wanted.data is not None:
            return _cut(wanted, body_lines)
        if run.start in small:
            return waiting
        assert wanted.key is not None
        cutter = TopCutter(body_lines) if body_lines else None
        return fetch_blob(self._database.in_thread, self._database.blobs, wanted.key, wanted.preamble,
                          _octets(wanted, body_lines), cutter).addCallback(self._close_if_ended)

    def _read_small(self, small: dict[int, StoredBody], body_lines: int | None, wanted: int,
                    waiting: Deferred[Content]) -> None:
        """Read bodies out of the blob store; `waiting` gets the wanted one's, what is early is kept."""
        if not small:
            return
        coming: Coming = {index: [] for index in small}
        if wanted in coming:
            coming[wanted].append(waiting)
        self._coming = coming if self._contents.kind == body_lines else None

        def arrived(index: int, outcome: bytes | Failure) -> None:
            content = outcome if isinstance(outcome, Failure) else _cut(
                small[index]._replace(data=outcome), body_lines)
            asked = coming.pop(index)
            for deferred in asked:
                deferred.callback(content)
            if not asked and self._coming is coming and not isinstance(content, Failure):
                self._keep(index, body_lines, content, len(content))

        read_small(self._database.in_thread, self._database.blobs,
                   [Wish(index, body.key or "", _octets(body, body_lines)) for index, body in small.items()],
                   arrived)

    def _take_envelopes(self, envelopes: dict[int, Envelope], run: range) -> Envelope:
        wanted: Envelope = self._first(envelopes, run)
        for index in run[1:]:
            envelope = envelopes.get(self._snapshot.serials[index])
            if envelope is not None:
                self._keep(index, ENVELOPE, envelope, ENVELOPE_OCTETS)
        return wanted

    def _first(self, rows: dict[int, Any], run: range) -> Any:
        row = rows.get(self._snapshot.serials[run.start])
        if row is None:
            raise NoSuchMessage(f"message {run.start + 1} is gone")
        return row

    def _keep(self, index: int, kind: Any, value: Any, octets: int) -> None:
        if not self._ended:
            self._database.ahead.put((self._lease.session, index, kind), value, octets)

    def _forget(self, course: Course) -> None:
        self._database.ahead.drop((self._lease.session, index, course.kind) for index in course.leftovers())

    def _close_if_ended(self, content: Content) -> Content:
        if self._ended and not isinstance(content, bytes):
            content.close()         # the client went away while the file was being opened
            raise StoreUnavailable("the session has ended")
        return content

    # The end --------------------------------------------------------------------------------

    def commit(self, marked: Collection[int]) -> Deferred[None]:
        try:
            serials = self._end(marked)
        except MailgateError:
            return fail()
        if not serials:
            return self._database.release(self._lease)
        committing = self._database.writer.run(remove_marked, self._lease, serials, durable=True)
        return committing.addCallbacks(self._committed, self._not_committed, callbackArgs=(marked,))

    def commit_blocking(self, marked: Collection[int]) -> None:
        """Do what `commit` does before returning, for callers that cannot wait for a Deferred.

        Blocks the calling thread, the reactor's, for as long as a synced commit takes. Raises what
        the Deferred of `commit` fails with.
        """
        serials = self._end(marked)
        if not serials:
            self._database.release(self._lease)
            return
        try:
            self._database.writer.run_blocking(remove_marked, self._lease, serials, durable=True)
        except MailgateError:
            self._database.release(self._lease)
            raise
        self._committed(None, marked)

    def release(self) -> Deferred[None]:
        if self._ended:
            return succeed(None)
        self._end(())
        return self._database.release(self._lease)

    def _end(self, marked: Collection[int]) -> list[int]:
        """End the session; return the serials of the marked messages.

        Raises: LeaseLost, at the second time; NoSuchMessage, and then the lease is given up.
        """
        if self._ended:
            raise LeaseLost("the session has ended")
        self._ended = True
        self._forget(self._contents)
        self._forget(self._envelopes)
        serials = self._snapshot.serials
        unknown = [number for number in marked if not 0 < number <= len(serials)]
        if unknown:
            self._database.release(self._lease)
            raise NoSuchMessage(unknown)
        return [serials[number - 1] for number in sorted(set(marked))]

    def _committed(self, result: None, marked: Collection[int]) -> None:
        sizes = self.listing.sizes
        if sum(sizes[number - 1] for number in marked) > BURIED_OCTETS:
            self._database.bury()

    def _not_committed(self, failure: Failure) -> Deferred[None]:
        released = self._database.release(self._lease)
        return released.addCallback(lambda _: failure)


class PeekedMaildrop(SqlMaildrop):
    """A folder's messages, read without a lease: what it is given for one is in no table."""

    __slots__ = ()

    def commit(self, marked: Collection[int]) -> Deferred[None]:
        try:
            self.commit_blocking(marked)
        except MailgateError:
            return fail()
        return succeed(None)

    def commit_blocking(self, marked: Collection[int]) -> None:
        self.release()
        raise LeaseLost("there is no lease")

    def release(self) -> Deferred[None]:
        if not self._ended:
            self._end(())
        return succeed(None)


def _octets(body: StoredBody, body_lines: int | None) -> int:
    """Return how much of a body has to be read for a message, or for its top."""
    return body.head_octets if body_lines == 0 else body.wire_octets


def _cut(body: StoredBody, body_lines: int | None) -> bytes:
    """Return a message, or its top; without lines of the body its row was read as a header alone."""
    assert body.data is not None
    whole = body.preamble + body.data
    if not body_lines:
        return whole
    return cut_top(whole, len(body.preamble) + body.head_octets, body_lines)
