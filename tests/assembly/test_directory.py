"""A configured directory where python-ldap is not installed."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.assembly.auth import Doors
from mailgate.assembly.directory import ldap_faults
from mailgate.auth.hashing import Inline
from mailgate.config import parse
from mailgate.errors import ConfigurationError
from mailgate.stores.memory import MemoryStore


class WithoutTests(SynchronousTestCase):
    def test_words(self) -> None:
        """One problem, with the checker it is about and what to do."""
        without = patch.dict(sys.modules, {"ldap": None})
        without.start()
        self.addCleanup(without.stop)
        config = parse(b"""hostname = "mail.example.org"
            [[listen]]
            protocol = "pop3"
            endpoint = "tcp:110"
            [[checker]]
            kind = "store"
            [[checker]]
            kind = "ldap"
            urls = ["ldaps://ldap.example.org"]
            user_dn = "uid={login},dc=example,dc=org"
            """, folder=Path("/etc/mailgate"))
        words = "needs the package python-ldap: pip install 'mailgate[ldap]'"
        store = MemoryStore(clock=Clock())
        fault = self.assertRaises(ConfigurationError, Doors, config, store, Inline(), None)
        self.assertEqual(fault.problems, [f"checker[1]: {words}"])
        self.assertEqual(ldap_faults(config, config.checkers[1]), [f": {words}"])
