"""An mbox as a spool: what is listed, read and removed while other programs do with it what they like."""

from __future__ import annotations

import errno
import os
import stat
import time
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import NoSuchMessage, StoreFull, StoreUnavailable
from mailgate.formats.uniqueids import parse_format
from mailgate.model import Envelope, Placement
from mailgate.stores.spools import mbox_reader
from mailgate.stores.spools.mbox import MboxSpool
from mailgate.stores.spools.mbox_files import Disk, read_all
from mailgate.stores.spools.mbox_rows import FILE
from mailgate.stores.spools.places import Place
from mailgate.wire.dots import WireForm, unstuff
from tests.stores.spools.mbox_hooks import FROM, Content, MboxCase, message
from tests.stores.sqlite_hooks import open_files

FOLDER_DATA = (b"From MAILER-DAEMON Fri Jul  8 12:08:34 2011\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER "
               b"INTERNAL DATA\nX-IMAP: 1310130000 0000000007\nStatus: RO\n\nThis text is the format's.\n\n")


def seen(octets: bytes) -> bytes:
    """Return a message as another program marks it."""
    return octets.replace(b"\n\nbody", b"\nStatus: RO\n\nbody", 1)


class ScanTests(MboxCase, SynchronousTestCase):
    def test_messages(self) -> None:
        self.write(FROM + b"Status: RO\nX-Status: F\nDelivered-To: a@example.org\n"
                   b"X-Original-To: b@example.org\n\nbody\n\n", message(2))
        first, second = self.scan()
        self.assertEqual(first.octets, 28 + 31 + 2 + 6)
        self.assertEqual((first.flags, second.flags), ("FS", ""))
        self.assertEqual(first.envelope[:2], (b"joe@example.org", b"b@example.org"))
        self.assertRegex(first.unique_id, rb"\A[0-9a-f]{32}\Z")

    def test_envelope(self) -> None:
        """The From line counts before Return-Path, unless it tells nothing; times are the machine's."""
        for line, field, sender in ((b"joe@example.org", b"<x@example.org>", b"joe@example.org"),
                                    (b"MAILER-DAEMON", b"<>", b""), (b"MAILER-DAEMON", b"", b""),
                                    (b"-", b"<x@example.org>", b"x@example.org")):
            self.write(b"From %b Sat Jun 20 10:00:00 2015\nReturn-Path: %b\n\n\n" % (line, field))
            with mock.patch.dict(os.environ, {"TZ": "Europe/London"}):
                time.tzset()
                [one] = self.spool().scan({})[0]
            time.tzset()
            self.assertEqual(one.envelope, Envelope(sender, b"", 1434790800000))

    def test_no_file(self) -> None:
        """A user who never had mail has none; what is known of one whose disk is missing is kept."""
        self.assertEqual(self.scan(), [])
        self.write(message(1))
        self.scan()
        known = self.known
        self.path.unlink()
        self.assertEqual(self.scan(), [])
        self.assertEqual(self.known, known)

    def test_what_is_no_mbox(self) -> None:
        """Nothing is waited for, followed or believed."""
        elsewhere = self.folder / "elsewhere"
        elsewhere.write_bytes(message(1))
        for make in (lambda: os.symlink(elsewhere, self.path), lambda: os.link(elsewhere, self.path),
                     lambda: os.mkfifo(self.path), self.path.mkdir):
            make()
            self.assertRaises(StoreUnavailable, self.scan)
            self.assertRaises(StoreUnavailable, self.deliver, b"x\r\n")
            self.assertEqual(elsewhere.read_bytes(), message(1))
            self.path.rmdir() if stat.S_ISDIR(self.path.lstat().st_mode) else self.path.unlink()
        for octets in (b"\0" * 100, b"Subject: x\n\n", b"\n\nx"):
            self.path.write_bytes(octets)
            self.assertRaises(StoreUnavailable, self.scan)
            self.assertEqual(self.path.read_bytes(), octets)

    def test_names_of_other_files(self) -> None:
        """A user called joe.lock would own joe's lock."""
        for name in ("joe.lock", ".joe.mailgate", ".joe.mailgate.new", ".mailgate-x", ".lk1"):
            self.assertRaises(StoreUnavailable, MboxSpool, Place(str(self.folder), [name]))
        MboxSpool(Place(str(self.folder), [".mbox"]))

    def test_folder_data(self) -> None:
        """The first message that is none is hidden, and stays where it is."""
        self.write(FOLDER_DATA, message(1), FOLDER_DATA)
        spool = self.spool()
        first, second = self.scan(spool)
        self.assertIn(b"FOLDER INTERNAL DATA", self.read(spool, second.name))
        self.remove(spool, first.name, second.name)
        self.assertEqual(self.path.read_bytes(), FOLDER_DATA)
        self.assertEqual(self.scan(), [])


class KnownTests(MboxCase, SynchronousTestCase):
    """What is remembered, and what is read again."""

    def reads(self, spool: MboxSpool) -> tuple[list[bytes], int]:
        """Return the subjects that a scan finds, and how many octets it reads."""
        octets = 0

        def counted(file: int, most: int, offset: int) -> bytes:
            nonlocal octets
            data = real(file, most, offset)
            octets += len(data)
            return data

        real = os.pread
        with mock.patch.object(os, "pread", counted):
            found = self.scan(spool)
        return [one.unique_id for one in found], octets

    def test_untouched(self) -> None:
        """A file that was not touched is not read."""
        self.write(*(message(number, b"x" * 5000) for number in range(20)))
        ids, octets = self.reads(self.spool(now=lambda: time.time() + 5))
        self.assertGreater(octets, 100_000)
        self.assertEqual(self.reads(self.spool()), (ids, 0))

    def test_grown(self) -> None:
        """Of one that grew, the headers and what is new."""
        self.write(*(message(number, b"x" * 5000) for number in range(20)))
        ids, _ = self.reads(self.spool())
        with self.path.open("ab") as file:
            file.write(message("new"))
        grown, octets = self.reads(self.spool())
        self.assertEqual(grown[:-1], ids)
        self.assertLess(octets, 5000)

    def test_removed_by_us(self) -> None:
        self.write(*(message(number, b"x" * 5000) for number in range(20)))
        spool = self.spool()
        first = self.scan(spool)
        self.remove(spool, first[0].name, first[7].name)
        ids, octets = self.reads(self.spool())
        self.assertEqual(ids, [one.unique_id for index, one in enumerate(first) if index not in (0, 7)])
        self.assertLess(octets, 5000)

    def test_changed_in_the_same_moment(self) -> None:
        """A time that is as young as the look at it does not vouch for anything."""
        self.write(message("one"), old=False)
        before = self.path.stat()
        self.assertEqual(self.subjects(), [b"one"])
        self.path.write_bytes(message("two"))
        os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.assertEqual(self.subjects(), [b"two"])

    def test_grown_without_a_blank_line(self) -> None:
        """What a program adds to the last message is the last message's."""
        self.write(message(1), FROM + b"Subject: 2\n\nbody")
        self.scan()
        with self.path.open("ab") as file:
            file.write(b" and more\n" + FROM + b"\nx\n\n" + message(3))
        spool = self.spool()
        found = self.scan(spool)
        self.assertEqual(self.read(spool, found[1].name), b"Subject: 2\n\nbody and more\n" + FROM + b"\nx\n")
        self.assertEqual(len(found), 3)
        with self.path.open("ab") as file:
            file.write(b"text behind a blank line\n")
        self.assertEqual(len(self.scan()), 3)

    def test_rows_of_another_version(self) -> None:
        """What an older or newer mailgate remembered is not believed."""
        self.write(message(1), message(2))
        ids = [one.unique_id for one in self.scan()]
        self.known = {name: bytes([9]) + row[1:] for name, row in self.known.items()}
        self.assertEqual([one.unique_id for one in self.scan()], ids)
        self.assertEqual(self.known[FILE][0], 1)

    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.tuples(st.sampled_from(["append", "remove", "ours", "flags", "swap", "scan"]),
                              st.integers(0, 9), st.integers(0, 2)), max_size=12))
    def test_whatever_others_do(self, steps: list[tuple[str, int, int]]) -> None:
        """After any changes the list is that of a first look, and no message's unique-id ever changes."""
        self.known = {}
        messages = [message(number) for number in (0, 1, 1)]
        self.write(*messages)
        for what, which, number in steps:
            at = which % max(len(messages), 1)
            if what == "append":
                messages.append(message(number))
            elif what == "remove":
                del messages[at:at + 1]
            elif what == "flags" and messages:
                messages[at] = messages[at].replace(b"\n\nbody", b"\nStatus: %b\n\nbody" % b"RO"[:number], 1)
            elif what == "swap":
                messages.reverse()
            if what == "ours" and messages:
                spool = self.spool()
                self.remove(spool, self.scan(spool)[at].name)
                del messages[at]
                continue
            before = {one.name: one.unique_id for one in self.scan()} if what == "scan" else {}
            self.path.write_bytes(b"".join(messages))
            found = self.scan()
            fresh = self.spool().scan({})[0]
            self.assertEqual([(one.name[:16], one.octets, one.envelope, one.flags) for one in found],
                             [(one.name[:16], one.octets, one.envelope, one.flags) for one in fresh])
            self.assertEqual(len({one.name for one in found}), len(messages))
            self.assertEqual(len({one.unique_id for one in found}), len(messages))
            self.assertEqual({one.name: one.unique_id for one in found} | before,
                             {one.name: one.unique_id for one in found})
        self.assertEqual(self.path.read_bytes(), b"".join(messages))


class IdTests(MboxCase, SynchronousTestCase):
    def test_equal_messages(self) -> None:
        """Of two that are equal each has its own, and keeps it when the other goes."""
        self.write(message(1), message(1), message(2))
        spool = self.spool()
        first, second, third = self.scan(spool)
        self.assertEqual(second.unique_id, first.unique_id + b".2")
        self.remove(spool, first.name)
        self.assertEqual([one.unique_id for one in self.scan()], [second.unique_id, third.unique_id])

    def test_ids_of_an_old_server(self) -> None:
        """X-UIDL is believed, but is no two messages' id; nor is what another one has already."""
        self.write(message(1, head=b"X-UIDL: abc\n"), message(2, head=b"X-UIDL: abc\n"), message(3))
        ids = [one.unique_id for one in self.scan()]
        self.assertEqual(ids[:2], [b"abc", b"abc-2"])
        with self.path.open("ab") as file:
            file.write(message(4, head=b"X-UIDL: %b\n" % ids[2]))
        found = [one.unique_id for one in self.scan()]
        self.assertEqual(found[:3], ids)
        self.assertEqual(len(set(found)), 4)

    def test_counted_ids(self) -> None:
        """UIDs of Dovecot or imapd, also of mail that came when the first ones were known already."""
        head = b"X-IMAPbase: 1310130000 0000000009\nX-UID: 3\n"
        ids = parse_format("dovecot:%v.%u")
        self.write(message(1, head=head), message(2, head=b"X-UID: 5\n"))
        self.assertEqual([one.unique_id for one in self.scan(self.spool(unique_ids=ids))],
                         [b"1310130000.3", b"1310130000.5"])
        with self.path.open("ab") as file:
            file.write(message(3, head=b"X-UID: 7\n") + message(4, head=b"X-UID: 6\n"))
        found = [one.unique_id for one in self.scan(self.spool(unique_ids=ids))]
        self.assertEqual(found[2], b"1310130000.7")
        self.assertRegex(found[3], b"[0-9a-f]{32}")     # none that the server would have believed


class ReadTests(MboxCase, SynchronousTestCase):
    def test_content(self) -> None:
        """As it stands there, `>From ` too; without what mail programs keep in the header."""
        self.write(FROM + b"A: 1\nStatus: RO\n\n>From x\n\n\n", FROM + b"\n", FROM + b"Status: RO\n")
        spool = self.spool()
        self.assertEqual([self.read(spool, one.name) for one in self.scan(spool)],
                         [b"A: 1\n\n>From x\n\n", b"", b""])

    def test_others_rewrite_it(self) -> None:
        """What was moved is found, what is gone is gone, small messages and large ones; never a wrong one."""
        large = b"\n".join(b"%d" % number for number in range(60_000))
        messages = [message(number, body) for number, body in enumerate((b"", large, b"", large + b"!"))]
        for small in (mbox_reader.SMALL_OCTETS, 10):
            with mock.patch.object(mbox_reader, "SMALL_OCTETS", small):
                self.known = {}
                self.write(*messages)
                spool = self.spool()
                found = self.scan(spool)
                self.write(messages[3], message("new"), seen(messages[1]))
                for number in (1, 3):
                    self.assertEqual(self.read(spool, found[number].name),
                                     messages[number].removeprefix(FROM)[:-1])
                for number in (0, 2):
                    self.assertRaises(NoSuchMessage, spool.open, found[number].name)
                self.path.unlink()
                self.assertRaises(NoSuchMessage, spool.open, found[1].name)

    def test_others_rewrite_it_while_it_is_read(self) -> None:
        """The rest is found as well, whatever the header has got; and a changed body does not end well."""
        large = b"\n".join(b"%d" % number for number in range(200_000))
        content = message(1, large)
        for rewritten, ends in (
                ([message(0), seen(content)], True),
                ([content, message(2)], True), ([message(0)], False),
                ([content.replace(b"199999", b"######")], False)):
            self.known = {}
            self.write(message("first"), content)
            spool = self.spool()
            reader = spool.open(self.scan(spool)[1].name)
            start = reader.read(10_000) + reader.read(10_000)
            self.write(*rewritten)
            try:
                octets = start + b"".join(iter(lambda: reader.read(50_000), b""))      # noqa: B023
            except (NoSuchMessage, StoreUnavailable):
                self.assertFalse(ends)
            else:
                self.assertEqual((octets, ends), (content.removeprefix(FROM)[:-1], True))
            reader.close()
            reader.close()

    def test_unknown(self) -> None:
        self.assertRaises(NoSuchMessage, self.spool().open, b"x" * 16)


class RemovalTests(MboxCase, SynchronousTestCase):
    def test_in_place(self) -> None:
        """The same file, with its rights, its owner, and news where there was news."""
        self.write(*(message(number) for number in range(4)))
        for news in (True, False):
            os.chmod(self.path, 0o640)
            os.utime(self.path, (1_000_000, 2_000_000) if news else (2_000_000, 1_000_000))
            before = self.path.stat()
            spool = self.spool()
            self.remove(spool, self.scan(spool)[0].name)
            after = self.path.stat()
            self.assertEqual((before.st_ino, before.st_mode, before.st_uid, before.st_gid),
                             (after.st_ino, after.st_mode, after.st_uid, after.st_gid))
            self.assertEqual(after.st_atime_ns < after.st_mtime_ns, news)
        self.assertEqual(self.path.read_bytes(), message(2) + message(3))

    def test_all(self) -> None:
        """An empty mailbox is an empty file: MTAs may have it open, and its owner is right."""
        self.write(message(1), message(2))
        spool = self.spool()
        self.remove(spool, *(one.name for one in self.scan(spool)))
        self.assertEqual(self.path.stat().st_size, 0)

    def test_what_others_did_between(self) -> None:
        """Removed is what was meant and is there; what came or went since then does not matter."""
        messages = [message(number) for number in range(5)]
        self.write(*messages)
        spool = self.spool()
        names = [one.name for one in self.scan(spool)]
        journal, _ = spool.plan([names[1], names[3]])
        self.write(messages[4], message("new"), seen(messages[3]), messages[0])
        self.spool().carry_out(journal, None)
        self.assertEqual(self.path.read_bytes(), messages[4] + message("new") + messages[0])
        self.path.unlink()
        self.spool().carry_out(journal, None)
        self.assertFalse(self.path.exists())

    def test_planned_after_others(self) -> None:
        """What was moved since it was scanned is found; what is gone is passed over."""
        messages = [message(number) for number in range(5)]
        self.write(*messages)
        spool = self.spool()
        names = [one.name for one in self.scan(spool)]
        self.write(messages[3], messages[0], messages[2])
        self.remove(spool, names[1], names[2], names[3])
        self.assertEqual(self.path.read_bytes(), messages[0])

    def test_equal_ones(self) -> None:
        """As many stay as had to, though others moved them about; a repeated journal takes none of them."""
        self.write(*[message(1)] * 3, message(2))
        spool = self.spool()
        names = [one.name for one in self.scan(spool)]
        journal, _ = spool.plan([names[1]])
        self.write(message(2), *[message(1)] * 3)
        for _ in range(2):
            self.spool().carry_out(journal, None)
            self.assertEqual(self.path.read_bytes(), message(2) + message(1) * 2)
            (self.folder / ".joe.mailgate").unlink(missing_ok=True)      # even if nobody remembers

    def test_many(self) -> None:
        """What does not fit into a row lies beside it."""
        self.write(*(message(number) for number in range(3000)))
        spool = self.spool()
        names = [one.name for one in self.scan(spool)]
        journal, beside = spool.plan(names[:2500])
        self.assertIsNotNone(beside)
        self.assertRaises(StoreUnavailable, self.spool().carry_out, journal, Content(b""))
        self.spool().carry_out(journal, Content(b"".join(beside)))
        self.assertEqual(self.path.read_bytes(), b"".join(message(number) for number in range(2500, 3000)))

    def test_other_journals(self) -> None:
        self.write(message(1))
        self.assertRaises(StoreUnavailable, self.spool().carry_out, b"maildir 1\n", None)
        self.assertEqual(self.path.read_bytes(), message(1))

    def test_no_room(self) -> None:
        """What could not be finished is not begun: the mailbox stays as it is."""
        self.write(*(message(number, b"x" * 3000) for number in range(50)))
        spool = self.spool()
        names = [one.name for one in self.scan(spool)]
        full = os.statvfs_result((4096, 4096, 100, 0, 0, 0, 0, 0, 0, 255))
        with mock.patch.object(os, "statvfs", lambda _: full):
            self.assertRaises(StoreFull, spool.plan, names[:1])
        journal, _ = spool.plan(names[:1])
        before = self.path.read_bytes()
        self.assertRaises(StoreFull, self.spool(disk=FullDisk()).carry_out, journal, None)
        self.assertEqual((self.path.read_bytes(), self.beside()), (before, []))

    def test_leftovers(self) -> None:
        """What it was finished by stays for an hour, for those who come late, and then goes."""
        self.write(message(1), message(2))
        spool = self.spool()
        self.remove(spool, self.scan(spool)[0].name)
        self.scan()
        self.assertEqual(self.beside(), [".joe.mailgate"])
        os.utime(self.folder / ".joe.mailgate", (1_000_000, 1_000_000))
        self.scan()
        self.assertEqual(self.beside(), [])

    def test_foreign_leftovers(self) -> None:
        """What somebody put in its place is not believed."""
        self.write(message(1))
        (self.folder / ".joe.mailgate").write_bytes(b"x" * 5000)
        self.assertRaises(StoreUnavailable, self.scan)
        self.assertEqual(self.path.read_bytes(), message(1))


class HalfContent(Content):
    """Cannot be read but for its beginning."""

    def read(self, offset: int, octets: int) -> bytes:
        if offset:
            raise StoreUnavailable("the bucket does not answer")
        return super().read(offset, octets)


class FullDisk(Disk):
    """Has room for little."""

    def write(self, file: int, data: bytes, offset: int) -> None:
        if offset + len(data) > 4096:
            Disk.write(self, file, data[:100], offset)
            raise OSError(28, "No space left on device")
        Disk.write(self, file, data, offset)


class DeliveryTests(MboxCase, SynchronousTestCase):
    def test_format(self) -> None:
        """As Postfix, Exim and procmail write: `From ` is quoted, `>From ` is not."""
        with mock.patch.dict(os.environ, {"TZ": "UTC"}):
            time.tzset()
            self.deliver(b"Status: RO\r\nA: 1\r\nX-UIDL: x\r\n\r\nFrom x\r\n>From y\r\n\r\nFrom", flags="FRS")
        time.tzset()
        [one] = self.scan()
        self.assertEqual(self.path.read_bytes(), (
            b"From sender@example.org Sun Sep  9 01:46:40 2001\nA: 1\nX-UIDL: %b\nStatus: RO\nX-Status: AF\n"
            b"\n>From x\n>From y\n\nFrom\n\n" % one.unique_id))
        self.assertEqual((one.flags, one.envelope.sender), ("FRS", b"sender@example.org"))
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_a_group_s_folder(self) -> None:
        """Where MTAs deliver in a group's name they may write to what we make."""
        os.chmod(self.folder, 0o2775)
        self.deliver(b"x\r\n")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o660)

    @settings(deadline=None, max_examples=150)
    @given(st.lists(st.sampled_from([
        b"From ", b"a", b"\r\n", b"\n", b"\r", b" ", b">From ", b"F", b"rom ", b"\r\n\r\n", b"x" * 300,
        b"Status: R", b"A: b"]), max_size=20), st.integers(1, 40))
    def test_comes_back(self, parts: list[bytes], piece: int) -> None:
        """What was delivered is read, but for quotes; pieces may be cut anywhere; others stay as they are."""
        form = WireForm()
        content = unstuff(form.feed(b"".join(parts)) + form.finish())
        self.write(message("before"))
        with mock.patch("mailgate.stores.spools.mbox_append.PIECE_OCTETS", piece):
            self.deliver(content)
        self.deliver(b"A: after\r\n\r\n")
        spool = self.spool()
        found = spool.scan({})[0]
        shown = [self.read(spool, one.name) for one in found]
        self.assertEqual((len(found), shown[0], shown[2]),
                         (3, message("before").removeprefix(FROM)[:-1], b"A: after\n\n"))
        with mock.patch("mailgate.stores.spools.mbox_append.PIECE_OCTETS", 1 << 20):
            self.path.unlink()
            self.deliver(content)
        self.assertEqual(self.read(spool := self.spool(), spool.scan({})[0][0].name), shown[1])
        self.assertNotIn(b"\nFrom ", b"\n" + shown[1])

    def test_behind_what_has_no_end(self) -> None:
        """Somebody else's last message gets the blank line that it lacks, and stays as it is."""
        for end in (b"", b"\n", b"\n\n", b"\r\n\r\n"):
            self.write(FROM + b"Subject: 1\n\nbody" + end)
            self.deliver(b"Subject: 2\r\n\r\n")
            self.assertEqual(len(self.spool().scan({})[0]), 2)

    def test_no_room(self) -> None:
        """Nothing is left of a message that does not fit."""
        self.write(message(1))
        with self.assertRaises(StoreFull):
            self.deliver(b"x" * 10_000, self.spool(disk=FullDisk()))
        self.assertEqual(self.path.read_bytes(), message(1))
        self.assertEqual(self.beside(), [])

    def test_a_body_that_cannot_be_read(self) -> None:
        """Nothing is left of a message whose body stops in the middle: disks fail, and buckets go away."""
        self.write(message(1))
        placement = Placement("joe", None, Envelope(b"a@example.org", b"joe", 10 ** 12))
        for _ in range(2):
            self.assertRaises(StoreUnavailable, self.spool().deliver, HalfContent(b"A: 1\r\n\r\nx\r\n"),
                              placement)
        self.assertEqual((self.path.read_bytes(), self.beside()), (message(1), []))

    def test_a_mailbox_that_cannot_be_made(self) -> None:
        """No file stays open, no lock held, and the next delivery goes its way."""
        disk = Disk()
        with mock.patch.object(disk, "sync_folder", side_effect=OSError(errno.EIO, "the disk is failing")):
            self.assertRaises(StoreUnavailable, self.deliver, b"x\r\n", self.spool(disk=disk))
        self.assertEqual((open_files(str(self.path)), self.beside()), ([], []))
        self.deliver(b"Subject: x\r\n", self.spool(disk=disk))
        self.assertEqual(self.subjects(), [b"x"])

    def test_is_news(self) -> None:
        self.write(message(1))
        os.utime(self.path, (2_000_000_000, 1_000_000))
        self.deliver(b"x\r\n")
        after = self.path.stat()
        self.assertLess(after.st_atime_ns, after.st_mtime_ns)

    def test_senders(self) -> None:
        """No sender makes another line of it, or none."""
        for sender in (b"", b"a b@x", b"x\nFrom y", b"x" * 3000, b'"Thu Jan  1 00:00:01 1970"@x',
                       "ä@x".encode()):
            self.path.unlink(missing_ok=True)
            self.deliver(b"A: 1\r\n\r\n", envelope=Envelope(sender, b"joe", 10 ** 12))
            [one] = self.spool().scan({})[0]
            self.assertEqual(one.octets, 8)

    def test_read_all(self) -> None:
        """Python's own reader finds the same."""
        import mailbox

        for number in range(3):
            self.deliver(b"Subject: %d\r\n\r\nFrom here\r\n" % number)
        theirs = mailbox.mbox(str(self.path), create=False)
        self.addCleanup(theirs.close)
        self.assertEqual([one["Subject"] for one in theirs], ["0", "1", "2"])
        self.assertEqual(self.subjects(), [b"0", b"1", b"2"])


class HelperTests(SynchronousTestCase):
    def test_read_all(self) -> None:
        """A system that reads less than was asked is asked again."""
        with mock.patch.object(os, "pread", lambda _, most, at: b"abcdef"[at:at + min(most, 2)]):
            self.assertEqual(read_all(0, 1, 4), b"bcde")
            self.assertEqual(read_all(0, 1, 40), b"bcdef")
