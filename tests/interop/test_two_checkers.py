"""A passwd-file beside the store's accounts in one service: equal names stay apart."""

from __future__ import annotations

import os
import smtplib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.services import HOSTNAME, WAIT_SECONDS, Service, Site

BOTH = """
[[checker]]
kind = "store"
[[checker]]
kind = "passwd-file"
path = "users"
"""
USERS = f"""\
mrose:{{PLAIN}}other
shire:{{PLAIN}}other
mrose@{HOSTNAME}:{{PLAIN}}other
alice:{{PLAIN}}pw
"""


class TwoCheckersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site(Path(self.mktemp()), accounts={"mrose": "secret"}, hosts={"shire": ["one"]},
                         further=BOTH)
        (self.site.folder / "users").write_text(USERS)
        for path in (f"mrose@{HOSTNAME}", f"fred@shire.{HOSTNAME}", f"alice@{HOSTNAME}"):
            self.site.deliver(b"Subject: for one\n\nx\n", path)
        self.service: Service = self.site.start()
        self.addCleanup(self.service.end)

    def count(self, name: str, password: str) -> int | str:
        return self.service.messages_seen(name, password)

    def test_no_password_of_a_file_opens_an_account(self) -> None:
        """Nor while the account is disabled; the file's other users are served, and the log says why."""
        for name in ("mrose", "MROSE", "shire", f"mrose@{HOSTNAME}"):
            self.assertIn("[AUTH] login refused", self.count(name, "other"))
        self.assertIn("'mrose' is an account's; another checker vouched for it", self.service.log())
        self.assertEqual([self.count(*login) for login in (
            ("mrose", "secret"), ("fred@shire", "one"), ("alice", "pw"))], [1, 1, 1])
        self.site.succeed("account", "disable", "mrose")
        for password in ("secret", "other"):
            self.assertIn("[AUTH] login refused", self.count("mrose", password))

    def test_no_account_takes_over_a_users_mail(self) -> None:
        """It is not added; where there is one, mail for the user of its name is refused."""
        added = self.site.command("account", "add", "alice", "--password-stdin", stdin=b"new\n")
        self.assertEqual(added.returncode, os.EX_DATAERR)
        self.assertIn(b"is the maildrop of another checker's user", added.stderr)
        self.site.succeed("account", "add", "bob", "--address", "bob@elsewhere.example", "--password-stdin",
                          stdin=b"new\n")
        with open(self.site.folder / "users", "a") as users:
            users.write("bob:{PLAIN}pw\n")
        with smtplib.LMTP("127.0.0.1", self.service.lmtp_port, timeout=WAIT_SECONDS) as client:
            client.ehlo_or_helo_if_needed()
            client.mail("")
            self.assertEqual(client.rcpt(f"bob@{HOSTNAME}")[0], 550)
            self.assertEqual(client.rcpt("bob@elsewhere.example")[0], 250)
        self.assertEqual((self.count("bob", "new"), self.count("alice", "pw")), (0, 1))

    def test_while_the_file_is_written(self) -> None:
        """Who is not in the part that is there yet comes again: neither bounced nor refused."""
        users = self.site.folder / "users"
        self.assertEqual(self.count("alice", "pw"), 1)
        with smtplib.LMTP("127.0.0.1", self.service.lmtp_port, timeout=WAIT_SECONDS) as client:
            client.ehlo("localhost")
            for part, code, answer in ((USERS[:-3], 451, "[SYS/TEMP]"), (USERS[:40], 451, "[SYS/TEMP]"),
                                       ("", 451, "[SYS/TEMP]"), (USERS, 250, "1")):
                users.write_text(part)
                client.docmd("MAIL FROM:<>")
                self.assertEqual(client.docmd(f"RCPT TO:<alice@{HOSTNAME}>")[0], code, part)
                client.docmd("RSET")
                self.assertIn(answer, str(self.count("alice", "pw")), part)
