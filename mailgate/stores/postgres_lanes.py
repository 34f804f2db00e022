"""Which operations must not overtake which, though several threads run them.

Those on one maildrop keep the order in which they were asked for: prepared deliveries are numbered in
it, and whoever logs in again finds the lease of his last session given up. Different maildrops do not
wait for one another.

What an operation is about its arguments tell: a copy that is to be stored and a `Wanted` name their
maildrop, a `Lease` names a session whose maildrop was noted when its lease was asked for, and so does
what gives sessions up. That is done by `operation(cursor, holder, maildrop, ..., session)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event, Lock
from typing import Any

from twisted.internet.defer import Deferred

from mailgate.errors import MailgateError, StoreUnavailable
from mailgate.stores.sql.leases import Holder, Lease, Wanted, drop_holder, release, release_sessions
from mailgate.stores.sql.messages import remove_marked

ENDS = frozenset({release, remove_marked})      # what gives a lease up
LAST_WORDS: set[Callable[..., Any]] = {drop_holder}     # what runs when all that came before has ended


class Job:
    """An operation on its way through a thread, then its outcome."""

    __slots__ = ("operation", "args", "durable", "asked", "deferred", "done", "value", "error", "doubted",
                 "lanes", "waits", "followers")

    def __init__(self, operation: Callable[..., Any], args: tuple[Any, ...], durable: bool,
                 asked: float = 0.0) -> None:
        self.operation = operation
        self.args = args
        self.durable = durable
        self.asked = asked                      # when, by the clock of its threads
        self.deferred: Deferred[Any] | None = None
        self.done: Event | None = None          # instead, where a thread waits for it
        self.value: Any = None
        self.error: Exception | None = None
        self.doubted = False                    # an earlier attempt may have been committed
        self.lanes: tuple[str, ...] = ()
        self.waits = 0                          # jobs that come first
        self.followers: list[Job] = []          # jobs that wait for this one


class Lanes:
    """Jobs that were asked for and have not ended. Safe in any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._last: dict[str, Job] = {}         # by lane
        self._under_way: set[Job] = set()
        self._barrier: Job | None = None
        self._sessions: dict[str, str] = {}     # maildrops' keys, by the sessions that may have a lease

    def enter(self, job: Job) -> bool:
        """Take a job in; return whether it can run at once."""
        with self._lock:
            job.lanes = tuple(dict.fromkeys(self._lanes_of(job)))
            if job.operation in LAST_WORDS:
                before = set(self._under_way)
                self._barrier = job
            else:
                before = {self._last[lane] for lane in job.lanes if lane in self._last}
                if self._barrier is not None:
                    before.add(self._barrier)
            for other in before:
                other.followers.append(job)
            job.waits = len(before)
            for lane in job.lanes:
                self._last[lane] = job
            self._under_way.add(job)
            return not before

    def leave(self, job: Job) -> list[Job]:
        """Let go of a job that has ended; return those that can run now."""
        with self._lock:
            self._under_way.remove(job)
            for lane in job.lanes:
                if self._last[lane] is job:
                    del self._last[lane]
            if self._barrier is job:
                self._barrier = None
            for session in _ended_sessions(job):
                self._sessions.pop(session, None)
            for follower in job.followers:
                follower.waits -= 1
            return [follower for follower in job.followers if not follower.waits]

    def is_empty(self) -> bool:
        """Return whether all jobs have ended."""
        with self._lock:
            return not self._under_way

    def sessions(self) -> list[str]:
        """Return the sessions that have a lease, or may have one."""
        with self._lock:
            return list(self._sessions)

    def _lanes_of(self, job: Job) -> Iterator[str]:
        """Give the keys of the maildrops that an operation is about; note a session that begins."""
        args = job.args
        begun = _begun(args)
        if begun is not None:
            key, session = begun
            self._sessions[session] = key
            yield key
        if job.operation is release_sessions:       # one whose lease may be on its way to be taken
            yield from (self._sessions[session] for session in args[0] if session in self._sessions)
        for arg in args:
            if isinstance(arg, Lease):
                if arg.session in self._sessions:
                    yield self._sessions[arg.session]
            elif isinstance(arg, list) and arg and hasattr(arg[0], "maildrop_key"):
                yield from (copy.maildrop_key for copy in arg)
            elif hasattr(arg, "maildrop_key") and not isinstance(arg, Wanted):
                yield arg.maildrop_key


def _begun(args: tuple[Any, ...]) -> tuple[str, str] | None:
    """Return the maildrop's key and the session of an operation that takes a lease."""
    if len(args) < 3 or not isinstance(args[0], Holder):
        return None
    maildrop, session = args[1], args[-1]
    return maildrop.maildrop_key if isinstance(maildrop, Wanted) else maildrop, session


def _ended_sessions(job: Job) -> Iterator[str]:
    """Give the sessions that have no lease any more, for certain, when a job has ended."""
    begun = _begun(job.args)
    if begun is not None:
        refused = isinstance(job.error, MailgateError) and not isinstance(job.error, StoreUnavailable)
        if refused or (job.error is None and job.value is None):
            yield begun[1]      # there is no lease
    elif job.error is None:
        for arg in job.args:
            if isinstance(arg, Lease) and job.operation in ENDS:
                yield arg.session
            elif isinstance(arg, (set, frozenset)):
                yield from arg              # sessions that were given up late
