"""Deliveries on their way together: order, bounds, and what one fault means for the others."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailgate.cli.convoy import MOST_MESSAGES, MOST_OCTETS, Convoy
from mailgate.errors import OverQuota, StoreFull, StoreUnavailable
from mailgate.formats.entries import NotPlain
from mailgate.interfaces import IPreparedDelivery
from mailgate.model import Envelope, Placement

PLACEMENT = Placement("mrose", None, Envelope(b"", b"mrose@x", 0))


class PlainDelivery:
    """Ends when the test says so."""

    def __init__(self, case: ConvoyTests, number: int) -> None:
        self.case = case
        self.number = number
        self.committed: Deferred[Any] = Deferred()
        self.aborted = False

    def commit(self, placements: Any) -> Deferred[Any]:
        self.case.commits.append(self.number)
        return self.committed

    def abort(self) -> None:
        self.aborted = True


@implementer(IPreparedDelivery)
class Delivery(PlainDelivery):
    def __init__(self, case: ConvoyTests, number: int) -> None:
        super().__init__(case, number)
        self.prepared: Deferred[None] = Deferred()

    def prepare(self) -> Deferred[None]:
        return self.prepared


class ConvoyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.commits: list[int] = []
        self.told: list[tuple[str, Any]] = []
        self.convoy = Convoy(lambda name, position, fault: self.told.append((name, fault)))
        self.deliveries: list[Any] = []

    def add(self, octets: int = 1, kind: type = Delivery) -> Deferred[None]:
        number = len(self.deliveries)
        self.deliveries.append(kind(self, number))
        return Deferred.fromCoroutine(
            self.convoy.add(str(number), number, octets, self.deliveries[-1], PLACEMENT))

    def room(self, octets: int = 0) -> Deferred[None]:
        return Deferred.fromCoroutine(self.convoy.room(octets))

    def arrive(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.convoy.arrive())

    def test_order(self) -> None:
        """Commits are asked for in the order of the source, without waiting for an answer."""
        for _ in range(4):
            self.successResultOf(self.add())
        for number in (2, 1, 3):
            self.deliveries[number].prepared.callback(None)
            self.assertEqual(self.commits, [])
        self.deliveries[0].prepared.callback(None)
        self.assertEqual(self.commits, [0, 1, 2, 3])
        arriving = self.arrive()
        for number in (3, 1, 0):
            self.deliveries[number].committed.callback([None])
        self.assertEqual(self.told, [("0", None), ("1", None)])
        self.assertNoResult(arriving)
        self.deliveries[2].committed.callback([succeed(None)])      # an outcome may come later
        self.successResultOf(arriving)
        self.assertEqual([name for name, _ in self.told], ["0", "1", "2", "3"])

    def test_most_messages(self) -> None:
        for _ in range(MOST_MESSAGES):
            self.successResultOf(self.room())
            self.successResultOf(self.add())
        waiting = self.room()
        for delivery in self.deliveries:
            delivery.prepared.callback(None)
        self.assertNoResult(waiting)
        self.deliveries[0].committed.callback([None])
        self.successResultOf(waiting)

    def test_most_octets(self) -> None:
        """A message waits in its middle for those before it; one that is larger than all goes alone."""
        self.successResultOf(self.add(MOST_OCTETS - 10))
        self.successResultOf(self.room(10))
        self.successResultOf(self.add(10))
        waiting = self.room(11)
        for delivery in self.deliveries:
            delivery.prepared.callback(None)
        self.deliveries[1].committed.callback([None])
        self.assertNoResult(waiting)
        self.deliveries[0].committed.callback([None])
        self.successResultOf(waiting)
        self.successResultOf(self.add(2))
        waiting = self.room(2 * MOST_OCTETS)
        self.assertNoResult(waiting)
        self.deliveries[2].prepared.callback(None)
        self.deliveries[2].committed.callback([None])
        self.successResultOf(waiting)

    def test_fault_of_one(self) -> None:
        """Before its delivery, as it is prepared, in its commit: told in its turn, the others go on."""
        faults = [NotPlain("a link"), FileNotFoundError("gone"), OverQuota("full"), OverQuota("no")]
        self.successResultOf(self.add())
        for number in (1, 2):
            self.deliveries.append(None)
            self.successResultOf(Deferred.fromCoroutine(
                self.convoy.add_fault(str(number), number, faults[number - 1])))
        for _ in range(3):
            self.successResultOf(self.add())
        self.deliveries[3].prepared.errback(faults[2])
        self.assertEqual(self.told, [])
        for number in (0, 4, 5):
            self.deliveries[number].prepared.callback(None)
        self.assertEqual(self.commits, [0, 4, 5])
        self.assertTrue(self.deliveries[3].aborted)
        arriving = self.arrive()
        self.deliveries[0].committed.callback([None])
        self.deliveries[4].committed.callback([faults[3]])
        self.deliveries[5].committed.callback([None])
        self.successResultOf(arriving)
        self.assertEqual([fault for _, fault in self.told], [None, *faults, None])

    def test_outage(self) -> None:
        """Nothing is committed behind it; what was asked for already is waited for, the rest dropped."""
        for fault in (StoreFull("no space"), ValueError("a bug")):
            self.setUp()
            for _ in range(4):
                self.successResultOf(self.add())
            for number in (0, 1):
                self.deliveries[number].prepared.callback(None)
            self.deliveries[0].committed.errback(fault)
            self.deliveries[2].prepared.callback(None)
            self.assertEqual(self.commits, [0, 1])
            ended = self.room()         # though there is room
            self.assertNoResult(ended)
            self.deliveries[1].committed.callback([None])
            self.assertIs(self.failureResultOf(ended).value, fault)
            self.assertIs(self.convoy.ended_by, fault)
            self.assertEqual([delivery.aborted for delivery in self.deliveries], [False, False, True, True])
            self.deliveries[3].prepared.errback(StoreUnavailable("late"))
            self.assertEqual((self.told, self.commits), ([], [0, 1]))
            self.successResultOf(self.arrive())

    def test_outage_of_one_that_is_read(self) -> None:
        """Those before it are told, then it ends the convoy at once."""
        self.successResultOf(self.add())
        fault = StoreUnavailable("the router's")
        ended = Deferred.fromCoroutine(self.convoy.add_fault("1", 1, fault))
        self.assertNoResult(ended)
        self.deliveries[0].prepared.callback(None)
        self.deliveries[0].committed.callback([None])
        self.assertIs(self.failureResultOf(ended).value, fault)
        self.assertEqual(self.told, [("0", None)])

    def test_deliveries_that_cannot_be_prepared(self) -> None:
        """Go one by one: nobody says in what order they would come."""
        adding = self.add(kind=PlainDelivery)
        self.assertEqual(self.commits, [0])
        self.assertNoResult(adding)
        self.deliveries[0].committed.callback([None])
        self.successResultOf(adding)
        self.assertEqual(self.told, [("0", None)])
