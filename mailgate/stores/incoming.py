"""A message on its way into a store, until its commit: what adapters with a place for bodies do alike."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.errors import MailgateError, StoreUnavailable
from mailgate.interfaces import IPreparedDelivery
from mailgate.model import Placement
from mailgate.stores.blobs import BlobFeed
from mailgate.stores.kept import as_kept
from mailgate.wire.dots import WireForm

Outcomes = list["Exception | None"]


@implementer(IPreparedDelivery)
class IncomingMessage:
    """Waits in memory while it is small; a larger one is fed to the blob store as it comes.

    A subclass says what is kept of the wire form (`_shaped`), where a large message goes (`_new_feed`) and
    what a commit does (`_commit`).
    """

    def __init__(self, inline_octets: int) -> None:
        self._inline_octets = inline_octets
        self._form = WireForm()
        self._pieces: list[bytes] = []      # while it is small
        self._feed: BlobFeed | None = None  # once it is not
        self._complete = False              # nothing more is written
        self._on_disk = False               # what does not wait in memory
        self._ended = False                 # committed or aborted
        self._aborted = False

    def _shaped(self, wire: bytes) -> bytes:
        """Return what is kept of octets in wire form."""
        return wire

    def _new_feed(self) -> BlobFeed:
        """Return what a large message is fed to."""
        raise NotImplementedError

    def _commit(self, prepared: Deferred[None], placements: Sequence[Placement], all_or_nothing: bool,
                delivery_id: str | None) -> Deferred[Outcomes]:
        """Store the message once it is prepared."""
        raise NotImplementedError

    def write(self, content: bytes) -> Deferred[None] | None:
        if self._complete or self._ended:
            return None
        return self._append(self._shaped(self._form.feed(content)))

    def _append(self, octets: bytes) -> Deferred[None] | None:
        if self._feed is not None:
            return self._feed.write(octets)
        self._pieces.append(octets)
        if self._form.wire_octets <= self._inline_octets:
            return None
        self._feed = self._new_feed()
        octets = b"".join(self._pieces)
        self._pieces.clear()
        return self._feed.write(octets)

    def prepare(self) -> Deferred[None]:
        if self._complete or self._ended:
            return fail(StoreUnavailable("the delivery has ended"))
        last = self._shaped(self._form.finish())
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
        return self._commit(prepared, kept, all_or_nothing, delivery_id)

    def abort(self) -> None:
        if not self._ended:
            self._ended = self._aborted = True
            self._discard()

    def _discard(self) -> None:
        """Leave nothing of the message; while its body is being synced, later."""
        self._pieces.clear()
        if self._feed is not None and self._on_disk:
            self._feed.remove()
        elif self._feed is not None and not self._complete:
            self._feed.abandon()
