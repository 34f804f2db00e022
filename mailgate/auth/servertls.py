"""TLS to a server, as a client: its certificate is by an authority that is trusted, and names it.

Twisted checks the host's name too, but when a certificate cannot be read for names (it has no
subjectAltName, say) it logs that and goes on, if only the certificate's issuer is trusted.
"""

from __future__ import annotations

import re
from typing import Any

from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure
from zope.interface import implementer

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\r?\n.*?-----END CERTIFICATE-----", re.DOTALL)


@implementer(IOpenSSLClientConnectionCreator)
class NamedServer:
    """Trusts the system's authorities or those that are given, and a server whose certificate names it."""

    def __init__(self, host: str, authorities: Any = None) -> None:
        self._options: Any = optionsForClientTLS(host, authorities)
        self._identity = IPAddress_ID(host) if _is_address(host) else DNS_ID(host)

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


@implementer(IOpenSSLClientConnectionCreator)
class AnyServer:
    """Verifies nothing and speaks TLS as old as OpenSSL can: against those who only listen."""

    def __init__(self, host: str) -> None:
        self._context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self._context.set_min_proto_version(SSL.TLS1_VERSION)
        self._context.set_cipher_list(b"ALL:!aNULL:@SECLEVEL=0")    # signed with SHA-1, as TLS 1.0 has it
        self._name = None if _is_address(host) else host.encode("idna")

    def clientConnectionForTLS(self, tlsProtocol: Any) -> Any:
        """Return the OpenSSL side of one connection."""
        connection = SSL.Connection(self._context, None)
        if self._name is not None:
            connection.set_tlsext_host_name(self._name)
        return connection


def read_authorities(pem: bytes) -> Any:
    """Return what `NamedServer` trusts instead of the system's authorities. Raises: ValueError."""
    found = _CERTIFICATE.findall(pem)
    if not found:
        raise ValueError("holds no certificate in PEM form")
    try:
        return trustRootFromCertificates([Certificate.loadPEM(one) for one in found])
    except crypto.Error as fault:
        raise ValueError("holds a certificate that cannot be read") from fault


def in_words(fault: BaseException) -> str | None:
    """Return what went wrong with TLS, for an operator; None for a fault that is not of TLS."""
    if isinstance(fault, SSL.Error):
        told = fault.args[0] if fault.args and isinstance(fault.args[0], list) else []
        return "TLS: " + ("; ".join(str(one[-1]) for one in told) or "no reason is known")
    if isinstance(fault, VerificationError):
        return "TLS: the certificate is for another name"
    return f"TLS: {fault}" if isinstance(fault, CertificateError) else None


def _is_address(host: str) -> bool:
    return bool(isIPAddress(host) or isIPv6Address(host))
