"""Three nodes over one store: one session a maildrop, and none that outlives its lease."""

from __future__ import annotations

import threading
import time
from functools import partial
from random import Random

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.crash.dialogue import Lmtp, Pop3
from tests.crash.ledger import Ledger, make_message
from tests.engines.swift import DEVICES
from tests.nodes.cluster import Cluster, at_once, copies_of
from tests.services import Service, wait_for

pytestmark = pytest.mark.alone

SLEEPERS = [f"sleeper{number}" for number in range(8)]
RACERS = ("racer", "other", "third")
MESSAGES = 3                # in each sleeper's maildrop
STOPS = (15, 40, 65, 90)    # a node is stopped in the middle of QUIT after so many round trips, of some 110
SLOW_SECONDS = 0.02         # of each SQL round trip then: QUIT takes long enough to be met in its middle
SEED = 4
IN_USE = b"-ERR [IN-USE] "

cluster: Cluster


def setUpModule() -> None:
    global cluster
    cluster = Cluster([*SLEEPERS, *RACERS], relayed=True)


def tearDownModule() -> None:
    cluster.close()


class SessionTests(SynchronousTestCase):
    def deliver(self, node: Service, ledger: Ledger, account: str, octets: int = 2000) -> None:
        """Deliver a message that no other test has, through a node; it must be accepted."""
        token = b"%s%d" % (account.encode(), next(_numbers))
        content = make_message(_chance, token, octets)
        copies = copies_of(account, [content])
        ledger.offer(copies, content)
        with Lmtp(node.lmtp_port) as client:
            answers = client.deliver("sender@example.org", [account], content)
        self.assertEqual([answer[:3] for answer in answers], [b"250"])
        ledger.accepted(copies[0])

    def test_one_of_three_gets_in(self) -> None:
        """Logins through all nodes at the same moment: one is granted, the others are told [IN-USE]."""
        for _ in range(8):
            barrier = threading.Barrier(len(cluster.nodes))
            clients = [Pop3(node.pop3_port) for node in cluster.nodes]

            def enter(client: Pop3, barrier: threading.Barrier = barrier) -> bytes:
                client.ask(b"USER racer")
                barrier.wait()
                return client.ask(b"PASS secret")

            answers = at_once([partial(enter, client) for client in clients])
            self.assertEqual(sorted(answer.startswith(b"+OK") for answer in answers), [False, False, True])
            self.assertEqual(sum(answer.startswith(IN_USE) for answer in answers), 2, answers)
            for client, answer in zip(clients, answers, strict=True):
                if answer.startswith(b"+OK"):
                    self.assertTrue(client.ask(b"QUIT").startswith(b"+OK"))
                client.close()

    def test_in_by_one_node_and_out_by_another(self) -> None:
        """Mail that one node took is fetched through the others, small and large, and removed for all."""
        first, second, third = cluster.nodes
        ledger = Ledger()
        for octets in (500, 200_000):
            self.deliver(first, ledger, "other", octets)
        with Pop3(second.pop3_port) as client:
            self.assertEqual(client.enter("other"), 2)
            self.deliver(third, ledger, "other", 300)
            messages = [client.retrieve(number) for number in (1, 2)]
            client.mark(1)
            quitting = ledger.leave(copies_of("other", messages[:1]))
            self.assertTrue(client.ask(b"QUIT").startswith(b"+OK"))
            ledger.answered(quitting, removed=True)
        ledger.settle({"other": cluster.contents(third, "other")})
        self.assertEqual(len(ledger.held), 2)

    def test_a_device_is_taken_away(self) -> None:
        """Large messages are read on, and taken, while one of Swift's devices is gone: each in its turn."""
        first, second, _ = cluster.nodes
        ledger = Ledger()
        self.deliver(first, ledger, "third", 300_000)
        for device in DEVICES:
            cluster.swift.take_away(device)
            try:
                ledger.settle({"third": cluster.contents(second, "third")})
                self.deliver(first, ledger, "third", 100_000)
                ledger.settle({"third": cluster.contents(second, "third")})
            finally:
                cluster.swift.give_back(device)
        ledger.settle({"third": cluster.contents(second, "third")})
        self.assertEqual(len(ledger.held), 1 + len(DEVICES))

    def test_stopped_in_the_middle_of_quit(self) -> None:
        """+OK only for a commit before the lease ran out; a session that lost it removes nothing.

        A node is stopped (SIGSTOP) at some step after its clients have sent QUIT, until others are in.
        """
        assert cluster.relay is not None
        sleeping, awake, _ = cluster.nodes
        ledger, granted, refused = Ledger(), 0, 0
        for stop in STOPS:
            for account in SLEEPERS:
                for _ in range(MESSAGES):
                    self.deliver(awake, ledger, account)
            clients = {account: Pop3(sleeping.pop3_port) for account in SLEEPERS}
            marked = {}
            for account, client in clients.items():
                count = client.enter(account)
                messages = [client.retrieve(number) for number in range(1, count + 1)]
                client.mark(*range(1, count + 1))
                marked[account] = ledger.leave(copies_of(account, messages))
            cluster.relay.delay_seconds = SLOW_SECONDS
            cluster.relay.forget()
            for client in clients.values():
                client.send(b"QUIT\r\n")
            wait_for(lambda stop=stop: cluster.relay.asked >= stop, f"{stop} round trips")
            sleeping.pause()
            cluster.relay.delay_seconds = 0
            seen = {}
            try:
                for account in SLEEPERS:
                    seen[account] = self.take_over(awake, account)
            finally:
                sleeping.resume()
            for account, client in clients.items():
                answer = client.line()
                client.close()
                self.assertTrue(answer.startswith((b"+OK", b"-ERR [SYS/TEMP] ")), answer)
                removed = answer.startswith(b"+OK")
                if removed:
                    self.assertEqual(seen[account], 0, f"stopped after {stop}, {account}: {answer!r}")
                ledger.answered(marked[account], removed)
                granted, refused = granted + removed, refused + (not removed)
                with Pop3(awake.pop3_port) as after:     # the refusal left everything that was seen then
                    self.assertEqual(after.enter(account), seen[account], answer)
                    after.ask(b"QUIT")
        ledger.settle({account: cluster.contents(awake, account) for account in SLEEPERS})
        self.assertEqual(granted + refused, len(STOPS) * len(SLEEPERS))
        self.assertTrue(granted and refused, (granted, refused))        # some were met in their middle
        print(f"\nstopped in QUIT: {granted} granted before, {refused} refused")

    def take_over(self, node: Service, account: str) -> int:
        """Log in as soon as the sleeper's lease lets; return how many messages there are."""
        seen: list[int] = []

        def enter() -> bool:
            with Pop3(node.pop3_port) as client:
                answer = client.login(account)
                if answer.startswith(b"+OK"):
                    seen.append(client.count())
                    client.ask(b"QUIT")
                else:
                    self.assertTrue(answer.startswith((IN_USE, b"-ERR [SYS/TEMP] ")), answer)
                    time.sleep(0.05)
                return bool(seen)

        wait_for(enter, f"the lease of {account} to run out")
        return seen[0]


_chance = Random(SEED)
_numbers = iter(range(1_000_000))
