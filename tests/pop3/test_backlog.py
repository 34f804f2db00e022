"""Pipelined octets and endless ones: when the server stops reading, and what memory says to it.

What is measured is printed; `pytest -rP` shows it.
"""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.peers import EVERYTHING, Peer
from tests.pop3.maildrops import Mail, mail_of
from tests.pop3.staging import AT_ONCE, QUICK, Server

PIECE = 65536
NOOPS = 1_000_000
ENDLESS_OCTETS = 100_000_000


class BacklogTests(SynchronousTestCase):
    def say_all(self, peer: Peer, octets: bytes, most: int) -> int:
        """Say octets again and again while the server reads; return how many octets it took."""
        taken = 0
        while peer.heard and taken < most:
            peer.say(octets)
            taken += len(octets)
        return taken - peer.unheard

    def test_backlog_behind_a_blocked_command(self) -> None:
        """Behind a RETR that waits the server takes 64 KiB and a segment, then stops reading."""
        server = Server([mail_of(120)])
        peer = server.log_in()
        server.drop.fetching.shut()
        peer.say(b"RETR 1\r\n")
        self.assertTrue(peer.heard)
        taken = self.say_all(peer, b"NOOP\r\n" * 600, 10_000_000)
        self.assertFalse(peer.heard)
        self.assertLessEqual(taken, 65536 + 2 * 3600)
        self.assertGreater(taken, 65536)
        server.drop.fetching.open()
        peer.settle()
        self.assertTrue(peer.heard)
        self.assertEqual(bytes(peer.received).count(b"+OK "), 1 + taken // 6 + peer.unheard)

    def test_no_pause_below_the_limit(self) -> None:
        """Up to 64 KiB may wait without a pause: a well-behaved pipelining client is never stopped."""
        server = Server([mail_of(120)])
        peer = server.log_in()
        server.drop.fetching.shut()
        peer.say(b"RETR 1\r\n" + b"NOOP\r\n" * 10_900, 4096)
        self.assertTrue(peer.heard)
        server.drop.fetching.open()
        peer.settle()
        self.assertEqual(bytes(peer.received).count(b"+OK "), 10_901)

    def test_full_transport_stops_commands(self) -> None:
        """While the client does not read, no further command is carried out: the output stays small."""
        server = Server([mail_of(60_000)])
        peer = server.log_in(reading_octets=0)
        peer.say(b"RETR 1\r\n" * 1000)
        self.assertLess(peer.transport.waiting, 65536 + 2 * 60_100)
        self.assertLess(len(server.drop.fetched), 5)
        while peer.transport.waiting:
            peer.take(200_000)
        self.assertEqual(len(server.drop.fetched), 1000)
        self.assertEqual(bytes(peer.received).count(b"\r\n.\r\n"), 1000)

    def test_small_replies_fill_the_transport_too(self) -> None:
        """A flood of small commands without reading stops as well."""
        server = Server([mail_of(120)])
        peer = server.log_in(reading_octets=0)
        self.say_all(peer, b"UIDL 1\r\n" * 8000, 10_000_000)
        self.assertFalse(peer.heard)
        self.assertLess(peer.transport.waiting, 1_000_000)


class MemoryTests(SynchronousTestCase):
    """Octets of any number leave memory where it was.

    Measured is the peak of what Python allocates or, where that would take too long, of resident memory.
    """

    def growth(self, name: str, act: Callable[[], object]) -> int:
        """Return by how much memory grew at its peak, octets."""
        before = _resident_octets()
        tracemalloc.start()
        try:
            base = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            act()
            peak = tracemalloc.get_traced_memory()[1] - base
        finally:
            tracemalloc.stop()
        print(f"{name}: {peak / 1e6:.3f} MB at most, resident {(_resident_octets() - before) / 1e6:+.2f} MB")
        return peak

    def test_endless_line(self) -> None:
        """100 MB without a line end, before login, after it and in an exchange: flat, and one `-ERR`."""
        piece = b"x" * PIECE
        for name, opening in (("before login", b""), ("after login", b"USER mrose\r\nPASS secret\r\n"),
                              ("in AUTH", b"AUTH PLAIN\r\n"), ("initial response", b"AUTH PLAIN ")):
            server = Server()
            peer = server.connect()
            peer.say(opening)
            peer.received.clear()

            def say(peer: Peer = peer) -> None:
                for _ in range(ENDLESS_OCTETS // PIECE):
                    peer.say(piece)

            self.assertLess(self.growth(f"100 MB without a line end, {name}", say), 1_000_000)
            self.assertEqual(peer.received, b"")
            peer.say(b"\r\n")
            self.assertRegex(bytes(peer.received), rb"\A-ERR [^\r\n]+\r\n\Z")
            peer.say(b"QUIT\r\n")
            self.assertTrue(peer.closed)
            self.assertEqual(server.left_behind(), [])

    def flood(self, peer: Peer, unblock: Callable[[], object], name: str) -> int:
        """Pipeline a million NOOPs behind something blocked; return the replies that came in the end."""
        batch, said, replies, tail = b"NOOP\r\n" * 5000, 0, 0, b""

        def sink(octets: bytes) -> None:
            nonlocal replies, tail
            joined = tail + octets
            replies += joined.count(b"+OK ")
            tail = joined[-3:]

        peer.sink = sink

        blocked, before, resident = True, _resident_octets(), 0
        while said < NOOPS:
            if peer.heard:
                peer.say(batch)
                said += 5000
            elif blocked:
                blocked = False
                self.assertLess(said, 40_000)
                unblock()
            peer.settle()
            resident = max(resident, _resident_octets() - before)
        print(f"{name}: resident {resident / 1e6:+.2f} MB at most")
        self.assertLess(resident, 4_000_000)
        return replies

    def test_million_noops_behind_a_blocked_retr(self) -> None:
        """10^6 NOOPs behind a RETR that the store does not answer: flat, and each is answered after it."""
        server = Server([mail_of(120)])
        peer = server.log_in()
        server.drop.fetching.shut()
        peer.say(b"RETR 1\r\n")
        replies = self.flood(peer, server.drop.fetching.open, "10^6 NOOPs behind a pending RETR")
        self.assertEqual(replies, NOOPS + 1)

    def test_million_noops_behind_a_client_that_does_not_read(self) -> None:
        """10^6 NOOPs behind a RETR that the client does not read: flat, and each is answered after it."""
        server = Server([Mail(b"line\r\n" * 100_000, streamed=True)])
        peer = server.log_in(reading_octets=0)
        peer.say(b"RETR 1\r\n")
        replies = self.flood(peer, lambda: setattr(peer, "reading_octets", EVERYTHING),
                             "10^6 NOOPs behind an unread RETR")
        self.assertEqual(replies, NOOPS + 1)

    def test_million_bad_lines_end_early(self) -> None:
        """A flood of rubbish ends at the limit of bad commands, whatever its number."""
        server = Server(policy=replace(QUICK, limits=AT_ONCE))
        peer = server.connect()

        def say() -> None:
            while peer.heard:
                peer.say(b"\r\n" * 10_000)

        self.assertLess(self.growth("bad lines", say), 1_000_000)
        self.assertTrue(peer.closed)
        self.assertEqual(server.left_behind(), [])


def _resident_octets() -> int:
    if not os.path.exists("/proc/self/statm"):
        return 0    # elsewhere than on Linux only what Python allocates is measured
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
