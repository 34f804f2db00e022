"""Threads for places that may not answer, a bucket or a disk, and an end that does not wait for these."""

from __future__ import annotations

import time
from collections.abc import Collection
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.threadpool import ThreadPool

STOP_SECONDS = 5        # for what is under way, and again for the threads that do it


class DaemonThreads(ThreadPool):
    """Threads that do not keep a process alive that was told to end."""

    def stop(self) -> None:
        """End the threads; those that wait for a bucket or a disk are not waited for."""
        self.joined, self.started = True, False
        self._team.quit()
        end = time.monotonic() + STOP_SECONDS
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))

    @staticmethod
    def threadFactory(*args: Any, **kwargs: Any) -> Thread:     # type: ignore[override]
        return Thread(*args, **kwargs, daemon=True)


def end_of(ends: Collection[Deferred[None]], reactor: Any) -> Deferred[None]:
    """Fire when some work has ended, or has had its time. `ends` fire at the end of each, and never fail."""
    over: Deferred[None] = Deferred()
    late = reactor.callLater(STOP_SECONDS, over.callback, None)

    def ended(_: object) -> None:
        if late.active():
            late.cancel()
            over.callback(None)

    DeferredList(list(ends)).addCallback(ended)
    return over
