"""What a client reads in the replies of servers, careful ones and careless ones."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.pop3.answers import (
    NO_CAPABILITIES,
    Reply,
    ServerFault,
    read_capabilities,
    read_counts,
    read_size,
    read_status,
    read_unique_id,
    timestamp,
)


class AnswerTests(SynchronousTestCase):
    def test_status(self) -> None:
        self.assertEqual(read_status(b"+OK"), Reply(True, b""))
        self.assertEqual(read_status(b"-err  [IN-USE] busy "), Reply(False, b"[IN-USE] busy"))
        for line in (b"", b"+", b"OK", b"+OK.", b"-ERROR", b" +OK"):
            self.assertIsNone(read_status(line), line)

    def test_codes(self) -> None:
        """RFC 2449 section 8: the first word in brackets; anything else is text."""
        for text, code in ((b"[IN-USE] busy", "IN-USE"), (b"[sys/temp] x", "SYS/TEMP"),
                           (b"busy [IN-USE]", ""), (b"[IN USE] x", ""), (b"[IN-USE", ""), (b"", "")):
            self.assertEqual(Reply(False, text).code, code, text)

    def test_timestamp(self) -> None:
        """Only a msg-id is digested with a password."""
        for text, stamp in ((b"ready <1896.69@dbc.us>", b"<1896.69@dbc.us>"), (b"<a@b> hi", b"<a@b>"),
                            (b"ready <no-at>", None), (b"<a b@c>", None), (b"<a@b", None),
                            (b"<\x80@b>", None), (b"<a@b\0>", None)):
            self.assertEqual(timestamp(Reply(True, text)), stamp, text)

    def test_counts(self) -> None:
        self.assertEqual(read_counts(Reply(True, b" 2 320 octets")), (2, 320))
        for text in (b"", b"2", b"two 3", b"-1 2", b"2 320octets"):
            self.assertRaises(ServerFault, read_counts, Reply(True, text))

    def test_sizes(self) -> None:
        for line, size in ((b"1 120", (1, 120)), (b" 2\t 200 octets", (2, 200)), (b"3 0", (3, 0))):
            self.assertEqual(read_size(line), size)
        for line in (b"", b"1", b"x 1", b"0 1", b"1 x", b"1 -2", b"1 2x"):
            self.assertRaises(ServerFault, read_size, line)

    def test_unique_ids(self) -> None:
        """1 to 70 octets of 0x21-0x7E; others are none, and no reason to give the listing up."""
        for line, found in ((b"1 abc", (1, b"abc")), (b"2   whqtswO00WBw418f9t5JxYwZ ",
                                                      (2, b"whqtswO00WBw418f9t5JxYwZ")),
                            (b"3 " + b"x" * 70, (3, b"x" * 70)), (b"3 " + b"x" * 71, (3, None)),
                            (b"4 a b", (4, None)), (b"5 \x7f", (5, None)), (b"6 ", (6, None)),
                            (b"7", (7, None))):
            self.assertEqual(read_unique_id(line), found, line)
        for line in (b"", b"x y", b"0 abc"):
            self.assertRaises(ServerFault, read_unique_id, line)

    def test_capabilities(self) -> None:
        """In any case, with arguments; without CAPA there is nothing."""
        found = read_capabilities([b"Top", b"SASL PLAIN cram-md5", b"", b"IMPLEMENTATION a b", b"SASL X"])
        self.assertTrue(found.has(b"TOP"))
        self.assertTrue(found.has_mechanism(b"CRAM-MD5"))
        self.assertTrue(found.has_mechanism(b"X"))
        self.assertFalse(found.has(b"PIPELINING"))
        self.assertFalse(NO_CAPABILITIES.has(b"TOP"))
        self.assertFalse(NO_CAPABILITIES.has_mechanism(b"PLAIN"))

    @settings(deadline=None, max_examples=200)
    @given(read=st.sampled_from([read_size, read_unique_id]), line=st.binary(max_size=40))
    def test_any_line(self, read: Callable[[bytes], object], line: bytes) -> None:
        """Whatever a line says, it is read or it is a fault of the server."""
        try:
            read(line)
        except ServerFault as fault:
            self.assertTrue(str(fault).isprintable())
