"""kill -9 at every step of a delivery, of QUIT and of a checkpoint, and at random moments: 200 rounds.

What must be there after each: see `Lane.settle` and `Ledger.settle`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.crash.dialogue import Lmtp, Pop3
from tests.crash.forked import HASTY, Child
from tests.crash.lanes import LARGE_OCTETS, NAMES, SENDER, SMALL_OCTETS, Job, Lane, Lanes
from tests.crash.ledger import Copy, token_of
from tests.crash.strace import attached, killing, needs_strace
from tests.services import HOSTNAME, Service

pytestmark = pytest.mark.alone

LANES = 6
RANDOM_ROUNDS = 72              # with servers that start fast
BESIDE_ROUNDS = 12              # with a second server on the same store, which goes on
SERVICE_ROUNDS = 10             # with the whole of twistd
FEWEST_ROUNDS = 16              # of one small transaction: 19 to 25, by the pages that its rows lie on
LATEST_SECONDS = 0.3            # of a kill at a random moment, after the clients began
CHECKPOINT_OCTETS = 4_300_000   # a log of more than 1000 pages: SQLite's checkpoint follows

# The calls at which a server dies: the name, and how many of this name to the next kill.
DATABASE = (("pwrite64", 3), ("fdatasync", 1), ("fcntl", 1), ("write", 1), ("sendto", 1))
BODY_FILE = (("mkdir", 1), ("openat", 1), ("fsync", 1), ("rename", 1))
CHECKPOINT = (("pwrite64", 200), ("fdatasync", 1))
COMMAND = (("fsync", 1), ("rename", 1), ("pwrite64", 4), ("fdatasync", 1), ("unlink", 1))


class KillTests(SynchronousTestCase):
    lanes: ClassVar[Lanes]

    @classmethod
    def setUpClass(cls) -> None:
        cls.lanes = Lanes(LANES)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.lanes.close()

    def setUp(self) -> None:
        needs_strace()

    def run_rounds(self, jobs: Sequence[tuple[str, Job]], least: int) -> tuple[int, int]:
        """Run jobs that take so many rounds; return how many acts without an answer were undone, and done."""
        undone, done = self.lanes.doubts
        rounds = self.lanes.run(jobs)
        now_undone, now_done = self.lanes.doubts
        print(f"{rounds} rounds; without an answer {now_undone - undone} acts undone, {now_done - done} done")
        self.assertGreaterEqual(rounds, least)
        self.assertGreater(now_done, done, "nobody died between the commit and its answer")
        return now_undone - undone, now_done - done

    def run_both_ways(self, jobs: Sequence[tuple[str, Job]], least: int) -> None:
        """Run jobs that take so many rounds, with deaths before the commit and after it."""
        undone, _ = self.run_rounds(jobs, least)
        self.assertGreater(undone, 0, "nobody died before a commit")

    def test_steps_of_a_large_delivery(self) -> None:
        """The body goes to a file: its folders, its octets, its name, then the rows."""
        self.run_both_ways(steps(partial(die_delivering, octets=LARGE_OCTETS), (*BODY_FILE, *DATABASE)), 36)

    def test_steps_of_a_small_delivery(self) -> None:
        """The body goes into its row."""
        self.run_both_ways(steps(partial(die_delivering, octets=SMALL_OCTETS), DATABASE), FEWEST_ROUNDS)

    def test_steps_of_quit(self) -> None:
        """All marked messages are removed, or none."""
        self.run_both_ways(steps(die_quitting, DATABASE), FEWEST_ROUNDS)

    def test_steps_of_a_checkpoint(self) -> None:
        """The log, synced, goes into the database: an answer may be missing, nothing else."""
        undone, _ = self.run_rounds(steps(die_checkpointing, CHECKPOINT), 8)
        self.assertEqual(undone, 0)

    def test_steps_of_the_command(self) -> None:
        """`mailgate deliver` exits with 0 when it is done, and then it is."""
        self.run_both_ways(steps(die_in_command, COMMAND), 18)

    def test_random_moments(self) -> None:
        """Two clients deliver and two fetch and remove, so that one transaction has work of several."""
        jobs = [(f"random {number}", die_at_random) for number in range(RANDOM_ROUNDS)]
        jobs += [(f"beside {number}", die_beside_another) for number in range(BESIDE_ROUNDS)]
        jobs += [(f"service {number}", die_as_service) for number in range(SERVICE_ROUNDS)]
        self.run_both_ways(jobs, len(jobs))

    def test_a_hasty_server_is_found_out(self) -> None:
        """A server that answers 250 before it commits: what it lost by its death is missed."""
        lane = Lane(Path(self.mktemp()))
        self.addCleanup(lane.close)
        child = lane.forks.start(lane.site, HASTY)
        with Lmtp(child.lmtp_port) as client:
            deliver(lane, client, SMALL_OCTETS)
            child.kill()
        self.assertIn("messages are lost", str(self.assertRaises(AssertionError, lane.settle)))


def steps(die: Callable[[Lane, str, int], bool], calls: Sequence[tuple[str, int]]) -> list[tuple[str, Job]]:
    """Return a job for each call: to die at its first, then at later ones, until there are no more.

    `die(lane, call, number)` returns whether it came to its end before the call's n-th time.
    """
    def job(call: str, stride: int, lane: Lane) -> None:
        number = 1
        while not die(lane, call, number):
            number += stride

    return [(f"{call} of {die}", partial(job, call, stride)) for call, stride in calls]


# Deaths at a step ---------------------------------------------------------------------------


def die_delivering(lane: Lane, call: str, number: int, octets: int) -> bool:
    """Kill a server at some call of one delivery to two recipients."""
    child = lane.start()
    with Lmtp(child.lmtp_port) as client:
        client.prepare(SENDER, NAMES)
        return die_at(lane, child, killing(call, number), partial(finish_delivery, lane, client, octets))


def die_checkpointing(lane: Lane, call: str, number: int) -> bool:
    """Kill a server at some call by which the log goes into the database file."""
    child = lane.start(inline_octets=2 * CHECKPOINT_OCTETS)
    options = killing(call, number, str(lane.site.data / "mail.db"))
    with Lmtp(child.lmtp_port) as client:
        client.prepare(SENDER, NAMES)
        return die_at(lane, child, options, partial(finish_delivery, lane, client, CHECKPOINT_OCTETS))


def die_quitting(lane: Lane, call: str, number: int) -> bool:
    """Kill a server at some call of one QUIT, with large and small messages marked."""
    child = lane.start()
    with Lmtp(child.lmtp_port) as client:
        for octets in (SMALL_OCTETS, LARGE_OCTETS, SMALL_OCTETS):
            deliver(lane, client, octets)
    with Pop3(child.pop3_port) as client:
        marked = mark_some(lane, client, NAMES[0])
        return die_at(lane, child, killing(call, number), partial(quit_with, lane, client, marked))


def die_at(lane: Lane, child: Child, options: Sequence[str], act: Callable[[], None]) -> bool:
    """Act while strace waits for its moment, then kill a survivor; return whether it was one."""
    survived = False
    with attached(child.pid, *options):
        with contextlib.suppress(ConnectionError):
            act()
            survived = True
        child.kill()
    lane.settle()
    return survived


def die_in_command(lane: Lane, call: str, number: int) -> bool:
    """Kill `mailgate deliver` at some call of its life."""
    copies, content = lane.message(LARGE_OCTETS)
    ran = lane.site.command(
        "deliver", "--from", SENDER, *(f"{name}@{HOSTNAME}" for name in NAMES), stdin=content,
        prefix=[needs_strace(), "-f", *killing(call, number)])
    assert ran.returncode in (0, -9), ran
    if ran.returncode == 0:
        for copy in copies:
            lane.ledger.accepted(copy)
    lane.settle()
    return ran.returncode == 0


# Deaths at a random moment ------------------------------------------------------------------


def die_at_random(lane: Lane) -> None:
    """Kill a server at work."""
    work_and_die(lane, lane.start())
    lane.settle()


def die_as_service(lane: Lane) -> None:
    """Kill twistd at work."""
    work_and_die(lane, lane.site.start())
    lane.settle()


def die_beside_another(lane: Lane) -> None:
    """Kill one of two servers at work on one store; the other has to go on as if nothing were."""
    child, other = lane.start(), lane.start_beside()
    try:
        work_and_die(lane, child)
        with Lmtp(other.lmtp_port) as client:
            deliver(lane, client, LARGE_OCTETS)
        lane.settle()
        with Pop3(other.pop3_port) as client:
            quit_with(lane, client, mark_some(lane, client, NAMES[0]))
    finally:
        other.kill()


def work_and_die(lane: Lane, server: Child | Service) -> None:
    """Let four clients work at once, and kill their server at a random moment."""
    delay_seconds = lane.chance.uniform(0, LATEST_SECONDS)
    clients: list[Callable[[Lane, Child | Service], None]] = [
        keep_delivering, keep_delivering, *(partial(keep_removing, name=name) for name in NAMES)]
    with ThreadPoolExecutor(len(clients)) as pool:
        working = [pool.submit(client, lane, server) for client in clients]
        time.sleep(delay_seconds)
        server.kill()
        for work in working:
            work.result()


def keep_delivering(lane: Lane, server: Child | Service) -> None:
    """Deliver one message after the other until the server is gone."""
    with contextlib.suppress(ConnectionError), Lmtp(server.lmtp_port) as client:
        while True:
            deliver(lane, client, lane.chance.choice([SMALL_OCTETS, SMALL_OCTETS, LARGE_OCTETS]))


def keep_removing(lane: Lane, server: Child | Service, name: str) -> None:
    """Fetch and remove, one session after the other, until the server is gone."""
    with contextlib.suppress(ConnectionError):
        while True:
            with Pop3(server.pop3_port) as client:
                quit_with(lane, client, mark_some(lane, client, name))


# What clients do, each act noted in the ledger ------------------------------------------------


def deliver(lane: Lane, client: Lmtp, octets: int) -> None:
    """Deliver a message to all. Raises: ConnectionError."""
    client.prepare(SENDER, NAMES)
    finish_delivery(lane, client, octets)


def finish_delivery(lane: Lane, client: Lmtp, octets: int) -> None:
    """Send a message's content: nothing but the server's death may keep it out. Raises: ConnectionError."""
    copies, content = lane.message(octets)
    client.send_content(content)
    for copy in copies:
        verdict = client.verdict()
        assert verdict.startswith(b"250 "), verdict
        lane.ledger.accepted(copy)


def mark_some(lane: Lane, client: Pop3, name: str) -> list[Copy]:
    """Log in and mark about half of the messages, the last one among them. Raises: ConnectionError."""
    count = client.enter(name)
    copies = {number: Copy(name, token_of(client.text(b"TOP %d 0" % number)))
              for number in range(1, count + 1)}
    marked = [number for number in copies if number == count or lane.chance.random() < 0.5]
    client.mark(*marked)
    return [copies[number] for number in marked]


def quit_with(lane: Lane, client: Pop3, marked: Sequence[Copy]) -> None:
    """QUIT and note the answer. Raises: ConnectionError."""
    quitting = lane.ledger.leave(marked)
    answer = client.ask(b"QUIT")
    lane.ledger.answered(quitting, answer.startswith(b"+OK"))
