"""What a Courier is given before it is measured. None needs to be installed for this."""

from __future__ import annotations

import base64
import hashlib
import stat
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import courier


class CourierTests(SynchronousTestCase):
    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.server = courier.Courier(Path(place.name) / "courier", core=None)

    def test_accounts(self) -> None:
        """Each account has its Maildir, the owner of the mail and the password; nobody else may read them."""
        self.server.fill({"kind": "accounts", "user": "u%04d", "count": 2},
                         {"kind": "accounts", "user": "large%d", "count": 1})
        lines = self.server.userdb.read_text().splitlines()
        self.assertEqual([line.partition("\t")[0] for line in lines], ["u0000", "u0001", "large0"])
        fields = dict(word.split("=", 1) for word in lines[1].partition("\t")[2].split("|"))
        self.assertTrue((Path(fields["mail"]) / "cur").is_dir())
        self.assertEqual(fields["uid"], str(self.server.owner.pw_uid))
        secret = base64.b64encode(hashlib.sha1(b"secret").digest()).decode()
        self.assertEqual(fields["systempw"], "{SHA}" + secret)
        self.assertEqual(stat.S_IMODE(self.server.userdb.stat().st_mode), 0o600)

    def test_script(self) -> None:
        """What starts it is sound as shell, and names its port and its own folders."""
        subprocess.run(["sh", "-n", str(self.server.script)], check=True)
        script = self.server.script.read_text()
        self.assertIn(f" {self.server.pop3} ", script)
        self.assertIn(f"'{self.server.folder}/etc' /etc/courier\n", script)

    def test_not_installed(self) -> None:
        """Where a part is missing, it is not measured."""
        self.patch(courier, "_PARTS", ("/nonexistent/courierpop3d",))
        self.assertFalse(courier.usable())
