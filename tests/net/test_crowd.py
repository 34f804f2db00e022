"""Bounds on connections: what one client too many meets, and that places become free again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.logger import eventAsText, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailgate.errors import TooManyLogins
from mailgate.net.crowd import KEPT_MOST, Crowd
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

    def test_of_one_address(self) -> None:
        """Its neighbours have their own limit; IPv6 has one a /64, and IPv4 is itself in IPv6's clothes."""
        crowd = Crowd(per_address=2)
        hosts = ("192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1", "192.0.2.9",
                 "2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1")
        self.assertEqual([True, True, False, True, True, True, False, True],
                         [crowd.enter(host) for host in hosts])
        crowd.leave("2001:db8::2")
        crowd.leave("::ffff:192.0.2.1")
        self.assertTrue(crowd.enter("192.0.2.1"))
        self.assertTrue(crowd.enter("2001:db8::9"))

    def test_this_machine(self) -> None:
        """Loopback and unix sockets count in all, and nowhere else: a proxy here speaks for everybody."""
        crowd = Crowd(30, 1, per_address=1)
        for host in ("127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1", None):
            self.assertTrue(all(crowd.enter(host) for _ in range(6)))
        self.assertEqual([False, False], [crowd.enter(host) for host in ("127.0.0.1", None)])

    def test_of_one_user(self) -> None:
        """As many as the limit; what was one too many is not counted."""
        crowd = Crowd(per_user=2)
        crowd.begin("mrose")
        crowd.begin("mrose")
        crowd.begin("fred")
        for _ in range(3):
            self.assertRaises(TooManyLogins, crowd.begin, "mrose")
        crowd.end("mrose")
        crowd.begin("mrose")

    def test_kept(self) -> None:
        """Address and user count on for a time after all have left, and no longer."""
        clock = Clock()
        crowd = Crowd(per_address=2, per_user=1, seconds=clock.seconds)
        crowd.keep("192.0.2.1", "mrose", 30.0)
        crowd.keep("192.0.2.1", "fred", 10.0)
        self.assertFalse(crowd.enter("192.0.2.1"))
        self.assertRaises(TooManyLogins, crowd.begin, "mrose")
        clock.advance(10.0)
        self.assertTrue(crowd.enter("192.0.2.1"))
        crowd.begin("fred")
        clock.advance(19.9)
        self.assertFalse(crowd.enter("192.0.2.1"))
        clock.advance(0.1)
        self.assertTrue(crowd.enter("192.0.2.1"))
        crowd.begin("mrose")

    def test_kept_are_bounded(self) -> None:
        """Of too many the one ends first whose time comes first; at last nothing is left of any."""
        clock = Clock()
        crowd = Crowd(per_address=1, seconds=clock.seconds)
        for number in range(KEPT_MOST + 100):
            host = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
            crowd.keep(host, f"user {number}", 10.0 + number)
        self.assertEqual([True, False], [crowd.enter(f"10.0.0.{number}") for number in (99, 100)])
        clock.advance(1e6)
        self.assertTrue(crowd.enter("10.0.0.100"))
        self.assertEqual(2, len(crowd._places))

    def test_told_once_a_minute(self) -> None:
        """A thousand who are turned away fill no log."""
        lines: list[str] = []

        def keep(event: dict[str, Any]) -> None:
            if event.get("log_namespace") == "mailgate.net.crowd":
                lines.append(eventAsText(event, includeTimestamp=False, includeSystem=False))

        globalLogPublisher.addObserver(keep)
        self.addCleanup(globalLogPublisher.removeObserver, keep)
        clock = Clock()
        crowd = Crowd(0, seconds=clock.seconds)
        for _ in range(1000):
            crowd.enter("::ffff:192.0.2.1")
        clock.advance(60)
        crowd.enter("192.0.2.7")
        self.assertEqual(lines, ["1 connections were one too many, the latest from 192.0.2.1",
                                 "1000 connections were one too many, the latest from 192.0.2.7"])

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
