"""The TLS of a harness's listener, done right or wrong as the faults say."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from mailgate.config import ListenSection
from mailgate.net.certificates import read_identity
from mailgate.net.tls import Material, ServerTLS


@implementer(IOpenSSLServerConnectionCreator)
class TroubledTLS:
    """What `startTLS` and TLSFactory take: good TLS, unless a fault meets the session."""

    def __init__(self, harness: Any, section: ListenSection) -> None:
        self._harness = harness
        self._good = ServerTLS(section.tls_profile or "intermediate", protocol=b"pop3",
                               client_certificates=section.client_certificates or "no")
        self._good.use(Material(read_identity(harness.folder / "cert.pem", harness.folder / "key.pem")))

    def serverConnectionForTLS(self, tlsProtocol: Any) -> Any:
        """Return the OpenSSL side of one connection."""
        return self._good.serverConnectionForTLS(tlsProtocol)
