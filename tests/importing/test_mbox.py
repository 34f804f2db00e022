"""mboxes: where a message begins and ends, and what the format itself knows of it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import StoreUnavailable
from mailgate.formats.entries import BadSource
from mailgate.formats.header import HeaderTap
from mailgate.importing.mbox import Mbox

FROM = b"From joe@example.org Thu Jan  1 00:00:01 1970\n"
LINES = st.lists(st.sampled_from([
    b"", b"a", b"From here on", b">From joe@example.org Thu Jan  1 00:00:01 1970", b"." * 70_000, b"\r",
    b"X: y"]), max_size=8)


class MboxCase(SynchronousTestCase):
    def write(self, content: bytes) -> Path:
        path = Path(self.mktemp())
        path.write_bytes(content)
        return path

    def read(self, content: bytes) -> list[tuple[bytes, int, bytes | None]]:
        return [(b"".join(m.pieces()), m.arrived_ms, m.sender) for m in Mbox(self.write(content)).messages()]


class ReadTests(MboxCase):
    def test_two_messages(self) -> None:
        """The blank line in front of a From line belongs to the format, any other to the message."""
        read = self.read(FROM + b"A: 1\n\nbody\n\n\n" + b"From - Fri Mar 13 12:30:00 2009\nB: 2\n\n\nend")
        self.assertEqual(read, [(b"A: 1\n\nbody\n\n", 1000, b"joe@example.org"),
                                (b"B: 2\n\n\nend", 1236947400000, None)])

    def test_dates(self) -> None:
        """The many forms in which programs write the line; zones are taken as UTC."""
        for line, ms, sender in [
                (b"From a@b  Sat Feb  3 01:02:03 1996\n", 823309323000, b"a@b"),
                (b"From a@b Sat Feb  3 01:02 1996\n", 823309320000, b"a@b"),
                (b"From a@b Sat Feb  3 01:02:03 GMT 1996\n", 823309323000, b"a@b"),
                (b"From a@b Sat Feb  3 01:02:03 1996 +0100\n", 823309323000, b"a@b"),
                (b'From "a b"@c Sat Feb 03 01:02:03 1996\r\n', 823309323000, b'"a b"@c'),
                (b"From MAILER-DAEMON Sat Feb  3 01:02:03 1996\n", 823309323000, None),
                (b"From Sat Feb  3 01:02:03 1996\n", 823309323000, None)]:
            self.assertEqual(self.read(line + b"x\n"), [(b"x\n", ms, sender)], line)

    def test_what_is_no_from_line(self) -> None:
        """Without blank line before it, or without a date, it is text; quoting stays as it is."""
        body = b"A: 1\n\ntext\n" + FROM + b"\nFrom here on\n\n>" + FROM + b"\n"
        self.assertEqual(self.read(FROM + body + b"\n"), [(body, 1000, b"joe@example.org")])

    def test_from_line_of_blanks(self) -> None:
        """A line made to keep the expression busy for years is passed over at once."""
        body = b"A: 1\n\n\nFrom " + b" " * 60_000 + b"\n"
        self.assertEqual(self.read(FROM + body)[0][0], body)

    def test_empty(self) -> None:
        self.assertEqual(self.read(b""), [])
        self.assertEqual(self.read(b"\n\n"), [])
        self.assertEqual(self.read(FROM), [(b"", 1000, b"joe@example.org")])

    def test_not_an_mbox(self) -> None:
        with self.assertRaises(BadSource):
            self.read(b"Subject: just a message\n\nbody\n")
        with self.assertRaises(BadSource):
            list(Mbox(Path(self.mktemp())).messages())

    def test_folder_data(self) -> None:
        """The message in which imapd keeps its own numbers is nobody's mail."""
        data = (b"From MAILER-DAEMON Fri Jul  8 12:08:34 2011\nSubject: DON'T DELETE THIS MESSAGE -- "
                b"FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\nThis text is part of the internal format.\n\n")
        self.assertEqual([content for content, _, _ in self.read(data + FROM + b"A: 1\n\n")], [b"A: 1\n"])

    def test_large_message(self) -> None:
        """Pieces stay small, and a line without end is no line."""
        path = self.write(FROM + b"A: 1\n\n" + b"x" * 1_000_000)
        [sizes] = [[len(piece) for piece in message.pieces()] for message in Mbox(path).messages()]
        self.assertEqual(sum(sizes), 1_000_006)
        self.assertLess(max(sizes), 200_000)

    def test_unread_message(self) -> None:
        """Who takes a message only in part still gets the next one whole."""
        messages = Mbox(self.write((FROM + b"A: 1\n\nbody\n\n") * 2)).messages()
        next(messages)
        self.assertEqual(b"".join(next(messages).pieces()), b"A: 1\n\nbody\n")

    def test_locked(self) -> None:
        """While another program writes, the import is asked to come back."""
        path = self.write(FROM)
        script = ("import fcntl, sys; file = open(sys.argv[1], 'r+b'); fcntl.lockf(file, fcntl.LOCK_EX); "
                  "print('locked', flush=True); sys.stdin.read()")
        with subprocess.Popen([sys.executable, "-c", script, os.fspath(path)],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            self.assertEqual(other.stdout.readline(), b"locked\n")
            with self.assertRaises(StoreUnavailable):
                list(Mbox(path).messages())
            other.communicate(b"")
        self.assertEqual(len(list(Mbox(path).messages())), 1)
        with path.open("rb") as file:       # and it leaves no lock
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)

    @settings(deadline=None, max_examples=150)
    @given(st.lists(LINES, min_size=1, max_size=4))
    def test_what_was_written_is_read(self, messages: list[list[bytes]]) -> None:
        """Whatever lines messages have, each comes back as it was written."""
        contents = [b"".join(line + b"\n" for line in lines) for lines in messages]
        self.assertEqual([content for content, _, _ in self.read(b"".join(
            FROM + content + b"\n" for content in contents))], contents)


class IdentityTests(MboxCase):
    def identities(self, content: bytes) -> list[str]:
        found = []
        for message in Mbox(self.write(content)).messages():
            list(message.pieces())
            found.append(message.identity())
        return found

    def test_equal_messages(self) -> None:
        """Two equal messages are two; the numbering is the same in the next reading."""
        twice = (FROM + b"A: 1\n\nbody\n\n") * 2
        first, second = self.identities(twice)
        self.assertNotEqual(first, second)
        self.assertEqual(self.identities(twice), [first, second])

    def test_volatile_fields(self) -> None:
        """What a mail program notes in the header makes no other message; the body counts in full."""
        plain = FROM + b"A: 1\n\nStatus: body\n"
        noted = FROM + b"A: 1\nStatus: RO\nX-Status: A\nX-UID: 7\nContent-Length: 5\n\nStatus: body\n"
        self.assertEqual(self.identities(plain), self.identities(noted))
        self.assertNotEqual(self.identities(plain), self.identities(plain.replace(b"Status", b"State")))

    def test_place_does_not_count(self) -> None:
        """Messages removed before it leave a message what it is."""
        one, two = FROM + b"A: 1\n\n\n", FROM + b"A: 2\n\n\n"
        self.assertEqual(self.identities(one + two)[1], self.identities(two)[0])


class HeaderTests(MboxCase):
    def test_unique_id(self) -> None:
        """X-UIDL is kept if POP3 can show it."""
        for value, expected in [(b"  a~!1 ", b"a~!1"), (b"a b", None), (b"", None), (b"x" * 71, None)]:
            content = FROM + b"A: 1\nX-UIDL: " + value + b"\n\nX-UIDL: body\n"
            message = next(Mbox(self.write(content)).messages())
            self.assertEqual(message.unique_id, expected)

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.booleans())
    def test_fields_over_any_cut(self, sizes: list[int], crlf: bool) -> None:
        """Fields are unfolded and found in any case; the body has none."""
        content = b"To: a\nReceived: b\n\t c\nTO : d\nbroken line\n\nTo: body\n"
        if crlf:
            content = content.replace(b"\n", b"\r\n")
        tap, at, turn = HeaderTap(), 0, 0
        while at < len(content):
            size = sizes[turn % len(sizes)]
            tap.feed(content[at:at + size])
            at, turn = at + size, turn + 1
        self.assertEqual(tap.fields("to"), [b"a", b"d"])
        self.assertEqual(tap.fields("received"), [b"b c"])

    def test_no_header(self) -> None:
        for content in (b"", b"\nTo: body\n", b"\r\nTo: body\r\n", b"text"):
            tap = HeaderTap()
            tap.feed(content)
            self.assertEqual(tap.fields("To"), [])
