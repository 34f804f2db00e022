"""What an operator is told of a PAM service."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.pam_children import Settings
from mailgate.auth.pam_service import faults, misgivings, modules
from tests.running import ROOT

UNIX = "auth required pam_unix.so\naccount required pam_unix.so\n"


class Services(SynchronousTestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def settings(self, service: str, text: str | None = None, groups: tuple[str, ...] = ()) -> Settings:
        if text is not None:
            (self.folder / service).write_text(text)
        return Settings(service, 1000, groups, folder=str(self.folder))

    def test_faults(self) -> None:
        """No file, one that PAM cannot begin with, groups that are not there; nothing of a good one."""
        told, = faults(self.settings("mailgate"))
        self.assertEqual(f"there is no {self.folder}/mailgate; PAM would go by its service \"other\", so it "
                         "is not asked; etc/pam.d/mailgate is one to begin with", told)
        self.assertIn("PAM does not begin with the service broken", faults(
            self.settings("broken", "@include nowhere\n"))[0])
        self.assertIn("there is no group no-such-group", faults(
            self.settings("good", UNIX, ("no-such-group",)))[0])
        self.assertEqual([], faults(self.settings("good", UNIX)))

    def test_modules(self) -> None:
        """In the file and in all that it includes, in whatever way; each file once, lines joined."""
        self.settings("a", "auth substack b\n-auth [success=1 default=ignore] pam_x.so y=z\n"
                           "# auth required c.so\n")
        self.settings("b", "@include a\naccount  include  c\nauth required \\\n pam_b.so\n")
        found = modules(self.settings("c", "Account Sufficient /lib/pam_c.so\nsession required pam_s.so\n"))
        self.assertEqual([("account", "/lib/pam_c.so")], found)
        self.assertEqual([("auth", "pam_x.so"), ("auth", "pam_b.so"), ("account", "/lib/pam_c.so")],
                         modules(self.settings("a")))

    def test_misgivings(self) -> None:
        """Phases that the file leaves to `other`; pam_unix without the right to read the shadow file."""
        self.assertEqual([], misgivings(self.settings("nofile")))
        self.assertEqual(['the service half has no lines for account: PAM goes by those of "other"'],
                         misgivings(self.settings("half", "auth required pam_permit.so\n")))
        unix = self.settings("unix", UNIX)
        self.patch(os, "geteuid", lambda: 1234)
        shadow = self.folder / "shadow"
        shadow.touch()
        self.assertEqual([], misgivings(unix, str(shadow)))
        self.patch(os, "access", lambda path, mode: False)
        told, = misgivings(unix, str(shadow))
        self.assertIn("unix_chkpwd checks no password but that user's own", told)
        self.patch(os, "geteuid", lambda: 0)
        self.assertEqual([], misgivings(unix, str(shadow)))

    def test_sample(self) -> None:
        """The file that we ship: each phase, and what its comments offer is what PAM can read."""
        text = (ROOT / "etc/pam.d/mailgate").read_text()
        for name in ("common-auth", "common-account", "system-auth"):
            self.settings(name, "auth required pam_deny.so\naccount required pam_deny.so\n")
        good = self.settings("mailgate", text)
        self.assertEqual(([], []), (faults(good), misgivings(good)))
        lines = [line[2:] for line in text.splitlines() if line.startswith(("# auth", "# account"))]
        self.assertEqual(5, len(lines))
        others = self.settings("mailgate", "\n".join(lines) + "\n")
        self.assertEqual(([], []), (faults(others), misgivings(others)))
