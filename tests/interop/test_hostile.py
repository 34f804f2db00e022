"""Good logins beside hostile connections: what bench/hostile.py measures, in small."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.measures import tell
from tests.running import ROOT

pytestmark = pytest.mark.alone

HOSTILE = 500
GOOD = 30


class HostileTests(SynchronousTestCase):
    def test_no_good_login_fails(self) -> None:
        """Silent ones, half lines, guesses, exchanges broken off, half handshakes: no login fails for it."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "figures.json")
            command = [sys.executable, "-m", "bench", "hostile", "--hostile", str(HOSTILE),
                       "--good", str(GOOD), "--seconds", "2", "--json", file]
            ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400, cwd=ROOT)
            self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
            figures = json.loads(file.read_text())
        for title in ("alone", "verified", "remembered"):
            self.assertEqual((figures[title]["logins"], figures[title]["failed"]), (GOOD, {}))
            tell(f"a login, {title}: median", f"{figures[title]['median_ms']:.0f} ms")
        self.assertGreater(figures["hostile"]["made"], 0.7 * HOSTILE)
        self.assertGreater(figures["log"]["refused"], 0)
        self.assertEqual(figures["log"]["alarms"], 0)
