"""From a Deferred's Failure to the fault that a conversation answers."""

from __future__ import annotations

from twisted.cred.error import LoginFailed
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailgate.errors import LoginRefused, MailgateError, StoreUnavailable

log = Logger()


def as_fault(failure: Failure) -> BaseException:
    """Return what happened in our own terms.

    twisted.cred's LoginFailed is a refused login. An outage is logged with its reason, which the
    client never sees; anything that is not ours is a bug: logged with its traceback, and it answers
    as an outage.
    """
    fault = failure.value
    if isinstance(fault, LoginRefused):
        return fault                    # with its reason, for the log
    if isinstance(fault, LoginFailed):
        return LoginRefused(str(fault))
    if isinstance(fault, StoreUnavailable):
        log.error("the store failed: {reason}", reason=ascii(str(fault)))
    elif not isinstance(fault, (MailgateError, CancelledError)):
        log.failure("unexpected failure", failure)
    return fault
