"""What a client claims to be, as `twisted.cred` credentials, and the one way of refusing it."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, NamedTuple

from twisted.cred.credentials import ICredentials, IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from zope.interface import Attribute, implementer

from mailgate.auth import sasl
from mailgate.auth.kept import CramContexts
from mailgate.errors import LoginRefused
from mailgate.names import MAX_DOMAIN_OCTETS, MAX_LOCAL_OCTETS
from mailgate.principals import Principal

MAX_LOGIN_OCTETS = MAX_LOCAL_OCTETS + 1 + MAX_DOMAIN_OCTETS   # an address, the longest login name


class Refused(LoginRefused, UnauthorizedLogin):
    """LoginRefused for mailgate, UnauthorizedLogin for every other application of `twisted.cred`.

    The text is the same whatever was wrong, since other servers may send it; `reason` is for the log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("login refused")
        self.reason = reason


@implementer(IUsernamePassword)
class PasswordLogin:
    """A name and a password in clear, as the octets that the client sent."""

    __slots__ = ("username", "password", "peer")

    def __init__(self, username: bytes, password: bytes, peer: str | None = None) -> None:
        self.username = username
        self.password = password
        self.peer = peer        # address of the client's host, if there is one: fairness goes by it

    def checkPassword(self, password: bytes | str) -> bool:
        """Return whether this is the password, compared in constant time."""
        octets = password.encode("utf-8") if isinstance(password, str) else password
        return hmac.compare_digest(self.password, octets)

    def __repr__(self) -> str:
        return f"PasswordLogin({self.username!r}, peer={self.peer!r})"


def octets_of(credentials: IUsernamePassword) -> tuple[bytes, bytes]:
    """Return user name and password of anybody's IUsernamePassword as octets."""
    username, password = credentials.username, credentials.password
    return (username.encode("utf-8") if isinstance(username, str) else username,
            password.encode("utf-8") if isinstance(password, str) else password)


def login_name(username: bytes) -> str | None:
    """Return the login name as text; None if it is none: not UTF-8, a NUL in it, empty or too long."""
    if not username or len(username) > MAX_LOGIN_OCTETS or b"\0" in username:
        return None
    try:
        return username.decode("utf-8")
    except UnicodeDecodeError:
        return None


# Other claims than a password ------------------------------------------------------------------


class Vouch(NamedTuple):
    """What a checker that gave out a ScramSecret puts into it: itself, and what it will answer with."""

    checker: Any
    avatar_id: Any


class IProvenLogin(ICredentials):
    """A name that an exchange has proven against a checker's own ScramSecret."""

    username = Attribute("octets, as the client sent them")
    vouch = Attribute("the secret's Vouch; no checker but the one that it names takes the login")


class INamedLogin(ICredentials):
    """A name that was proven outside: by the client's certificate, say. No secret is left to check."""

    username = Attribute("octets")
    method = Attribute("str: what proved it")


class ITokenLogin(ICredentials):
    """A bearer token (RFC 6750), and the name that it is to be good for."""

    username = Attribute("octets; empty for whatever name the token says")
    token = Attribute("octets; empty where a client sent none")


class IKerberosPrincipal(ICredentials):
    """A client whose ticket was found good; it asks for a maildrop by a login name."""

    principal = Attribute("mailgate.principals.Principal: who the client has proven to be")
    username = Attribute("the login name that it chose, as octets; or the principal's own name")


@implementer(IProvenLogin)
class ProvenLogin:
    """See IProvenLogin."""

    __slots__ = ("username", "vouch")

    def __init__(self, username: bytes, vouch: Vouch) -> None:
        self.username = username
        self.vouch = vouch


@implementer(INamedLogin)
class NamedLogin:
    """See INamedLogin."""

    __slots__ = ("username", "method")

    def __init__(self, username: bytes, method: str) -> None:
        self.username = username
        self.method = method


@implementer(ITokenLogin)
class TokenLogin:
    """See ITokenLogin."""

    __slots__ = ("username", "token", "peer")

    def __init__(self, username: bytes, token: bytes, peer: str | None = None) -> None:
        self.username = username
        self.token = token
        self.peer = peer

    def __repr__(self) -> str:
        return f"TokenLogin({self.username!r}, peer={self.peer!r})"


@implementer(IKerberosPrincipal)
class PrincipalLogin:
    """See IKerberosPrincipal."""

    __slots__ = ("principal", "username", "peer")

    def __init__(self, principal: Principal, username: bytes, peer: str | None = None) -> None:
        self.principal = principal
        self.username = username
        self.peer = peer        # address of the client's host, if there is one

    def __repr__(self) -> str:
        return f"PrincipalLogin({str(self.principal)!r}, {self.username!r}, peer={self.peer!r})"


@implementer(IUsernameHashedPassword)
class DigestLogin:
    """The digest of a challenge and the password, by CRAM-MD5 or APOP: for whoever knows passwords."""

    __slots__ = ("username", "peer", "_claim")

    def __init__(self, claim: sasl.DigestClaim, peer: str | None = None) -> None:
        self.username = claim.name
        self.peer = peer
        self._claim = claim

    def checkPassword(self, password: bytes | str) -> bool:
        """Return whether the digest was made with this password, compared in constant time."""
        octets = password.encode("utf-8") if isinstance(password, str) else password
        _, _, challenge, digest = self._claim
        if self._claim.kind == "APOP":
            made = hashlib.md5(challenge + octets, usedforsecurity=False).hexdigest()
        else:
            made = hmac.new(octets, challenge, "md5").hexdigest()
        return hmac.compare_digest(made.encode("ascii"), digest)

    def checkContexts(self, contexts: CramContexts) -> bool:
        """Return the same for the password's HMAC contexts, which APOP has no use for."""
        _, _, challenge, digest = self._claim
        return self._claim.kind == "CRAM-MD5" and hmac.compare_digest(contexts.hexdigest(challenge), digest)

    def __repr__(self) -> str:
        return f"DigestLogin({self.username!r}, peer={self.peer!r})"


def credentials_of(claim: sasl.Claim, peer: str | None) -> Any:
    """Return a claim as `twisted.cred` credentials."""
    if isinstance(claim, sasl.PasswordClaim):
        return PasswordLogin(claim.name, claim.password, peer)
    if isinstance(claim, sasl.DigestClaim):
        return DigestLogin(claim, peer)
    if isinstance(claim, sasl.ProvenClaim):
        return ProvenLogin(claim.name, claim.vouch)
    if isinstance(claim, sasl.TokenClaim):
        return TokenLogin(claim.name, claim.token, peer)
    if isinstance(claim, sasl.TicketClaim):
        return PrincipalLogin(claim.principal, claim.name, peer)
    return NamedLogin(claim.name, claim.method)
