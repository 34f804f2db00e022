"""The real command on a real store: exit codes, pipes, signals, several at once."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.running import BIN, CONFIGURATION, PATIENCE_SECONDS, environment, mailgate, make_service_folder

# An import that a signal meets when it knows of so many messages that they were taken.
KILLED_IN_THE_MIDDLE = """\
import os, sys
from mailgate.cli import main, taking
least, number = int(sys.argv.pop(1)), int(sys.argv.pop(1))
at = taking.Progress.at
def watched(progress, messages, octets, **more):
    if messages >= least:
        os.kill(os.getpid(), number)
    at(progress, messages, octets, **more)
taking.Progress.at = watched
sys.exit(main(sys.argv[1:]))
"""


class ProcessCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute() / "service"
        self.file = make_service_folder(self.folder)
        mailgate("-c", self.file, "account", "add", "mrose", "--password-stdin", stdin=b"tanstaaf\n")

    def popen(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [BIN / "mailgate", "-c", self.file, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=environment())
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def listed(self) -> list[list[str]]:
        lines = mailgate("-c", self.file, "maildrop", "list", "mrose").splitlines()
        return [line.split("\t") for line in lines]


class CommandTests(ProcessCase):
    def test_init(self) -> None:
        """A folder to begin with: configuration and store, for the owner alone; never twice."""
        folder = self.folder.parent / "another"
        mailgate("init", folder, "--hostname", "pop.example.org")
        self.assertEqual(mailgate("-c", folder / "mailgate.toml", "account", "list"), "")
        self.assertIn("all is well", mailgate("-c", folder / "mailgate.toml", "check"))
        self.assertEqual((folder / "mail.db").stat().st_mode & 0o077, 0)
        before = (folder / "mailgate.toml").read_bytes()
        mailgate("init", folder, code=os.EX_CANTCREAT)
        self.assertEqual((folder / "mailgate.toml").read_bytes(), before)

    def test_exit_codes(self) -> None:
        """Those of sysexits.h, and never a traceback."""
        deliver = ("-c", self.file, "deliver", "--from", "a@b.example")
        for code, arguments in (
                (os.EX_OK, (*deliver, "mrose@mail.example.org")),
                (os.EX_USAGE, ("-c", self.file, "frobnicate")),
                (os.EX_USAGE, ("--frobnicate",)),
                (os.EX_USAGE, ()),
                (os.EX_DATAERR, (*deliver, "a b@c")),
                (os.EX_NOUSER, (*deliver, "nobody@mail.example.org")),
                (os.EX_NOUSER, ("-c", self.file, "account", "remove", "nobody")),
                (os.EX_NOINPUT, ("-c", self.file, "import", "mrose", self.folder / "nothing")),
                (os.EX_CONFIG, ("-c", self.folder / "nothing.toml", "check"))):
            written = mailgate(*arguments, stdin=b"A: 1\n\n", code=code)
            self.assertNotIn("Traceback", written)

    def test_module(self) -> None:
        ran = subprocess.run([sys.executable, "-m", "mailgate.cli", "--version"], check=True,
                             capture_output=True)
        self.assertTrue(ran.stdout.startswith(b"mailgate "))

    def test_damaged_store(self) -> None:
        """check finds what is missing behind the store's back; a file that is no database is refused."""
        mailgate("-c", self.file, "deliver", "--from", "", "mrose", stdin=b"A: 1\n\n" + b"x" * 200_000)
        self.assertIn("all is well", mailgate("-c", self.file, "check"))
        [body] = [path for path in (self.folder / "bodies").rglob("*/*/*") if path.is_file()]
        body.unlink()
        self.assertIn("mailgate: store: ", mailgate("-c", self.file, "check", code=os.EX_DATAERR))
        (self.folder / "mail.db").write_bytes(b"this is no database" * 1000)
        mailgate("-c", self.file, "check", code=os.EX_DATAERR)
        mailgate("-c", self.file, "account", "list", code=os.EX_TEMPFAIL)

    def test_lost_store(self) -> None:
        """Without its database nothing begins anew beside large messages, and none is swept away."""
        self.file.write_text(CONFIGURATION + "[store]\nsweep_grace_seconds = 3600\n")
        mailgate("-c", self.file, "deliver", "--from", "", "mrose", stdin=b"A: 1\n\n" + b"x" * 200_000)
        (self.folder / "away").mkdir()
        for path in self.folder.glob("mail.db*"):
            path.rename(self.folder / "away" / path.name)
        for path in (self.folder / "bodies").rglob("*"):
            os.utime(path, (1, 1))
        self.assertIn("bodies are in", mailgate("-c", self.file, "check", code=os.EX_CONFIG))
        for arguments in (("account", "list"), ("account", "add", "mrose", "--password-stdin")):
            self.assertIn("no new store is made", mailgate(
                "-c", self.file, *arguments, stdin=b"x\n", code=os.EX_TEMPFAIL))
        service = [BIN / "twistd", "-n", "--pidfile=", "mailgate", "-c", self.file]
        ran = subprocess.run(service, cwd=self.folder, capture_output=True, timeout=PATIENCE_SECONDS,
                             check=False)
        self.assertEqual(ran.returncode, os.EX_TEMPFAIL)
        self.assertIn(b"no new store is made", ran.stderr)
        for path in (self.folder / "away").iterdir():
            path.rename(self.folder / path.name)
        self.assertIn("all is well", mailgate("-c", self.file, "check"))

    def test_missing_store(self) -> None:
        """A store outside of the configuration's folder is not made in passing: a disk may be missing."""
        elsewhere = self.folder.parent / "mount" / "mail.db"
        elsewhere.parent.mkdir()
        self.file.write_text(CONFIGURATION + f'[store]\nmetadata = "sqlite:{elsewhere}"\n')
        mailgate("-c", self.file, "deliver", "--from", "", "mrose", stdin=b"x\n", code=os.EX_TEMPFAIL)
        self.assertFalse(elsewhere.exists())
        mailgate("-c", self.file, "account", "add", "mrose", "--password-stdin", stdin=b"x\n")
        mailgate("-c", self.file, "deliver", "--from", "", "mrose", stdin=b"x\n")

    def test_reader_that_has_gone(self) -> None:
        """`mailgate ... | head` is no reason for a traceback."""
        reading, writing = os.pipe()
        os.close(reading)       # before it begins: what it writes would find room in the pipe
        with open(writing, "wb") as nowhere:
            ran = subprocess.run([BIN / "mailgate", "-c", self.file, "account", "list"], stdout=nowhere,
                                 stderr=subprocess.PIPE, env=environment(), timeout=PATIENCE_SECONDS,
                                 check=False)
        self.assertEqual((ran.returncode, ran.stderr), (os.EX_IOERR, b""))


class TerminalTests(ProcessCase):
    """Passwords typed at a real terminal."""

    def type(self, *keys: bytes) -> tuple[int, bytes]:
        """Run `account passwd`; at each prompt press keys. Return exit code and what the terminal showed."""
        pid, terminal = pty.fork()
        if not pid:
            os.execve(BIN / "mailgate", ["mailgate", "-c", str(self.file), "account", "passwd", "mrose"],
                      environment())
        shown = b""
        for pressed in keys:
            prompts = shown.count(b": ")
            while shown.count(b": ") == prompts:
                shown += os.read(terminal, 1000)
            os.write(terminal, pressed)
        with contextlib.suppress(OSError):     # the other end is closed
            while more := os.read(terminal, 1000):
                shown += more
        os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown

    def test_typed(self) -> None:
        """Asked for twice, shown never."""
        code, shown = self.type(b"fresh\n", b"fresh\n")
        self.assertEqual(code, 0)
        self.assertNotIn(b"fresh", shown)
        self.assertEqual(self.type(b"fresh\n", b"other\n")[0], os.EX_DATAERR)

    def test_left(self) -> None:
        """Control-C at the prompt leaves all as it was."""
        code, shown = self.type(b"\x03")
        self.assertEqual(code, os.EX_TEMPFAIL)
        self.assertIn(b"mailgate: interrupted", shown)
        self.assertNotIn(b"Traceback", shown)


class DeliveryTests(ProcessCase):
    def test_many_at_once(self) -> None:
        """Delivery agents run beside one another; every exit 0 is a message."""
        running = [self.popen("deliver", "--from", f"s{number}@x.example", "mrose") for number in range(6)]
        for number, process in enumerate(running):
            _, err = process.communicate(b"Number: %d\n\n" % number, timeout=PATIENCE_SECONDS)
            self.assertEqual((process.returncode, err), (0, b""))
        self.assertEqual(sorted(columns[3] for columns in self.listed()),
                         [f"s{number}@x.example" for number in range(6)])

    def test_streamed(self) -> None:
        """A large message is written as it comes and not held in memory."""
        self.file.write_text(CONFIGURATION + "size_octets = 0\n")
        process = self.popen("deliver", "--from", "", "mrose")
        assert process.stdin is not None
        process.stdin.write(b"A: 1\n\n")
        for _ in range(480):
            process.stdin.write(b"0123456789abcde\n" * 16_384)      # 120 MiB in all
        peak = _peak_kib(process.pid)
        process.communicate(timeout=PATIENCE_SECONDS)
        self.assertEqual(process.returncode, 0)
        self.assertLess(peak, 100 * 1024)
        self.assertGreater(int(self.listed()[0][1]), 120 << 20)

    def test_interrupted(self) -> None:
        """A signal in the middle ends it, though no end of input comes; 75, and nothing is stored."""
        for number in (signal.SIGTERM, signal.SIGINT):
            process = self.popen("deliver", "--from", "", "mrose")
            assert process.stdin is not None
            process.stdin.write(b"x" * 200_000)
            process.stdin.flush()
            os.kill(process.pid, number)
            self.assertEqual(process.wait(PATIENCE_SECONDS), os.EX_TEMPFAIL)
        self.assertEqual(self.listed(), [])


class ImportTests(ProcessCase):
    def test_repeated(self) -> None:
        """A Maildir with Dovecot's ids, twice: the second run adds nothing and keeps the order."""
        maildir = self.folder / "Maildir"
        for folder in ("cur", "new", "tmp"):
            (maildir / folder).mkdir(parents=True)
        for number in range(1, 9):
            header = b"Return-Path: <a@b.example>\nDelivered-To: mrose@mail.example.org\n\n"
            content = header + b"x\n" * 10 ** (number % 6)
            (maildir / "cur" / f"{1000 + number}.M{number}.host:2,S").write_bytes(content)
        (maildir / "dovecot-uidlist").write_text(
            "3 V255 N9\n" + "".join(f"{number} :{1000 + number}.M{number}.host\n" for number in range(1, 9)))
        for _ in range(2):
            self.assertIn("8 messages read, 8 now in the maildrop",
                          mailgate("-c", self.file, "import", "mrose", maildir))
        listed = self.listed()
        self.assertEqual([columns[2] for columns in listed],
                         [f"{number:08x}000000ff" for number in range(1, 9)])
        self.assertEqual({(columns[3], columns[4]) for columns in listed}, {
            ("a@b.example", "mrose@mail.example.org")})

    def maildir(self, sizes: Sequence[int]) -> Path:
        """Make a Maildir whose messages have so many octets and, in its order, the ids 1, 2 ... in hex."""
        maildir = self.folder / "Maildir"
        for folder in ("cur", "new", "tmp"):
            (maildir / folder).mkdir(parents=True)
        for number, octets in enumerate(sizes, 1):
            header = b"Return-Path: <a@b.example>\nA: %d\n\n" % number
            content = header + b"0123456789abcde\n" * (octets // 16)
            (maildir / "cur" / f"{100_000 + number}.M{number}.host:2,S").write_bytes(content)
        (maildir / "dovecot-uidlist").write_text("3 V255 N9\n" + "".join(
            f"{number} :{100_000 + number}.M{number}.host\n" for number in range(1, len(sizes) + 1)))
        return maildir

    def numbers(self) -> list[int]:
        return [int(columns[2][:8], 16) for columns in self.listed()]

    def test_killed_in_the_middle(self) -> None:
        """Large bodies or small: what was taken is the beginning of the source; repeated, the rest comes."""
        count = 1000
        maildir = self.maildir([90_000 if number % 20 == 7 else number % 50 * 100 for number in range(count)])
        held = []
        killed = -signal.SIGKILL
        for least, number, code in ((1, signal.SIGKILL, killed), (600, signal.SIGKILL, killed),
                                    (800, signal.SIGINT, os.EX_TEMPFAIL)):
            ran = subprocess.run(
                [sys.executable, "-c", KILLED_IN_THE_MIDDLE, str(least), str(int(number)), "-c", self.file,
                 "import", "mrose", maildir], env=environment(), capture_output=True,
                timeout=PATIENCE_SECONDS, check=False)
            self.assertEqual(ran.returncode, code, ran.stderr)
            taken = self.numbers()
            self.assertEqual(taken, list(range(1, len(taken) + 1)))
            held.append(len(taken))
        self.assertEqual(held, sorted(held))
        self.assertTrue(0 < held[0] < count, held)
        self.assertIn(f"{count} messages read, {count} now in the maildrop",
                      mailgate("-c", self.file, "import", "mrose", maildir))
        self.assertEqual(self.numbers(), list(range(1, count + 1)))
        self.assertIn("all is well", mailgate("-c", self.file, "check"))

    def test_memory(self) -> None:
        """Many messages that are large, and few that are larger: not all of them at once."""
        self.file.write_text(CONFIGURATION + "[store]\ninline_octets = 4194304\n")
        maildir = self.maildir([1 << 20] * 60 + [40 << 20])
        process = self.popen("import", "--progress", "mrose", str(maildir))
        assert process.stderr is not None
        peak = 0
        while process.stderr.readline():
            with contextlib.suppress(AssertionError, FileNotFoundError):    # it may have ended
                peak = max(peak, _peak_kib(process.pid))
        self.assertEqual(process.wait(PATIENCE_SECONDS), os.EX_OK)
        self.assertEqual(self.numbers(), list(range(1, 62)))
        self.assertTrue(20 * 1024 < peak < 110 * 1024, peak)


def _peak_kib(pid: int) -> int:
    """Return the most memory that a process ever had resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM")
