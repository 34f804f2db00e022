"""The database's primary dies under load, its replica takes over: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import itertools
import threading
import time
from random import Random

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.crash.dialogue import Lmtp, Pop3
from tests.crash.ledger import Copy, Ledger, make_message, token_of
from tests.nodes.cluster import Cluster, at_once, copies_of
from tests.services import Service, wait_for

pytestmark = pytest.mark.alone

NAMES = [f"user{number}" for number in range(6)]
SEATED, NEWCOMER = "seated", "newcomer"     # one has a session open all the while, one comes then
BEFORE_SECONDS = 1.5        # of load
AFTER_SECONDS = 3.0         # from the first delivery that the new primary took
BACK_SECONDS = 15.0         # within so long from the promotion new work must be done
SEED = 44
OUTAGE = b"-ERR [SYS/TEMP] "
TEMPORARY = (OUTAGE, b"-ERR [IN-USE] ")


class Load:
    """Clients that deliver, fetch and remove through all nodes, and keep account of what they are told."""

    def __init__(self, nodes: list[Service]) -> None:
        self.nodes = nodes
        self.ledger = Ledger()
        self.delivered: list[float] = []        # when, by time.monotonic
        self.removed = 0
        self.put_off = 0                        # answers that told a client to come back
        self.strange: list[bytes] = []          # other refusals
        self.doubtful: set[str] = set()         # maildrops whose last QUIT had no answer: none removes there
        self.over = threading.Event()
        self._numbers = itertools.count(1)

    def deliver(self, worker: int) -> None:
        """Deliver message after message, through one node after the other."""
        chance = Random(SEED + worker)
        while not self.over.is_set():
            names = chance.sample(NAMES, chance.choice((1, 1, 2)))
            token = b"%dw%d" % (next(self._numbers), worker)
            content = make_message(chance, token, chance.choice((300, 2000, 2000, 30_000)))
            copies = [Copy(name, token) for name in names]
            try:
                with Lmtp(chance.choice(self.nodes).lmtp_port) as client:
                    client.send(b"".join([b"MAIL FROM:<s@example.org>\r\n", *(
                        f"RCPT TO:<{name}@mail.example.org>\r\n".encode() for name in names), b"DATA\r\n"]))
                    answers = [client._answer() for _ in range(len(names) + 2)]
                    if any(answer[:1] not in b"23" for answer in answers):
                        self._note(answers[:-1])        # DATA behind a refusal has a bad sequence
                        continue
                    self.ledger.offer(copies, content)
                    client.send_content(content)
                    for copy in copies:
                        answer = client.verdict()
                        if answer.startswith(b"250"):
                            self.ledger.accepted(copy)
                            self.delivered.append(time.monotonic())
                        else:
                            self._note([answer])
            except (ConnectionError, AssertionError, TimeoutError) as fault:
                self.strange.append(repr(fault).encode())

    def _note(self, answers: list[bytes]) -> None:
        for answer in answers:
            if answer[:1] == b"4":
                self.put_off += 1
                time.sleep(0.02)
            elif answer[:1] == b"5":
                self.strange.append(answer)

    def fetch(self, worker: int) -> None:
        """Fetch and remove some of what is there, in one maildrop after the other."""
        chance = Random(SEED * 2 + worker)
        while not self.over.is_set():
            name = chance.choice(NAMES)
            try:
                with Pop3(chance.choice(self.nodes).pop3_port) as client:
                    self._session(client, name, chance)
            except (ConnectionError, AssertionError, TimeoutError) as fault:
                self.strange.append(repr(fault).encode())
            time.sleep(0.01)

    def _session(self, client: Pop3, name: str, chance: Random) -> None:
        answer = client.login(name)
        if not answer.startswith(b"+OK"):
            self._temporary(answer)
            return
        fetched, numbers = [], []
        for number in range(1, min(client.count(), 5) + 1):
            answer = client.ask(b"RETR %d" % number)
            if not answer.startswith(b"+OK"):
                self._temporary(answer)
                continue
            message = client.rest()
            if chance.random() < 0.5 and name not in self.doubtful:
                fetched.append(message)
                numbers.append(number)
        client.mark(*numbers)
        quitting = self.ledger.leave(copies_of(name, fetched))
        doubtful, self.doubtful = self.doubtful, self.doubtful | {name}
        answer = client.ask(b"QUIT")
        # an answer that is no +OK may stand for a commit whose own answer was lost
        if answer.startswith(b"+OK"):
            self.ledger.answered(quitting, removed=True)
            self.removed += len(numbers)
            if name not in doubtful:
                self.doubtful = self.doubtful - {name}
        else:
            self._temporary(answer)

    def _temporary(self, answer: bytes) -> None:
        if answer.startswith(TEMPORARY):
            self.put_off += 1
            time.sleep(0.02)
        else:
            self.strange.append(answer)


class FailoverTests(SynchronousTestCase):
    def test_primary_dies_under_load(self) -> None:
        """Every acknowledged message is there once or was fetched; within seconds all goes on."""
        cluster = Cluster([*NAMES, SEATED, NEWCOMER])
        self.addCleanup(cluster.close)
        load = Load(cluster.nodes)
        seated = self.take_seat(cluster, load.ledger)

        def fail_over() -> float:
            try:
                time.sleep(BEFORE_SECONDS)
                cluster.primary.kill()
                told = [login(node, NEWCOMER) for node in cluster.nodes]
                told.append(seated.ask(b"RETR 1"))
                self.assertEqual([answer[:len(OUTAGE)] for answer in told], [OUTAGE] * len(told), told)
                cluster.replica.promote()
                promoted = time.monotonic()
                for node in cluster.nodes:
                    wait_for(lambda node=node: login(node, NEWCOMER).startswith(b"+OK"), "a login",
                             BACK_SECONDS)
                wait_for(lambda: any(at > promoted for at in load.delivered), "a delivery", BACK_SECONDS)
                back = time.monotonic() - promoted
                self.assertLess(back, BACK_SECONDS)
                self.assertEqual(token_of(seated.retrieve(1)), SEATED.encode())
                seated.close()
                time.sleep(AFTER_SECONDS)
                return back
            finally:
                load.over.set()

        back, *_ = at_once([fail_over, *(lambda worker=worker: load.deliver(worker) for worker in range(4)),
                            *(lambda worker=worker: load.fetch(worker) for worker in range(3))])
        for account in cluster.accounts:    # leases of sessions that ended in the middle run out
            wait_for(lambda account=account: isinstance(
                cluster.nodes[0].messages_seen(account, "secret"), int), f"{account} to be free")
        held = cluster.settle(load.ledger, cluster.nodes[1])
        self.assertEqual(load.strange, [])
        self.assertGreater(load.removed, 0)
        self.assertGreater(len(load.delivered), 20)
        cluster.site.succeed("check")
        print(f"\nfailover: {len(load.delivered)} acknowledged, {load.removed} removed,"
              f" {sum(held.values())} left, {load.put_off} put off; of unknown outcome {load.ledger.undone}"
              f" undone and {load.ledger.done} done; new mail, and sessions at each node, {back:.1f} s after"
              " the promotion")

    def take_seat(self, cluster: Cluster, ledger: Ledger) -> Pop3:
        """Return a session that has one message, acknowledged, and has not read it."""
        token = SEATED.encode()
        content = make_message(Random(SEED), token, 300)
        ledger.offer([Copy(SEATED, token)], content)
        with Lmtp(cluster.nodes[0].lmtp_port) as client:
            [answer] = client.deliver("s@example.org", [SEATED], content)
        self.assertTrue(answer.startswith(b"250"), answer)
        ledger.accepted(Copy(SEATED, token))
        client = Pop3(cluster.nodes[1].pop3_port)
        self.addCleanup(client.close)
        self.assertEqual(client.enter(SEATED), 1)
        return client


def login(node: Service, name: str) -> bytes:
    """Return what PASS is answered; a session that is granted ends at once."""
    with Pop3(node.pop3_port) as client:
        answer = client.login(name)
        client.send(b"QUIT\r\n")
        client.line()
    return answer
