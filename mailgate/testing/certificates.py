"""Certificates for tests: an authority that issues whatever a test wants, good or bad, in a millisecond.

    authority = Authority()
    authority.issue("mail.example.org").write(folder, "cert.pem", "key.pem")
    (folder / "ca.pem").write_bytes(authority.pem)      # what clients trust
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_DAYS = 365


class Issued(NamedTuple):
    """A certificate with the chain above it (no root), and its key, in PEM form."""

    certificate: x509.Certificate
    chain_pem: bytes
    key_pem: bytes

    def write(self, folder: Path, certificate: str = "cert.pem", key: str = "key.pem") -> None:
        """Write both files into a folder. Both names may be the same."""
        (folder / key).write_bytes(self.key_pem if key != certificate else self.chain_pem + self.key_pem)
        if key != certificate:
            (folder / certificate).write_bytes(self.chain_pem)


def make_key(kind: str) -> Any:
    """Return a new private key: "ec" (P-256), or "rsa" and its bits ("rsa2048")."""
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, int(kind.removeprefix("rsa")))


class Authority:
    """Issues certificates. One with `above` is intermediate: what it issues brings its own along.

    `posing`: its own certificate does not allow it.
    """

    def __init__(self, name: str = "Authority for tests", *, above: Authority | None = None,
                 key: str = "ec", posing: bool = False) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = make_key(key)
        signer = above or self
        now = datetime.now(timezone.utc)
        builder = (_builder(self.name, signer, self._key, now - timedelta(days=1),
                            now + timedelta(days=VALID_DAYS))
                   .add_extension(x509.BasicConstraints(ca=not posing, path_length=None), critical=True)
                   .add_extension(_usage(signs=not posing), critical=True))
        self.certificate = builder.sign(signer._key, hashes.SHA256())
        self._path_pem: bytes = b"" if above is None else self.pem + above._path_pem

    @property
    def pem(self) -> bytes:
        """The authority's own certificate: what those who trust it keep."""
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(self, *names: str, key: str = "ec", client: bool = False, alternatives: bool | None = None,
              begins: timedelta = timedelta(days=-1), ends: timedelta = timedelta(days=VALID_DAYS)) -> Issued:
        """Issue a certificate for host names and addresses, or for a client's name; times count from now.

        `alternatives`: whether the names stand in subjectAltName too; left out: those of servers do.
        """
        if alternatives is None:
            alternatives = not client
        return self._certify(make_key(key), names, client, alternatives, begins, ends)

    def vouch_for_itself(self, *names: str) -> Issued:
        """Issue a certificate that is its own issuer. The first name has to be the authority's."""
        return self._certify(self._key, names, False, True, timedelta(days=-1), timedelta(days=VALID_DAYS))

    def sign(self, octets: bytes, digest: hashes.HashAlgorithm) -> bytes:
        """Return a signature of PKCS #1 1.5; for authorities with RSA keys."""
        signature: bytes = self._key.sign(octets, padding.PKCS1v15(), digest)
        return signature

    def _certify(self, private: Any, names: Sequence[str], client: bool, alternatives: bool,
                 begins: timedelta, ends: timedelta) -> Issued:
        now = datetime.now(timezone.utc)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0].partition("\0")[0])])
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = (_builder(subject, self, private, now + begins, now + ends)
                   .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                   .add_extension(_usage(signs=False), critical=True)
                   .add_extension(x509.ExtendedKeyUsage([usage]), critical=False))
        if alternatives:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(certificate, certificate.public_bytes(Encoding.PEM) + self._path_pem, _key_pem(private))


def _builder(subject: x509.Name, issuer: Authority, key: Any, begins: datetime,
             ends: datetime) -> x509.CertificateBuilder:
    """Begin a certificate that strict clients find no fault with."""
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    signers = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer._key.public_key())
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(begins).not_valid_after(ends)
            .add_extension(own, critical=False).add_extension(signers, critical=False))


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_encipherment=not signs, key_cert_sign=signs, crl_sign=signs,
        content_commitment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False)


def _key_pem(key: Any) -> bytes:
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem
