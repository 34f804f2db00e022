"""[kerberos] and `kpop` listeners: what a configuration may say of them, and where a mistake is told."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailgate.config import Config, parse
from mailgate.errors import ConfigurationError
from mailgate.principals import parse_rule

LISTEN = """\
hostname = "mail.example.org"
[[listen]]
protocol = "kpop"
endpoint = "tcp:1109"
"""
KERBEROS = """
[kerberos]
keytab = "krb5.keytab"
service = "pop/mail.example.org@EXAMPLE.ORG"
"""


def read(text: str) -> Config:
    return parse(text.encode(), folder=Path("/srv/mail"))


class KerberosTests(SynchronousTestCase):
    def told(self, text: str, *problems: str) -> None:
        """Every problem begins as one of these, in this order."""
        caught = self.assertRaises(ConfigurationError, read, text)
        self.assertEqual([problem[:len(wanted)] for problem, wanted in
                          zip(caught.problems, problems, strict=True)], list(problems))

    def test_least(self) -> None:
        """Keytab and service; the realm is the service's, and a name opens its own maildrop."""
        config = read(LISTEN + KERBEROS)
        assert config.kerberos is not None
        self.assertEqual(config.keytab_path, Path("/srv/mail/krb5.keytab"))
        self.assertEqual(config.kerberos.service, "pop/mail.example.org@EXAMPLE.ORG")
        self.assertEqual(config.kerberos.trusted_realms, ("EXAMPLE.ORG",))
        self.assertIs(config.kerberos.rules, None)

    def test_everything(self) -> None:
        config = read(LISTEN + 'implicit_tls = true\n' + KERBEROS + """
            realms = ["EXAMPLE.ORG", "OLD.EXAMPLE.ORG"]
            rules = ["{name}@OLD.EXAMPLE.ORG -> {name}", "shop@EXAMPLE.ORG -> *@shop"]
            versions = ["justjunk"]
            [tls]
            certificate = "cert.pem"
            key = "key.pem"
            """)
        assert config.kerberos is not None
        self.assertEqual(config.kerberos.trusted_realms, ("EXAMPLE.ORG", "OLD.EXAMPLE.ORG"))
        self.assertEqual(config.kerberos.rules, (parse_rule("{name}@OLD.EXAMPLE.ORG -> {name}"),
                                                 parse_rule("shop@EXAMPLE.ORG -> *@shop")))
        self.assertEqual(config.kerberos.versions, ("justjunk",))

    def test_kerberos_without_a_listener(self) -> None:
        """It waits for one; GSSAPI is one to a listener that names it."""
        self.assertFalse(read(LISTEN.replace("kpop", "pop3") + KERBEROS).listen[0].takes_tickets)
        named = LISTEN.replace("kpop", "pop3") + 'mechanisms = ["gssapi"]\n' + KERBEROS
        self.assertTrue(read(named).listen[0].takes_tickets)

    def test_missing(self) -> None:
        self.told(LISTEN, "listen[0].protocol: kpop needs a key: [kerberos]")
        self.told(LISTEN + "[kerberos]\n", "kerberos.keytab: is missing", "kerberos.service: is missing")
        self.told(LISTEN + "implicit_tls = true\n" + KERBEROS, "listen[0].implicit_tls: needs a certificate")
        self.told(LISTEN.replace("kpop", "pop3") + 'mechanisms = ["PLAIN", "gssapi"]\n',
                  "listen[0].mechanisms: GSSAPI needs a key: [kerberos]")

    def test_no_meaning(self) -> None:
        self.told(LISTEN + "plaintext_login = true\n" + KERBEROS,
                  "listen[0].plaintext_login: has no meaning for kpop")
        self.told(LISTEN.replace("kpop", "pop3") + "implicit_tls = false\n",
                  "listen[0].implicit_tls: has a meaning for kpop only")

    def test_bad_values(self) -> None:
        for setting, told in (
                ('service = "pop@R"', 'service: "pop@R" is not SERVICE/HOST@REALM'),
                ('service = "pop/host"', 'service: "pop/host": no @REALM at its end'),
                ("service = 5", "service: a string is expected, not 5")):
            self.told(LISTEN + f'[kerberos]\nkeytab = "k"\n{setting}\n', f"kerberos.{told}")
        for setting, told in (
                ('realms = "EXAMPLE.ORG"', "realms: an array is expected"),
                ('realms = ["a b"]', 'realms: "a b" is not a realm'),
                ('rules = ["alice -> alice"]', 'rules: "alice -> alice": no @REALM at its end'),
                ('rules = ["{a}@EXAMPLE.ORG -> {b}"]', 'rules: "{a}@EXAMPLE.ORG -> {b}": {b} is no'),
                ('rules = ["x@EXAMPLE.ORG -> x", "x@OTHER -> x"]',
                 "rules[1]: OTHER is none of the realms: EXAMPLE.ORG"),
                ('versions = ["\u00e4"]', "versions: "),
                ("rule = 1", "rule: unknown setting; did you mean rules?")):
            self.told(LISTEN + KERBEROS + setting + "\n", f"kerberos.{told}")
