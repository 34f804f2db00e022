"""GSSAPI: a Kerberos ticket instead of a password (RFC 4752).

Tokens go both ways until the client has proven its principal; then the server says what layers it has
for what follows, and the client chooses one and names whom it wants to act as. There are none here:
TLS is what protects a session.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

from mailgate.auth.sasl import (
    Accepting,
    AcceptQuestion,
    Attempt,
    Challenge,
    Consult,
    Facts,
    Step,
    TicketClaim,
    Unproven,
    UnwrapQuestion,
    text_of,
)
from mailgate.errors import BadExchange, LoginRefused
from mailgate.principals import Principal

MOST_TOKENS = 8             # of a client; Kerberos needs one, two in the DCE's style
NO_LAYER = 1                # RFC 4752 section 3.3
OFFER = bytes([NO_LAYER, 0, 0, 0])      # no layer, so no octets in it
_BINDING = b"tls-server-end-point"      # the one that clients of GSS-API bind to, Microsoft's above all


class Gssapi:
    """One run."""

    def __init__(self, facts: Facts) -> None:
        end_point = facts.bindings.get(_BINDING)
        self._binding = None if end_point is None else _BINDING + b":" + end_point    # RFC 5056 section 2.1
        self._phase: Callable[[bytes], Step] = self._token
        self._finish: Callable[[Any], Step] = self._accepted
        self._context: Any = None
        self._tokens = 0
        self._principal: Principal | None = None
        self._offer = b""

    @property
    def name(self) -> bytes:
        """Who it is, as far as that is proven: for the log."""
        return b"" if self._principal is None else TicketClaim(self._principal, b"").name

    def step(self, response: bytes | None) -> Step:
        """Take tokens, the empty answer to our last one, and the wrapped choice, in this order."""
        return Challenge(b"") if response is None else self._phase(response)

    def answered(self, answer: Any) -> Step:
        """Take what is behind the token or the wrapping. Raises: as `step`."""
        if isinstance(answer, Unproven):
            raise LoginRefused(answer.reason)
        return self._finish(answer)

    def _token(self, token: bytes) -> Step:
        self._tokens += 1
        if not token or self._tokens > MOST_TOKENS:
            raise BadExchange("an empty token, or too many of them")
        self._finish = self._accepted
        return Consult(AcceptQuestion(token, self._context, self._binding, OFFER))

    def _accepted(self, answer: Accepting) -> Step:
        self._context = answer.context
        if answer.principal is None:
            return Challenge(answer.reply)
        self._principal, self._offer = answer.principal, answer.sealed
        if answer.reply:
            self._phase = self._acknowledged
            return Challenge(answer.reply)
        return self._acknowledged(b"")

    def _acknowledged(self, message: bytes) -> Step:
        """Offer layers, once the client has found our token good: it answers with nothing (section 3.1)."""
        if message:
            raise BadExchange("an answer to the last token")
        self._phase = self._choice
        return Challenge(self._offer)

    def _choice(self, message: bytes) -> Step:
        self._finish = self._chosen
        return Consult(UnwrapQuestion(message, self._context))

    def _chosen(self, choice: bytes) -> Step:
        """Read the layer, the octets that it may have, and whom to act as (section 3.2)."""
        if len(choice) < len(OFFER):
            raise BadExchange("a choice that is too short")
        if choice[:len(OFFER)] != OFFER:
            raise LoginRefused(f"the client wants another security layer than none: {choice[:4].hex()}")
        acting_as = choice[len(OFFER):]
        if any(unicodedata.category(one) == "Cc" for one in text_of(acting_as)):
            raise BadExchange("a control character in the authorization identity")
        assert self._principal is not None, "the context stands"
        return Attempt(TicketClaim(self._principal, acting_as))
