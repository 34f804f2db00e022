"""SASL exchanges on the server's side, without I/O (RFC 4422; the POP3 profile is RFC 5034).

A mechanism is a row of `MECHANISMS`; an exchange is asked for its next `step` with each response of
the client and says what to send or what the client claims to be. It never decides whether a claim
is true: that is the checkers' work. Nothing here grows: the line limit of the conversation bounds it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, Union

from mailgate.errors import BadExchange, LoginRefused

_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")


class PasswordClaim(NamedTuple):
    """A name and a password in clear, as octets; from USER and PASS too."""

    name: bytes
    password: bytes

    def __repr__(self) -> str:
        return f"PasswordClaim({self.name!r}, ...)"


class Challenge(NamedTuple):
    """Send this (before base64) and call `step` with what the client answers."""

    data: bytes


class Attempt(NamedTuple):
    """The exchange is over as far as the mechanism knows; let a checker judge the claim."""

    claim: PasswordClaim


Step = Union[Challenge, Attempt]


class Exchange(Protocol):
    """One run of a mechanism."""

    def step(self, response: bytes | None) -> Step:
        """Take the client's response, None at the start when there was no initial response.

        Raises: BadExchange for a malformed response, LoginRefused for one that can never be granted.
        """


class Mechanism(NamedTuple):
    """How a mechanism is announced and begun."""

    begin: Callable[[], Exchange]
    plaintext: bool              # shows the password to who listens: never without protection
    server_first: bool = False   # an initial response is then an error (RFC 5034 section 4)


class Plain:
    """PLAIN: `[authzid] NUL authcid NUL password` in UTF-8 (RFC 4616)."""

    def step(self, response: bytes | None) -> Step:
        """Take the one message of the mechanism; an empty challenge asks for it."""
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise BadExchange("PLAIN needs two NULs")
        authzid, authcid, password = parts
        if not authcid or not password:
            raise BadExchange("PLAIN with an empty name or password")
        try:
            response.decode("utf-8")
        except UnicodeDecodeError as undecodable:
            raise BadExchange("PLAIN is not UTF-8") from undecodable
        if authzid not in (b"", authcid):
            raise LoginRefused("acting as somebody else is not permitted")
        return Attempt(PasswordClaim(authcid, password))


MECHANISMS: Mapping[bytes, Mechanism] = {b"PLAIN": Mechanism(Plain, plaintext=True)}


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
