"""POP3 for any twisted.cred portal: the factory, and what all connections of a listener share.

The portal is asked for IMaildrop (ours) or IMailboxPOP3 (Twisted's, served through an adapter).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, Protocol

from mailgate.auth.credentials import PasswordLogin
from mailgate.auth.portal import MailgatePortal
from mailgate.auth.sasl import MECHANISMS, Mechanism
from mailgate.net.idle import IdleClock
from mailgate.net.pop3_protocol import POP3Protocol
from mailgate.pop3.policy import Policy
from mailgate.pop3.session import Session, Table

if TYPE_CHECKING:
    from twisted.cred.portal import Portal

STOP_GRACE_SECONDS = 5.0   # how long a shutdown waits for clients to take what was sent


class POP3Factory(Factory):
    """Makes a POP3 server of a twisted.cred portal.

    `clock`: IReactorTime, the global reactor unless given. `table`, `mechanisms` and `policy` are
    the seams: what is understood, how one may log in, what is offered and bounded. `tls`: what
    `startTLS` takes (IOpenSSLServerConnectionCreator); with it STLS is offered.
    """

    noisy = False

    def __init__(self, portal: Portal, *, policy: Policy = Policy(), clock: IReactorTime | None = None,
                 table: Table | None = None, tls: Any = None,
                 mechanisms: Mapping[bytes, Mechanism] = MECHANISMS) -> None:
        if clock is None:
            from twisted.internet import reactor
            clock = IReactorTime(reactor)
        self.portal = portal
        self.policy = policy
        self.clock: Any = clock
        self.table = table or Table()
        self.mechanisms = mechanisms
        self.tls = tls
        limits = policy.limits
        self.idle = IdleClock(self.clock, limits.idle_seconds, limits.login_seconds, limits.progress_seconds)
        # a plain Portal that is cancelled would lose sight of an avatar on its way
        self.cancels_logins = isinstance(portal, MailgatePortal)
        self._stopping = False
        self._all_gone: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """Return a connection's protocol; None while stopping, and then it is closed."""
        return None if self._stopping else POP3Protocol(self)

    def converse(self, peer: str | None, *, secure: bool) -> Session:
        """Return a new conversation with a peer (None: over a unix socket), inside TLS or not."""
        return self.table.conversation(
            self.table, self.policy, mechanisms=self.mechanisms,
            plaintext_allowed=self._takes_passwords(peer, secure),
            can_start_tls=self.tls is not None and not secure)

    def _takes_passwords(self, peer: str | None, secure: bool) -> bool:
        """Whether USER and the like are taken: by policy, and because a checker judges them."""
        allowed = self.policy.plaintext_login
        if not (secure or (is_loopback(peer) if allowed is None else allowed)):
            return False
        return any(kind.implementedBy(PasswordLogin) for kind in self.portal.listCredentialsInterfaces())

    def shutdown(self) -> Deferred[None]:
        """Tell every client and close; QUITs under way are finished. Fires when all are gone."""
        self._stopping = True
        for connection in list(self.idle.watched):
            connection.dismiss()
        if not self.idle.watched:
            return succeed(None)
        self._all_gone = Deferred()
        grace = self.clock.callLater(STOP_GRACE_SECONDS, self._cut_all)

        def ungrace(result: None) -> None:
            if grace.active():
                grace.cancel()

        return self._all_gone.addBoth(ungrace)

    def ended(self, connection: POP3Protocol) -> None:
        """Note that a connection is gone."""
        if self._all_gone is not None and not self.idle.watched:
            gone, self._all_gone = self._all_gone, None
            gone.callback(None)

    def _cut_all(self) -> None:
        for connection in list(self.idle.watched):
            connection.cut()


def is_loopback(host: str | None) -> bool:
    """Whether a peer is on this machine: a loopback address, or a unix socket (None)."""
    return host is None or host.startswith(("127.", "::ffff:127.")) or host == "::1"
