"""A few hundred inputs of every target; many more of them by `python -m tests.fuzz`."""

from __future__ import annotations

import re
import subprocess
import sys
import tracemalloc
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import running
from tests.fuzz.mutation import Mutator, smaller
from tests.fuzz.running import run
from tests.fuzz.table import TARGETS
from tests.fuzz.target import Target, hold

EXECUTIONS = 250
SEED = 20_250_101
ROOT = Path(__file__).parent.parent.parent


class TargetTests(SynchronousTestCase):
    """A test a target."""


def _test_of(name: str) -> object:
    def test(self: SynchronousTestCase) -> None:
        outcome = run(name, EXECUTIONS, SEED)
        for number, data, fault in outcome.findings:
            raise AssertionError(f"input {number}, {data!r}: {fault!r}") from fault
        self.assertEqual(outcome.executions, EXECUTIONS)
        self.flushLoggedErrors()        # those that are a finding were raised

    test.__doc__ = f"Nothing that the check of {name} forbids."
    return test


for _name in TARGETS:
    setattr(TargetTests, f"test_{_name.replace('-', '_')}", _test_of(_name))


class RunnerTests(SynchronousTestCase):
    """The runner finds what there is to find, and the same each time."""

    def check(self, data: bytes) -> None:
        hold(b"\0" not in data, "a NUL")

    def test_inputs_follow_from_the_seed(self) -> None:
        """Seed, name and number say which input it is; other seeds make others."""
        target = TARGETS["pop3"]
        made = {}
        for seed in (1, 1, 2):
            mutator = Mutator("pop3", target.seeds, target.words, 500, seed)
            inputs = [mutator.at(number) for number in (*range(200), 7, 100)]
            self.assertEqual((inputs[-2], inputs[-1]), (inputs[7], inputs[100]))
            self.assertLessEqual(max(map(len, inputs[len(target.seeds):])), 500)
            self.assertGreater(len(set(inputs)), 150)
            self.assertEqual(made.setdefault(seed, inputs), inputs)
        self.assertNotEqual(made[1], made[2])

    def test_inputs_are_bounded(self) -> None:
        """Also while they are made: a stretch that is repeated is repeated again."""
        mutator = Mutator("x", (b"x" * 500,), (), 1000, 1)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertEqual(max(len(mutator.at(number)) for number in range(2000)), 1000)
        self.assertLess(tracemalloc.get_traced_memory()[1], 1_000_000)

    def test_a_finding(self) -> None:
        """Is told once it is found, with the shortest input that still shows it."""
        with mock.patch.dict(running.TARGETS, {"x": Target(self.check, (b"hello",))}):
            outcome = run("x", 10_000, 1, most_findings=2)
            again = run("x", 1, 1, first=outcome.findings[1].number)
        self.assertEqual([finding.data for finding in outcome.findings], [b"\0"] * 2)
        self.assertIn("a NUL", str(outcome.findings[0].fault))
        self.assertEqual([finding.number for finding in again.findings], [outcome.findings[1].number])
        self.assertLess(outcome.executions, 10_000)

    def test_an_input_that_takes_too_long(self) -> None:
        """It is a finding too, and does not hold the run up."""
        self.patch(running, "MOST_SECONDS", 0.05)
        endless = re.compile(rb"(?:a|b|ab)*c")
        target = Target(lambda data: hold(not endless.fullmatch(data), "c"), (b"ab" * 40,))
        with mock.patch.dict(running.TARGETS, {"x": target}):
            outcome = run("x", 1, 1)
        self.assertIsInstance(outcome.findings[0].fault, running.TooSlow)

    def test_smaller(self) -> None:
        """What is left is needed: nothing more can be left out."""
        self.assertEqual(smaller(b"x" * 1000 + b"ab" + b"y" * 77, lambda data: b"ab" in data), b"ab")
        self.assertEqual(smaller(b"abc", lambda data: True), b"")

    def test_command(self) -> None:
        """It says what it ran; a target that is none is an error."""
        command = [sys.executable, "-m", "tests.fuzz", "--executions", "20", "--seed", "3"]
        ran = subprocess.run([*command, "lines", "shown"], cwd=ROOT, capture_output=True, text=True,
                             check=True)
        self.assertIn("seed 3, 20 executions of each of 2 targets", ran.stdout)
        self.assertIn("40 executions in ", ran.stdout)
        self.assertIn(" 0 findings", ran.stdout)
        strange = subprocess.run([*command, "nothing"], cwd=ROOT, capture_output=True, text=True, check=False)
        self.assertIn("no target nothing; there are lines, ", strange.stderr)
        self.assertNotEqual(strange.returncode, 0)
