"""Locks on an mbox: against other programs' ways to lock, against ourselves, and where none can be had."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import StoreUnavailable
from mailgate.stores.spools import mbox_locks
from mailgate.stores.spools.mbox_files import Disk, Spot
from mailgate.stores.spools.mbox_locks import DotLock, Lockable, SpoolLocks, is_live
from mailgate.stores.spools.places import Place
from tests.needs import needs
from tests.stores.spools.mbox_hooks import MboxCase, message

HOLD = ("import fcntl, sys; file = open(sys.argv[1], 'r+b'); fcntl.lockf(file, fcntl.LOCK_{kind}); "
        "print('locked', flush=True); sys.stdin.read()")


class LockCase(MboxCase):
    def setUp(self) -> None:
        super().setUp()
        self.write(message(1))
        self.lock = self.folder / "joe.lock"
        self.waited: list[float] = []
        self.seconds = 0.0

    def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.seconds += seconds

    def spot(self) -> Spot:
        place = Place(str(self.folder), ["joe"])
        return Spot(place.parent(), place.name)

    def locks(self) -> SpoolLocks:
        return SpoolLocks(self.spot(), Disk(), sleep=self.sleep, monotonic=lambda: self.seconds)

    def can(self, kind: str) -> bool:
        """Return whether a lock can be had."""
        try:
            with getattr(self.locks(), kind)() as held:
                return held is not None
        except StoreUnavailable as fault:
            self.assertIn("is locked by another program", str(fault))
            return False

    @contextmanager
    def other_program(self, kind: str) -> Iterator[None]:
        """Let another process hold an fcntl lock."""
        with subprocess.Popen([sys.executable, "-c", HOLD.format(kind=kind), os.fspath(self.path)],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            yield
            other.communicate(b"")


class LockTests(LockCase, SynchronousTestCase):
    def test_each_other(self) -> None:
        """Readers go together, a writer goes alone; of one process as of two, and nothing is left."""
        with self.locks().exclusive():
            self.assertEqual(self.beside(), ["joe.lock"])
            self.assertFalse(self.can("exclusive") or self.can("shared"))
        with self.locks().shared(), self.locks().shared():
            self.assertFalse(self.can("exclusive"))
        self.assertTrue(self.can("exclusive") and self.can("shared"))
        self.assertEqual(self.beside(), [])

    def test_another_thread_that_closes_the_file(self) -> None:
        """Does not take our lock away, as it would with locks of processes."""
        with self.locks().exclusive():
            self.path.read_bytes()
            script = ("import fcntl, sys; file = open(sys.argv[1], 'r+b')\n"
                      "try: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
                      "except OSError: print('locked')")
            other = subprocess.run([sys.executable, "-c", script, self.path], capture_output=True, check=True)
            self.assertEqual(other.stdout, b"locked\n")

    def test_fcntl_of_others(self) -> None:
        with self.other_program("EX"):
            self.assertFalse(self.can("exclusive") or self.can("shared"))
        with self.other_program("SH"):
            self.assertTrue(self.can("shared"))
            self.assertFalse(self.can("exclusive"))

    def test_other_order(self) -> None:
        """Who has NAME.lock and waits for fcntl gets it: we hold neither while we wait for the other."""
        self.lock.write_bytes(b"0\n")
        had = []

        def others_turn(seconds: float) -> None:
            self.sleep(seconds)
            with self.path.open("r+b") as file:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                had.append(self.beside())
            self.lock.unlink(missing_ok=True)

        locks = SpoolLocks(self.spot(), Disk(), sleep=others_turn, monotonic=lambda: self.seconds)
        with locks.exclusive() as held:
            self.assertIsNotNone(held)
        self.assertEqual(had, [["joe.lock"]])

    def test_patience(self) -> None:
        """Waiting has an end, and its steps differ in length."""
        self.lock.write_bytes(b"0\n")
        self.assertFalse(self.can("exclusive"))
        self.assertGreater(self.seconds, mbox_locks.PATIENCE_SECONDS - 0.001)
        self.assertLess(self.seconds, mbox_locks.PATIENCE_SECONDS + 1)
        self.assertLessEqual(max(self.waited), mbox_locks.LONGEST_WAIT_SECONDS)
        self.assertEqual(len(set(self.waited)), len(self.waited))

    def test_dotlockfile(self) -> None:
        """Debian's own program and we exclude each other."""
        program = needs("dotlockfile")
        subprocess.run([program, "-l", "-r", "0", self.lock], check=True)
        self.assertFalse(self.can("exclusive") or self.can("shared"))
        subprocess.run([program, "-u", self.lock], check=True)
        with self.locks().exclusive():
            for how in ([], ["-p"]):
                other = subprocess.run([program, "-l", *how, "-r", "0", self.lock], check=False)
                self.assertEqual(other.returncode, 4)
            self.assertEqual(subprocess.run([program, "-c", self.lock], check=False).returncode, 0)
        self.assertNotEqual(subprocess.run([program, "-c", self.lock], check=False).returncode, 0)

    def test_lockfile(self) -> None:
        """And procmail's."""
        program = needs("lockfile")
        subprocess.run([program, "-r", "0", self.lock], check=True)
        self.assertFalse(self.can("exclusive"))
        self.lock.unlink()
        with self.locks().exclusive():
            self.assertNotEqual(subprocess.run([program, "-r", "0", self.lock], capture_output=True,
                                               check=False).returncode, 0)
        subprocess.run([program, "-r", "0", self.lock], check=True)

    def test_renamed_while_waiting(self) -> None:
        """What is locked is what has the name."""
        with self.other_program("EX"):
            def replace(seconds: float) -> None:
                self.sleep(seconds)
                os.replace(self.path, self.folder / "old")
                self.write(message(2))

            locks = SpoolLocks(self.spot(), Disk(), sleep=replace, monotonic=lambda: self.seconds)
            with locks.exclusive() as held:
                self.assertEqual(os.pread(held[0], 1000, 0), message(2))

    def test_made_by_two(self) -> None:
        """A mailbox that is missing is made under its lock; who comes second finds it."""
        self.path.unlink()
        spot, disk = self.spot(), Disk()
        with self.locks().exclusive(lambda: disk.create(spot, 0o600)):
            self.assertEqual(self.beside(), ["joe.lock"])
        with self.locks().exclusive(lambda: self.fail("it is there")) as held:
            self.assertIsNotNone(held)
        self.path.unlink()
        self.assertIsNone(self.locks().exclusive().__enter__())


class StaleTests(LockCase, SynchronousTestCase):
    def test_five_minutes(self) -> None:
        """liblockfile's measure, whatever stands in the lock."""
        for words in (b"0\n", b"1\n", b"%d:host" % os.getpid(), b"", b"x" * 1000):
            self.lock.write_bytes(words)
            for age, live in ((290, True), (310, False)):
                os.utime(self.lock, (time.time() - age,) * 2)
                self.assertEqual(self.can("shared"), not live, (words, age))
                self.assertEqual(self.can("exclusive"), not live, (words, age))

    def test_ours_of_the_dead(self) -> None:
        """Who was killed with a lock is found out at once, unless it was on another machine."""
        with subprocess.Popen([sys.executable, "-c", (
                "import sys; sys.path.insert(0, sys.argv[2])\n"
                "from tests.stores.spools.test_mbox_locks import *\n"
                "place = Place(sys.argv[1], ['joe'])\n"
                "DotLock(Spot(place.parent(), 'joe'), Disk()).take()\n"
                "print('locked', flush=True); sys.stdin.read()"), self.folder, Path(__file__).parents[3]],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            self.assertEqual(other.stdout.readline(), b"locked\n")
            self.assertFalse(self.can("exclusive"))
            other.kill()
            other.wait()
        sign = self.lock.read_bytes()
        self.assertEqual(sign.split()[0], b"0")
        self.lock.write_bytes(sign.replace(b"pid:[", b"pid:[1"))        # of another container, say
        self.assertFalse(self.can("exclusive"))
        self.lock.write_bytes(sign)
        self.assertTrue(self.locks().is_stale())
        self.scan()         # others wait for it
        self.assertEqual(self.beside(), [])

    def test_number_of_another(self) -> None:
        """A process that has got the number of the dead one is another one."""
        lock = DotLock(self.spot(), Disk())
        lock.take()
        sign = self.lock.read_bytes()
        self.assertTrue(is_live(self.spot().beside("joe.lock"), time.time()))
        self.lock.write_bytes(sign.rsplit(b" ", 1)[0] + b" 1\n")
        self.assertFalse(is_live(self.spot().beside("joe.lock"), time.time()))

    def test_touched_while_held(self) -> None:
        lock = DotLock(self.spot(), Disk(), monotonic=lambda: self.seconds)
        lock.take()
        os.utime(self.lock, (1_000_000, 1_000_000))
        lock.touch()
        self.assertEqual(self.lock.stat().st_mtime, 1_000_000)
        self.seconds += 31
        lock.touch()
        self.assertGreater(self.lock.stat().st_mtime, time.time() - 100)
        lock.drop()

    def test_taken_from_us(self) -> None:
        """Who slept for too long does not give up, nor touch, the lock of the next one."""
        lock = DotLock(self.spot(), Disk(), monotonic=lambda: self.seconds)
        lock.take()
        self.lock.unlink()
        self.lock.write_bytes(b"0\n")
        os.utime(self.lock, (1_000_000, 1_000_000))
        self.seconds += 100
        lock.touch()
        lock.drop()
        self.assertEqual(self.lock.stat().st_mtime, 1_000_000)

    def test_two_find_it_stale(self) -> None:
        """Not the fresh lock of the other one is removed."""
        self.lock.write_bytes(b"0\n")
        os.utime(self.lock, (1_000_000, 1_000_000))
        real = mbox_locks.is_live
        calls = []

        def raced(spot: Spot, now: float) -> bool:
            found = real(spot, now)
            calls.append(found)
            if len(calls) == 2:     # it was judged; now another program takes it
                self.lock.unlink()
                self.lock.write_bytes(b"0\n")
            return found

        with mock.patch.object(mbox_locks, "is_live", raced):
            self.assertFalse(self.can("exclusive"))
        self.assertTrue(self.lock.exists())


class RefusalTests(LockCase, SynchronousTestCase):
    """Where locking cannot work nothing is done, and an operator reads why."""

    def test_fcntl_missing(self) -> None:
        for number in (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):
            with mock.patch.object(fcntl, "fcntl", side_effect=OSError(number, os.strerror(number))):
                for kind in ("shared", "exclusive"):
                    with self.assertRaisesRegex(StoreUnavailable, "cannot be locked by fcntl"):
                        getattr(self.locks(), kind)().__enter__()
                with self.assertRaisesRegex(StoreUnavailable, "mailboxes cannot be locked here"):
                    Lockable().check(self.spot().folder)
        with mock.patch.object(mbox_locks, "_SETLK", None), \
                self.assertRaisesRegex(StoreUnavailable, "no fcntl locks of open files"):
            self.locks().shared().__enter__()
        self.assertEqual(self.beside(), [])

    def test_folder_that_takes_no_lock(self) -> None:
        """Read-only, or somebody else's: mail is not even read, for it could not be removed."""
        for number in (errno.EROFS, errno.EACCES):
            with mock.patch.object(Disk, "create", side_effect=OSError(number, os.strerror(number))):
                with self.assertRaisesRegex(StoreUnavailable, "joe.lock cannot be made"):
                    self.locks().exclusive().__enter__()
                with self.assertRaisesRegex(StoreUnavailable, "mailboxes cannot be locked here"):
                    self.spool(lockable=Lockable()).scan({})

    def test_links_missing(self) -> None:
        with mock.patch.object(Disk, "link", side_effect=OSError(errno.EPERM, "not permitted")), \
                self.assertRaises(StoreUnavailable):
            Lockable().check(self.spot().folder)
        self.assertEqual(self.beside(), [])

    def test_tried_once(self) -> None:
        """Where it worked it is not tried again."""
        lockable = Lockable()
        lockable.check(self.spot().folder)
        with mock.patch.object(Disk, "create", side_effect=AssertionError):
            lockable.check(self.spot().folder)
        self.assertEqual(self.beside(), [])
