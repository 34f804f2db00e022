"""The database of a store over PostgreSQL: what its threads connect to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailgate.errors import MailgateError, StoreUnavailable
from mailgate.interfaces import IBlobStore
from mailgate.stores.postgres_address import shown
from mailgate.stores.postgres_connection import Limits, connect, prepare, settings_of
from mailgate.stores.postgres_cursor import Connection, PostgresCursor
from mailgate.stores.postgres_faults import fault_of
from mailgate.stores.postgres_lanes import Lanes
from mailgate.stores.postgres_threads import Chance, ReaderThreads, WriterThreads
from mailgate.stores.postgres_transaction import PLAIN, look
from mailgate.stores.sql.cursor import Cursor
from mailgate.stores.sql.database import RENEWALS_A_LEASE, Database
from mailgate.stores.sql.leases import Holder, release_sessions
from mailgate.stores.sql.upkeep import store_id

WRITERS = 5     # one of them never waits for a durable commit
READERS = 4
RELEASE_SECONDS = 1     # between two attempts to give up leases, when the server cannot be reached
COMPARISONS = RENEWALS_A_LEASE      # after a loss: a server may work for long on what it was asked before
ANSWER_SECONDS = 5      # of a server that is there, beyond what a statement may take

T = TypeVar("T")


class PostgresDatabase(Database):
    """Threads, leases and caches of one `PostgresStore`."""

    def __init__(self, url: str, blobs: IBlobStore, reactor: Any, lease_seconds: float, create: bool,
                 process: str = "", writers: int = WRITERS, readers: int = READERS,
                 chance: Chance | None = None) -> None:
        self._url = url
        self._limits = Limits.of(lease_seconds)
        self._create = create
        self._own: str | None = None    # the id of the store, once the bodies were found to be its own
        round_seconds = self._limits.statement / 1000 + ANSWER_SECONDS
        writer = WriterThreads(self._open_writer, reactor, "mailgate store writer", writers, round_seconds,
                               chance, self._make_ready)
        reader = ReaderThreads(self._open_reader, reactor, "mailgate store reader", readers, round_seconds,
                               chance)
        super().__init__(blobs, writer, reader, reactor, lease_seconds, process)
        writer.holder = self.holder
        writer.when_lost = self._note_loss
        self._lanes = writer.lanes
        self._releasing: Any = None     # a delayed call
        self._lost = False      # a connection, since the last renewal
        self._comparisons = 0   # of leases with sessions that are due, one a renewal

    def __repr__(self) -> str:
        return f"<PostgresDatabase {shown(self._url)}>"

    # What a loss may have undone --------------------------------------------------------------

    def _not_released(self, failure: Failure, session: str) -> None:
        """Let nobody be kept out of his maildrop for longer than the server is away."""
        super()._not_released(failure, session)
        self._release_soon()

    def _release_soon(self) -> None:
        if self._unreleased and self._releasing is None and self._pool is not None:
            self._releasing = self._reactor.callLater(RELEASE_SECONDS, self._release_late)

    def _release_late(self) -> None:
        self._releasing = None
        late = set(self._unreleased)
        releasing = self.writer.run(release_sessions, late)
        releasing.addCallbacks(lambda _: self._unreleased.difference_update(late), _tried_later)
        releasing.addCallback(lambda _: self._release_soon())

    async def stop(self) -> None:
        if self._releasing is not None:
            self._releasing.cancel()
            self._releasing = None
        await super().stop()

    def _note_loss(self) -> None:
        self._lost = True

    def _renew(self) -> Deferred[None]:
        """Renew alone: a lease that cannot be given up yet would undo it, and has `_release_late`."""
        renewing = self._renew_with(set())
        if self._lost:
            self._lost, self._comparisons = False, COMPARISONS
        if self._comparisons:
            self._comparisons -= 1
            comparing = self.writer.run(drop_strays, self.holder, self._lanes)
            comparing.addErrback(self._not_compared)
        return renewing

    def _not_compared(self, failure: Failure) -> None:
        failure.trap(MailgateError)
        self._lost = True       # the next renewal tries again

    # Connections, in threads ----------------------------------------------------------------

    def _open_writer(self, warned: Callable[[str], None]) -> Connection:
        return connect(settings_of(self._url, self._limits, indexes=True), warned)

    def _make_ready(self, connection: Connection) -> None:
        """See that it leads to the store. The bodies are asked once whose they are: they may be away later.

        Raises: StoreUnavailable, psycopg.Error.
        """
        prepare(connection, may_create=self._may_create)
        self._create = False        # connected again after a failure, the store must still be there
        own = store_id(PostgresCursor(connection))
        if own != self._own:
            self.blobs.belong_to(own)
            self._own = own

    def _may_create(self) -> bool:
        if self._create and self.blobs.owner() is not None:
            raise StoreUnavailable("the database is empty, and its bodies are there: no new store is made")
        return self._create

    def _open_reader(self, warned: Callable[[str], None]) -> Connection:
        return connect(settings_of(self._url, self._limits), warned)

    def look_blocking(self, operation: Callable[..., T], *args: Any) -> T:
        connection = connect(settings_of(self._url, None))
        try:
            return look(connection, operation, args)
        finally:
            connection.close()

    def fault_of(self, error: Exception) -> MailgateError:
        return fault_of(error)


def drop_strays(cursor: Cursor, holder: Holder, lanes: Lanes) -> None:
    """Give up the leases of this process that no session of it has.

    A server that crashed, or a replica in its place, may have forgotten that they were given up: that
    was not worth a wait. And one whose answer nobody waits for any more may yet commit a login. Others
    may run beside it: a session is in `lanes` before it has a lease, and until it certainly has none.
    """
    cursor.execute("SELECT session FROM lease WHERE holder = ?", (holder.id,))
    there = {session for (session,) in cursor.fetchall()}
    release_sessions(cursor, there.difference(lanes.sessions()))


def _tried_later(failure: Failure) -> None:
    """There will be another attempt, a renewal, or an expiry."""
    failure.trap(MailgateError)


PLAIN.add(drop_strays)
