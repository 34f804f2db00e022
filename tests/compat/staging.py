"""A server of mailgate.compat.POP3 or of a class like it, without a reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.compat import POP3
from mailgate.testing.peers import Peer
from tests.net.mailboxes import MailboxRealm, portal_for

LOGIN = b"USER mrose\r\nPASS secret\r\n"


class StandInCase(SynchronousTestCase):
    """Connects peers to a protocol class over one mailbox. The clock is held."""

    protocol: Any = POP3

    def setUp(self) -> None:
        self.clock = Clock()
        self.factory = Factory()
        self.factory.noisy = False

    def serve(self, mailbox: Any, protocol: Callable[[], Any] | None = None, **how: Any) -> Peer:
        """Return a peer that was greeted; the greeting is not in what it received."""
        self.realm = MailboxRealm(mailbox)
        return self.connect(protocol, **how)

    def connect(self, protocol: Callable[[], Any] | None = None, **how: Any) -> Peer:
        """Return one more peer of the same realm."""
        def build() -> Any:
            server = (protocol or self.protocol)()
            server.portal = portal_for(self.realm)
            server.callLater = self.clock.callLater
            server.schedule = list      # where stock POP3 is served
            return server

        self.factory.buildProtocol = lambda address: self._built(build())    # type: ignore[method-assign]
        peer = Peer(self.factory, clock=self.clock, **how)
        assert peer.received.startswith(b"+OK <") and peer.received.endswith(b">\r\n"), peer.received
        peer.received.clear()
        return peer

    def _built(self, server: Any) -> Any:
        server.factory = self.factory
        self.server = server
        return server

    def log_in(self, mailbox: Any, protocol: Callable[[], Any] | None = None, **how: Any) -> Peer:
        """Return a peer that has logged in, with nothing received."""
        peer = self.serve(mailbox, protocol, **how)
        peer.say(LOGIN)
        self.assertEqual(peer.received.splitlines()[-1], b"+OK Authentication succeeded")
        peer.received.clear()
        return peer

    def said(self, peer: Peer, commands: bytes) -> list[bytes]:
        """Say commands; return the lines that came."""
        peer.received.clear()
        peer.say(commands)
        return bytes(peer.received).split(b"\r\n")[:-1]

    def gone(self, logins: int = 1) -> None:
        """Hold the server to what is true after its last client."""
        self.assertEqual((self.realm.logins, self.realm.logouts), (logins, logins))
        self.assertEqual(self.clock.getDelayedCalls(), [])
