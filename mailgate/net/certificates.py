"""Certificates and keys in PEM files: read, and judged as a server's must be.

A server's certificate file begins with its own certificate; the chain of those that issued it
follows, as far as clients do not have it. Authorities are any number of certificates in one file.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mailgate.errors import MailgateError

SOON = timedelta(days=14)       # before its end, a certificate is told to be renewed


class BadCertificate(MailgateError):
    """A file that cannot serve; the text names it. `setting` is which of the settings is at fault."""

    def __init__(self, setting: str, words: str) -> None:
        super().__init__(words)
        self.setting = setting


class Identity(NamedTuple):
    """What a server proves itself with."""

    chain: tuple[x509.Certificate, ...]     # its own certificate first
    key: Any                                # a private key of `cryptography`

    @property
    def own(self) -> x509.Certificate:
        """The certificate of the server itself."""
        return self.chain[0]


def read_identity(certificate: Path, key: Path) -> Identity:
    """Read a certificate with its chain, and the key to it. Raises: BadCertificate."""
    chain = _read_chain("certificate", certificate)
    private = _read_key(key)
    wanted = _spelled(private.public_key())
    fitting = [number for number, one in enumerate(chain) if _spelled(one.public_key()) == wanted]
    if not fitting:
        raise BadCertificate("key", f"{key}: is not the key to {certificate}")
    if fitting[0] != 0:
        raise BadCertificate("certificate", f"{certificate}: the server's own certificate stands at place "
                                            f"{fitting[0] + 1}; it has to be the first")
    return Identity(chain, private)


def read_authorities(file: Path) -> tuple[x509.Certificate, ...]:
    """Read the authorities that clients' certificates come from. Raises: BadCertificate."""
    return _read_chain("client_ca", file)


def misgivings(identity: Identity, names: tuple[str, ...], now: datetime) -> Iterator[str]:
    """Give what clients will dislike, though it can be served: dates, names, the order of the chain.

    `names` are the host names that clients may use; `now` is in UTC, with its zone.
    """
    own = identity.own
    if now >= own.not_valid_after_utc:
        yield f"expired on {own.not_valid_after_utc:%Y-%m-%d}"
    elif now >= own.not_valid_after_utc - SOON:
        yield f"expires on {own.not_valid_after_utc:%Y-%m-%d}"
    if now < own.not_valid_before_utc:
        yield f"is not valid before {own.not_valid_before_utc:%Y-%m-%d}"
    for name in names:
        if not is_named(own, name):
            yield f"is not for {name}"
    for number, (one, issuer) in enumerate(zip(identity.chain, identity.chain[1:], strict=False), 1):
        if one.issuer != issuer.subject:
            yield f"number {number} of the chain was not issued by number {number + 1}"


def is_named(certificate: x509.Certificate, name: str) -> bool:
    """Whether a client that looks for a host name accepts it here (RFC 7817 section 3).

    Only DNS names count, and a wildcard only as the whole left-most label.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return False
    known = {one.lower() for one in extension.value.get_values_for_type(x509.DNSName)}
    name = name.lower()
    return name in known or f"*.{name.partition('.')[2]}" in known


def _read(setting: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as fault:
        raise BadCertificate(setting, f"{file}: {fault.strerror}") from fault


def _read_chain(setting: str, file: Path) -> tuple[x509.Certificate, ...]:
    octets = _read(setting, file)
    if b"-----BEGIN CERTIFICATE-----" not in octets:
        raise BadCertificate(setting, f"{file}: holds no certificate in PEM form")
    try:
        return tuple(x509.load_pem_x509_certificates(octets))
    except ValueError as fault:
        raise BadCertificate(setting, f"{file}: a certificate in it is malformed") from fault


def _read_key(file: Path) -> Any:
    octets = _read("key", file)
    if b"PRIVATE KEY-----" not in octets:
        raise BadCertificate("key", f"{file}: holds no private key in PEM form")
    try:
        return load_pem_private_key(octets, None)
    except TypeError as fault:      # what `cryptography` raises for a key that wants a password
        raise BadCertificate(
            "key", f"{file}: is encrypted, and nobody is there to ask for its password") from fault
    except (ValueError, UnsupportedAlgorithm) as fault:
        raise BadCertificate("key", f"{file}: the private key in it is malformed or of an unknown kind"
                             ) from fault


def _spelled(public_key: Any) -> bytes:
    spelled: bytes = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return spelled
