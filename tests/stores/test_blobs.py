"""Streams over a blob store whose reads take their time in a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import StoreUnavailable
from mailgate.stores.blobs import MOST_UNWRITTEN_OCTETS, BlobFeed, BlobStream

BODY = b"x" * 70 + b"\r\n"


class Reader:
    """A blob that notices when it is read after its end."""

    def __init__(self) -> None:
        self.closed = False

    def read(self, offset: int, octets: int) -> bytes:
        assert not self.closed
        return BODY[offset:offset + octets]

    def close(self) -> None:
        self.closed = True


class CancelledReads(SynchronousTestCase):
    """A client that goes while a thread reads for it."""

    def setUp(self) -> None:
        self.reader = Reader()
        self.calls: list[tuple[Deferred[Any], Callable[[], Any]]] = []
        self.stream = BlobStream(self._in_thread, self.reader, b"", b"", len(BODY), None)

    def _in_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        self.calls.append((deferred, lambda: function(*args)))
        return deferred

    def test_file_stays_open_until_the_read_returns(self) -> None:
        """Else its descriptor may be another file's by the time the thread reads."""
        read = self.stream.read()
        read.cancel()
        self.failureResultOf(read, CancelledError)
        self.stream.close()
        self.assertFalse(self.reader.closed)
        [(deferred, work)] = self.calls
        deferred.callback(work())
        self.assertTrue(self.reader.closed)

    def test_uncancelled(self) -> None:
        """The piece arrives, and at the end the file is closed."""
        read = self.stream.read()
        [(deferred, work)] = self.calls
        deferred.callback(work())
        self.assertEqual(BODY, self.successResultOf(read))
        self.assertEqual(b"", self.successResultOf(self.stream.read()))
        self.assertTrue(self.reader.closed)


class FeedsOfAStoppedStore(SynchronousTestCase):
    """A body that is on its way when its store has stopped: every call fails at once."""

    def test_nobody_waits_for_room(self) -> None:
        """A Deferred made after the failure would never fire, and its sender hang; the end tells."""
        feed = BlobFeed(lambda *_: fail(StoreUnavailable("the store is not open")), object(), "key")
        self.assertIsNone(feed.write(b"x" * (MOST_UNWRITTEN_OCTETS + 1)))
        self.failureResultOf(feed.finish(b""), StoreUnavailable)
