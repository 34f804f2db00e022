"""`mailgate harness record` and `mailgate harness --script`, as processes."""

from __future__ import annotations

import json
import os
import poplib
import signal
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.cli.harness_record import Paper, record
from mailgate.testing.harness.records import Records
from mailgate.testing.server import Server
from tests.cli.base import CommandCase

SECONDS = 60


class Process:
    """One `mailgate harness ...`. `facts`: the line of JSON that it wrote when it was ready."""

    def __init__(self, *arguments: str, facts_on: str = "stdout") -> None:
        command = [sys.executable, "-m", "mailgate.cli", "harness", *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE)
        line = getattr(self._process, facts_on).readline()
        if not line:
            raise AssertionError(self._process.communicate(timeout=SECONDS)[1].decode())
        self.facts: dict[str, Any] = json.loads(line)

    def end(self, number: int | None = signal.SIGINT) -> tuple[int, str, str]:
        """Have it end, or wait until it does; return its exit code and what it wrote."""
        if number is not None:
            self._process.send_signal(number)
        out, err = self._process.communicate(timeout=SECONDS)
        return self._process.returncode, out.decode(), err.decode()


def fetch(port: int, ca: str, *, tls: bool) -> list[Any]:
    """Fetch one message, with STLS or inside TLS."""
    context = ssl.create_default_context(cafile=ca)
    if tls:
        client: poplib.POP3 = poplib.POP3_SSL("localhost", port, context=context, timeout=SECONDS)
    else:
        client = poplib.POP3("localhost", port, timeout=SECONDS)
        client.stls(context)
    client.user("mrose")
    client.pass_("open sesame")
    return [client.stat(), client.uidl(), client.retr(1), client.quit()]


class RecordTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.server = Server().start()
        self.addCleanup(self.server.stop)
        self.server.account("mrose", "open sesame").add("Subject: one\n\nhello\n.dot\n")

    def test_recorded_and_played(self) -> None:
        """One session into a file, played by another process: the client gets the same."""
        file = self.folder / "one.script"
        recording = Process("record", "localhost", str(self.server.pop3[1]), "--ca", self.server.ca_file,
                            "-o", str(file), "--sessions", "1")
        got = fetch(recording.facts["port"], recording.facts["ca_file"], tls=False)
        self.assertEqual(recording.end(None), (0, "", ""))
        text = file.read_text()
        self.assertNotIn("sesame", text)
        self.assertIn("TLS: begin\nC: USER mrose\n", text)
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
        playing = Process("--script", str(file), "--parent", str(os.getpid()))
        port = playing.facts["ports"]["script"]
        self.assertEqual(fetch(port, playing.facts["ca_file"], tls=False), got)
        self.assertEqual(playing.end(signal.SIGTERM)[0], 0)

    def test_several_sessions_to_standard_output(self) -> None:
        """Until a signal: all sessions are one script, messages are left out of it."""
        recording = Process("record", "localhost", str(self.server.pop3s[1]), "--tls", "--ca",
                            self.server.ca_file, "--content", "sizes", facts_on="stderr")
        for _ in range(2):
            fetch(recording.facts["port"], recording.facts["ca_file"], tls=True)
        code, out, err = recording.end()
        self.assertEqual((code, err, out.count("\nC: RETR 1\n")), (0, "", 2))
        self.assertNotIn("hello", out)
        self.assertTrue(out.startswith("SESSION: 1\nTLS: begin\nS: +OK"), out)
        script = self.server.script(out)
        for _ in range(2):
            stat_, _, message, _ = fetch(script.port, self.server.ca_file, tls=True)
            self.assertEqual((stat_, message[2]), ((1, 29), 29))
        script.check(2)


class CommandTests(CommandCase):
    def test_what_does_not_go_together(self) -> None:
        """Options that contradict each other are refused, and so is a script that means nothing."""
        for options, words in ((["--tls", "--stls"], "--tls or --stls"), (["--clear"], "--clear goes with"),
                               (["--insecure", "--tls-name", "x"], "--insecure")):
            told = self.refused(os.EX_USAGE, "harness", "record", "localhost", "1", *options)
            self.assertIn(words, told)
        self.assertIn("PORT", self.refused(os.EX_USAGE, "harness", "record", "localhost", "0"))
        (self.folder / "bad.pem").write_text("x")
        self.assertIn("holds no certificate", self.refused(
            os.EX_DATAERR, "harness", "record", "localhost", "1", "--ca", str(self.folder / "bad.pem")))

    def test_output(self) -> None:
        """To a folder, a file a session; to a file, all of them, whole at any time."""
        now = [0.0]
        records = Records(lambda: now[0])
        folder, file = self.folder / "out", self.folder / "all.script"
        papers = [Paper(f"{folder}{os.sep}", "keep", None), Paper(str(file), "keep", 1.0)]
        for name in (b"one", b"two"):
            session = records.begin("pop3")
            records.note(session, "S", b"+OK\r\n")
            records.note(session, "C", b"USER " + name + b"\r\n")
            now[0] += 1.5
            records.note(session, "S", b"+OK " + name + b"\r\n")
            records.end(session, "closed by the server")
            for paper in papers:
                paper.take(session)
        self.assertEqual(sorted(one.name for one in folder.iterdir()),
                         ["session-1.script", "session-2.script"])
        self.assertEqual((folder / "session-2.script").read_text(), "S: +OK\nC: USER two\nS: +OK two\n")
        self.assertEqual(file.read_text(), "SESSION: 1\nS: +OK\nC: USER one\nT: 1.500\nS: +OK one\n\n"
                         "SESSION: 2\nS: +OK\nC: USER two\nT: 1.500\nS: +OK two\n")
        self.assertEqual(record.name, "record")
