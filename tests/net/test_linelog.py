"""Log lines that are told together: each by itself, whole, with its own time, and soon."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, eventAsText, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailgate.net import linelog
from mailgate.net.factory import ServerFactory
from mailgate.net.linelog import MOST_LINES, TELL_SECONDS, LineLog

log = Logger("mailgate.tested")


class LineLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.lines = LineLog(self.clock)
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self._keep)
        self.addCleanup(globalLogPublisher.removeObserver, self._keep)

    def _keep(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace") == "mailgate.tested":
            self.events.append(event)

    def told(self) -> list[str]:
        return [eventAsText(event, includeTimestamp=False, includeSystem=False) for event in self.events]

    def test_within_a_tenth_of_a_second(self) -> None:
        """In the order of their coming; the wait begins with the first."""
        self.lines.add(log, "one")
        self.clock.advance(TELL_SECONDS / 2)
        self.lines.add(log, "two")
        self.assertEqual(self.told(), [])
        self.clock.advance(TELL_SECONDS / 2)
        self.assertEqual(self.told(), ["one", "two"])
        self.lines.add(log, "three")
        self.clock.advance(TELL_SECONDS)
        self.assertEqual(self.told(), ["one", "two", "three"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_more_than_some_wait(self) -> None:
        for number in range(MOST_LINES - 1):
            self.lines.add(log, str(number))
        self.assertEqual(self.told(), [])
        self.lines.add(log, "last")
        self.assertEqual(self.told(), [*map(str, range(MOST_LINES - 1)), "last"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_flush(self) -> None:
        """Tells what waits, and is nothing where nothing does."""
        self.lines.flush()
        self.lines.add(log, "one")
        self.lines.flush()
        self.lines.flush()
        self.assertEqual(self.told(), ["one"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_same_event_as_of_twisted(self) -> None:
        """With the time at which it was added, and words that are no format."""
        times = iter([1000.5, 2000.25])
        self.patch(linelog, "time", SimpleNamespace(time=lambda: next(times)))     # nobody else's
        self.lines.add(log, "a {name} and a \N{SNOWMAN}")
        self.lines.add(log, "b")
        self.clock.advance(TELL_SECONDS)
        log.info("{told}", told="c")
        self.assertEqual(self.told(), ["a {name} and a \N{SNOWMAN}", "b", "c"])
        self.assertEqual([event["log_time"] for event in self.events[:2]], [1000.5, 2000.25])
        self.assertEqual([set(event) for event in self.events[:2]], [set(self.events[2])] * 2)
        for name in ("log_level", "log_namespace", "log_logger", "log_format", "log_source"):
            self.assertEqual(self.events[0][name], self.events[2][name], name)
        self.assertIs(self.events[0]["log_level"], LogLevel.info)


class FactoryTests(LineLogTests):
    """Where nobody is connected, nothing waits."""

    def setUp(self) -> None:
        super().setUp()
        self.factory = ServerFactory(self.clock, 600.0)
        self.lines = self.factory._lines

    def test_the_last_one_that_leaves(self) -> None:
        one, two = _Connection(), _Connection()
        self.factory.idle.add(one)
        self.factory.idle.add(two)
        self.factory.tell(log, "one")
        self.factory.ended(one)
        self.assertEqual(self.told(), [])
        self.factory.ended(two)
        self.assertEqual(self.told(), ["one"])
        self.factory.tell(log, "a commit that went on alone")
        self.assertEqual(self.told(), ["one", "a commit that went on alone"])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class _Connection(Protocol):
    def tick(self, now: float) -> None:
        """Never silent for too long."""

    def dismiss(self) -> None:
        """Goes nowhere."""

    cut = dismiss
