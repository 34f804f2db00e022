"""A store that a test opens in its own process, from whatever state killed processes left it in."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mailgate.interfaces import IMaildrop, IMessageStream
from mailgate.model import Admission
from mailgate.stores.files import FileBlobStore
from mailgate.stores.sqlite import SqliteStore
from mailgate.wire.dots import unstuff
from tests.services import WAIT_SECONDS, Site

T = TypeVar("T")


class Bridge(Clock):
    """What a store asks of a reactor, for a thread that waits for one answer at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.called: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def callFromThread(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        self.called.put(lambda: function(*args, **kwargs))


class Reopened:
    """A site's store, open in this process; every call blocks. Close it: it holds a lease while it reads."""

    def __init__(self, site: Site) -> None:
        self._bridge = Bridge()
        self._database = site.data / "mail.db"
        self._blobs = FileBlobStore(str(site.data / "bodies"))
        self.store = SqliteStore(str(self._database), self._blobs, reactor=self._bridge, create=False)
        self.wait(self.store.start())

    def close(self) -> None:
        self.wait(self.store.stop())

    def wait(self, deferred: Deferred[T]) -> T:
        """Return what a Deferred of the store fires with. Raises: what it fails with."""
        outcome: list[Any] = []
        deferred.addBoth(outcome.append)
        while not outcome:
            self._bridge.advance(0)     # the end of a reactor's turn
            try:
                self._bridge.called.get(timeout=WAIT_SECONDS)()
            except Empty:
                raise AssertionError("the store has not answered") from None
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        result: T = outcome[0]
        return result

    def open(self, maildrop: str) -> IMaildrop:
        """Open an account's maildrop. Raises: MaildropInUse."""
        account = self.wait(self.store.accounts.get(maildrop))
        return self.wait(self.store.open(Admission(account.name, None, account.name, account.version)))

    def contents(self, maildrop: IMaildrop) -> list[bytes]:
        """Return every message of an open maildrop as RETR gives it, compared with its size."""
        found = []
        for number, size in enumerate(maildrop.listing.sizes, 1):
            content = maildrop.fetch(number)
            content = self.wait(content) if isinstance(content, Deferred) else content
            if IMessageStream.providedBy(content):
                pieces = []
                while piece := self.wait(content.read()):
                    pieces.append(piece)
                content = b"".join(pieces)
            message = unstuff(content)
            assert len(message) == size, (number, size, len(message))
            found.append(message)
        return found

    def unnamed_blobs(self) -> list[str]:
        """Return the blobs, half-written ones too, that no row names."""
        blobs = self._blobs.keys()
        return sorted({key for key, _ in blobs} - self.blob_rows())

    def blob_rows(self) -> set[str]:
        """Return the keys of the bodies that lie in the blob store, as their rows have them."""
        return {key for (key,) in self.query("SELECT key FROM body WHERE key IS NOT NULL")}

    def lease_end_ms(self) -> int:
        """Return when the last lease ends that a process holds: milliseconds since 1970; 0 for none."""
        return int(self.query("SELECT ifnull(max(expires_ms), 0) FROM holder")[0][0])

    def query(self, sql: str) -> list[Any]:
        """Look into the database."""
        connection = sqlite3.connect(self._database)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


def now_ms() -> int:
    """Return the time as the store's database tells it."""
    return time.time_ns() // 1_000_000
