"""Messages on their way out of a spool: from other programs' line ends to the wire form, sizes held to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.errors import StoreUnavailable
from mailgate.interfaces import IMessageStream, ISpool, ISpoolReader
from mailgate.model import SpoolMessage
from mailgate.wire.dots import TopCutter, WireForm, cut_top

PIECE_OCTETS = 65536


class WrongSize(StoreUnavailable):
    """A message that is not as long as the listing says: it was changed since it was looked at."""

    def __init__(self, name: bytes) -> None:
        super().__init__(f"message {name!r} is not as long as it was")
        self.name = name


def read_small(spool: ISpool, message: SpoolMessage, body_lines: int | None) -> bytes:
    """Return a message, or its top, in wire form; blocks. Raises: NoSuchMessage, StoreUnavailable."""
    form = WireForm()
    wire = []
    reader = spool.open(message.name)
    try:
        while form.octets <= message.octets and (piece := reader.read(PIECE_OCTETS)):
            wire.append(form.feed(piece))
    finally:
        reader.close()
    wire.append(form.finish())
    if form.octets != message.octets:
        raise WrongSize(message.name)
    whole = b"".join(wire)
    return whole if body_lines is None else cut_top(whole, form.head_octets, body_lines)


@implementer(IMessageStream)
class SpoolStream:
    """A large message, read and turned into wire form one piece at a time, in threads."""

    __slots__ = ("_closed", "_cutter", "_form", "_in_thread", "_mistaken", "_message", "_reader", "_reading",
                 "_ready")

    def __init__(self, in_thread: Callable[..., Deferred[Any]], reader: ISpoolReader, message: SpoolMessage,
                 body_lines: int | None, mistaken: Callable[[bytes], None]) -> None:
        self._in_thread = in_thread
        self._reader: ISpoolReader | None = reader
        self._message = message
        self._form = WireForm()
        self._cutter = None if body_lines is None else TopCutter(body_lines)
        self._mistaken = mistaken       # told the name, if the message turns out to have another size
        self._ready = b""
        self._reading = False
        self._closed = False

    def read(self) -> Deferred[bytes]:
        if self._closed:
            return fail(StoreUnavailable("the stream is closed"))
        self._reading = True
        # Cancelling does not reach the thread: the file stays open until its read has returned.
        waiting: Deferred[bytes] = Deferred()
        call: Deferred[bytes] = self._in_thread(self._next)
        call.addBoth(self._read).addBoth(waiting.callback)
        return waiting

    def close(self) -> None:
        self._closed = True
        self._ready = b""
        if not self._reading:           # else when the read returns: the thread still uses the file
            self._close_reader()

    def _read(self, outcome: bytes | Failure) -> bytes | Failure:
        self._reading = False
        if isinstance(outcome, Failure):
            if outcome.check(WrongSize):
                self._mistaken(self._message.name)
            self.close()
        elif self._closed:
            self._close_reader()
        return outcome

    def _next(self) -> bytes:
        """Return the next piece; in a thread. Raises: StoreUnavailable."""
        while not self._ready and self._reader is not None:
            self._ready = self._more(self._reader)
        piece, self._ready = self._ready[:PIECE_OCTETS], self._ready[PIECE_OCTETS:]
        return piece

    def _more(self, reader: ISpoolReader) -> bytes:
        raw = reader.read(PIECE_OCTETS)
        wire = self._form.feed(raw) if raw else self._form.finish()
        octets = self._form.octets
        if octets > self._message.octets or (not raw and octets < self._message.octets):
            raise WrongSize(self._message.name)     # before any octet too many is on its way
        if self._cutter is not None:
            wire = self._cutter.feed(wire)
        if not raw or (self._cutter is not None and self._cutter.done):
            self._close_reader()
        return wire

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
