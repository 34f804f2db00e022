"""The threads of a store over PostgreSQL: a few write, a few read, each with a connection of its own.

Every operation is a transaction (one that reads, a few statements): a slow round holds up nobody else
but those that wait for the same maildrop. What has ended is answered by one hop to the reactor's thread
for all that ended meanwhile.
"""

from __future__ import annotations

import random
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from queue import PriorityQueue
from threading import Event, Lock, Thread
from typing import Any, NamedTuple, TypeVar

import psycopg
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from mailgate.errors import StoreUnavailable
from mailgate.stores.postgres_cursor import Connection, PostgresCursor
from mailgate.stores.postgres_faults import OutcomeUnknown, fault_of, is_conflict, is_lost, words_of
from mailgate.stores.postgres_holder import HolderLock, SeenHolder
from mailgate.stores.postgres_lanes import LAST_WORDS, Job, Lanes
from mailgate.stores.postgres_transaction import PLAIN, MustBeAlone, transact
from mailgate.stores.sql.leases import RELYING, Holder

CONFLICT_SECONDS = 10       # how long a transaction is run again while others are in its way
UNKNOWN_SECONDS = 15        # how long the outcome of a delivery's commit is looked for
FIRST_PAUSE_SECONDS = 0.002
MOST_PAUSE_SECONDS = 0.25
WAITED_SECONDS = 30         # for a thread, at most: whoever asked has given up by then, or soon will
MOST_RECONNECTIONS = 2      # of one operation, before its COMMIT: for connections that died while idle
WATCH_SECONDS = 1           # between two looks for a server that does not answer

T = TypeVar("T")
Connect = Callable[[Callable[[str], None]], Connection]     # given what takes the server's warnings


class Chance(NamedTuple):
    """What waits and rolls dice; tests give their own."""

    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    random: random.Random = random.Random()


class Repeatable:
    """An operation that does nothing twice: it may be run again where the outcome of its commit is not known.

    `doubted(value)` makes what the second run tells true of both.
    """

    def __init__(self, operation: Callable[..., T], doubted: Callable[[T], T]) -> None:
        self.operation = operation
        self.doubted = doubted

    def __call__(self, cursor: PostgresCursor, *args: Any) -> Any:
        return self.operation(cursor, *args)


class _Worker:
    """A thread's connection. Another thread may break it off, also while it is made ready."""

    def __init__(self, connect: Connect, make_ready: Callable[[Connection], None]) -> None:
        self.warnings: list[str] = []       # of the server, since they were cleared
        self._connect = connect
        self._make_ready = make_ready
        self._connection: Connection | None = None
        self._lock = Lock()                 # held while the connection changes or is broken off
        self._since: float | None = None    # when the present round began

    def open(self) -> Connection:
        """Return the connection. Raises: psycopg.Error, MailgateError."""
        if self._connection is not None and self._connection.closed:
            self.drop()
        if self._connection is None:
            made = self._connect(self.warnings.append)
            with self._lock:
                self._connection = made
            try:
                self._make_ready(made)
            except BaseException:
                self.drop()
                raise
        return self._connection

    def drop(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(psycopg.Error):       # it is of no use any more
                    connection.close()

    def begin(self, now: float | None) -> None:
        """Note that a round begins, or (None) that it has ended."""
        with self._lock:
            self._since = now

    def break_off(self, before: float) -> bool:
        """End a round that began before some time, as the server does not answer; return whether one did."""
        with self._lock:
            if self._connection is None or self._since is None or self._since >= before:
                return False
            self._since = None
            with suppress(OSError, psycopg.Error), socket.socket(
                    fileno=socket.dup(self._connection.fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)     # the thread that waits for an answer sees an end
            return True


class Threads:
    """What writing and reading have in common: queue, threads, connections, answers.

    `make_ready` is called with each new connection. Where there are several threads, durable jobs leave
    one of them to the others: a synchronous replica that is silent holds each durable commit up, and
    sessions shall be renewed meanwhile.
    """

    def __init__(self, connect: Connect, reactor: Any, name: str, threads: int, round_seconds: float,
                 chance: Chance | None = None,
                 make_ready: Callable[[Connection], None] | None = None) -> None:
        self._connect = connect
        self._make_ready = make_ready or _nothing
        self._reactor = reactor
        self._name = name
        self._threads = threads
        self._round_seconds = round_seconds     # what no round takes, unless the server is stopped or gone
        self._chance = chance or Chance()
        self.lanes = Lanes()
        self._ready: PriorityQueue[tuple[int, int, Job | None]] = PriorityQueue()
        self._turns = count()
        self._durable_room = max(1, threads - 1)    # for jobs that wait for a thread or have one
        self._durable_waiting: deque[Job] = deque()     # for room, in order
        self._workers: list[_Worker] = []
        self._lock = Lock()
        self._ended: list[Job] = []     # to be answered
        self._alive = 0                 # threads
        self._running = False
        self._stopped: Deferred[None] | None = None
        self._watch = LoopingCall(self.break_off_stuck)
        self._watch.clock = reactor
        self.when_lost: Callable[[], None] = _nobody_minds      # called in a thread

    def start(self) -> Deferred[None]:
        """Start the threads and open the first connection. Raises: StoreUnavailable, and it is over again."""
        self._running = True
        self._stopped = Deferred()
        self._workers = [_Worker(self._connect, self._make_ready) for _ in range(self._threads)]
        self._alive = self._threads
        for number, worker in enumerate(self._workers, 1):
            Thread(target=self._loop, args=(worker,), name=f"{self._name} {number}", daemon=True).start()
        self._watch.start(WATCH_SECONDS, now=False)
        return self.run(_nothing).addErrback(self._start_failed)

    def stop(self) -> Deferred[None]:
        """Finish what is queued, close the connections and end the threads."""
        if not self._running:
            return succeed(None)
        assert self._stopped is not None
        with self._lock:
            self._running = False
            if self.lanes.is_empty():
                self._send_home()
        return self._stopped

    def run(self, operation: Callable[..., T], *args: Any, durable: bool = False) -> Deferred[T]:
        """See `IRunner.run`."""
        job = Job(operation, args, durable, self._chance.clock())
        job.deferred = Deferred()
        if not self._take_in(job):
            return fail(StoreUnavailable("the store is not open"))
        return job.deferred

    def run_blocking(self, operation: Callable[..., T], *args: Any, durable: bool = False) -> T:
        """See `IRunner.run_blocking`."""
        job = Job(operation, args, durable, self._chance.clock())
        job.done = Event()
        if not self._take_in(job):
            raise StoreUnavailable("the store is not open")
        job.done.wait()
        if job.error is not None:
            raise fault_of(job.error)
        value: T = job.value
        return value

    def break_off_stuck(self) -> None:
        """End the rounds that a server does not answer, though its machine is there."""
        before = self._chance.clock() - self._round_seconds
        for worker in self._workers:
            worker.break_off(before)

    def _take_in(self, job: Job) -> bool:
        with self._lock:
            if not self._running:
                return False
            if self.lanes.enter(job):
                self._put(job)
            return True

    def _start_failed(self, failure: Failure) -> Deferred[None]:
        return self.stop().addCallback(lambda _: failure)

    def _put(self, job: Job | None) -> None:
        """Let a job wait for a thread. What keeps leases, and what gives them up, goes before all else."""
        if job is not None and job.durable:
            if not self._durable_room:
                self._durable_waiting.append(job)
                return
            self._durable_room -= 1
        rank = 2 if job is None else 0 if job.operation in PLAIN else 1
        self._ready.put((rank, next(self._turns), job))

    def _send_home(self) -> None:
        for _ in range(self._threads):
            self._put(None)

    # In the threads -------------------------------------------------------------------------

    def _loop(self, worker: _Worker) -> None:
        while (job := self._ready.get()[2]) is not None:
            self._perform(worker, job)
            self._end(job)
        worker.drop()
        with self._lock:
            self._alive -= 1
            last = not self._alive
        if last:
            self._reactor.callFromThread(self._all_home)

    def _all_home(self) -> None:
        self._watch.stop()
        assert self._stopped is not None
        self._stopped.callback(None)

    def _end(self, job: Job) -> None:
        with self._lock:
            if job.durable:
                self._durable_room += 1
                if self._durable_waiting:
                    self._put(self._durable_waiting.popleft())
            for follower in self.lanes.leave(job):
                self._put(follower)
            if not self._running and self.lanes.is_empty():
                self._send_home()
            hop = job.done is None and not self._ended
            if job.done is None:
                self._ended.append(job)
        if job.done is not None:
            job.done.set()
        elif hop:
            self._reactor.callFromThread(self._answer)

    def _answer(self) -> None:
        with self._lock:
            ended, self._ended = self._ended, []
        for job in ended:
            assert job.deferred is not None
            if job.error is None:
                job.deferred.callback(job.value)
            else:
                job.deferred.errback(fault_of(job.error))

    def _perform(self, worker: _Worker, job: Job) -> None:
        """Run a job until its outcome is certain, or its time is over.

        What has waited for too long is refused unseen: else the queue of a server that does not answer
        would be worked off one timeout after the other.
        """
        if job.operation not in PLAIN | LAST_WORDS and self._chance.clock() - job.asked > WAITED_SECONDS:
            job.error = StoreUnavailable(f"no connection was free for {WAITED_SECONDS} seconds")
            return
        trial = _Trial(self._chance)
        while True:
            job.error = connection = None
            try:
                worker.begin(self._chance.clock())
                connection = worker.open()
                worker.begin(self._chance.clock())
                job.value = self._attempt(worker, connection, job)
                break
            except Exception as error:
                job.error = error
            finally:
                worker.begin(None)
            if is_lost(job.error) or isinstance(job.error, OutcomeUnknown):
                worker.drop()
                self.when_lost()
            if not trial.goes_on(job, connected=connection is not None):
                break
        if job.doubted:
            _settle(job)

    def _attempt(self, worker: _Worker, connection: Connection, job: Job) -> Any:
        """Run a job once. Raises: anything."""
        raise NotImplementedError


class WriterThreads(Threads):
    """Every operation a serializable transaction, run again where another's was in its way."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.holder: Holder | None = None       # of this process: known before the threads start
        self._holder_lock = HolderLock()

    def _attempt(self, worker: _Worker, connection: Connection, job: Job) -> Any:
        holder = next((arg for arg in job.args if isinstance(arg, Holder)), None)
        if holder is None:
            return self._transact(worker, connection, job, job.args)
        with self._holder_lock.seeing(), suppress(MustBeAlone):
            seen = SeenHolder(holder)
            return self._transact(worker, connection, job,
                                  tuple(seen if arg is holder else arg for arg in job.args))
        with self._holder_lock.alone():
            worker.begin(self._chance.clock())
            return self._transact(worker, connection, job, job.args)

    def _transact(self, worker: _Worker, connection: Connection, job: Job, args: tuple[Any, ...]) -> Any:
        fence = self.holder.id if job.operation in RELYING and self.holder is not None else None
        return transact(connection, job.operation, args, durable=job.durable, holder=fence,
                        warnings=worker.warnings)


class ReaderThreads(Threads):
    """Every statement by itself. What needs a single look at the database is a single statement."""

    def _attempt(self, worker: _Worker, connection: Connection, job: Job) -> Any:
        return job.operation(PostgresCursor(connection), *job.args)


class _Trial:
    """How often, and how long, one job is tried."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._began = chance.clock()
        self._reconnections = 0
        self._pauses = 0

    def goes_on(self, job: Job, *, connected: bool) -> bool:
        """Return whether to try again after a failure, when it has waited for its time."""
        error = job.error
        assert error is not None
        passed = self._chance.clock() - self._began
        if isinstance(error, OutcomeUnknown):
            if not isinstance(job.operation, Repeatable):
                return False
            job.doubted = True
        elif job.doubted:
            if not (is_lost(error) or is_conflict(error)):
                return False
        elif is_conflict(error):
            if passed > CONFLICT_SECONDS:
                return False
        elif is_lost(error):
            self._reconnections += 1
            return connected and self._reconnections <= MOST_RECONNECTIONS
        else:
            return False
        if job.doubted and passed > UNKNOWN_SECONDS:
            return False
        self._wait()
        return True

    def _wait(self) -> None:
        most = min(FIRST_PAUSE_SECONDS * 2 ** self._pauses, MOST_PAUSE_SECONDS)
        self._pauses += 1
        self._chance.pause(self._chance.random.uniform(0, most))


def _settle(job: Job) -> None:
    """Tell the truth of a job of which an earlier attempt may have been committed."""
    if job.error is not None:
        if not isinstance(job.error, OutcomeUnknown):
            job.error = OutcomeUnknown(f"the outcome of a commit could not be learnt: {words_of(job.error)}")
    else:
        assert isinstance(job.operation, Repeatable)
        job.value = job.operation.doubted(job.value)


def _nobody_minds() -> None:
    """What is called where nobody wants to know."""


def _nothing(_: object) -> None:
    """What only needs the connection."""

