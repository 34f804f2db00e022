"""The server under test: where it is, how TLS is spoken, who logs in, how hard it may be pressed."""

from __future__ import annotations

import re
import ssl
from typing import NamedTuple

from mailgate.conformance.connection import Bounds, Reply


class Pace(NamedTuple):
    """How polite a run is."""

    bounds: Bounds = Bounds()
    pause_seconds: float = 0.02     # before each connection
    lock_seconds: float = 30.0      # how long a maildrop in use is waited for
    login_seconds: float = 45.0     # a refusal may be held back
    arrival_seconds: float = 30.0   # from a delivery until the message is seen
    total_seconds: float = 1800.0   # then what is left is skipped


class Target(NamedTuple):
    """What the command line says."""

    host: str
    port: int
    user: bytes
    password: bytes
    tls: str = "none"               # none, starttls, implicit
    ca_pem: str | None = None       # authorities to trust, else the system's
    tls_name: str | None = None     # in the certificate, else the host
    insecure: bool = False
    allow_delete: bool = False      # foreign mail may be removed
    pace: Pace = Pace()

    @property
    def name(self) -> str:
        """The name that the certificate should have."""
        return self.tls_name or self.host

    def context(self, *, verify: bool | None = None, at_most: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """Return a client's side of TLS; it verifies the server unless that was waived."""
        context = ssl.create_default_context(cadata=self.ca_pem)
        if not (not self.insecure if verify is None else verify):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if at_most is not None:     # an old one: only to see that it is refused
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = at_most
        return context


class Met(NamedTuple):
    """What the first conversations told of the server."""

    greeting: bytes
    before: dict[str, str] | None   # capabilities in AUTHORIZATION, as logins meet them; None without CAPA
    after: dict[str, str] | None    # in TRANSACTION
    by_sasl: bool                   # log in by AUTH PLAIN: USER is refused

    def has(self, word: str) -> bool:
        """Whether a capability is announced, in either state."""
        return any(word in listed for listed in (self.before, self.after) if listed)

    def argument(self, word: str) -> str:
        """What stands behind a capability's name."""
        return next((listed[word] for listed in (self.before, self.after) if listed and word in listed), "")


def capabilities(reply: Reply) -> dict[str, str] | None:
    """Return what a CAPA reply lists, names in capitals; None where it was refused."""
    if not reply.ok:
        return None
    pairs = [line.decode("latin-1").partition(" ") for line in reply.lines]
    return {name.upper(): rest for name, _, rest in pairs}


def is_busy(reply: Reply) -> bool:
    """Whether a refused login is worth trying again soon: a lock, a delay, an outage."""
    if reply.code in (b"IN-USE", b"LOGIN-DELAY", b"SYS/TEMP"):
        return True
    return not reply.code and bool(re.search(rb"lock|busy|in use|try again|already|wait", reply.text, re.I))
