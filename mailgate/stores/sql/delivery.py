"""One message on its way into the embedded store."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.errors import MailgateError, StoreFull, StoreUnavailable
from mailgate.interfaces import IPreparedDelivery
from mailgate.model import Placement
from mailgate.names import fold
from mailgate.stores.blobs import BlobFeed
from mailgate.stores.kept import as_kept
from mailgate.stores.sql.messages import Delivered, NewBody, NewCopy, text
from mailgate.wire.dots import WireForm

KEY_OCTETS = 13             # of chance in the key of a delivery: never met again
Outcomes = list["Exception | None"]

T = TypeVar("T")


def new_key() -> str:
    """Return a random key of 26 hexadecimal digits."""
    return secrets.token_hex(KEY_OCTETS)


@implementer(IPreparedDelivery)
class SqlDelivery:
    """Small messages wait in memory and go into their row; larger ones are fed to the blob store.

    `place(body, copies, all_or_nothing, delivery_id)` runs the transaction; `forget_blob(key)`
    removes a blob that no row names; `commits` holds a Deferred for every commit under way.
    """

    def __init__(self, inline_octets: int, feed: Callable[[str], BlobFeed],
                 place: Callable[..., Deferred[Delivered]], forget_blob: Callable[[str], None],
                 commits: set[Deferred[None]]) -> None:
        self._inline_octets = inline_octets
        self._new_feed = feed
        self._place = place
        self._forget_blob = forget_blob
        self._commits = commits
        self._key = new_key()
        self._form = WireForm()
        self._pieces: list[bytes] = []      # while it is small
        self._feed: BlobFeed | None = None  # once it is not
        self._complete = False              # nothing more is written
        self._on_disk = False               # what is not in the rows
        self._ended = False                 # committed or aborted
        self._aborted = False

    def write(self, content: bytes) -> Deferred[None] | None:
        if self._complete or self._ended:
            return None
        return self._append(self._form.feed(content))

    def _append(self, wire: bytes) -> Deferred[None] | None:
        if self._feed is not None:
            return self._feed.write(wire)
        self._pieces.append(wire)
        if self._form.wire_octets <= self._inline_octets:
            return None
        self._feed = self._new_feed(self._key)
        wire = b"".join(self._pieces)
        self._pieces.clear()
        return self._feed.write(wire)

    def prepare(self) -> Deferred[None]:
        if self._complete or self._ended:
            return fail(StoreUnavailable("the delivery has ended"))
        last = self._form.finish()
        if self._feed is None:
            self._append(last)
            last = b""
        self._complete = True
        on_disk: Deferred[None] = succeed(None) if self._feed is None else self._feed.finish(last)
        return on_disk.addCallbacks(self._prepared, self._not_prepared)

    def _prepared(self, _: None) -> None:
        self._on_disk = True
        if self._aborted:   # meanwhile
            self._discard()

    def _not_prepared(self, failure: Failure) -> Failure:
        self._ended = True
        return failure

    def commit(self, placements: Sequence[Placement], *, all_or_nothing: bool = False,
               delivery_id: str | None = None) -> Deferred[Outcomes]:
        if self._ended or (self._complete and not self._on_disk):
            return fail(StoreUnavailable("the delivery has ended"))
        try:
            kept = [as_kept(placement) for placement in placements]
        except MailgateError:
            self.abort()
            return fail()
        prepared: Deferred[None] = succeed(None) if self._complete else self.prepare()
        self._ended = True
        copies = [self._copy(number, placement) for number, placement in enumerate(kept, 1)]
        end: Deferred[None] = Deferred()
        self._commits.add(end)
        placing = prepared.addCallback(self._place_rows, copies, all_or_nothing, delivery_id)
        return placing.addBoth(self._end_commit, end)

    def abort(self) -> None:
        if not self._ended:
            self._ended = self._aborted = True
            self._discard()

    def _discard(self) -> None:
        """Leave nothing of the message; while its body is being synced, later."""
        self._pieces.clear()
        if self._feed is not None and self._on_disk:
            self._forget_blob(self._key)
        elif self._feed is not None and not self._complete:
            self._feed.abandon()

    def _copy(self, number: int, placement: Placement) -> NewCopy:
        return NewCopy(
            maildrop_key=text(fold(placement.maildrop)),
            maildrop=text(placement.maildrop),
            octets=len(placement.preamble) + self._form.octets,
            unique_id=f"{self._key}.{number}".encode(),
            old_id=placement.unique_id,
            identity=placement.unique_id if placement.identity is None else placement.identity,
            user_key=None if placement.user is None else text(fold(placement.user)),
            envelope=placement.envelope,
            preamble=placement.preamble,
            account=placement.account,
            folder=placement.folder,
            flags=placement.flags)

    def _place_rows(self, _: None, copies: list[NewCopy], all_or_nothing: bool,
                    delivery_id: str | None) -> Deferred[Outcomes]:
        large = self._feed is not None
        body = NewBody(self._form.octets, self._form.wire_octets, self._form.head_octets,
                       self._key if large else None, None if large else b"".join(self._pieces))
        self._pieces.clear()
        placing = self._place(body, copies, all_or_nothing, delivery_id)
        return placing.addCallbacks(self._placed, self._not_placed)

    def _placed(self, delivered: Delivered) -> Outcomes:
        if self._feed is not None and not delivered.body_used:
            self._forget_blob(self._key)
        return delivered.outcomes

    def _end_commit(self, outcome: T, end: Deferred[None]) -> T:
        self._commits.remove(end)
        end.callback(None)
        return outcome

    def _not_placed(self, failure: Failure) -> Failure:
        """Remove the blob of a transaction that failed for want of space.

        After any other failure the commit may yet turn out to have been written (a sync that
        failed says nothing of what is on disk), so the blob waits for the sweep.
        """
        if self._feed is not None and failure.check(StoreFull):
            self._forget_blob(self._key)
        assert isinstance(failure.value, MailgateError)
        return failure
