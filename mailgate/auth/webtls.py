"""TLS to services on the web: a certificate without any name in it is nobody's.

Twisted checks the host's name too, but when a certificate cannot be read for names (it has no
subjectAltName, say) it logs that and goes on, if only the certificate's issuer is trusted.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer


@implementer(IPolicyForHTTPS)
class NamedServers:
    """Trusts the system's authorities, and a server whose certificate names it."""

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        """Return what makes connections to a host."""
        return _Named(hostname.decode("ascii"))


@implementer(IOpenSSLClientConnectionCreator)
class _Named:
    def __init__(self, host: str) -> None:
        self._options: Any = optionsForClientTLS(host)
        self._identity = IPAddress_ID(host) if isIPAddress(host) or isIPv6Address(host) else DNS_ID(host)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> Any:
        """Return the OpenSSL side of one connection."""
        connection = self._options.clientConnectionForTLS(tlsProtocol)

        def verify(_: Any, certificate: Any, error: int, depth: int, trusted: int) -> bool:
            if not trusted or depth:
                return bool(trusted)
            try:
                verify_service_identity(extract_patterns(certificate), [self._identity], [])
            except Exception:       # OpenSSL would not hear of it: whatever it is, the name is not proved
                tlsProtocol.failVerification(Failure())
                return False
            return True

        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection
