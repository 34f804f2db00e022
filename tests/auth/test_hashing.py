"""The pool of hashing threads, with real threads that wait for the test."""

from __future__ import annotations

import threading
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailgate.auth.hashing import LOCAL_NETWORK, HashPool, default_pool, network_of
from mailgate.errors import TooBusy


class Networks(SynchronousTestCase):
    """Who shares a turn."""

    def test_prefixes(self) -> None:
        """/24 of IPv4, /56 of IPv6; a mapped address is its IPv4 address."""
        for host, network in {
            "192.0.2.77": "192.0.2.0/24",
            "::ffff:192.0.2.1": "192.0.2.0/24",
            "2001:db8:1:2ff::1": "2001:db8:1:200::/56",
            "2001:db8:1:200:ffff::": "2001:db8:1:200::/56",
            "fe80::1%eth0": "fe80::/56",
            "::1": "::/56",
        }.items():
            self.assertEqual(network, network_of(host))

    def test_without_address(self) -> None:
        """Unix sockets and strange peers share one."""
        for host in (None, "", "/run/mailgate.sock", "localhost", "999.0.0.1"):
            self.assertEqual(LOCAL_NETWORK, network_of(host))


class Pool(TestCase):
    """HashPool."""

    timeout = 20

    def setUp(self) -> None:
        self.gate = threading.Event()
        self.done: list[Any] = []
        self.pool = self.make()

    def tearDown(self) -> Deferred[Any]:
        self.gate.set()
        return self.pool.stop()

    def make(self, **limits: int) -> HashPool:
        self.pool = HashPool(reactor, **limits)
        self.pool.start()
        return self.pool

    def work(self, name: Any) -> Any:
        """Done in a thread of the pool, when the test lets it."""
        self.gate.wait(20)
        self.done.append(name)
        return name

    def queue(self, network: str, *names: Any) -> list[Deferred[Any]]:
        return [self.pool.run(network, self.work, name) for name in names]

    async def test_result_and_exception(self) -> None:
        """Come back by the Deferred, in the reactor's thread; the work was in another."""
        self.gate.set()
        here = threading.get_ident()
        self.assertNotEqual(here, await self.pool.run("n", threading.get_ident))
        self.assertEqual(here, threading.get_ident())
        with self.assertRaises(ZeroDivisionError):
            await self.pool.run("n", divmod, 1, 0)
        self.assertEqual((3, 1), await self.pool.run("n", divmod, 7, 2))

    async def test_no_thread_before_the_first_call(self) -> None:
        """Not when it is made nor when it is started: twistd forks in between. Few after that."""
        before = set(threading.enumerate())
        self.make(threads=2)
        self.assertEqual(set(), set(threading.enumerate()) - before)
        self.gate.set()
        await gatherResults(self.queue("n", *range(30)))
        begun = set(threading.enumerate()) - before
        self.assertEqual([True, True], [thread.daemon for thread in begun])

    async def test_networks_take_turns(self) -> None:
        """One network's crowd delays another network by one call."""
        waiting = self.queue("crowd", "c1", "c2", "c3", "c4", "c5")
        waiting += self.queue("b", "b1", "b2") + self.queue("d", "d1")
        self.gate.set()
        await gatherResults(waiting)
        self.assertEqual(["c1", "c2", "b1", "d1", "c3", "b2", "c4", "c5"], self.done)

    async def test_suspects_share_a_turn(self) -> None:
        """Three networks that guess delay another one by one call, also where they came before they were
        suspected."""
        suspected: set[str] = set()
        self.pool.suspect = suspected.__contains__
        waiting = self.queue("a", "a1", "a2", "a3")
        suspected |= {"a", "b", "c"}
        waiting += self.queue("b", "b1", "b2") + self.queue("c", "c1") + self.queue("good", "g1", "g2", "g3")
        self.gate.set()
        await gatherResults(waiting)
        self.assertEqual(["a1", "b1", "g1", "c1", "g2", "a2", "g3", "b2", "a3"], self.done)

    async def test_a_busy_reactor_keeps_nobody_waiting(self) -> None:
        """A thread takes one call after the other, whether or not the reactor has time."""
        waiting = self.queue("n", *range(50))
        self.gate.set()
        deadline = time.monotonic() + 20
        while len(self.done) < 50 and time.monotonic() < deadline:
            time.sleep(0.01)        # the reactor stands still here
        self.assertEqual(list(range(50)), self.done)
        await gatherResults(waiting)

    async def test_a_crowd_makes_room(self) -> None:
        """A network alone may fill the queue; a newcomer takes the place of its latest call."""
        self.make(queue_limit=4)
        waiting = self.queue("crowd", 0, 1, 2, 3, 4)        # one at work, four wait
        self.failureResultOf(self.queue("crowd", 5)[0], TooBusy)
        waiting += self.queue("b", 6)
        self.failureResultOf(waiting.pop(4), TooBusy)
        waiting += self.queue("d", 7)
        self.failureResultOf(waiting.pop(3), TooBusy)
        self.failureResultOf(self.queue("b", 8)[0], TooBusy)    # two each: nobody has more to give
        self.assertEqual(4, self.pool.waiting)
        self.gate.set()
        self.assertEqual([0, 1, 2, 6, 7], await gatherResults(waiting))

    async def test_full(self) -> None:
        """The queue has an end for all together."""
        self.make(queue_limit=4)
        waiting = [self.queue(f"n{number}", number)[0] for number in range(5)]
        self.assertEqual(4, self.pool.waiting)
        self.failureResultOf(self.queue("other", 5)[0], TooBusy)
        self.gate.set()
        self.assertEqual([0, 1, 2, 3, 4], await gatherResults(waiting))
        self.assertEqual(0, self.pool.waiting)

    async def test_cancelled_while_it_waits(self) -> None:
        """The work of a client that has gone is not done, and its place is free."""
        self.make(queue_limit=2)
        first, second, third = self.queue("n", 1, 2, 3)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertEqual(1, self.pool.waiting)
        fourth = self.queue("n", 4)[0]
        self.gate.set()
        self.assertEqual([1, 3, 4], await gatherResults([first, third, fourth]))
        self.assertEqual([1, 3, 4], self.done)

    async def test_cancelled_at_work(self) -> None:
        """What is at work ends in peace, heard by nobody; the pool goes on."""
        first, second = self.queue("n", 1, 2)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.gate.set()
        self.assertEqual(2, await second)
        self.assertEqual([1, 2], self.done)

    async def test_last_of_a_network_cancelled(self) -> None:
        """A network without calls has no turn."""
        first = self.queue("a", 1)[0]
        gone = self.queue("b", 2)[0]
        last = self.queue("c", 3)[0]
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.gate.set()
        self.assertEqual([1, 3], await gatherResults([first, last]))

    async def test_stop(self) -> None:
        """What waits is refused, what is at work ends first, and no thread stays."""
        before = set(threading.enumerate())
        at_work, waits = self.queue("n", 1, 2)
        thread, = set(threading.enumerate()) - before
        stopped = self.pool.stop()
        self.failureResultOf(waits, TooBusy)
        self.failureResultOf(self.queue("n", 3)[0], TooBusy)
        self.assertNoResult(stopped)
        self.gate.set()
        await stopped
        self.assertEqual(1, await at_work)
        self.assertEqual([1], self.done)
        thread.join(20)
        self.assertFalse(thread.is_alive())

    async def test_started_again(self) -> None:
        """Even while the last thread of before is still at work, it is `threads` at a time."""
        slow = self.queue("n", 1)[0]
        stopped = self.pool.stop()
        self.pool.start()
        fresh = self.queue("n", 2)[0]
        self.assertEqual(1, self.pool.waiting)
        self.gate.set()
        self.assertEqual([1, 2], await gatherResults([slow, fresh]))
        await stopped

    async def test_not_started(self) -> None:
        """Refuses instead of waiting for ever; stopping it is no error."""
        pool = HashPool(reactor)
        self.failureResultOf(pool.run("n", len, ""), TooBusy)
        self.successResultOf(pool.stop())

    async def test_default(self) -> None:
        """A pool for who has none works at once and ends with the reactor."""
        triggers: list[tuple[Any, ...]] = []
        self.patch(reactor, "addSystemEventTrigger", lambda *trigger: triggers.append(trigger))
        pool = default_pool(reactor)
        self.assertEqual(3, await pool.run("n", len, "abc"))
        (phase, event, stop), = triggers
        self.assertEqual(("during", "shutdown"), (phase, event))
        await stop()
        self.failureResultOf(pool.run("n", len, ""), TooBusy)
