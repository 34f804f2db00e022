"""What mechanisms may know of a TLS connection: channel bindings, and whose certificate the client has.

Channel binding data is the same at both ends and nobody in between can have it (RFC 5056, 5929, 9266).
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtensionOID, NameOID
from OpenSSL import SSL

EXPORTER_LABEL, EXPORTER_OCTETS = b"EXPORTER-Channel-Binding", 32      # RFC 9266 section 2
CERTIFICATE_NAMES = ("common-name", "email")


def channel_bindings(connection: Any) -> dict[bytes, bytes]:
    """Return binding data by type, for a server's OpenSSL.SSL.Connection whose handshake is done.

    tls-unique is not defined in TLS 1.3; before it, that and tls-exporter are safe only with an
    extended master secret (RFC 7627; RFC 7677 section 4, RFC 9266 section 4.2).
    """
    latest = connection.get_protocol_version() >= SSL.TLS1_3_VERSION
    bindings = {}
    if latest or _has_extended_master_secret(connection):
        bindings[b"tls-exporter"] = connection.export_keying_material(EXPORTER_LABEL, EXPORTER_OCTETS, b"")
        if not latest:
            bindings[b"tls-unique"] = _first_finished(connection)
    end_point = _end_point(connection.get_certificate())
    if end_point is not None:
        bindings[b"tls-server-end-point"] = end_point
    return bindings


# pyOpenSSL has no methods for these two; without the functions there is no such binding.
def _has_extended_master_secret(connection: Any) -> bool:
    asks = getattr(SSL._lib, "SSL_get_extms_support", None)
    return asks is not None and hasattr(SSL._lib, "SSL_session_reused") and asks(connection._ssl) == 1


def _first_finished(connection: Any) -> bytes:
    """Return the first Finished of the handshake: the client's, but in a resumed session the server's."""
    resumed = SSL._lib.SSL_session_reused(connection._ssl)
    finished: bytes = connection.get_finished() if resumed else connection.get_peer_finished()
    return finished


def _end_point(certificate: Any) -> bytes | None:
    """Return the hash of our certificate by its signature's own algorithm (RFC 5929 section 4.1)."""
    if certificate is None:
        return None
    own: x509.Certificate = certificate.to_cryptography()
    algorithm = own.signature_hash_algorithm
    if algorithm is None:       # such as Ed25519: not defined
        return None
    if isinstance(algorithm, (hashes.MD5, hashes.SHA1)):
        algorithm = hashes.SHA256()
    return own.fingerprint(algorithm)


def identities_of(certificate: x509.Certificate, rule: str) -> tuple[bytes, ...]:
    """Return the login names that a client's certificate stands for, by one of CERTIFICATE_NAMES."""
    if rule == "common-name":
        names = [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    else:
        try:
            alternatives = certificate.extensions.get_extension_for_oid(
                ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
        except (x509.ExtensionNotFound, ValueError):
            return ()
        assert isinstance(alternatives, x509.SubjectAlternativeName)
        names = alternatives.get_values_for_type(x509.RFC822Name)
    return tuple(name.encode("utf-8") for name in names if name and "\0" not in name)
