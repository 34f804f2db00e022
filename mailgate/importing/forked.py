"""A source that another process reads: one that keeps the rights that this process is about to give up.

The reader is forked from this process and does nothing but read; what it read comes through a pipe.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from mailgate.errors import MailgateError, StoreUnavailable
from mailgate.formats.entries import BadSource, NotPlain
from mailgate.importing.source import Source, SourceMessage, Unreadable

# What reading raises by contract, and the reader hands on; FileNotFoundError besides.
_FAULTS: dict[str, type[MailgateError]] = {
    kind.__name__: kind for kind in (BadSource, NotPlain, StoreUnavailable, Unreadable)}
_GONE = FileNotFoundError.__name__


class _Begun(NamedTuple):
    """A message begins; its pieces follow as octets."""

    name: str
    octets: int
    folder: str


class _Ended(NamedTuple):
    """A message was read to its end: what is known of it now."""

    octets: int
    arrived_ms: int
    unique_id: bytes | None
    sender: bytes | None
    identity: str
    flags: str


class _Fault(NamedTuple):
    """Reading failed: within a message that message, otherwise the source."""

    kind: str
    words: str


class ForkedSource:
    """The messages of a source, read by a process that is forked here and now.

    Make it before there are threads. It serves one reading.
    """

    def __init__(self, source: Source) -> None:
        self.octets = source.octets
        reading, writing = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(reading)
            _serve(source, writing)     # never returns
        os.close(writing)
        self._pipe: BinaryIO = os.fdopen(reading, "rb")

    def messages(self) -> Iterator[ForkedMessage]:
        """Give the messages. Raises: as the source; BadSource, if its reader died."""
        try:
            while (record := self.next_record()) is not None:
                assert isinstance(record, _Begun), record
                message = ForkedMessage(self, *record)
                yield message
                for _ in message.pieces():      # what the caller left
                    pass
        finally:
            self._pipe.close()
            os.waitpid(self._child, 0)

    def next_record(self) -> Any:
        """Return what comes next; None at the end. Raises: what the reader met between two messages."""
        try:
            record = pickle.load(self._pipe)    # of our own process: it has more rights than we
        except (EOFError, pickle.UnpicklingError) as fault:
            raise BadSource("the process that reads has died") from fault
        if isinstance(record, _Fault) and record.kind in _FAULTS:
            raise _FAULTS[record.kind](record.words)
        if isinstance(record, _Fault):
            raise FileNotFoundError(record.words)
        return record


class ForkedMessage:
    """One message, as it comes."""

    arrived_ms = 0
    unique_id: bytes | None = None
    sender: bytes | None = None
    flags = ""

    def __init__(self, source: ForkedSource, name: str, octets: int, folder: str) -> None:
        self.name = name
        self.octets = octets
        self.folder = folder
        self._source = source
        self._over = False
        self._identity = ""

    def identity(self) -> str:
        """See SourceMessage."""
        return self._identity

    def pieces(self) -> Iterator[bytes]:
        """Give the content; see SourceMessage."""
        while not self._over:
            try:
                record = self._source.next_record()
            except BaseException:
                self._over = True
                raise
            if isinstance(record, bytes):
                yield record
                continue
            self._over = True
            (self.octets, self.arrived_ms, self.unique_id, self.sender, self._identity,
             self.flags) = record


def _serve(source: Source, descriptor: int) -> None:
    """Write every message of a source into a pipe, and end the process."""
    code = os.EX_OK
    try:
        with open(descriptor, "wb") as pipe:
            try:
                for message in source.messages():
                    _write(message, pipe)
                _send(None, pipe)
            except tuple(_FAULTS.values()) as fault:
                _send(_Fault(type(fault).__name__, str(fault)), pipe)
    except BaseException:       # who reads has gone, or a bug: the other end says that we died
        code = os.EX_SOFTWARE
    finally:
        os._exit(code)


def _write(message: SourceMessage, pipe: BinaryIO) -> None:
    _send(_Begun(message.name, message.octets, message.folder), pipe)
    try:
        for piece in message.pieces():
            _send(piece, pipe)
    except (FileNotFoundError, NotPlain, Unreadable) as fault:
        _send(_Fault(type(fault).__name__, str(fault)), pipe)
    else:
        _send(_Ended(message.octets, message.arrived_ms, message.unique_id, message.sender,
                     message.identity(), message.flags), pipe)


def _send(record: Any, pipe: BinaryIO) -> None:
    pickle.dump(record, pipe, pickle.HIGHEST_PROTOCOL)
