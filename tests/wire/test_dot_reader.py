"""The end of DATA is found over any cut, and by nothing but CRLF.CRLF."""

from __future__ import annotations

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.wire.dots import DotReader

BITS = st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"..", b"\r\n.", b"\r\n.\r\n", b"a", b"\0", b"\xff"])
STREAMS = st.lists(BITS, max_size=30).map(b"".join)
CUTS = st.lists(st.integers(1, 9), min_size=1, max_size=12)


def by_definition(stream: bytes) -> tuple[bytes, bytes | None]:
    """Return content and rest of a whole stream, written down as RFC 5321 section 4.5.2 says it."""
    head, mark, rest = (b"\r\n" + stream).partition(b"\r\n.\r\n")
    if mark:
        head += b"\r\n"
    return re.sub(rb"\r\n\.", b"\r\n", head)[2:], rest if mark else None


def pieces(stream: bytes, sizes: list[int]) -> list[bytes]:
    cut, at, turn = [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        cut.append(stream[at:at + size])
        at, turn = at + size, turn + 1
    return cut


def read(parts: list[bytes]) -> tuple[bytes, bytes | None]:
    """Read as a session does: what follows the end is kept beside."""
    reader = DotReader()
    content = b""
    for index, part in enumerate(parts):
        content += reader.feed(part)
        if reader.rest is not None:
            return content, reader.rest + b"".join(parts[index + 1:])
    return content, None


class DotReaderTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=500)
    @given(STREAMS, CUTS)
    @example(b".\r\n", [1])
    @example(b"a\r\n.\r\nRSET\r\n", [3])
    def test_any_cut_gives_what_the_definition_gives(self, stream: bytes, sizes: list[int]) -> None:
        """With an end in the stream, content and rest are those of the definition."""
        stream += b"\r\n.\r\nQUIT\r\n"
        self.assertEqual(read(pieces(stream, sizes)), by_definition(stream))

    @settings(deadline=None, max_examples=300)
    @given(STREAMS.filter(lambda stream: b"\r\n.\r\n" not in b"\r\n" + stream), CUTS)
    def test_nothing_is_given_out_that_may_be_the_end(self, stream: bytes, sizes: list[int]) -> None:
        """Before the end, what was given out is a beginning of the content and misses a dot at most."""
        content, rest = read(pieces(stream, sizes))
        whole, _ = by_definition(stream + b"x\r\n.\r\n")
        self.assertIsNone(rest)
        self.assertEqual(whole[:len(content)], content)
        self.assertLessEqual(len(stream) - len(content) - stream.count(b"."), 2)

    def test_only_the_dot_line_ends(self) -> None:
        """What other servers took for an end, and what let messages be smuggled, is content here."""
        for sequence in (b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n", b"\r\n.\0\r\n",
                         b"\n\n.\r\n", b"\r\r\n.\r\r\n", b"\r\n. \r\n", b"\r\n..\r\n"):
            reader = DotReader()
            reader.feed(b"a" + sequence + b"b")
            self.assertIsNone(reader.rest, sequence)
            reader.feed(b"\r\n.\r\n")
            self.assertEqual(reader.rest, b"", sequence)

    def test_first_line_can_be_the_end(self) -> None:
        """A message without content is an empty one (RFC 5321 section 4.1.1.4)."""
        self.assertEqual(read([b".\r\nQUIT\r\n"]), (b"", b"QUIT\r\n"))

    def test_dot_at_every_large_edge(self) -> None:
        """A dot line stuffed at each power of two from 2^9 to 2^18 loses one dot, in 64 KiB pieces too."""
        for power in range(9, 19):
            for shift in range(-4, 3):
                content = b"x" * ((1 << power) + shift) + b"\r\n.y\r\n"
                stuffed = content.replace(b"\r\n.", b"\r\n..") + b".\r\n"
                for size in (1 << power, 1 << 16):
                    got = read([stuffed[at:at + size] for at in range(0, len(stuffed), size)])
                    self.assertEqual(got, (content, b""))
