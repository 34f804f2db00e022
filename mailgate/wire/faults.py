"""How each fault is answered: the only table that turns meaning into replies and exit codes.

Words are fixed: no path, name or exception text ever reaches a client. A fault without a row of its
own answers as its nearest ancestor that has one, and a stranger (a bug) as an outage.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from mailgate import errors


class Answer(NamedTuple):
    """One row: POP3 response code (or empty), SMTP codes (RFC 5321, 3463), words, sysexits.h code."""

    pop3: bytes     # "[CODE] " of RFC 2449 section 8, RFC 3206; empty when there is none
    lmtp: bytes     # reply code and enhanced status code
    words: bytes    # ASCII, never beginning with "["
    exit: int       # of the `mailgate` command


ANSWERS: dict[type[BaseException], Answer] = {
    errors.BadCommand: Answer(b"", b"500 5.5.2", b"command refused", os.EX_USAGE),
    errors.LineTooLong: Answer(b"", b"500 5.5.2", b"line too long", os.EX_DATAERR),
    errors.BadSequence: Answer(b"", b"503 5.5.1", b"bad sequence of commands", os.EX_USAGE),
    errors.BadArguments: Answer(b"", b"501 5.5.4", b"bad arguments", os.EX_USAGE),
    errors.UnknownParameter: Answer(b"", b"555 5.5.4", b"parameter not offered", os.EX_USAGE),
    errors.NoSuchMessage: Answer(b"", b"550 5.6.0", b"no such message", os.EX_DATAERR),
    errors.BadExchange: Answer(b"", b"501 5.5.2", b"malformed authentication exchange", os.EX_DATAERR),
    errors.ExchangeCancelled: Answer(b"", b"501 5.7.0", b"authentication cancelled", os.EX_NOPERM),
    errors.PlaintextRefused: Answer(
        b"", b"538 5.7.11", b"encryption is required for this login", os.EX_NOPERM),
    errors.LoginRefused: Answer(b"[AUTH] ", b"535 5.7.8", b"login refused", os.EX_NOPERM),
    errors.LoginBrokenOff: Answer(b"", b"501 5.7.0", b"authentication cancelled", os.EX_NOPERM),
    errors.LoginGarbled: Answer(b"", b"501 5.5.2", b"malformed authentication exchange", os.EX_NOPERM),
    errors.LoginTooSoon: Answer(
        b"[LOGIN-DELAY] ", b"450 4.2.1", b"wait before logging in again", os.EX_TEMPFAIL),
    errors.StaleCredential: Answer(b"[SYS/TEMP] ", b"454 4.7.0", b"try again later", os.EX_TEMPFAIL),
    errors.TooBusy: Answer(b"[SYS/TEMP] ", b"451 4.3.2", b"too busy, try again later", os.EX_TEMPFAIL),
    errors.TooManyConnections: Answer(
        b"[SYS/TEMP] ", b"421 4.3.2", b"too many connections", os.EX_TEMPFAIL),
    errors.TooManyLogins: Answer(
        b"[SYS/TEMP] ", b"421 4.7.0", b"too many logins of this user at a time", os.EX_TEMPFAIL),
    errors.MaildropInUse: Answer(b"[IN-USE] ", b"450 4.2.0", b"maildrop in use", os.EX_TEMPFAIL),
    errors.StoreUnavailable: Answer(b"[SYS/TEMP] ", b"451 4.3.0", b"try again later", os.EX_TEMPFAIL),
    errors.StoreFull: Answer(b"[SYS/TEMP] ", b"452 4.3.1", b"no space, try again later", os.EX_TEMPFAIL),
    errors.LeaseLost: Answer(
        b"[SYS/TEMP] ", b"451 4.3.0", b"the lock was lost, nothing removed", os.EX_TEMPFAIL),
    errors.PartlyRemoved: Answer(       # the words of RFC 1939 section 6
        b"[SYS/TEMP] ", b"451 4.3.0", b"some deleted messages not removed", os.EX_TEMPFAIL),
    errors.NoSuchFolder: Answer(b"", b"550 5.2.0", b"no such folder", os.EX_DATAERR),
    errors.FolderConflict: Answer(b"", b"550 5.2.0", b"folder name taken or ill-formed", os.EX_DATAERR),
    errors.BadAddress: Answer(b"", b"501 5.1.3", b"not an address", os.EX_DATAERR),
    errors.NonAsciiSender: Answer(b"", b"550 5.6.7", b"the address needs SMTPUTF8", os.EX_DATAERR),
    errors.NonAsciiRecipient: Answer(b"", b"553 5.6.7", b"the address needs SMTPUTF8", os.EX_DATAERR),
    errors.TooManyRecipients: Answer(b"", b"452 4.5.3", b"too many recipients", os.EX_TEMPFAIL),
    errors.NoSuchRecipient: Answer(b"", b"550 5.1.1", b"no such user here", os.EX_NOUSER),
    errors.NoSuchDomain: Answer(b"", b"550 5.1.2", b"no such domain here", os.EX_NOUSER),
    errors.OverQuota: Answer(b"", b"452 4.2.2", b"over quota", os.EX_TEMPFAIL),
    errors.MessageTooLarge: Answer(b"", b"552 5.3.4", b"message too large", os.EX_DATAERR),
    errors.MessageMalformed: Answer(b"", b"550 5.6.0", b"bare CR or NUL in the message", os.EX_DATAERR),
    errors.MailLoop: Answer(b"", b"554 5.4.6", b"too many hops", os.EX_DATAERR),
    errors.NoSuchAccount: Answer(b"[AUTH] ", b"550 5.1.1", b"no such account", os.EX_NOUSER),
    errors.NoSuchEntry: Answer(b"[AUTH] ", b"550 5.1.1", b"no such entry", os.EX_NOUSER),
    errors.AccountConflict: Answer(b"", b"550 5.1.0", b"name taken or ill-formed", os.EX_DATAERR),
    errors.ConfigurationError: Answer(b"[SYS/PERM] ", b"451 4.3.5", b"configuration error", os.EX_CONFIG),
}


def answer_for(fault: BaseException) -> Answer:
    """Return the row of the nearest class in the table; a stranger answers as an outage."""
    for kind in type(fault).__mro__:
        if kind in ANSWERS:
            return ANSWERS[kind]
    return ANSWERS[errors.StoreUnavailable]
