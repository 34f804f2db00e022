"""Settings of mechanisms, of bearer tokens and of what is kept of passwords."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.oauth import ALGORITHMS
from mailgate.auth.sasl.mechanisms import MECHANISMS
from mailgate.config import Config, parse, values
from mailgate.errors import ConfigurationError
from mailgate.net.bindings import CERTIFICATE_NAMES

LEAST = """\
hostname = "mail.example.org"
[[listen]]
protocol = "pop3"
endpoint = "tcp:110"
"""
KEYS = '[[checker]]\nkind = "oauth"\nkeys = "keys.json"\nissuer = "i"\naudience = "a"\n'
ASKED = '[[checker]]\nkind = "oauth"\nintrospection = "https://issuer.example.org/introspect"\n'


def read(text: str) -> Config:
    return parse((LEAST + text).encode(), folder=Path("/etc/mailgate"))


class SettingTests(SynchronousTestCase):
    def problem(self, text: str) -> str:
        fault = self.assertRaises(ConfigurationError, read, text)
        self.assertEqual(len(fault.problems), 1, fault.problems)
        return str(fault.problems[0])

    def test_words_are_those_of_the_program(self) -> None:
        self.assertEqual([name.encode() for name in values.MECHANISMS], list(MECHANISMS))
        self.assertEqual(values.TOKEN_ALGORITHMS, ALGORITHMS)
        for name in CERTIFICATE_NAMES:
            read(f'client_certificates = "request"\nclient_ca = "ca.pem"\ncertificate_name = "{name}"\n'
                 '[tls]\ncertificate = "c"\nkey = "k"\n')

    def test_mechanisms(self) -> None:
        """In any case, in any order, none at all; each once."""
        self.assertIsNone(read("").listen[0].mechanisms)
        self.assertEqual(read("mechanisms = []\n").listen[0].mechanisms, ())
        self.assertEqual(read('mechanisms = ["plain", "Scram-Sha-256"]\n').listen[0].mechanisms,
                         ("PLAIN", "SCRAM-SHA-256"))
        for text in ('["NTLM"]', '["PLAIN", "plain"]', '"PLAIN"', "[1]", "true"):
            self.assertIn("listen[0].mechanisms: ", self.problem(f"mechanisms = {text}\n"))
        self.assertIn("has no meaning for lmtp", self.problem(
            '[[listen]]\nprotocol = "lmtp"\nendpoint = "tcp:24"\nmechanisms = []\n'))

    def test_certificate_name(self) -> None:
        self.assertIn("certificate_name: has no meaning", self.problem('certificate_name = "email"\n'))
        self.assertIn("unknown", self.problem('certificate_name = "dns"\n'))

    def test_tokens(self) -> None:
        self.assertEqual(read(KEYS).checkers[0].keys, "keys.json")
        read(ASKED)
        for text, words in ((KEYS + 'introspection = "https://a/"\n', "either"),
                            ('[[checker]]\nkind = "oauth"\n', "either"),
                            (KEYS.replace('issuer = "i"\n', ""), "issuer: is missing"),
                            (KEYS.replace('audience = "a"\n', ""), "audience: is missing"),
                            (KEYS + 'algorithms = ["none"]\n', "algorithms: unknown"),
                            (KEYS + 'algorithms = ["HS256"]\n', "algorithms: unknown"),
                            (KEYS + "algorithms = []\n", "algorithms: the array is empty"),
                            (KEYS + 'path = "x"\n', "path: has no meaning"),
                            (ASKED + 'algorithms = ["RS256"]\n', "algorithms: has no meaning"),
                            (ASKED + 'client_id = "x"\n', "client_secret_file"),
                            ('[[checker]]\nkind = "store"\nissuer = "i"\n',
                             "issuer: has no meaning for store")):
            self.assertIn(words, self.problem(text), text)
        fault = self.assertRaises(ConfigurationError, read, ASKED.replace("https", "http"))
        self.assertIn("checker[0].introspection: ", str(fault))
        for host in ("localhost:1", "127.0.0.1", "[::1]:80"):
            read(ASKED.replace("https://issuer.example.org", f"http://{host}"))

    def test_published_keys(self) -> None:
        """A URL in place of a file: https, or http on this machine; anything else is told where it stands."""
        url = "https://issuer.example.org/jwks.json"
        for good in (url, "http://127.0.0.1:8080/jwks.json", "http://localhost/x", "http.json", "/a/https"):
            self.assertEqual(read(KEYS.replace("keys.json", good)).checkers[0].keys, good)
        for bad in ("http://issuer.example.org/jwks.json", "https://", "HTTPS://i/", "https:jwks.json"):
            fault = self.assertRaises(ConfigurationError, read, KEYS.replace("keys.json", bad))
            self.assertIn("checker[0].keys: ", str(fault))
            self.assertIn("no https:// address", str(fault))

    def test_keep(self) -> None:
        self.assertEqual(read('[accounts]\nkeep = ["scram", "CRAM"]\n').accounts.keep, ("scram", "cram"))
        self.assertIn("accounts.keep: unknown", self.problem('[accounts]\nkeep = ["plain"]\n'))
