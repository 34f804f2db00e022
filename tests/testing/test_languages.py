"""The manual's tests of a mail client in other languages: each is carried out, and finds a client's bug."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.needs import needs, needs_perl
from tests.running import BIN, ROOT

EXAMPLES = ROOT / "docs" / "examples" / "harness"
SECONDS = 120
BUG = "a message that cannot be fetched stays"      # what a client that is broken on purpose is caught at


class LanguageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()

    def runs(self, *command: str, finds: str = BUG) -> None:
        """The example passes; with a client that deletes what it did not get, it fails and says where."""
        good, broken = self.begin(command, "good"), self.begin(command, "broken", BROKEN_CLIENT="1")
        said = good.communicate(timeout=SECONDS)[0]
        self.assertEqual(good.returncode, 0, said)
        self.assertNotIn(finds, said)
        said = broken.communicate(timeout=SECONDS)[0]
        self.assertNotEqual(broken.returncode, 0, said)
        self.assertIn(finds, said)
        self.assertEqual(list(self.folder.glob("*/mailgate-*")), [], "a harness has not ended")

    def begin(self, command: tuple[str, ...], name: str, **more: str) -> subprocess.Popen[str]:
        (self.folder / name).mkdir(parents=True)
        environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
                       "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(self.folder / name)}
        for inherited in ("BROKEN_CLIENT", "NODE_OPTIONS", "NODE_TEST_CONTEXT", "PERL5OPT"):
            environment.pop(inherited, None)
        process = subprocess.Popen(command, cwd=EXAMPLES, env={**environment, **more}, text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_python(self) -> None:
        """unittest and poplib, TLS with the harness's authority."""
        self.runs(sys.executable, "-m", "unittest", "test_client.py", finds="Lists differ")

    def test_node(self) -> None:
        """Node's test runner, and nothing that is not Node's."""
        self.runs(needs("node"), "--test", "client.test.js", finds="not ok")

    def test_perl(self) -> None:
        """Test::More and Net::POP3: Perl as it is delivered."""
        self.runs(needs_perl("Net::POP3"), "client.t", finds="not ok")

    def test_java(self) -> None:
        """A JDK and one file."""
        self.runs(needs("java"), "ClientTest.java")

    def test_shell(self) -> None:
        """A shell and curl."""
        needs("curl")
        self.runs("sh", "client.sh")
