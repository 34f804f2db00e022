"""Real clients in the library of scenarios: a few pairs with their verdicts, and the rules that judge."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing import samples, scenarios
from tests.needs import needs
from tests.testing.clients import lab, pages, verdicts
from tests.testing.clients.programs import CLIENTS, ROOT, Way
from tests.testing.clients.verdicts import Original, Outcome, Poll
from tests.testing.clients.ways import WAYS

PAIRS = {       # what these clients are known to do, in every version of the last years
    ("poplib", "lost-before-quit"): ["doubled"],
    ("poplib", "one-message-refused"): ["doubled"],
    ("poplib-keep", "one-message-refused"): ["recovered"],
    ("poplib-keep", "cut-in-mid-message"): ["recovered"],
    ("poplib-keep", "dot-lines-stuffed-rightly"): ["unharmed"],
    ("poplib-keep", "lines-over-2048"): ["missed"],
    ("poplib", "stls-refused"): ["recovered"],
    ("curl", "certificate-for-another-name"): ["recovered"],
    ("curl", "cut-in-mid-message"): ["lost", "torn"],
    ("fetchmail", "stls-stripped"): ["recovered"],
    ("fetchmail", "retr-ok-but-empty"): ["lost", "strange"],
    ("getmail-keep", "uidl-changes-every-session"): ["doubled"],
}


class RunTests(SynchronousTestCase):
    """Real programs; all run at once, most of their time is waiting."""

    pool: ClassVar[ThreadPoolExecutor]
    runs: ClassVar[dict[tuple[str, str], Future[dict[str, Any]]]]

    @classmethod
    def setUpClass(cls) -> None:
        needs("curl")
        needs("fetchmail")
        needs("getmail")
        cls.pool = ThreadPoolExecutor(4)
        cls.runs = {pair: cls.pool.submit(lab.run, *pair) for pair in PAIRS}

    @classmethod
    def tearDownClass(cls) -> None:
        cls.pool.shutdown()

    def test_verdicts(self) -> None:
        """Each pair ends as it is known to."""
        found = {pair: run.result() for pair, run in self.runs.items()}
        self.assertEqual({pair: run["verdict"] for pair, run in found.items()}, PAIRS,
                         [run for pair, run in found.items() if run["verdict"] != PAIRS[pair]])


class RuleTests(SynchronousTestCase):
    """Verdicts of outcomes that are made up."""

    def setUp(self) -> None:
        self.contents = samples.contents("plain x 2")
        self.whole = [content.replace(b"\r\n", b"\n") for content in self.contents]

    def judged(self, stored: list[bytes], removed: str = "", left: str = "12", **more: Any) -> list[str]:
        originals = [Original(str(number), content, str(number) in left)
                     for number, content in enumerate(self.contents, 1)]
        polls = more.pop("polls", [Poll(0, 1.0, "")])
        return verdicts.judge(Outcome(originals, stored, polls, frozenset(removed), **more))

    def test_nothing_wrong(self) -> None:
        """All is there once: lines may end otherwise, and header lines may come in front."""
        self.assertEqual(self.judged(self.whole, "12", ""), ["unharmed"])
        longer = [b"Received: by x\n" + one for one in self.whole]
        self.assertEqual(self.judged(longer, deletes=False), ["unharmed"])
        self.assertEqual(self.judged(self.contents, deletes=False, polls=[Poll(1, 1.0, "", failed=True)]),
                         ["recovered"])
        self.assertEqual(self.judged(self.contents, deletes=False, met=False), ["not met"])

    def test_mail(self) -> None:
        """Lost, torn, doubled, altered, strange, missed and kept are told apart."""
        one, two = self.whole
        self.assertEqual(self.judged([one], "12", ""), ["lost"])
        self.assertEqual(self.judged([one, two[:-20]], "12", ""), ["lost", "torn"])
        self.assertEqual(self.judged([one, two[:-20], two], "12", ""), ["torn"])
        self.assertEqual(self.judged([one, two, one], "12", ""), ["doubled"])
        self.assertEqual(self.judged([one, two.replace(b"reader", b"writer")], "12", ""), ["altered"])
        self.assertEqual(self.judged([one, two.replace(b"reader", b"writer")], "12", "", altered=True),
                         ["unharmed"])
        self.assertEqual(self.judged([one, two, b"+OK\nQUIT\n"], "12", ""), ["strange"])
        self.assertEqual(self.judged([b"+OK 200 octets\n" + one, two], "12", ""), ["altered"])
        self.assertEqual(self.judged([one], "1", "2"), ["missed"])
        self.assertEqual(self.judged([one, two], "1", "2"), ["kept"])
        self.assertEqual(self.judged([one, two[two.index(b"\n\n"):]], "12", ""), ["unharmed"])
        self.assertEqual(self.judged([one, two[50:120]], "12", ""), ["lost", "torn"])

    def test_conduct(self) -> None:
        """What was said in clear, what was believed, how it ended."""
        fine = {"stored": self.whole, "removed": "12", "left": ""}
        self.assertEqual(self.judged(**fine, secure=True, said_in_clear=["CAPA", "STLS"]), ["unharmed"])
        self.assertEqual(self.judged(**fine, secure=True, said_in_clear=["CAPA", "USER"]), ["injected"])
        self.assertEqual(self.judged(**fine, said_in_clear=["CAPA", "USER"]), ["unharmed"])
        self.assertEqual(self.judged(**fine, trusting_logins=1), ["trusted"])
        told = Poll(1, 1.0, "server said: -ERR injected by the lab")
        self.assertEqual(self.judged(**fine, polls=[told]), ["injected"])
        self.assertEqual(self.judged(**fine, polls=[Poll(-11, 1.0, "")]), ["crash"])
        traced = Poll(1, 1.0, "Traceback (most recent call last):")
        self.assertEqual(self.judged(**fine, polls=[traced]), ["crash"])
        self.assertEqual(self.judged(**fine, polls=[Poll(-9, 9.0, "", "hang")]), ["hang"])


class PageTests(SynchronousTestCase):
    def test_pages_are_as_made(self) -> None:
        """The manual's lists are what the command makes of the scenarios and of what was kept."""
        for name, text in pages.made().items():
            page = (pages.MANUAL / name).read_text(encoding="utf-8")
            self.assertEqual(page, pages.above(page) + text,
                             f"{name}: run python -m tests.testing.clients --pages")

    def test_results_are_whole(self) -> None:
        """Every client was put through every scenario that it can come in for."""
        kept = pages.load_results()
        self.assertEqual(set(kept), set(CLIENTS))
        for name, client in CLIENTS.items():
            wanted = {scenario for scenario in scenarios.names() if lab.applies(client, scenario)}
            self.assertEqual({run["scenario"] for run in kept[name]["runs"]}, wanted, name)
            self.assertNotIn(str(Path(__file__).parents[2]), json.dumps(kept[name]))

    def test_ways(self) -> None:
        """Ways are of scenarios that there are."""
        self.assertLessEqual(set(WAYS), set(scenarios.names()))
        self.assertTrue(lab.applies(CLIENTS["poplib"], "one-message-refused"))
        self.assertFalse(CLIENTS["getmail"].can(Way("stls")))
        self.assertTrue((ROOT / "setup.cfg").exists())
