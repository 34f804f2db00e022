"""One worker, without a process of its own: its part of the limits, and how it obeys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailgate.config import parse
from mailgate.errors import ConfigurationError, StoreUnavailable
from mailgate.workers import child
from mailgate.workers.child import DRAIN_SECONDS, LOOK_SECONDS, ORPHAN_SECONDS, Worker, WorkerService, shared

LEAST = """\
hostname = "mail.example.org"
workers = {workers}
[[listen]]
protocol = "pop3"
endpoint = "{endpoint}"
"""


class ConfigurationTests(SynchronousTestCase):
    def read(self, workers: int = 4, endpoint: str = "tcp:0", more: str = "") -> Any:
        text = LEAST.format(workers=workers, endpoint=endpoint) + more
        return parse(text.encode(), folder=Path("/nowhere"))

    def test_limits(self) -> None:
        """What is bounded in all is divided, and no more than that."""
        for asked, wanted in ((10, 3), (8, 2), (1, 1)):
            config = self.read(more=f"[limits]\nconnections = {asked}\nconnections_per_user = 7\n")
            self.assertEqual(shared(config).limits.connections, wanted)
            self.assertEqual(shared(config).limits.connections_per_user, 7)
        self.assertIsNone(shared(self.read()).limits.connections)

    def test_endpoints(self) -> None:
        """What is more than a socket in this process cannot be handed to another."""
        for endpoint in ("tcp:0", "tcp6:0", "unix:s", "systemd:domain=INET:index=0"):
            self.assertEqual(self.read(2, endpoint).workers, 2)
        self.assertEqual(self.read(1, "stdio:").workers, 1)
        with self.assertRaises(ConfigurationError) as caught:
            self.read(2, "stdio:")
        self.assertEqual(caught.exception.problems, [
            "listen[0].endpoint: stdio: does not go with `workers`: tcp, tcp6, unix, systemd do"])


class Reactor(Clock):
    stops = 0
    callWhenRunning: Any = None

    def stop(self) -> None:
        self.stops += 1
        if self.stops > 1:
            raise ReactorNotRunning

    def callFromThread(self, function: Any, *args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)


class Told:
    """What takes the place of service, store and teller."""

    def __init__(self) -> None:
        self.busy = True
        self.done: list[Any] = []
        self.store = self
        self.running = True
        self.burying: Deferred[None] = succeed(None)

    def cease(self) -> None:
        self.done.append("cease")

    def sweep(self) -> None:
        self.done.append("sweep")

    async def keep_house(self) -> None:
        self.done.append("keep house")

    def bury_process(self, word: str) -> Deferred[None]:
        self.done.append(word)
        return self.burying

    def tell(self, **words: Any) -> None:
        self.done.append(words)


class WorkerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor, self.told = Reactor(), Told()
        self.worker = Worker(self.told, self.told, self.reactor)        # type: ignore[arg-type]

    def test_deeds(self) -> None:
        """Everything that a parent says is done, once."""
        for words in ({"do": "ping"}, {"do": "sweep"}, {"do": "keep house"},
                      {"do": "bury", "processes": ["w1-", "w2-"]}, {"do": "end"}):
            self.worker.obey(**words)
        self.assertEqual(self.told.done, [
            {"now": "alive"}, "sweep", "keep house", "w1-", "w2-",
            {"now": "buried", "processes": ["w1-", "w2-"]}])
        self.assertEqual(self.reactor.stops, 1)

    def test_not_buried(self) -> None:
        """What a store that is down did not do is not said to be done."""
        self.told.burying = fail(StoreUnavailable("locked"))
        with capturedLogs() as logged:
            self.worker.obey("bury", processes=["w1-", "w2-"])
        self.assertEqual(self.told.done, ["w1-"])
        self.assertEqual([event["log_level"] for event in logged], [LogLevel.warn])

    def test_all_end_together(self) -> None:
        """One that has closed its store, when another's end is told: the log needs no word of it."""
        self.told.burying = fail(StoreUnavailable("the store is not open"))
        self.told.running = False
        with capturedLogs() as logged:
            self.worker.obey("bury", processes=["w1-"])
        self.assertEqual((self.told.done, logged), (["w1-"], []))

    def test_told_by_a_signal_too(self) -> None:
        """SIGTERM and the parent's word are one and the same."""
        taken: list[Any] = []
        self.patch(child.signal, "signal", lambda number, heed: taken.append((number, heed)))
        self.worker._take_sigterm()
        [(number, heed)] = taken
        self.assertEqual(number, child.signal.SIGTERM)
        heed(number, None)
        self.assertEqual(self.reactor.stops, 1)
        self.worker.end()
        heed(number, None)
        self.assertEqual(self.reactor.stops, 3, "of which the reactor passes two over")

    def test_store_that_fails_at_the_end(self) -> None:
        """A start that comes to nothing ends a worker, unless it ends already."""
        service: Any = WorkerService.__new__(WorkerService)
        service._teller, service._reactor = self.told, self.reactor
        self.patch(self.reactor, "callWhenRunning", lambda call: call())
        for running in (1, 0):
            service.running = running
            service._give_up(Failure(StoreUnavailable("locked")))
        self.assertEqual(self.told.done, [{"failed": ["locked"], "code": 75}] * 2)
        self.assertEqual(self.reactor.stops, 1)

    def test_drained(self) -> None:
        """It ends when the last connection has, and does not mind being told twice."""
        self.worker.drain()
        self.worker.drain()
        self.reactor.advance(LOOK_SECONDS)
        self.assertEqual((self.told.done, self.reactor.stops), (["cease", "cease"], 0))
        self.told.busy = False
        self.reactor.advance(LOOK_SECONDS)
        self.assertEqual(self.reactor.stops, 1)
        self.worker.end()

    def test_drained_for_long(self) -> None:
        """A session that does not end is told, at last."""
        self.worker.drain()
        self.reactor.pump([LOOK_SECONDS] * int(DRAIN_SECONDS / LOOK_SECONDS - 1))
        self.assertEqual(self.reactor.stops, 0)
        self.reactor.advance(LOOK_SECONDS)
        self.assertEqual(self.reactor.stops, 1)

    def test_orphan(self) -> None:
        """A worker whose parent is dead ends in order, and is ended where it does not."""
        happened: list[Any] = []
        self.patch(child.time, "sleep", lambda seconds: happened.append((self.reactor.stops, seconds)))
        self.patch(child.os, "_exit", happened.append)
        self.worker._hear(iter([{"do": "ping"}]))
        self.assertEqual(self.told.done, [{"now": "alive"}])
        self.assertEqual(happened, [(1, ORPHAN_SECONDS), os.EX_UNAVAILABLE])
