"""Byte-stuffing both ways, and the wire form of a message, for every cut."""

from __future__ import annotations

import re
import tracemalloc
from itertools import accumulate, pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.wire.dots import TERMINATOR, TopCutter, Unstuffer, WireForm, cut_top, to_wire, unstuff
from tests.corpus import MESSAGES, dots_at_edges, edge_messages, random_message, random_pieces

MESSAGE = st.lists(st.sampled_from(
    [b"\r", b"\n", b"\r\n", b".", b"a", b"..", b"\0", b"\xff", b"\r\n\r\n", b"x: y\r\n"])
    | st.binary(max_size=9), max_size=40).map(b"".join)
CUTS = st.lists(st.integers(0, 12), max_size=60)
free = settings(deadline=None, max_examples=150)


def cut(data: bytes, lengths: list[int]) -> list[bytes]:
    """Return the octets in pieces of these lengths, then the rest."""
    ends = [0, *accumulate(lengths)]
    return [data[start:end] for start, end in pairwise(ends)] + [data[ends[-1]:]]


def octets(data: bytes) -> list[bytes]:
    return [data[at:at + 1] for at in range(len(data))]


def crlf_form(message: bytes) -> bytes:
    text = re.sub(rb"\r?\n", b"\r\n", message)
    return text if not text or text.endswith(b"\r\n") else text + b"\r\n"


def stuffed(text: bytes) -> bytes:
    """Return the wire form of a text in CRLF form, line by line."""
    return b"".join((b"." if line[:1] == b"." else b"") + line + b"\r\n" for line in text.split(b"\r\n")[:-1])


def head_of(wire: bytes) -> int:
    """Return the octets up to the first blank line, it included; all of them if there is none."""
    at = 0
    for line in wire.split(b"\r\n")[:-1]:
        at += len(line) + 2
        if not line:
            break
    return at


def top_of(wire: bytes, body_lines: int) -> bytes:
    head = head_of(wire)
    lines = wire[head:].split(b"\r\n")[:-1]
    return wire[:head] + b"".join(line + b"\r\n" for line in lines[:body_lines])


class WireFormTests(SynchronousTestCase):
    """A message becomes its wire form, and is measured, in whatever pieces it comes."""

    def check(self, message: bytes, pieces: list[bytes]) -> None:
        form, text = WireForm(), crlf_form(message)
        wire = b"".join([*map(form.feed, pieces), form.finish()])
        self.assertTrue(wire == stuffed(text), f"{message[:200]!r} in {len(pieces)} pieces")
        self.assertEqual((form.octets, form.wire_octets), (len(text), len(wire)))
        self.assertEqual(form.head_octets, head_of(wire))
        self.assertEqual(form.has_bare_cr, re.search(rb"\r(?!\n)", text) is not None)
        self.assertEqual(form.has_nul, b"\0" in text)
        self.assertEqual(form.finish(), b"")

    def test_messages_whole_in_octets_and_in_pieces(self) -> None:
        """Every message of the corpus, whole, octet by octet and cut at random."""
        random = Random(1)
        for message in MESSAGES.values():
            self.check(message, [message])
            self.check(message, octets(message))
            self.check(message, [b"", *random_pieces(random, message), b""])
            self.assertEqual(to_wire(message), stuffed(crlf_form(message)))

    def test_dots_at_every_edge(self) -> None:
        """Dots around every 2^k octets from 2^9 to 2^18, in pieces that end exactly there."""
        random = Random(2)
        for message in edge_messages():
            for octets_a_piece in (512, 4096, 16384, 65536, 262144):
                self.check(message, cut(message, [octets_a_piece] * (len(message) // octets_a_piece)))
            self.check(message, random_pieces(random, message, 70_000))

    def test_a_line_end_cut_in_two(self) -> None:
        """CR and LF in different pieces are one line end; CR and something else are not."""
        self.check(b"a\r\nb", [b"a\r", b"\nb"])
        self.check(b"a\rb", [b"a\r", b"b"])
        self.check(b"a\r\r\n", [b"a\r", b"\r", b"\n"])
        self.check(b"a\r", [b"a", b"\r"])
        self.check(b"\r\n.\r\n", [b"\r", b"\n", b"", b".", b"\r", b"", b"\n"])

    def test_no_line_is_the_terminator(self) -> None:
        """A lone dot in a message never ends the reply."""
        for message in (b".", b".\r\n", b"a\n.\nb", b"\r\n.\r\n.", b"a\r\n.\r", b".\n"):
            self.assertNotIn(TERMINATOR, [line + b"\r\n" for line in to_wire(message).split(b"\r\n")])

    def test_the_empty_message(self) -> None:
        """Has no octets, and no line end is invented for it."""
        form = WireForm()
        self.assertEqual((form.feed(b""), form.finish(), form.octets, form.head_octets), (b"", b"", 0, 0))

    def test_the_head_is_measured_as_it_comes(self) -> None:
        """head_octets is known as soon as the blank line has come, however it was cut."""
        for pieces in ([b"a: b\r\n\r\nc"], [b"a: b\r", b"\n\r", b"\nc"], [b"a: b\n", b"\n", b"c"],
                       [b"a: b\r\n", b"", b"\r\n", b"c"], [b"a: b\n\r\nc"]):
            form = WireForm()
            for piece in pieces:
                form.feed(piece)
            self.assertEqual(form.head_octets, 8, pieces)

    @free
    @given(MESSAGE, CUTS)
    def test_any_message_in_any_pieces(self, message: bytes, lengths: list[int]) -> None:
        """Wire form, sizes, head and findings do not depend on the cut."""
        self.check(message, cut(message, lengths))


class UnstuffTests(SynchronousTestCase):
    """A client gets back the CRLF form."""

    def check(self, message: bytes, lengths: list[int]) -> None:
        wire, unstuffer = to_wire(message), Unstuffer()
        plain = b"".join(map(unstuffer.feed, cut(wire, lengths)))
        self.assertTrue(plain == crlf_form(message), message[:200])

    def test_messages(self) -> None:
        """Whole, octet by octet, cut at every edge."""
        for message in (*MESSAGES.values(), *edge_messages(9, 13)):
            self.check(message, [])
            self.check(message, [1] * (2 * len(message) + 2))
            self.check(message, [512] * (len(message) // 512))
            self.assertEqual(unstuff(to_wire(message)), crlf_form(message))

    def test_only_one_dot_goes(self) -> None:
        """And only at the beginning of a line, of which a bare CR or LF makes none."""
        self.assertEqual(unstuff(b"..\r\n...\r\n.a\r\nb.\r\n\r..\r\n\n.\r\n"),
                         b".\r\n..\r\na\r\nb.\r\n\r..\r\n\n.\r\n")

    @free
    @given(MESSAGE, CUTS)
    def test_any_message_in_any_pieces(self, message: bytes, lengths: list[int]) -> None:
        """What was stuffed comes back, wherever the wire cuts it."""
        self.check(message, lengths)


class TopTests(SynchronousTestCase):
    """TOP is an exact prefix: header, blank line, and so many lines."""

    def check(self, message: bytes, body_lines: int, lengths: list[int]) -> None:
        wire, form = to_wire(message), WireForm()
        form.feed(message)
        form.finish()
        expected = top_of(wire, body_lines)
        self.assertTrue(wire.startswith(expected))
        self.assertTrue(cut_top(wire, form.head_octets, body_lines) == expected, (message[:99], body_lines))
        cutter = TopCutter(body_lines)
        pieces = [cutter.feed(piece) for piece in cut(wire, lengths)]
        self.assertTrue(b"".join(pieces) == expected, (message[:99], body_lines, lengths[:9]))
        if cutter.done:
            self.assertEqual(cutter.feed(b"more\r\n"), b"")
        else:
            self.assertEqual(expected, wire)

    def test_messages(self) -> None:
        """No line, a few, all but one, as many as there are, more than there are."""
        for message in (*MESSAGES.values(), *edge_messages(9, 13)):
            wire = to_wire(message)
            lines = wire[head_of(wire):].count(b"\r\n")
            for body_lines in {0, 1, 2, max(0, lines - 1), lines, lines + 1, 99_999_999, 10 ** 30}:
                self.check(message, body_lines, [])
                self.check(message, body_lines, [512] * (len(wire) // 512))
                if len(wire) < 5000:
                    self.check(message, body_lines, [1] * len(wire))

    def test_it_is_done_with_the_last_octet_that_it_wants(self) -> None:
        """The rest of a large message need not be read."""
        cutter = TopCutter(1)
        self.assertEqual(cutter.feed(b"a: b\r\n\r\nc\r"), b"a: b\r\n\r\nc\r")
        self.assertFalse(cutter.done)
        self.assertEqual(cutter.feed(b"\nd\r\n"), b"\n")
        self.assertTrue(cutter.done)
        cutter = TopCutter(0)
        self.assertEqual(cutter.feed(b"a: b\r\n\r\n"), b"a: b\r\n\r\n")
        self.assertTrue(cutter.done)

    @free
    @given(MESSAGE, st.integers(0, 9) | st.just(99_999_999), CUTS)
    def test_any_message_in_any_pieces(self, message: bytes, body_lines: int, lengths: list[int]) -> None:
        """Both ways to cut agree with a count of lines."""
        self.check(message, body_lines, lengths)


class LargeTests(SynchronousTestCase):
    """50 MB pass in pieces, none kept."""

    def test_a_large_message_is_never_held_whole(self) -> None:
        """Form, unstuffer and cutter together keep less than a few pieces' octets."""
        random = Random(3)
        piece = (random_message(random, 400) + b"x" * 3000) * 20 + b"\r\n."
        form, unstuffer, cutter = WireForm(), Unstuffer(), TopCutter(10 ** 9)
        expected = crlf_form(piece * 3)
        self.assertEqual(unstuff(to_wire(piece * 3)), expected)
        taken, sizes, passed = 0, 0, 0
        tracemalloc.start()
        while taken < 50_000_000:
            wire = form.feed(piece)
            sizes += len(unstuffer.feed(wire))
            passed += len(cutter.feed(wire))
            taken += len(piece)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        end = form.finish()
        self.assertEqual(sizes + len(unstuffer.feed(end)), form.octets)
        self.assertEqual(passed + len(cutter.feed(end)), form.wire_octets)
        self.assertLess(most, 20 * len(piece))

    def test_the_corpus_has_its_dots_where_it_says(self) -> None:
        """The edges that the tests rely on: a line that begins with a dot at 2^k plus the shift."""
        for shift in (-2, 0, 3):
            plain, wire = dots_at_edges(shift, stuffed=False), to_wire(dots_at_edges(shift, stuffed=True))
            for power in range(9, 18):
                at = 2 ** power + shift
                self.assertEqual(plain[at - 2:at + 1], b"\r\n.")
                self.assertEqual(wire[at - 2:at + 2], b"\r\n..")
