"""The settings of a checker of kind pam."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailgate.assembly.pam import pam_settings
from mailgate.auth.pam_children import Settings
from mailgate.config import parse
from mailgate.errors import ConfigurationError

LISTEN = 'hostname = "a"\n[[listen]]\nprotocol = "pop3"\nendpoint = "tcp:1110"\n[[checker]]\n'


class PamSettings(SynchronousTestCase):
    def settings(self, lines: str) -> Settings:
        section, = parse(f"{LISTEN}kind = 'pam'\n{lines}".encode(), folder=Path("/")).checkers
        self.assertEqual("pam", section.name)
        return pam_settings(section)

    def test_values(self) -> None:
        """Their defaults keep the system's own users out; 0 lets them in."""
        self.assertEqual(Settings("mailgate", 1000, (), 20.0, None), self.settings(""))
        self.assertEqual(Settings("pop3", 0, ("mail users",), 1.5, None), self.settings(
            "service = 'pop3'\nminimum_uid = 0\ngroups = ['mail users']\ntimeout_seconds = 1.5\n"))

    def test_problems(self) -> None:
        """Each with its full path."""
        for lines, path in (
                ("kind = 'pam'\nservice = '../shadow'\n", "checker[0].service: "),
                ("kind = 'pam'\nservice = 'Mailgate'\n", "checker[0].service: "),
                ("kind = 'pam'\nservice = 'other'\n", "checker[0].service: "),
                ("kind = 'pam'\nminimum_uid = -1\n", "checker[0].minimum_uid: "),
                ("kind = 'pam'\ngroups = 'x'\n", "checker[0].groups: "),
                ("kind = 'pam'\ngroups = []\n", "checker[0].groups: the array is empty"),
                ("kind = 'pam'\nprocesses = 0\n", "checker[0].processes: "),
                ("kind = 'pam'\ntimeout_seconds = 0.5\n", "checker[0].timeout_seconds: "),
                ("kind = 'pam'\npath = 'x'\n", "checker[0].path: has no meaning for pam"),
                ("kind = 'pam'\nkeys = 'x'\n", "checker[0].keys: has no meaning for pam"),
                ("kind = 'store'\nminimum_uid = 1\n", "checker[0].minimum_uid: has no meaning for store"),
                ("kind = 'ldap'\nprocesses = 1\n", "checker[0].processes: has no meaning for ldap")):
            fault = self.assertRaises(
                ConfigurationError, parse, (LISTEN + lines).encode(), folder=Path("/"))
            self.assertTrue(any(one.startswith(path) for one in fault.problems), (lines, fault.problems))
