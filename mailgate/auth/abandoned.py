"""What was begun for a client that has gone: let it arrive, and then undo it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailgate.errors import MailgateError

Result = TypeVar("Result")

log = Logger()


def undone_if_abandoned(begun: Deferred[Result], undo: Callable[[Result], object]) -> Deferred[Result]:
    """Return a Deferred with the outcome of `begun`, which may be cancelled at any time.

    Cancelling does not reach `begun`: a lease that is being taken would be lost out of sight. The
    outcome is awaited instead, and a result is given to `undo`, which may return a Deferred.
    """
    waiting: Deferred[Result] = Deferred()

    def arrived(outcome: Result | Failure) -> None:
        if not waiting.called:
            waiting.callback(outcome)       # a Failure goes the errback's way
        elif isinstance(outcome, Failure):
            _expected(outcome)
        else:
            maybeDeferred(undo, outcome).addErrback(_expected)

    begun.addBoth(arrived)
    return waiting


def _expected(failure: Failure) -> None:
    """Nobody waits for this fault any more; one that is a bug is still told."""
    if not failure.check(MailgateError):
        log.failure("after its client had gone", failure)
