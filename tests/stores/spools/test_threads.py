"""Threads for files of other programs: what a stop waits for, and for how long."""

from __future__ import annotations

import threading
from unittest.mock import patch

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mailgate.errors import StoreUnavailable
from mailgate.stores import threads
from mailgate.stores.spools import threads as spool_threads
from mailgate.stores.spools.threads import SpoolThreads


class StopTests(TestCase):
    def setUp(self) -> None:
        self.threads = SpoolThreads(reactor)
        self.threads.start()
        self.answered = threading.Event()       # by the disk
        self.addCleanup(self.answered.set)

    async def write(self) -> str:
        """Have the disk do something, then something more."""
        await self.threads.run(self.answered.wait, 60)
        return await self.threads.run(lambda: "written")

    async def test_work_is_seen_through(self) -> None:
        """Also what is begun when the stop has begun."""
        writing = self.threads.see_through(self.write())
        stopping = Deferred.fromCoroutine(self.threads.stop())
        first, self.answered = self.answered, threading.Event()
        more = self.threads.see_through(self.write())
        first.set()
        self.assertEqual(await writing, "written")
        self.assertFalse(stopping.called)
        self.answered.set()
        await stopping
        self.assertEqual(await more, "written")

    async def test_a_disk_that_does_not_answer(self) -> None:
        """Is waited for a few seconds; what is late fails, and nobody takes it for done."""
        writing = self.threads.see_through(self.write())
        reading = self.threads.run(self.answered.wait, 60)
        with patch.object(threads, "STOP_SECONDS", 0.1), patch.object(spool_threads, "STOP_SECONDS", 0.1):
            await self.threads.stop()
        self.assertEqual((writing.called, reading.called), (False, False))
        self.answered.set()
        await reading
        with self.assertRaises(StoreUnavailable):
            await writing
