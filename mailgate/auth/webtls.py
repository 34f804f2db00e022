"""TLS to services on the web."""

from __future__ import annotations

from typing import Any

from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from mailgate.auth.servertls import NamedServer


@implementer(IPolicyForHTTPS)
class NamedServers:
    """Trusts the system's authorities, and a server whose certificate names it."""

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        """Return what makes connections to a host."""
        return NamedServer(hostname.decode("ascii"))
