"""Paths of MAIL and RCPT: what is taken, what is left out, what is refused (RFC 5321 section 4.1.2)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import BadAddress
from mailgate.lmtp.paths import path_key, read_forward_path, read_reverse_path

ATEXT = "abcXYZ019!#$%&'*+-/=?^_`{|}~"
ATOMS = st.text(st.sampled_from(ATEXT + "\u00e4\u6f22"), min_size=1, max_size=8)
DOTTED = st.lists(ATOMS, min_size=1, max_size=4).map(".".join)
QTEXT = st.sampled_from([*" @<>,:;[]().ab\u00e4", '\\"', "\\\\", "\\ "])
QUOTED = st.lists(QTEXT, max_size=8).map(lambda parts: '"' + "".join(parts) + '"')
LABELS = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?", fullmatch=True)
DOMAINS = st.lists(st.one_of(LABELS, st.just("m\u00fcnchen")), min_size=1, max_size=4).map(".".join)
IPV4 = st.ip_addresses(v=4).map(lambda address: f"[{address}]")
IPV6 = st.ip_addresses(v=6).map(lambda address: f"[IPv6:{address}]")
MAILBOXES = st.tuples(st.one_of(DOTTED, QUOTED), st.one_of(DOMAINS, IPV4, IPV6)).map("@".join)
ROUTES = st.one_of(st.just(""), st.lists(DOMAINS, min_size=1, max_size=3).map(
    lambda hosts: ",".join("@" + host for host in hosts) + ":"))

SCRAPS = st.sampled_from([b"<", b">", b"@", b'"', b"\\", b"a", b".", b":", b",", b"[", b"]", b" ", b"\r",
                          b"\n", b"\0", b"\xc3\xa4", b"\xff", b"IPv6:", b"1.2.3.4", b"-"])
NO_PATHS = rb"""
    a@x  <a@x  a@x>  <a@x>y  <a@>  <@x>  <a@@x>  <a@-x>  <a@x->  <a@x..y>  <a@.x>  <a@x.>  <a@[1.2.3]>
    <a@[1.2.3.400]>  <a@[]>  <a@[IPv6:::1%lo]>  <a@[IPv6:nonsense]>  <"a@x>  <"a"b@x>  <@r:>  <"q">
    <<a@x>>  <a@x:25>
    """.split()
NO_PATHS += [b"", b"<a b@x>", b"<a@x y>", b'<"a\r"@x>', b"<@r a@x>", b"<a@x\0>", b"<a@x>\tSIZE=1",
             b"<\xff@x>", b"<a@\xff>"]


class ReadingTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=400)
    @given(MAILBOXES, ROUTES, st.sampled_from(["", " SIZE=1", " "]))
    def test_what_the_grammar_makes_is_read(self, mailbox: str, route: str, rest: str) -> None:
        """Every mailbox comes back as it was written, without its route, and what follows stays."""
        text = f"<{route}{mailbox}>{rest}".encode()
        self.assertEqual(read_forward_path(text), (mailbox.encode(), rest.encode()))
        self.assertEqual(read_reverse_path(text), (mailbox.encode(), rest.encode()))

    @settings(deadline=None, max_examples=600)
    @given(st.one_of(st.binary(max_size=60), st.lists(SCRAPS, max_size=20).map(b"".join)))
    def test_nothing_else_gets_through(self, text: bytes) -> None:
        """Whatever comes: a BadAddress, or a path that is one line of UTF-8 without brackets' ends."""
        for read in (read_reverse_path, read_forward_path):
            try:
                path, rest = read(b"<" + text + b">")
            except BadAddress:
                continue
            path.decode()
            self.assertNotRegex(path, rb"[\x00-\x1f\x7f]")
            self.assertTrue(text.endswith(b">" + rest[:-1]) if rest else text.endswith(path))
            if b'"' not in path:
                self.assertNotRegex(path, rb"[<>\s,]")

    def test_special_paths(self) -> None:
        """The null reverse-path; Postmaster and account names without a domain."""
        self.assertEqual(read_reverse_path(b"<>"), (b"", b""))
        self.assertEqual(read_reverse_path(b"  <a@x>"), (b"a@x", b""))
        self.assertEqual(read_forward_path(b"<postMASTER>"), (b"postMASTER", b""))
        self.assertEqual(read_forward_path(b"<fred>"), (b"fred", b""))

    def test_refused(self) -> None:
        """What is no path, in forward and in reverse."""
        for text in NO_PATHS:
            for read in (read_reverse_path, read_forward_path):
                self.assertRaises(BadAddress, read, text)
        self.assertRaises(BadAddress, read_forward_path, b"<>")
        self.assertRaises(BadAddress, read_reverse_path, b"<fred>")

    def test_more_liberal_than_the_grammar(self) -> None:
        """Dots anywhere in a local part, underscores in a domain, local parts past 64 octets."""
        for path in (b"a..b@x", b".a.@x", b"a@under_score.x", b"v" * 200 + b"@x"):
            self.assertEqual(read_reverse_path(b"<" + path + b">"), (path, b""))

    def test_general_literal(self) -> None:
        """A tagged literal of a kind that is not IPv6 (RFC 5321 section 4.1.3)."""
        self.assertEqual(read_reverse_path(b"<a@[X-tag:some/thing]>")[0], b"a@[X-tag:some/thing]")


class KeyTests(SynchronousTestCase):
    def test_case(self) -> None:
        """Domains compare without case, local parts with it (RFC 5321 section 2.4)."""
        self.assertEqual(path_key(b"A@X.Y"), path_key(b"A@x.y"))
        self.assertNotEqual(path_key(b"A@x"), path_key(b"a@x"))
        self.assertEqual(path_key(b'"A@B"@X'), b'"A@B"@x')
        self.assertEqual(path_key(b"Postmaster"), b"Postmaster")
