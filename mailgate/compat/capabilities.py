"""What the stand-in for Twisted's POP3 announces: its own words, and those of an IServerFactoryPOP3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from twisted.mail.interfaces import IServerFactoryPOP3

WORDS = (b"TOP", b"USER", b"UIDL", b"PIPELINING", b"RESP-CODES")

log = Logger()


def capabilities(factory: Any, mailbox: Any) -> list[bytes]:
    """Return the lines of CAPA (RFC 2449); `mailbox` is None before the login."""
    lines = list(WORDS)
    if IServerFactoryPOP3.providedBy(factory):
        name = _said(factory.cap_IMPLEMENTATION)
        if name:
            lines.append(b"IMPLEMENTATION " + _octets(name[0]))
        expire = _said(factory.cap_EXPIRE)
        if expire:
            lines.append(b"EXPIRE " + _of_user(
                b"NEVER" if expire[0] is None else _octets(expire[0]),
                factory.perUserExpiration, mailbox, "messageExpiration"))
        delay = _said(factory.cap_LOGIN_DELAY)
        if delay:
            lines.append(b"LOGIN-DELAY " + _of_user(
                _octets(delay[0]), factory.perUserLoginDelay, mailbox, "loginDelay"))
    challengers = getattr(factory, "challengers", None)
    if challengers:
        lines.append(b"SASL " + b" ".join(challengers))
    return lines


def _of_user(general: bytes, per_user: Callable[[], bool], mailbox: Any, attribute: str) -> bytes:
    """Return an argument as it is for this user, or marked as depending on the user."""
    if not per_user():
        return general
    return general + b" USER" if mailbox is None else _octets(getattr(mailbox, attribute))


def _said(ask: Callable[[], Any]) -> tuple[Any, ...]:
    """Return what a factory says, or nothing: NotImplementedError is how it declines."""
    try:
        return (ask(),)
    except NotImplementedError:
        return ()
    except Exception:
        log.failure("a capability could not be asked for")
        return ()


def _octets(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8")
