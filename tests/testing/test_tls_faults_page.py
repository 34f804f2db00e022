"""The page on faults of TLS, logins and the greeting names all of them, and says what clients say."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.trouble import exchanges, greetings, handshakes
from mailgate.testing.trouble.reading import parse_scenario
from tests.running import ROOT
from tests.testing import test_tls_faults

PAGE = (ROOT / "docs" / "testing" / "faults-tls.rst").read_text(encoding="utf-8")


class PageTests(SynchronousTestCase):
    """docs/testing/faults-tls.rst."""

    def test_every_kind(self) -> None:
        """Each kind is told of."""
        for kind in (*handshakes.KINDS, *exchanges.KINDS, *greetings.KINDS):
            self.assertIn(f"``{kind.name}``", PAGE)

    def test_what_clients_say(self) -> None:
        """The table of certificates has OpenSSL's words, as the tests saw them."""
        rows = dict(re.findall(r"   \* - ``(\w+)``\n     - (.*)", PAGE))
        for do, _, words, _ in test_tls_faults.CertificateTests.REFUSED:
            self.assertIn(words, rows[do])

    def test_examples(self) -> None:
        """Every example in TOML is a scenario."""
        examples = re.findall(r"\.\. code-block:: toml\n\n((?:   .*\n|\n)+)", PAGE)
        self.assertEqual(len(examples), 4)
        for example in examples:
            self.assertTrue(parse_scenario(re.sub(r"^   ", "", example, flags=re.MULTILINE)).faults)
