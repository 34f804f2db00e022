"""The command and the service over PostgreSQL, as an operator has them; and where the server is not there."""

from __future__ import annotations

import os
import poplib
import shutil
import signal
import smtplib
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.engines import postgres
from tests.ports import held_port
from tests.services import BIN, HOSTNAME, WAIT_SECONDS, Site, lives, stands_still, wait_for
from tests.workers.test_processes import server_of, workers_of

LARGE = b"Subject: large\n\n" + b"0123456789abcd\n" * 10_000
MBOX = b"From a@b.example Thu Jan  1 00:00:00 2026\nSubject: old\n\nbody\n\n"
SECRET = "s3cret-of-the-role"


class OperatorTests(SynchronousTestCase):
    """One database, and a service of two workers in which nothing ends with a lease."""

    @classmethod
    def setUpClass(cls) -> None:
        server = postgres.primary()
        cls.folder = Path(tempfile.mkdtemp(prefix="mailgate-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        name = server.create_database()
        cls.addClassCleanup(server.drop_database, name)
        url = server.url(name, user=f"{postgres.SUPERUSER}:{SECRET}")       # who is believed without it
        cls.site = Site(cls.folder, accounts={"ann": "secret", "bob": "secret"}, metadata=url,
                        top="workers = 2", store="lease_seconds = 3600")

    def test_commands(self) -> None:
        """Accounts, mail in and out, what looks after it: as with a database of our own."""
        succeed, person = self.site.succeed, ("carol@example.org", "carol@" + HOSTNAME)
        others = self.large_bodies()        # of another test
        succeed("account", "add", "carol", "--address", person[0], "--address", person[1],
                "--password-stdin", stdin=b"secret\n")
        succeed("account", "load", "-", stdin=b"dave:{PLAIN}secret\nerin:{PLAIN}secret\n")
        listed = [line.split(b"\t")[0] for line in succeed("account", "list").splitlines()]
        self.assertEqual(listed, [b"ann", b"bob", b"carol", b"dave", b"erin"])
        self.assertEqual(self.site.command("account", "add", "carol", "--password-stdin",
                                           stdin=b"secret\n").returncode, os.EX_DATAERR)
        for content in (b"Subject: small\n\n", LARGE):
            self.site.deliver(content, *person)
        (self.folder / "old.mbox").write_bytes(MBOX)
        for _ in range(2):      # what was taken is not taken again
            succeed("import", "carol", str(self.folder / "old.mbox"))
        lines = [line.split(b"\t") for line in succeed("maildrop", "list", "carol").splitlines()]
        self.assertEqual([line[0] for line in lines], [b"1", b"2", b"3", b"4", b"5"])
        self.assertEqual(len({line[2] for line in lines}), 5)
        self.assertIn(b"all is well", succeed("check"))
        for command in (("store", "verify"), ("store", "sweep"), ("account", "remove", "erin")):
            succeed(*command)
        [body] = self.large_bodies() - others
        body.rename(self.folder / "away")
        for command in ("check", "store verify"):
            found = self.site.command(*command.split())
            self.assertNotEqual(found.returncode, 0)
            self.assertIn(body.name.encode(), found.stdout + found.stderr)
        (self.folder / "away").rename(body)
        succeed("store", "verify")

    def test_workers(self) -> None:
        """Two workers exclude each other's sessions; one that is killed holds nobody up, for no second."""
        self.site.deliver(LARGE, f"ann@{HOSTNAME}")
        service = self.site.start()
        self.addCleanup(self.end, service, workers_of(service.pid))
        first = self.logged_in(service, "ann")
        victim = server_of(first.sock, workers_of(service.pid))
        other = self.at_another(service, victim)
        other.user("ann")
        with self.assertRaisesRegex(poplib.error_proto, "IN-USE"):
            other.pass_("secret")
        other.user("bob")
        other.pass_("secret")
        self.assertTrue(b"\n".join(first.retr(1)[1]).endswith(LARGE.strip()))
        first.dele(1)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(workers_of(service.pid) - {victim}) == 2, "another worker")
        with smtplib.LMTP("127.0.0.1", service.lmtp_port, timeout=WAIT_SECONDS) as client:
            client.sendmail("", [f"ann@{HOSTNAME}"], b"Subject: two\r\n\r\n")
        wait_for(lambda: service.messages_seen("ann", "secret") == 2, "the lease to be given up")
        self.assertEqual(other.stat(), (0, 0))
        other.quit()
        again = self.logged_in(service, "ann")
        again.dele(1)
        again.quit()
        self.assertEqual(service.messages_seen("ann", "secret"), 1)
        shown = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/comm").read_bytes()
                         for pid in [service.pid, *workers_of(service.pid)])
        self.assertNotIn(SECRET.encode(), shown)
        self.assertNotIn(SECRET, service.log())
        self.assertEqual(service.stop(), -signal.SIGTERM)
        self.assertEqual(self.rows("lease") + self.rows("holder"), [])

    def large_bodies(self) -> set[Path]:
        return {path for path in (self.folder / "bodies").rglob("*") if path.stat().st_size > len(LARGE)}

    def logged_in(self, service, name: str) -> poplib.POP3:
        client = poplib.POP3("127.0.0.1", service.pop3_port, timeout=WAIT_SECONDS)
        self.addCleanup(client.close)
        client.user(name)
        client.pass_("secret")
        return client

    def at_another(self, service, worker: int) -> poplib.POP3:
        """Connect while one worker stands still: which of them accepts is anybody's guess."""
        os.kill(worker, signal.SIGSTOP)
        try:
            wait_for(lambda: stands_still(worker), "a worker to stand still")
            client = poplib.POP3("127.0.0.1", service.pop3_port, timeout=WAIT_SECONDS)
        finally:
            os.kill(worker, signal.SIGCONT)
        self.addCleanup(client.close)
        self.assertNotEqual(server_of(client.sock, workers_of(service.pid)), worker)
        return client

    def rows(self, table: str) -> list[tuple]:
        name = next(line for line in self.site.file.read_text().splitlines() if "metadata" in line)
        return postgres.primary().sql(f"SELECT * FROM {table}", database=name.rpartition("/")[2].strip('"'))

    def end(self, service, pids: set[int]) -> None:
        service.end()
        for pid in pids:
            if lives(pid):
                os.kill(pid, signal.SIGKILL)


class NoServerTests(SynchronousTestCase):
    """Nobody listens at the address, which has a password in it."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mailgate-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.port = held_port(self)
        with self.assertRaises(AssertionError):     # `account load` of no accounts
            Site(self.folder,
                 metadata=f"postgresql://mail:{SECRET}@127.0.0.1:{self.port}/mail?sslpassword={SECRET}")

    def test_every_command(self) -> None:
        """Is put off, by the exit code that mail servers know; told is which server it is, and no secret."""
        (self.folder / "mbox").write_bytes(MBOX)
        for command in (("account", "add", "ann", "--password-stdin"), ("account", "load", "-"),
                        ("account", "list"), ("deliver", "--from", "", "ann"), ("maildrop", "list", "ann"),
                        ("import", "ann", str(self.folder / "mbox")), ("store", "sweep")):
            ran = self.run_it(*command)
            self.assertEqual((command, ran.returncode), (command, os.EX_TEMPFAIL), ran)
            self.assertIn(str(self.port).encode(), ran.stderr)
            self.assert_no_secret(ran.stdout + ran.stderr)
        for command in (("check",), ("store", "verify")):       # which tell what they find
            ran = self.run_it(*command)
            self.assertNotIn(ran.returncode, (0, 1))
            self.assertIn(str(self.port).encode(), ran.stdout + ran.stderr)
            self.assert_no_secret(ran.stdout + ran.stderr)

    def test_the_service(self) -> None:
        """Does not begin, and says why."""
        command = [BIN / "twistd", "-n", "--pidfile=", "mailgate", "-c", self.folder / "mailgate.toml"]
        ran = subprocess.run(command, cwd=self.folder, capture_output=True, timeout=WAIT_SECONDS, check=False)
        self.assertEqual(ran.returncode, os.EX_TEMPFAIL, ran)
        self.assertIn(str(self.port).encode(), ran.stdout + ran.stderr)
        self.assert_no_secret(ran.stdout + ran.stderr)

    def run_it(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([BIN / "mailgate", "-c", self.folder / "mailgate.toml", *command],
                              input=b"ann:{PLAIN}x\n", capture_output=True, timeout=WAIT_SECONDS, check=False)

    def assert_no_secret(self, told: bytes) -> None:
        self.assertNotIn(SECRET.encode(), told)
        self.assertNotIn(b"Traceback", told)
