"""A process that is killed in the middle of QUIT: what was decided is removed, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

from mailgate.errors import MaildropInUse
from mailgate.model import Admission
from tests.stores.contract_base import StoreHooks
from tests.stores.spools.maildir_child import POINTS
from tests.stores.spools.maildir_hooks import MaildirHooks

PROJECT = Path(__file__).resolve().parents[3]
SIGKILL = 9


class KilledTests(MaildirHooks, StoreHooks, TestCase):
    """kill -9 at every point between reading and the last word."""

    async def killed(self, point: str) -> list[bytes]:
        """Let a session be killed at a point of its end; return what the next one sees."""
        store = await self.make_store()
        for number in range(6):
            self.drop(store, "mrose", b"%d\n" % number, f"{number}.a")
        child = [sys.executable, "-m", "tests.stores.spools.maildir_child", store.folder, "mrose", point]
        ran = subprocess.run(child, cwd=PROJECT, check=False, timeout=60)
        self.assertEqual(ran.returncode, -SIGKILL)
        await self.fault(MaildropInUse, store.open(Admission("mrose")))
        self.sql(store, "UPDATE holder SET expires_ms = 0")     # as if its lease had run out
        self.drop(store, "mrose", b"new\n", "9.a")
        held = await self.held(store, "mrose")
        self.assertEqual(await self.held(store, "mrose"), held)
        self.assertEqual((self.count(store, "spool_journal"), await store.check()), (0, []))
        self.assertEqual(len(self.files(store, "mrose")), len(held))
        return held

    async def test_before_the_decision(self) -> None:
        """QUIT was not answered: all is there."""
        self.assertEqual(await self.killed(POINTS[0]), [b"%d\r\n" % number for number in (0, 1, 2, 3, 4, 5)]
                         + [b"new\r\n"])

    async def test_behind_the_decision(self) -> None:
        """With no file removed, some, or all of them: what was marked is gone, and nothing else."""
        for point in POINTS[1:]:
            self.assertEqual(await self.killed(point), [b"1\r\n", b"3\r\n", b"5\r\n", b"new\r\n"], point)
