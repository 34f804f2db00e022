"""How many connections there may be at once: in all, from one network, from one address, for one user.

One object serves every listener for clients. What it leaves over stays for mail coming in, bodies
and the database: whoever opens connections and says nothing takes none of that away. Peers of this
machine count in all and nowhere else: behind a proxy here all clients are one.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable

from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailgate.auth.hashing import network_of
from mailgate.errors import TooManyConnections, TooManyLogins
from mailgate.net.addresses import client_of, is_loopback, written
from mailgate.pop3 import replies

KEPT_MOST = 16_384          # places kept for logins whose clients have gone
TELL_SECONDS = 60.0         # between two log lines about connections that were one too many

log = Logger()


class Crowd:
    """Counts connections, and logins by user. A limit of None is none.

    `seconds` is a clock that never goes back. Whatever is counted is taken back by whoever counted it.
    """

    def __init__(self, limit: int | None = None, per_network: int | None = None, *,
                 per_address: int | None = None, per_user: int | None = None,
                 seconds: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._per_network = per_network
        self._per_address = per_address
        self._per_user = per_user
        self._seconds = seconds
        self._places: Counter[str] = Counter()      # taken, by network, address and user
        self._kept: list[tuple[float, str, str]] = []   # a heap: until when, address, user
        self._turned_away = 0                       # since the last log line about it
        self._told_at = -TELL_SECONDS
        self.count = 0

    # Connections ------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether the next one is one too many, wherever it comes from."""
        return self._limit is not None and self.count >= self._limit

    def enter(self, host: str | None) -> bool:
        """Count a connection from a peer (None: over a unix socket); False where it is one too many."""
        self._let_go()
        places = self._places_of(host)
        if self.full or any(self._places[place] >= most for place, most in places):
            self._note(host)
            return False
        self.count += 1
        for place, _ in places:
            self._places[place] += 1
        return True

    def leave(self, host: str | None) -> None:
        """Take back what `enter` counted."""
        self.count -= 1
        for place, _ in self._places_of(host):
            self._free(place)

    def _places_of(self, host: str | None) -> list[tuple[str, int]]:
        """Return where a peer counts, with the limit there. The keys of the kinds never meet."""
        if host is None or is_loopback(host):
            return []
        places = []
        if self._per_network is not None:
            places.append(("network " + network_of(host), self._per_network))
        if self._per_address is not None:
            places.append((client_of(host), self._per_address))
        return places

    def _free(self, place: str) -> None:
        self._places[place] -= 1
        if not self._places[place]:
            del self._places[place]

    def _note(self, host: str | None) -> None:
        """Say now and then that somebody was turned away: a line each would let anybody fill the log."""
        self._turned_away += 1
        now = self._seconds()
        if now - self._told_at >= TELL_SECONDS:
            log.warn("{count} connections were one too many, the latest from {peer}",
                     count=self._turned_away, peer=written(host))
            self._told_at, self._turned_away = now, 0

    # Users ------------------------------------------------------------------------------------

    def begin(self, user: str) -> None:
        """Count a user (any text that tells address and name) who is logged in or on the way.

        Raises: TooManyLogins, and then nothing is counted.
        """
        self._let_go()
        if self._per_user is not None and self._places[user] >= self._per_user:
            raise TooManyLogins(f"{self._per_user} of one user and address")
        self._places[user] += 1

    def end(self, user: str) -> None:
        """Take back what `begin` counted."""
        self._free(user)

    def keep(self, host: str, user: str, seconds: float) -> None:
        """Let a connection and a user count for some time more, though the client has gone.

        Of too many that are kept so, the one that would end first ends at once.
        """
        address = client_of(host)
        for place in (address, user):
            self._places[place] += 1
        heapq.heappush(self._kept, (self._seconds() + seconds, address, user))
        if len(self._kept) > KEPT_MOST:
            self._end_first()

    def _let_go(self) -> None:
        """Forget kept places whose time is over."""
        now = self._seconds()
        while self._kept and self._kept[0][0] <= now:
            self._end_first()

    def _end_first(self) -> None:
        _, address, user = heapq.heappop(self._kept)
        self._free(address)
        self._free(user)


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
        transport.write(replies.refusal(TooManyConnections()))
        transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Hear nothing."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nothing is held."""
