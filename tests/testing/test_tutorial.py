"""The tutorial's program and tests, run as its reader runs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

FOLDER = Path(__file__).parents[2] / "docs" / "examples" / "harness" / "tutorial"
FAILED = ("retr-ok-but-empty", "expunged-during-session")       # by the mended program, too
SCENARIOS = (*FAILED, "cut-in-mid-message", "eight-bit-headers", "one-message-refused", "quit-reply-lost",
             "lines-over-2048")     # not all, which would take a minute
VARYING = re.compile(r"\d+\.\d{3}|127\.0\.0\.1:\d+")     # times and ports


class TutorialTests(SynchronousTestCase):
    def run_tests(self, program: str, *names: str) -> subprocess.CompletedProcess[str]:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        shutil.copy(FOLDER / program, folder / "fetch.py")
        shutil.copy(FOLDER / "test_fetch.py", folder)
        # as a project of its own: ours has settings that are none of the reader's business
        (folder / "pytest.ini").write_text("[pytest]\n")
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *(
                f"test_fetch.py::{name}" for name in names)],
            cwd=folder, capture_output=True, text=True, check=False, timeout=120,
            env={**os.environ, "COLUMNS": "80"})

    def test_the_first_program(self) -> None:
        """Works with a good server, and loses a message with one that refuses another."""
        ran = self.run_tests("fetch_1.py", "test_fetches_everything", "test_loses_nothing")
        self.assertIn("1 failed, 1 passed", ran.stdout, ran.stdout + ran.stderr)
        self.assertIn("AssertionError: message 1 is lost", ran.stdout)
        told = [VARYING.sub("", line).strip() for line in ran.stdout.splitlines()]
        at = 0
        for line in (FOLDER / "report.txt").read_text().splitlines():
            wanted = VARYING.sub("", line).strip()
            self.assertIn(wanted, told[at:], ran.stdout)
            at = told.index(wanted, at)

    def test_the_mended_program(self) -> None:
        """Passes the page's two tests, and in the library fails where the page says so."""
        ran = self.run_tests("fetch_2.py", "test_fetches_everything", "test_loses_nothing", *(
            f"test_survives[{name}]" for name in SCENARIOS))
        self.assertIn(f"2 failed, {len(SCENARIOS)} passed", ran.stdout, ran.stdout + ran.stderr)
        for name in FAILED:
            self.assertIn(f"FAILED test_fetch.py::test_survives[{name}]", ran.stdout)
