"""Clients that come by a proxy: what a connection is told of them, and what it must not take them for."""

from __future__ import annotations

from typing import Any, NamedTuple

from twisted.internet.interfaces import IAddress, ISSLTransport
from zope.interface import implementer


@implementer(IAddress)
class Relayed(NamedTuple):
    """A client's address by the word of a proxy that is trusted: what `getPeer` returns for it.

    It is the proxy's own where the proxy does not tell. It is never this machine's, whatever it looks
    like: between client and proxy lies what nobody here knows.
    """

    host: str | None        # None: of a proxy at a unix socket
    port: int = 0
    tls: str = ""           # the TLS that the client speaks to the proxy, where that counts; empty: none

    def itself(self) -> Relayed:
        """Return the address: the `getPeer` of a transport."""
        return self


def is_relayed(transport: Any) -> bool:
    """Whether the client came by a proxy that said so."""
    return isinstance(transport.getPeer(), Relayed)


def is_secure(transport: Any) -> bool:
    """Whether the client is inside TLS: ours, or its proxy's, where that counts."""
    if ISSLTransport.providedBy(transport):
        return True
    peer = transport.getPeer()
    return isinstance(peer, Relayed) and bool(peer.tls)
