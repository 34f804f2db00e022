"""Dovecot's `pop3_uidl_format`. What version 2.3 made of the old forms is in tests/peers, by itself."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.formats.templates import parse_template

VALUES = {"uid": b"26", "uidvalidity": b"1700000000", "filename": b"1700000001.M1P1.host",
          "guid": b"0a1B", "md5": b"6efc4fe15207f502f37ec381fae7aba1"}
PARTS = st.sampled_from(["%", "%u", "%v", "%f", "%08X", "{", "}", "uid", "|", "hex", "(8)", "-", "3.", "H",
                         "M", " substr(1, 2)", "x", "\N{SNOWMAN}", "99999", "L", "0", "md5",
                         "%{uid | hex(3)}"])


def made(text: str) -> str | None:
    filled = parse_template(text).fill(VALUES)
    return None if filled is None else filled.decode()


class TemplateTests(SynchronousTestCase):
    def test_version_2_3(self) -> None:
        """As a Dovecot of that version answered."""
        for text, expected in {
                "%08Xu%08Xv": "0000001a6553f100", "%v.%u": "1700000000.26", "UID%u-%v": "UID26-1700000000",
                "%-8.3f": "1P1", "%.4f": "1700", "%3.5f": "00000", "%Mf": "eb6321585bfba6c4a564dcacae365d5c",
                "%Hf": "a45d6b4", "%2.256Hf": "b4", "%Nf": "5bfba6c4", "%4.100Nf": "002c",
                "%URf": "TSOH.1P1M.1000000071", "%Lf%%a": "1700000001.m1p1.host%a", "%3.010Xv": "000003f100",
                "%-3.f": "ost", "%.-3f": "1700000001.M1P1.h", "%Df": "1700000001,dc=M1P1,dc=host"}.items():
            self.assertEqual(made(text), expected, text)

    def test_version_2_4(self) -> None:
        """As its manual has it."""
        for text, expected in {
                "%{uid | hex(8)}%{uidvalidity | hex(8)}": "0000001a6553f100", "%{uidvalidity}.%{uid}":
                "1700000000.26", "%{uid|hex}": "1a", "%{ uid | hex(1) }": "a", "%{uid | hex(-4)}": "1a00",
                "%{filename | upper | substr(-4)}": "HOST", "%{guid | lower}": "0a1b",
                "%{filename | md5}": "eb6321585bfba6c4a564dcacae365d5c",
                "%{filename | md5 | hexlify(6)}": "eb6321", "%{uid | hexlify(6)}": "003236",
                "%{guid | reverse | truncate(3)}": "B1a", "%{guid | sha256 | substr(0, 2) | hexlify}":
                hashlib.sha256(b"0a1B").hexdigest()[:4],
                "%{filename | ldap_dn}": "1700000001,dc=M1P1,dc=host", "%{guid | substr(1)}": "a1B"}.items():
            self.assertEqual(made(text), expected, text)

    def test_variable_without_a_value(self) -> None:
        """A Maildir has no digest, an mbox no file names: then nothing is known, and not half an id given."""
        self.assertIsNone(parse_template("%u-%m").fill({"uid": b"1"}))
        self.assertEqual(parse_template("%u-%m").names, {"uid", "md5"})

    def test_refused(self) -> None:
        for text in ("", "same for all", "100%%", "%x", "%{user}", "%u%", "%5000u", "%{uid | rot13}",
                     "%{uid | hex(1,2)}", "%{uid | hex(-)}", "%{uid | hex(1001)}", "%{uid", "%{uid | }"):
            with self.assertRaises(ValueError):
                parse_template(text)

    @settings(deadline=None)
    @given(st.lists(PARTS, max_size=12).map("".join))
    def test_anything(self, text: str) -> None:
        """Any text is a template or is refused; what one makes is bounded."""
        try:
            template = parse_template(text)
        except ValueError:
            return
        filled = template.fill(VALUES)
        assert filled is not None
        self.assertLess(len(filled), 20_000)
