"""Which messages of two servers are the same."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.importing.matching import (
    FIELDS_SLACK_OCTETS,
    HEADER_OCTETS,
    SIZE_SLACK_OCTETS,
    UNCOUNTED,
    Known,
    Matching,
    Print,
    PrintReader,
    candidates,
)

HEADER = b"Received: from a by b; Mon, 2 Nov 2020 10:00:00 +0000\r\nMessage-ID: <%d@x>\r\nSubject: hi\r\n\r\n"


def print_of(message: bytes, *uncounted: bytes, piece_octets: int = 1 << 20) -> Print:
    reader = PrintReader()
    for at in range(0, len(message), piece_octets):
        reader.feed(message[at:at + piece_octets])
    return reader.print(UNCOUNTED.union(uncounted))


def known(number: int, message: bytes, octets: int | None = None) -> Known:
    """Return a message as a side tells it: with its size in CRLF, or another one."""
    return Known(number, len(message) if octets is None else octets, print_of(message))


class PrintTests(SynchronousTestCase):
    def same(self, one: bytes, other: bytes) -> None:
        self.assertEqual(print_of(one).fields, print_of(other).fields)
        self.assertIsNotNone(print_of(one).fields)

    def test_uncounted_fields(self) -> None:
        """What deliveries put in front, and where servers keep what they know, is passed over."""
        more = b"".join(b"%b: one\r\n two\r\n" % name.title() for name in sorted(UNCOUNTED))
        self.same(HEADER, more + HEADER)
        self.same(HEADER, HEADER.replace(b"Subject", more + b"Subject"))

    def test_counted_fields(self) -> None:
        """Any other field counts, and the order does."""
        for other in (b"X-Spam: no\r\n" + HEADER, HEADER.replace(b"hi", b"ho"),
                      b"Subject: hi\r\nMessage-ID: <%d@x>\r\n\r\n"):
            self.assertNotEqual(print_of(HEADER).fields, print_of(other).fields)
        self.assertEqual(print_of(HEADER).fields, print_of(b"X-Spam: no\r\n" + HEADER, b"x-spam").fields)

    def test_forms(self) -> None:
        """Line ends, folding, blanks and the case of names are no difference; nor is what is no field."""
        self.same(HEADER, HEADER.replace(b"\r\n", b"\n"))
        self.same(HEADER, HEADER.replace(b"Message-ID: ", b"MESSAGE-Id:\r\n\t"))
        self.same(HEADER, b"From mrose Mon Nov  2\r\n" + HEADER)
        self.same(HEADER, HEADER.removesuffix(b"\r\n"))

    def test_no_fields(self) -> None:
        """A header that tells nothing is nobody's."""
        for message in (b"", b"\r\n", b"\r\nSubject: body\r\n", b"Received: x\r\n\r\n", b"text\r\n\r\n"):
            self.assertIsNone(print_of(message).fields, message)
        self.assertIsNone(print_of(b"A: b\r\n" * HEADER_OCTETS).fields)

    def test_measures(self) -> None:
        reader = PrintReader()
        reader.feed(HEADER + b"one\r\n\r\ntwo\r\n")
        self.assertEqual((reader.print().octets, reader.print().lines), (len(HEADER), 4))
        self.assertEqual((reader.body_octets, reader.body_lines), (12, 3))

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.sampled_from([b"A: b", b"\r\n", b"\n", b" ", b":", b"Received: x", b"\0", b"\xff"]),
                    max_size=30).map(b"".join), st.integers(1, 9))
    def test_cuts(self, message: bytes, piece_octets: int) -> None:
        """However it comes, it is the same."""
        self.assertEqual(print_of(message), print_of(message, piece_octets=piece_octets))


class MatchingTests(SynchronousTestCase):
    def match(self, source: list[Known], here: dict[int, bytes], *,
              by_fields: bool = False) -> dict[int, int]:
        """Go all the way that a move goes."""
        matching = Matching(source, [known(number, message) for number, message in here.items()])
        matching.by_size()
        lines = {number: here[number].partition(b"\r\n\r\n")[2].count(b"\n")
                 for number in matching.in_question()}
        matching.by_size_in_lf(lines)
        matching.by_size_nearly()
        if by_fields:
            matching.by_fields()
        return matching.pairs

    def test_another_delivery(self) -> None:
        """Fields that one side has in front change sizes, and nothing else."""
        texts = {number: HEADER % number + b"body %d\r\n" % 10**number for number in range(1, 6)}
        here = {number: b"Return-Path: <a@b>\r\nReceived: by us\r\n" + text for number, text in texts.items()}
        shuffled = list(texts)
        random.Random(1).shuffle(shuffled)
        self.assertEqual(self.match([known(number, texts[number]) for number in shuffled], here),
                         {number: number for number in texts})

    def test_sizes_in_lf(self) -> None:
        """A source that counts LF line ends: exactly, also where messages differ in size only."""
        texts = {1: HEADER % 1 + b"a\r\n" * 600, 2: HEADER % 1 + b"a\r\n" * 2000}
        source = [known(number, text, len(text.replace(b"\r\n", b"\n"))) for number, text in texts.items()]
        self.assertEqual(self.match(source, {7: texts[2], 8: texts[1]}), {1: 8, 2: 7})

    def test_sizes_nearly(self) -> None:
        """A few octets less or more: the nearest; too many: none."""
        text = HEADER % 1 + b"x" * 3000 + b"\r\n"
        source = [known(1, text, len(text) - 2), known(2, text, len(text) + SIZE_SLACK_OCTETS),
                  known(3, text, len(text) + SIZE_SLACK_OCTETS + 1)]
        here = {4: text + b"y" * (SIZE_SLACK_OCTETS - 2), 5: text}
        self.assertEqual(self.match(source, here), {1: 5, 2: 4})
        self.assertEqual(self.match([known(3, text, 9_000_000)], {5: text}), {})
        self.assertEqual(self.match([known(3, text, 9_000_000)], {5: text}, by_fields=True), {3: 5})

    def test_equal_messages(self) -> None:
        """In order, but those first that came the same way."""
        text = HEADER % 1 + b"x\r\n"
        other_way = text.replace(b"from a", b"from list")
        self.assertEqual(self.match([known(1, text), known(2, text)], {1: text, 2: text, 3: text}),
                         {1: 1, 2: 2})
        self.assertEqual(self.match([known(1, other_way), known(2, text)], {1: text, 2: other_way}),
                         {1: 2, 2: 1})
        self.assertEqual(self.match([known(1, text), known(2, text)], {4: text}), {1: 4})

    def test_nothing_alike(self) -> None:
        self.assertEqual(self.match([known(1, HEADER % 1)], {1: HEADER % 2}), {})
        self.assertEqual(self.match([known(1, b"\r\nx\r\n")], {1: b"\r\nx\r\n"}), {})
        self.assertEqual(self.match([], {1: HEADER % 2}), {})

    def test_many_equal_ones(self) -> None:
        """Thousands of messages with one header and no size that fits take no time that counts."""
        text = HEADER % 1 + b"x" * 100_000
        source = [known(number, text, len(text) + 10_000 * number) for number in range(1, 5000)]
        matching = Matching(source, [known(number, text) for number in range(1, 5000)])
        matching.by_size()
        matching.by_size_nearly()
        self.assertEqual(matching.pairs, {})

    @settings(deadline=None, max_examples=60)
    @given(st.data())
    def test_no_message_twice(self, data: st.DataObject) -> None:
        """Every pair has equal fields, and nobody two partners."""
        texts = st.lists(st.sampled_from([HEADER % number + b"x" * octets for number in (1, 2)
                                          for octets in (1, 3, 900)]), max_size=8)
        source = dict(enumerate(data.draw(texts), 1))
        here = dict(enumerate(data.draw(texts), 1))
        pairs = self.match([known(n, text, len(text) + data.draw(st.integers(-3, 3)))
                            for n, text in source.items()], here)
        self.assertEqual(len(set(pairs.values())), len(pairs))
        for number, partner in pairs.items():
            self.assertEqual(print_of(source[number]).fields, print_of(here[partner]).fields)


class CandidateTests(SynchronousTestCase):
    def test_none_is_missed(self) -> None:
        """Every size that a partner may be told with is a candidate; those far from it are none."""
        for octets in (0, 100, 50_000, 5_000_000):
            for told in (octets, (octets + 1) // 2, octets + FIELDS_SLACK_OCTETS,
                         max(octets - FIELDS_SLACK_OCTETS, 0)):
                self.assertEqual(candidates({1: told}, [10**9, octets], source=True), [1], (octets, told))
                self.assertEqual(candidates({1: octets}, [10**9, told], source=False), [1], (octets, told))
        self.assertEqual(candidates({1: 100_000, 2: 3_000}, [3_000], source=True), [2])
        self.assertEqual(candidates({1: 100_000, 2: 3_000}, [3_000], source=False), [2])
        self.assertEqual(candidates({1: 100}, [], source=True), [])
