"""Clients that have much to say, and take all they are told: the others get their turns in between."""

from __future__ import annotations

from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from mailgate.lmtp.session import STEPS_A_TURN
from mailgate.net.lmtp import MOST_TURNS as LMTP_TURNS
from mailgate.net.lmtp import LMTPFactory
from mailgate.net.pop3 import POP3Factory
from mailgate.net.pop3_protocol import MOST_TURNS
from mailgate.stores.memory import MemoryStore
from tests.lmtp.staging import Server as LmtpServer
from tests.pop3.maildrops import mail_of
from tests.pop3.staging import Server

MANY = 5000


class TurnTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def _connected(self, factory: Any) -> tuple[Protocol, StringTransport]:
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        transport.clear()
        return protocol, transport

    def _flood(self, factory: Any, command: bytes, end: bytes, most: int) -> None:
        """Say a command very often at once: few are answered before somebody else is, then all."""
        flooding, flooded = self._connected(factory)
        flooding.dataReceived(command * MANY)
        self.assertLessEqual(flooded.value().count(end), most)
        other, heard = self._connected(factory)
        other.dataReceived(b"QUIT\r\n")
        self.assertEqual(heard.value().count(b"\r\n"), 1)
        self.clock.advance(0)       # a Clock goes on until nothing is due; a reactor looks round each time
        self.assertEqual(flooded.value().count(end), MANY)

    def test_pop3(self) -> None:
        """From somebody who has not logged in."""
        self._flood(POP3Factory(Portal(None, ()), clock=self.clock), b"CAPA\r\n", b"\r\n.\r\n", MOST_TURNS)

    def test_lmtp(self) -> None:
        factory = LMTPFactory(MemoryStore(clock=self.clock), LmtpServer().router, hostname="h",
                              clock=self.clock)
        self._flood(factory, b"NOOP\r\n", b"250 ", LMTP_TURNS * STEPS_A_TURN)

    def test_messages(self) -> None:
        """RETRs that are all answered at once: those of one turn are few, too."""
        server = Server([mail_of(120)])
        peer = server.log_in()
        peer.protocol.dataReceived(b"RETR 1\r\n" * 1000)
        self.assertLessEqual(peer.protocol._session.retrieved, MOST_TURNS)
        self.assertGreater(peer.protocol._session.retrieved, 0)
        peer.settle()
        self.assertEqual(peer.protocol._session.retrieved, 1000)

    def test_a_client_that_goes_meanwhile(self) -> None:
        """Nothing is left to be done for it."""
        factory = POP3Factory(Portal(None, ()), clock=self.clock)
        flooding, _ = self._connected(factory)
        flooding.dataReceived(b"CAPA\r\n" * MANY)
        flooding.connectionLost()
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
