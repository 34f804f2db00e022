"""What the tests of mboxes share: files, spools over them, and disks under processes that die."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mailgate.model import Envelope, Placement
from mailgate.stores.spools.mbox import MboxHabits, MboxSpool
from mailgate.stores.spools.mbox_files import Disk, Spot
from mailgate.stores.spools.places import Place

FROM = b"From joe@example.org Thu Jan  1 00:00:01 1970\n"


def message(number: int | str, body: bytes = b"", *, head: bytes = b"") -> bytes:
    """Return a message as it stands in an mbox, From line and blank line with it."""
    word = str(number).encode()
    return b"%bSubject: %b\n%b\nbody %b\n%b\n" % (FROM, word, head, word, body and body + b"\n")


class Content:
    """What a delivery hands to a spool."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def read(self, offset: int, octets: int) -> bytes:
        return self._octets[offset:offset + octets]

    def close(self) -> None:
        """Nothing is open."""


class MboxCase:
    """Mixed into a TestCase: one mbox in a folder of its own, in memory where there is such a folder."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(
            prefix="mailgate-test-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.path = self.folder / "joe"
        self.known: dict[bytes, bytes] = {}

    def spool(self, **habits: Any) -> MboxSpool:
        """Return a spool for a session of its own."""
        return MboxSpool(Place(str(self.folder), ["joe"]), MboxHabits(**habits))

    def write(self, *messages: bytes, old: bool = True) -> None:
        """Make the mbox anew; `old`: so long ago that its times tell of every change."""
        self.path.write_bytes(b"".join(messages))
        if old:
            os.utime(self.path, (1_000_000, 1_000_000))

    def scan(self, spool: MboxSpool | None = None) -> list[Any]:
        """Return what a session finds, and remember what it asks to."""
        messages, known = (spool or self.spool()).scan(self.known)
        self.known = dict(known)
        return list(messages)

    def read(self, spool: MboxSpool, name: bytes) -> bytes:
        """Return a message."""
        reader = spool.open(name)
        try:
            return b"".join(iter(lambda: reader.read(4000), b""))
        finally:
            reader.close()

    def subjects(self, spool: MboxSpool | None = None) -> list[bytes]:
        """Return the subjects of what a session finds."""
        spool = spool or self.spool()
        return [self.read(spool, one.name).split(b"\n")[0].removeprefix(b"Subject: ")
                for one in self.scan(spool)]

    def remove(self, spool: MboxSpool, *names: bytes) -> None:
        """Remove messages as a session does; what is remembered goes with them."""
        journal, beside = spool.plan(names)
        spool.carry_out(journal, None if beside is None else Content(b"".join(beside)))
        for name in names:
            self.known.pop(name, None)

    def deliver(self, content: bytes, spool: MboxSpool | None = None, **placement: Any) -> None:
        """Deliver a message."""
        envelope = placement.pop("envelope", Envelope(b"sender@example.org", b"joe@example.org", 10 ** 12))
        (spool or self.spool()).deliver(Content(content), Placement("joe", None, envelope, **placement))

    def beside(self) -> list[str]:
        """Return what lies beside the mbox."""
        return sorted(set(os.listdir(self.folder)) - {"joe"})


class Died(BaseException):
    """The process is dead: nothing of it is carried out any more."""


class DyingDisk(Disk):
    """Lets the process die before a step. `torn`: in the middle of it, if it writes.

    `power`: the machine dies with it, and what was not synced is lost; "last": all but the last step is.
    """

    def __init__(self, folder: Path, steps: int, *, torn: bool = False, power: str = "") -> None:
        self.steps = steps
        self.names: list[str] = []
        self._folder = folder
        self._torn = torn
        self._power = power
        self._durable: dict[int, bytes] = {}    # by inode, of files that have changed since they were synced
        self._undone: list[tuple[int, int, Callable[[int], None]]] = []     # what was done since: inode, file
        self._unnamed: list[Callable[[], None]] = []    # takes back what happened to names

    def write(self, file: int, data: bytes, offset: int) -> None:
        half = (lambda: Disk.write(self, file, data[:len(data) // 2], offset)) if self._torn else None
        self._change("write", file, lambda one: Disk.write(self, one, data, offset), half)

    def truncate(self, file: int, octets: int) -> None:
        self._change("truncate", file, lambda one: Disk.truncate(self, one, octets))

    def sync(self, file: int) -> None:
        self._step("sync")
        Disk.sync(self, file)
        inode = os.fstat(file).st_ino
        self._durable.pop(inode, None)
        self.close(inode)

    def create(self, spot: Spot, mode: int) -> int:
        self._step("create")
        file = Disk.create(self, spot, mode)
        self._durable[os.fstat(file).st_ino] = b""
        return file

    def rename(self, spot: Spot, new: Spot) -> None:
        self._step("rename")
        old = self._folder / new.name
        before = old.read_bytes() if old.exists() else None
        Disk.rename(self, spot, new)

        def back() -> None:
            os.rename(old, self._folder / spot.name)
            if before is not None:
                old.write_bytes(before)

        self._unnamed.append(back)

    def sync_folder(self, spot: Spot) -> None:
        self._step("sync_folder")
        self._unnamed.clear()

    def link(self, spot: Spot, new: Spot) -> None:
        self._step("link")
        Disk.link(self, spot, new)

    def unlink(self, spot: Spot) -> None:
        self._step("unlink")
        Disk.unlink(self, spot)

    def _change(self, name: str, file: int, change: Callable[[int], None],
                half: Callable[[], None] | None = None) -> None:
        inode = os.fstat(file).st_ino
        if inode not in self._durable:
            self._durable[inode] = os.pread(file, os.fstat(file).st_size, 0)
        self._step(name, half)
        change(file)
        self._undone.append((inode, os.dup(file), change))

    def close(self, inode: int | None = None) -> None:
        """Forget what was done to a file, or to all."""
        for one in [one for one in self._undone if inode in (None, one[0])]:
            os.close(one[1])
            self._undone.remove(one)

    def _step(self, name: str, half: Callable[[], None] | None = None) -> None:
        if self.steps == 0:
            if half is not None:
                half()
            if self._power:
                self._lose()
            self.steps = -1
        if self.steps < 0:
            raise Died
        self.steps -= 1
        self.names.append(name)

    def _lose(self) -> None:
        """Take back what was not synced."""
        for back in reversed(self._unnamed):
            back()
        for path in self._folder.iterdir():
            content = self._durable.get(path.stat().st_ino)
            if content is not None:
                path.write_bytes(content)
        if self._power == "last" and self._undone:
            _, file, change = self._undone[-1]
            change(file)
