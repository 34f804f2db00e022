"""A POP3 server whose users are accounts of a store in memory, for the mechanisms' conversations."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.checkers import StoreChecker
from mailgate.auth.hashing import Inline
from mailgate.auth.keeping import verifiers_for
from mailgate.auth.portal import MailgatePortal
from mailgate.auth.sasl import Facts
from mailgate.model import Account
from mailgate.net.pop3 import POP3Factory
from mailgate.net.pop3_protocol import POP3Protocol
from mailgate.pop3.policy import Policy
from mailgate.testing.peers import FAR_AWAY, LOOPBACK, Address, Peer
from mailgate.testing.transcript import PLAYS, Play, Stage, converse
from tests.auth.staging import store_with
from tests.pop3.maildrops import Realm
from tests.pop3.staging import QUICK

PASSWORD = b"pencil"
KEPT = verifiers_for([PASSWORD], ("scram", "apop"))
USER = Account("user", verifiers=KEPT, addresses=("user@example.org",))


def octets_like(count: int) -> bytes:
    """Stand in for the random source: the same each time."""
    return bytes(range(count))


def coded(octets: bytes) -> str:
    """Return octets in base64."""
    return base64.b64encode(octets).decode("ascii")


class KnowingFactory(POP3Factory):
    """Its connections know `facts`, as if they were inside TLS; None: what they know by themselves."""

    facts: Facts | None = None

    def buildProtocol(self, addr: Any) -> Any:
        return KnowingProtocol(self)


class KnowingProtocol(POP3Protocol):
    """A connection that is told what to know."""

    def _facts(self) -> Facts:
        return super()._facts() if self.factory.facts is None else self.factory.facts._replace(
            random=octets_like)


class SaslHouse:
    """One server with its clock, realm and accounts."""

    def __init__(self, accounts: Sequence[Account] = (USER,), *, clock: Clock | None = None,
                 policy: Policy = QUICK, further: Sequence[Any] = (), facts: Facts | None = None,
                 secret: bytes = b"a secret", **factory: Any) -> None:
        self.clock = clock or Clock()
        self.realm = Realm([])
        self.store = store_with(*accounts)
        self.checker = StoreChecker(self.store.accounts, Inline())
        self.checker._secret = secret       # what the store has drawn by lot
        portal = MailgatePortal(self.realm, [self.checker, *further])
        self.factory = KnowingFactory(portal, policy=policy, clock=self.clock, random=octets_like, **factory)
        self.factory.facts = facts

    def connect(self, address: Address = LOOPBACK) -> Peer:
        """Return a peer that was greeted."""
        return Peer(self.factory, clock=self.clock, address=address)


class SaslCase(SynchronousTestCase):
    """Plays scripts whole, in pieces and at once; after each play nothing may be left."""

    def converse(self, script: str, *, greeting: str = "+OK *", plays: Sequence[Play] = PLAYS,
                 address: Address = LOOPBACK, **house: Any) -> None:
        def set_stage(clock: Clock) -> Stage:
            server = SaslHouse(clock=clock, **house)
            return Stage(server.factory, {}, address, done=lambda: self.check(server))

        converse(set_stage, f"S: {greeting}\n" + script, plays=plays)

    def check(self, server: SaslHouse) -> None:
        """Hold a server to what must be true when its client has gone."""
        self.assertEqual(server.realm.gone_well(), [])
        self.assertEqual(server.clock.getDelayedCalls(), [])

    def mechanisms(self, *, address: Address = LOOPBACK, **house: Any) -> list[str] | None:
        """Return the words of CAPA's SASL line; None if there is none. Bare AUTH says the same."""
        peer = SaslHouse(**house).connect(address)
        peer.received.clear()
        peer.say(b"CAPA\r\n")
        lines = bytes(peer.received).decode().splitlines()
        said = [line[5:].split() for line in lines if line.startswith("SASL ")]
        peer.received.clear()
        peer.say(b"AUTH\r\n")
        listed = bytes(peer.received).decode().splitlines()[1:-1]
        self.assertEqual(listed, said[0] if said else [])
        return said[0] if said else None


def offering(*names: str, **policy: Any) -> Policy:
    """Return a policy with these mechanisms and no others."""
    return replace(QUICK, mechanisms=tuple(name.encode() for name in names), hostname=b"mail.example.org",
                   **policy)


__all__ = ["FAR_AWAY", "KEPT", "LOOPBACK", "PASSWORD", "USER", "SaslCase", "SaslHouse", "coded", "offering"]
