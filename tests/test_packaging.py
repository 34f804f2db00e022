"""Installed in each of three ways, mailgate is there: the command, and the service for twistd."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.running import PATIENCE_SECONDS, ROOT, environment

LEFT_OUT = shutil.ignore_patterns(
    ".*", "*.egg-info", "build", "dist", "var", "_trial_temp*", "__pycache__", "bench", "tests", "_build",
    "*dropin.cache*")     # a twistd beside us may be writing it


class InstalledTests(SynchronousTestCase):
    """What we need is taken from the tests' own environment; only mailgate itself is installed anew."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.source = self.folder / "source"
        shutil.copytree(ROOT, self.source, ignore=LEFT_OUT)
        self.python = self.folder / "venv/bin/python"
        self.run_([sys.executable, "-m", "venv", "--without-pip", self.folder / "venv"])
        # Behind the new environment's own packages, and without their .pth files: an editable mailgate
        # of the tests' environment must not show through.
        where = "import sysconfig; print(sysconfig.get_path('purelib'))"
        packages = Path(self.run_([self.python, "-c", where]).strip())
        ours = [path for path in sys.path if path.endswith("site-packages")]
        (packages / "needed.pth").write_text("".join(path + "\n" for path in ours))

    def run_(self, command: list[str | Path]) -> str:
        ran = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False,
                             env=environment(PIP_DISABLE_PIP_VERSION_CHECK="1"), timeout=PATIENCE_SECONDS)
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        return ran.stdout

    def pip(self, *arguments: str | Path) -> str:
        """Run the tests' pip for the new environment; no network is needed."""
        return self.run_([self.python, "-m", "pip", "--no-input", *arguments])

    def check(self) -> None:
        """The service shows in `twistd --help`, and the command runs; both come from what was installed."""
        code = "from twisted.scripts.twistd import run; run()"
        self.assertRegex(self.run_([self.python, "-c", code, "--help"]), r"\n +mailgate +A mail gateway")
        self.assertTrue(self.run_([self.folder / "venv/bin/mailgate", "--version"]).startswith("mailgate "))
        where = self.run_([self.python, "-c", "import mailgate; print(mailgate.__file__)"]).strip()
        self.assertTrue(Path(where).is_relative_to(self.folder), where)
        count = "from mailgate.testing import scenarios; print(len(scenarios.names()))"
        self.assertGreater(int(self.run_([self.python, "-c", count])), 60)
        service = self.folder / "service"
        self.run_([self.folder / "venv/bin/mailgate", "init", service])     # its SQL is there too
        self.run_([self.folder / "venv/bin/mailgate", "-c", service / "mailgate.toml", "check"])

    def test_install(self) -> None:
        """`pip install .`"""
        self.pip("install", "--no-deps", "--no-build-isolation", self.source)
        self.check()

    def test_wheel(self) -> None:
        """A wheel, built and installed."""
        self.pip("wheel", "--no-deps", "--no-build-isolation", "-w", self.folder, self.source)
        [wheel] = self.folder.glob("mailgate-*.whl")
        self.pip("install", "--no-deps", wheel)
        self.check()

    def test_editable(self) -> None:
        """`pip install -e .`, whose default mode would hide the plugin."""
        self.pip("install", "--no-deps", "--no-build-isolation", "-e", self.source)
        self.check()
