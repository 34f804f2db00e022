"""How many clients are waited for that closed their half before their login was answered.

Such a client may be a script that said all it wants, or one that is gone: until something is written
to it, nobody can tell. So that connecting and hanging up is not a way to have passwords checked and
connections kept for nothing, a network may have a few of them at a time.
"""

from __future__ import annotations

from collections import Counter

from mailgate.auth.hashing import network_of

AWAITED = 16    # of one network


class HalfClosed:
    """Counts them, by network."""

    def __init__(self, most: int = AWAITED) -> None:
        self._most = most
        self._networks: Counter[str] = Counter()

    def enter(self, host: str | None) -> bool:
        """Count one more; False, and it is not counted, where there are enough."""
        network = network_of(host)
        if self._networks[network] >= self._most:
            return False
        self._networks[network] += 1
        return True

    def leave(self, host: str | None) -> None:
        """Take back what `enter` counted."""
        network = network_of(host)
        self._networks[network] -= 1
        if not self._networks[network]:
            del self._networks[network]
