"""A mailgate for the test of a mail client: started in a moment, filled, broken on command.

    with Server() as server:
        server.account("mrose", "secret").add("Subject: one\\n\\nhello\\n")
        server.fault("close", command="RETR", at=100)
        ... # the client that is tested, at server.pop3
        assert server.sessions[-1].verbs == ["USER", "PASS", "RETR"]

Everything here may be called from any thread and waits until it is done. The server runs in a thread of its
own, with a reactor of its own, so that it does not matter what event loop the test has.
"""

from __future__ import annotations

import inspect
import os
import shutil
import tempfile
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from mailgate.testing import running
from mailgate.testing.face import Face
from mailgate.testing.harness.clock import HarnessClock
from mailgate.testing.harness.core import Harness
from mailgate.testing.harness.records import SessionRecord
from mailgate.testing.harness.thread import ReactorThread

WAIT_SECONDS = 20.0     # what is waited for, unless a test says otherwise; of the world's time
SHOWN_SESSIONS = 3      # the latest, in the words of what did not come true

Found = TypeVar("Found")


class TooLate(AssertionError):
    """What a test waited for did not come true in time."""


class ServerProblem(RuntimeWarning):
    """An exception in the server that nobody expected: a bug of it, or of a fault."""


class News:
    """A count of all that happens on a server; threads wait for it to grow."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.count = 0

    def tell(self, *_: Any) -> None:
        """Something has happened."""
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait(self, seen: int, seconds: float) -> bool:
        """Wait until there is more than was seen; return whether there is."""
        with self._changed:
            return self._changed.wait_for(lambda: self.count != seen, seconds)


class Server(Face):
    """One server. See Harness for `settings`, `protocols` and `seed`.

    `held`: its clock stands still; `now`: what it shows at first, in seconds since 1970.
    Raises: ConfigurationError, with every problem.
    """

    def __init__(self, *, settings: Mapping[str, Any] | None = None, protocols: Sequence[str] | None = None,
                 seed: int = 0, held: bool = False, now: float | None = None) -> None:
        self._folder = tempfile.mkdtemp(prefix="mailgate-harness-")
        self._remove_folder = weakref.finalize(self, _remove, self._folder, os.getpid())
        self._thread = ReactorThread.shared()
        self._news = News()
        self._copies: dict[int, tuple[SessionRecord, SessionRecord]] = {}   # of ended sessions: record, copy
        self._known_problems = self._thread.problem_count
        self._running = False
        self._web: Any = None       # serves the API, once it was asked for
        try:
            self._harness: Harness = self._call(self._make, settings, protocols, seed, held, now)
        except BaseException:
            self._remove_folder()
            raise

    def _make(self, settings: Any, protocols: Any, seed: int, held: bool, now: float | None) -> Harness:
        clock = HarnessClock(self._thread.reactor, held=held, now=now)
        harness = Harness(clock, Path(self._folder), settings=settings, protocols=protocols, seed=seed)
        for records in (harness.records, harness.deliveries):
            records.watchers.append(self._news.tell)
            records.counters.append(self._news.tell)
        harness.watchers.append(self._news.tell)
        return harness

    def _call(self, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
        return self._thread.call(function, *args, **more)

    # Life -------------------------------------------------------------------------------------

    def start(self) -> Server:
        """Serve. Raises: what Twisted's endpoints raise, for an address that cannot be had; RuntimeError."""
        if self._running or not self._remove_folder.alive:
            raise RuntimeError("a server is started once")

        async def begin() -> None:
            try:
                await self._harness.start()
                await self._harness.listen(self._thread.reactor)
            except BaseException:
                await self._harness.stop()
                self._harness.clock.stop()
                raise

        self._call(begin)
        self._running = True
        running.begin(self)
        return self

    def stop(self) -> None:
        """End all connections and give up the ports. May be called twice; sessions can be read afterwards.

        Warns: ServerProblem, of each exception in the server that nobody expected.
        """
        if not self._thread.is_here:
            return      # it is another process's, which this one was forked from
        running.end(self)
        if self._running:
            self._running = False
            if self._web is not None:
                self._call(self._web.stop)
            self._call(self._harness.stop)
            self._call(self._harness.clock.stop)
        self._stopped = True
        self._remove_folder()
        for words in self._thread.untold_problems(self._known_problems):
            warnings.warn(ServerProblem(words), stacklevel=2)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    @property
    def problems(self) -> list[str]:
        """Exceptions in the server that nobody expected, with their tracebacks, since it was made.

        Servers of one process share a thread: where several run, a problem is shown by all.
        """
        return self._thread.problems(self._known_problems)

    def serve_api(self, *, console: bool = False) -> tuple[str, str]:
        """Serve the HTTP API, for a client's test that is written in another language; return URL and token.

        `console`: with the console beside it, at /console. Raises: RuntimeError, if it does not run.
        """
        if not self._running:
            raise RuntimeError("the server does not run")
        if self._web is None:
            from mailgate.testing.api.site import web_of  # much, that is seldom wanted

            web = web_of(self._harness, self._thread.reactor, console)
            self._call(web.listen)
            self._web = web
        return self._web.api, self._web.token

    def serve_console(self) -> str:
        """Serve the console, and return the address that a browser opens: the token is in it.

        Raises: RuntimeError, if the server does not run, or serves its API without the console already;
        ConfigurationError, where the package wsproto is missing.
        """
        if self._web is not None and not self._web.has_console:
            raise RuntimeError("the API is served already, without the console")
        self.serve_api(console=True)
        return f"{self._web.url}/console/#token={self._web.token}"

    # What was said ----------------------------------------------------------------------------

    @property
    def sessions(self) -> list[SessionRecord]:
        """All sessions since the start or the last reset, the earliest first, as they are now.

        Whatever clients have sent until now was read and answered before; what comes later does not change
        what was returned.
        """
        self.settle()
        found: list[SessionRecord] = self._call(self._copied)
        return found

    def _copied(self) -> list[SessionRecord]:
        """Return copies of all records. Those of ended sessions are kept for the next time."""
        found, kept = [], {}
        for record in self._harness.records:
            known = self._copies.get(record.number)
            copy = known[1] if known is not None and known[0] is record else record.copy()
            if not copy.open:
                kept[record.number] = record, copy
            found.append(copy)
        self._copies = kept
        return found

    @property
    def deliveries(self) -> list[SessionRecord]:
        """See Face; as they are now, in the way of `sessions`."""
        self.settle()
        found: list[SessionRecord] = self._call(lambda: [one.copy() for one in self._harness.deliveries])
        return found

    def settle(self) -> None:
        """See Face."""
        self._thread.settle(lambda: self._news.count)

    @property
    def session(self) -> SessionRecord:
        """The latest session, when it has ended. Waits for that, not past `stop`. Raises: TooLate."""
        def ended() -> SessionRecord | None:
            found = self.sessions
            return None if not found or found[-1].open else found[-1]

        return self._wait(ended, 0 if self._stopped else WAIT_SECONDS, "an ended session")

    def idle(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait until no client is connected, by whatever protocol. Raises: TooLate."""
        def nobody() -> bool:
            self.settle()
            return not self._call(self._harness.connections)

        self._wait(nobody, seconds, "the end of all connections")

    def wait_for(self, condition: Callable[[], Found | None], seconds: float = WAIT_SECONDS) -> Found:
        """Wait until a condition holds; return what it returned, which is true.

        It is asked again whenever something has happened at this server, in the thread that waits.
        `seconds` are of the world's time, whatever clock the server has. Raises: TooLate.
        """
        return self._wait(condition, seconds)

    def _wait(self, condition: Callable[[], Found | None], seconds: float, told: str = "") -> Found:
        end = time.monotonic() + seconds
        while True:
            seen = self._news.count
            found = condition()
            if found:
                return found
            left = end - time.monotonic()
            if left <= 0:
                raise TooLate(f"{told or _told(condition)} not within {seconds:g} seconds; {self._state()}")
            self._news.wait(seen, left)

    def _state(self) -> str:
        """Return in a few words what clients have done."""
        sessions = self.sessions
        if not sessions:
            count = len(self.deliveries)
            return f"{count} clients have brought mail, none has come for it" if count else (
                "no client has connected")
        shown = [f"{one.number} ({one.protocol}): {' '.join(one.verbs) or 'no command'},"
                 f" {one.end or 'still open'}" for one in sessions[-SHOWN_SESSIONS:]]
        return f"{len(sessions)} sessions, the latest: {'; '.join(shown)}"

    def reset(self) -> None:
        """See Face.reset. Returns when all connections are gone."""
        super().reset()
        self.settle()


def _told(condition: Callable[[], Any]) -> str:
    """Return what was waited for, as the test says it, where its text can be had."""
    try:
        lines = inspect.getsource(condition).strip().splitlines()
    except (OSError, TypeError):
        return repr(condition)
    return lines[0] if len(lines) == 1 else getattr(condition, "__qualname__", repr(condition))


def _remove(folder: str, owner: int) -> None:
    """Remove a server's folder, unless it is that of the process that this one was forked from."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
