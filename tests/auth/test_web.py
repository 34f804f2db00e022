"""Questions to a service on the web: what a server may answer, and by which certificate."""

from __future__ import annotations

import ipaddress
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.ssl import PrivateCertificate
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from mailgate.auth.web import ask
from mailgate.errors import StoreUnavailable

KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])


def certificate(*names: x509.GeneralName) -> bytes:
    """Return a certificate, and its key, that is good for these names; signed by itself."""
    now = datetime.now(timezone.utc)
    builder = (x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).public_key(KEY.public_key())
               .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
               .not_valid_after(now + timedelta(days=1)))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) + KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Hello(Resource):
    isLeaf = True
    asked = 0

    def render_GET(self, request: Any) -> bytes:
        self.asked += 1
        request.setHeader("X-Some", "first")
        return b"hello"


class TlsTests(TestCase):
    def serve(self, pem: bytes, *, trusted: bool = True) -> tuple[int, Hello]:
        """Serve with a certificate that the system's authorities vouch for, or do not."""
        file = Path(self.mktemp())
        file.write_bytes(pem if trusted else certificate())
        before = os.environ.get("SSL_CERT_FILE")
        self.addCleanup(lambda: os.environ.pop("SSL_CERT_FILE") if before is None
                        else os.environ.update(SSL_CERT_FILE=before))
        os.environ["SSL_CERT_FILE"] = str(file)
        options, hello = PrivateCertificate.loadPEM(pem).options(), Hello()
        port = reactor.listenSSL(0, Site(hello), options, interface="127.0.0.1")   # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        return port.getHost().port, hello

    async def refused(self, url: str, most_octets: int = 100) -> str:
        try:
            await ask(reactor, "GET", url, most_octets=most_octets)
        except StoreUnavailable as fault:
            return str(fault)
        raise AssertionError("it was taken")

    async def test_good(self) -> None:
        names = x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        port, hello = self.serve(certificate(*names))
        for host in ("localhost", "127.0.0.1"):
            answer = await ask(reactor, "GET", f"https://{host}:{port}/", most_octets=5)
            self.assertEqual((answer.content, answer.fields["x-some"]), (b"hello", "first"))
        self.assertIn("longer than 4 octets", await self.refused(f"https://localhost:{port}/", 4))
        self.assertEqual(hello.asked, 3)

    async def test_another_name(self) -> None:
        port, hello = self.serve(certificate(x509.DNSName("else.example.org")))
        for host in ("localhost", "127.0.0.1"):
            self.assertIn("TLS: the certificate is for another name",
                          await self.refused(f"https://{host}:{port}/"))
        self.assertEqual(hello.asked, 0)

    async def test_no_name(self) -> None:
        """A common name is none: it is nobody's certificate, whoever signed it."""
        port, hello = self.serve(certificate())
        self.assertIn("TLS: Certificate does not contain any", await self.refused(f"https://localhost:{port}/"))
        self.assertEqual(hello.asked, 0)

    async def test_nobody_vouches(self) -> None:
        port, hello = self.serve(certificate(x509.DNSName("localhost")), trusted=False)
        self.assertIn("TLS: certificate verify failed", await self.refused(f"https://localhost:{port}/"))
        self.assertEqual(hello.asked, 0)
