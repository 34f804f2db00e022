"""Bodies on their way between the reactor's thread and a blob store, whose calls block.

`InThread` is what carries a call into a thread: it returns a Deferred that fails only with
MailgateError. One call at a time is under way for each body.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.errors import MailgateError, StoreUnavailable
from mailgate.interfaces import Content, IBlobReader, IBlobStore, IBlobWriter, IMessageStream
from mailgate.wire.dots import TopCutter

PIECE_OCTETS = 65536            # of one read, and of one write to the blob store
MOST_UNWRITTEN_OCTETS = 262144  # what may wait for the blob store before the sender is held back

InThread = Callable[..., Deferred[Any]]
log = Logger()


class BlobFeed:
    """Write a new blob piece by piece, from the reactor's thread, with back-pressure.

    It lives on until what it removes again is gone: who holds it weakly knows of every blob under way.
    """

    def __init__(self, in_thread: InThread, blobs: IBlobStore, key: str) -> None:
        self.key = key
        self._in_thread = in_thread
        self._blobs = blobs
        self._writer: IBlobWriter | None = None         # made in a thread, with the first piece
        self._pieces: list[bytes] = []
        self._unwritten = 0                             # octets, those under way counted
        self._busy = False
        self._fault: MailgateError | None = None
        self._waiting: Deferred[None] | None = None     # the sender
        self._finished: Deferred[None] | None = None    # who asked for the end
        self._abandoned = False

    def write(self, data: bytes) -> Deferred[None] | None:
        """Append. A Deferred asks the sender to wait; it fails when the blob fails."""
        if self._fault is not None or self._abandoned:
            return None
        self._pieces.append(data)
        self._unwritten += len(data)
        self._go_on()
        if self._unwritten <= MOST_UNWRITTEN_OCTETS or not self._busy:     # not: a stopped store failed
            return None
        if self._waiting is None:
            self._waiting = Deferred()
        return self._waiting

    def finish(self, last: bytes) -> Deferred[None]:
        """Append and make the blob durable. Raises: StoreUnavailable, and then nothing is left of it."""
        if self._fault is not None:
            return fail(self._fault)
        self._pieces.append(last)
        self._unwritten += len(last)
        self._finished = Deferred()
        self._go_on()
        return self._finished

    def abandon(self) -> None:
        """Remove what was written, now or as soon as the call under way returns."""
        self._abandoned = True
        self._go_on()

    def remove(self) -> Deferred[None]:
        """Remove the finished blob, as nothing names it. Never fails: what is left waits for the sweep."""
        return self._in_thread(self._blobs.remove, self.key).addErrback(self._left_over)

    def _go_on(self) -> None:
        if self._busy:
            return
        if self._abandoned or self._fault is not None:
            self._pieces.clear()
            writer, self._writer = self._writer, None
            if writer is not None:
                self._in_thread(writer.abandon).addErrback(self._left_over)
        elif self._finished is not None or self._unwritten >= PIECE_OCTETS:
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._busy = True
            call = self._in_thread(self._write, data, self._finished is not None)
            call.addCallbacks(self._written, self._failed, callbackArgs=(len(data),))

    def _write(self, data: bytes, last: bool) -> bool:
        """Runs in a thread. Returns whether the blob is finished."""
        if self._writer is None:
            self._writer = self._blobs.create(self.key)
        self._writer.write(data)
        if last:
            self._writer.finish()
        return last

    def _written(self, finished: bool, octets: int) -> None:
        self._busy = False
        self._unwritten -= octets
        waiting, self._waiting = self._waiting, None
        if finished:
            self._writer = None
            assert self._finished is not None
            self._finished.callback(None)
        else:
            self._go_on()
        if waiting is not None:
            waiting.callback(None)

    def _failed(self, failure: Failure) -> None:
        self._busy = False
        assert isinstance(failure.value, MailgateError)
        self._fault = failure.value
        self._go_on()
        waiting, self._waiting = self._waiting, None
        for deferred in (waiting, self._finished):
            if deferred is not None:
                deferred.errback(self._fault)

    def _left_over(self, failure: Failure) -> None:
        log.warn("blob {key} was not removed and waits for the sweep: {reason}", key=self.key,
                 reason=failure.value)


def fetch_blob(in_thread: InThread, blobs: IBlobStore, key: str, preamble: bytes, wire_octets: int,
               cutter: TopCutter | None = None) -> Deferred[Content]:
    """Return a message whose body is a blob: a stream, or the octets where the first piece is all.

    `wire_octets` of the body are wanted; `cutter` may end it earlier. Raises: StoreUnavailable.
    """
    def open_and_read() -> tuple[IBlobReader, bytes]:
        reader, wanted = blobs.open(key), min(max(PIECE_OCTETS - len(preamble), 1), wire_octets)
        try:
            piece = reader.read(0, wanted)
            if len(piece) < wanted:
                raise StoreUnavailable(f"blob {key} is shorter than its row says")
        except BaseException:
            reader.close()
            raise
        return reader, piece

    def first_piece(opened: tuple[IBlobReader, bytes]) -> Content:
        reader, piece = opened
        stream = BlobStream(in_thread, reader, preamble, piece, wire_octets, cutter)
        return stream.take_all() if stream.at_end else stream

    opening: Deferred[tuple[IBlobReader, bytes]] = in_thread(open_and_read)
    return opening.addCallback(first_piece)


@implementer(IMessageStream)
class BlobStream:
    """A message whose body is a blob, read one piece at a time. The file is closed with the last one."""

    __slots__ = ("_in_thread", "_reader", "_ready", "_offset", "_wire_octets", "_cutter", "_reading",
                 "_closed")

    def __init__(self, in_thread: InThread, reader: IBlobReader, preamble: bytes, piece: bytes,
                 wire_octets: int, cutter: TopCutter | None) -> None:
        self._in_thread = in_thread
        self._reader: IBlobReader | None = reader
        self._cutter = cutter
        self._wire_octets = wire_octets
        self._offset = 0                # of the next read in the blob
        self._ready = b""               # read, not yet handed out
        self._reading = False
        self._closed = False
        self._take_in(preamble + piece, len(piece))

    @property
    def at_end(self) -> bool:
        """Whether nothing is left to be read from the blob."""
        return self._reader is None

    def take_all(self) -> bytes:
        """Return what was read and not yet handed out."""
        ready, self._ready = self._ready, b""
        return ready

    def read(self) -> Deferred[bytes]:
        if self._closed:
            return fail(StoreUnavailable("the stream is closed"))
        if self._ready or self._reader is None:
            return succeed(self._hand_out())
        wanted = min(PIECE_OCTETS, self._wire_octets - self._offset)
        at_hand = getattr(self._reader, "read_at_hand", None)       # blob stores may have it
        piece = at_hand(self._offset, wanted) if at_hand is not None else None
        if piece is not None:
            self._take_in(piece, len(piece))
            return succeed(self._hand_out())
        self._reading = True
        # Cancelling does not reach the thread: the file stays open until its read has returned.
        waiting: Deferred[bytes] = Deferred()
        call: Deferred[bytes] = self._in_thread(self._reader.read, self._offset, wanted)
        call.addBoth(self._read).addBoth(waiting.callback)
        return waiting

    def close(self) -> None:
        self._closed = True
        self._ready = b""
        if not self._reading:           # else when the read returns: the thread still uses the file
            self._close_reader()

    def _read(self, outcome: bytes | Failure) -> bytes | Failure:
        self._reading = False
        if isinstance(outcome, Failure) or self._closed:
            self._closed = True
            self._close_reader()
            return outcome
        if not outcome:
            self.close()
            raise StoreUnavailable("a body is shorter than its row says")
        self._take_in(outcome, len(outcome))
        return self._hand_out()

    def _take_in(self, wire: bytes, body_octets: int) -> None:
        self._offset += body_octets
        self._ready = wire if self._cutter is None else self._cutter.feed(wire)
        if self._offset >= self._wire_octets or (self._cutter is not None and self._cutter.done):
            self._close_reader()

    def _hand_out(self) -> bytes:
        piece, self._ready = self._ready[:PIECE_OCTETS], self._ready[PIECE_OCTETS:]
        return piece

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
