"""Channel binding data and names in certificates: both ends have the same (RFC 5929, 9266)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from mailgate.net.bindings import channel_bindings, identities_of

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "user")])


def certificate(key: Any, algorithm: Any, *alternatives: x509.GeneralName) -> x509.Certificate:
    now = datetime.now(timezone.utc)
    builder = (x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).public_key(key.public_key())
               .serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1)))
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(key, algorithm)


def context(version: int, key: Any, own: x509.Certificate) -> SSL.Context:
    made = SSL.Context(SSL.TLS_SERVER_METHOD)
    made.set_min_proto_version(version)
    made.set_max_proto_version(version)
    made.use_certificate(own)
    made.use_privatekey(key)
    made.set_session_id(b"test")
    return made


def connected(server_context: SSL.Context, before: Any = None) -> tuple[Any, Any]:
    """Return a server's and a client's connection, joined in memory, their handshake done.

    `before` is a client whose session is taken up again.
    """
    client_context = SSL.Context(SSL.TLS_CLIENT_METHOD) if before is None else before.get_context()
    server, client = SSL.Connection(server_context, None), SSL.Connection(client_context, None)
    server.set_accept_state()
    client.set_connect_state()
    if before is not None:
        client.set_session(before.get_session())
    for _ in range(5):
        for one, other in ((client, server), (server, client)):
            try:
                one.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                other.bio_write(one.bio_read(1 << 16))
            except SSL.WantReadError:
                pass
    return server, client


def exported(connection: Any) -> bytes:
    octets: bytes = connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
    return octets


class BindingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.own = certificate(self.key, hashes.SHA384())

    def test_tls_1_3(self) -> None:
        """tls-unique is not defined there; the end point's hash is that of the signature."""
        server, client = connected(context(SSL.TLS1_3_VERSION, self.key, self.own))
        self.assertEqual(channel_bindings(server), {
            b"tls-exporter": exported(client),
            b"tls-server-end-point": self.own.fingerprint(hashes.SHA384())})

    def test_tls_1_2(self) -> None:
        """The first Finished is the client's."""
        server, client = connected(context(SSL.TLS1_2_VERSION, self.key, self.own))
        bindings = channel_bindings(server)
        self.assertEqual(bindings[b"tls-unique"], client.get_finished())
        self.assertEqual(bindings[b"tls-exporter"], exported(client))

    def test_resumed(self) -> None:
        """In a resumed session of TLS 1.2 the server's comes first."""
        made = context(SSL.TLS1_2_VERSION, self.key, self.own)
        _, client = connected(made)
        server, again = connected(made, client)
        self.assertEqual(channel_bindings(server)[b"tls-unique"], again.get_peer_finished())
        self.assertNotEqual(channel_bindings(server)[b"tls-unique"], again.get_finished())

    def test_each_connection_has_its_own(self) -> None:
        made = context(SSL.TLS1_3_VERSION, self.key, self.own)
        one, other = (channel_bindings(connected(made)[0]) for _ in range(2))
        self.assertNotEqual(one[b"tls-exporter"], other[b"tls-exporter"])

    def test_signature_without_a_hash(self) -> None:
        """Ed25519: no end point is defined (RFC 5929 section 4.1)."""
        key = ed25519.Ed25519PrivateKey.generate()
        server, _ = connected(context(SSL.TLS1_3_VERSION, key, certificate(key, None)))
        self.assertEqual(list(channel_bindings(server)), [b"tls-exporter"])


class IdentityTests(SynchronousTestCase):
    def test_rules(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        own = certificate(key, hashes.SHA256(), x509.DNSName("host.example.org"),
                          x509.RFC822Name("a@example.org"), x509.RFC822Name("b@example.org"))
        self.assertEqual(identities_of(own, "common-name"), (b"user",))
        self.assertEqual(identities_of(own, "email"), (b"a@example.org", b"b@example.org"))
        self.assertEqual(identities_of(certificate(key, hashes.SHA256()), "email"), ())
