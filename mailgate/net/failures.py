"""How long a refused login waits for its answer: longer with each one before it, forgotten with time.

Held in three tables of fixed size, without threads, timers or an object for each client. What comes out
are whole beats of the failure delay, fixed when the login is asked for: neither the account nor the
time that its check takes has any part in them.
"""

from __future__ import annotations

import hashlib
import math
import os
from array import array
from collections.abc import Callable
from typing import NamedTuple

from mailgate.pop3.policy import Limits

WAYS = 8                    # slots in which one key may lie
SLOTS = 32_768              # of one table: 640 KB
SUSPICIOUS = 8.0            # refusals of a network that make it one of those that guess
ADDRESS_PATIENCE = 8.0      # so many of an address weigh like one of a user there: users share addresses


class Growth(NamedTuple):
    """The settings (mailgate.pop3.policy.Limits). A base of 0 means no delay for anybody."""

    base_seconds: float
    factor: float = 1.0
    most_seconds: float = 0.0
    half_life_seconds: float = 600.0

    @classmethod
    def of(cls, limits: Limits) -> Growth:
        """Return what a listener's limits say."""
        return cls(limits.failure_delay_seconds, limits.failure_growth, limits.failure_delay_most_seconds,
                   limits.failure_half_life_seconds)

    def beats(self, failures: float) -> int:
        """Return how many times the base a refusal waits after so many others."""
        if not self.base_seconds:
            return 0
        most = max(1, int(self.most_seconds / self.base_seconds + 1e-6))
        doublings = min(failures * math.log2(self.factor), 64.0)    # beyond any limit, and no overflow
        return min(int(2.0 ** doublings + 0.5), most)


class Scores:
    """Decaying sums by key, in a table that never grows.

    A new key takes the place of the smallest sum of eight, and which eight no outsider can know: who
    makes keys by the million pushes out such as his own, and not those with many failures.
    """

    def __init__(self, seconds: Callable[[], float], half_life_seconds: float, *, slots: int = SLOTS,
                 secret: bytes | None = None) -> None:
        self._seconds = seconds
        self._half_life = half_life_seconds
        self._sets = slots // WAYS
        self._secret = os.urandom(32) if secret is None else secret
        self._tags = array("Q")         # empty until the first failure
        self._sums = array("f")
        self._stamps = array("d")

    def add(self, key: bytes) -> float:
        """Add one; return the sum that was there before."""
        if not self._tags:
            self._make()
        now = self._seconds()
        tag, first = self._place(key)
        slot = self._find(tag, first)
        before = 0.0 if slot is None else self._now(slot, now)
        if slot is None:
            slot = min(range(first, first + WAYS), key=lambda one: self._now(one, now))
        self._tags[slot], self._sums[slot], self._stamps[slot] = tag, before + 1.0, now
        return before

    def look(self, key: bytes) -> float:
        """Return the sum as it is now."""
        slot = self._find(*self._place(key)) if self._tags else None
        return 0.0 if slot is None else self._now(slot, self._seconds())

    def take_back(self, key: bytes) -> None:
        """Take one away again, if the key is there still."""
        if not self._tags:
            return
        now = self._seconds()
        slot = self._find(*self._place(key))
        if slot is not None:
            self._sums[slot], self._stamps[slot] = max(0.0, self._now(slot, now) - 1.0), now

    def _make(self) -> None:
        slots = self._sets * WAYS
        self._tags.frombytes(bytes(slots * self._tags.itemsize))
        self._sums.frombytes(bytes(slots * self._sums.itemsize))
        self._stamps.frombytes(bytes(slots * self._stamps.itemsize))

    def _place(self, key: bytes) -> tuple[int, int]:
        """Return a key's tag, and the first of the slots in which it may lie."""
        digest = hashlib.blake2b(key, key=self._secret, digest_size=16).digest()
        tag = int.from_bytes(digest[:8], "big") or 1        # 0 is an empty slot
        return tag, int.from_bytes(digest[8:], "big") % self._sets * WAYS

    def _find(self, tag: int, first: int) -> int | None:
        for slot in range(first, first + WAYS):
            if self._tags[slot] == tag:
                return slot
        return None

    def _now(self, slot: int, now: float) -> float:
        """Return what is left of a sum."""
        left = self._sums[slot]
        passed = max(0.0, now - self._stamps[slot])
        return left * 0.5 ** (passed / self._half_life) if left else 0.0


class Failures:
    """Refused logins by address, by address and user, and by network. `seconds` is the clock."""

    def __init__(self, growth: Growth, seconds: Callable[[], float], *, secret: bytes | None = None) -> None:
        self.growth = growth
        self._users = Scores(seconds, growth.half_life_seconds, secret=secret)
        self._addresses = Scores(seconds, growth.half_life_seconds, secret=secret)
        self._networks = Scores(seconds, growth.half_life_seconds, secret=secret)

    def begin(self, address: str, user: str) -> int:
        """Count an attempt as refused, until `forgive`; return the beats that its refusal waits.

        So of attempts that are made at once the later ones wait longer, whichever is judged first.
        """
        if not self.growth.base_seconds:
            return 0
        of_user = self._users.add(user.encode())
        of_address = self._addresses.add(address.encode())
        return self.growth.beats(max(of_user, of_address / ADDRESS_PATIENCE))

    def forgive(self, address: str, user: str) -> None:
        """Take an attempt back: it was not refused."""
        self._users.take_back(user.encode())
        self._addresses.take_back(address.encode())

    def refused(self, network: str) -> None:
        """Note that a login from a network has been refused."""
        self._networks.add(network.encode())

    def suspects(self, network: str) -> bool:
        """Whether so many were, of late, that somebody there may be guessing."""
        return self._networks.look(network.encode()) >= SUSPICIOUS
