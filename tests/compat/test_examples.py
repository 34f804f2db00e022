"""The examples of docs/examples: each is run as its page says, and read by poplib over a socket."""

from __future__ import annotations

import poplib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import TestCase

from tests.services import HOSTNAME, WAIT_SECONDS, Site

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


class ExampleTests(TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    @contextmanager
    def running(self, example: str, *arguments: str) -> Iterator[int]:
        """Run an example; yield its port."""
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / example), *arguments], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder)
        guard = threading.Timer(WAIT_SECONDS, process.kill)
        guard.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            self.assertRegex(line, r"\Alistening at port \d+\n\Z")
            yield int(line.split()[-1])
        finally:
            guard.cancel()
            process.terminate()
            _, errors = process.communicate(timeout=WAIT_SECONDS)
        self.assertEqual(errors, "")

    @contextmanager
    def logged_in(self, port: int, name: str = "alice") -> Iterator[poplib.POP3]:
        """Log in with the password secret; a client that is still there is dropped, not told QUIT."""
        client = poplib.POP3("127.0.0.1", port, timeout=WAIT_SECONDS)
        try:
            client.user(name)
            client.pass_("secret")
            yield client
        finally:
            client.close()

    def test_stock_over_store(self) -> None:
        with self.running("stock_over_store.py", str(self.folder)) as port:
            with self.logged_in(port) as client:
                self.assertEqual(client.stat()[0], 1)
                self.assertEqual(client.retr(1)[1][0], b"Subject: welcome")
                client.dele(1)                          # and no QUIT
            with self.logged_in(port) as client:
                self.assertEqual(client.stat()[0], 1)
                client.dele(1)
                client.quit()
            with self.logged_in(port) as client:
                self.assertEqual(client.stat(), (0, 0))

    def test_own_mailboxes(self) -> None:
        drop = self.folder / "alice"
        drop.mkdir()
        (drop / "one.eml").write_bytes(b"Subject: one\n\n.\n")
        (drop / "two and more.eml").write_bytes(b"Subject: two\r\n\r\n" + b"x" * 300_000)
        with self.running("own_mailboxes.py", str(self.folder)) as port, self.logged_in(port) as client:
            self.assertEqual(client.retr(1)[1], [b"Subject: one", b"", b"."])
            self.assertEqual(client.uidl(1), b"+OK 1 one.eml")
            self.assertRegex(client.uidl(2), rb"\A\+OK 2 [!-~]{1,70}\Z")
            self.assertEqual(client.top(2, 0)[1], [b"Subject: two", b""])
            client.dele(1)
            client.quit()
        self.assertEqual([file.name for file in drop.iterdir()], ["two and more.eml"])

    def test_stand_in(self) -> None:
        site = Site(self.folder, accounts={"alice": "secret"})
        for word in (b"one", b"two"):
            site.deliver(b"Subject: %b\n\n%b\n" % (word, word), f"alice@{HOSTNAME}")
        with self.running("stand_in.py", str(site.file)) as port:
            with self.logged_in(port) as client:
                self.assertEqual(client._shortcmd("XCOUNT"), b"+OK 2")      # type: ignore[attr-defined]
                self.assertEqual(client.retr(2)[1][-2:], [b"", b"two"])
                with self.assertRaisesRegex(poplib.error_proto, "the first message is kept"):
                    client.dele(1)
                client.dele(2)
                client.quit()
            with self.logged_in(port) as client:
                self.assertEqual(client.stat()[0], 1)
                client.quit()
        self.assertEqual(len(site.succeed("maildrop", "list", "alice").splitlines()), 1)
