"""How many octets may wait unread of all clients that have not logged in, together.

Half an AUTH line, half a ticket, or commands behind a login that is being judged: each connection is
bounded by itself, but connections are many. What waits of somebody who is logged in is his own.
"""

from __future__ import annotations

from collections import Counter

from mailgate.auth.hashing import network_of
from mailgate.net.addresses import is_loopback

UNCOUNTED_OCTETS = 1024     # of one connection: nearly every honest login fits in here, however many wait


SHARES = 4                  # one network may hold one of so many: it takes several to fill all


class Unread:
    """Counts them, for all connections of a factory. Peers of this machine may hold everything."""

    def __init__(self, limit_octets: int) -> None:
        self._limit = limit_octets
        self._networks: Counter[str] = Counter()
        self.held = 0

    def hold(self, peer: str | None, before: int, now: int) -> bool:
        """Count `now` octets of a connection of which `before` were counted; False: none are counted now."""
        network = None if peer is None or is_loopback(peer) else network_of(peer)
        self._count(network, -before)
        if now and (self.held + now > self._limit or (
                network is not None and self._networks[network] + now > self._limit // SHARES)):
            return False
        self._count(network, now)
        return True

    def _count(self, network: str | None, octets: int) -> None:
        self.held += octets
        if network is not None and octets:
            self._networks[network] += octets
            if not self._networks[network]:
                del self._networks[network]
