"""Workers by a clock: who begins when, who is replaced, and who hangs."""

from __future__ import annotations

import json
import signal
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailgate.workers.channel import TOLD, spoken
from mailgate.workers.generation import CLOSED_SECONDS, MOST_PAUSE_SECONDS, STEADY_SECONDS, Generation
from mailgate.workers.process import PING_SECONDS, PINGS_UNANSWERED, WorkerFailed, WorkerProcess


class Process:
    """A process that there is not."""

    def __init__(self, pid: int, protocol: WorkerProcess) -> None:
        self.pid = pid
        self.protocol = protocol
        self.heard: list[dict[str, Any]] = []
        self.signals: list[str] = []

    def writeToChild(self, descriptor: int, octets: bytes) -> None:
        self.heard += [json.loads(line) for line in octets.splitlines()]

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)

    @property
    def told(self) -> list[str]:
        """What it was told to do."""
        return [words["do"] for words in self.heard if "do" in words]

    def say(self, **words: Any) -> None:
        self.protocol.childDataReceived(TOLD, spoken(words))

    def die(self, number: int = 0) -> None:
        """End, with its last words still on their way."""
        fault = ProcessTerminated(None, number) if number else ProcessDone(0)
        self.protocol.processExited(Failure(fault))
        self.protocol.childConnectionLost(TOLD)


class Reactor(Clock):
    """Starts processes in thought."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self.refusing = False

    def spawnProcess(self, protocol: WorkerProcess, executable: str, args: list[str],
                     **options: Any) -> Process:
        if self.refusing:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        process = Process(100 + len(self.processes), protocol)
        self.processes.append(process)
        protocol.makeConnection(process)
        return process


class GenerationCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.processes = self.reactor.processes
        self.served: list[int] = []
        self.died: list[int | None] = []
        self.generation = self.make()

    def make(self, count: int = 2) -> Generation:
        return Generation(
            {"file": "f", "configuration": "c"}, count, [7], self.reactor,
            make=lambda order: WorkerProcess(order, self.reactor, lambda words: None),
            served=lambda: self.served.append(1), died=lambda worker: self.died.append(worker.pid))

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.generation.start())

    def stand(self) -> None:
        """Let all workers begin and serve."""
        starting = self.start()
        for number in (0, 1):
            self.processes[number].say(now="ready")
        self.successResultOf(starting)

    def pids(self) -> list[int | None]:
        return [worker.pid for worker in self.generation.serving]


class StartTests(GenerationCase):
    def test_one_after_the_other(self) -> None:
        """The second begins when the first serves: what is done once for the store is done by then."""
        starting = self.start()
        self.assertEqual(len(self.processes), 1)
        self.processes[0].say(now="ready")
        self.assertEqual(len(self.processes), 2)
        self.assertNoResult(starting)
        self.processes[1].say(now="ready")
        self.successResultOf(starting)
        self.assertEqual((self.pids(), len(self.served)), ([100, 101], 2))

    def test_order(self) -> None:
        """What to serve is told first, with a word of its own for each."""
        self.stand()
        orders = [process.heard[0] for process in self.processes]
        self.assertEqual([order["configuration"] for order in orders], ["c", "c"])
        self.assertEqual(len({order["process"] for order in orders}), 2)

    def test_failures(self) -> None:
        """The first that fails, before or after others serve, ends the start: with its own words, if any."""
        for ready, say in ((0, True), (1, True), (1, False)):
            self.setUp()
            starting = self.start()
            for number in range(ready):
                self.processes[number].say(now="ready")
            if say:
                self.processes[-1].say(failed=["no store"], code=75)
            self.processes[-1].die(0 if say else signal.SIGSEGV)
            fault = self.failureResultOf(starting, WorkerFailed).value
            self.assertEqual((fault.problems, fault.code),
                             (["no store"] if say else ["a worker was ended by signal 11"], 75))
            self.generation.end()
            for process in self.processes[:ready]:
                self.assertNoResult(self.generation.gone)
                process.die()
            self.successResultOf(self.generation.gone)

    def test_no_process(self) -> None:
        """A system that starts none is a reason too."""
        self.reactor.refusing = True
        fault = self.failureResultOf(self.start(), WorkerFailed).value
        self.assertIn("temporarily unavailable", str(fault))


class ReplacementTests(GenerationCase):
    def test_pauses(self) -> None:
        """The next one begins at once; after one that died at once, later and later, up to a limit."""
        self.stand()
        self.processes[0].die(signal.SIGKILL)
        self.reactor.advance(0)
        waited = []
        for _ in range(9):
            self.assertEqual(self.pids(), [101])
            before = len(self.processes)
            self.processes[-1].say(failed=["no store"], code=75)
            self.processes[-1].die()
            seconds = 0
            while len(self.processes) == before:
                self.reactor.advance(1)
                seconds += 1
            waited.append(seconds)
        self.assertEqual(waited, [1, 2, 4, 8, 16, 32, *[MOST_PAUSE_SECONDS] * 3])
        self.processes[-1].say(now="ready")
        self.assertEqual(len(self.pids()), 2)
        self.reactor.advance(STEADY_SECONDS)
        self.processes[-1].die(signal.SIGKILL)
        self.reactor.advance(0)
        self.processes[-1].say(now="ready")
        self.assertEqual(len(self.pids()), 2)

    def test_last_words(self) -> None:
        """A worker is over when it is dead and its last words were heard, in either order."""
        self.stand()
        one, two = self.processes
        one.protocol.processExited(Failure(ProcessDone(0)))
        self.assertEqual((self.died, self.pids()), ([], [101]))
        one.protocol.childConnectionLost(TOLD)
        two.protocol.childConnectionLost(TOLD)
        self.assertEqual(self.died, [100])
        two.protocol.processExited(Failure(ProcessDone(0)))
        self.assertEqual(self.died, [100, 101])

    def test_hangs(self) -> None:
        """Who leaves several questions unanswered is killed; who answers late is not."""
        self.stand()
        for _ in range(PINGS_UNANSWERED + 3):
            self.reactor.advance(PING_SECONDS)
            self.processes[0].say(now="alive")
        self.assertEqual(self.processes[0].signals, [])
        self.assertEqual(set(self.processes[1].signals), {"KILL"})

    def test_no_replacement_at_the_end(self) -> None:
        """Once it ends nobody begins any more, not even who was waiting."""
        self.stand()
        for process in self.processes:
            process.die(signal.SIGKILL)
        closed = self.generation.end()
        self.successResultOf(closed)
        self.successResultOf(self.generation.gone)
        self.reactor.advance(MOST_PAUSE_SECONDS)
        self.assertEqual((len(self.processes), self.reactor.getDelayedCalls()), (2, []))


class EndTests(GenerationCase):
    def test_drain(self) -> None:
        """First the ports are given up, then the workers end as they like."""
        self.stand()
        closed = self.generation.drain()
        for process in self.processes:
            self.assertEqual(process.told, ["drain"])
            self.assertNoResult(closed)
            process.say(now="closed")
        self.successResultOf(closed)
        self.processes[0].die()
        self.assertNoResult(self.generation.gone)
        self.generation.end()
        self.assertEqual(self.processes[1].told, ["drain", "end"])
        self.processes[1].die()
        self.successResultOf(self.generation.gone)

    def test_one_that_does_not_end(self) -> None:
        """A port that is not given up is waited for no longer than a moment; a worker can be killed."""
        self.stand()
        closed = self.generation.end()
        self.processes[0].say(now="closed")
        self.reactor.advance(CLOSED_SECONDS)
        self.successResultOf(closed)
        self.processes[0].die()
        self.generation.kill()
        self.assertEqual([process.signals for process in self.processes], [[], ["KILL"]])
        self.processes[1].die(signal.SIGKILL)
        self.successResultOf(self.generation.gone)
