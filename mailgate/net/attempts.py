"""Attempts to log in, whichever connection they come by: where each counts, and when its refusal leaves.

Only refusals ever wait. A refused login keeps its place among those of its address and user until its
time, whether its client waits or hangs up: that is what makes guessing slow. Peers of this machine
wait one beat and count nowhere: all users of a webmail or of a TLS proxy come from there.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

from mailgate.auth.hashing import network_of
from mailgate.net.addresses import client_of, is_loopback
from mailgate.net.crowd import Crowd
from mailgate.net.failures import Failures

NAME_OCTETS = 256      # of a login name: what is kept of one while its session lasts


class Attempt:
    """One login, from the first that is learnt of a name to the logout.

    `name`: as the client wrote it, cut off at NAME_OCTETS. `peer`: the client's address, None over a
    unix socket. `began`: when the client last said something of it, in seconds of the factory's clock;
    whoever lets it go on sets it anew.
    """

    __slots__ = ("name", "peer", "began", "open", "granted", "refused", "beats", "user", "counted")

    def __init__(self, name: bytes, peer: str | None, began: float) -> None:
        self.name = name[:NAME_OCTETS]
        self.peer = peer
        self.began = began
        self.open = False       # begun, and not ended: kept by the connection
        self.granted = False
        self.refused = False
        self.beats = 1          # of the base: how long a refusal waits at least
        self.user = ""          # name and address, as one key; empty for those of this machine
        self.counted = False    # among those of its user


class Attempts:
    """What becomes of logins. Each that `begin` let pass meets `opened` or `refused` or neither, and
    at last, once, `left` or `ended`.

    `seconds` is the clock of `Attempt.began`. `hostname`: what may follow the last @ of a name.
    `spares_loopback`: peers of this machine count nowhere.
    """

    def __init__(self, failures: Failures, crowd: Crowd, seconds: Callable[[], float], *,
                 hostname: bytes = b"localhost", spares_loopback: bool = True) -> None:
        self.failures = failures
        self._crowd = crowd
        self._seconds = seconds
        self._domain = b"@" + hostname.lower()
        self._spares_loopback = spares_loopback

    def begin(self, attempt: Attempt) -> None:
        """Count an attempt. It goes by what was typed, never by what there is: accounts play no part.

        Raises: TooManyLogins, and then it has not begun.
        """
        growth = self.failures.growth
        if attempt.peer is None or (self._spares_loopback and is_loopback(attempt.peer)):
            attempt.beats = growth.beats(0.0)
            return
        address = client_of(attempt.peer)
        name = attempt.name.lower().removesuffix(self._domain)
        attempt.user = f"user {hashlib.blake2b(name, digest_size=16).hexdigest()} at {address}"
        if name:        # a token without a name may be anybody's
            self._crowd.begin(attempt.user)
            attempt.counted = True
        attempt.beats = self.failures.begin(address, attempt.user)

    def opened(self, attempt: Attempt) -> None:
        """It succeeded: it counts until its session ends, and nothing is held against anybody."""
        attempt.granted = True
        self._forgive(attempt)

    def refused(self, attempt: Attempt) -> float:
        """Return for how many seconds the answer is held back; then call `ended`, or `left` before.

        That is until a multiple of the base since the attempt: a check that took longer than its time
        waits for the next one. How long a check takes tells about the account.
        """
        if not attempt.refused and attempt.user:
            assert attempt.peer is not None
            self.failures.refused(network_of(attempt.peer))
        attempt.refused = True
        base = self.failures.growth.base_seconds
        if not base:
            return 0.0
        passed = max(0.0, self._seconds() - attempt.began)      # the clock may have been set back
        return max(attempt.beats, math.ceil(passed / base)) * base - passed

    def left(self, attempt: Attempt) -> None:
        """The client has gone, and the attempt was neither granted nor its refusal sent.

        It counts on until that would have been sent: hanging up buys no time.
        """
        seconds = self.refused(attempt)
        if attempt.user and seconds > 0:
            assert attempt.peer is not None
            self._crowd.keep(attempt.peer, attempt.user, seconds)
        self._free(attempt)

    def ended(self, attempt: Attempt) -> None:
        """The refusal is sent, the session over, or something came between that was no refusal."""
        if not attempt.granted and not attempt.refused:
            self._forgive(attempt)
        self._free(attempt)

    def _forgive(self, attempt: Attempt) -> None:
        if attempt.user:
            assert attempt.peer is not None
            self.failures.forgive(client_of(attempt.peer), attempt.user)

    def _free(self, attempt: Attempt) -> None:
        if attempt.counted:
            attempt.counted = False
            self._crowd.end(attempt.user)
