"""`mailgate check` and certificates: what is wrong, and what is only to be worried about."""

from __future__ import annotations

from datetime import timedelta

from mailgate.cli import checking
from mailgate.testing.certificates import Authority
from tests.cli.base import CONFIGURATION, CommandCase

AUTHORITY = Authority()
TLS = """
[tls]
certificate = "cert.pem"
key = "key.pem"
[tls.sni."pop.example.net"]
certificate = "net.pem"
key = "net.key"
"""


class CertificateTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(checking, "_store", lambda config: ([], []))
        self.file.write_text(CONFIGURATION + TLS)
        AUTHORITY.issue("mail.example.org").write(self.folder)
        AUTHORITY.issue("pop.example.net").write(self.folder, "net.pem", "net.key")

    def test_well(self) -> None:
        told = self.command("check")
        self.assertEqual((told.code, told.err), (0, ""))
        self.assertIn("all is well", told.out)

    def test_broken(self) -> None:
        """Every problem with the file, the setting's path and the path it names; exit 78."""
        (self.folder / "cert.pem").unlink()
        (self.folder / "net.key").write_bytes(AUTHORITY.issue("pop.example.net").key_pem)
        self.assertEqual(self.refused(78, "check").splitlines(), [
            f"mailgate: {self.file}: tls.certificate: {self.folder}/cert.pem: No such file or directory",
            f'mailgate: {self.file}: tls.sni."pop.example.net".key: {self.folder}/net.key: is not the key to '
            f"{self.folder}/net.pem"])

    def test_warnings(self) -> None:
        """One that has expired, and one for another name: told on standard error, and the code is 0."""
        day = timedelta(days=1)
        AUTHORITY.issue("mail.example.org", begins=-3 * day, ends=-2 * day).write(self.folder)
        AUTHORITY.issue("imap.example.net").write(self.folder, "net.pem", "net.key")
        told = self.command("check")
        self.assertEqual(told.code, 0)
        first, second = told.err.splitlines()
        self.assertRegex(first, rf"mailgate: {self.file}: warning: tls\.certificate: "
                                rf"{self.folder}/cert\.pem: expired on \d{{4}}-\d\d-\d\d$")
        self.assertEqual(second, f'mailgate: {self.file}: warning: tls.sni."pop.example.net".certificate: '
                                 f"{self.folder}/net.pem: is not for pop.example.net")
