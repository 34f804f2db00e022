"""The store of many machines: maildrops and accounts in PostgreSQL, large bodies beside it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from mailgate.interfaces import IBlobStore
from mailgate.stores.postgres_database import READERS, WRITERS, PostgresDatabase
from mailgate.stores.postgres_threads import Chance, Repeatable
from mailgate.stores.sql.delivery import new_key
from mailgate.stores.sql.messages import Delivered, NewBody, NewCopy, place
from mailgate.stores.sql.store import INLINE_OCTETS, SqlStore


class PostgresStore(SqlStore):
    """Maildrops in the database at `url`, bodies above `inline_octets` in `blobs`; `accounts` beside them.

    `url` is what libpq takes: postgresql://user@host1,host2/database. Any number of processes on any
    machines may use one database, each with `writers` + `readers` connections at most. `quota_octets`
    bounds each maildrop. Only with `create` an empty database is filled. `process`: see SqliteStore.
    """

    def __init__(self, url: str, blobs: IBlobStore, *, reactor: Any, lease_seconds: float = 60,
                 quota_octets: int | None = None, inline_octets: int = INLINE_OCTETS, create: bool = True,
                 process: str = "", writers: int = WRITERS, readers: int = READERS,
                 chance: Chance | None = None) -> None:
        database = PostgresDatabase(url, blobs, reactor, lease_seconds, create, process, writers, readers,
                                    chance)
        super().__init__(database, quota_octets=quota_octets, inline_octets=inline_octets)

    def _place(self, body: NewBody, copies: list[NewCopy], all_or_nothing: bool,
               delivery_id: str | None) -> Deferred[Delivered]:
        """Run it under a delivery id in any case: by that it is seen whether a lost commit was one."""
        return self._database.writer.run(PLACE, body, copies, all_or_nothing, delivery_id or new_key(),
                                         self._quota_octets, durable=True)


def _body_in_doubt(delivered: Delivered) -> Delivered:
    """Take a body as used if any copy is stored: perhaps the first attempt did it, and names the body."""
    return delivered._replace(body_used=delivered.body_used or None in delivered.outcomes)


PLACE = Repeatable(place, _body_in_doubt)
