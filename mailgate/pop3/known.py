"""POP3 with a client that has proven who it is before the greeting: USER chooses, PASS proves nothing.

KPOP's clients say USER and PASS with any text, their own name or nothing for a password; some of old
said a real one. It is dropped as it comes. There is no other way to log in.
"""

from __future__ import annotations

from mailgate.auth import sasl
from mailgate.errors import BadCommand
from mailgate.pop3.commands import RULES, Rule, State
from mailgate.pop3.effects import Turn
from mailgate.pop3.session import Session

_LOGINS = {b"AUTH", b"APOP"}

KNOWN_RULES = {
    **{verb: rule for verb, rule in RULES.items() if verb not in _LOGINS},
    b"USER": RULES[b"USER"]._replace(capa=b"USER"),
    b"PASS": Rule("on_pass", State.AUTHORIZATION, 0, 1, tail=True),
}


class KnownSession(Session):
    """A conversation whose PASS takes any text."""

    __slots__ = ()

    def on_pass(self, password: bytes = b"") -> Turn:
        """Log in as the client that is known, with the name of the USER just before."""
        name, self._name = self._name, None
        if name is None:
            raise BadCommand("PASS without USER")
        return self._log_in(sasl.PasswordClaim(name, b""))
