"""The writer's and the reader's thread: group commit, failures, what is never answered as done."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.defer import DeferredList, gatherResults
from twisted.trial.unittest import TestCase

from mailgate.errors import NoSuchAccount, StoreFull, StoreUnavailable
from mailgate.stores import sqlite_threads
from mailgate.stores.sqlite_connection import connect
from mailgate.stores.sqlite_threads import ReaderThread, WriterThread
from tests.stores.contract_base import MIME, StoreHooks
from tests.stores.sqlite_hooks import SqliteHooks


def insert(cursor: sqlite3.Cursor, number: int) -> int:
    """Insert one number and return it."""
    cursor.execute("INSERT INTO number VALUES (?)", (number,))
    return number


def insert_and_fail(cursor: sqlite3.Cursor, number: int) -> None:
    """Fail after a write."""
    insert(cursor, number)
    raise NoSuchAccount(str(number))


def refuse(cursor: sqlite3.Cursor) -> None:
    """Fail before any write."""
    raise NoSuchAccount("nobody")


def numbers(cursor: sqlite3.Cursor) -> list[int]:
    """Return what was inserted."""
    return [number for (number,) in cursor.execute("SELECT n FROM number ORDER BY n").fetchall()]


class ThreadHooks(SqliteHooks, StoreHooks):
    """A writer over a table of numbers, and a way to hold it while a batch gathers."""

    async def setUp(self) -> None:
        self.path = self.temporary_folder() + "/numbers.db"
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE number (n INTEGER PRIMARY KEY CHECK (n < 1000))")
        connection.close()
        self.statements: list[str] = []
        self.writer = WriterThread(self.connect, reactor, "writer")
        await self.writer.start()
        self.addCleanup(self.writer.stop)

    def connect(self) -> sqlite3.Connection:
        connection = connect(self.path)
        connection.set_trace_callback(self.statements.append)
        return connection

    def hold(self, thread: WriterThread | ReaderThread) -> Callable[[], None]:
        """Keep a thread busy until the returned function is called: what is asked meanwhile is one batch."""
        event, busy = threading.Event(), threading.Event()

        def wait(cursor: sqlite3.Cursor) -> None:
            busy.set()
            event.wait()

        thread.run(wait)
        thread.hand_over()
        busy.wait()
        self.statements.clear()

        def let_go() -> None:
            thread.hand_over()      # else the thread, free again, would take what comes one by one
            event.set()

        return let_go

    def stored(self) -> list[int]:
        """Return what another connection sees."""
        connection = sqlite3.connect(self.path)
        try:
            return numbers(connection.cursor())
        finally:
            connection.close()


class GroupCommitTests(ThreadHooks, TestCase):
    """One transaction for what is queued together."""

    async def test_one_transaction(self) -> None:
        """Fifty operations, one BEGIN and one COMMIT, no savepoint; every one answered for itself."""
        let_go = self.hold(self.writer)
        asked = [self.writer.run(insert, number) for number in range(50)]
        let_go()
        self.assertEqual(await gatherResults(asked), list(range(50)))
        self.assertEqual([line for line in self.statements if not line.startswith("INSERT")],
                         ["COMMIT", "BEGIN IMMEDIATE", "COMMIT"])
        self.assertEqual(self.stored(), list(range(50)))

    async def test_no_answer_before_the_commit(self) -> None:
        """When the first of a batch is answered, another connection sees all of it."""
        let_go, seen = self.hold(self.writer), []
        asked = [self.writer.run(insert, number).addCallback(lambda _: seen.append(len(self.stored())))
                 for number in range(10)]
        let_go()
        await gatherResults(asked)
        self.assertEqual(seen, [10] * 10)

    async def test_a_batch_is_bounded(self) -> None:
        """A long queue is several transactions, so that nobody waits for the last of it."""
        self.patch(sqlite_threads, "MOST_IN_A_BATCH", 7)
        let_go = self.hold(self.writer)
        asked = [self.writer.run(insert, number) for number in range(20)]
        let_go()
        await gatherResults(asked)
        self.assertEqual(self.statements.count("BEGIN IMMEDIATE"), 3)

    async def test_deliveries_share_a_commit(self) -> None:
        """Messages from several senders at once become durable by one sync."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME)
        statements = await self.trace(store)
        let_go = self.hold(store._database.writer)
        asked = []
        for _ in range(20):
            delivery = store.deliver()
            delivery.write(MIME)
            asked.append(delivery.commit([self.placement("mrose")]))
        let_go()
        self.assertEqual(await gatherResults(asked), [[None]] * 20)
        self.assertEqual(statements.count("COMMIT"), 2)
        self.assertEqual(sum("INTO message" in line for line in statements), 20)

    async def test_sync_is_full_when_any_operation_asks_for_it(self) -> None:
        """NORMAL for leases alone, FULL as soon as one operation of the batch holds mail."""
        async def level() -> int:
            let_go = self.hold(self.writer)
            asked = [self.writer.run(synchronous), *more()]
            let_go()
            return (await gatherResults(asked))[0]

        def synchronous(cursor: sqlite3.Cursor) -> int:
            return cursor.execute("PRAGMA synchronous").fetchone()[0]

        normal, full = 1, 2
        for operations, expected in [((), normal), ((True,), full), ((False, False), normal),
                                     ((False, True, False), full), ((True,), full), ((False,), normal)]:
            def more(operations=operations) -> list:
                return [self.writer.run(numbers, durable=durable) for durable in operations]
            self.assertEqual(await level(), expected, operations)


class FailureTests(ThreadHooks, TestCase):
    """An operation that fails undoes itself alone; a commit that fails answers nothing as done."""

    async def outcomes(self, *asked) -> list[object]:
        """Return every value or the type of every fault."""
        results = await DeferredList(asked, consumeErrors=True)
        return [value if success else value.type for success, value in results]

    async def test_a_failure_undoes_only_itself(self) -> None:
        """Also when it had written; the others of its batch are stored, once."""
        let_go = self.hold(self.writer)
        asked = [self.writer.run(insert, 1), self.writer.run(insert_and_fail, 2), self.writer.run(insert, 3),
                 self.writer.run(refuse), self.writer.run(insert_and_fail, 4), self.writer.run(insert, 5)]
        let_go()
        self.assertEqual(await self.outcomes(*asked),
                         [1, NoSuchAccount, 3, NoSuchAccount, NoSuchAccount, 5])
        self.assertEqual(self.stored(), [1, 3, 5])
        self.assertEqual(self.statements.count("COMMIT"), 2)

    async def test_a_refusal_before_any_write_costs_no_savepoint(self) -> None:
        """The transaction goes on as if it had not been there."""
        let_go = self.hold(self.writer)
        asked = [self.writer.run(insert, 1), self.writer.run(refuse), self.writer.run(insert, 2)]
        let_go()
        self.assertEqual(await self.outcomes(*asked), [1, NoSuchAccount, 2])
        self.assertEqual([line for line in self.statements if "SAVEPOINT" in line or "ROLLBACK" in line], [])
        self.assertEqual(self.stored(), [1, 2])

    async def test_a_bug_is_logged_and_answers_as_an_outage(self) -> None:
        """What is no error of the database is no secret either."""
        def bug(cursor: sqlite3.Cursor) -> None:
            raise ZeroDivisionError("a bug")

        let_go = self.hold(self.writer)
        asked = [self.writer.run(insert, 1), self.writer.run(bug), self.writer.run(insert, 1),
                 self.writer.run(insert, 2)]
        let_go()
        self.assertEqual(await self.outcomes(*asked), [1, StoreUnavailable, StoreUnavailable, 2])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(sqlite3.IntegrityError)), 1)
        self.assertEqual(self.stored(), [1, 2])

    async def test_a_commit_that_fails(self) -> None:
        """Nothing of the batch is stored, all of it fails, and the next batch works again."""
        for error, fault in ((sqlite3.OperationalError("disk I/O error"), StoreUnavailable),
                             (sqlite3.OperationalError("database or disk is full"), StoreFull)):
            connection = FailingConnection(self.writer._connection, error)
            let_go = self.hold(self.writer)
            self.writer._connection = connection
            asked = [self.writer.run(insert, number) for number in range(5)]
            let_go()
            self.assertEqual(await self.outcomes(*asked), [fault] * 5)
            self.assertEqual(self.stored(), [])
            self.assertEqual(await self.writer.run(numbers), [])

    async def test_a_lock_that_is_not_given(self) -> None:
        """Another process writes for too long: an outage, and work goes on when it has ended."""
        await self.writer.run(lambda cursor: cursor.execute("PRAGMA busy_timeout = 1").fetchall())
        lock = sqlite3.connect(self.path, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        await self.fault(StoreUnavailable, self.writer.run(insert, 1))
        lock.execute("ROLLBACK")
        lock.close()
        await self.writer.run(insert, 1)
        self.assertEqual(self.stored(), [1])

    async def test_a_connection_that_cannot_be_opened(self) -> None:
        """Every batch tries anew, and the thread lives on."""
        def cannot() -> sqlite3.Connection:
            raise sqlite3.OperationalError("unable to open database file")

        thread = WriterThread(cannot, reactor, "hopeless")
        await self.fault(StoreUnavailable, thread.start())
        await self.fault(StoreUnavailable, thread.run(numbers))
        self.writer._connect, connect = cannot, self.writer._connect
        self.writer._connection = FailingConnection(self.writer._connection, sqlite3.OperationalError("gone"))
        for _ in range(3):
            await self.fault(StoreUnavailable, self.writer.run(insert, 1))
        self.writer._connect = connect
        await self.writer.run(insert, 1)
        self.assertEqual(self.stored(), [1])

    async def test_blocking(self) -> None:
        """The value, or the fault, without the reactor turning; in one batch with what is queued."""
        let_go = self.hold(self.writer)
        asked = self.writer.run(insert, 1)
        let_go()
        self.assertEqual(self.writer.run_blocking(insert, 2, durable=True), 2)
        self.assertEqual(self.stored(), [1, 2])
        self.assertRaises(NoSuchAccount, self.writer.run_blocking, insert_and_fail, 3)
        self.assertRaises(StoreUnavailable, self.writer.run_blocking, insert, 1)
        self.assertEqual(len(self.flushLoggedErrors(sqlite3.IntegrityError)), 1)
        self.assertEqual(await asked, 1)
        await self.writer.stop()
        self.assertRaises(StoreUnavailable, self.writer.run_blocking, insert, 4)
        self.assertEqual(self.stored(), [1, 2])

    async def test_stop_answers_everything_first(self) -> None:
        """What was queued is done; what comes later fails at once; stop may come twice."""
        asked = [self.writer.run(insert, number) for number in range(300)]
        stopped = self.writer.stop()
        late = self.writer.run(insert, 999)
        self.assertEqual(await gatherResults(asked), list(range(300)))
        await self.fault(StoreUnavailable, late)
        await stopped
        await self.writer.stop()
        self.assertEqual(self.stored(), list(range(300)))
        await self.writer.start()
        self.assertEqual(await self.writer.run(insert, 999), 999)


class FailingConnection:
    """A connection whose next COMMIT fails."""

    def __init__(self, connection: sqlite3.Connection, error: Exception) -> None:
        self._connection = connection
        self._error = error

    def cursor(self) -> FailingConnection:
        self._cursor = self._connection.cursor()
        return self

    def execute(self, statement: str, *values: object):
        if statement == "COMMIT":
            raise self._error
        return self._cursor.execute(statement, *values)

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


class ReaderTests(ThreadHooks, TestCase):
    """Reads are answered together, each for itself."""

    async def setUp(self) -> None:
        await super().setUp()
        await self.writer.run(insert, 1)
        self.reader = ReaderThread(self.connect, reactor, "reader")
        await self.reader.start()
        self.addCleanup(self.reader.stop)

    async def test_a_failure_is_its_own(self) -> None:
        """An error of the database costs the others nothing: they get a fresh connection."""
        def wrong(cursor: sqlite3.Cursor) -> None:
            cursor.execute("SELECT nothing FROM nowhere")

        let_go = self.hold(self.reader)
        asked = [self.reader.run(numbers), self.reader.run(wrong), self.reader.run(refuse),
                 self.reader.run(numbers)]
        let_go()
        results = await DeferredList(asked, consumeErrors=True)
        self.assertEqual([value if success else value.type for success, value in results],
                         [[1], StoreUnavailable, NoSuchAccount, [1]])

    async def test_no_look_stays_open(self) -> None:
        """After a read that was not read to its end the log can be started anew."""
        await self.writer.run(lambda cursor: cursor.executemany(
            "INSERT INTO number VALUES (?)", [(number,) for number in range(2, 500)]))
        first = await self.reader.run(
            lambda cursor: cursor.execute("SELECT n FROM number ORDER BY n").fetchone())
        self.assertEqual(first, (1,))
        connection = sqlite3.connect(self.path, isolation_level=None)
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        connection.close()
        self.assertEqual(busy, 0)

    async def test_a_slow_read_does_not_keep_the_answers_of_others(self) -> None:
        """What was read before it is answered while what comes after it is still read."""
        self.patch(sqlite_threads, "SLOW_SECONDS", -1)
        let_go, first_answered = self.hold(self.reader), []
        gate = threading.Event()
        asked = [self.reader.run(numbers).addCallback(lambda _: (first_answered.append(True), gate.set())),
                 self.reader.run(lambda cursor: gate.wait(60))]
        let_go()
        self.assertEqual((await gatherResults(asked))[1], True)

    async def test_it_sees_what_was_committed(self) -> None:
        """A read that is asked for after a commit was answered shows it."""
        for number in range(2, 30):
            await self.writer.run(insert, number)
            self.assertEqual((await self.reader.run(numbers))[-1], number)
