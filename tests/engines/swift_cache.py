"""What stands for memcached in the proxy of the tests' Swift: a dictionary, because the proxy is one process.

A filter of the proxy's pipeline (`paste.filter_factory = tests.engines.swift_cache:filter_factory`). Without
it the proxy asks the container servers again with every request for what the bucket is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Cache:
    """As much of `swift.common.memcached.MemcacheRing` as the proxy and s3api call."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[Any, float]] = {}     # and when they end, in seconds of time.time()

    def get(self, key: str, raise_on_error: bool = False, **_: Any) -> Any:
        value, ends = self._values.get(key, (None, 0.0))
        return value if ends > time.time() else None

    def set(self, key: str, value: Any, serialize: bool = True, time: float = 0, **_: Any) -> None:
        self._values[key] = value, _end(time)

    def delete(self, key: str, server_key: str | None = None) -> None:
        self._values.pop(key, None)

    def incr(self, key: str, delta: int = 1, time: float = 0) -> int:
        value = max(0, int(self.get(key) or 0) + delta)
        self.set(key, value, time=time)
        return value


def _end(seconds: float) -> float:
    return time.time() + seconds if seconds else float("inf")


def filter_factory(settings: dict[str, str], **_: str) -> Callable[[Any], Any]:
    """Make the filter: every request carries the one cache."""
    cache = Cache()

    def around(application: Any) -> Any:
        def cached(environment: dict[str, Any], start_response: Any) -> Any:
            environment["swift.cache"] = cache
            return application(environment, start_response)
        return cached
    return around
