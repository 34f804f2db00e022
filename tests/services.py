"""Real mailgate services for tests: a configured folder, and `twistd -n mailgate` processes over it.

    class FetchTests(TestCase):
        def test_fetch(self) -> None:
            site = Site(Path(self.mktemp()), accounts={"mrose": "secret"})
            site.deliver(b"Subject: one\\n\\nhello\\n", "mrose@mail.example.org")
            service = site.start()              # ready when this returns
            self.addCleanup(service.end)        # whatever became of it
            client = poplib.POP3("127.0.0.1", service.pop3_port)

The system chooses the ports when the service listens, and the service's log tells them: tests that
run side by side never meet. A restarted service has other ports. Everything here blocks.
"""

from __future__ import annotations

import os
import poplib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

BIN = Path(sys.executable).parent       # where pip put the scripts
HOSTNAME = "mail.example.org"
WAIT_SECONDS = 60.0                     # for anything that a healthy process does in one or two
POLL_SECONDS = 0.01

CONFIGURATION = """\
hostname = "{hostname}"
{top}
[store]
metadata = "{metadata}"
bodies = "{bodies}"
{store}
[limits]
failure_delay_seconds = 0
{limits}
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
plaintext_login = true
[[listen]]
protocol = "lmtp"
endpoint = "tcp:0:interface=127.0.0.1"
{further}
"""

_LISTENS = re.compile(r"mailgate\.service#info\] (\w+) at \S.*?:(\d+)$", re.MULTILINE)


class Site:
    """A folder with a configuration, a store and accounts: what services and commands work on.

    `accounts` maps names to passwords; each receives NAME@mail.example.org. `hosts` are SDPS hosts
    with one or two passwords, receiving all of NAME.mail.example.org. `store` and `limits` are TOML
    lines for these sections, `top` those in front of all sections, `further` whole sections to add
    (another [[listen]], [pop3]). `data` is the folder for database and bodies when it is to lie elsewhere;
    `metadata` and `bodies` are for those that are in no folder.
    """

    def __init__(self, folder: Path, *, accounts: Mapping[str, str] | None = None,
                 hosts: Mapping[str, Sequence[str]] | None = None, store: str = "", limits: str = "",
                 further: str = "", top: str = "", data: Path | None = None,
                 metadata: str | None = None, bodies: str | None = None) -> None:
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = self.folder if data is None else data.absolute()
        self.file = self.folder / "mailgate.toml"
        self._services = 0
        place = "" if data is None else f"{self.data}/"
        self.file.write_text(CONFIGURATION.format(
            hostname=HOSTNAME, top=top, metadata=metadata or f"sqlite:{place}mail.db",
            bodies=bodies or f"file:{place}bodies", store=store, limits=limits, further=further))
        lines = [f"{name}:{{PLAIN}}{password}\n" for name, password in (accounts or {}).items()]
        self.succeed("account", "load", "-", stdin="".join(lines).encode())
        for name, passwords in (hosts or {}).items():
            self.succeed("account", "add", name, "--sdps", "--password-stdin",
                         stdin="".join(f"{password}\n" for password in passwords).encode())

    def command(self, *arguments: str, stdin: bytes = b"",
                prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[bytes]:
        """Run one `mailgate` command on this configuration to its end, behind `prefix` (strace ...)."""
        return subprocess.run([*prefix, str(BIN / "mailgate"), "-c", str(self.file), *arguments], input=stdin,
                              capture_output=True, timeout=WAIT_SECONDS, check=False)

    def succeed(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run a command that must exit with 0, and return what it wrote."""
        ran = self.command(*arguments, stdin=stdin)
        assert ran.returncode == 0, (arguments, ran)
        return ran.stdout

    def deliver(self, message: bytes, *recipients: str, sender: str = "") -> None:
        """Deliver one message to all recipients by the command."""
        self.succeed("deliver", "--from", sender, "--", *recipients, stdin=message)

    def service_command(self) -> list[str]:
        """Return the command line that starts a service in the foreground."""
        return [str(BIN / "twistd"), "-n", "--pidfile=", "mailgate", "-c", str(self.file)]

    def start(self, prefix: Sequence[str] = ()) -> Service:
        """Start a service and wait until it is ready; several may run on one folder.

        A `prefix` (such as strace -D) must become the service's parent or replace itself by it.
        """
        self._services += 1
        return Service(self, self.folder / f"service{self._services}.log", prefix)


class Service:
    """One `twistd -n mailgate` process. `ports` is (protocol, port) in the configuration's order."""

    def __init__(self, site: Site, log_file: Path, prefix: Sequence[str] = ()) -> None:
        self.site = site
        self.log_file = log_file
        with open(log_file, "wb") as output:
            self.process = subprocess.Popen(
                [*prefix, *site.service_command()], stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, cwd=site.folder)
        try:
            wait_for(self._ready_or_over, "the service to be ready")
        except BaseException:
            self.end()
            raise
        assert self._ready(), f"the service ended with {self.process.returncode}: {self.log()}"
        self.ports = [(protocol, int(port)) for protocol, port in _LISTENS.findall(self.log())]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def pop3_port(self) -> int:
        """The port of the first POP3 listener, on 127.0.0.1."""
        return dict(reversed(self.ports))["pop3"]

    @property
    def lmtp_port(self) -> int:
        """The port of the first LMTP listener, on 127.0.0.1."""
        return dict(reversed(self.ports))["lmtp"]

    def log(self) -> str:
        """Return what the service has logged, and written to standard output and error."""
        return self.log_file.read_text("utf-8", "replace")

    def stop(self) -> int:
        """End it by SIGTERM, as an operator would; return its exit code.

        That is -15 when all went well: twistd ends in order, then dies of the signal it was sent.
        """
        self.process.terminate()
        return self.process.wait(WAIT_SECONDS)

    def kill(self) -> None:
        """End it by SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(WAIT_SECONDS)

    def pause(self) -> None:
        """Stop all its threads where they are (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_for(lambda: stands_still(self.pid), "the service to stand still")

    def resume(self) -> None:
        """Let it go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """Make certain that nothing of it is left, whatever state it is in: for cleanups."""
        if self.process.poll() is None:
            self.kill()

    def _ready(self) -> bool:
        return "mailgate is ready" in self.log()

    def _ready_or_over(self) -> bool:
        return self._ready() or self.process.poll() is not None

    def messages_seen(self, name: str, password: str) -> int | str:
        """Return how many messages a POP3 login sees, or the words of its refusal."""
        client = poplib.POP3("127.0.0.1", self.pop3_port, timeout=WAIT_SECONDS)
        try:
            client.user(name)
            client.pass_(password)
            return client.stat()[0]
        except poplib.error_proto as refusal:
            return str(refusal)
        finally:
            client.quit()


def stands_still(pid: int) -> bool:
    """Whether every thread of a process is stopped: what one had begun in the system goes on to its end."""
    try:
        return all(state_of(thread) in "TtZX" for thread in Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):     # a thread has just ended
        return False


def lives(pid: int) -> bool:
    """Whether a process runs, or could. One that nobody has waited for yet does not."""
    try:
        return state_of(Path(f"/proc/{pid}")) not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def state_of(folder: Path) -> str:
    """Return the letter of proc(5) for the state of a process, or of a thread."""
    return (folder / "stat").read_text().rpartition(")")[2].split()[0]


def wait_for(condition: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Ask a function again and again until it returns something true. Raises: AssertionError."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(POLL_SECONDS)
