"""SASL exchanges on the server's side, without I/O (RFC 4422; the POP3 profile is RFC 5034).

A mechanism is a row of `mailgate.auth.sasl.mechanisms`; an exchange is asked for its next `step` with
each response of the client and says what to send, what it must know, or what the client claims to
be. It never decides who may log in: that is the checkers' work. Nothing here grows: the line limit
of the conversation bounds it.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, Union

from mailgate.errors import BadExchange
from mailgate.principals import Principal

_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")


# What a client claims -------------------------------------------------------------------------


class PasswordClaim(NamedTuple):
    """A name and a password in clear, as octets; from USER and PASS too."""

    name: bytes
    password: bytes

    def __repr__(self) -> str:
        return f"PasswordClaim({self.name!r}, ...)"


class DigestClaim(NamedTuple):
    """A name and a digest over password and challenge: only who knows the password can judge it.

    `kind` is "CRAM-MD5" (HMAC-MD5, RFC 2195) or "APOP" (MD5, RFC 1939); the digest is in
    lower-case hexadecimal.
    """

    kind: str
    name: bytes
    challenge: bytes
    digest: bytes


class ProvenClaim(NamedTuple):
    """A name that the exchange has proven against a ScramSecret; `vouch` is that secret's."""

    name: bytes
    vouch: Any


class NamedClaim(NamedTuple):
    """A name that something outside the exchange has proven: the client's certificate."""

    name: bytes
    method: str


class TokenClaim(NamedTuple):
    """A bearer token, and the name that it is to be good for (empty: whatever the token says)."""

    name: bytes
    token: bytes

    def __repr__(self) -> str:
        return f"TokenClaim({self.name!r}, ...)"


class TicketClaim(NamedTuple):
    """A Kerberos principal that a ticket has proven, and whom it asks to act as: empty for itself."""

    principal: Principal
    acting_as: bytes

    @property
    def name(self) -> bytes:
        """The name asked for, or the principal's own."""
        return self.acting_as or str(self.principal).encode("utf-8", "surrogateescape")


Claim = Union[PasswordClaim, DigestClaim, ProvenClaim, NamedClaim, TokenClaim, TicketClaim]


# What an exchange wants -----------------------------------------------------------------------


class Challenge(NamedTuple):
    """Send this (before base64) and call `step` with what the client answers."""

    data: bytes


class ScramQuestion(NamedTuple):
    """Which ScramSecret is kept for this login name? There is always one: an unknown name's is invented."""

    scheme: str             # "SCRAM-SHA-256" ...
    name: bytes


class AcceptQuestion(NamedTuple):
    """Is this token of a GSS-API client good (RFC 2743 section 2.2.2)? Answered by Accepting or Unproven.

    `context` is the last answer's, None for the first token. `binding` is what the client may have
    bound itself to of the channel, None for nothing. `sealed` gets wrapped for the client at the end.
    """

    token: bytes
    context: Any
    binding: bytes | None
    sealed: bytes


class UnwrapQuestion(NamedTuple):
    """What has the client wrapped in this message (section 2.3.4)? Answered by octets or Unproven."""

    message: bytes
    context: Any


class Accepting(NamedTuple):
    """A good token. `reply` goes to the client if it is not empty; with `principal` the context stands."""

    context: Any
    reply: bytes
    principal: Principal | None = None
    sealed: bytes = b""


class Unproven(NamedTuple):
    """A token or message that proves nothing; the reason is for the log."""

    reason: str


TicketQuestion = Union[AcceptQuestion, UnwrapQuestion]


class Consult(NamedTuple):
    """Find the answer, and give it to `Consulting.answered`."""

    question: ScramQuestion | TicketQuestion


class Attempt(NamedTuple):
    """The exchange is over as far as the mechanism knows; let a checker judge the claim.

    With `refusal`, a refused claim is first told by this challenge; whatever the client answers to
    it ends the exchange (RFC 7628 section 3.2.3).
    """

    claim: Claim
    refusal: bytes | None = None


Step = Union[Challenge, Consult, Attempt]


class Exchange(Protocol):
    """One run of a mechanism."""

    def step(self, response: bytes | None) -> Step:
        """Take the client's response, None at the start when there was no initial response.

        Raises: BadExchange for a malformed response, LoginRefused for one that can never be granted.
        """


class Consulting(Exchange, Protocol):
    """An exchange that has to look something up between two steps."""

    def answered(self, answer: Any) -> Step:
        """Take the answer to the question of a Consult. Raises: as `step`."""


# Where an exchange takes place ----------------------------------------------------------------


class Facts(NamedTuple):
    """What is true of a connection when an exchange begins."""

    bindings: Mapping[bytes, bytes] = {}    # channel binding data by type (RFC 5056), strongest first
    identities: tuple[bytes, ...] = ()      # login names that the client's certificate stands for
    hostname: bytes = b"localhost"          # ours
    server_name: bytes | None = None        # that the client asked for in TLS (SNI)
    offered: tuple[bytes, ...] = ()         # mechanisms announced on this connection
    random: Callable[[int], bytes] = secrets.token_bytes


class Mechanism(NamedTuple):
    """How a mechanism is announced and begun.

    `needs` is what must be kept for a user, or brought by the client, for it to work: "password",
    "token", "certificate", "ticket", or the scheme of a verifier.
    """

    begin: Callable[[Facts], Exchange]
    plaintext: bool              # shows what is worth stealing to who listens: never without protection
    server_first: bool = False   # an initial response is then an error (RFC 5034 section 4)
    needs: str = "password"
    binds: bool = False          # to the TLS channel: works only once on it (RFC 9266 section 4.1)
    unasked: bool = True         # offered where no setting names it


def no_facts() -> Facts:
    """Return what is known of a connection that nothing is known of."""
    return Facts()


def decode(text: bytes) -> bytes:
    """Return the octets of a base64 line; strictly, nothing is skipped (RFC 5034 section 4).

    Raises: BadExchange.
    """
    if len(text) % 4 or not _BASE64.fullmatch(text):
        raise BadExchange("not base64")
    return base64.b64decode(text)


def encode(data: bytes) -> bytes:
    """Return the base64 of a challenge, in one line."""
    return base64.b64encode(data)


def text_of(octets: bytes) -> str:
    """Return UTF-8 text without NUL. Raises: BadExchange."""
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError as undecodable:
        raise BadExchange("not UTF-8") from undecodable
    if "\0" in text:
        raise BadExchange("a NUL")
    return text
