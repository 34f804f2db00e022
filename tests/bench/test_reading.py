"""What the bench reads: /proc, strace's summary, the generators' results; and the corpus it checks by."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib

from twisted.trial.unittest import SynchronousTestCase

from bench import corpus
from bench.delivery import parse_syncs
from bench.driving import WrongReply, judged
from bench.processes import Tree, parse_field, parse_stat
from bench.short import line

SUMMARY = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 80.12    0.012345         123       100           fdatasync
 19.88    0.003000         100        30         2 fsync
------ ----------- ----------- --------- --------- ----------------
100.00    0.015345         118       130         2 total
"""


class ProcTests(SynchronousTestCase):
    def test_stat(self) -> None:
        """A command's name may hold spaces and parentheses."""
        ticks = os.sysconf("SC_CLK_TCK")
        fields = ["S", "7", *["0"] * 9, str(2 * ticks), str(ticks), str(4 * ticks), "0", "20"]
        self.assertEqual(parse_stat(f"12 (a ) b) {' '.join(fields)}"), (7, 3.0, 4.0))

    def test_field(self) -> None:
        """Fields are told in kB and returned in octets; one that is not there is an error."""
        self.assertEqual(parse_field("VmHWM:\t  12 kB\nPss:   3 kB\n", "Pss"), 3072)
        self.assertRaises(ValueError, parse_field, "VmHWM: 1 kB\n", "Pss")

    def test_tree(self) -> None:
        """A child is found, with what it costs; what it cost counts also when it has ended."""
        with subprocess.Popen([sys.executable, "-c", "sum(range(3_000_000)); print(); input()"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None and child.stdin is not None
            child.stdout.readline()
            tree = Tree(os.getpid())
            self.assertIn(child.pid, tree.pids())
            its = Tree(child.pid)
            used, memory = its.cpu_seconds(), its.memory_octets()
            before = tree.cpu_seconds()
            child.stdin.close()
        self.assertGreater(used, 0.005)
        self.assertGreater(memory, 1_000_000)
        self.assertGreaterEqual(tree.cpu_seconds(), before - 0.02)      # of the ended the kernel tells ticks


class ResultTests(SynchronousTestCase):
    def test_syncs(self) -> None:
        """All kinds of syncs count, and their total does not count again."""
        self.assertEqual(parse_syncs(SUMMARY), 130)
        self.assertEqual(parse_syncs(""), 0)

    def test_judged(self) -> None:
        """A result counts only without a fault, an exit code or garbage."""
        self.assertEqual(judged('{"faults": 0, "commands": 3}', 0)["commands"], 3)
        for said, code in ('{"faults": 1}', 0), ('{"faults": 0}', 1), ("", 0), ("holding", 0):
            self.assertRaises(WrongReply, judged, said, code)

    def test_line(self) -> None:
        """A ratio far from the landed one is remarked on; one that was never landed is shown alone."""
        self.assertIn("slower", line("work", 1.0, 2.0, 1.0))
        self.assertIn("faster", line("work", 1.0, 0.5, 1.0))
        self.assertRegex(line("work", 1.0, 1.1, 1.0), r"1\.10x$")
        self.assertRegex(line("work", 1.0, 1.1, None), r"-$")


class CorpusTests(SynchronousTestCase):
    def test_checks(self) -> None:
        """Each message tells the CRC-32 and the octets of its body, large ones in pieces too."""
        texts = [*corpus.mixed(3, 20), *corpus.small(1, 5), b"".join(corpus.large(200_000)),
                 b"".join(corpus.large(500))]
        for text in texts:
            header, _, body = text.partition(b"\r\n\r\n")
            found = re.search(rb"X-Check: ([0-9a-f]{8}) (\d+)$", header, re.MULTILINE)
            assert found is not None
            self.assertEqual((int(found[1], 16), int(found[2])), (zlib.crc32(body), len(body)))
            self.assertTrue(body.endswith(b"\r\n"))

    def test_seeded(self) -> None:
        """The same user has the same messages every time, and another has others."""
        self.assertEqual(list(corpus.mixed(1, 5)), list(corpus.mixed(1, 5)))
        self.assertNotEqual(list(corpus.mixed(1, 5)), list(corpus.mixed(2, 5)))

    def test_dots(self) -> None:
        """Some lines have to be byte-stuffed."""
        self.assertTrue(any(b"\r\n." in text for text in corpus.mixed(0, 5)))
