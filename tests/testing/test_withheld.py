"""Events while a session goes on: told as soon as it is known what of them is secret, and no sooner."""

from __future__ import annotations

import base64
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.harness import withheld
from mailgate.testing.harness.records import Event, Records, SessionRecord
from mailgate.testing.harness.withheld import Withheld

SECRET = b"sesame-Word"
PLAIN = base64.b64encode(b"\0mrose\0" + SECRET)


class Watcher:
    """One who is told while it happens."""

    def __init__(self) -> None:
        self.records = Records(lambda: 0.0)
        self.record: SessionRecord = self.records.begin("pop3")
        self._withheld = Withheld(self.record)
        self.told: list[tuple[int, Event]] = []

    def take(self, who: str, *pieces: bytes) -> list[str]:
        """Have one side say something; return what is told then."""
        before = len(self.told)
        for piece in pieces:
            event = self.records.note(self.record, who, piece)
            self.told += self._withheld.take(len(self.record.events) - 1, event)
        return self.shown()[before:]

    def end(self) -> list[str]:
        before = len(self.told)
        self.told += self._withheld.rest()
        return self.shown()[before:]

    def shown(self) -> list[str]:
        return [f"{event.who}: {event.shown().decode()}" for _, event in self.told]


class WithheldTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.watcher = Watcher()

    def test_whole_lines(self) -> None:
        """What comes in whole lines is told at once."""
        self.assertEqual(self.watcher.take("S", b"+OK ready\r\n"), ["S: +OK ready\r\n"])
        self.assertEqual(self.watcher.take("C", b"PASS sesame-Word\r\n"), ["C: PASS ********\r\n"])
        self.assertEqual(self.watcher.take("C", b"STAT\r\n"), ["C: STAT\r\n"])
        self.assertEqual(self.watcher.end(), [])

    def test_half_a_line(self) -> None:
        """Half a line, and what follows it, is told when it is whole: it may turn out to be secret."""
        self.assertEqual(self.watcher.take("C", b"APOP 0123456789abcdef"), [])
        self.assertEqual(self.watcher.take("S", b"+OK\r\n"), [])
        self.assertEqual(self.watcher.take("C", b"0123456789abcdef\r\n"),
                         ["C: APOP ********", "S: +OK\r\n", "C: ********\r\n"])

    def test_repeated_in_pieces(self) -> None:
        """A server that repeats a password octet by octet shows none of it; what is no secret goes on."""
        self.watcher.take("C", b"PASS sesame-Word\r\n")
        self.assertEqual(self.watcher.take("S", b"-ERR no s"), [])
        told = self.watcher.take("S", *(bytes([one]) for one in b"esame-Word is w"), b"rong\r\n")
        self.assertEqual("".join(told).replace("S: ", ""), "-ERR no " + "********" * 11 + " is wrong\r\n")
        self.assertEqual(self.watcher.take("S", b"no ses"), [])
        self.assertEqual(self.watcher.take("S", b"sion\r\n"), ["S: no ses", "S: sion\r\n"])

    def test_the_end(self) -> None:
        """What is left at the end is told: of a secret that was cut off nothing, now and afterwards."""
        self.watcher.take("C", b"PASS sesame-Word\r\n")
        self.assertEqual(self.watcher.take("S", b"-ERR no sesam"), [])
        self.assertEqual(self.watcher.take("C", b"QUIT"), [])
        self.assertEqual(self.watcher.end(), ["S: -ERR no ********", "C: QUIT"])
        self.assertEqual([event.shown() for event in self.watcher.record.masked_events()],
                         [b"PASS ********\r\n", b"-ERR no ********", b"QUIT"])

    def test_bounds(self) -> None:
        """A line that never ends is not kept back for ever: it is told as if all of it were secret."""
        with patch.object(withheld, "MOST_EVENTS", 10), patch.object(withheld, "MOST_OCTETS", 100):
            self.assertEqual(self.watcher.take("C", *[b"STAT "] * 11), ["C: ********"] * 11)
            self.assertEqual(self.watcher.take("C", b"x" * 101), ["C: ********"])
            self.assertEqual(self.watcher.take("S", b"+OK\r\n"), ["S: +OK\r\n"])

    @given(st.lists(st.tuples(st.sampled_from("CCCS"), st.sampled_from([
        b"USER mrose\r\n", b"PASS " + SECRET + b"\r\n", b"AUTH PLAIN\r\n", b"+ \r\n", PLAIN + b"\r\n",
        b"-ERR no " + SECRET + b"!\r\n", b"se", b"AUTH PLAIN " + PLAIN + b"\r\n", b"QU", b"\r\n"])),
        max_size=12), st.integers(1, 9))
    @settings(deadline=None, max_examples=80)
    def test_whatever_is_said(self, lines: list[tuple[str, bytes]], octets: int) -> None:
        """In any pieces: every event is told once and in order; no secret that is known stands in it."""
        watcher = Watcher()
        watcher.take("C", b"PASS " + SECRET + b"\r\n", b"AUTH PLAIN " + PLAIN + b"\r\n")
        for who, line in lines:
            watcher.take(who, *(line[at:at + octets] for at in range(0, len(line), octets)))
        watcher.end()
        self.assertEqual([index for index, _ in watcher.told], list(range(len(watcher.record.events))))
        for who in "CS":
            said = b"".join(event.shown() for _, event in watcher.told if event.who == who)
            for secret in (SECRET, PLAIN):
                self.assertNotIn(secret[:6], said)
