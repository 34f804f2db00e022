"""Many clients at once over real sockets: idle ones, and ones that vanish at any moment."""

from __future__ import annotations

import poplib
import socket
import struct
import threading
from random import Random

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.house import House
from tests.interop.measures import Costs, allow_descriptors, tell
from tests.interop.talk import PASSWORD
from tests.interop.texts import HELLO, large
from tests.services import wait_for

pytestmark = pytest.mark.alone

IDLE_SESSIONS = 1000
IDLE_OCTETS = 30_000        # of memory that one idle session may cost; a loose bound, see bench/ for figures
VANISHING = 200
STORM_ACCOUNTS = 20
HANG_UP_AT_ONCE = struct.pack("ii", 1, 0)       # SO_LINGER: no farewell, and what is unsent is dropped

allow_descriptors(4096)     # for this process and the service it starts
house = House(accounts=IDLE_SESSIONS)
setUpModule, tearDownModule = house.open, house.close


class IdleTests(SynchronousTestCase):
    def test_thousand_sessions(self) -> None:
        """1,000 sessions are open together, each answers, and all maildrops are free again afterwards."""
        costs = Costs(house.service.pid)
        names = [f"user{number}" for number in range(IDLE_SESSIONS)]
        clients = [house.talk() for _ in names]
        for client in clients:
            self.addCleanup(client.close)
        for client, name in zip(clients, names, strict=True):   # all at once, as after a restart
            client.say(f"USER {name}", f"PASS {PASSWORD}", "STAT")
        for client in clients:
            self.assertEqual([client.line()[:4] for _ in range(3)], [b"+OK "] * 3)
        each = costs.growth() // IDLE_SESSIONS
        tell("an idle session over a real socket costs", f"{each} octets of the service's memory")
        self.assertLess(each, IDLE_OCTETS)
        for client in clients:
            self.assertTrue(client.ask("NOOP").startswith(b"+OK"))
            client.say("QUIT")
        for client in clients:
            self.assertTrue(client.line().startswith(b"+OK"))
            self.assertEqual(client.line(), b"")
        self.assertTrue(house.login(names[-1]).quit().startswith(b"+OK"))


class StormTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.names = [f"user{number}" for number in range(STORM_ACCOUNTS)]
        text = large(2_000_000)
        house.lmtp(HELLO, *self.names)
        house.lmtp(text, *self.names)
        self.first_octets = {}
        for name in self.names:     # whatever is opened once for all is open now
            with house.login(name) as client:
                self.first_octets[name] = client.sizes()[0]
                client.content(2)
        self.costs = Costs(house.service.pid)
        self.before = self.costs.settled_descriptors()

    def test_clients_that_vanish(self) -> None:
        """200 clients vanish at random points: no lock is left, no descriptor, and no message is lost."""
        random = Random(1939)
        removed: set[str] = set()
        threads = [threading.Thread(target=self.vanish, args=(Random(random.random()), removed))
                   for _ in range(VANISHING)]
        for start in range(0, VANISHING, 50):
            for thread in threads[start:start + 50]:
                thread.start()
            for thread in threads[start:start + 50]:
                thread.join()
        wait_for(lambda: self.costs.settled_descriptors() == self.before,
                 "the service to close what the clients left")
        tell("descriptors of the service before and after the storm", len(self.before))
        for name in self.names:
            with house.login(name) as client:
                if name not in removed:     # by a QUIT whose answer nobody waited for
                    self.assertEqual(client.stat()[0], 2, name)
                self.assertEqual(client.sizes()[0], self.first_octets[name])
        self.assertGreater(STORM_ACCOUNTS, len(removed))
        alarms = [line for line in house.service.log().splitlines()
                  if "#error" in line or "#critical" in line]
        self.assertEqual(alarms, [], "clients that vanish are no fault of the service")

    def vanish(self, random: Random, removed: set[str]) -> None:
        """Play the first part of a session, however it is answered, and be gone."""
        name = random.choice(self.names)
        with house.talk() as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, random.choice(
                [HANG_UP_AT_ONCE, struct.pack("ii", 0, 0)]))
            steps = random.choice([
                [f"USER {name}"], [f"USER {name}", "PASS wrong"], ["AUTH PLAIN"], ["CAPA", "x" * 70_000],
                self.logged_in(name, "LIST", "UIDL"), self.logged_in(name, "RETR 2"),
                self.logged_in(name, *["RETR 2"] * 5), self.logged_in(name, "DELE 1", "RETR 2"),
                self.logged_in(name, *["RETR 1", "NOOP"] * 500), self.logged_in(name, "DELE 2", "QUIT")])
            if steps[-1] == "QUIT":
                removed.add(name)
            octets = "".join(f"{step}\r\n" for step in steps).encode()
            if random.random() < 0.3 and steps[-1] != "QUIT":       # in the middle of a command
                octets = octets[:random.randrange(len(octets))]
            client.socket.sendall(octets)
            for _ in range(random.randrange(4)):
                try:
                    client.socket.settimeout(0.2)
                    client.socket.recv(random.choice([1, 100, 50_000]))
                except OSError:
                    return

    @staticmethod
    def logged_in(name: str, *commands: str) -> list[str]:
        return [f"USER {name}", f"PASS {PASSWORD}", *commands]


class ManyDeliveriesTests(SynchronousTestCase):
    def test_fetching_while_mail_comes(self) -> None:
        """Ten senders and ten readers at once: what is fetched and removed and what is left add up."""
        names = [f"user{number}" for number in range(100, 110)]
        fetched = dict.fromkeys(names, 0)
        done = threading.Event()

        def send(name: str) -> None:
            for _ in range(10):
                house.lmtp(HELLO, name)

        def read(name: str) -> None:
            while not done.is_set():
                try:
                    with house.login(name) as client:
                        count = client.stat()[0]
                        for number in range(1, count + 1):
                            client.retr(number)
                            client.dele(number)
                    fetched[name] += count
                except poplib.error_proto as fault:
                    raise AssertionError(name) from fault

        readers = [threading.Thread(target=read, args=(name,)) for name in names]
        senders = [threading.Thread(target=send, args=(name,)) for name in names]
        for thread in (*readers, *senders):
            thread.start()
        for thread in senders:
            thread.join()
        done.set()
        for thread in readers:
            thread.join()
        left = {name: house.held(name) for name in names[:2]}
        for name in names[2:]:
            with house.login(name) as client:
                left[name] = client.stat()[0]
        self.assertEqual({name: fetched[name] + left[name] for name in names}, dict.fromkeys(names, 10))
