"""The service over Maildirs, with real clients at one end and other programs in the Maildirs at the other."""

from __future__ import annotations

import atexit
import os
import poplib
import re
import shutil
import smtplib
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.needs import needs, unavailable
from tests.peers.servers import MAIL_USER, give
from tests.services import WAIT_SECONDS, Service, Site

PASSWORD = "secret"
LDA = Path("/usr/lib/dovecot/dovecot-lda")


@cache
def house() -> Path:
    """Return a folder for all tests of a run, which other users can reach."""
    folder = Path(tempfile.mkdtemp(prefix="mailgate-maildirs-"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "home").mkdir()
    return folder


@cache
def service() -> Service:
    """Return one service for all tests."""
    site = Site(house() / "site", accounts={"peer": PASSWORD, "reader": PASSWORD}, hosts={"xyz": [PASSWORD]},
                store=f'maildrops = "maildir:{house()}/home/{{name}}/Maildir"')
    started = site.start()
    atexit.register(started.end)
    return started


class ServiceCase(SynchronousTestCase):
    def login(self, name: str) -> poplib.POP3:
        """Return a client that has logged in."""
        client = poplib.POP3("127.0.0.1", service().pop3_port, timeout=WAIT_SECONDS)
        self.addCleanup(client.close)
        client.user(name)
        client.pass_(PASSWORD)
        return client

    def read(self, client: poplib.POP3) -> list[bytes]:
        """Return all messages, as long as they were announced to be."""
        announced = [int(line.split()[1]) for line in client.list()[1]]
        texts = [b"\r\n".join(client.retr(number + 1)[1]) + b"\r\n" for number in range(len(announced))]
        self.assertEqual([len(text) for text in texts], announced)
        return texts

    def maildir(self, name: str) -> Path:
        """Return a maildrop's Maildir, made and empty."""
        path = house() / "home" / name / "Maildir"
        shutil.rmtree(path.parent, ignore_errors=True)
        for folder in ("cur", "new", "tmp"):
            (path / folder).mkdir(parents=True)
        return path


class PeerTests(ServiceCase):
    """Dovecot and procmail in the Maildir of somebody who is logged in here."""

    def setUp(self) -> None:
        self.doveadm, self.procmail = needs("doveadm"), needs("procmail")
        if not LDA.exists():
            unavailable("missing: dovecot-lda; install with: apt-get install dovecot-core")
        self.path = self.maildir("peer")
        self.dovecot = Path(tempfile.mkdtemp(dir=house()))
        user, group = (MAIL_USER, MAIL_USER) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        self.rights = {"user": user, "group": group, "extra_groups": []} if os.geteuid() == 0 else {}
        (self.dovecot / "run").mkdir()
        (self.dovecot / "log").touch()
        (self.dovecot / "conf").write_text(f"""\
base_dir = {self.dovecot}/run
log_path = {self.dovecot}/log
ssl = no
mail_uid = {user}
mail_gid = {group}
first_valid_uid = 1
first_valid_gid = 1
stats_writer_socket_path =
auth_socket_path =
hostname = mail.example.org
postmaster_address = postmaster@example.org
mail_location = maildir:{self.path}
""")
        give(self.dovecot)
        give(self.path.parent)

    def run_as_owner(self, *command: str | Path, message: bytes = b"") -> bytes:
        """Run a program with the rights of the Maildir's owner; return what it says."""
        environment = {"USER": "peer", "HOME": str(self.dovecot), "PATH": os.environ.get("PATH", os.defpath)}
        ran = subprocess.run(list(map(str, command)), input=message, capture_output=True, env=environment,
                             cwd=self.dovecot, timeout=WAIT_SECONDS, check=False, **self.rights)
        self.assertEqual(ran.returncode, 0, ran)
        return ran.stdout

    def ask_dovecot(self, *words: str) -> bytes:
        return self.run_as_owner(self.doveadm, "-c", self.dovecot / "conf", *words)

    def deliver_by_dovecot(self, message: bytes) -> None:
        self.run_as_owner(LDA, "-c", self.dovecot / "conf", "-f", "a@b", "-r", "peer@mail.example.org",
                          message=message)

    def deliver_by_procmail(self, message: bytes) -> None:
        self.run_as_owner(self.procmail, "-m", f"DEFAULT={self.path}/", "/dev/null", message=message)

    def numbers(self) -> list[int]:
        """Return which messages Dovecot shows, by what is in their subjects."""
        said = self.ask_dovecot("fetch", "hdr.subject", "mailbox", "INBOX", "all")
        return sorted(int(found) for found in re.findall(rb"number (\d+)", said))

    def message(self, number: int) -> bytes:
        return b"Subject: number %d\n\n.dot\n%send\n" % (number, (b"x" * 70 + b"\n") * (100 * number))

    def test_programs_at_work_while_somebody_is_logged_in(self) -> None:
        """Moved, marked, removed by Dovecot, delivered by it and procmail: nothing is lost or doubled."""
        for number in range(0, 12, 2):
            self.deliver_by_dovecot(self.message(number))
            self.deliver_by_procmail(self.message(number + 1))
        self.assertEqual(len(list((self.path / "new").iterdir())), 12)
        client = self.login("peer")
        self.assertEqual(client.stat()[0], 12)
        ids = [line.split()[1] for line in client.uidl()[1]]
        self.ask_dovecot("flags", "add", "\\Seen \\Answered", "mailbox", "INBOX", "1:6")
        self.ask_dovecot("expunge", "mailbox", "INBOX", "subject", "number 11")
        for number in (12, 13):
            self.deliver_by_dovecot(self.message(number))
        self.deliver_by_procmail(self.message(14))
        self.assertEqual(len(self.numbers()), 14)
        shown = {}
        for number in range(1, 13):
            try:
                text = b"\r\n".join(client.retr(number)[1]) + b"\r\n"
            except poplib.error_proto:
                continue
            found = int(re.search(rb"^Subject: number (\d+)", text, re.MULTILINE)[1])
            shown[found] = number
            self.assertTrue(text.endswith(self.message(found).replace(b"\n", b"\r\n")))
        self.assertEqual(sorted(shown), list(range(11)))
        uidlist = (self.path / "dovecot-uidlist").read_bytes()
        for found in (0, 3, 5, 7, 10):
            client.dele(shown[found])
        client.quit()
        self.assertEqual((self.path / "dovecot-uidlist").read_bytes(), uidlist)
        left = [1, 2, 4, 6, 8, 9, 12, 13, 14]
        self.assertEqual(self.numbers(), left)
        client = self.login("peer")
        self.assertEqual(len(self.read(client)), len(left))
        again = [line.split()[1] for line in client.uidl()[1]]
        self.assertEqual(set(again) & set(ids), {ids[shown[found] - 1] for found in left if found in shown})
        client.quit()
        log = (self.dovecot / "log").read_text()
        self.assertNotIn("Error", log)
        self.assertNotIn("Warning", log)

    def test_what_we_deliver(self) -> None:
        """Dovecot shows it as it was sent, with the size that we say, and marks that POP3 does not mind."""
        smtp = smtplib.LMTP("127.0.0.1", service().lmtp_port)
        self.addCleanup(smtp.close)
        content = self.message(7).replace(b"\n", b"\r\n")
        smtp.sendmail("sender@example.net", ["peer@mail.example.org"], content)
        if os.geteuid() == 0:
            [path] = (self.path / "new").iterdir()
            self.assertEqual(path.stat().st_uid, MAIL_USER)
        said = self.ask_dovecot("fetch", "size.virtual", "mailbox", "INBOX", "all")
        whole = self.ask_dovecot("-f", "flow", "fetch", "text", "mailbox", "INBOX", "all")
        client = self.login("peer")
        [text] = self.read(client)
        client.quit()
        self.assertEqual(int(re.search(rb"\d+", said)[0]), len(text))
        self.assertEqual(whole.removeprefix(b"text=").replace(b"\r\n", b"\n").strip(),
                         text.replace(b"\r\n", b"\n").strip())
        self.assertIn(b"Return-Path: <sender@example.net>\r\nDelivered-To: peer@mail.example.org\r\n", text)


class ClientTests(ServiceCase):
    """What clients see of it."""

    def test_sdps_over_a_maildir(self) -> None:
        """user@host and *ENV, by what an MTA has written into the header; and by what came over LMTP."""
        path = self.maildir("xyz")
        for number, (user, field) in enumerate([("fred", b"X-Original-To"), ("jim", b"Delivered-To")]):
            (path / "new" / f"17000000{number}0.M1P1.mta").write_bytes(
                b"Return-Path: <Sender@example.net>\n%s: %s@xyz.mail.example.org\nSubject: x\n\nfor %s\n"
                % (field, user.encode(), user.encode()))
        smtp = smtplib.LMTP("127.0.0.1", service().lmtp_port)
        self.addCleanup(smtp.close)
        smtp.sendmail("", ["Jim@xyz.mail.example.org"], b"Subject: y\r\n\r\nfor Jim\r\n")
        client = self.login("jim@xyz")
        self.assertEqual(len(self.read(client)), 2)
        client.quit()
        client = self.login("xyz")
        self.assertEqual(client.stat()[0], 3)
        envelopes = [client._longcmd(f"*ENV {number}")[1] for number in (1, 2, 3)]
        self.assertEqual([[line for line in lines if b"@" in line] for lines in envelopes], [
            [b"Sender@example.net", b"fred@xyz.mail.example.org"],
            [b"Sender@example.net", b"jim@xyz.mail.example.org"], [b"Jim@xyz.mail.example.org"]])
        client.dele(2)
        client.quit()
        client = self.login("fred+xyz")
        self.assertTrue(self.read(client)[0].endswith(b"for fred\r\n"))
        client.quit()

    def test_curl(self) -> None:
        """Lists, fetches large and small messages, and removes one."""
        curl = needs("curl")
        path = self.maildir("reader")
        texts = [b"Subject: s\n\n.\n..\nshort", b"Subject: l\n\n" + b".%030d\n" % 5 * 9000]
        for number, text in enumerate(texts):
            (path / "cur" / f"170000000{number}.x:2,S").write_bytes(text)
        url = f"pop3://127.0.0.1:{service().pop3_port}"
        for number, text in enumerate(texts, 1):
            ran = subprocess.run([curl, "-s", "-u", f"reader:{PASSWORD}", f"{url}/{number}"],
                                 capture_output=True, timeout=WAIT_SECONDS, check=True)
            expected = text.replace(b"\n", b"\r\n") + (b"" if text.endswith(b"\n") else b"\r\n")
            self.assertTrue(ran.stdout == expected)
        subprocess.run([curl, "-s", "-u", f"reader:{PASSWORD}", "-X", "DELE", "-l", f"{url}/1"],
                       capture_output=True, timeout=WAIT_SECONDS, check=False)
        self.assertEqual([file.name for file in (path / "cur").iterdir()], ["1700000001.x:2,S"])

    def test_commands(self) -> None:
        """`maildrop list` shows what lies there though nobody ever logged in; `deliver` and `check` work."""
        path = self.maildir("reader")
        (path / "new" / "1700000000.M1P1.mta").write_bytes(b"Return-Path: <a@b>\nDelivered-To: c@d\n\nx\n")
        site = service().site
        site.deliver(b"Subject: y\n\ny\n", "reader@mail.example.org", sender="s@example.net")
        told = site.succeed("maildrop", "list", "reader").decode()
        lines = [line.split("\t") for line in told.splitlines()]
        self.assertEqual([line[3:] for line in lines],
                         [["a@b", "c@d"], ["s@example.net", "reader@mail.example.org"]])
        self.assertEqual(lines[0][2], "1700000000.M1P1.mta")
        site.succeed("check")
