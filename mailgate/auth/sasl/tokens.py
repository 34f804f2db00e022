"""OAUTHBEARER (RFC 7628) and XOAUTH2, its forerunner: a bearer token instead of a password."""

from __future__ import annotations

import json
import re

from mailgate.auth.sasl import Attempt, Challenge, Facts, Step, TokenClaim, text_of
from mailgate.errors import BadExchange, LoginRefused

_GS2 = re.compile(rb"(?:n|y|p=[A-Za-z0-9.-]+),(?:a=([^,]*))?,")
_PAIR = re.compile(rb"([A-Za-z]+)=([\x09\x0a\x0d\x20-\x7e\x80-\xff]*)", re.DOTALL)
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")

_ADDRESS = re.compile(rb"[0-9.]+|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?")

INVALID_TOKEN = json.dumps({"status": "invalid_token"}).encode()                # RFC 7628 section 3.2.2
XOAUTH2_INVALID = json.dumps({"status": "400", "schemes": "Bearer"}).encode()   # as its inventors answer


class OAuthBearer:
    """OAUTHBEARER: `n,a=name,` and pairs between control-A, `auth` among them."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def step(self, response: bytes | None) -> Step:
        """Take the one message of the mechanism; a refusal is told in JSON."""
        if response is None:
            return Challenge(b"")
        text_of(response)
        head, mark, rest = response.partition(b"\1")
        header = _GS2.fullmatch(head)
        if header is None or not mark:
            raise BadExchange("no GS2 header")
        if head.startswith(b"p="):
            raise BadExchange("channel binding where none is offered")
        pairs = _pairs(rest)
        self._check_place(pairs)
        return Attempt(TokenClaim(_saslname(header[1] or b""), _token(pairs)), INVALID_TOKEN)

    def _check_place(self, pairs: dict[bytes, bytes]) -> None:
        """Refuse a message that was meant for another server (section 3.1)."""
        host, port, asked = pairs.get(b"host", b""), pairs.get(b"port"), self._facts.server_name
        if port is not None and (not port.isdigit() or len(port) > 5):
            raise BadExchange("a port that is no number")
        named = host and not _ADDRESS.fullmatch(host)      # who was told an address gives that: mpop does
        if named and asked and host.lower() != asked.lower():
            raise LoginRefused("a message for another host than TLS was begun with")


class XOAuth2:
    """XOAUTH2: `user=name ^A auth=Bearer token ^A ^A`."""

    def step(self, response: bytes | None) -> Step:
        """Take the one message of the mechanism; a refusal is told in JSON."""
        if response is None:
            return Challenge(b"")
        text_of(response)
        pairs = _pairs(response)
        if not pairs.get(b"user"):
            raise BadExchange("no user")
        return Attempt(TokenClaim(pairs[b"user"], _token(pairs)), XOAUTH2_INVALID)


def _pairs(octets: bytes) -> dict[bytes, bytes]:
    """Return `key=value^A ... ^A` as a mapping. Raises: BadExchange."""
    if not octets.endswith(b"\1\1"):
        raise BadExchange("the message is not ended")
    pairs: dict[bytes, bytes] = {}
    for one in octets[:-2].split(b"\1"):
        found = _PAIR.fullmatch(one)
        if found is None or found[1] in pairs:
            raise BadExchange("not a key and a value, or a key that was given before")
        pairs[found[1]] = found[2]
    return pairs


def _token(pairs: dict[bytes, bytes]) -> bytes:
    """Return the token; empty where a client only asks what is wanted (section 4.3)."""
    given = pairs.get(b"auth", b"")
    if not given:
        return b""
    found = _BEARER.fullmatch(given)
    if found is None:
        raise BadExchange("no bearer token")
    return found[1]


def _saslname(name: bytes) -> bytes:
    if re.search(rb"=(?!2C|3D)", name):
        raise BadExchange("a name with a bare =")
    return name.replace(b"=2C", b",").replace(b"=3D", b"=")
