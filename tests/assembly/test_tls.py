"""The certificates of a configuration: read, watched, renewed; and told in full when they are wrong."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography.x509 import load_pem_x509_certificate
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import eventAsText, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailgate.assembly.tls import TICKET_KEY_SECONDS, Certificates
from mailgate.config import parse
from mailgate.errors import ConfigurationError
from mailgate.net.tls import TLSFactory
from mailgate.testing.certificates import Authority
from tests.net.secure import SecurePeer, client_context

AUTHORITY = Authority()
CONFIGURATION = """
hostname = "mail.example.org"
[tls]
certificate = "cert.pem"
key = "key.pem"
[[listen]]
protocol = "pop3"
endpoint = "tcp:1110"
"""
SNI = """
[tls.sni."pop.example.net"]
certificate = "net.pem"
key = "net.key"
"""
ASKING = """
[[listen]]
protocol = "pop3s"
endpoint = "tcp:1995"
client_certificates = "request"
client_ca = "clients.pem"
"""


class CertificatesCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.clock = Clock()
        self.moment = 1_700_000_000
        self.issue("mail.example.org")
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self._keep)
        self.addCleanup(globalLogPublisher.removeObserver, self._keep)

    def _keep(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace", "").startswith("mailgate.assembly"):
            self.lines.append(eventAsText(event, includeTimestamp=False, includeSystem=False))

    def issue(self, *names: str, certificate: str = "cert.pem", key: str = "key.pem", **how: Any) -> None:
        """Write a new certificate and its key. The files' times move on, however coarse the disk's clock."""
        AUTHORITY.issue(*names, **how).write(self.folder, certificate, key)
        self.touch(certificate, key)

    def touch(self, *names: str) -> None:
        self.moment += 1
        for name in names:
            os.utime(self.folder / name, (self.moment, self.moment))

    def make(self, text: str = CONFIGURATION) -> Certificates:
        return Certificates(parse(text.encode(), folder=self.folder), self.clock)       # type: ignore[arg-type]

    def problems(self, text: str = CONFIGURATION) -> list[str]:
        with self.assertRaises(ConfigurationError) as caught:
            self.make(text)
        return caught.exception.problems

    def connect(self, certificates: Certificates, index: int = 0, name: str = "mail.example.org",
                **how: Any) -> SecurePeer:
        context = client_context(AUTHORITY)
        context.check_hostname = False
        tls = certificates.of(index)
        assert tls is not None
        peer = SecurePeer(TLSFactory(tls, Factory.forProtocol(Protocol), self.clock),   # type: ignore[arg-type]
                          how.pop("context", context), clock=self.clock)
        peer.begin(name, **how)
        return peer

    def serial(self, certificates: Certificates, index: int = 0, name: str = "mail.example.org") -> str:
        """Return the serial number of the certificate that a client is shown."""
        peer = self.connect(certificates, index, name)
        assert peer.tls is not None and peer.secure, peer.fault
        certificate: Any = peer.tls.getpeercert()
        return str(certificate["serialNumber"])


class ReadTests(CertificatesCase):
    def test_each_listener(self) -> None:
        (self.folder / "clients.pem").write_bytes(Authority("Clients").pem)
        self.issue("pop.example.net", certificate="net.pem", key="net.key")
        certificates = self.make(CONFIGURATION + ASKING + SNI)
        for index in (0, 1):
            self.assertNotEqual(self.serial(certificates, index),
                                self.serial(certificates, index, "pop.example.net"))
        self.assertEqual(certificates.of(2), None)

    def test_no_section(self) -> None:
        """Without [tls] nothing is read and nothing watched."""
        certificates = self.make('hostname = "a"\n[[listen]]\nprotocol = "pop3"\nendpoint = "tcp:1110"\n')
        self.assertIsNone(certificates.of(0))
        self.clock.advance(TICKET_KEY_SECONDS)
        certificates.look()
        certificates.reload()
        self.assertEqual(list(certificates.warnings(datetime.now(timezone.utc))), [])
        self.assertEqual(self.lines, [])

    def test_everything_wrong_is_told(self) -> None:
        """Each with its setting's path and the file's."""
        (self.folder / "key.pem").unlink()
        (self.folder / "clients.pem").write_text("nothing")
        self.issue("pop.example.net", certificate="net.pem", key="net.key")
        AUTHORITY.issue("x").write(self.folder, "other.pem", "net.key")
        self.assertEqual(self.problems(CONFIGURATION + ASKING + SNI), [
            f"tls.key: {self.folder}/key.pem: No such file or directory",
            f'tls.sni."pop.example.net".key: {self.folder}/net.key: is not the key to {self.folder}/net.pem',
            f"listen[1].client_ca: {self.folder}/clients.pem: holds no certificate in PEM form"])

    def test_profile_that_does_not_take_it(self) -> None:
        """A key too short for a listener's profile names the listener."""
        self.issue("mail.example.org", key="key.pem")
        AUTHORITY.issue("mail.example.org", key="rsa1024").write(self.folder)
        [problem] = self.problems()
        self.assertEqual(problem, f"tls.certificate: {self.folder}/cert.pem: OpenSSL does not take it: "
                                  "ee key too small (listen[0], intermediate)")


class WarningTests(CertificatesCase):
    def warnings(self, text: str = CONFIGURATION) -> list[str]:
        return list(self.make(text).warnings(datetime.now(timezone.utc)))

    def test_good(self) -> None:
        self.assertEqual(self.warnings(), [])

    def test_expired_and_of_another_name(self) -> None:
        day = timedelta(days=1)
        self.issue("www.example.org", begins=-9 * day, ends=-day)
        ended = load_pem_x509_certificate((self.folder / "cert.pem").read_bytes()).not_valid_after_utc
        self.assertEqual(self.warnings(), [
            f"tls.certificate: {self.folder}/cert.pem: expired on {ended:%Y-%m-%d}",
            f"tls.certificate: {self.folder}/cert.pem: is not for mail.example.org"])

    def test_sni(self) -> None:
        """A name's certificate is for that name; the default need not name a host that has its own."""
        self.issue("default.example")
        self.issue("wrong.example", certificate="net.pem", key="net.key")
        self.assertEqual(self.warnings(CONFIGURATION + SNI.replace("pop.example.net", "Mail.example.org")), [
            f'tls.sni."mail.example.org".certificate: {self.folder}/net.pem: is not for mail.example.org'])

    def test_legacy(self) -> None:
        """Whoever names it is told what it means; no other listener has it."""
        self.assertEqual(self.warnings(CONFIGURATION + 'tls_profile = "legacy"\n'), [
            "listen[0].tls_profile: legacy lets clients in that know nothing better than TLS 1.0, "
            "which can be broken"])


class RenewalTests(CertificatesCase):
    def test_reload(self) -> None:
        certificates = self.make()
        before = self.serial(certificates)
        self.issue("mail.example.org")
        self.assertEqual(self.serial(certificates), before)
        certificates.reload()
        self.assertNotEqual(self.serial(certificates), before)
        self.assertEqual(self.lines, [f"tls: {self.folder}/cert.pem is in use"])

    def test_look(self) -> None:
        """Files that changed are read again, once; others are left alone."""
        self.issue("pop.example.net", certificate="net.pem", key="net.key")
        certificates = self.make(CONFIGURATION + SNI)
        certificates.look()
        self.assertEqual(self.lines, [])
        before = self.serial(certificates), self.serial(certificates, name="pop.example.net")
        self.issue("pop.example.net", certificate="net.pem", key="net.key")
        certificates.look()
        certificates.look()
        self.assertEqual(self.lines, [f'tls.sni."pop.example.net": {self.folder}/net.pem is in use'])
        self.assertEqual(self.serial(certificates), before[0])
        self.assertNotEqual(self.serial(certificates, name="pop.example.net"), before[1])

    def test_what_counts_as_a_change(self) -> None:
        """Size, time or the file behind a name: as renewing programs swap links."""
        (self.folder / "old.pem").write_bytes((self.folder / "cert.pem").read_bytes())
        (self.folder / "cert.pem").unlink()
        (self.folder / "cert.pem").symlink_to("old.pem")
        certificates = self.make()
        same = (self.folder / "old.pem").stat()
        (self.folder / "new.pem").write_bytes((self.folder / "old.pem").read_bytes())
        os.utime(self.folder / "new.pem", ns=(same.st_atime_ns, same.st_mtime_ns))
        (self.folder / "next").symlink_to("new.pem")
        (self.folder / "next").rename(self.folder / "cert.pem")
        certificates.look()
        self.assertEqual(len(self.lines), 1)
        self.touch("new.pem")
        certificates.look()
        self.assertEqual(len(self.lines), 2)

    def test_broken(self) -> None:
        """What is wrong is said once, what was there before stays, and a repair is noticed."""
        certificates = self.make()
        before = self.serial(certificates)
        (self.folder / "cert.pem").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
        certificates.look()
        certificates.look()
        self.assertEqual(self.lines, [
            f"tls.certificate: {self.folder}/cert.pem: a certificate in it is malformed; "
            "the one before stays in use"])
        self.assertEqual(self.serial(certificates), before)
        self.lines.clear()
        (self.folder / "cert.pem").unlink()
        certificates.look()
        self.assertEqual(len(self.lines), 1)
        self.assertEqual(self.serial(certificates), before)
        self.issue("mail.example.org")
        certificates.look()
        self.assertNotEqual(self.serial(certificates), before)

    def test_one_file_after_the_other(self) -> None:
        """Between the writing of the certificate and of its key nothing is changed."""
        certificates = self.make()
        before = self.serial(certificates)
        issued = AUTHORITY.issue("mail.example.org")
        (self.folder / "cert.pem").write_bytes(issued.chain_pem)
        self.touch("cert.pem")
        certificates.look()
        self.assertEqual(self.serial(certificates), before)
        self.assertIn("is not the key to", self.lines[0])
        (self.folder / "key.pem").write_bytes(issued.key_pem)
        self.touch("key.pem")
        certificates.look()
        self.assertEqual(int(self.serial(certificates), 16), issued.certificate.serial_number)

    def test_one_broken_hinders_no_other(self) -> None:
        self.issue("pop.example.net", certificate="net.pem", key="net.key")
        certificates = self.make(CONFIGURATION + SNI)
        before = self.serial(certificates), self.serial(certificates, name="pop.example.net")
        (self.folder / "net.key").unlink()
        self.issue("mail.example.org")
        certificates.reload()
        self.assertNotEqual(self.serial(certificates), before[0])
        self.assertEqual(self.serial(certificates, name="pop.example.net"), before[1])

    def test_one_that_a_listener_does_not_take(self) -> None:
        """A renewed certificate that a profile refuses is as broken as any."""
        certificates = self.make()
        before = self.serial(certificates)
        AUTHORITY.issue("mail.example.org", key="rsa1024").write(self.folder)
        certificates.reload()
        self.assertIn("ee key too small", self.lines[0])
        self.assertEqual(self.serial(certificates), before)

    def test_authorities(self) -> None:
        """Whose clients are known is renewed too."""
        clients = Authority("Clients")
        (self.folder / "clients.pem").write_bytes(Authority("Others").pem)
        certificates = self.make(CONFIGURATION + ASKING.replace('"request"', '"require"'))
        clients.issue("mrose", client=True).write(self.folder, "mrose.pem", "mrose.key")

        def known() -> bool:
            context = client_context(AUTHORITY)
            context.load_cert_chain(self.folder / "mrose.pem", self.folder / "mrose.key")
            peer = self.connect(certificates, 1, context=context)
            peer.turn()
            return not peer.closed

        self.assertFalse(known())
        (self.folder / "clients.pem").write_bytes(clients.pem)
        self.touch("clients.pem")
        certificates.look()
        self.assertTrue(known())

    def test_ticket_keys(self) -> None:
        """The keys of tickets are replaced twice a day, though no file changes."""
        certificates = self.make()
        context = client_context(AUTHORITY)
        first = self.connect(certificates, context=context)
        assert first.tls is not None

        def is_known() -> bool:
            peer = self.connect(certificates, context=context, session=first.tls.session)   # type: ignore[union-attr]
            assert peer.tls is not None
            return bool(peer.tls.session_reused)

        self.clock.advance(TICKET_KEY_SECONDS - 1)
        certificates.look()
        self.assertTrue(is_known())
        self.clock.advance(1)
        certificates.look()
        self.assertFalse(is_known())
        self.assertEqual(self.lines, [])
