"""The command table of POP3: grammar, states and CAPA words in one place (RFC 1939, 2449, 5034).

The row that accepts a verb also announces it, so the two cannot drift. A row whose `when` says no
is no command on this connection, and is not announced.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, Union

from mailgate.pop3.policy import Policy


class State(enum.IntFlag):
    """RFC 1939 sections 4, 5 and 6; flags, so that a row can name several."""

    AUTHORIZATION = 1
    TRANSACTION = 2
    UPDATE = 4


class Offering(Protocol):
    """What a row may ask of the connection that it is announced on."""

    policy: Policy
    state: State

    @property
    def plaintext_allowed(self) -> bool:
        """Whether passwords in clear are taken here."""

    @property
    def can_start_tls(self) -> bool:
        """Whether STLS would work: there is a certificate, and no TLS yet."""

    @property
    def timestamp(self) -> bytes | None:
        """What the greeting gave for APOP, if it did."""

    def mechanism_names(self) -> list[bytes]:
        """The SASL mechanisms that work here."""


Word = Union[bytes, Callable[[Offering], Union[bytes, None]]]
When = Callable[[Offering], bool]


class Rule(NamedTuple):
    """How a verb is written and who carries it out."""

    method: str                  # of Session
    states: State
    least: int = 0               # arguments
    most: int = 0
    tail: bool = False           # the rest of the line is one argument, blanks kept
    capa: Word | None = None     # its word in CAPA, when it has one
    when: When | None = None
    kept: bool = False           # while nothing is marked, the answer to a line is the same in all sessions


def _user_word(session: Offering) -> bytes | None:
    return b"USER" if session.plaintext_allowed else None


def _stls_word(session: Offering) -> bytes | None:
    return b"STLS" if session.state is State.AUTHORIZATION else None


def _sasl_word(session: Offering) -> bytes | None:
    names = session.mechanism_names()
    return b"SASL " + b" ".join(names) if names else None


def _login_delay_word(session: Offering) -> bytes | None:
    seconds = session.policy.login_delay_seconds
    return b"LOGIN-DELAY %d" % seconds if seconds else None


def _expire_word(session: Offering) -> bytes | None:
    return b"EXPIRE " + session.policy.expire if session.policy.expire else None


_A, _T = State.AUTHORIZATION, State.TRANSACTION

RULES: Mapping[bytes, Rule] = {
    b"USER": Rule("on_user", _A, 1, 1, tail=True, capa=_user_word),
    b"PASS": Rule("on_pass", _A, 1, 1, tail=True),    # blanks may belong to it (RFC 1939 section 7)
    b"AUTH": Rule("on_auth", _A, 0, 1, tail=True, capa=_sasl_word),
    b"APOP": Rule("on_apop", _A, 1, 1, tail=True, when=lambda session: session.timestamp is not None),
    # announced only while it is permitted, unlike all others (RFC 2595 section 4)
    b"STLS": Rule("on_stls", _A, capa=_stls_word, when=lambda session: session.can_start_tls),
    b"CAPA": Rule("on_capa", _A | _T),
    b"STAT": Rule("on_stat", _T, kept=True),
    b"LIST": Rule("on_list", _T, 0, 1, kept=True),
    b"UIDL": Rule("on_uidl", _T, 0, 1, capa=b"UIDL", kept=True),
    b"RETR": Rule("on_retr", _T, 1, 1),
    b"TOP": Rule("on_top", _T, 2, 2, capa=b"TOP"),
    b"DELE": Rule("on_dele", _T, 1, 1),
    b"NOOP": Rule("on_noop", _T, kept=True),
    b"RSET": Rule("on_rset", _T),
    b"LAST": Rule("on_last", _T, when=lambda session: session.policy.last),
    b"*ENV": Rule("on_env", _T, 1, 1, capa=b"X-SDPS", when=lambda session: session.policy.sdps),
    b"QUIT": Rule("on_quit", _A | _T),
}

# Words of CAPA that belong to no verb.
WORDS: tuple[Word, ...] = (
    b"RESP-CODES",
    b"AUTH-RESP-CODE",
    b"PIPELINING",
    _login_delay_word,
    _expire_word,
    lambda session: b"IMPLEMENTATION " + session.policy.implementation,
)
