"""A disk that is full, cannot be written, or fails: told by [SYS/TEMP], 45x and exit 75; nothing is lost.

The same service goes on when the disk is well again.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Sequence
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.crash.dialogue import Lmtp, Pop3
from tests.crash.reopened import Reopened
from tests.crash.strace import attached, failing, needs_strace
from tests.services import HOSTNAME, WAIT_SECONDS, Service, Site, wait_for

NAMES = ("mrose", "tims")
SMALL = b"Subject: small\r\n\r\nhello\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"hello again\r\n" * 12_000
DISK_MIB = 4
TEMPORARY = b"-ERR [SYS/TEMP] "
TRY_AGAIN = 75          # of sysexits.h
FAILURES = 20
LEASE_SECONDS = 1
CHANGES = "pwrite64,ftruncate,mkdir,rename,unlink,fsync,fdatasync"     # calls that a store changes a disk by


class Disk:
    """A small file system of its own, in memory; where it cannot be mounted the test is skipped."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder.absolute()
        self._filler = self.folder / "filler"
        options = f"size={DISK_MIB}m,mode=700"
        if not self._mounted("-t", "tmpfs", "-o", options, "mailgate-test"):
            raise SkipTest("only somebody who may mount file systems can fill one")

    def fill(self) -> None:
        """Use all space that is left."""
        with open(self._filler, "wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))

    def free(self) -> None:
        """Give back what `fill` took."""
        self._filler.unlink()

    def allow_writing(self, allowed: bool) -> None:
        """Let all be read only, or not. Nothing may have a file open for writing."""
        done = self._mounted("-o", f"remount,{'rw' if allowed else 'ro'}")
        assert done, "a file is open"

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def _mounted(self, *options: str) -> bool:
        ran = subprocess.run(["mount", *options, str(self.folder)], capture_output=True, check=False)
        return ran.returncode == 0


class DiskCase(SynchronousTestCase):
    """A site with a message for `mrose` of each kind."""

    def make_site(self, data: Path | None = None) -> None:
        self.site = Site(Path(self.mktemp()), accounts=dict.fromkeys(NAMES, "secret"),
                         store=f"lease_seconds = {LEASE_SECONDS}", data=data)
        for message in (SMALL, LARGE):
            self.site.deliver(message, f"mrose@{HOSTNAME}")

    def start(self) -> Service:
        service = self.site.start()
        self.addCleanup(service.end)
        return service

    def assert_refuses(self, lmtp: Lmtp, code: bytes, message: bytes) -> None:
        """A delivery is refused for each recipient, for now."""
        answers = lmtp.deliver("", NAMES, message)
        self.assertEqual([answer[:len(code)] for answer in answers], [code, code], answers)

    def assert_works(self, service: Service) -> None:
        """The service delivers and removes, and what was refused has left nothing: mail as at the start."""
        wait_for(lambda: self.enters(service), "the lease to lapse")
        with Pop3(service.pop3_port) as client:
            self.assertEqual(client.enter("mrose"), 2)
            for number, message in enumerate((SMALL, LARGE), 1):
                self.assertTrue(client.retrieve(number).endswith(b"\r\n" + message))
            client.ask(b"QUIT")
        with Lmtp(service.lmtp_port) as lmtp:
            for message in (SMALL, LARGE):
                self.assertEqual([answer[:4] for answer in lmtp.deliver("", NAMES, message)], [b"250 "] * 2)
        with Pop3(service.pop3_port) as client:
            self.assertEqual(client.enter("mrose"), 4)
            client.mark(1, 2)
            self.assertTrue(client.ask(b"QUIT").startswith(b"+OK"))
        with Pop3(service.pop3_port) as client:
            self.assertEqual(client.enter("mrose"), 2)
        self.assert_sound()

    def assert_cannot_start(self) -> None:
        """A service ends at once, and says why."""
        ran = subprocess.run(self.site.service_command(), capture_output=True, timeout=WAIT_SECONDS,
                             cwd=self.site.folder, check=False)
        self.assertEqual(ran.returncode, TRY_AGAIN, ran)
        self.assertIn(b"mailgate: cannot start: ", ran.stderr)

    def assert_deferred(self, message: bytes, prefix: Sequence[str] = ()) -> None:
        """The command says: try again later."""
        ran = self.site.command("deliver", "--from", "", f"mrose@{HOSTNAME}", stdin=message, prefix=prefix)
        self.assertEqual(ran.returncode, TRY_AGAIN, ran)

    def enters(self, service: Service) -> bool:
        with Pop3(service.pop3_port) as client:
            entered = client.login("mrose").startswith(b"+OK")
            client.ask(b"QUIT")
        return entered

    def assert_sound(self) -> None:
        """The store is whole, and the sweep leaves no body that no row names."""
        reopened = Reopened(self.site)
        try:
            self.assertEqual(reopened.wait(reopened.store.check()), [])
            reopened.wait(reopened.store.sweep(0))
            self.assertEqual(reopened.unnamed_blobs(), [])
        finally:
            reopened.close()


class FullDiskTests(DiskCase):
    def setUp(self) -> None:
        self.disk = Disk(Path(self.mktemp()))
        self.addCleanup(self.disk.close)
        self.make_site(self.disk.folder)

    def test_full_disk(self) -> None:
        """Nothing is taken and nothing removed; what is there can be read in a session that is open."""
        service = self.start()
        with Pop3(service.pop3_port) as pop3, Lmtp(service.lmtp_port) as lmtp:
            self.assertEqual(pop3.enter("mrose"), 2)
            self.disk.fill()
            for message in (SMALL, LARGE):
                self.assert_refuses(lmtp, b"452 4.3.1 ", message)
            for number, message in enumerate((SMALL, LARGE), 1):
                self.assertTrue(pop3.retrieve(number).endswith(b"\r\n" + message))
            with Pop3(service.pop3_port) as other:
                self.assertTrue(other.login("tims").startswith(TEMPORARY))
            for message in (SMALL, LARGE):
                self.assert_deferred(message)
            pop3.mark(1, 2)
            self.assertTrue(pop3.ask(b"QUIT").startswith(TEMPORARY))
        self.disk.free()
        self.assert_works(service)

    def test_disk_gets_full_in_the_middle(self) -> None:
        """A message that would fit in no way: its beginning is written, and removed again."""
        service = self.start()
        huge = LARGE * (DISK_MIB * 1_048_576 // len(LARGE) + 1)
        with Lmtp(service.lmtp_port) as lmtp:
            self.assert_refuses(lmtp, b"452 4.3.1 ", huge)
            wait_for(lambda: not list(self.disk.folder.rglob("*.part")), "the beginning to be removed")
        self.assert_deferred(huge)
        self.assert_works(service)

    def test_starting_on_a_full_disk(self) -> None:
        """A service that starts on a full disk serves as soon as there is space, or says try again."""
        self.disk.fill()
        self.assert_cannot_start()
        self.disk.free()
        self.assert_works(self.start())


class FileSizeTests(DiskCase):
    """The same where nobody may mount: no file of the process may grow (its log neither)."""

    def setUp(self) -> None:
        self.make_site()
        self.service = self.start()

    def limit(self, octets: int) -> None:
        """Bound the size of files that the service writes."""
        _, most = resource.prlimit(self.service.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.service.pid, resource.RLIMIT_FSIZE, (octets, most))

    def unlimit(self) -> None:
        self.limit(resource.RLIM_INFINITY)

    def test_files_cannot_grow(self) -> None:
        with Pop3(self.service.pop3_port) as pop3, Lmtp(self.service.lmtp_port) as lmtp:
            self.assertEqual(pop3.enter("mrose"), 2)
            self.limit(1)
            for message in (SMALL, LARGE):
                self.assert_refuses(lmtp, b"45", message)
            self.assertTrue(pop3.retrieve(2).endswith(b"\r\n" + LARGE))
            with Pop3(self.service.pop3_port) as other:
                self.assertTrue(other.login("tims").startswith(TEMPORARY))
            self.assert_deferred(LARGE, ["sh", "-c", 'ulimit -S -f 0; exec "$@"', "sh"])
            pop3.mark(1, 2)
            self.assertTrue(pop3.ask(b"QUIT").startswith(TEMPORARY))
        self.unlimit()
        self.assert_works(self.service)

    def test_failures_leave_no_descriptors(self) -> None:
        """A connection that failed is closed, not only forgotten."""
        with Lmtp(self.service.lmtp_port) as lmtp:
            self.assertTrue(lmtp.deliver("", NAMES, SMALL)[0].startswith(b"250 "))
            before = self.logs_open()
            self.limit(1)
            for _ in range(FAILURES):
                self.assert_refuses(lmtp, b"45", SMALL)
            self.unlimit()
            self.assertTrue(lmtp.deliver("", NAMES, SMALL)[0].startswith(b"250 "))
            self.assertEqual(self.logs_open(), before)

    def logs_open(self) -> int:
        """Return how many descriptors the service has for the database's log."""
        paths = []
        for descriptor in Path(f"/proc/{self.service.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                paths.append(os.readlink(descriptor))
        return sum(path.endswith("mail.db-wal") for path in paths)


class ReadOnlyTests(DiskCase):
    def test_disk_turns_read_only(self) -> None:
        """As a kernel does after errors of a disk: every write fails, what is there can be read."""
        needs_strace()
        self.make_site()
        service = self.start()
        with Pop3(service.pop3_port) as pop3, Lmtp(service.lmtp_port) as lmtp:
            self.assertEqual(pop3.enter("mrose"), 2)
            with attached(service.pid, *failing(CHANGES, "EROFS")):
                for message in (SMALL, LARGE):
                    self.assert_refuses(lmtp, b"451 4.3.0 ", message)
                self.assertTrue(pop3.retrieve(2).endswith(b"\r\n" + LARGE))
                with Pop3(service.pop3_port) as other:
                    self.assertTrue(other.login("tims").startswith(TEMPORARY))
                pop3.mark(1, 2)
                self.assertTrue(pop3.ask(b"QUIT").startswith(TEMPORARY))
        self.assert_works(service)

    def test_mounted_read_only(self) -> None:
        """After a crash the log is there, so that all can be read; the service waits for better days."""
        disk = Disk(Path(self.mktemp()))
        self.addCleanup(disk.close)
        self.make_site(disk.folder)
        crashed = self.start()
        with Lmtp(crashed.lmtp_port) as lmtp:
            self.assertTrue(lmtp.deliver("", ["tims"], SMALL)[0].startswith(b"250 "))
        crashed.kill()
        disk.allow_writing(False)
        self.assertEqual(self.site.succeed("maildrop", "list", "tims").count(b"\n"), 1)
        self.assert_deferred(SMALL)
        service = self.start()
        with Lmtp(service.lmtp_port) as lmtp, Pop3(service.pop3_port) as pop3:
            for message in (SMALL, LARGE):
                self.assert_refuses(lmtp, b"451 4.3.0 ", message)
            self.assertTrue(pop3.login("mrose").startswith(TEMPORARY))
        disk.allow_writing(True)
        self.assert_works(service)

    def test_mounted_read_only_without_a_log(self) -> None:
        """After an orderly end SQLite cannot open the file without writing: try again, nothing worse."""
        disk = Disk(Path(self.mktemp()))
        self.addCleanup(disk.close)
        self.make_site(disk.folder)
        disk.allow_writing(False)
        self.assert_deferred(SMALL)
        self.assert_cannot_start()
        disk.allow_writing(True)
        self.assert_works(self.start())


class FailingDiskTests(DiskCase):
    def setUp(self) -> None:
        needs_strace()
        self.make_site()
        self.service = self.start()

    def test_sync_of_a_body_fails(self) -> None:
        """A body that may not be on disk is not acknowledged, and gets no row."""
        with Lmtp(self.service.lmtp_port) as lmtp, attached(self.service.pid, *failing("fsync", "EIO")):
            self.assert_refuses(lmtp, b"451 4.3.0 ", LARGE)
        self.assert_works(self.service)

    def test_sync_of_the_log_fails(self) -> None:
        """Neither a delivery nor a removal is acknowledged that may not be on disk."""
        with Pop3(self.service.pop3_port) as pop3, Lmtp(self.service.lmtp_port) as lmtp:
            self.assertEqual(pop3.enter("mrose"), 2)
            with attached(self.service.pid, *failing("fdatasync", "EIO")):
                for message in (SMALL, LARGE):
                    self.assert_refuses(lmtp, b"451 4.3.0 ", message)
                pop3.mark(1, 2)
                self.assertTrue(pop3.ask(b"QUIT").startswith(TEMPORARY))
        self.assert_works(self.service)
