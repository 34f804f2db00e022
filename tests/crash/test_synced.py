"""What is acknowledged is on disk: kill -9 cannot show it, the order of system calls does.

Every change under the store's folder (octets, and names in a folder) has to be followed by a sync of
that file or folder before the octets of the answer are given to the socket.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.crash.dialogue import Lmtp, Pop3
from tests.crash.forked import UNSYNCED, Forks
from tests.crash.strace import Call, needs_strace, read_trace, traced, tracing
from tests.services import HOSTNAME, Site

SMALL = b"Subject: small\r\n\r\nhello\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 60 + b"\r\n" + b"hello again\r\n" * 20_000
CALLS = "trace=openat,mkdir,write,pwrite64,rename,unlink,ftruncate,fsync,fdatasync,sendto,exit_group"

_PATH = re.compile(r"-?\w+<([^>]*)>")       # of a descriptor: 17</tmp/store/mail.db-wal>
_QUOTED = re.compile(r'"([^"]*)"')


class SyncTests(SynchronousTestCase):
    def setUp(self) -> None:
        needs_strace()
        self.folder = Path(self.mktemp()).absolute()
        self.data = self.folder / "data"
        self.data.mkdir(parents=True)
        self.trace = self.folder / "trace"
        self.site = Site(self.folder, accounts={"mrose": "secret"}, data=self.data)
        self.existing = {str(path) for path in self.data.rglob("*")}

    def unsynced(self, calls: Sequence[Call], answer: Call) -> set[str]:
        """Return files and folders with changes that were not on disk for certain when an answer began."""
        syncs = [(path_of(call), call) for call in calls
                 if call.name in ("fsync", "fdatasync") and call.result == "0"]
        return {path for path, change in changes(calls, self.data, self.existing)
                if change.began < answer.began and not any(
                    path == synced and change.ended < sync.began and sync.ended < answer.began
                    for synced, sync in syncs)}

    # A service ------------------------------------------------------------------------------

    def test_first_delivery_of_a_service(self) -> None:
        """Seen from the start of twistd, which makes a new log: its name, too, is on disk before 250."""
        service = self.site.start(
            [needs_strace(), "-D", "-f", "--seccomp-bpf", *tracing(self.trace, "-e", CALLS)])
        self.addCleanup(service.end)
        with Lmtp(service.lmtp_port) as client:
            self.assertTrue(client.deliver("", ["mrose"], SMALL)[0].startswith(b"250 "))
        service.stop()
        calls = read_trace(self.trace)
        answer = sent(calls, "250 ")
        self.assertIn(f"{self.data}/mail.db-wal", changed(calls, self.data, self.existing, answer))
        self.assertIn(str(self.data), changed(calls, self.data, self.existing, answer))
        self.assertEqual(self.unsynced(calls, answer), set())

    def test_small_delivery(self) -> None:
        """The log is synced before 250; no file is made for the body."""
        calls, answer = self.delivered(SMALL)
        self.assertEqual(changed(calls, self.data, self.existing, answer), {f"{self.data}/mail.db-wal"})
        self.assertEqual(self.unsynced(calls, answer), set())

    def test_large_delivery(self) -> None:
        """Octets of the body, its name, the names of its folders, then the rows in the log, then 250."""
        calls, answer = self.delivered(LARGE)
        self.assertEqual(self.unsynced(calls, answer), set())
        renaming = only(calls, "rename")
        part, body = _QUOTED.findall(renaming.arguments)
        folder = os.path.dirname(body)
        content = only(calls, "fsync", part)
        name = only(calls, "fsync", folder)
        rows = [call for call in calls if call.name == "pwrite64" and path_of(call).endswith("mail.db-wal")
                and call.began < answer.began]
        log = [call for call in calls if call.name == "fdatasync" and call.began < answer.began][-1]
        self.assertLess(content.ended, renaming.began)
        self.assertLess(renaming.ended, name.began)
        self.assertLess(name.ended, rows[0].began)
        self.assertEqual(path_of(log), f"{self.data}/mail.db-wal")
        self.assertLess(rows[-1].ended, log.began)
        self.assertLess(log.ended, answer.began)
        made = {_QUOTED.findall(call.arguments)[0] for call in calls if call.name == "mkdir"}
        self.assertEqual(made, {f"{self.data}/bodies", os.path.dirname(folder), folder})

    def test_quit(self) -> None:
        """The removal is in the log and synced before +OK."""
        self.site.deliver(SMALL, f"mrose@{HOSTNAME}")
        service = self.site.start()
        self.addCleanup(service.end)
        with Pop3(service.pop3_port) as client:
            client.enter("mrose")
            client.mark(1)
            with traced(service.pid, self.trace):
                self.assertTrue(client.ask(b"QUIT").startswith(b"+OK"))
        calls = read_trace(self.trace)
        answer = sent(calls, "+OK ")
        self.assertEqual(changed(calls, self.data, self.existing, answer), {f"{self.data}/mail.db-wal"})
        self.assertEqual(self.unsynced(calls, answer), set())

    def delivered(self, message: bytes) -> tuple[list[Call], Call]:
        """Deliver to a running service; return what it did since the octets of the message, and 250."""
        service = self.site.start()
        self.addCleanup(service.end)
        with Lmtp(service.lmtp_port) as client:
            client.prepare("", ["mrose"])
            with traced(service.pid, self.trace):
                client.send_content(message)
                self.assertTrue(client.verdict().startswith(b"250 "))
        calls = read_trace(self.trace)
        return calls, sent(calls, "250 ")

    # Commands -------------------------------------------------------------------------------

    def test_deliver_command(self) -> None:
        """Exit 0 says the same as 250."""
        for message in (SMALL, LARGE):
            calls, leaving = self.commanded("deliver", "--from", "", f"mrose@{HOSTNAME}", stdin=message)
            self.assertIn(f"{self.data}/mail.db-wal", changed(calls, self.data, self.existing, leaving))
            self.assertEqual(self.unsynced(calls, leaving), set())

    def test_account_commands(self) -> None:
        """An account that was added, or disabled, stays so."""
        for arguments in (("add", "tims", "--password-stdin"), ("disable", "tims")):
            calls, leaving = self.commanded("account", *arguments, stdin=b"secret\n")
            self.assertIn(f"{self.data}/mail.db-wal", changed(calls, self.data, self.existing, leaving))
            self.assertEqual(self.unsynced(calls, leaving), set())

    def commanded(self, *arguments: str, stdin: bytes) -> tuple[list[Call], Call]:
        """Run a command that exits with 0; return its calls, and the exit as the last of them."""
        ran = self.site.command(*arguments, stdin=stdin, prefix=[
            needs_strace(), "-f", "--seccomp-bpf", *tracing(self.trace, "-e", CALLS)])
        self.assertEqual(ran.returncode, 0, ran)
        calls = read_trace(self.trace)
        self.existing = {path for path in self.existing if not path.endswith(("-wal", "-shm"))}
        leaving = only(calls, "exit_group")
        self.assertEqual(leaving.arguments, "0")
        return calls, leaving

    # The test itself ------------------------------------------------------------------------

    def test_a_login_is_not_synced(self) -> None:
        """The row of a lease may be lost with the power: the same look at a trace finds it unsynced."""
        service = self.site.start()
        self.addCleanup(service.end)
        with Pop3(service.pop3_port) as client:
            client.enter("mrose")       # the first writing of a new log is synced, whatever it writes
        with Pop3(service.pop3_port) as client:
            with traced(service.pid, self.trace):
                self.assertTrue(client.login("mrose").startswith(b"+OK"))
            calls = read_trace(self.trace)
        self.assertEqual(self.unsynced(calls, sent(calls, "+OK maildrop")), {f"{self.data}/mail.db-wal"})

    def test_a_service_without_syncs_is_found_out(self) -> None:
        """A server whose database never syncs answers 250 too early, and it shows."""
        forks = Forks()
        self.addCleanup(forks.close)
        child = forks.start(self.site, UNSYNCED)
        with Lmtp(child.lmtp_port) as client:
            client.deliver("", ["mrose"], SMALL)
            with traced(child.pid, self.trace):
                self.assertTrue(client.deliver("", ["mrose"], LARGE)[0].startswith(b"250 "))
        calls = read_trace(self.trace)
        self.assertEqual(self.unsynced(calls, sent(calls, "250 2.0.0")), {f"{self.data}/mail.db-wal"})


# Reading a trace ----------------------------------------------------------------------------


def changes(calls: Sequence[Call], data: Path, existing: set[str]) -> list[tuple[str, Call]]:
    """Return every change under a folder that has to be synced: the file or folder, and the call.

    A new name changes its folder. What SQLite keeps in shared memory is made anew after a crash.
    """
    names = set(existing)
    found = []
    for call in calls:
        if call.result.startswith("-"):
            continue
        if call.name in ("write", "pwrite64", "ftruncate"):
            found.append((path_of(call), call))
        elif call.name == "mkdir" or (call.name == "openat" and "O_CREAT" in call.arguments):
            path = _QUOTED.findall(call.arguments)[0]
            if path not in names:
                names.add(path)
                found.append((os.path.dirname(path), call))
        elif call.name == "rename":
            found.append((os.path.dirname(_QUOTED.findall(call.arguments)[1]), call))
    return [(path, call) for path, call in found
            if Path(path).is_relative_to(data) and not path.endswith("-shm")]


def changed(calls: Sequence[Call], data: Path, existing: set[str], answer: Call) -> set[str]:
    """Return what was changed before an answer began."""
    return {path for path, call in changes(calls, data, existing) if call.began < answer.began}


def sent(calls: Sequence[Call], start: str) -> Call:
    """Return the last sending of octets that begin so."""
    found = [call for call in calls if call.name == "sendto" and f', "{start}' in call.arguments]
    assert found, [call for call in calls if call.name == "sendto"]
    return found[-1]


def only(calls: Sequence[Call], name: str, path: str | None = None) -> Call:
    """Return the one call of a name, at a path."""
    found = [call for call in calls if call.name == name and (path is None or path_of(call) == path)]
    assert len(found) == 1, (name, path, found)
    return found[0]


def path_of(call: Call) -> str:
    """Return the path of a call's descriptor."""
    found = _PATH.match(call.arguments)
    return found[1] if found is not None else ""
