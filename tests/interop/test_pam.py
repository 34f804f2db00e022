"""The users of a system over PAM, with the real service, its own users and shadow file, and pam_unix."""

from __future__ import annotations

import contextlib
import poplib
import smtplib
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.schemes import hash_password
from tests.interop.programs import run
from tests.needs import needs
from tests.pam_system import PASSWORD, System
from tests.services import Service, Site, lives, wait_for

_FURTHER = """\
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
checkers = ["trouble", "file"]
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
checkers = ["nomodule", "nofile"]
[[checker]]
kind = "pam"
[[checker]]
kind = "pam"
name = "trouble"
service = "trouble"
processes = 2
timeout_seconds = 10
[[checker]]
kind = "passwd-file"
name = "file"
path = "passwd"
[[checker]]
kind = "pam"
name = "nomodule"
service = "nomodule"
[[checker]]
kind = "pam"
name = "nofile"
service = "nofile"
[[checker]]
kind = "pam"
name = "members"
minimum_uid = 0
groups = ["mail-users"]
"""
_LISTENS = ('checkers = ["pam", "file"]', 'checkers = ["pam", "file", "members"]')
_OPEN = contextlib.ExitStack()
system: System
site: Site
service: Service


def setUpModule() -> None:
    """Start one service in a namespace of its own."""
    global system, site, service
    folder = Path(_OPEN.enter_context(tempfile.TemporaryDirectory()))
    system = System(folder / "system")
    inside = system.inside
    site = Site(folder / "site", further=_FURTHER)
    text = site.file.read_text()
    for protocol, checkers in zip(("pop3", "lmtp"), _LISTENS, strict=True):
        listener = f'[[listen]]\nprotocol = "{protocol}"\n'
        text = text.replace(listener, f"{listener}{checkers}\n", 1)
    site.file.write_text(text)
    (site.folder / "passwd").write_text("filed:{PLAIN}filed\n")
    service = site.start(inside)
    _OPEN.callback(service.end)


def tearDownModule() -> None:
    _OPEN.close()


def log_in(name: str, password: bytes = PASSWORD, *, listener: int = 0) -> str:
    """Log in; return "" or what was said against it."""
    ports = [port for protocol, port in service.ports if protocol == "pop3"]
    client = poplib.POP3("127.0.0.1", ports[listener], timeout=60)
    try:
        client.user(name)
        client.pass_(password.decode())
    except poplib.error_proto as refusal:
        return str(refusal.args[0], "ascii")
    finally:
        client.quit()
    return ""


class Logins(SynchronousTestCase):
    def test_who_gets_in(self) -> None:
        """Right and wrong passwords; locked, expired and aged accounts; those that may not; other cases."""
        for name in ("alice", "bob", "BOB", "filed"):
            self.assertEqual("", log_in(name, b"filed" if name == "filed" else PASSWORD), name)
        for name, password in (("alice", b"wrong"), ("locked", PASSWORD), ("expired", PASSWORD),
                               ("aged", PASSWORD), ("svc", PASSWORD), ("low", PASSWORD), ("root", b"x"),
                               ("nobody", b"x"), ("carol", PASSWORD), ("Carol", PASSWORD), ("ghost", b"x")):
            self.assertTrue(log_in(name, password).startswith("-ERR [AUTH] "), name)

    def test_mail(self) -> None:
        """LMTP takes mail for those who may log in, locked ones too, and for nobody else; curl fetches it."""
        with smtplib.LMTP("127.0.0.1", service.lmtp_port, timeout=30) as client:
            client.ehlo("test")
            client.docmd("MAIL FROM:<>")
            codes = {name: client.docmd(f"RCPT TO:<{name}@mail.example.org>")[0] for name in (
                "alice", "locked", "filed", "member", "svc", "root", "nobody", "ghost", "Carol")}
            self.assertEqual({**dict.fromkeys(("alice", "locked", "filed", "member"), 250),
                              **dict.fromkeys(("svc", "root", "nobody", "ghost", "Carol"), 550)}, codes)
            client.docmd("RSET")
            client.sendmail("a@b.example", ["alice@mail.example.org"], b"Subject: by PAM\r\n\r\nhello\r\n")
        ran = run([needs("curl"), "-s", "--user", f"alice:{PASSWORD.decode()}",
                   f"pop3://127.0.0.1:{service.pop3_port}/1"], folder=site.folder)
        self.assertIn("Subject: by PAM", ran.everything)

    def test_commands(self) -> None:
        """`mailgate deliver` knows them too; `check` finds nothing but the services that are broken."""
        ran = site.command("deliver", "--from", "", "bob@mail.example.org", stdin=b"Subject: x\n\ny\n",
                           prefix=system.inside)
        self.assertEqual(0, ran.returncode, ran)
        self.assertEqual(67, site.command("deliver", "--from", "", "root@mail.example.org", stdin=b"x: y\n\n",
                                          prefix=system.inside).returncode)
        ran = site.command("check", prefix=system.inside)
        told = ran.stderr.decode().splitlines()
        self.assertEqual((78, 1), (ran.returncode, len(told)), told)
        self.assertIn("checker[4].service: there is no /etc/pam.d/nofile; PAM would go by its", told[0])

    def test_changed_password(self) -> None:
        """The old one is no longer good, though it was remembered; the new one is, at once."""
        shadow = system.folder / "shadow"
        before = shadow.read_text()
        self.assertEqual("", log_in("bob"))
        crypt = hash_password(b"new one", "SHA512-CRYPT").partition("}")[2]
        lines = [f"bob:{crypt}:19000:0:99999:7:::" if line.startswith("bob:") else line
                 for line in before.splitlines()]
        try:
            shadow.write_text("\n".join(lines) + "\n")
            self.assertIn("[AUTH]", log_in("bob"))
            self.assertEqual("", log_in("bob", b"new one"))
        finally:
            shadow.write_text(before)
        self.assertEqual("", log_in("bob"))


class Trouble(SynchronousTestCase):
    """Modules that wait, hang, crash or are not there."""

    def test_delay_of_others(self) -> None:
        """While a module makes one login wait, others of PAM and of another checker are served."""
        with ThreadPoolExecutor() as pool:
            slow = pool.submit(log_in, "slow", listener=1)
            try:
                wait_for(lambda: (system.folder / "seen").exists()
                         and "slow 127.0.0.1" in " ".join(system.seen), "the module to wait")
                for _ in range(5):
                    self.assertEqual("", log_in("alice", listener=1))
                    self.assertEqual("", log_in("filed", b"filed", listener=1))
                    self.assertEqual("", log_in("alice"))
                self.assertFalse(slow.done())
            finally:
                system.go()
            self.assertEqual("", slow.result())
        self.assertIn("alice 127.0.0.1 mailgate trouble auth", system.seen)

    def test_refusals_are_quick(self) -> None:
        """pam_faildelay asks for a minute after a failure; nobody waits for it."""
        began = time.monotonic()
        for _ in range(3):
            self.assertIn("[AUTH]", log_in("alice", b"wrong", listener=1))
        self.assertLess(time.monotonic() - began, 60)

    def test_hang_and_crash(self) -> None:
        """Each is an outage for the one login, and told in the log; the next login is served."""
        with ThreadPoolExecutor() as pool:
            hanging = pool.submit(log_in, "hang", listener=1)
            self.assertIn("[SYS/TEMP]", log_in("crash", listener=1))
            self.assertEqual("", log_in("alice", listener=1))
            self.assertIn("[SYS/TEMP]", hanging.result())
        for words in ("no answer within 10 seconds", "its process ended by signal 11"):
            self.assertIn(f"PAM, service trouble: {words}", service.log())

    def test_broken_services(self) -> None:
        """A module or a service file that is missing is an outage, never a wrong password."""
        self.assertIn("[SYS/TEMP]", log_in("alice", listener=2))
        self.assertIn("PAM, service nomodule: authentication: ", service.log())


class End(SynchronousTestCase):
    def test_no_process_is_left(self) -> None:
        """Neither when it ends in order, nor when it is killed."""
        for end in ("stop", "kill"):
            other = site.start(system.inside)
            self.addCleanup(other.end)
            client = poplib.POP3("127.0.0.1", other.pop3_port, timeout=30)
            client.user("alice")
            client.pass_(PASSWORD.decode())
            client.quit()
            children = children_of(other.pid)
            self.assertEqual(1, len(children))
            getattr(other, end)()
            wait_for(lambda pid=children[0]: not lives(pid), "the process to end")


def children_of(pid: int) -> list[int]:
    return [int(one) for task in Path(f"/proc/{pid}/task").iterdir()
            for one in (task / "children").read_text().split()]
