"""Sources that somebody made to do harm: links, pipes, impossible dates and numbers, any octets at all.

An import often runs as one who may read everything, over folders whose owners may not.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.formats.entries import BadSource, NotPlain
from mailgate.importing.maildir import Maildir
from mailgate.importing.mbox import Mbox
from mailgate.importing.source import LATEST_MS, Source, SourceMessage, Unreadable
from tests.stores.sqlite_hooks import open_files

FROM = b"From joe@example.org Thu Jan  1 00:00:01 1970\n"
DATES = [b"Mon Jan  1 00:00:00 0000", b"Mon Jan 99 99:99:99 9999", b"Sun Feb 30 24:60:61 1000",
         b"Fri Jan  1 00:00:00 1960", b"Mon Jan  1 00:00:00 \xd9\xa1\xd9\xa1\xd9\xa1\xd9\xa1"]


class HostileCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.path = self.folder / "Maildir"
        self.make_maildir()
        self.secret = self.folder / "secret"
        self.secret.write_bytes(b"Subject: secret\n\nsecret\n")

    def make_maildir(self) -> None:
        for name in ("cur", "new", "tmp"):
            (self.path / name).mkdir(parents=True)

    def read(self, source: Source) -> Iterator[tuple[SourceMessage, bytes | type[Exception]]]:
        """Give every message with its content, or with the fault that keeps it out."""
        for message in source.messages():
            try:
                yield message, b"".join(message.pieces())
            except (NotPlain, Unreadable, FileNotFoundError) as fault:
                yield message, type(fault)

    def contents(self) -> dict[str, bytes | type[Exception]]:
        return {message.name: content for message, content in self.read(Maildir(self.path))}


class EntryTests(HostileCase):
    """What lies in a Maildir and is no plain file."""

    def test_no_link_is_followed(self) -> None:
        """Neither one that was there nor one that takes a message's place while we read."""
        (self.path / "new/1.link.host").symlink_to(self.secret)
        (self.path / "new/2.gone.host").symlink_to(self.folder / "nothing")
        (self.path / "cur/3.mail.host:2,S").write_bytes(b"mail")
        (self.path / "new/4.mail.host").write_bytes(b"mail")
        found = {}
        for message in Maildir(self.path).messages():
            if message.name == "4.mail.host":
                (self.path / "new/4.mail.host").unlink()
                (self.path / "cur/4.mail.host:2,S").symlink_to(self.secret)
            try:
                found[message.name] = b"".join(message.pieces())
            except NotPlain:
                found[message.name] = b"(skipped)"
        self.assertEqual(found, {"1.link.host": b"(skipped)", "2.gone.host": b"(skipped)",
                                 "3.mail.host": b"mail", "4.mail.host": b"(skipped)"})

    def test_nothing_is_waited_for(self) -> None:
        """Pipes, sockets, folders: they are passed by, also a pipe that comes between look and opening."""
        os.mkfifo(self.path / "new/1.fifo.host")
        (self.path / "new/2.folder.host").mkdir()
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        here = os.open(self.path / "new", os.O_RDONLY)
        self.addCleanup(os.close, here)
        listening.bind(f"/proc/self/fd/{here}/3.socket.host")
        (self.path / "new/4.mail.host").write_bytes(b"mail")
        self.assertEqual(self.contents(), {
            "1.fifo.host": NotPlain, "2.folder.host": NotPlain, "3.socket.host": NotPlain,
            "4.mail.host": b"mail"})
        [message] = [one for one in Maildir(self.path).messages() if one.name == "4.mail.host"]
        (self.path / "new/4.mail.host").unlink()
        os.mkfifo(self.path / "new/4.mail.host")
        real = os.stat_result([0o100600] + [0] * 9)
        for folder in (message._folder, message._cur):
            self.patch(folder, "status", lambda name: real)     # as if it had been a file until now
        with self.assertRaises(NotPlain):
            list(message.pieces())

    def test_folders_are_no_links(self) -> None:
        """`cur` and `new` have to be there themselves; where the Maildir itself is, the operator says."""
        other = self.folder / "other"
        other.mkdir()
        (other / "1.mail.host").write_bytes(b"another's mail")
        (self.folder / "link").symlink_to(self.path)
        Maildir(self.folder / "link")
        for name in ("cur", "new"):
            (self.path / name).rmdir()
            (self.path / name).symlink_to(other)
            with self.assertRaises(BadSource) as caught:
                Maildir(self.path)
            self.assertIn(f"{name}: not a folder", str(caught.exception))
            (self.path / name).unlink()
            (self.path / name).mkdir()

    def test_folders_that_are_replaced(self) -> None:
        """What was opened is read on, whatever its name means by now."""
        (self.path / "new/1.mail.host").write_bytes(b"mail")
        messages = list(Maildir(self.path).messages())
        (self.path / "new").rename(self.path / "old")
        (self.folder / "1.mail.host").write_bytes(b"another's mail")
        (self.path / "new").symlink_to(self.folder)
        self.assertEqual([b"".join(one.pieces()) for one in messages], [b"mail"])

    def test_unreadable(self) -> None:
        """A message that the system refuses to give is told of; it is not taken for an empty one."""
        (self.path / "new/1.mail.host").write_bytes(b"mail")
        [message] = Maildir(self.path).messages()

        def refused(*arguments: object, **options: object) -> int:
            raise PermissionError(13, "Permission denied")

        self.patch(os, "open", refused)
        with self.assertRaises(Unreadable) as caught:
            list(message.pieces())
        self.assertEqual(str(caught.exception), "Permission denied")

    def test_lists_of_unique_ids(self) -> None:
        """A link in place of one would lose every id, so it is refused, not passed over."""
        (self.folder / "list").write_text("3 V255 N3\n1 :1.mail.host\n")
        (self.path / "new/1.mail.host").write_bytes(b"mail")
        for name in ("dovecot-uidlist", "courierpop3dsizelist"):
            for make in (lambda path: path.symlink_to(self.folder / "list"), os.mkfifo):
                make(self.path / name)
                with self.assertRaises(BadSource) as caught:
                    Maildir(self.path)
                self.assertIn(f"{name}: not a plain file", str(caught.exception))
                (self.path / name).unlink()

    def test_no_descriptor_is_left(self) -> None:
        (self.path / "new/1.mail.host").write_bytes(b"mail")
        self.contents()
        self.assertEqual(open_files(str(self.folder)), [])


class MboxPathTests(HostileCase):
    def test_no_plain_file(self) -> None:
        """A pipe is not waited for; a link that the operator named is the file behind it."""
        os.mkfifo(self.folder / "fifo")
        with self.assertRaises(BadSource):
            Mbox(self.folder / "fifo")
        with self.assertRaises(BadSource):
            Mbox(self.path)
        (self.folder / "mbox").write_bytes(FROM + b"A: 1\n\n")
        (self.folder / "link").symlink_to(self.folder / "mbox")
        source = Mbox(self.folder / "link")
        self.assertEqual(len(list(source.messages())), 1)
        (self.folder / "link").unlink()
        os.mkfifo(self.folder / "link")
        with self.assertRaises(BadSource):
            list(source.messages())


class NumberTests(HostileCase):
    """Times and numbers that no program wrote."""

    def arrived(self, name: str, mtime: float = 1000) -> int:
        path = self.path / "cur" / name
        path.write_bytes(b"")
        os.utime(path, (mtime, mtime))
        [message] = Maildir(self.path).messages()
        path.unlink()
        return message.arrived_ms

    def test_times_of_names(self) -> None:
        """Seconds have nine or ten digits, microseconds six at most, all ASCII; else the file's time."""
        for name, expected in [
                ("9" * 40 + ".M1P1.h", 1_000_000), ("12345678901.M1P1.h", 1_000_000),
                ("\u0661\u0662.M1P1.h", 1_000_000),
                ("12.eml", 1_000_000), ("100000000.M\u0661P1.h", 100_000_000_000),
                ("100000000.M1234567P1.h", 100_000_000_000), ("9999999999.M999999P1.h", 9999999999999)]:
            self.assertEqual(self.arrived(name), expected, name)

    def test_times_of_files(self) -> None:
        """They stay between the epoch and the year 9999."""
        self.assertEqual(self.arrived("x", -1e9), 0)
        far = self.arrived("x", 2.0 ** 40)      # as far as the file system can tell
        self.assertLessEqual(far, LATEST_MS)
        self.assertGreater(far, 4e12)

    def test_lists(self) -> None:
        """Lines with numbers that cannot be one are passed over."""
        (self.path / "cur/1.a.host:2,").write_bytes(b"")
        for text, expected in [
                ("3 V255 N3\n%s :1.a.host\n" % ("1" * 5000), None),
                ("3 V%s N3\n1 :1.a.host\n" % ("1" * 5000), None),
                ("3 V255 N3\n\u0661 :1.a.host\n", None),
                ("3 V255 N3\n1 O%s :1.a.host\n" % ("1" * 5000), b"00000001000000ff"),
                ("3 V255 N3\n1 O\u0661 :1.a.host\n", b"00000001000000ff"),
                ("3 V255 N3\n2 :%s\n1 :1.a.host\n" % ("x" * 100_000), b"00000001000000ff"),
                ("3 V255 N3\n2 :%s2 :1.a.host\n1 :1.a.host\n" % ("x" * 65_536), b"00000001000000ff")]:
            (self.path / "dovecot-uidlist").write_text(text)
            self.assertEqual([one.unique_id for one in Maildir(self.path).messages()], [expected], text[:40])
        (self.path / "dovecot-uidlist").unlink()
        for line in ("1.a.host 10 %s:9" % ("1" * 5000), "1.a.host 10 1:%s" % ("1" * 5000),
                     "1.a.host %s 1:9" % ("1" * 5000)):
            (self.path / "courierpop3dsizelist").write_text(f"/2 7 9\n{line}\n")
            self.assertIn([one.unique_id for one in Maildir(self.path).messages()], ([None], [b"UID1-9"]))

    def test_one_base_name_twice(self) -> None:
        """Two files under one name are two messages, unless they are one that was moved while we looked."""
        (self.path / "new/1.a.host").write_bytes(b"one")
        (self.path / "cur/1.a.host:2,S").write_bytes(b"another")
        (self.path / "cur/1.a.host:2,FS").write_bytes(b"one")
        read = [(content, message.identity()) for message, content in self.read(Maildir(self.path))]
        self.assertEqual(sorted(content for content, _ in read), [b"another", b"one", b"one"])
        self.assertEqual(len({identity for _, identity in read}), 2)

    def test_dates_of_from_lines(self) -> None:
        """A line without a possible year is text; a time beyond the calendar stays between the bounds."""
        path = self.folder / "mbox"
        for date in DATES:
            line = b"From x@y " + date + b"\n"
            path.write_bytes(FROM + b"A: 1\n\nbody\n\n" + line + b"more\n\n" + FROM + b"A: 2\n\n")
            read = list(self.read(Mbox(path)))
            self.assertEqual(b"".join(content for _, content in read).count(b"more\n"), 1)
            self.assertEqual(read[-1][1], b"A: 2\n")
            for message, _ in read:
                self.assertTrue(0 <= message.arrived_ms <= LATEST_MS, date)

    def test_from_lines_made_to_be_slow(self) -> None:
        """Ten thousand lines of what an expression might stumble over again and again are text."""
        path = self.folder / "mbox"
        for fill in (b" ", b"Mon ", b" Mon Jan 1 00:00 ", b"Mon Jan 1 00:00 a ",
                     b"Mon Jan 1 00:00" + b" " * 900):
            content = (b"\nFrom " + (fill * 980)[:980] + b"\n") * 10_000
            path.write_bytes(FROM + content)
            self.assertTrue([read for _, read in self.read(Mbox(path))] == [content])

    def test_folder_data_is_the_first_message(self) -> None:
        """Anywhere else it is mail that somebody sent."""
        data = FROM + b"Subject: FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\n\n"
        path = self.folder / "mbox"
        path.write_bytes(data + FROM + b"A: 1\n\n\n" + data)
        self.assertEqual(len(list(Mbox(path).messages())), 2)


PARTS = st.sampled_from([
    b"From ", b"From - ", b"\n", b"\r\n", b"\n\n", b"\r", b"\0", b" ", b"\t", b":", b"a", b"\xff",
    b"X-UIDL: ", b"Return-Path: <", b"X-IMAP: ", b"Subject: FOLDER INTERNAL DATA", b"Status: R",
    b">" + FROM, FROM, b"x" * 1000, b"\n" * 300, *DATES])
NAMES = st.lists(st.sampled_from([
    "1", "9" * 11, "9" * 60, ".", ":2,", "M", "M123456", "P", "\x01", "\n", " ", "\udcff", "\u0661", "\u2028",
    "x", "S=1", ",", "+"]), min_size=1, max_size=7).map("".join)
LIST_PARTS = st.sampled_from([
    "3 V1 N2\n", "1 1 1\n", "/2 7 1\n", "/3 7 1\n", "1", " ", "\n", ":", "O", "P", "W", "9" * 11, "9" * 5000,
    "x", "\x1c", "\x85", "\udcff", "\u0661", "\xb2", "\r", "\0", "cur/"])


class FuzzTests(HostileCase):
    """Whatever there is, nothing but the faults of a source comes out, and no file is passed over."""

    def assert_sound(self, make: Callable[[], Source]) -> list[bytes]:
        contents = []
        try:
            for message, content in self.read(make()):
                self.assertTrue(0 <= message.arrived_ms <= LATEST_MS)
                self.assertTrue(message.unique_id is None or 1 <= len(message.unique_id) <= 70)
                os.fsencode(message.identity())
                assert isinstance(content, bytes)
                contents.append(content)
        except BadSource:
            pass
        return contents

    @settings(deadline=None, max_examples=300)
    @given(st.booleans(), st.lists(PARTS | st.binary(max_size=9), max_size=25))
    @example(True, [b"\n\nFrom x@y Mon Jan  1 00:00:00 0000\n"])
    def test_mbox(self, proper: bool, parts: list[bytes]) -> None:
        path = self.folder / "mbox"
        path.write_bytes(FROM * proper + b"".join(parts))
        kept = self.assert_sound(lambda: Mbox(path))
        for content in kept:
            self.assertIn(content, path.read_bytes())

    @settings(deadline=None, max_examples=200)
    @given(st.lists(NAMES, max_size=6), st.integers(-2 ** 40, 2 ** 40),
           *[st.lists(LIST_PARTS | NAMES, max_size=15).map("".join)] * 2)
    @example(["9" * 40 + ".M1P1.h"], 0, "3 V1 N2\n" + "1" * 5000 + " :x\n",
             "/2 7 1\nx 1 " + "1" * 5000 + ":1\n")
    def test_maildir(self, names: list[str], mtime: int, dovecot: str, courier: str) -> None:
        shutil.rmtree(self.path)
        self.make_maildir()
        expected = {}
        for number, name in enumerate(names):
            name = os.fsdecode(os.fsencode(name)[:250])
            path = self.path / ("new", "cur")[number % 2] / (name if name.strip(".") else "x")
            path.write_bytes(b"%d" % number)
            os.utime(path, (mtime, mtime))
            expected[path] = b"%d" % number
        for list_name, text in (("dovecot-uidlist", dovecot), ("courierpop3dsizelist", courier)):
            (self.path / list_name).write_bytes(text.encode("utf-8", "surrogateescape"))
        kept = self.assert_sound(lambda: Maildir(self.path))
        self.assertEqual(sorted(kept), sorted(
            content for path, content in expected.items() if not path.name.startswith(".")))
