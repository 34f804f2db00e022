"""What a client claims to be, as `twisted.cred` credentials, and the one way of refusing it."""

from __future__ import annotations

import hmac

from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from zope.interface import implementer

from mailgate.errors import LoginRefused
from mailgate.names import MAX_DOMAIN_OCTETS, MAX_LOCAL_OCTETS

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
