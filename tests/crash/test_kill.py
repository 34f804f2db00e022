"""kill -9 at every step of a delivery, of QUIT and of a checkpoint, and at random moments.

A lane's ledger says after each round what must be there: see `Lane.settle` and `Ledger.settle`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.crash.dialogue import Lmtp, Pop3
from tests.crash.lanes import LARGE_OCTETS, NAMES, SENDER, SMALL_OCTETS, Job, Lane, Lanes
from tests.crash.ledger import Copy, token_of
from tests.crash.strace import attached, killing

LANES = 4
RANDOM_ROUNDS = 100
SERVICE_ROUNDS = 12             # of the random ones, with the whole of twistd
LATEST_SECONDS = 0.3            # of a kill at a random moment, after the clients began
CHECKPOINT_OCTETS = 4_300_000   # a log of more than 1000 pages: SQLite's checkpoint follows
ALL_ROUNDS = 200

# The calls at which a server dies: the name, and how many of this name to the next kill.
DATABASE = (("pwrite64", 3), ("fdatasync", 1), ("fcntl", 1), ("write", 1), ("sendto", 1))
BODY_FILE = (("mkdir", 1), ("openat", 1), ("fsync", 1), ("rename", 1))
COMMAND = (("fsync", 1), ("rename", 1), ("pwrite64", 4), ("fdatasync", 1), ("unlink", 1), ("ftruncate", 1))


class KillTests(SynchronousTestCase):
    lanes: ClassVar[Lanes]

    @classmethod
    def setUpClass(cls) -> None:
        cls.lanes = Lanes(LANES)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.lanes.close()

    def test_steps_of_a_large_delivery(self) -> None:
        """The body goes to a file: its folders, its octets, its name, then the rows."""
        jobs = steps(partial(die_delivering, octets=LARGE_OCTETS), (*BODY_FILE, *DATABASE))
        self.assertGreater(self.lanes.run(jobs), 25)

    def test_steps_of_a_small_delivery(self) -> None:
        """The body goes into its row."""
        jobs = steps(partial(die_delivering, octets=SMALL_OCTETS), DATABASE)
        self.assertGreater(self.lanes.run(jobs), 12)

    def test_steps_of_quit(self) -> None:
        """All marked messages are removed, or none."""
        self.assertGreater(self.lanes.run(steps(die_quitting, DATABASE)), 12)


def steps(die: Callable[[Lane, str, int], bool], calls: Sequence[tuple[str, int]]) -> list[tuple[str, Job]]:
    """Return a job for each call: to die at its first, then at later ones, until there are no more.

    `die(lane, call, number)` returns whether it came to its end before the call's n-th time.
    """
    def job(call: str, stride: int, lane: Lane) -> None:
        number = 1
        while not die(lane, call, number):
            number += stride

    return [(f"{call} of {die}", partial(job, call, stride)) for call, stride in calls]


def die_delivering(lane: Lane, call: str, number: int, octets: int) -> bool:
    """Kill a server at some call of one delivery to two recipients."""
    child = lane.forks.start(lane.site)
    survived = False
    with Lmtp(child.lmtp_port) as client:
        copies, content = lane.message(octets)
        client.prepare(SENDER, NAMES)
        with attached(child.pid, *killing(call, number)):
            with contextlib.suppress(ConnectionError):
                client.send_content(content)
                for copy in copies:
                    take_verdict(lane, copy, client.verdict())
                survived = True
            child.kill()
    lane.settle()
    return survived


def die_quitting(lane: Lane, call: str, number: int) -> bool:
    """Kill a server at some call of one QUIT, with large and small messages marked."""
    child = lane.forks.start(lane.site)
    survived = False
    with Lmtp(child.lmtp_port) as client:
        for octets in (SMALL_OCTETS, LARGE_OCTETS, SMALL_OCTETS):
            deliver(lane, client, octets)
    with Pop3(child.pop3_port) as client:
        marked = mark_some(lane, client, NAMES[0])
        with attached(child.pid, *killing(call, number)):
            with contextlib.suppress(ConnectionError):
                quit_with(lane, client, marked)
                survived = True
            child.kill()
    lane.settle()
    return survived


def deliver(lane: Lane, client: Lmtp, octets: int) -> None:
    """Deliver a message to all. Raises: ConnectionError."""
    copies, content = lane.message(octets)
    client.prepare(SENDER, NAMES)
    client.send_content(content)
    for copy in copies:
        take_verdict(lane, copy, client.verdict())


def take_verdict(lane: Lane, copy: Copy, verdict: bytes) -> None:
    """Note a recipient's answer: nothing but the server's death may keep a message out."""
    assert verdict.startswith(b"250 "), verdict
    lane.ledger.accepted(copy)


def mark_some(lane: Lane, client: Pop3, name: str) -> list[Copy]:
    """Log in and mark about half of the messages, the last one among them. Raises: ConnectionError."""
    copies = {}
    count = client.enter(name)
    for number in range(1, count + 1):
        copies[number] = Copy(name, token_of(client.text(b"TOP %d 0" % number)))
    marked = [number for number in copies if number == count or lane.chance.random() < 0.5]
    client.mark(*marked)
    return [copies[number] for number in marked]


def quit_with(lane: Lane, client: Pop3, marked: Sequence[Copy]) -> None:
    """QUIT and note the answer. Raises: ConnectionError."""
    quitting = lane.ledger.leave(marked)
    answer = client.ask(b"QUIT")
    lane.ledger.answered(quitting, answer.startswith(b"+OK"))
