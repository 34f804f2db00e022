"""The store over PostgreSQL behind PgBouncer, which gives each transaction another of its few connections."""

from __future__ import annotations

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from mailgate.stores.postgres_database import READERS, WRITERS
from mailgate.stores.postgres_threads import WriterThreads
from tests.engines import postgres
from tests.engines.pgbouncer import POOL, pooler
from tests.stores.contract_base import MIME
from tests.stores.contract_leases import LeaseContract
from tests.stores.postgres_hooks import PostgresHooks

LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcd\r\n" * 20_000
PEOPLE, MESSAGES = 6, 8


class PoolerTests(PostgresHooks, LeaseContract, TestCase):
    """The contract of sessions, and two nodes at work."""

    test_commit_of_many_at_once = None      # 2,000 messages, as everywhere else

    def fresh_database(self, *others: postgres.Server) -> str:
        port = pooler()
        return super().fresh_database(*others).replace(f":{postgres.primary().port}/", f":{port}/")

    async def test_two_nodes_at_once(self) -> None:
        """More threads than there are connections deliver, fetch and remove: each message is there once."""
        nodes = [await self.make_store(inline_octets=len(MIME))]
        nodes.append(await self.make_second(nodes[0], inline_octets=len(MIME)))
        self.assertLess(POOL, WRITERS + READERS)

        async def work(name: str, number: int) -> None:
            for one in range(MESSAGES):
                content = b"a: %d\r\n" % one + (LARGE if one % 4 == 0 else MIME)
                await self.put(nodes[(number + one) % 2], name, content)
                session = await self.login(nodes[one % 2], name)
                self.assertTrue(await self.text(session, len(session.listing)) == content)
                await session.commit([1] if one % 2 else [])

        await gatherResults([Deferred.fromCoroutine(work(f"user{n}", n)) for n in range(PEOPLE)])
        for number in range(PEOPLE):
            held = await self.held(nodes[0], f"user{number}")
            self.assertEqual([text.partition(b"\r\n")[0] for text in held],
                             [b"a: %d" % one for one in range(MESSAGES // 2, MESSAGES)])
        self.assertEqual(self.count(nodes[0], "lease"), 0)
        self.assertEqual(await nodes[1].check(), [])

    async def test_connections_that_were_handed_over(self) -> None:
        """Nothing that one transaction said stays for the next: each commits as it was asked to."""
        store = await self.make_store()
        writer = store._database.writer
        self.assertIsInstance(writer, WriterThreads)

        def ask(cursor) -> tuple[str, str]:
            return cursor.execute("SELECT current_setting('synchronous_commit'),"
                                  " current_setting('transaction_isolation')").fetchone()

        usual = self.sql(store, "SHOW synchronous_commit")[0][0]
        asked = await gatherResults([writer.run(ask, durable=number % 2 == 0) for number in range(40)])
        self.assertEqual(asked, [(usual, "serializable"), ("off", "serializable")] * 20)
