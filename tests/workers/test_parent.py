"""The parent without processes: what it does once for all workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import ConfigurationError
from mailgate.workers.parent import WorkersService

LEAST = """
hostname = "mail.example.org"
workers = 2
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
"""


class Worker:
    def __init__(self, began: float) -> None:
        self.began = began
        self.word = f"w{began:g}-"
        self.told: list[dict[str, Any]] = []

    def say(self, **words: Any) -> None:
        self.told.append(words)


class Workers:
    def __init__(self, *workers: Worker) -> None:
        self.serving = list(workers)


class OnceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = Path(self.mktemp())
        self.file.write_text(LEAST)
        self.service = WorkersService(self.file, reactor=MemoryReactorClock())
        self.workers = [Worker(2.0), Worker(1.0), Worker(3.0)]
        self.service._generation = Workers(*self.workers)       # type: ignore[assignment]

    def test_housekeeping(self) -> None:
        """One worker keeps house, the one that has served longest."""
        self.service._housekeeping.start(self.service.config.store.housekeeping_seconds, now=False)
        self.service._reactor.advance(3600)
        self.assertEqual([worker.told for worker in self.workers], [[], [{"do": "keep house"}], []])
        self.service._housekeeping.stop()

    def test_burials(self) -> None:
        """Dead workers are told of until their sessions are gone for certain."""
        one, two = Worker(4.0), Worker(5.0)
        self.service._generation = Workers()                    # type: ignore[assignment]
        self.service._buries(one)                               # type: ignore[arg-type]
        self.service._generation = Workers(*self.workers)       # type: ignore[assignment]
        self.service._buries(two)                               # type: ignore[arg-type]
        self.service._dead.difference_update(["w5-"])
        self.service._bury()
        self.assertEqual(self.workers[1].told, [{"do": "bury", "processes": ["w4-", "w5-"]},
                                                {"do": "bury", "processes": ["w4-"]}])
        self.service._dead.difference_update(["w4-"])
        self.service._bury()
        self.assertEqual(len(self.workers[1].told), 2)

    def test_end_of_a_reload(self) -> None:
        """A service that ends while the old workers give up their ports begins nothing any more."""
        drained: Deferred[None] = Deferred()
        self.service.running = 1
        self.service._housekeeping.start(3600, now=False)
        self.service._generation.gone = Deferred()              # type: ignore[union-attr]
        self.service._generation.drain = lambda: drained        # type: ignore[method-assign,union-attr]

        async def begin(*_: Any) -> Workers:
            return Workers()

        self.patch(self.service, "_begin", begin)
        self.service.reload()
        self.service.running = 0
        self.service._housekeeping.stop()
        drained.callback(None)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertFalse(self.service._housekeeping.running)
        self.assertIsNone(self.service._work)

    def test_back_to_one(self) -> None:
        """A single process may listen at what workers cannot share: that takes a restart."""
        self.file.write_text(LEAST.replace("workers = 2", ""))
        fault = self.assertRaises(ConfigurationError, self.service._read)
        self.assertIn("workers: from several to 1 it takes a restart", str(fault))
