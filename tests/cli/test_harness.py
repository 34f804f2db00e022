"""`mailgate harness`: the process that tests in any language start, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import poplib
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from twisted.trial.unittest import SynchronousTestCase

from mailgate.cli import main
from mailgate.cli.harness import SERVED
from mailgate.cli.harness_parent import Parent
from mailgate.testing.harness import settings as harness_settings
from tests.ports import held_port
from tests.running import ROOT

SECONDS = 60        # for what takes one: the machine may be busy
HARNESS = [sys.executable, "-m", "mailgate.cli", "harness"]
SCENARIO = """\
name = "mine"
messages = ["dots"]
[settings.pop3]
last = false
[[fault]]
do = "error"
command = "RETR"
code = "SYS/TEMP"
"""
# A parent that starts the command that it is given, says what that says and its pid, and sleeps.
PARENT = """\
import subprocess, sys, threading, time
def start():
    global child
    child = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, stdin=STDIN)
    print(child.stdout.readline().decode().strip(), flush=True)
STDIN = {"nothing": subprocess.DEVNULL, "pipe": subprocess.PIPE}[sys.argv[1].split("-")[0]]
if sys.argv[1].endswith("thread"):
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    time.sleep(0.3)
    print("still there" if child.poll() is None else "gone", flush=True)
else:
    start()
time.sleep(600)
"""


class ProcessCase(SynchronousTestCase):
    def start(self, *options: str, stdin: Any = subprocess.PIPE, **more: Any) -> subprocess.Popen[bytes]:
        """Start a harness that ends with the test at the latest."""
        process = subprocess.Popen([*HARNESS, *options], stdin=stdin, stdout=subprocess.PIPE, cwd=ROOT,
                                   **more)
        self.addCleanup(end, process)
        return process

    def ready(self, process: subprocess.Popen[bytes]) -> Any:
        assert process.stdout is not None
        line = process.stdout.readline()
        self.assertTrue(line.endswith(b"\n"), line)
        return json.loads(line)

    def parent(self, how: str, *command: str) -> tuple[subprocess.Popen[bytes], Any]:
        """Start a process that starts a harness; return it and what the harness said."""
        process = subprocess.Popen([sys.executable, "-c", PARENT, how, *command], stdout=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL, cwd=ROOT)
        self.addCleanup(end, process)
        told = self.ready(process)
        self.addCleanup(self.end_other, told["pid"])
        return process, told

    def end_other(self, pid: int) -> None:
        """End a process that is not our child, if it is there: in order, or else at all."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            if self.gone(pid):
                return

    def gone(self, pid: int) -> bool:
        """Whether a process that is not our child is gone soon."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if not is_there(pid):
                return True
            time.sleep(0.02)
        return False


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process: in order, so that it clears up its folder, or else at all."""
    process.terminate()
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"         # nobody has asked for its exit code yet


class ReadyTests(ProcessCase):
    def test_ready(self) -> None:
        """A line of JSON and nothing else on standard output; all that it names is there. SIGTERM ends it."""
        process = self.start("--account", "mrose:se:cret", "--verbose", stderr=subprocess.PIPE)
        told = self.ready(process)
        assert process.stdout is not None and process.stderr is not None
        self.assertEqual(process.stdout.read(), b"")        # closed: who reads to the end need not wait
        self.assertEqual((told["pid"], told["host"], set(told["ports"])),
                         (process.pid, "127.0.0.1", set(harness_settings.PROTOCOLS)))
        context = ssl.create_default_context(cafile=told["ca_file"])
        client = poplib.POP3_SSL("localhost", told["ports"]["pop3s"], context=context, timeout=SECONDS)
        client.user("mrose")
        self.assertTrue(client.pass_("se:cret").startswith(b"+OK"))
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(SECONDS), 0)
        self.assertRaises((EOFError, OSError, poplib.error_proto), client.noop)
        self.assertFalse(Path(told["ca_file"]).exists())
        log = process.stderr.read()
        self.assertIn(b"Log opened", log)
        self.assertNotIn(b"Traceback", log)

    def test_as_asked(self) -> None:
        """Settings, scenario with its messages, protocols, ports: as the options say. SIGINT ends it."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        (folder / "mine.toml").write_text(SCENARIO)
        (folder / "settings.toml").write_text('hostname = "pop.example.net"\n')
        port, api = held_port(self), held_port(self)
        process = self.start(
            "--protocol", "pop3", "--port", f"pop3={port}", "--port", f"api={api}", "--held", "--seed", "7",
            "--settings", str(folder / "settings.toml"), "--scenario", str(folder / "mine.toml"),
            "--account", "mrose:secret")
        told = self.ready(process)
        self.assertEqual((told["ports"], told["api"], told["hostname"]),
                         ({"pop3": port}, f"http://127.0.0.1:{api}/api/v1", "pop.example.net"))
        client = poplib.POP3("127.0.0.1", port, timeout=SECONDS)
        client.user("mrose")
        client.pass_("secret")
        self.assertIn("SYS/TEMP", str(self.assertRaises(poplib.error_proto, client.retr, 1)))
        self.assertRaises(poplib.error_proto, client._shortcmd, "LAST")
        client.quit()
        asked = Request(told["api"] + "/reset", method="POST", headers={
            "Authorization": f"Bearer {told['token']}"})
        urlopen(asked, timeout=SECONDS).close()
        client = poplib.POP3("127.0.0.1", port, timeout=SECONDS)        # what options say is so again
        client.user("mrose")
        client.pass_("secret")
        self.assertRaises(poplib.error_proto, client.retr, 1)
        client.quit()
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(SECONDS), 0)

    def test_port_is_taken(self) -> None:
        """A port that another has is told, with the exit code for what is not available."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            process = self.start("--port", f"pop3={taken}", stderr=subprocess.PIPE)
            out, err = process.communicate(timeout=SECONDS)
        self.assertEqual((process.returncode, out), (os.EX_UNAVAILABLE, b""))
        self.assertEqual(err.decode(), f"mailgate: port {taken}: Address already in use\n")


class EndTests(ProcessCase):
    def test_input_is_closed(self) -> None:
        """It ends when the pipe at its standard input is closed, whoever is connected."""
        process = self.start()
        told = self.ready(process)
        client = poplib.POP3("127.0.0.1", told["ports"]["pop3"], timeout=SECONDS)
        assert process.stdin is not None
        process.stdin.close()
        self.assertEqual(process.wait(SECONDS), 0)
        self.assertRaises((EOFError, OSError, poplib.error_proto), client.noop)

    def test_parent_is_killed(self) -> None:
        """A parent that is killed takes the harness along, though nothing else tells of it."""
        parent, told = self.parent("nothing", *HARNESS)
        self.assertTrue(is_there(told["pid"]))
        parent.kill()
        parent.wait(SECONDS)
        self.assertTrue(self.gone(told["pid"]))

    def test_parent_behind_a_shell_is_killed(self) -> None:
        """It is known by its pipe, or where it is named by `--parent`, when a shell stands between."""
        for stdin, option in (("pipe", ""), ("nothing", "--parent $PPID")):
            parent, told = self.parent(stdin, "sh", "-c", f"{' '.join(HARNESS)} {option}; exit 3")
            parent.kill()
            parent.wait(SECONDS)
            self.assertTrue(self.gone(told["pid"]), stdin)

    def test_parent_s_thread_ends(self) -> None:
        """A thread of the parent that ends is not the parent's end."""
        parent, _ = self.parent("nothing-thread", *HARNESS)
        assert parent.stdout is not None
        self.assertEqual(parent.stdout.readline(), b"still there\n")

    def test_keep_running(self) -> None:
        """With --keep-running it outlives its parent and its input; a signal ends it."""
        parent, told = self.parent("pipe", *HARNESS, "--keep-running")
        parent.kill()
        parent.wait(SECONDS)
        time.sleep(0.3)
        poplib.POP3("127.0.0.1", told["ports"]["pop3"], timeout=SECONDS).quit()
        os.kill(told["pid"], signal.SIGTERM)
        self.assertTrue(self.gone(told["pid"]))

    def test_input_that_was_others(self) -> None:
        """A pipe that was at its end before is no parent's; and what stands in a pipe is left to others."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.write(writing, b"for others")
        os.close(writing)
        process = self.start(stdin=reading)
        told = self.ready(process)
        poplib.POP3("127.0.0.1", told["ports"]["pop3"], timeout=SECONDS).quit()
        self.assertEqual(os.read(reading, 100), b"for others")
        self.assertEqual(process.poll(), None)

    def test_stuck(self) -> None:
        """A process that does not end in order is ended all the same."""
        code = ("import time; from mailgate.cli import harness_parent as room; room.GRACE_SECONDS = 0.1\n"
                "room.Parent().watch(lambda: None); print(flush=True); time.sleep(600)")
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, cwd=ROOT)
        self.addCleanup(end, process)
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        process.stdin.close()
        self.assertEqual(process.wait(SECONDS), os.EX_SOFTWARE)


class OptionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)

    def refused(self, code: int, *options: str) -> str:
        """Run a command that must end with a code before it serves; return what it said."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            self.assertEqual(main(["harness", *options]), code, err.getvalue())
        self.assertEqual(out.getvalue(), "")
        return err.getvalue()

    def file(self, text: str, name: str = "some.toml") -> str:
        (self.folder / name).write_text(text)
        return str(self.folder / name)

    def test_usage(self) -> None:
        """Options that are wrong are named, and end it with the exit code for usage."""
        for options, words in (
                (["--protocol", "gopher"], "'gopher' is not one of"), (["--seed", "-1"], "--seed"),
                (["--account", "mrose"], "--account: NAME:PASSWORD"), (["--account", ":x"], "--account"),
                (["--port", "pop3"], "--port pop3: PROTOCOL=N"), (["--port", "pop3=0"], "--port pop3=0"),
                (["--port", "kpop=1109"], "--port kpop=1109: this is not served"),
                (["--scenario", "no-such-server"], "--scenario: there is no scenario"),
                (["--keep-running", "--parent", "1"], "--keep-running or --parent"), (["--none"], "--none")):
            self.assertIn(words, self.refused(os.EX_USAGE, *options), options)
        listen = self.file('[[listen]]\nprotocol = "pop3"\n')
        self.assertIn(f"`listen` in {listen}",
                      self.refused(os.EX_USAGE, "--settings", listen, "--protocol", "pop3"))

    def test_settings(self) -> None:
        """Settings and scenarios that are wrong are told with file and path, all of them."""
        wrong = self.file('[pop3]\nlats = true\n[limits]\nfailed_logins = "x"\n'
                          '[[listen]]\nprotocol = "gopher"\n')
        said = self.refused(os.EX_CONFIG, "--settings", wrong).splitlines()
        self.assertEqual(sorted(line.split(": ")[2] for line in said),
                         ["limits.failed_logins", "listen[0].protocol", "pop3.lats"])
        self.assertTrue(all(line.startswith(f"mailgate: {wrong}: ") for line in said), said)
        scenario = self.file('[[fault]]\ndo = "error"\ncodes = 1\n[[fault]]\ndo = "eror"\n')
        said = self.refused(os.EX_CONFIG, "--scenario", scenario).splitlines()
        self.assertEqual([line.split(": ")[1:3] for line in said],
                         [[scenario, "fault[0].codes"], [scenario, "fault[1].do"]])
        for option in ("--settings", "--scenario"):
            self.assertIn("no TOML", self.refused(os.EX_CONFIG, option, self.file("[[")))
            self.assertIn("none.toml: No such file",
                          self.refused(os.EX_CONFIG, option, str(self.folder / "none.toml")))

    def test_protocols(self) -> None:
        """The protocols of the option are those that a harness serves."""
        for protocol in SERVED:
            if protocol != "kpop":      # which needs a key
                plan = harness_settings.plan({"tls": {}}, self.folder, [protocol])
                self.assertEqual(plan.protocols, (protocol,))


class ParentTests(SynchronousTestCase):
    def child(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.addCleanup(end, process)
        return process

    def test_process(self) -> None:
        """A process is there until it ends; who waits for it returns then."""
        child = self.child()
        parent = Parent(child.pid)
        self.assertFalse(parent.is_gone())
        child.kill()
        parent.wait()
        self.assertTrue(parent.is_gone())

    def test_without_descriptors(self) -> None:
        """Where the system has no descriptors of processes it is asked for now and then."""
        def refuse(pid: int) -> int:
            raise OSError(errno.ENOSYS, "not here")

        self.patch(os, "pidfd_open", refuse)
        self.assertFalse(Parent().is_gone())        # our own is there
        child = self.child()
        parent = Parent(child.pid)
        self.assertFalse(parent.is_gone())
        child.kill()
        child.wait()
        parent.wait()
        self.assertTrue(Parent(child.pid).is_gone())        # that was gone before
