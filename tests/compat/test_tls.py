"""The stand-in for Twisted's POP3 with our own TLS: STLS of a subclass, and TLS from the first octet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.compat import POP3
from mailgate.net.tls import ServerTLS, TLSFactory
from mailgate.testing.certificates import Authority
from tests.net.mailboxes import GREEN, ListMailbox, MailboxRealm, portal_for
from tests.net.secure import NAME, SecurePeer, client_context, server_tls

AUTHORITY = Authority()
LOGIN = b"USER mrose\r\nPASS secret\r\n"


class StartTlsPop3(POP3):
    """STLS as applications add it."""

    AUTH_CMDS = [*POP3.AUTH_CMDS, b"STLS"]
    tls: ServerTLS

    def do_STLS(self) -> None:
        """Answer and begin."""
        self.successResponse(b"begin TLS")
        self.transport.startTLS(self.tls)


class TlsTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.tls = server_tls(AUTHORITY.issue(NAME), folder)
        self.clock = Clock()
        self.realm = MailboxRealm(ListMailbox([GREEN]))

    def connect(self, *, implicit: bool = False) -> SecurePeer:
        def build() -> Any:
            server = StartTlsPop3()
            server.portal = portal_for(self.realm)
            server.callLater = self.clock.callLater         # type: ignore[method-assign]
            server.tls = self.tls
            return server

        factory: Any = Factory.forProtocol(build)           # type: ignore[arg-type]
        factory.noisy = False
        clock: Any = self.clock
        return SecurePeer(TLSFactory(self.tls, factory, clock) if implicit else factory,
                          client_context(AUTHORITY), clock=self.clock)

    def test_both_ways(self) -> None:
        """A whole session, pipelined, inside TLS; the mailbox is synced, close_notify follows."""
        for implicit in (False, True):
            peer = self.connect(implicit=implicit)
            if not implicit:
                peer.say(b"STLS\r\n")
                self.assertTrue(bytes(peer.clear).endswith(b"+OK begin TLS\r\n"), peer.clear)
            peer.begin()
            peer.say(LOGIN + b"STAT\r\nRETR 1\r\nQUIT\r\n")
            self.assertIn(b"\r\n+OK 1 32\r\n", peer.received)
            self.assertTrue(peer.received.endswith(b".\r\n+OK \r\n"), peer.received)
            self.assertTrue(peer.farewell)
            peer.close()

    def test_octets_in_clear(self) -> None:
        """Behind STLS nothing in clear is carried out, in the same segment or in the next."""
        for parts in ([b"STLS\r\n" + LOGIN + b"STAT\r\n"], [b"STLS\r\n", LOGIN + b"STAT\r\n"]):
            peer = self.connect()
            for part in parts:
                peer.say(part)
            self.assertTrue(peer.closed)
            self.assertNotIn(b"+OK 1 32", peer.clear)
