"""A reactor of the harness's own, in a thread of its own: beside any event loop, or none.

It is made when the first server starts and serves all servers of the process. The global reactor is neither
used nor installed: the program that is tested may have one. A process that was forked has no such thread;
what it inherited of the reactor's sockets is closed there, so that they end when they end in the server's
process, and a server that is started in it gets a thread of its own.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotDone
from typing import Any, NamedTuple, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

CALL_SECONDS = 30.0     # a call that is not done by then never will be
KEPT_PROBLEMS = 100     # the oldest are forgotten
QUIET_TURNS = 3         # of the reactor, without news: one takes a connection, one its octets, one is spare
MOST_TURNS = 100        # clients that never stop are not waited for

Result = TypeVar("Result")


class Problem(NamedTuple):
    """A bug of the server, or of a fault."""

    number: int     # from 1, in this process
    words: str


class ReactorThread:
    """One reactor in one daemon thread."""

    _shared: ReactorThread | None = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self._problems: deque[Problem] = deque(maxlen=KEPT_PROBLEMS)
        self._count = 0
        self._told = 0          # the problem that was warned of last
        self.pid = os.getpid()
        self.reactor = _new_reactor()
        globalLogPublisher.addObserver(cast(ILogObserver, self._logged))
        running = threading.Event()
        self.reactor.callWhenRunning(running.set)
        self._thread = threading.Thread(target=self.reactor.run, kwargs={"installSignalHandlers": False},
                                        name="mailgate-harness", daemon=True)
        self._thread.start()
        running.wait(CALL_SECONDS)

    @classmethod
    def shared(cls) -> ReactorThread:
        """Return the one of this process. A process that was forked gets another."""
        with cls._lock:
            if cls._shared is None or not cls._shared._thread.is_alive():
                cls._shared = cls()
            return cls._shared

    @property
    def is_here(self) -> bool:
        """Whether the thread is one of this process, and not of the one that this was forked from."""
        return self.pid == os.getpid()

    def call(self, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
        """Call a function in the reactor's thread; return its result, or that of its Deferred or coroutine.

        Raises: what it raises; TimeoutError; RuntimeError, where it cannot be called from.
        """
        if not self.is_here:
            raise RuntimeError(f"the server lives in process {self.pid}, of which this one is a fork;"
                               " what is started here is this process's own")
        if threading.current_thread() is self._thread:
            raise RuntimeError("called in the harness's own thread, which would wait for itself")
        future: Future[Any] = Future()

        def begin() -> None:
            try:
                result = function(*args, **more)
                if isinstance(result, Coroutine):
                    result = Deferred.fromCoroutine(result)
            except BaseException as fault:
                future.set_exception(fault)
                return
            if isinstance(result, Deferred):
                result.addCallbacks(future.set_result, _fail, errbackArgs=(future,))
            else:
                future.set_result(result)

        self.reactor.callFromThread(begin)
        try:
            return future.result(CALL_SECONDS)
        except NotDone:
            if future.done():
                raise
            raise TimeoutError(f"the harness did not answer within {CALL_SECONDS:g} seconds") from None

    def settle(self, news: Callable[[], int]) -> None:
        """Wait until what clients have sent until now has been read.

        `news` is a count that grows with all that happens on connections; called in the reactor's thread.
        """
        self.call(self._settled, news)

    def _settled(self, news: Callable[[], int]) -> Deferred[None]:
        done: Deferred[None] = Deferred()

        def look(quiet: int, turns: int, seen: int) -> None:
            now = news()
            quiet = quiet + 1 if now == seen else 0
            if quiet >= QUIET_TURNS or turns >= MOST_TURNS:
                done.callback(None)
            else:       # a call without delay is made when the reactor has looked at every socket once
                self.reactor.callLater(0, look, quiet, turns + 1, now)

        self.reactor.callLater(0, look, 0, 0, news())
        return done

    @property
    def problem_count(self) -> int:
        """How many problems there were until now."""
        return self._count

    def problems(self, since: int = 0) -> list[str]:
        """Return the exceptions that nobody expected, as Twisted logged them, behind the first `since`."""
        return [one.words for one in self._problems.copy() if one.number > since]

    def untold_problems(self, since: int) -> list[str]:
        """Return the same, each of them once."""
        first, self._told = max(since, self._told), self._count
        return self.problems(first)

    def _logged(self, event: LogEvent) -> None:
        """Keep what Twisted logs of exceptions that nobody caught."""
        failure = event.get("log_failure") or event.get("failure")      # the latter of twisted.python.log
        if failure is None or not self._is_ours():
            return
        words = formatEvent(event).strip()
        trace = failure.getTraceback().strip() if isinstance(failure, Failure) else ""
        self._count += 1
        self._problems.append(Problem(self._count, words if trace in words else f"{words}\n{trace}"))

    def _is_ours(self) -> bool:
        """Whether what is logged here and now is the harness's.

        A Deferred's unhandled error is logged by whatever thread collects it. Where the program has no
        reactor, nobody else has Deferreds.
        """
        return self.is_here and (threading.current_thread() is self._thread
                                 or "twisted.internet.reactor" not in sys.modules)

    def leave_to_parent(self) -> None:
        """Close this process's copies of sockets that belong to the thread of the one it was forked from.

        Nothing is said on them, and the reactor is not asked: its poll is the same as the parent's.
        """
        globalLogPublisher.removeObserver(cast(ILogObserver, self._logged))
        for one in list(getattr(self.reactor, "_selectables", {}).values()):
            socket = getattr(one, "socket", None)
            if socket is not None:
                socket.close()


def _fail(failure: Failure, future: Future[Any]) -> None:
    future.set_exception(failure.value)


def _new_reactor() -> Any:
    try:
        from twisted.internet.epollreactor import EPollReactor as Reactor
    except ImportError:     # no Linux
        from twisted.internet.selectreactor import SelectReactor as Reactor
    reactor = Reactor()
    # where the program runs a reactor itself, that one's thread is what Twisted calls the I/O thread
    reactor._registerAsIOThread = False
    # a reactor's own time is the time of day, which somebody may set while a test runs
    reactor.seconds = time.monotonic
    return reactor


def _forked() -> None:
    """Begin anew in a process that was just forked."""
    ReactorThread._lock = threading.Lock()      # whoever held it is not here
    inherited, ReactorThread._shared = ReactorThread._shared, None
    if inherited is not None:
        inherited.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
