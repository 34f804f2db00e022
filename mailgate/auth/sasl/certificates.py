"""EXTERNAL: the client's certificate has said who it is (RFC 4422 appendix A)."""

from __future__ import annotations

from mailgate.auth.sasl import Attempt, Challenge, Facts, NamedClaim, Step, text_of
from mailgate.errors import BadExchange, LoginRefused


class External:
    """EXTERNAL: the response is the name to act as, or empty for the certificate's own."""

    def __init__(self, facts: Facts) -> None:
        self._identities = facts.identities

    def step(self, response: bytes | None) -> Step:
        """Take the one message of the mechanism."""
        if response is None:
            return Challenge(b"")
        if not self._identities:
            raise BadExchange("no certificate says who this is")
        text_of(response)
        name = response or self._identities[0]
        if name not in self._identities:
            raise LoginRefused("the certificate stands for somebody else")
        return Attempt(NamedClaim(name, "certificate"))
