"""A listener's TLS: profiles, certificates by name, ALPN, renewal; and certificates in files."""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.net.certificates import (
    BadCertificate,
    Identity,
    is_named,
    misgivings,
    read_authorities,
    read_identity,
)
from mailgate.net.tls import PROFILES, Material, ServerTLS, TLSFactory
from mailgate.testing.certificates import Authority, Issued
from tests.net.secure import NAME, SecurePeer, client_context, identity_of

AUTHORITY = Authority()
V1_0, V1_1, V1_2, V1_3 = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2,
                          ssl.TLSVersion.TLSv1_3)


class Echo(Protocol):
    """Says back what it hears."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)      # type: ignore[attr-defined]


class TlsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def folder(self) -> Path:
        folder = Path(self.mktemp())
        folder.mkdir()
        return folder

    def identity(self, *names: str, authority: Authority = AUTHORITY, **how: Any) -> Identity:
        return identity_of(authority.issue(*(names or (NAME,)), **how), self.folder())

    def tls(self, profile: str = "intermediate", material: Material | None = None, **how: Any) -> ServerTLS:
        tls = ServerTLS(profile, **how)
        tls.use(material or Material(self.identity()))
        return tls

    def meet(self, tls: ServerTLS, context: ssl.SSLContext | None = None, name: str | None = NAME,
             session: ssl.SSLSession | None = None) -> SecurePeer:
        """Return a client after the handshake, or after what it came to."""
        peer = SecurePeer(TLSFactory(tls, Factory.forProtocol(Echo), self.clock),       # type: ignore[arg-type]
                          context or client_context(AUTHORITY), clock=self.clock)
        peer.begin(name, session)
        return peer

    def assert_echo(self, peer: SecurePeer) -> None:
        self.assertTrue(peer.secure, peer.fault)
        peer.say(b"hello")
        self.assertEqual(peer.received, b"hello")

    def shown(self, peer: SecurePeer) -> set[str]:
        """Return the names of the certificate that a client was shown."""
        assert peer.tls is not None
        certificate: Any = peer.tls.getpeercert()
        return {name for _, name in certificate["subjectAltName"]}


class ProfileTests(TlsCase):
    def test_versions(self) -> None:
        """Each profile takes its least version and all above, and nothing below."""
        least = {"modern": V1_3, "intermediate": V1_2, "legacy": V1_0}
        self.assertEqual(set(least), set(PROFILES))
        for profile, from_here in least.items():
            tls = self.tls(profile)
            for version in (V1_0, V1_1, V1_2, V1_3):
                context = client_context(AUTHORITY, least=V1_0, most=version, ciphers="ALL:@SECLEVEL=0")
                peer = self.meet(tls, context)
                self.assertEqual(peer.secure, version >= from_here, f"{profile}, {version.name}")
                if peer.secure:
                    self.assert_echo(peer)

    def test_ciphers(self) -> None:
        """Above `legacy` every key is agreed on afresh; nothing is anonymous or goes unencrypted."""
        rsa = Material(self.identity(key="rsa2048"))
        for ciphers, profiles in {
                "ECDHE-RSA-AES128-GCM-SHA256": {"intermediate", "legacy"},
                "ECDHE-RSA-AES256-SHA": {"intermediate", "legacy"},     # Windows 7
                "AES128-SHA": {"legacy"},
                "AES256-GCM-SHA384": {"legacy"},
                "NULL-SHA256": set(),
                "AECDH-AES128-SHA": set(),
                "PSK-AES128-CBC-SHA": set()}.items():
            for profile in PROFILES:
                context = client_context(AUTHORITY, least=V1_2, most=V1_2, ciphers=f"{ciphers}:@SECLEVEL=0")
                peer = self.meet(self.tls(profile, rsa), context)
                self.assertEqual(peer.secure, profile in profiles, f"{ciphers} with {profile}")

    def test_old_certificate(self) -> None:
        """A key of 1024 bits is too short but for legacy; it is said which setting is at fault."""
        short = Material(self.identity(key="rsa1024"))
        for profile in ("modern", "intermediate"):
            with self.assertRaises(BadCertificate) as caught:
                self.tls(profile, short)
            self.assertEqual(caught.exception.setting, "certificate")
            self.assertIn("key too small", str(caught.exception))
        context = client_context(AUTHORITY, ciphers="ALL:@SECLEVEL=0")
        self.assert_echo(self.meet(self.tls("legacy", short), context))

    def test_renegotiation(self) -> None:
        """A client that wants to renegotiate in TLS 1.2 is not followed."""
        tls = self.tls()
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        client, server = SSL.Connection(context, None), tls.serverConnectionForTLS(None)
        client.set_connect_state()
        server.set_accept_state()
        for _ in range(4):
            self.move(client, server)
        self.assertEqual(client.get_protocol_version_name(), "TLSv1.2")
        client.renegotiate()
        for _ in range(4):
            self.move(client, server)
        self.assertEqual(server.total_renegotiations(), 0)
        self.assertFalse(server.renegotiate_pending())

    def move(self, client: SSL.Connection, server: SSL.Connection) -> None:
        """Let both sides of a connection do what they can, and carry their octets."""
        for one, other in ((client, server), (server, client)):
            try:
                one.do_handshake()
            except SSL.Error:
                pass
            try:
                other.bio_write(one.bio_read(1 << 16))
            except SSL.WantReadError:
                pass


class NameTests(TlsCase):
    """SNI (RFC 6066 section 3)."""

    def setUp(self) -> None:
        super().setUp()
        self.served = self.tls(material=Material(self.identity("default.example"), {
            "mail.example.org": self.identity("mail.example.org"),
            "*.example.net": self.identity("*.example.net"),
            "special.example.net": self.identity("special.example.net")}))
        self.context = client_context(AUTHORITY)
        self.context.check_hostname = False

    def test_names(self) -> None:
        """The name's own certificate, then a wildcard's, else the default; case and a last dot aside."""
        for name, shown in {
                "mail.example.org": "mail.example.org", "MAIL.Example.ORG": "mail.example.org",
                "mail.example.org.": "mail.example.org", "a.example.net": "*.example.net",
                "special.example.net": "special.example.net", "a.b.example.net": "default.example",
                "example.net": "default.example", "unknown.example": "default.example",
                None: "default.example"}.items():
            peer = self.meet(self.served, self.context, name)
            self.assertEqual(self.shown(peer), {shown}, name)
            self.assert_echo(peer)

    def test_version_holds_for_every_name(self) -> None:
        """The profile is the listener's, whatever certificate is chosen."""
        modern = self.tls("modern", Material(self.identity(), {"mail.example.org": self.identity()}))
        self.assertFalse(self.meet(modern, client_context(AUTHORITY, most=V1_2)).secure)
        self.assertTrue(self.meet(modern).secure)

    def test_chain(self) -> None:
        """The chain is sent along: a client that knows the root alone is content."""
        intermediate = Authority("Intermediate", above=AUTHORITY)
        tls = self.tls(material=Material(self.identity("other.example"), {
            NAME: self.identity(authority=intermediate)}))
        self.assert_echo(self.meet(tls))


class AlpnTests(TlsCase):
    """RFC 7301, RFC 8314: `pop3` is agreed to, nothing else is an error."""

    def test_offers(self) -> None:
        tls = self.tls(protocol=b"pop3")
        for offers, agreed in {
                (): None, ("pop3",): "pop3", ("h2", "pop3"): "pop3", ("imap", "http/1.1"): None}.items():
            peer = self.meet(tls, client_context(AUTHORITY, alpn=offers))
            self.assert_echo(peer)
            assert peer.tls is not None
            self.assertEqual(peer.tls.selected_alpn_protocol(), agreed)

    def test_no_protocol(self) -> None:
        """A listener without a name of its own (lmtp) agrees to none."""
        peer = self.meet(self.tls(), client_context(AUTHORITY, alpn=("pop3", "lmtp")))
        assert peer.tls is not None
        self.assertIsNone(peer.tls.selected_alpn_protocol())


class RenewalTests(TlsCase):
    def test_connections_stand(self) -> None:
        """A new certificate is shown from the next handshake on; connections go on with what they have."""
        tls = self.tls(material=Material(self.identity("old.example", NAME)))
        old = self.meet(tls)
        tls.use(Material(self.identity("new.example", NAME)))
        self.assertIn("new.example", self.shown(self.meet(tls)))
        self.assert_echo(old)

    def test_handshake_under_way(self) -> None:
        """A handshake that has begun ends with the certificate it began with."""
        tls = self.tls(material=Material(self.identity("old.example", NAME)), protocol=b"pop3",
                       client_certificates="request")
        peer = SecurePeer(TLSFactory(tls, Factory.forProtocol(Echo), self.clock),       # type: ignore[arg-type]
                          client_context(AUTHORITY, alpn=("pop3",)), clock=self.clock)
        hello = peer.hello()
        peer.peer.say(hello[:50])
        tls.use(Material(self.identity("new.example", NAME)))
        peer.peer.say(hello[50:])
        peer.turn()
        self.assertIn("old.example", self.shown(peer))
        self.assert_echo(peer)

    def test_broken_one(self) -> None:
        """What cannot be used changes nothing."""
        tls = self.tls(material=Material(self.identity("old.example", NAME)))
        self.assertRaises(BadCertificate, tls.use, Material(self.identity(key="rsa1024")))
        self.assertIn("old.example", self.shown(self.meet(tls)))

    def test_ticket_keys(self) -> None:
        """Tickets hold as long as their keys do; what is prepared anew has new ones."""
        material = Material(self.identity())
        tls = self.tls(material=material)
        for most in (V1_2, V1_3):
            context = client_context(AUTHORITY, most=most)
            first = self.meet(tls, context)
            self.assert_echo(first)
            assert first.tls is not None
            again = self.meet(tls, context, session=first.tls.session)
            assert again.tls is not None
            self.assertTrue(again.tls.session_reused)
            tls.use(material)
            afresh = self.meet(tls, context, session=first.tls.session)
            assert afresh.tls is not None
            self.assertFalse(afresh.tls.session_reused)
            self.assert_echo(afresh)


class FileTests(TlsCase):
    """Certificates and keys as operators have them."""

    def setUp(self) -> None:
        super().setUp()
        self.place = self.folder().absolute()
        self.issued = AUTHORITY.issue(NAME)
        self.issued.write(self.place)
        self.certificate, self.key = self.place / "cert.pem", self.place / "key.pem"

    def fault(self, certificate: bytes | None = None, key: bytes | None = None) -> tuple[str, str]:
        """Return the setting and the words of what is wrong, files being as given."""
        if certificate is not None:
            self.certificate.write_bytes(certificate)
        if key is not None:
            self.key.write_bytes(key)
        with self.assertRaises(BadCertificate) as caught:
            read_identity(self.certificate, self.key)
        return caught.exception.setting, str(caught.exception)

    def test_one_file(self) -> None:
        """Certificate, chain and key may lie in one file."""
        issued = Authority("Intermediate", above=AUTHORITY).issue(NAME)
        issued.write(self.place, "all.pem", "all.pem")
        identity = read_identity(self.place / "all.pem", self.place / "all.pem")
        self.assertEqual(len(identity.chain), 2)
        self.assertEqual(identity.own, issued.certificate)

    def test_kinds_of_keys(self) -> None:
        for kind in ("ec", "rsa2048"):
            issued = AUTHORITY.issue(NAME, key=kind)
            self.assert_echo(self.meet(self.tls(material=Material(identity_of(issued, self.folder())))))

    def test_missing(self) -> None:
        self.key.unlink()
        self.assertEqual(self.fault(), ("key", f"{self.key}: No such file or directory"))
        self.certificate.unlink()
        self.assertEqual(self.fault(), ("certificate", f"{self.certificate}: No such file or directory"))

    def test_no_pem(self) -> None:
        self.assertEqual(self.fault(b"\x30\x82\x01"),
                         ("certificate", f"{self.certificate}: holds no certificate in PEM form"))
        self.issued.write(self.place)
        self.assertEqual(self.fault(key=b""), ("key", f"{self.key}: holds no private key in PEM form"))

    def test_torn(self) -> None:
        """A file that is still being written."""
        setting, words = self.fault(self.issued.chain_pem[:300])
        self.assertEqual((setting, words), (
            "certificate", f"{self.certificate}: a certificate in it is malformed"))
        self.issued.write(self.place)
        setting, words = self.fault(key=self.issued.key_pem[:100])
        self.assertEqual((setting, words), ("key", f"{self.key}: the private key in it is malformed or of an "
                                                   "unknown kind"))

    def test_other_key(self) -> None:
        self.assertEqual(self.fault(key=AUTHORITY.issue(NAME).key_pem),
                         ("key", f"{self.key}: is not the key to {self.certificate}"))

    def test_order(self) -> None:
        """The server's own certificate comes first."""
        self.assertEqual(
            self.fault(AUTHORITY.pem + self.issued.chain_pem),
            ("certificate", f"{self.certificate}: the server's own certificate stands at place 2; "
                            "it has to be the first"))

    def test_encrypted_key(self) -> None:
        from cryptography.hazmat.primitives.serialization import (
            BestAvailableEncryption,
            Encoding,
            PrivateFormat,
            load_pem_private_key,
        )
        key = load_pem_private_key(self.issued.key_pem, None)
        encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
        self.assertEqual(self.fault(key=encrypted), (
            "key", f"{self.key}: is encrypted, and nobody is there to ask for its password"))

    def test_authorities(self) -> None:
        (self.place / "ca.pem").write_bytes(AUTHORITY.pem + Authority("Another").pem)
        self.assertEqual(len(read_authorities(self.place / "ca.pem")), 2)
        with self.assertRaises(BadCertificate) as caught:
            read_authorities(self.key)
        self.assertEqual(caught.exception.setting, "client_ca")


class MisgivingTests(TlsCase):
    """What can be served, and what clients will dislike all the same."""

    def told(self, issued: Issued, *names: str) -> list[str]:
        identity = identity_of(issued, self.folder())
        return list(misgivings(identity, names, datetime.now(timezone.utc)))

    def test_good(self) -> None:
        self.assertEqual(self.told(AUTHORITY.issue(NAME), NAME), [])

    def test_dates(self) -> None:
        day = timedelta(days=1)
        old, short, new = (AUTHORITY.issue(NAME, begins=-2 * day, ends=-day),
                           AUTHORITY.issue(NAME, ends=9 * day), AUTHORITY.issue(NAME, begins=day))
        self.assertEqual(self.told(old, NAME), [f"expired on {old.certificate.not_valid_after_utc:%Y-%m-%d}"])
        self.assertEqual(self.told(short, NAME),
                         [f"expires on {short.certificate.not_valid_after_utc:%Y-%m-%d}"])
        self.assertEqual(self.told(new, NAME),
                         [f"is not valid before {new.certificate.not_valid_before_utc:%Y-%m-%d}"])

    def test_names(self) -> None:
        """T15: a wildcard stands for one whole label, the left-most."""
        certificate = AUTHORITY.issue("*.example.org", "Pop.Example.NET").certificate
        for name, known in {"mail.example.org": True, "MAIL.example.org": True, "a.b.example.org": False,
                            "example.org": False, "pop.example.net": True, "x.example.net": False,
                            "*.example.org": True}.items():
            self.assertEqual(is_named(certificate, name), known, name)
        self.assertEqual(self.told(AUTHORITY.issue("other.example"), NAME), [f"is not for {NAME}"])

    def test_order_of_the_chain(self) -> None:
        issued = Authority("Intermediate", above=Authority("Between", above=AUTHORITY)).issue(NAME)
        own, first, second = issued.chain_pem.replace(b"-----\n-----", b"-----\n\0-----").split(b"\0")
        self.assertEqual(self.told(issued, NAME), [])
        swapped = issued._replace(chain_pem=own + second + first)
        self.assertEqual(self.told(swapped, NAME), [
            "number 1 of the chain was not issued by number 2",
            "number 2 of the chain was not issued by number 3"])
