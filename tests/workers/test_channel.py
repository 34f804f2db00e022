"""What parent and workers say: lines stay whole, and a log event looks as if the parent had it logged."""

from __future__ import annotations

import json
import os
import threading

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel, formatEventAsClassicLogText, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailgate.workers.channel import Lines, Teller, publish, read_lines, spoken


class LineTests(SynchronousTestCase):
    @given(st.lists(st.dictionaries(st.text(), st.text())), st.integers(1, 7))
    @settings(deadline=None)
    def test_any_pieces(self, said: list[dict[str, str]], octets: int) -> None:
        """However it is cut, what was said is heard; lone surrogates and line ends too."""
        lines, heard = Lines(), []
        whole = b"".join(map(spoken, said))
        for at in range(0, len(whole), octets):
            heard += [json.loads(line) for line in lines.feed(whole[at:at + octets])]
        self.assertEqual(heard, said)


class TellerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.hears, self.tells = os.pipe()
        self.addCleanup(os.close, self.hears)

    def test_threads(self) -> None:
        """Lines longer than what a pipe takes at once stay whole, whoever tells them."""
        teller, most = Teller(self.tells), 40

        def tell(name: str) -> None:
            for number in range(most):
                teller.tell(name=name, number=number, text=name * 20_000)

        threads = [threading.Thread(target=tell, args=(name,)) for name in "ab"]

        def finish() -> None:
            for thread in threads:
                thread.join()
            os.close(self.tells)

        for thread in (*threads, threading.Thread(target=finish)):
            thread.start()
        heard = list(read_lines(self.hears))
        for name in "ab":
            told = [(words["number"], len(words["text"])) for words in heard if words["name"] == name]
            self.assertEqual(told, [(number, 20_000) for number in range(most)])

    def test_told_in_the_midst(self) -> None:
        """What a finalizer or a signal's handler says while a line is on its way comes behind it."""
        teller = Teller(self.tells)
        write, once = teller._write, []

        def interrupted(octets: memoryview) -> None:
            if not once:
                once.append(True)
                teller.tell(number=2)
            write(octets)

        self.patch(teller, "_write", interrupted)
        teller.tell(number=1)
        os.close(self.tells)
        self.assertEqual(list(read_lines(self.hears)), [{"number": 1}, {"number": 2}])

    def test_nobody_hears(self) -> None:
        """A worker whose parent is dead is silent."""
        hears, tells = os.pipe()
        os.close(hears)
        Teller(tells).tell(now="alive")
        os.close(tells)
        os.close(self.tells)


class LogTests(SynchronousTestCase):
    def relayed(self, events: list[dict[str, object]]) -> list[dict[str, object]]:
        """Return what the parent's log gets of a worker's events."""
        hears, tells = os.pipe()
        teller = Teller(tells)
        for event in events:
            teller.observe(event)
        os.close(tells)
        got: list[dict[str, object]] = []
        globalLogPublisher.addObserver(got.append)
        try:
            for words in read_lines(hears):
                publish(words)
        finally:
            globalLogPublisher.removeObserver(got.append)
            os.close(hears)
        return got

    def test_the_same_text(self) -> None:
        """Level, place, time, line ends and traceback are as they were; what looks like a format is none."""
        events: list[dict[str, object]] = []
        log = Logger("mailgate.login", observer=events.append)
        log.info("login refused for {host} as {name}", host="203.0.113.7", name='"{x}\\n%s"')
        log.warn("two\nlines")
        log.critical("{missing}")
        try:
            raise ZeroDivisionError("oops")
        except ZeroDivisionError:
            events.append({"log_failure": Failure(), "log_level": LogLevel.critical, "log_time": 1.5,
                           "log_namespace": "x", "log_format": "it failed"})
        events.append({"log_system": "-", "log_format": "of old", "log_time": 3.0})
        events.append({"log_format": "", "log_time": 4.0})
        got = self.relayed(events)
        told = [formatEventAsClassicLogText(event) for event in events]
        self.assertIsNone(told.pop())       # Twisted says nothing of an empty event
        self.assertEqual([formatEventAsClassicLogText(event) for event in got], told)
        self.assertIn("ZeroDivisionError", told[3] or "")
        self.assertEqual([event["log_level"].name for event in got],        # type: ignore[attr-defined]
                         ["info", "warn", "critical", "critical", "info"])
