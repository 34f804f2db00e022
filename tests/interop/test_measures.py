"""The measures of these tests see what they are to see."""

from __future__ import annotations

import subprocess
import sys
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.measures import MEGABYTE, Costs
from tests.needs import unavailable

CHILD = """
import sys
for line in sys.stdin:
    kept = eval(line)
    print("done", flush=True)
"""


class CostsTests(SynchronousTestCase):
    def test_peak(self) -> None:
        """Memory that a process had in use for a moment shows in the peak; each measuring begins anew."""
        child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(child.wait)
        assert child.stdin is not None and child.stdout is not None
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.stdin.close)

        def do(expression: bytes) -> None:
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write(expression + b"\n")
            child.stdin.flush()
            child.stdout.readline()

        do(b"1")
        costs = Costs(child.pid)
        do(b"len(bytearray(b'x') * 50_000_000)")
        self.assertGreater(costs.peak_growth(), 45 * MEGABYTE)
        self.assertLess(costs.growth(), 20 * MEGABYTE)
        self.assertLess(Costs(child.pid).peak_growth(), 20 * MEGABYTE)


class NeedsTests(SynchronousTestCase):
    def test_missing_program(self) -> None:
        """What is missing skips a test with its reason, and fails it under CI."""
        self.assertRaises(SkipTest, unavailable, "missing: x", {})
        self.assertRaises(SkipTest, unavailable, "missing: x", {"CI": "false"})
        self.assertRaises(AssertionError, unavailable, "missing: x", {"CI": "true"})
