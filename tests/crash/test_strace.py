"""What we read from strace's output."""

from __future__ import annotations

import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.crash.strace import Call, needs_strace, read_trace, traced


class ReadTraceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.trace = Path(self.mktemp())

    def test_order(self) -> None:
        """A call that another thread's call fell into ended after it, and began before."""
        self.trace.write_text("7 write(1</tmp/x>, \"a\", 1 <unfinished ...>\n"
                              "8 fsync(3</tmp/y>)                      = 0\n"
                              "7 <... write resumed>)                  = 1\n")
        self.assertEqual(read_trace(self.trace), [Call("fsync", "3</tmp/y>", "0", 1, 1),
                                                  Call("write", "1</tmp/x>, \"a\", 1", "1", 0, 2)])

    def test_under_way_at_the_end(self) -> None:
        """Octets that were handed over when strace let go of the process count as sent."""
        self.trace.write_text("7 epoll_wait(3, [], 8, 5 <unfinished ...>\n"
                              "8 fsync(3</tmp/y>)                      = 0\n"
                              "9 sendto(4, \"250 \", 4, 0, NULL, 0 <detached ...>\n")
        self.assertEqual(read_trace(self.trace), [Call("fsync", "3</tmp/y>", "0", 1, 1),
                                                  Call("epoll_wait", "3, [], 8, 5", "?", 0, 3),
                                                  Call("sendto", "4, \"250 \", 4, 0, NULL, 0", "?", 2, 3)])

    def test_a_real_one(self) -> None:
        """What a process gave to its peer is there, however soon the trace ended after it."""
        needs_strace()
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as cat:
            assert cat.stdin is not None
            assert cat.stdout is not None
            with traced(cat.pid, self.trace):
                cat.stdin.write(b"250 \n")
                self.assertEqual(cat.stdout.read(5), b"250 \n")
            self.assertIn('"250 ', "".join(
                call.arguments for call in read_trace(self.trace) if call.name == "write"))
