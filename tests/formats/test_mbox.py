"""Where messages of an mbox begin and end, however it is read."""

from __future__ import annotations

from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.formats import mbox
from mailgate.formats.mbox import Found, Measure, NoMbox, flags, read_messages, visible
from mailgate.wire.dots import WireForm

FROM = b"From joe@example.org Thu Jan  1 00:00:01 1970\n"
PARTS = st.lists(st.sampled_from([
    b"", b"a", b"From here on", b"\r", b"Subject: x", b"Status: RO", b" folded", b"X-UID: 1",
    b">" + FROM[:-1], FROM[:-1], b"From ", b"x" * 3000, b"\0", b"\xff"]), max_size=12)
ENDS = st.sampled_from([b"\n", b"\r\n"])


def read(octets: bytes, piece: int = 1 << 20) -> list[Found]:
    with mock.patch.object(mbox, "PIECE_OCTETS", piece):
        return list(read_messages(lambda offset, most: octets[offset:offset + most], 0, len(octets)))


def content(octets: bytes, found: Found) -> bytes:
    """Return what POP3 shows of a message."""
    begin = found.offset + len(found.from_line)
    body = octets[begin + len(found.head):begin + found.length]
    return visible(found.head) + body


class ReadTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=300)
    @given(st.lists(st.tuples(PARTS, ENDS), max_size=4), st.integers(1, 5000), st.booleans())
    def test_whole_and_in_pieces(self, messages: list[tuple[list[bytes], bytes]], piece: int,
                                 cut: bool) -> None:
        """Pieces of any size give the same; messages lie end to end, and nothing is left over."""
        octets = b"".join(FROM + end.join([*lines, b"", b""]) for lines, end in messages)
        octets = octets[:-1] if cut else octets
        found = read(octets)
        self.assertEqual(read(octets, piece), found)
        self.assertEqual([one.offset for one in found], [0, *(one.end for one in found)][:len(found)])
        self.assertEqual(found[-1].end if found else 0, len(octets))
        for one in found:
            form = WireForm()
            form.feed(content(octets, one))
            form.finish()
            self.assertEqual(one.octets, form.octets)       # what the store will count, too
            self.assertEqual(octets[one.offset:one.offset + len(one.from_line)], one.from_line)

    @settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
    def test_anything(self, octets: bytes, cuts: list[int]) -> None:
        """Any octets behind a From line are a message; measured in pieces they have the same octets."""
        found = read(FROM + octets)
        self.assertEqual(found[0].offset, 0)
        self.assertEqual(found[-1].end, len(FROM + octets))
        measure = Measure(b"", b"")
        for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(octets)], strict=True):
            measure.feed(octets, min(start, len(octets)), min(end, len(octets)))
        form = WireForm()
        form.feed(octets)
        form.finish()
        self.assertEqual(measure.octets, form.octets)

    def test_boundaries(self) -> None:
        """A From line counts behind a blank line, CRLF or LF, and with a date; the blank line goes."""
        octets = (b"\n\n" + FROM + b"A: 1\n\nFrom x\n" + FROM + b"\n\n" + FROM + b"\r\n" + FROM
                  + b"B: 2\r\n\r\nb\r\n\r\n" + FROM)
        self.assertEqual([content(octets, one) for one in read(octets)],
                         [b"A: 1\n\nFrom x\n" + FROM + b"\n", b"", b"B: 2\r\n\r\nb\r\n", b""])
        self.assertEqual([one.separator for one in read(octets)], [1, 2, 2, 0])

    def test_content_length_is_not_believed(self) -> None:
        """A sender could make a message swallow the next ones, or end where he likes."""
        for length in (0, 1, 10_000):
            octets = FROM + b"Content-Length: %d\n\nbody\n\n" % length + FROM + b"\nbody\n\n"
            self.assertEqual([content(octets, one) for one in read(octets)], [b"\nbody\n"] * 2)

    def test_no_mbox(self) -> None:
        for octets in (b"x", b"Subject: x\n\nx\n", b"\0" * 5000, b"From x\n\n", b"From " + b"x" * 9000):
            self.assertRaises(NoMbox, read, octets)
        self.assertEqual(read(b"") + read(b"\n\r\n"), [])

    def test_endless_header(self) -> None:
        """Of a header without an end a part is looked at; all of it is the message all the same."""
        with mock.patch.object(mbox, "HEAD_OCTETS", 5000):
            octets = FROM + b"Status: R\n" + b"A: 1\n" * 2000 + b"Status: O\n\nx\n\n" + FROM
            found = read(octets)
            self.assertEqual(read(octets, 700), found)
        shown = content(octets, found[0])
        self.assertTrue(shown.startswith(b"A: 1\n"))
        self.assertTrue(shown.endswith(b"A: 1\nStatus: O\n\nx\n"))
        self.assertEqual(len(found), 2)

    def test_header_without_an_end_of_line(self) -> None:
        octets = FROM + b"\nx\n\n" + FROM + b"Status: RO"
        self.assertEqual([one.octets for one in read(octets)], [5, 0])


class FieldTests(SynchronousTestCase):
    def test_visible(self) -> None:
        """What programs keep in a header for themselves is not shown, folded lines of it neither."""
        head = (b"status: RO\nSubject: Status: x\nX-Keywords: a\n  b\n\tc\nX-UID : 7\nKeywords: mine\n"
                b"Content-Length: 5\nX-IMAPbase: 1 2\nStatus-Report: yes\nX-Status: F")
        self.assertEqual(visible(head), b"Subject: Status: x\nKeywords: mine\nStatus-Report: yes\n")

    def test_digest_does_not_change_with_them(self) -> None:
        plain = FROM + b"A: 1\n\nbody\n\n"
        marked = FROM + b"Status: RO\nA: 1\nX-Keywords: x\n y\nX-UID: 7\n\nbody\n\n"
        [one], [two] = read(plain), read(marked)
        self.assertEqual((one.digest, one.octets), (two.digest, two.octets))
        self.assertNotEqual(one.digest, read(FROM + b"A: 1\n\nbody\n \n")[0].digest)

    def test_equal_messages(self) -> None:
        """What differs in X-UIDL only is two messages, and what POP3 shows of them is the same."""
        [one], [two] = read(FROM + b"X-UIDL: abc\n\nbody\n\n"), read(FROM + b"X-UIDL: abd\n\nbody\n\n")
        self.assertNotEqual(one.digest, two.digest)
        self.assertEqual(one.octets, two.octets)

    def test_flags(self) -> None:
        self.assertEqual(flags(b"Status: RO\nX-Status: AFDT\n"), "DFRST")
        self.assertEqual(flags(b"Status: O\n"), "")
        self.assertEqual(flags(b"X-Status: F\nSubject: Status: R\n"), "F")
