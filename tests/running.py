"""Real processes: the `mailgate` command and `twistd mailgate`, as an operator starts them."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from unittest import TestCase

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parent.parent
PATIENCE_SECONDS = 60       # for what takes one: the machine may be busy
LIFE_SECONDS = 300          # of a service, whatever a test does with it

CONFIGURATION = """\
hostname = "mail.example.org"
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
[[listen]]
protocol = "lmtp"
endpoint = "tcp:0:interface=127.0.0.1"
[limits]
failure_delay_seconds = 0
"""


def environment(**more: str) -> dict[str, str]:
    """Return the tests' environment without what would change ours."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MAILGATE_", "LISTEN_"))}
    return {**kept, **more}


def mailgate(*arguments: str | Path, stdin: bytes = b"", code: int = 0, cwd: Path | None = None) -> str:
    """Run the command; its exit code must be `code`. Return what it wrote, errors included."""
    ran = subprocess.run([BIN / "mailgate", *arguments], input=stdin, capture_output=True, cwd=cwd,
                         env=environment(), timeout=PATIENCE_SECONDS, check=False)
    written = (ran.stdout + ran.stderr).decode()
    assert ran.returncode == code, f"{arguments}: exit code {ran.returncode}\n{written}"
    return written


def make_service_folder(folder: Path, configuration: str = CONFIGURATION) -> Path:
    """Make a folder with a configuration and an empty store; return the configuration's path."""
    file = folder / "mailgate.toml"
    mailgate("init", folder)
    file.write_text(configuration)
    return file


class Twistd:
    """One `twistd -n`, watched: what it writes is kept, and it is killed when it hangs."""

    def __init__(self, case: TestCase, *arguments: str | Path, cwd: Path,
                 command: tuple[str | Path, ...] = (BIN / "twistd",), **options: Any) -> None:
        self.log: list[str] = []
        self._errors = ""
        self.cwd = cwd
        self.process = subprocess.Popen(
            [*command, "-n", "--pidfile=", "mailgate", *arguments], cwd=cwd, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            **{"env": environment(), **options})
        self._watchdog = threading.Timer(LIFE_SECONDS, self.process.kill)
        self._watchdog.start()
        case.addCleanup(self._clean_up)

    def _clean_up(self) -> None:
        self.process.kill()
        self.finish()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the first match of what it writes. Raises: AssertionError, when it ends before."""
        assert self.process.stdout is not None and self.process.stderr is not None
        for line in self.process.stdout:
            self.log.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"{pattern!r} never came:\n{''.join(self.log)}{self.process.stderr.read()}")

    def ready(self) -> dict[str, int]:
        """Wait until it serves, and return the ports by protocol."""
        self.wait_for("mailgate is ready")
        found = re.findall(r"(pop3|lmtp) at \S+:(\d+)$", "".join(self.log), re.MULTILINE)
        return {protocol: int(port) for protocol, port in found}

    def terminate(self) -> None:
        """Ask it to end, as init systems do."""
        self.process.send_signal(signal.SIGTERM)

    def finish(self) -> tuple[int, str]:
        """Wait for its end; return exit code and what it wrote to standard error."""
        assert self.process.stdout is not None and self.process.stderr is not None
        if not self.process.stderr.closed:
            with self.process:
                self.log += self.process.stdout     # `communicate` would miss what `wait_for` has read ahead
                self._errors = self.process.stderr.read()
        self._watchdog.cancel()
        return self.process.returncode, self._errors


def leases(folder: Path) -> list[tuple[Any, ...]]:
    """Return the rows of leases and their holders."""
    connection = sqlite3.connect(folder / "mail.db")
    try:
        return [row for table in ("lease", "holder") for row in connection.execute(f"SELECT * FROM {table}")]
    finally:
        connection.close()
