"""How many octets may wait unread of all clients that have not logged in, together.

Half an AUTH line, half a ticket, or commands behind a login that is being judged: each connection is
bounded by itself, but connections are many. What waits of somebody who is logged in is his own.
"""

from __future__ import annotations

UNCOUNTED_OCTETS = 1024     # of one connection: nearly every honest login fits in here, however many wait


class Unread:
    """Counts them, for all connections of a factory."""

    def __init__(self, limit_octets: int) -> None:
        self._limit = limit_octets
        self.held = 0

    def hold(self, before: int, now: int) -> bool:
        """Count `now` octets of a connection of which `before` were counted; False: none are counted now."""
        self.held -= before
        if now and self.held + now > self._limit:
            return False
        self.held += now
        return True
