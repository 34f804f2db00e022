"""`mailgate store copy` as a process that is killed, and run again: nothing lost, nothing doubled."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailgate.assembly.store import make_store
from mailgate.config import Config, load
from mailgate.config.stores import only
from mailgate.model import Envelope, Placement
from tests.cli.whole_store import everything, fill
from tests.services import BIN, WAIT_SECONDS

CONFIGURATION = """
hostname = "mail.example.org"
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
[stores.new]
metadata = "sqlite:new.db"
bodies = "file:new-bodies"
inline_octets = 400
"""
MESSAGES = 1_500        # in three maildrops, every tenth with its body in a file
KILLED_AT = (1, 300, 900)


class KilledTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.file = self.folder / "mailgate.toml"
        self.file.write_text(CONFIGURATION)

    async def opened(self, name: str) -> Any:
        config: Config = only(load(self.file), name)
        store = make_store(config, reactor, create=True)
        await store.start()
        self.addCleanup(store.stop)
        return store

    async def put_many(self, store: Any) -> None:
        await fill(store)
        committing = []
        for number in range(MESSAGES):
            delivery = store.deliver()
            delivery.write(b"Subject: %d\r\n\r\n" % number + b"text\r\n" * (100 if number % 10 == 0 else 10))
            name = f"drop{number % 3}"
            committing.append(delivery.commit([Placement(
                name, None, Envelope(b"s@example.net", name.encode(), 1_650_000_000_000 + number))]))
            if len(committing) == 100:
                await gatherResults(committing)
                committing.clear()

    def command(self, *arguments: str) -> list[str]:
        return [str(BIN / "mailgate"), "-c", str(self.file), "store", *arguments]

    def kill_at(self, count: int) -> int:
        """Kill a copy when the target has so many messages; return its exit code."""
        process = subprocess.Popen(self.command("copy", "store", "new"), stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        try:
            wait(lambda: process.poll() is not None or self.copied() >= count)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            return process.wait(WAIT_SECONDS)
        finally:
            assert process.stdout is not None
            process.stdout.close()

    def copied(self) -> int:
        """Return how many messages the target has."""
        if not (self.folder / "new.db").exists():
            return 0
        connection = sqlite3.connect(f"file:{self.folder}/new.db?mode=ro", uri=True, timeout=10)
        try:
            count: int = connection.execute("SELECT count(*) FROM message").fetchone()[0]
            return count
        except sqlite3.OperationalError:        # the schema is being made
            return 0
        finally:
            connection.close()

    def run_to_the_end(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False,
                              timeout=WAIT_SECONDS)

    async def test_killed_and_run_again(self) -> None:
        """At several points; what is left of bodies is swept, and both stores hold the same in the end."""
        source = await self.opened("store")
        await self.put_many(source)
        codes = [await deferToThread(self.kill_at, count) for count in KILLED_AT]
        self.assertEqual(codes[:2], [-signal.SIGKILL] * 2)
        copied = self.copied()
        self.assertGreater(copied, KILLED_AT[1])
        ran = await deferToThread(self.run_to_the_end, "copy", "store", "new", "--verify", "all")
        self.assertEqual((ran.returncode, ran.stderr), (0, ""), ran)
        self.assertIn(f"messages: {MESSAGES + 19 - copied} copied", ran.stdout)
        self.assertIn(f"{copied} were there", ran.stdout)
        self.assertIn(f"verified: {MESSAGES + 19} messages; findings: 0", ran.stdout)
        swept = await deferToThread(self.run_to_the_end, "sweep", "new", "--grace-seconds", "0", "--force")
        self.assertEqual(swept.returncode, 0, swept)
        target = await self.opened("new")
        self.assertEqual(await everything(target), await everything(source))
        self.assertEqual(await target.check(), [])


def wait(condition: Callable[[], object]) -> None:
    """Wait until a condition is true. Raises: AssertionError."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited for nothing"
        time.sleep(0.002)
