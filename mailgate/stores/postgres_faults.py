"""What psycopg's errors mean: to a transaction that may be run again, and to operators."""

from __future__ import annotations

import traceback

import psycopg
from psycopg import errors
from twisted.logger import Logger

from mailgate.errors import MailgateError, StoreFull, StoreUnavailable
from mailgate.stores.files import os_fault

# Another transaction was in the way. That of two which make the same row one fails for its key is what
# happens where both looked and saw none, so it is no bug either, unless it comes again and again.
CONFLICTS = (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation)
# The server is going, is of no use for writing (any more), or is none: there may be a better one.
_GONE = frozenset({"57P01", "57P02", "57P03", "57P05", "25006", "25P03"})
_UNSURE = ("08", "58", "XX")    # classes of errors which a COMMIT may end with that was carried out
UNKNOWN_COMPLETION = "40003"

log = Logger()


class OutcomeUnknown(StoreUnavailable):
    """COMMIT was sent and its answer did not come, or says that it may be lost yet."""


def is_conflict(error: Exception) -> bool:
    """Return whether a transaction was undone for another's sake: run again, it may succeed."""
    return isinstance(error, CONFLICTS)


def is_lost(error: Exception) -> bool:
    """Return whether the connection is of no use any more, and that is the whole fault."""
    if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError,
                              errors.ReadOnlySqlTransaction)):
        return False
    state = error.sqlstate
    return state is None or state in _GONE or state[:2] == "08"


def is_undone(error: psycopg.Error) -> bool:
    """Return whether a transaction whose COMMIT was sent is undone for certain: the server said so."""
    state = error.sqlstate
    return (state is not None and error.diag.severity_nonlocalized == "ERROR"
            and state != UNKNOWN_COMPLETION and state[:2] not in _UNSURE)


def fault_of(error: Exception) -> MailgateError:
    """Return what an exception out of the database means, and log what an operator must know.

    Raises nothing. The server's details are left out: they quote rows, and rows hold verifiers.
    """
    if isinstance(error, MailgateError):
        if isinstance(error, OutcomeUnknown):
            log.error("the store failed: {fault}", fault=error)
        return error
    fault: MailgateError
    if isinstance(error, OSError):
        fault = os_fault(error)
    elif isinstance(error, errors.DiskFull):
        fault = StoreFull(words_of(error))
    else:
        fault = StoreUnavailable(words_of(error))
    fault.__cause__ = error
    if is_conflict(error) or is_lost(error) or isinstance(error, (OSError, psycopg.OperationalError)):
        log.error("the store failed: {fault}", fault=fault)
    else:
        log.critical("a bug in the store: {fault}\n{trace}", fault=fault,
                     trace="".join(traceback.format_tb(error.__traceback__)))
    return fault


def words_of(error: Exception) -> str:
    """Return an error's own words in one line, without what it quotes of rows and statements."""
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        words = f"{error.diag.message_primary} ({error.sqlstate})"
    else:
        words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"
