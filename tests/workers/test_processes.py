"""Services of several processes, as an operator sees them: who serves, who dies, who is told."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import smtplib
import socket
import sqlite3
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.talk import CLIENT_SECONDS, PASSWORD, Raw
from tests.interop.texts import HELLO
from tests.services import WAIT_SECONDS, Site, lives, wait_for

PEOPLE = ("ann", "bob", "carol", "dave")
MOST_CONNECTIONS = 300      # until another worker has accepted one


class WorkersCase(SynchronousTestCase):
    """Each class has one service: to start one takes seconds."""

    workers = 2
    further = ""

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(tempfile.mkdtemp())       # short: unix sockets may lie there
        try:
            cls.site = Site(
                cls.folder, accounts=dict.fromkeys(PEOPLE, PASSWORD), top=f"workers = {cls.workers}",
                store="lease_seconds = 3600", further=cls.further)       # so that nothing ends with a lease
            cls.site.deliver(HELLO, *(f"{name}@mail.example.org" for name in PEOPLE))
            cls.service = cls.site.start()
        except BaseException:
            shutil.rmtree(cls.folder)
            raise

    @classmethod
    def tearDownClass(cls) -> None:
        pids = workers_of(cls.service.pid)
        cls.service.end()
        for pid in pids:
            if lives(pid):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(cls.folder)

    def pids(self) -> set[int]:
        return workers_of(self.service.pid)

    def talk(self, port: int = 0) -> Raw:
        client = Raw(port or self.service.pop3_port)
        self.addCleanup(client.close)
        return client

    def serving(self) -> set[int]:
        """Return which workers some clients meet that come and go."""
        found = set()
        for _ in range(9):
            with Raw(self.service.pop3_port) as client:
                found.add(server_of(client, self.pids()))
        return found

    def at_another(self, *others: Raw) -> Raw:
        """Return a connection to a worker that serves none of the others."""
        taken = {server_of(other, self.pids()) for other in others}
        for _ in range(MOST_CONNECTIONS):
            client = self.talk()
            if server_of(client, self.pids()) not in taken:
                return client
        raise AssertionError(f"all of {MOST_CONNECTIONS} connections went to {taken}")

    def logged_in(self, name: str, *others: Raw) -> Raw:
        """Return a session, with another worker than the others have."""
        client = self.at_another(*others)
        self.assertEqual(client.log_in(name)[:3], b"+OK")
        return client

    def rows(self) -> list[tuple[str, ...]]:
        """Return the rows of leases and their holders."""
        connection = sqlite3.connect(self.site.data / "mail.db")
        try:
            return [row for table in ("lease", "holder")
                    for row in connection.execute(f"SELECT * FROM {table}")]
        finally:
            connection.close()

    def held(self, name: str) -> int:
        return len(self.site.succeed("maildrop", "list", name).splitlines())


class ServingTests(WorkersCase):
    workers = 4

    def test_all_over_one_store(self) -> None:
        """Clients reach several workers; a maildrop opens for one of two, whichever workers they meet."""
        self.assertEqual(len(self.pids()), 4)
        first = self.logged_in("ann")
        second = self.at_another(first)
        third = self.at_another(first, second)
        for client in (second, third):
            self.assertRegex(client.log_in("ann"), rb"\A-ERR \[IN-USE\] ")
        self.assertEqual(third.log_in("bob")[:3], b"+OK")
        self.assertEqual(first.ask("QUIT")[:3], b"+OK")
        self.assertEqual(second.log_in("ann")[:3], b"+OK")

    def test_mail_comes_in(self) -> None:
        """Over LMTP, by whichever worker takes it; what was acknowledged is there."""
        port = self.service.lmtp_port
        clients = [smtplib.LMTP("127.0.0.1", port, timeout=CLIENT_SECONDS) for _ in range(20)]
        servers = {server_of(client.sock, self.pids()) for client in clients}
        for client in clients:
            client.sendmail("a@b.example", ["dave@mail.example.org"], b"Subject: x\r\n\r\ny\r\n")
            client.quit()
        self.assertEqual(self.held("dave"), 21)
        self.assertGreater(len(servers), 1)

    def test_the_log_is_one(self) -> None:
        """A worker's lines stand in it as those of a single process would, for filters to find."""
        clients = [self.talk() for _ in range(12)]
        for number, client in enumerate(clients):
            client.log_in(f"mallory{number}")
        pattern = (r"^\S+T\S+\+0000 \[mailgate\.login#info\] login refused for 127\.0\.0\.1 \(pop3, USER\) as"
                   r' "mallory\d+": no such account$')
        wait_for(lambda: len(re.findall(pattern, self.service.log(), re.MULTILINE)) == 12, "the log's lines")
        self.assertNotIn(" wrote: ", self.service.log())
        self.assertEqual(self.service.log().count("pop3 at 127.0.0.1:"), 1)

    def test_nothing_on_the_command_line(self) -> None:
        """It names the configuration, for ps."""
        for pid in self.pids():
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            self.assertEqual(words[1:], [b"-m", b"mailgate.workers", os.fsencode(self.site.file), b""])


class DyingTests(WorkersCase):
    def test_worker_then_parent(self) -> None:
        """Whoever is killed: nobody else's session suffers, and no mail."""
        for name in ("ann", "bob"):
            self.site.deliver(HELLO, f"{name}@mail.example.org")
        self.a_worker_is_killed()
        self.a_worker_is_told_to_end()
        self.the_parent_is_killed()

    def a_worker_is_killed(self) -> None:
        """Its sessions are over and hold nobody up; others go on; another worker takes its place."""
        ann = self.logged_in("ann")
        bob = self.logged_in("bob", ann)
        ann.ask("DELE 1")
        bob.ask("DELE 1")
        before, victim = self.pids(), server_of(ann, self.pids())
        with smtplib.LMTP("127.0.0.1", self.service.lmtp_port, timeout=CLIENT_SECONDS) as client:
            client.sendmail("a@b.example", ["ann@mail.example.org"], b"Subject: x\r\n\r\ny\r\n")
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda: len(self.pids()) == 2 and victim not in self.pids(), "another worker")
        self.assertEqual(self.pids() & before, before - {victim})
        self.assertEqual(bob.ask("NOOP")[:3], b"+OK")

        def opens() -> bool:
            with self.talk() as again:
                granted = again.log_in("ann")[:3] == b"+OK" and again.ask("STAT").startswith(b"+OK 3 ")
                return granted and again.ask("QUIT")[:3] == b"+OK"      # free for who comes to another worker

        wait_for(opens, "the maildrop of the dead session")
        self.assertEqual(bob.ask("QUIT")[:3], b"+OK")
        self.assertEqual(self.held("bob"), 1)
        self.assertIn(f"worker {victim} was ended by signal 9; another one begins now", self.service.log())

    def a_worker_is_told_to_end(self) -> None:
        """By SIGTERM: its sessions are told, and another one begins."""
        wait_for(lambda: len(self.serving()) == 2, "two that serve")
        ann = self.logged_in("ann")
        bob = self.logged_in("bob", ann)
        victim = server_of(ann, self.pids())
        os.kill(victim, signal.SIGTERM)
        self.assertRegex(ann.line(), rb"\A-ERR \[SYS/TEMP\] ")
        wait_for(lambda: len(self.pids()) == 2 and victim not in self.pids(), "another worker")
        self.assertEqual(bob.ask("QUIT")[:3], b"+OK")

    def the_parent_is_killed(self) -> None:
        """The workers notice, tell their sessions, give up all locks, and are gone: nobody has the port."""
        wait_for(lambda: len(self.serving()) == 2, "two that serve")
        ann = self.logged_in("ann")
        bob = self.logged_in("bob", ann)
        bob.ask("DELE 1")
        pids = self.pids()
        self.service.kill()
        for client in (ann, bob):
            self.assertRegex(client.line(), rb"\A-ERR \[SYS/TEMP\] ")
        wait_for(lambda: not any(map(lives, pids)), "the workers' end")
        self.assertEqual(self.rows(), [])
        self.assertRaises(ConnectionRefusedError, self.talk)
        self.assertEqual(self.held("bob"), 1)


class ReloadTests(WorkersCase):
    """A configuration that changes, then the end."""

    further = '[[listen]]\nprotocol = "pop3"\nendpoint = "unix:pop3.sock"\n'

    def reload(self, *changes: tuple[str, str], told: str = "the configuration is in use") -> None:
        """Change the configuration, send SIGHUP, and wait for what the log says."""
        text = self.site.file.read_text()
        for old, new in changes:
            self.assertIn(old, text)
            text = text.replace(old, new)
        self.site.file.write_text(text)
        before = self.service.log().count(told)
        os.kill(self.service.pid, signal.SIGHUP)
        wait_for(lambda: self.service.log().count(told) > before, told)

    def test_reload_then_sigterm(self) -> None:
        """What the file says is served by new workers, unless it cannot be; at last all are told."""
        self.it_changes()
        self.it_cannot_be_taken_up()
        self.all_ends()

    def it_changes(self) -> None:
        """Sessions of the old workers go on to their end."""
        ann = self.logged_in("ann")
        old = self.pids()
        self.reload(("workers = 2", "workers = 3"),
                    ('protocol = "pop3"\n', 'protocol = "pop3"\ngreeting = "new"\n'),
                    ("unix:pop3.sock", "unix:other.sock"))
        self.assertEqual([self.talk().greeting for _ in range(9)], [b"+OK new\r\n"] * 9)
        self.assertFalse((self.site.folder / "pop3.sock").exists())
        self.assertTrue((self.site.folder / "other.sock").exists())
        wait_for(lambda: len(self.pids()) == 4, "the end of the old worker without a session")
        self.assertEqual(self.pids() & old, {server_of(ann, self.pids())})
        self.assertEqual(ann.ask("DELE 1")[:3], b"+OK")
        self.assertEqual(ann.ask("QUIT")[:3], b"+OK")
        wait_for(lambda: not self.pids() & old, "the end of the last old worker")
        self.assertEqual(self.held("ann"), 0)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.site.folder / "other.sock"))
            self.assertEqual(client.makefile("rb").readline(), b"+OK new\r\n")

    def it_cannot_be_taken_up(self) -> None:
        """Nothing changes, and the log says why."""
        pids = self.pids()
        told = "the configuration is not taken up"
        self.reload(("workers = 3", "workers = 0"), told=told)
        self.reload(("workers = 0", 'workers = 2\n[tls]\ncertificate = "no.pem"\nkey = "no.pem"'), told=told)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            self.reload(('[tls]\ncertificate = "no.pem"\nkey = "no.pem"', ""),
                        ("unix:other.sock", f"tcp:{port}:interface=127.0.0.1"), told=told)
        wait_for(lambda: self.pids() == pids, "the end of what was tried")
        self.assertEqual(self.talk().greeting, b"+OK new\r\n")
        self.assertRegex(self.service.log(), r"not taken up: .*workers: 0 is not between 1 and 64")
        self.assertRegex(self.service.log(), r"not taken up: tls\.certificate: .*no\.pem")
        self.assertRegex(self.service.log(), r"not taken up: listen\[2\]\.endpoint: .*in use")


    def all_ends(self) -> None:
        """By signals: sessions of all workers are told, all processes end, and no lock is left."""
        ann = self.logged_in("ann")
        clients = [ann, self.logged_in("bob", ann), self.talk()]
        clients[1].ask("DELE 1")
        pids = self.pids()
        self.service.pause()
        for number in (signal.SIGINT, signal.SIGTERM):      # it meets both at once
            os.kill(self.service.pid, number)
        self.service.resume()
        code = self.service.process.wait(WAIT_SECONDS)      # by the first that nobody had it ignore
        self.assertIn(code, (-signal.SIGINT, -signal.SIGTERM))
        for client in clients:
            self.assertRegex(client.line(), rb"\A-ERR \[SYS/TEMP\] ")
            self.assertEqual(client.line(), b"")
        self.assertFalse(any(map(lives, pids)))
        self.assertEqual(self.rows(), [])
        self.assertRaises(ConnectionRefusedError, self.talk)
        self.assertEqual(self.held("bob"), 1)
        self.assertNotIn("Traceback", self.service.log())
        self.assertNotIn("another one begins", self.service.log())


class StartTests(SynchronousTestCase):
    def test_store_that_does_not_open(self) -> None:
        """The service ends as a single process would: it says why, and nothing is left."""
        site = Site(Path(self.mktemp()), top="workers = 2")
        (site.folder / "mail.db").write_bytes(b"this is no database, whatever its name may say" * 100)
        for more in ("-wal", "-shm"):
            (site.folder / f"mail.db{more}").unlink(missing_ok=True)
        log = site.folder / "log"
        ended = site_ends(site, log)
        self.assertEqual(ended, (75, 1), log.read_text())


def site_ends(site: Site, log: Path) -> tuple[int, int]:
    """Start a service that cannot; return its exit code, and how many lines it wrote to standard error."""
    with open(log, "wb") as output:
        ran = subprocess.run(site.service_command(), stdin=subprocess.DEVNULL, stdout=output, cwd=site.folder,
                             stderr=subprocess.PIPE, timeout=60, check=False)
    assert b"Traceback" not in ran.stderr, ran.stderr
    assert ran.stderr.startswith(b"mailgate: cannot start: "), ran.stderr
    return ran.returncode, len(ran.stderr.splitlines())


def workers_of(pid: int) -> set[int]:
    """Return the living children of a process."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return set()
    return {int(child) for child in children if lives(int(child))}


def server_of(client: Raw | socket.socket, pids: set[int]) -> int:
    """Return which of some processes has the other end of a connection over TCP, which was greeted."""
    own = client if isinstance(client, socket.socket) else client.socket
    ends = [f"0100007F:{address[1]:04X}" for address in (own.getpeername(), own.getsockname())]
    found: list[int] = []

    def look() -> bool:     # the list may lack a line, where others came and went while it was read
        inodes = [words[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
                  if (words := line.split())[1:3] == ends]
        found.extend(pid for pid in pids for inode in inodes if has_socket(pid, inode))
        return bool(found)

    wait_for(look, f"one of {pids} to have the other end")
    return found[0]


def has_socket(pid: int, inode: str) -> bool:
    """Whether a process has a socket open."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(entry) == f"socket:[{inode}]":
                return True
    return False
