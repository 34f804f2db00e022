"""The service as a process: started, fetched from, told to end, refused a start."""

from __future__ import annotations

import os
import poplib
import re
import signal
import smtplib
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree

from twisted.trial.unittest import SynchronousTestCase

from mailgate.demo import setting
from tests.needs import needs
from tests.running import (
    BIN,
    CONFIGURATION,
    PATIENCE_SECONDS,
    Twistd,
    environment,
    leases,
    mailgate,
    make_service_folder,
)
from tests.test_config import TEN_MISTAKES

MESSAGE = b"Subject: hi\r\n\r\n.body\r\n"


class ServiceCase(SynchronousTestCase):
    configuration = CONFIGURATION

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())      # short: unix sockets may lie there
        self.addCleanup(rmtree, self.folder)
        self.file = make_service_folder(self.folder, self.configuration.replace("FOLDER", str(self.folder)))

    def add_accounts(self) -> None:
        mailgate("-c", self.file, "account", "add", "mrose", "--password-stdin", stdin=b"tanstaaf\n")
        mailgate("-c", self.file, "account", "add", "xyz", "--sdps", "--password-stdin", stdin=b"one\ntwo\n")

    def start(self, *arguments: str | Path) -> Twistd:
        return Twistd(self, "-c", self.file, *arguments, cwd=self.folder)

    def log_in(self, port: int, user: str = "mrose", password: str = "tanstaaf") -> poplib.POP3:
        client = poplib.POP3("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        self.addCleanup(client.close)
        client.user(user)
        client.pass_(password)
        return client


class LifeTests(ServiceCase):
    def test_from_start_to_end(self) -> None:
        """Mail comes by LMTP and by command, goes by POP3; SIGTERM tells the sessions and leaves no lock."""
        self.add_accounts()
        service = self.start()
        ports = service.ready()
        with smtplib.LMTP("127.0.0.1", ports["lmtp"], timeout=PATIENCE_SECONDS) as lmtp:
            for recipient in ("mrose@mail.example.org", "fred@xyz.mail.example.org"):
                lmtp.sendmail("a@b.example", [recipient], MESSAGE)      # of many, smtplib reads one reply
        mailgate("-c", self.file, "deliver", "--from", "", "sam@xyz.mail.example.org", stdin=MESSAGE)

        client = self.log_in(ports["pop3"])
        self.assertEqual(client.retr(1)[1][-2:], [b"", b".body"])
        client.dele(1)
        client.quit()
        self.assertEqual(mailgate("-c", self.file, "maildrop", "list", "mrose"), "")

        host = self.log_in(ports["pop3"], "xyz", "two")
        self.assertEqual(host.stat()[0], 2)
        self.assertEqual(host._longcmd("*ENV 2")[1][2:], [b"", b"sam@xyz.mail.example.org"])
        host.dele(1)
        other = self.log_in(ports["pop3"])
        self.assertNotEqual(leases(self.folder), [])
        service.terminate()
        for session in (host, other):
            said = session.sock.makefile("rb").read()
            self.assertTrue(said == b"" or said.startswith(b"-ERR [SYS/TEMP] "), said)
            self.assertFalse(said.partition(b"\n")[2], "one line, then the end")
        code, err = service.finish()
        self.assertEqual((code, err), (-signal.SIGTERM, ""))
        self.assertEqual(leases(self.folder), [])
        self.assertEqual(len(mailgate("-c", self.file, "maildrop", "list", "xyz").splitlines()), 2)

    def test_change_by_the_command(self) -> None:
        """What the command changes in another process holds at the next login."""
        self.add_accounts()
        port = self.start().ready()["pop3"]
        self.log_in(port).quit()
        mailgate("-c", self.file, "account", "passwd", "mrose", "--password-stdin", stdin=b"fresh\n")
        with self.assertRaises(poplib.error_proto):
            self.log_in(port)
        self.log_in(port, password="fresh").quit()
        mailgate("-c", self.file, "account", "disable", "mrose")
        with self.assertRaises(poplib.error_proto):
            self.log_in(port, password="fresh")

    def test_daemon(self) -> None:
        """In the background, forked after all was made: it serves, and ends by its pid."""
        self.add_accounts()
        log, pid_file = self.folder / "twistd.log", self.folder / "twistd.pid"
        subprocess.run(
            [BIN / "twistd", f"--logfile={log}", f"--pidfile={pid_file}", "mailgate", "-c", self.file],
            cwd=self.folder, env=environment(), check=True, timeout=PATIENCE_SECONDS)
        pid = int(pid_file.read_text())
        self.addCleanup(_kill_if_there, pid)
        _wait(lambda: "mailgate is ready" in log.read_text(), lambda: log.read_text())
        [port] = re.findall(r"pop3 at 127\.0\.0\.1:(\d+)$", log.read_text(), re.MULTILINE)
        session = self.log_in(int(port))
        os.kill(pid, signal.SIGTERM)
        session.sock.makefile("rb").read()
        _wait(lambda: not pid_file.exists(), lambda: log.read_text())
        self.assertEqual(leases(self.folder), [])
        self.assertNotIn("Traceback", log.read_text())

    def test_daemon_that_cannot_listen(self) -> None:
        """The parent process learns it: exit code 1, and the setting's name."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.file.write_text(CONFIGURATION.replace("tcp:0", f"tcp:{taken.getsockname()[1]}", 1))
            ran = subprocess.run(
                [BIN / "twistd", f"--logfile={self.folder}/log", f"--pidfile={self.folder}/pid", "mailgate",
                 "-c", self.file], cwd=self.folder, env=environment(), capture_output=True, text=True,
                timeout=PATIENCE_SECONDS, check=False)
        self.assertEqual(ran.returncode, 1)
        self.assertIn("listen[0].endpoint", ran.stderr)
        self.assertFalse((self.folder / "pid").exists())

    def test_auth_plugins(self) -> None:
        """Any checker of strcred serves beside the accounts; its users get a maildrop at the first login."""
        self.add_accounts()
        (self.folder / "users").write_text("legacy:old\n")
        service = self.start("--auth", f"file:{self.folder}/users", "--auth", "memory:guest:welcome")
        port = service.ready()["pop3"]
        for user, password in (("mrose", "tanstaaf"), ("legacy", "old"), ("guest", "welcome")):
            self.log_in(port, user, password).quit()
        with self.assertRaises(poplib.error_proto):
            self.log_in(port, "guest", "tanstaaf")


class SocketTests(ServiceCase):
    configuration = CONFIGURATION.replace('protocol = "lmtp"\nendpoint = "tcp:0:interface=127.0.0.1"',
                                          'protocol = "lmtp"\nendpoint = "unix:lmtp.sock:mode=660"').replace(
        "tcp:0:interface=127.0.0.1", "systemd:domain=INET:name=pop3")

    def test_activation_and_unix_socket(self) -> None:
        """A socket that systemd holds is adopted, systemd is told when we are ready; LMTP has its mode."""
        self.add_accounts()
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(f"{self.folder}/notify")
        notify.settimeout(PATIENCE_SECONDS)
        listening = socket.create_server(("127.0.0.1", 0))
        fd = listening.fileno()
        activated = ("import os, sys\n"
                     f"os.dup2({fd}, 3, inheritable=True)\n"
                     "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES='pop3')\n"
                     "os.execv(sys.argv[1], sys.argv[1:])\n")
        early = socket.create_connection(listening.getsockname())       # waits in the kernel
        service = Twistd(self, "-c", self.file, cwd=self.folder, pass_fds=(fd,),
                         command=(sys.executable, "-c", activated, BIN / "twistd"),
                         env=environment(NOTIFY_SOCKET=f"{self.folder}/notify"))
        service.ready()
        self.assertEqual(notify.recv(100), b"READY=1")
        with early, early.makefile("rb") as replies:
            self.assertTrue(replies.readline().startswith(b"+OK "))
        path = self.folder / "lmtp.sock"
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o660)
        with smtplib.LMTP(str(path)) as lmtp:
            lmtp.sendmail("", ["mrose@mail.example.org"], MESSAGE)
        self.assertEqual(self.log_in(listening.getsockname()[1]).stat()[0], 1)
        service.terminate()
        self.assertEqual(service.finish()[0], -signal.SIGTERM)
        self.assertFalse(path.exists())
        notify.close()
        listening.close()

    def test_without_systemd(self) -> None:
        """Started by hand, it says what is missing."""
        code, err = self.start().finish()
        self.assertEqual((code, err), (
            78, "mailgate: listen[0].endpoint: systemd has not passed this socket\n"))


class RefusedStartTests(ServiceCase):
    def test_ten_mistakes(self) -> None:
        """All ten, each with its path; nothing is started and nothing is made."""
        (self.folder / "mail.db").unlink()
        self.file.write_text(TEN_MISTAKES)
        service = self.start()
        code, err = service.finish()
        self.assertEqual(code, 78)
        self.assertEqual(len(err.splitlines()), 10)
        for line in err.splitlines():
            self.assertTrue(line.startswith(f"mailgate: {self.file}: "), line)
        self.assertFalse((self.folder / "mail.db").exists())
        self.assertNotIn("Traceback", "".join(service.log))

    def test_port_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.file.write_text(CONFIGURATION.replace("tcp:0", f"tcp:{taken.getsockname()[1]}", 1))
            code, err = self.start().finish()
        self.assertEqual(code, os.EX_OSERR)
        self.assertRegex(err, r"^mailgate: listen\[0\]\.endpoint: .*Address already in use\n$")

    def test_store_that_does_not_open(self) -> None:
        """Nobody is served without the store: the process ends, says why, and exits with 75."""
        (self.folder / "mail.db").write_bytes(b"this is no database, whatever its name may say" * 100)
        service = self.start()
        code, err = service.finish()
        self.assertEqual(code, 75)
        self.assertRegex(err, r"^mailgate: cannot start: .+\n$")
        self.assertNotIn("mailgate is ready", "".join(service.log))

    def test_usage(self) -> None:
        """An unknown --auth, or --demo with a configuration, starts nothing."""
        for arguments in (("--auth", "nonsense:x"), ("--demo",), ("--frobnicate",)):
            self.assertNotEqual(self.start(*arguments).finish()[0], 0)


class DemoTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)

    def start(self) -> tuple[Twistd, str]:
        """Start the demo; return it and what it printed, its commands among it."""
        service = Twistd(self, "--demo", cwd=self.folder)
        service.wait_for("control-C ends it")
        return service, "".join(service.log)

    def paste(self, printed: str, program: str) -> str:
        """Run a printed command in a shell."""
        [command] = [line for line in printed.splitlines() if line.startswith("  ") and program in line]
        ran = subprocess.run(command, shell=True, capture_output=True, cwd=self.folder, check=False,
                             env=environment(HOME=str(self.folder)), timeout=PATIENCE_SECONDS)
        self.assertEqual(ran.returncode, 0, ran)
        return ran.stdout.decode("utf-8", "replace")

    def test_file(self) -> None:
        """The first start writes a configuration: loopback only, in a folder of its own."""
        config, _ = setting(self.folder / "var")
        self.assertEqual([one.endpoint for one in config.listen], [
            "tcp:1110:interface=127.0.0.1", "tcp:2424:interface=127.0.0.1"])
        (self.folder / "var/mailgate.toml").write_text(CONFIGURATION)
        self.assertEqual(setting(self.folder / "var")[0].hostname, "mail.example.org")

    def test_printed_commands(self) -> None:
        """What the demo prints works when it is pasted; a second start keeps what was done."""
        needs("curl")
        needs("fetchmail")
        setting(self.folder / "var")
        file = self.folder / "var/mailgate.toml"
        file.write_text(re.sub("tcp:[0-9]+", "tcp:0", file.read_text()))    # the fixed ports may be taken
        service, printed = self.start()
        self.assertIn("Subject: Welcome", self.paste(printed, "curl"))
        fetched = self.paste(printed, "fetchmail")
        self.assertEqual(fetched.count("Envelope sender: sender@example.org\n"), 2)
        self.assertEqual(fetched.count("Envelope sender: <>\n"), 1)
        self.assertIn("\n.\n..\n.hidden\n", fetched)

        [port] = re.findall(r"POP3 on 127\.0\.0\.1:(\d+)", printed)
        client = poplib.POP3("127.0.0.1", int(port), timeout=PATIENCE_SECONDS)
        client.user("mrose")
        client.pass_("tanstaaf")
        count, octets = client.stat()
        self.assertGreater(octets, 3_000_000)
        client.dele(1)
        client.quit()
        service.terminate()
        service.finish()

        service, printed = self.start()
        self.assertIn("Subject: Menu", self.paste(printed, "curl"))
        listed = mailgate("-c", file, "maildrop", "list", "mrose").splitlines()
        self.assertEqual(len(listed), count - 1)


def _kill_if_there(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _wait(condition: Callable[[], bool], told: Callable[[], str]) -> None:
    """Wait for another process, which gives no other sign."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(told())
        time.sleep(0.02)
