"""How many connections there may be at once: in all, and from one network.

One object serves every listener for clients. What it leaves over stays for mail coming in, bodies
and the database: whoever opens connections and says nothing takes none of that away.
"""

from __future__ import annotations

from collections import Counter

from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from mailgate.auth.hashing import LOCAL_NETWORK, network_of


class Crowd:
    """Counts connections. A limit of None is none; local peers count in all, not as a network."""

    def __init__(self, limit: int | None = None, per_network: int | None = None) -> None:
        self._limit = limit
        self._per_network = per_network
        self._networks: Counter[str] = Counter()
        self.count = 0

    def enter(self, host: str | None) -> bool:
        """Count a connection from a peer (None: over a unix socket); False where it is one too many."""
        if self._limit is not None and self.count >= self._limit:
            return False
        if self._per_network is not None:
            network = network_of(host)
            if network != LOCAL_NETWORK and self._networks[network] >= self._per_network:
                return False
            self._networks[network] += 1
        self.count += 1
        return True

    def leave(self, host: str | None) -> None:
        """Take back what `enter` counted."""
        self.count -= 1
        if self._per_network is not None:
            network = network_of(host)
            self._networks[network] -= 1
            if not self._networks[network]:
                del self._networks[network]


class TurnedAway(Protocol):
    """A connection that is one too many: told so in one line, and closed."""

    def connectionMade(self) -> None:
        """Say that it is too full, which passes (RFC 3206 section 4)."""
        transport = self.transport
        assert transport is not None
        if ISSLTransport.providedBy(transport):
            # nothing can be said before a handshake, and nobody waits for one that never comes
            transport.abortConnection()
            return
        transport.write(b"-ERR [SYS/TEMP] too many connections\r\n")
        transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Hear nothing."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nothing is held."""
