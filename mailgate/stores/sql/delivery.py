"""One message on its way into the embedded store."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from mailgate.errors import MailgateError, StoreFull
from mailgate.model import Placement
from mailgate.names import fold
from mailgate.stores.blobs import BlobFeed
from mailgate.stores.incoming import IncomingMessage, Outcomes
from mailgate.stores.sql.messages import Delivered, NewBody, NewCopy, text

KEY_OCTETS = 13             # of chance in the key of a delivery: never met again

T = TypeVar("T")


def new_key() -> str:
    """Return a random key of 26 hexadecimal digits."""
    return secrets.token_hex(KEY_OCTETS)


class SqlDelivery(IncomingMessage):
    """Small messages wait in memory and go into their row; larger ones are fed to the blob store.

    `place(body, copies, all_or_nothing, delivery_id)` runs the transaction; `commits` holds a Deferred for
    every commit under way.
    """

    def __init__(self, inline_octets: int, feed: Callable[[str], BlobFeed],
                 place: Callable[..., Deferred[Delivered]], commits: set[Deferred[None]]) -> None:
        super().__init__(inline_octets)
        self._key = new_key()
        self._feed_of = feed
        self._place = place
        self._commits = commits

    def _new_feed(self) -> BlobFeed:
        return self._feed_of(self._key)

    def _commit(self, prepared: Deferred[None], placements: Sequence[Placement], all_or_nothing: bool,
                delivery_id: str | None) -> Deferred[Outcomes]:
        copies = [self._copy(number, placement) for number, placement in enumerate(placements, 1)]
        end: Deferred[None] = Deferred()
        self._commits.add(end)
        placing = prepared.addCallback(self._place_rows, copies, all_or_nothing, delivery_id)
        return placing.addBoth(self._end_commit, end)

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
            self._feed.remove()
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
            self._feed.remove()
        assert isinstance(failure.value, (MailgateError, CancelledError))
        return failure
