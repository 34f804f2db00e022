"""Successful logins, remembered for minutes: a client that polls costs no password hash each time.

What is kept is a keyed digest, under a key that lives and dies with the object; never a password.
A remembered success says that the password was right for the verifiers of that time. Who asks must
still learn whether they have changed: the store by the credential version, in the transaction that
takes the lease; the passwd-file by making the verifier part of the key.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from typing import Generic, TypeVar

from twisted.internet.interfaces import IReactorTime

Value = TypeVar("Value")


class RememberedSuccess(Generic[Value]):
    """A bounded table from (checker, login, password ...) to what was found, by age and last use.

    Times are seconds of `clock`, counted from the real check and not prolonged by use. With
    `seconds` or `limit` 0 nothing is remembered.
    """

    def __init__(self, clock: IReactorTime, seconds: float = 300, limit: int = 10_000) -> None:
        self._clock = clock
        self._seconds = seconds
        self._limit = limit
        self._secret = os.urandom(hashlib.blake2b.MAX_KEY_SIZE)
        self._entries: OrderedDict[bytes, tuple[float, Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def key(self, checker: str, *octets: bytes) -> bytes:
        """Return the keyed digest of a checker's name and octet strings; it tells none of them."""
        digest = hashlib.blake2b(key=self._secret, digest_size=32)
        for part in (checker.encode("utf-8"), *octets):
            digest.update(b"%d:" % len(part))       # so that no two cuts of the same octets are alike
            digest.update(part)
        return digest.digest()

    def find(self, key: bytes) -> Value | None:
        """Return what was remembered under a key, or None when it is not there or too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        until, value = entry
        if self._clock.seconds() >= until:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    def remember(self, key: bytes, value: Value) -> None:
        """Keep a success from now on; the least recently used make room."""
        if self._seconds <= 0:
            return
        self._entries[key] = (self._clock.seconds() + self._seconds, value)
        self._entries.move_to_end(key)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def forget(self, key: bytes) -> None:
        """Drop a key, if it is there: what it stood for has turned out to be stale."""
        self._entries.pop(key, None)
