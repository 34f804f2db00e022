"""Fields put in front of a delivered message, and the sieve for those it brings."""

from __future__ import annotations

import email
import email.policy
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.model import Envelope
from mailgate.wire.headers import IncomingHeader, field_text, preamble, received_line

CUTS = st.lists(st.integers(1, 20), min_size=1, max_size=8)
LINES = st.sampled_from([
    b"Return-Path: <a@x>", b"RETURN-PATH:", b"return-path:\t<b@x>", b"Return-Pathos: kept", b" folded",
    b"\tfolded", b"Received: from a", b"RECEIVED: b", b"Receivedd: c", b"X-Received: d", b"Subject: s", b"",
    b" ", b"R", b"Re"])
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])
LAST = st.sampled_from([b"", b"Return-Path: <cut", b"Subject: x", b"Ret", b"\r", b"Received:"])
MESSAGES = st.tuples(
    st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=14).map(b"".join), LAST).map(b"".join)


def by_lines(message: bytes) -> tuple[bytes, int]:
    """Return the message without Return-Path fields, and its Received fields: the slow, plain way."""
    kept, received, dropping, in_head = [], 0, False, True
    for line in re.findall(rb"[^\n]*\n|[^\n]+", message):
        if in_head and line in (b"\r\n", b"\n"):
            in_head = False
        if in_head and not (dropping and line[:1] in (b" ", b"\t")):
            dropping = line.lower().startswith(b"return-path:")
            received += line.lower().startswith(b"received:")
        if not (in_head and dropping):
            kept.append(line)
    return b"".join(kept), received


def sieve(message: bytes, sizes: list[int]) -> tuple[bytes, int]:
    header = IncomingHeader()
    passed, at, turn = [], 0, 0
    while at < len(message):
        size = sizes[turn % len(sizes)]
        passed.append(header.feed(message[at:at + size]))
        at, turn = at + size, turn + 1
    passed.append(header.finish())
    return b"".join(passed), header.received_fields


class IncomingHeaderTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=800)
    @given(MESSAGES, CUTS)
    @example(b"Return-Path: <a>\r\n folded\r\n\r\nReturn-Path: body\r\n", [1])
    @example(b"\r\nReturn-Path: body\r\n", [1])
    def test_any_cut_gives_what_lines_give(self, message: bytes, sizes: list[int]) -> None:
        """Dropped fields and counted ones are those that a reader of lines finds, however it is cut."""
        self.assertEqual(sieve(message, sizes), by_lines(message))

    def test_return_path_is_dropped_wherever_it_stands(self) -> None:
        """At the top, folded, twice, below other fields; not in the body."""
        message = (b"Return-Path: <first@x>\r\nReceived: from a\r\n\tby b\r\nreturn-path:\r\n <second@x>\r\n"
                   b"Subject: s\r\n\r\nReturn-Path: <text>\r\n")
        expected = b"Received: from a\r\n\tby b\r\nSubject: s\r\n\r\nReturn-Path: <text>\r\n"
        self.assertEqual(sieve(message, [1 << 16]), (expected, 1))

    def test_little_is_held_back(self) -> None:
        """A field of any length passes as it comes."""
        header = IncomingHeader()
        given_out = sum(len(header.feed(b"Subject: s" if not n else b"x" * 1000)) for n in range(1000))
        self.assertGreaterEqual(given_out, 999 * 1000)

    def test_body_is_not_searched(self) -> None:
        """After the blank line, pieces pass as the objects that they are."""
        header = IncomingHeader()
        header.feed(b"A: b\r\n\r\n")
        piece = b"Return-Path: <x>\r\nReceived: y\r\n"
        self.assertIs(header.feed(piece), piece)
        self.assertEqual(header.received_fields, 0)


class ReceivedLineTests(SynchronousTestCase):
    def line(self, **changes: object) -> bytes:
        given: dict[str, object] = {
            "hostname": "mail.example", "protocol": "LMTP", "delivery_id": "ID1",
            "arrived_ms": 1_700_000_000_999, "helo": b"mx.example", "peer": "192.0.2.7",
            "recipient": b"fred@x.example"}
        return received_line(**{**given, **changes})  # type: ignore[arg-type]

    def test_all_clauses(self) -> None:
        """Order, folding and date of RFC 5321 section 4.4."""
        self.assertEqual(self.line(), (
            b"Received: from mx.example ([192.0.2.7])\r\n\tby mail.example with LMTP id ID1\r\n"
            b"\tfor <fred@x.example>; Tue, 14 Nov 2023 22:13:20 +0000\r\n"))

    def test_clauses_that_are_not_known_are_left_out(self) -> None:
        """A unix socket has no address, the command line no client, many recipients no `for`."""
        self.assertTrue(self.line(peer=None).startswith(b"Received: from mx.example\r\n\tby"))
        self.assertEqual(self.line(helo=None, recipient=None), (
            b"Received: by mail.example with LMTP id ID1; Tue, 14 Nov 2023 22:13:20 +0000\r\n"))

    def test_ipv6(self) -> None:
        """An address literal of RFC 5321 section 4.1.3."""
        self.assertIn(b" ([IPv6:2001:db8::1])\r\n", self.line(peer="2001:db8::1"))

    def test_recipient_beyond_ascii_needs_the_keyword(self) -> None:
        """UTF-8 in a trace field only with UTF8LMTP (RFC 6531 section 3.7.3)."""
        recipient = "gr\u00fc\u00df@x".encode()
        self.assertNotIn(b"for", self.line(recipient=recipient))
        self.assertIn(b"for <%b>" % recipient, self.line(recipient=recipient, protocol="UTF8LMTP"))

    @settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=60), st.binary(max_size=60))
    def test_no_octets_make_a_field_more(self, helo: bytes, recipient: bytes) -> None:
        """Whatever a client calls itself, a parser finds one field and the header's end where we put it."""
        line = self.line(helo=helo, recipient=recipient)
        self.assertEqual(line.count(b"\n"), line.count(b"\r\n\t") + 1)
        self.assertTrue(line.endswith(b"\r\n"))
        parsed = email.message_from_bytes(line + b"Subject: s\r\n\r\nbody", policy=email.policy.compat32)
        self.assertEqual(parsed.keys(), ["Received", "Subject"])


class PreambleTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """Return-Path first; both with the addresses as they came."""
        self.assertEqual(preamble(Envelope(b"a@x", b'"F B"@Y', 0)),
                         b'Return-Path: <a@x>\r\nDelivered-To: "F B"@Y\r\n')

    def test_null_sender(self) -> None:
        """RFC 5321 section 4.4."""
        self.assertEqual(preamble(Envelope(b"", b"f@x", 0)), b"Return-Path: <>\r\nDelivered-To: f@x\r\n")

    @settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=60), st.binary(max_size=60))
    def test_two_lines_whatever_the_addresses_are(self, sender: bytes, recipient: bytes) -> None:
        """No address adds a line or begins one with a dot, and what comes out is UTF-8."""
        lines = preamble(Envelope(sender, recipient, 0)).split(b"\r\n")
        self.assertEqual([line.partition(b":")[0] for line in lines], [b"Return-Path", b"Delivered-To", b""])
        self.assertNotRegex(b"".join(lines), rb"[\x00-\x1f\x7f]")
        b"".join(lines).decode()

    def test_field_text_keeps_text(self) -> None:
        """UTF-8 passes, controls become blanks, what is no UTF-8 is marked."""
        self.assertEqual(field_text("gr\u00fcn a\tb\r\nc".encode()), "gr\u00fcn a b  c".encode())
        self.assertEqual(field_text(b"\xff"), "\ufffd".encode())
