"""What a call comes to, now or later, for coroutines: without a Deferred where it is there already."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure


async def outcome_of(function: Callable[..., Any], *args: Any) -> Any:
    """Call what may return a value, a Deferred, a coroutine or a Failure; return or raise the outcome."""
    result = function(*args)
    if isinstance(result, Deferred):
        return await result
    if isinstance(result, (Failure, CoroutineType)):
        return await maybeDeferred(lambda: result)
    return result
