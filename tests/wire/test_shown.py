"""What a client sent takes one printable line in a log."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.wire.shown import shown


class ShownTests(SynchronousTestCase):
    def test_readings(self) -> None:
        """Text stays, the rest is escaped as Python would."""
        self.assertEqual(shown("gr\u00fcn a@x".encode()), "gr\u00fcn a@x")
        self.assertEqual(shown(b"a\r\nb\0\x1b[31m\\n"), "a\\r\\nb\\x00\\x1b[31m\\\\n")
        self.assertEqual(shown(b"\xff\xfe"), "\\xff\\xfe")
        self.assertEqual(shown("\u202e\u2028\x85"), "\\u202e\\u2028\\x85")

    def test_length_is_bounded(self) -> None:
        """A long text is cut, and says by how much."""
        self.assertEqual(shown(b"x" * 300, 10), "x" * 10 + "...(290 more)")

    @settings(deadline=None, max_examples=300)
    @given(st.one_of(st.binary(max_size=100), st.text(max_size=100)))
    def test_printable_whatever_comes(self, octets: bytes | str) -> None:
        """No octet sequence breaks a line or moves a terminal's cursor."""
        self.assertTrue(shown(octets).isprintable())
