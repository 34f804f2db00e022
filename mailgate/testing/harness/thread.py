"""A reactor of the harness's own, in a thread of its own: beside any event loop, or none.

It is made when the first server starts and serves all servers of the process. The global reactor is neither
used nor installed: the program that is tested may have one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

CALL_SECONDS = 30.0     # a call that is not done by then never will be

Result = TypeVar("Result")


class ReactorThread:
    """One reactor in one daemon thread."""

    _shared: ReactorThread | None = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self.reactor = _new_reactor()
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

    def call(self, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
        """Call a function in the reactor's thread; return its result, or that of its Deferred or coroutine.

        Raises: what it raises; TimeoutError.
        """
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
        return future.result(CALL_SECONDS)


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
    return reactor
