"""Faults that cross layers, named by what they mean.

A layer raises one of these; `mailgate.wire.faults` says how POP3 and LMTP answer it and the
command line how it exits. Texts given to a fault are for logs and operators, never for the wire.
"""

from __future__ import annotations


class MailgateError(Exception):
    """The root of every fault that mailgate raises on purpose."""


# What a client said -----------------------------------------------------------------------


class BadCommand(MailgateError):
    """An unknown verb, a verb in the wrong state, or arguments that its grammar forbids."""


class LineTooLong(BadCommand):
    """A line longer than its limit; it was dropped up to its end (RFC 2449 section 4)."""


class BadSequence(BadCommand):
    """A command that has its place elsewhere in the transaction (RFC 5321 section 4.1.4)."""


class BadArguments(BadCommand):
    """Arguments that the grammar of their verb forbids (RFC 5321 section 4.2.2)."""


class UnknownParameter(BadCommand):
    """A MAIL or RCPT parameter that was not offered (RFC 5321 section 4.1.1.11)."""


class NoSuchMessage(MailgateError):
    """A message-number that is out of range or marked as deleted (RFC 1939 section 5)."""


class BadExchange(MailgateError):
    """A SASL exchange that was malformed: base64, length, or the mechanism's own grammar."""


class ExchangeCancelled(BadExchange):
    """The client answered a challenge with `*` (RFC 5034 section 4)."""


class PlaintextRefused(MailgateError):
    """A password in clear was offered where the listener does not allow it (RFC 8314 section 4.1)."""


# Who may log in ---------------------------------------------------------------------------


class LoginRefused(MailgateError):
    """Unknown name, wrong password or disabled account: one fault, so that none can be told apart."""


class LoginBrokenOff(LoginRefused):
    """An exchange that came to nothing behind the first words that tell something of an account.

    Who asks for salts without proving anything is looking for accounts: it counts as a refused login.
    """


class LoginGarbled(LoginBrokenOff):
    """The same, where what came was malformed."""


class TicketRefused(LoginRefused):
    """A Kerberos ticket or authenticator that proves nothing here; `reply` is the KRB-ERROR that says so.

    `ours`: it could not be judged because of a fault on this side, in the keytab for example.
    """

    def __init__(self, words: str, reply: bytes, *, ours: bool = False) -> None:
        super().__init__(words)
        self.reply = reply
        self.ours = ours


class LoginTooSoon(MailgateError):
    """The login delay of this maildrop has not passed yet (RFC 2449 section 6.5)."""


class StaleCredential(MailgateError):
    """The account changed after a remembered success; the login has to be checked afresh."""


class TooBusy(MailgateError):
    """A bounded queue is full; the client should come back later."""


class TooManyConnections(TooBusy):
    """All places are taken: of this server, or of the client's network or address."""


class TooManyLogins(TooBusy):
    """One user is logged in, or on the way, as often as one address may have him."""


# The maildrop and its store ---------------------------------------------------------------


class MaildropInUse(MailgateError):
    """Another session holds a lease that excludes this one (RFC 2449 section 8.1.2)."""


class StoreUnavailable(MailgateError):
    """The store could not do it now, or its outcome is not known. Nothing was acknowledged."""


class Undecided(StoreUnavailable):
    """A login that some who were asked refuse, and that somebody else, who might admit it, cannot judge."""


class StoreFull(StoreUnavailable):
    """No space is left where the store writes."""


class NoSuchFolder(MailgateError):
    """The maildrop has no folder of this name."""


class FolderConflict(MailgateError):
    """A folder's name that is ill-formed, taken, or one that cannot go: INBOX, or one that holds mail."""


class LeaseLost(StoreUnavailable):
    """The session's lease ran out or was taken over; nothing was removed."""


class PartlyRemoved(StoreUnavailable):
    """Of a maildrop that is merged from several stores, some removed what was marked, and some could not."""


# Delivery ---------------------------------------------------------------------------------


class BadAddress(MailgateError):
    """A path that RFC 5321 section 4.1.2 does not allow."""


class NonAsciiSender(BadAddress):
    """A reverse-path beyond ASCII in a transaction without SMTPUTF8 (RFC 6531 section 3.5)."""


class NonAsciiRecipient(BadAddress):
    """A forward-path beyond ASCII in a transaction without SMTPUTF8 (RFC 6531 section 3.5)."""


class TooManyRecipients(MailgateError):
    """More recipients than one transaction may have (RFC 5321 section 4.5.3.1.10)."""


class NoSuchRecipient(MailgateError):
    """The domain is ours; the local part is nobody's."""


class NoSuchDomain(NoSuchRecipient):
    """No account receives mail for this domain."""


class OverQuota(MailgateError):
    """The maildrop would grow past its quota."""


class MessageTooLarge(MailgateError):
    """The message is longer than the configured limit."""


class MessageMalformed(MailgateError):
    """Content that LMTP may not carry: a bare CR or a NUL (RFC 5321 section 2.3.8)."""


class MailLoop(MailgateError):
    """More Received fields than a message collects on an honest way (RFC 5321 section 6.3)."""


# Accounts and configuration ---------------------------------------------------------------


class NoSuchAccount(MailgateError):
    """No account has this name."""


class NoSuchEntry(NoSuchAccount):
    """The account is there, but has no such address, domain or app password."""


class AccountConflict(MailgateError):
    """A name, address, domain or label that is taken already, or an ill-formed one."""


class ConfigurationError(MailgateError):
    """Everything that is wrong with a configuration: `problems`, each with its full path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
