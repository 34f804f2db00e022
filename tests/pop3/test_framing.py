"""Framing: what RETR, TOP and LIST put on the wire, for every content, cut and pace.

The maildrop keeps its messages as a store does, in the wire form of `mailgate.wire.dots`; the client
of these tests splits lines and takes dots away by itself, knowing nothing of the server's code.
"""

from __future__ import annotations

import hashlib
import random
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.peers import Peer
from mailgate.wire.dots import TopCutter, WireForm, cut_top
from tests.pop3.maildrops import PIECE_OCTETS, Mail, crlf_form, top_of
from tests.pop3.staging import Server

MESSAGE_50_MB = 50_000_000
EDGES = [1 << power for power in range(9, 19)]


class StoredMail(Mail):
    """A message that came in the pieces of `cuts` and is kept in wire form, read in `piece_octets`."""

    def __init__(self, content: bytes, cuts: tuple[int, ...] = (), *, streamed: bool = False,
                 piece_octets: int = PIECE_OCTETS) -> None:
        form = WireForm()
        edges = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
        parts = [form.feed(content[start:end]) for start, end in pairwise(edges)]
        self.wire = b"".join(parts) + form.finish()
        self.octets = form.octets
        self.head_octets = form.head_octets
        self.unique_id = hashlib.sha256(content).hexdigest().encode()
        self.streamed = streamed
        self.piece_octets = piece_octets

    def top(self, body_lines: int) -> bytes:
        """Cut as a store does: at once, or piece by piece."""
        if not self.streamed:
            return cut_top(self.wire, self.head_octets, body_lines)
        cutter = TopCutter(body_lines)
        return b"".join([cutter.feed(piece) for piece in self.pieces(self.wire)])

    def pieces(self, wire: bytes) -> Iterator[bytes]:
        """Cut at `piece_octets`."""
        return (wire[at:at + self.piece_octets] for at in range(0, len(wire), self.piece_octets))


class Reader:
    """A client's view of the octets that came: status lines and multi-line replies, undone."""

    def __init__(self, octets: bytes) -> None:
        self.lines = octets.split(b"\r\n")
        self.at = 0
        assert self.lines[-1] == b"", "a line without its end"

    def line(self) -> bytes:
        """Return the next line without its CRLF."""
        self.at += 1
        return self.lines[self.at - 1]

    @property
    def at_end(self) -> bool:
        """Whether every line was read."""
        return self.at == len(self.lines) - 1

    def status(self) -> bytes:
        """Return a status line, which must be positive."""
        line = self.line()
        assert line.startswith(b"+OK "), line
        return line

    def body(self) -> bytes:
        """Return the lines of a multi-line reply, dots taken away, CRLF after each."""
        lines = []
        while (line := self.line()) != b".":
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join([line + b"\r\n" for line in lines])


def exchange(peer: Peer, octets: bytes, cuts: list[int], paces: list[int]) -> bytes:
    """Say octets in random segments, read at random paces, and return all that came."""
    peer.received.clear()
    edges = [0, *sorted(cut % (len(octets) + 1) for cut in cuts), len(octets)]
    peer.reading_octets = 0
    for start, end in pairwise(edges):
        peer.say(octets[start:end])
        peer.take(paces[start % len(paces)])
    turn = 0
    while peer.transport.waiting or peer.unheard:
        peer.take(paces[turn % len(paces)])
        turn += 1
    return bytes(peer.received)


FRAGMENTS = st.sampled_from([b".", b"..", b"...", b"\r\n", b"\n", b"\r", b"\0", b"\r\n.\r\n", b"\n.\n", b"x",
                             b"\r\n\r\n", b"\n\n", b"\r\r\n", b"\n\r", b"Subject: x", b" ", b"\xff\x80"])
CONTENTS = st.one_of(
    st.just(b""),
    st.binary(max_size=300),
    st.lists(FRAGMENTS, max_size=60).map(b"".join),
    st.lists(FRAGMENTS, max_size=30).map(lambda parts: b"Subject: y\r\n\r\n" + b"".join(parts)),
    st.lists(st.tuples(FRAGMENTS, st.integers(1, 3000)), max_size=12).map(
        lambda parts: b"".join(fragment + b"z" * more for fragment, more in parts)),
)
CUTS = st.lists(st.integers(0, 1 << 30), max_size=8)
PACES = st.lists(st.sampled_from([1, 7, 100, 4096, 70_000, 1 << 20]), min_size=1, max_size=4)


class EveryCutTests(SynchronousTestCase):
    def hold(self, content: bytes, mail: StoredMail, body_lines: int, cuts: list[int], paces: list[int],
             asynchronous: bool) -> None:
        """LIST counts what RETR sends, RETR is the CRLF form, TOP its exact prefix."""
        server = Server([mail], asynchronous=asynchronous)
        peer = server.log_in()
        came = Reader(exchange(peer, b"LIST 1\r\nRETR 1\r\nTOP 1 %d\r\nSTAT\r\n" % body_lines, cuts, paces))
        wanted = crlf_form(content)
        self.assertEqual(came.status(), b"+OK 1 %d" % len(wanted))
        came.status()
        self.assertEqual(came.body(), wanted)
        came.status()
        top = came.body()
        self.assertEqual(top, top_of(wanted, body_lines))
        self.assertTrue(wanted.startswith(top))
        self.assertEqual(came.status(), b"+OK 1 %d" % len(wanted))
        self.assertTrue(came.at_end)
        peer.vanish()
        self.assertEqual(server.left_behind(), [])

    @settings(deadline=None, max_examples=300, derandomize=True)
    @given(CONTENTS, CUTS, st.booleans(), st.integers(1, 400), st.integers(0, 12), CUTS, PACES, st.booleans())
    def test_any_message_any_segments_any_pace(self, content: bytes, arrival: list[int], streamed: bool,
                                               piece: int, body_lines: int, cuts: list[int],
                                               paces: list[int], asynchronous: bool) -> None:
        """Whatever the content, however it arrived, is read, asked for and taken off the wire."""
        mail = StoredMail(content, tuple(arrival), streamed=streamed, piece_octets=piece)
        self.hold(content, mail, body_lines, cuts, paces, asynchronous)

    def test_named_contents(self) -> None:
        """Lone dots, bare CR, bare LF, NUL, no final line end, empty, only header, only blank lines."""
        for content in (b"", b".", b"..", b".\r\n", b"\r\n", b"\n", b"\r", b"\0", b"H: only header",
                        b"H: only header\r\n", b"H: x\r\n\r\n", b"H: x\n\n.", b"H: x\n\n.\n.\n", b"\r\n.\r\n",
                        b"a\rb\r\rc", b"a\nb\n", b"a\r\r\nb", b"\n.\n\n..\n", b"nul\0\0\r\n\0.\r\n", b"x\r"):
            for streamed in (False, True):
                for piece in (1, 2, 3, 64):
                    self.hold(content, StoredMail(content, streamed=streamed, piece_octets=piece), 1,
                              [5, 9], [3, 100], streamed)

    def test_dots_at_every_edge(self) -> None:
        """A dot that begins a line at, before and after every 2^k octets from 2^9 to 2^18."""
        rng = random.Random(20)
        for edge in EDGES:
            for delta in (-2, -1, 0, 1, 2):
                for end in (b"\r\n", b"\n"):
                    for dots in (b".", b"..", b".\r\n."):
                        head = b"H: x" + end + end
                        filler = edge + delta - len(head) - len(end)
                        content = head + b"f" * filler + end + dots + end + b"after" + end
                        self.assertEqual(content.index(end + b".") + len(end), edge + delta)
                        piece = rng.choice([edge, min(edge, PIECE_OCTETS), 16384, PIECE_OCTETS])
                        mail = StoredMail(content, (edge,), streamed=rng.random() < 0.5,
                                          piece_octets=min(piece, PIECE_OCTETS))
                        self.hold(content, mail, 1, [], [rng.choice([16384, 65536, 1 << 20])], False)

    def test_lines_of_dots_across_edges(self) -> None:
        """A message of nothing but dot lines has a dot at every edge there is."""
        for content in (b".\r\n" * 100_000, b".\n" * 140_000, b"..\r\n" * 70_000, b"." * 300_000):
            for piece in (4096, 16384, PIECE_OCTETS):
                self.hold(content, StoredMail(content, streamed=True, piece_octets=piece), 7, [],
                          [1 << 20], False)


class LargeMail(Mail):
    """50 MB that are nowhere whole: each piece is made when it is read."""

    LINE = b".line of a large message, stuffed on the wire and 72 octets long " + b"x" * 5 + b"\r\n"

    def __init__(self) -> None:
        self.lines = MESSAGE_50_MB // len(self.LINE)
        self.octets = self.lines * len(self.LINE)
        self.unique_id, self.streamed, self.wire = b"large", True, b""
        self.digest = hashlib.sha256()

    def pieces(self, wire: bytes) -> Iterator[bytes]:
        """Make pieces of whole lines, about 64 KiB each."""
        a_piece = PIECE_OCTETS // (len(self.LINE) + 1)
        piece = (b"." + self.LINE) * a_piece
        for _ in range(self.lines // a_piece):
            self.digest.update(piece)
            yield piece
        rest = (b"." + self.LINE) * (self.lines % a_piece)
        self.digest.update(rest)
        yield rest


class LargeMessageTests(SynchronousTestCase):
    def fetch(self, reading_octets: int, asynchronous: bool) -> int:
        """Fetch the large message, hold it to its digest, and return the most memory that it took."""
        mail = LargeMail()
        server = Server([mail], asynchronous=asynchronous)
        digest, count, ends = hashlib.sha256(), 0, b""

        def sink(octets: bytes) -> None:
            nonlocal count, ends
            digest.update(octets)
            count += len(octets)
            ends = (ends + octets)[-40:]

        peer = server.connect()
        peer.say(b"USER mrose\r\nPASS secret\r\nLIST 1\r\n")
        self.assertTrue(peer.received.endswith(b"+OK 1 %d\r\n" % mail.octets))
        peer.sink = sink
        peer.reading_octets = reading_octets
        tracemalloc.start()
        try:
            peer.say(b"RETR 1\r\nNOOP\r\n")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        self.assertRegex(ends, rb"\r\n\.\r\n\+OK [^\r]+\r\n\Z")
        wire_octets = mail.octets + mail.lines
        self.assertEqual(count > wire_octets, True)
        self.assertLess(count, wire_octets + 200)
        peer.say(b"QUIT\r\n")
        self.assertEqual(server.left_behind(), [])
        return peak

    def test_50_mb_in_bounded_memory(self) -> None:
        """50 MB pass, for a fast and a slow reader, a quick and a slow store, in about a megabyte."""
        for reading_octets, asynchronous in ((1 << 62, False), (30_000, False), (1 << 62, True)):
            peak = self.fetch(reading_octets, asynchronous)
            print(f"50 MB RETR, reading {reading_octets}: {peak / 1e6:.2f} MB at most")
            self.assertLess(peak, 1_500_000)

    def test_50_mb_are_the_right_octets(self) -> None:
        """The octets between status line and terminator are exactly the message's wire form."""
        mail = LargeMail()
        peer = Server([mail]).log_in()
        peer.say(b"RETR 1\r\n")
        body = bytes(peer.received).split(b"\r\n", 1)[1]
        self.assertTrue(body.endswith(b"\r\n.\r\n"))
        self.assertEqual(hashlib.sha256(body[:-3]).digest(), mail.digest.digest())
        self.assertEqual(len(body) - 3 - mail.lines, mail.octets)
