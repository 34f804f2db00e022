"""The log lines of refused logins, in a form that stays: fail2ban's filter in etc/ reads it.

In front of the client's address stands nothing that a client could choose; what it did choose stands
in quotes, on the same line, with every quote in it escaped.
"""

from __future__ import annotations

from twisted.logger import Logger

from mailgate.net.addresses import written
from mailgate.wire.shown import quoted, shown

NAME_CHARACTERS = 80       # of a login name in a log line

log = Logger("mailgate.login")


def tell_refused(peer: str | None, spoken: str, mechanism: str, name: bytes, reason: str) -> None:
    """Tell of a login that was refused. `spoken`: the protocol; `reason` is for whoever reads the log."""
    _tell("refused", peer, spoken, mechanism, name, reason)


def tell_put_off(peer: str | None, spoken: str, mechanism: str, name: bytes, reason: str) -> None:
    """Tell of a login that nobody judged: there were too many."""
    _tell("put off", peer, spoken, mechanism, name, reason)


def _tell(what: str, peer: str | None, spoken: str, mechanism: str, name: bytes, reason: str) -> None:
    log.info("login {what} for {peer} ({spoken}, {mechanism}) as {name}: {reason}", what=what,
             peer=written(peer), spoken=spoken, mechanism=mechanism, name=quoted(name, NAME_CHARACTERS),
             reason=shown(reason or "no reason was given"))
