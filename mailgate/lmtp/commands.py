"""The command table of LMTP: grammar, states and what LHLO announces, in one place (RFC 2033, 5321).

The row that accepts a verb or a parameter also announces it, so the two cannot drift. HELO and EHLO
have no row: they must not succeed (RFC 2033 section 4.1).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from mailgate.errors import BadArguments, BadCommand, BadSequence, UnknownParameter
from mailgate.lmtp.paths import read_forward_path, read_reverse_path
from mailgate.lmtp.policy import LmtpPolicy


class State(enum.IntFlag):
    """Where a conversation stands; flags, so that a row can name several."""

    GREETED = 1         # LHLO is yet to come
    READY = 2           # between transactions
    SENDER = 4          # MAIL was accepted, and no RCPT yet
    RECIPIENTS = 8      # at least one RCPT was accepted
    CHUNKS = 16         # a BDAT came: only more of it may follow (RFC 3030 section 2)
    OVER = 32           # nothing is read any more


class Argument(enum.Enum):
    """Whether a verb stands alone."""

    NONE = enum.auto()
    MAYBE = enum.auto()
    NEEDED = enum.auto()


Word = Callable[[LmtpPolicy], bytes | None]   # of the LHLO reply; None: not offered


class Rule(NamedTuple):
    """How a verb is written, where it has its place, and who carries it out."""

    method: str             # of Session
    states: State
    argument: Argument = Argument.NONE
    word: bytes | None = None


_ANY = State.GREETED | State.READY | State.SENDER | State.RECIPIENTS | State.CHUNKS

RULES: Mapping[bytes, Rule] = {
    b"LHLO": Rule("on_lhlo", _ANY, Argument.NEEDED),
    b"MAIL": Rule("on_mail", State.READY, Argument.NEEDED),
    b"RCPT": Rule("on_rcpt", State.SENDER | State.RECIPIENTS, Argument.NEEDED),
    b"DATA": Rule("on_data", State.RECIPIENTS),
    # In any state: its octets follow whatever we think of it (RFC 3030 section 2).
    b"BDAT": Rule("on_bdat", _ANY, Argument.MAYBE, word=b"CHUNKING"),
    b"STARTTLS": Rule("on_starttls", State.GREETED | State.READY, word=b"STARTTLS"),     # RFC 3207
    b"RSET": Rule("on_rset", _ANY),
    b"NOOP": Rule("on_noop", _ANY, Argument.MAYBE),
    b"VRFY": Rule("on_vrfy", _ANY, Argument.NEEDED),
    b"HELP": Rule("on_help", _ANY, Argument.MAYBE),
    b"QUIT": Rule("on_quit", _ANY),
}


class MailOptions(NamedTuple):
    """The parameters of one MAIL."""

    size_octets: int = 0    # what the client expects (RFC 1870 section 6); 0: it did not say
    utf8: bool = False


class Parameter(NamedTuple):
    """A parameter of MAIL: its values, and the word that offers it."""

    values: re.Pattern[bytes] | None    # None: it has no value
    word: Word


PARAMETERS: Mapping[bytes, Parameter] = {
    b"BODY": Parameter(re.compile(rb"7BIT|8BITMIME", re.IGNORECASE), lambda policy: b"8BITMIME"),
    b"SMTPUTF8": Parameter(None, lambda policy: b"SMTPUTF8" if policy.utf8 else None),
    b"SIZE": Parameter(re.compile(rb"[0-9]{1,20}"), lambda policy: b"SIZE %d" % policy.size_octets),
}

# Words of the LHLO reply that belong to no verb and no parameter.
WORDS = (b"PIPELINING", b"ENHANCEDSTATUSCODES")

_CHUNK = re.compile(rb"([0-9]{1,20})( +LAST)?", re.IGNORECASE)
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\xff]+))?")
_CLIENT = re.compile(rb"[!-~]+")


def extensions(policy: LmtpPolicy, *, can_start_tls: bool = False) -> list[bytes]:
    """Return the extensions that LHLO announces."""
    offered = [row.word(policy) for row in PARAMETERS.values()]
    verbs = [row.word for verb, row in RULES.items() if can_start_tls or verb != b"STARTTLS"]
    return [word for word in (*WORDS, *verbs, *offered) if word is not None]


def read_command(line: bytes, state: State) -> tuple[Rule, bytes]:
    """Return the verb's rule and its argument, blanks at the end removed. Raises: BadCommand."""
    verb, _, argument = line.rstrip(b" ").partition(b" ")
    rule = RULES.get(verb.upper())
    if rule is None:
        raise BadCommand(f"unknown verb {verb!r}")
    if not rule.states & state:
        raise BadSequence(f"{verb!r} in {state.name}")
    argument = argument.lstrip(b" ")
    if rule.argument is (Argument.NONE if argument else Argument.NEEDED):
        raise BadArguments(f"{verb!r} with {argument!r}")
    return rule, argument


def read_client_name(argument: bytes) -> bytes:
    """Return the name of LHLO. Names are not checked further, as nothing depends on them.

    Raises: BadArguments for more than one word or what is not printable ASCII.
    """
    if not _CLIENT.fullmatch(argument):
        raise BadArguments("LHLO needs a domain or an address literal")
    return argument


def read_mail(argument: bytes, policy: LmtpPolicy) -> tuple[bytes, MailOptions]:
    """Return the reverse-path and the options of a MAIL.

    Raises: BadArguments, BadAddress, UnknownParameter.
    """
    sender, rest = read_reverse_path(_after(b"FROM:", argument))
    size_octets, utf8 = 0, False
    for name, value in _parameters(rest, policy).items():
        if name == b"SIZE":
            size_octets = int(value)
        elif name == b"SMTPUTF8":
            utf8 = True
    return sender, MailOptions(size_octets, utf8)


def read_rcpt(argument: bytes) -> bytes:
    """Return the forward-path of a RCPT. Raises: BadArguments, BadAddress, UnknownParameter."""
    recipient, rest = read_forward_path(_after(b"TO:", argument))
    for word in rest.split():
        if not _PARAMETER.fullmatch(word):
            raise BadArguments(f"{word!r} is no parameter")
        raise UnknownParameter(f"RCPT takes no {word!r}")
    return recipient


def read_chunk(argument: bytes) -> tuple[int, bool]:
    """Return the octets of a BDAT, and whether it is the last. Raises: BadArguments."""
    found = _CHUNK.fullmatch(argument)
    if found is None:
        raise BadArguments(f"BDAT with {argument!r}")
    return int(found[1]), found[2] is not None


def _after(keyword: bytes, argument: bytes) -> bytes:
    if argument[:len(keyword)].upper() != keyword:
        raise BadArguments(f"{keyword!r} is missing")
    return argument[len(keyword):]


def _parameters(text: bytes, policy: LmtpPolicy) -> dict[bytes, bytes]:
    """Return what MAIL's parameters say, by name in upper case; a missing value is empty."""
    given: dict[bytes, bytes] = {}
    for word in text.split():
        found = _PARAMETER.fullmatch(word)
        if found is None:
            raise BadArguments(f"{word!r} is no parameter")
        name = found[1].upper()
        row = PARAMETERS.get(name)
        if row is None or row.word(policy) is None:
            raise UnknownParameter(f"MAIL takes no {word!r}")
        if name in given or (row.values is None) != (found[2] is None):
            raise BadArguments(f"{word!r} twice, or with a value missing or too many")
        if row.values is not None and not row.values.fullmatch(found[2]):
            # A BODY of another kind was not offered; a SIZE of another form is a mistake.
            raise UnknownParameter(f"{word!r}") if name == b"BODY" else BadArguments(f"{word!r}")
        given[name] = found[2] or b""
    return given
