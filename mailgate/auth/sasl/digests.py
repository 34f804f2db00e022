"""CRAM-MD5 (RFC 2195) and the challenge that it shares with APOP (RFC 1939 section 7)."""

from __future__ import annotations

import re

from mailgate.auth.sasl import Attempt, Challenge, DigestClaim, Facts, Step
from mailgate.errors import BadArguments, BadExchange

_RESPONSE = re.compile(rb"(?P<name>[^\0]+) (?P<digest>[0-9A-Fa-f]{32})", re.DOTALL)   # blanks in the name


def message_id(facts: Facts) -> bytes:
    """Return a fresh challenge in the form of a msg-id: clients check that it is one."""
    return b"<%b@%b>" % (facts.random(16).hex().encode("ascii"), facts.hostname)


class CramMd5:
    """CRAM-MD5: the client keys an MD5 of our challenge with its password."""

    def __init__(self, facts: Facts) -> None:
        self._challenge = message_id(facts)

    def step(self, response: bytes | None) -> Step:
        """Challenge; then take `name SP digest`."""
        if response is None:
            return Challenge(self._challenge)
        found = _RESPONSE.fullmatch(response)
        if found is None:
            raise BadExchange("not a name and a digest")
        return Attempt(DigestClaim("CRAM-MD5", found["name"], self._challenge, found["digest"].lower()))


def read_apop(arguments: bytes, timestamp: bytes) -> DigestClaim:
    """Return the claim of `APOP name digest`; the name may hold blanks. Raises: BadArguments."""
    found = _RESPONSE.fullmatch(arguments)
    if found is None:
        raise BadArguments("not a name and a digest")
    return DigestClaim("APOP", found["name"], timestamp, found["digest"].lower())
