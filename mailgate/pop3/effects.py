"""What a conversation wants done: the shell around it carries it out.

A turn is octets to send and at most one thing to do after them. An ask's result, or the exception
that ended it, goes to `Session.outcome`; `CLOSE` ends the conversation.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, Union

from mailgate.auth.sasl import Claim, Consult
from mailgate.errors import LoginRefused


class LogIn(NamedTuple):
    """Check the claim and open the maildrop. Result: an IMaildrop."""

    claim: Claim


class Refuse(NamedTuple):
    """A login that no checker need judge: it fails at the time at which any other fails.

    Result: the fault.
    """

    fault: LoginRefused
    name: bytes = b""


class Fetch(NamedTuple):
    """Result: content in wire form, whole (bytes) or as a stream (IMessageStream)."""

    number: int
    body_lines: int | None = None


class Pour(NamedTuple):
    """Send a stream to its end. Result: None; a fault ends the connection, since a reply has begun."""

    stream: object


class ShowEnvelope(NamedTuple):
    """Result: the Envelope of a message."""

    number: int


class Commit(NamedTuple):
    """Remove the marked messages and release the maildrop. Result: None."""

    marked: frozenset[int]


class Close(enum.Enum):
    """End the connection once what was sent is out."""

    CLOSE = enum.auto()


class StartTLS(enum.Enum):
    """Begin TLS once what was sent is out, and a new conversation inside it (RFC 2595 section 4)."""

    START_TLS = enum.auto()


CLOSE = Close.CLOSE
START_TLS = StartTLS.START_TLS
Ask = Union[LogIn, Consult, Refuse, Fetch, Pour, ShowEnvelope, Commit]


class Turn(NamedTuple):
    """Send the octets, then do the other thing, if there is one."""

    octets: bytes
    then: Union[Ask, Close, StartTLS, None] = None


NOTHING = Turn(b"")
