"""PLAIN and LOGIN: name and password as they are. Good inside TLS only."""

from __future__ import annotations

from mailgate.auth.sasl import Attempt, Challenge, PasswordClaim, Step
from mailgate.errors import BadExchange, LoginRefused


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


class Login:
    """LOGIN: name and password, each asked for. It has no standard; old Outlooks know nothing else."""

    def __init__(self) -> None:
        self._name: bytes | None = None

    def step(self, response: bytes | None) -> Step:
        """Take the name (also as initial response), then the password, in any charset."""
        if response is None:
            return Challenge(b"Username:")
        if b"\0" in response or not response:
            raise BadExchange("LOGIN with an empty answer, or a NUL in it")
        if self._name is None:
            self._name = response
            return Challenge(b"Password:")
        return Attempt(PasswordClaim(self._name, response))
