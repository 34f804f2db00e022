"""Rounds of kill -9: a store whose servers die again and again, and a look at it after every death.

Several lanes run side by side, each a store of its own in a thread of its own: what a round takes
is mostly waiting for the lease of the killed process to lapse.
"""

from __future__ import annotations

import itertools
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue

from tests.crash.forked import Child, Forks
from tests.crash.ledger import Copy, Ledger, make_message, token_of
from tests.crash.reopened import Reopened, now_ms
from tests.services import Site

NAMES = ("mrose", "tims")
SENDER = "sender@example.org"
LEASE_SECONDS = 1           # of the services that are killed
INLINE_OCTETS = 16_384      # smaller than the default: more of the bodies are files
SMALL_OCTETS = 2_000
LARGE_OCTETS = 150_000
MOST_HELD = 40              # copies in a store before half of them are removed
HUGE_OCTETS = 1_000_000     # of a message that is removed at once


class Lane:
    """One store with its ledger; the random choices of a job are its own."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder, accounts=dict.fromkeys(NAMES, "secret"),
                         store=f"lease_seconds = {LEASE_SECONDS}\ninline_octets = {INLINE_OCTETS}")
        self.forks = Forks()
        self.ledger = Ledger()
        self.chance = random.Random(0)
        self.rounds = 0
        self._numbers = itertools.count(1)
        self._beside: Forks | None = None

    def message(self, octets: int, names: Sequence[str] = NAMES) -> tuple[list[Copy], bytes]:
        """Return a new message that the ledger knows to be on its way."""
        token = b"%dx%d" % (next(self._numbers), octets)
        content = make_message(self.chance, token, octets)
        copies = [Copy(name, token) for name in names]
        self.ledger.offer(copies, content)
        return copies, content

    def settle(self) -> None:
        """Count a round and look at what the killed process left: nothing promised is broken."""
        self.rounds += 1
        killed_ms = now_ms()
        reopened = Reopened(self.site)
        try:
            self._check(reopened)
            lease_end_ms = reopened.lease_end_ms()
            assert lease_end_ms <= killed_ms + LEASE_SECONDS * 1000, (lease_end_ms, killed_ms)
            reopened.wait(reopened.store.sweep(0))
            assert not reopened.unnamed_blobs(), reopened.unnamed_blobs()
            time.sleep(max(0, lease_end_ms - now_ms() + 1) / 1000)
            self._read(reopened)
            self._check(reopened)
        finally:
            reopened.close()

    def _check(self, reopened: Reopened) -> None:
        findings = reopened.wait(reopened.store.check())
        assert not findings, findings

    def _read(self, reopened: Reopened) -> None:
        """Read all maildrops, each at the first try: no lock is left. Make room when there are many."""
        opened = {name: reopened.open(name) for name in NAMES}
        found = {name: reopened.contents(maildrop) for name, maildrop in opened.items()}
        self.ledger.settle(found)
        crowded = len(self.ledger.held) > MOST_HELD
        for name, maildrop in opened.items():
            marked = [number for number, message in enumerate(found[name], 1)
                      if len(message) > HUGE_OCTETS or (crowded and number % 2)]
            quitting = self.ledger.leave([Copy(name, token_of(found[name][number - 1])) for number in marked])
            reopened.wait(maildrop.commit(marked))
            self.ledger.answered(quitting, removed=True)

    def start(self, inline_octets: int = INLINE_OCTETS) -> Child:
        """Start a server."""
        text = self.site.file.read_text()
        self.site.file.write_text(re.sub("inline_octets = .*", f"inline_octets = {inline_octets}", text))
        return self.forks.start(self.site)

    def start_beside(self) -> Child:
        """Start a second server on the same store."""
        if self._beside is None:
            self._beside = Forks()
        return self._beside.start(self.site)

    def close(self) -> None:
        self.forks.close()
        if self._beside is not None:
            self._beside.close()


Job = Callable[[Lane], None]


class Lanes:
    """Some lanes, and the jobs that they share."""

    def __init__(self, count: int) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mailgate-crash-"))
        with ThreadPoolExecutor(count) as pool:
            self.lanes = list(pool.map(Lane, [self._folder / f"lane{number}" for number in range(count)]))

    def run(self, jobs: Sequence[tuple[str, Job]]) -> int:
        """Run all jobs, each seeded by its name; return how many rounds they took.

        Raises: the first AssertionError (or other fault) with the name of its job.
        """
        queue: SimpleQueue[tuple[str, Job]] = SimpleQueue()
        for named in jobs:
            queue.put(named)
        before = self.rounds
        with ThreadPoolExecutor(len(self.lanes)) as pool:
            for done in [pool.submit(_work, lane, queue) for lane in self.lanes]:
                done.result()
        return self.rounds - before

    @property
    def rounds(self) -> int:
        """How many rounds there have been."""
        return sum(lane.rounds for lane in self.lanes)

    @property
    def doubts(self) -> tuple[int, int]:
        """How many acts without an answer turned out to be undone, and how many to be done."""
        ledgers = [lane.ledger for lane in self.lanes]
        return sum(ledger.undone for ledger in ledgers), sum(ledger.done for ledger in ledgers)

    def close(self) -> None:
        for lane in self.lanes:
            lane.close()
        shutil.rmtree(self._folder)


def _work(lane: Lane, queue: SimpleQueue[tuple[str, Job]]) -> None:
    while True:
        try:
            name, job = queue.get_nowait()
        except Empty:
            return
        lane.chance.seed(name)
        try:
            job(lane)
        except BaseException as fault:
            while not queue.empty():        # the others need not go on
                queue.get_nowait()
            raise AssertionError(f"{name}, on {lane.site.folder}, in round {lane.rounds}: {fault}") from fault
