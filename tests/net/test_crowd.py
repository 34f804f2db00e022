"""Bounds on connections: what one client too many meets, and that places become free again."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailgate.net.crowd import Crowd
from mailgate.net.pop3 import POP3Factory
from mailgate.testing.peers import Peer
from tests.pop3.staging import Server

FULL = b"-ERR [SYS/TEMP] too many connections\r\n"


def address(host: str) -> IPv4Address:
    return IPv4Address("TCP", host, 40110)


class CrowdTests(SynchronousTestCase):
    """The counting alone."""

    def test_in_all(self) -> None:
        """As many as the limit, whoever they are; one that goes makes room."""
        crowd = Crowd(2)
        self.assertEqual([True, True, False], [crowd.enter(host) for host in ("192.0.2.1", None, "::1")])
        crowd.leave(None)
        self.assertTrue(crowd.enter("192.0.2.1"))

    def test_of_one_network(self) -> None:
        """Its neighbours share its limit, other networks do not; a unix socket is no network."""
        crowd = Crowd(None, 2)
        hosts = ("192.0.2.1", "192.0.2.9", "192.0.2.77", "192.0.3.1")
        self.assertEqual([True, True, False, True], [crowd.enter(host) for host in hosts])
        self.assertTrue(all(crowd.enter(None) for _ in range(5)))
        crowd.leave("192.0.2.9")
        self.assertTrue(crowd.enter("192.0.2.77"))

    def test_without_limits(self) -> None:
        """Nobody is turned away, and they are counted all the same."""
        crowd = Crowd()
        self.assertTrue(all(crowd.enter("192.0.2.1") for _ in range(1000)))
        self.assertEqual(1000, crowd.count)


class ListenerTests(SynchronousTestCase):
    """Two listeners of one service."""

    def setUp(self) -> None:
        clock = Clock()
        portal = Server().factory.portal
        crowd = Crowd(3, 2)
        self.factories = [POP3Factory(portal, clock=clock, crowd=crowd) for _ in range(2)]
        self.clock = clock

    def connect(self, which: int, host: str) -> Peer:
        return Peer(self.factories[which], clock=self.clock, address=address(host))

    def test_one_too_many(self) -> None:
        """It is told so in one line and closed; the others go on, and it may come back later."""
        first, second = self.connect(0, "192.0.2.1"), self.connect(1, "192.0.2.2")
        third = self.connect(0, "192.0.2.3")
        self.assertEqual((FULL, True), (bytes(third.received), third.closed))
        fourth, fifth = self.connect(0, "198.51.100.1"), self.connect(1, "203.0.113.1")
        self.assertEqual((FULL, True), (bytes(fifth.received), fifth.closed))
        second.say(b"QUIT\r\n")
        fifth = self.connect(1, "203.0.113.1")
        for peer in (first, fourth, fifth):
            self.assertTrue(peer.received.startswith(b"+OK"))
            peer.vanish()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_unix_socket(self) -> None:
        """A peer without an address counts in all."""
        peers = [Peer(self.factories[0], clock=self.clock, address=UNIXAddress(None)) for _ in range(4)]
        self.assertEqual([False, False, False, True], [peer.closed for peer in peers])


class TLSTests(SynchronousTestCase):
    """A listener with TLS in front: nothing can be said to one who has not shaken hands."""

    def test_silent_clients_are_cut(self) -> None:
        """They are not waited for: each would hold a descriptor that nobody counts."""
        factory = POP3Factory(Server().factory.portal, clock=Clock(), crowd=Crowd(0))
        protocol = factory.buildProtocol(address("192.0.2.1"))
        transport = SecureTransport()
        assert protocol is not None
        protocol.makeConnection(transport)
        self.assertEqual(["abortConnection"], transport.calls)


@implementer(ISSLTransport)
class SecureTransport:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: self.calls.append(name)
