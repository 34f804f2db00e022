"""POP3 for any twisted.cred portal: the factory, and what all connections of a listener share.

The portal is asked for IMaildrop (ours) or IMailboxPOP3 (Twisted's, served through an adapter).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, Protocol

from mailgate.auth.answers import Answers
from mailgate.auth.credentials import DigestLogin, NamedLogin, PasswordLogin, TokenLogin
from mailgate.auth.portal import MailgatePortal
from mailgate.auth.sasl import Facts, Mechanism
from mailgate.auth.sasl.digests import message_id
from mailgate.auth.sasl.mechanisms import MECHANISMS
from mailgate.net.crowd import Crowd, TurnedAway
from mailgate.net.idle import IdleClock
from mailgate.net.pop3_protocol import POP3Protocol
from mailgate.pop3.policy import Policy
from mailgate.pop3.session import Session, Table

if TYPE_CHECKING:
    from twisted.cred.portal import Portal

# The credentials that a checker must take for a mechanism that needs this; all else asks a source of secrets.
CREDENTIALS = {"password": PasswordLogin, "CRAM-MD5": DigestLogin, "token": TokenLogin,
               "certificate": NamedLogin}
STOP_GRACE_SECONDS = 5.0   # how long a shutdown waits for clients to take what was sent


class POP3Factory(Factory):
    """Makes a POP3 server of a twisted.cred portal.

    `clock`: IReactorTime, the global reactor unless given. `table`, `mechanisms` and `policy` are
    the seams: what is understood, how one may log in, what is offered and bounded. `random` gives
    so many octets for challenges. `tls`: what `startTLS` takes (IOpenSSLServerConnectionCreator); with
    it STLS is offered. `crowd` bounds the connections, of several factories together.
    """

    noisy = False
    connection: type[POP3Protocol] = POP3Protocol

    def __init__(self, portal: Portal, *, policy: Policy = Policy(), clock: IReactorTime | None = None,
                 table: Table | None = None, tls: Any = None, crowd: Crowd | None = None,
                 mechanisms: Mapping[bytes, Mechanism] = MECHANISMS,
                 random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        if clock is None:
            from twisted.internet import reactor
            clock = IReactorTime(reactor)
        self.portal = portal
        self.policy = policy
        self.clock: Any = clock
        self.table = table or Table()
        self.answers = Answers(portal, self.clock.seconds)
        self._table_of_mechanisms = mechanisms
        self._served: tuple[tuple[Any, ...], dict[bytes, Mechanism]] | None = None
        self.tls = tls
        self.crowd = crowd or Crowd()
        self.random = random
        limits = policy.limits
        self.idle = IdleClock(self.clock, limits.idle_seconds, limits.login_seconds, limits.progress_seconds)
        # a plain Portal that is cancelled would lose sight of an avatar on its way
        self.cancels_logins = isinstance(portal, MailgatePortal)
        self._stopping = False
        self._all_gone: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """Return a connection's protocol; None while stopping, and then it is closed."""
        if self._stopping:
            return None
        return self.connection(self) if self.crowd.enter(getattr(addr, "host", None)) else TurnedAway()

    def converse(self, peer: str | None, *, secure: bool) -> Session:
        """Return a new conversation with a peer (None: over a unix socket), inside TLS or not."""
        protected = self._protected(peer, secure)
        if self.answers.sources:
            self.answers.refresh()      # so that CAPA, a round trip later, knows
        return self.table.conversation(
            self.table, self.policy, mechanisms=self.mechanisms, kept=self._kept,
            protected=protected, plaintext_allowed=protected and self._takes(PasswordLogin),
            can_start_tls=self.tls is not None and not secure, timestamp=self._timestamp())

    def _protected(self, peer: str | None, secure: bool) -> bool:
        """Whether passwords may come in clear: nobody listens, or the policy does not mind."""
        allowed = self.policy.plaintext_login
        return secure or (is_loopback(peer) if allowed is None else allowed)

    def _takes(self, credentials: type) -> bool:
        """Whether a checker judges credentials of this class."""
        return any(kind.implementedBy(credentials) for kind in self.portal.listCredentialsInterfaces())

    @property
    def mechanisms(self) -> dict[bytes, Mechanism]:
        """What is wanted here, and can be judged by the checkers that the portal has now."""
        kinds = tuple(self.portal.listCredentialsInterfaces())
        if self._served is None or self._served[0] != kinds:
            self._served = kinds, self._judged(self._table_of_mechanisms)
        return self._served[1]

    def _judged(self, mechanisms: Mapping[bytes, Mechanism]) -> dict[bytes, Mechanism]:
        """What nobody asked for is left out only of our own table: another one is a wish by itself."""
        wanted, ours = self.policy.mechanisms, mechanisms is MECHANISMS

        def judged(row: Mechanism) -> bool:
            return self._takes(CREDENTIALS[row.needs]) if row.needs in CREDENTIALS else bool(
                self.answers.sources)

        return {name: row for name, row in mechanisms.items() if judged(row)
                and (name in wanted if wanted is not None else row.unasked or not ours)}

    def _kept(self) -> frozenset[str] | None:
        """Return what every user has a verifier of; None where the policy says what to announce."""
        return self.answers.kept() if self.policy.mechanisms is None else None

    def _timestamp(self) -> bytes | None:
        if not (self.policy.apop and self._takes(DigestLogin)):
            return None
        return message_id(Facts(hostname=self.policy.hostname, random=self.random))

    def prepare(self) -> Deferred[None]:
        """Look up what every user could log in by, before the first one asks."""
        return self.answers.refresh() or succeed(None)

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
        self.crowd.leave(connection.peer)
        if self._all_gone is not None and not self.idle.watched:
            gone, self._all_gone = self._all_gone, None
            gone.callback(None)

    def _cut_all(self) -> None:
        for connection in list(self.idle.watched):
            connection.cut()


def is_loopback(host: str | None) -> bool:
    """Whether a peer is on this machine: a loopback address, or a unix socket (None)."""
    return host is None or host.startswith(("127.", "::ffff:127.")) or host == "::1"
