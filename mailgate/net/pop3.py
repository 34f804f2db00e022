"""POP3 for any twisted.cred portal: the factory, and what all connections of a listener share.

The portal is asked for IMaildrop (ours) or IMailboxPOP3 (Twisted's, served through an adapter).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Protocol

from mailgate.auth.answers import Answers
from mailgate.auth.credentials import DigestLogin, NamedLogin, PasswordLogin, PrincipalLogin, TokenLogin
from mailgate.auth.gssapi import TicketAcceptor
from mailgate.auth.portal import MailgatePortal
from mailgate.auth.sasl import Facts, Mechanism
from mailgate.auth.sasl.digests import message_id
from mailgate.auth.sasl.mechanisms import MECHANISMS
from mailgate.net.addresses import is_loopback
from mailgate.net.attempts import Attempts
from mailgate.net.crowd import Crowd, TurnedAway
from mailgate.net.factory import ServerFactory
from mailgate.net.failures import Failures, Growth
from mailgate.net.halfclosed import HalfClosed
from mailgate.net.pop3_protocol import POP3Protocol
from mailgate.net.unread import Unread
from mailgate.pop3.policy import Policy
from mailgate.pop3.session import Session, Table

if TYPE_CHECKING:
    from twisted.cred.portal import Portal

# The credentials that a checker must take for a mechanism that needs this; all else asks a source of secrets.
CREDENTIALS = {"password": PasswordLogin, "CRAM-MD5": DigestLogin, "token": TokenLogin,
               "certificate": NamedLogin, "ticket": PrincipalLogin}


class POP3Factory(ServerFactory):
    """Makes a POP3 server of a twisted.cred portal.

    `clock`: IReactorTime, the global reactor unless given. `table`, `mechanisms` and `policy` are
    the seams: what is understood, how one may log in, what is offered and bounded. `random` gives
    so many octets for challenges. `tls`: what `startTLS` takes (IOpenSSLServerConnectionCreator); with
    it STLS is offered. `crowd` bounds the connections, `attempts` the logins; each may be shared by
    several factories. `tickets` judges Kerberos tickets, and ends with the factory: without it, and
    while it does not work, no mechanism that needs one is there.
    """

    connection: type[POP3Protocol] = POP3Protocol
    spoken = "pop3"            # in log lines

    def __init__(self, portal: Portal, *, policy: Policy = Policy(), clock: IReactorTime | None = None,
                 table: Table | None = None, tls: Any = None, crowd: Crowd | None = None,
                 attempts: Attempts | None = None, mechanisms: Mapping[bytes, Mechanism] = MECHANISMS,
                 tickets: TicketAcceptor | None = None,
                 random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        limits = policy.limits
        super().__init__(clock, limits.idle_seconds, limits.login_seconds, limits.progress_seconds)
        self.portal = portal
        self.policy = policy
        self.table = table or Table()
        self.answers = Answers(portal, self.clock.seconds, policy.hostname.decode("utf-8", "replace"))
        self._table_of_mechanisms = mechanisms
        self._served: tuple[tuple[Any, ...], dict[bytes, Mechanism]] | None = None
        self.tickets = tickets
        self.tls = tls
        self.crowd = crowd or Crowd(seconds=self.clock.seconds)
        self.attempts = attempts or Attempts(Failures(Growth.of(limits), self.clock.seconds), self.crowd,
                                             self.clock.seconds, hostname=policy.hostname)
        self.half_closed = HalfClosed()
        self.unread = Unread(limits.unread_octets)
        self.random = random
        # a plain Portal that is cancelled would lose sight of an avatar on its way
        self.cancels_logins = isinstance(portal, MailgatePortal)

    def _connection(self, addr: IAddress | None) -> Protocol:
        return self.connection(self) if self.crowd.enter(getattr(addr, "host", None)) else TurnedAway()

    def converse(self, peer: str | None, *, secure: bool, relayed: bool = False) -> Session:
        """Return a new conversation with a peer (None: over a unix socket), inside TLS or not.

        `relayed`: the client came by a proxy, so that no address makes it one of this machine.
        """
        protected = self._protected(peer, secure, relayed)
        if self.answers.sources:
            self.answers.refresh()      # so that CAPA, a round trip later, knows
        if self.tickets is not None:
            self.tickets.look()
        return self.table.conversation(
            self.table, self.policy, mechanisms=self.mechanisms, kept=self._kept,
            protected=protected, plaintext_allowed=protected and self._takes(PasswordLogin),
            can_start_tls=self.tls is not None and not secure, timestamp=self._timestamp())

    def _protected(self, peer: str | None, secure: bool, relayed: bool) -> bool:
        """Whether passwords may come in clear: nobody listens, or the policy does not mind."""
        allowed = self.policy.plaintext_login
        return secure or (is_loopback(peer) and not relayed if allowed is None else allowed)

    def _takes(self, credentials: type) -> bool:
        """Whether a checker judges credentials of this class."""
        return any(kind.implementedBy(credentials) for kind in self.portal.listCredentialsInterfaces())

    @property
    def mechanisms(self) -> dict[bytes, Mechanism]:
        """What is wanted here, and can be judged by the checkers that the portal has now."""
        kinds = (*self.portal.listCredentialsInterfaces(), self.tickets is not None and self.tickets.works)
        if self._served is None or self._served[0] != kinds:
            self._served = kinds, self._judged(self._table_of_mechanisms)
        return self._served[1]

    def _judged(self, mechanisms: Mapping[bytes, Mechanism]) -> dict[bytes, Mechanism]:
        """What nobody asked for is left out only of our own table: another one is a wish by itself."""
        wanted, ours = self.policy.mechanisms, mechanisms is MECHANISMS

        def judged(row: Mechanism) -> bool:
            if row.needs == "ticket" and (self.tickets is None or not self.tickets.works):
                return False
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
        ready = self.answers.refresh() or succeed(None)
        tickets = self.tickets
        return ready if tickets is None else ready.addCallback(lambda _: tickets.look())

    def shutdown(self) -> Deferred[None]:
        """See ServerFactory.shutdown. Ends the threads that judge tickets as well."""
        gone, tickets = super().shutdown(), self.tickets
        return gone if tickets is None else gone.addBoth(lambda _: tickets.stop())

    def _may_finish(self, connection: Any) -> bool:
        finishing: bool = connection.finishing
        return finishing

    def ended(self, connection: Any) -> None:
        """Note that a connection is gone."""
        self.crowd.leave(connection.peer)
        super().ended(connection)
