"""Octets of replies that are not what they should be, shown one by one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.testing.trouble.scene import LIST, NOOP, RETR_1, RETR_2, STAT, TWO, FaultCase

STATUS = RETR_1[:RETR_1.index(b"\n") + 1]
BODY = b"hello\r\n..dot\r\n"


class ContentCase(FaultCase):
    def setUp(self) -> None:
        super().setUp()
        self.client = self.log_in()

    def reply(self, do: str, given: bytes = b"RETR 1", **settings: object) -> bytes:
        """Return a reply that a fault meets, between two that it does not."""
        with self.fault(do, command=given.split()[0].decode(), **settings):
            reply = self.said(self.client, b"NOOP\r\n" + given + b"\r\nNOOP")
        self.assertTrue(reply.startswith(NOOP) and reply.endswith(NOOP), reply)
        return reply[len(NOOP):-len(NOOP)]


class OctetTests(ContentCase):
    """insert, replace, corrupt, truncate."""

    def test_insert(self) -> None:
        for where, before, behind in (
                ({}, b"", RETR_1), ({"at": 5}, RETR_1[:5], RETR_1[5:]), ({"at": -1}, RETR_1[:-1], b"\n"),
                ({"inside": "end"}, RETR_1, b""), ({"inside": "terminator"}, RETR_1[:-3], b".\r\n"),
                ({"at": 0, "of": "content"}, STATUS, RETR_1[len(STATUS):])):
            self.assertEqual(self.reply("insert", text={"hex": "00ff"}, **where), before + b"\0\xff" + behind)

    def test_insert_everywhere(self) -> None:
        """In every line, or every second."""
        self.assertEqual(self.reply("insert", b"LIST", text="* ", inside="line", every=1),
                         b"* " + LIST[:-2].replace(b"\r\n", b"\r\n* ") + b"\r\n")
        self.assertEqual(self.reply("insert", b"LIST", text="* ", inside="line", every=2,
                                    of="content").count(b"*"),
                         1)

    def test_garbage_between_replies(self) -> None:
        self.assertEqual(self.reply("insert", b"STAT", text="* BYE\r\n", inside="end"), STAT + b"* BYE\r\n")

    def test_replace(self) -> None:
        self.assertEqual(self.reply("replace", find="l", put="LL"), RETR_1.replace(b"l", b"LL"))
        self.assertEqual(self.reply("replace", find="l", put="", nth=2), RETR_1.replace(b"hello", b"helo"))
        self.assertEqual(self.reply("replace", find="l", put="", nth=9), RETR_1)

    def test_corrupt(self) -> None:
        """So many octets, none of them of a line end; the same in every run."""
        changed = [self.reply("corrupt", octets=5) for _ in range(2)]
        for reply in changed:
            differing = [at for at in range(len(RETR_1)) if reply[at] != RETR_1[at]]
            self.assertEqual((len(reply), len(differing)), (len(RETR_1), 5))
            self.assertFalse({RETR_1[at] for at in differing} & {10, 13})
            self.assertGreaterEqual(min(differing), len(STATUS))
        self.assertNotEqual(*changed)       # another time, other octets

    def test_corrupt_at(self) -> None:
        reply = self.reply("corrupt", at=20, octets=2)
        self.assertEqual([at for at in range(len(RETR_1)) if reply[at] != RETR_1[at]], [20, 21])

    def test_truncate(self) -> None:
        at = RETR_1.index(b"hello") + 3
        self.assertEqual(self.reply("truncate", at=at), RETR_1[:at] + b"\r\n.\r\n")
        self.assertEqual(self.reply("truncate", at=at, ends=False), RETR_1[:at])
        self.assertEqual(self.reply("truncate", inside="body"), RETR_1[:RETR_1.index(b"hello")] + b".\r\n")
        self.assertEqual(self.reply("truncate", inside="dot"), RETR_1[:-2])

    @settings(deadline=None, max_examples=20)
    @given(st.integers(0, len(RETR_1)), st.binary(max_size=5))
    def test_any_octets_anywhere(self, at: int, octets: bytes) -> None:
        self.assertEqual(self.reply("insert", text=octets, at=at), RETR_1[:at] + octets + RETR_1[at:])


class LineTests(ContentCase):
    """line_ends, stuffing, terminator."""

    def test_line_ends(self) -> None:
        self.assertEqual(self.reply("line_ends"), RETR_1.replace(b"\r\n", b"\n"))
        self.assertEqual(self.reply("line_ends", end="\r"), RETR_1.replace(b"\r\n", b"\r"))
        self.assertEqual(self.reply("line_ends", of="status"), STATUS[:-2] + b"\n" + RETR_1[len(STATUS):])
        self.assertEqual(self.reply("line_ends", of="terminator"), RETR_1[:-2] + b"\n")
        self.assertEqual(self.reply("line_ends", of="content", every=2), RETR_1.replace(
            b"one\r\n\r\n", b"one\r\n\n").replace(b"dot\r\n", b"dot\n"))
        self.assertEqual(self.reply("line_ends", b"STAT"), STAT[:-2] + b"\n")

    def test_stuffing(self) -> None:
        self.assertEqual(self.reply("stuffing"), RETR_1.replace(b"..dot", b".dot"))
        self.assertEqual(self.reply("stuffing", how="twice"), RETR_1.replace(b"..dot", b"...dot"))
        self.assertEqual(self.reply("stuffing", how="every"),
                         STATUS + b".Subject: one\r\n.\r\n.hello\r\n...dot\r\n.\r\n")

    def test_terminator(self) -> None:
        bare = RETR_1[:-3]
        for how, reply in (("missing", bare), ("doubled", RETR_1 + b".\r\n"),
                           ("blank_behind", bare + b". \r\n"),
                           ("blank_before", bare + b" .\r\n"), ("lf", bare + b".\n"), ("cr", bare + b".\r"),
                           ("glued", bare[:-2] + b".\r\n"),
                           ("early", RETR_1.replace(b"\r\n\r\nhello", b"\r\n\r\n.\r\nhello"))):
            self.assertEqual(self.reply("terminator", how=how), reply)
        self.assertEqual(self.reply("terminator", how="early", line=1),
                         RETR_1.replace(b"one\r\n", b"one\r\n.\r\n"))
        self.assertEqual(self.reply("terminator", b"LIST", how="missing"), LIST[:-3])
        self.assertEqual(self.reply("terminator", b"STAT", how="doubled"), STAT)
        self.assertEqual(self.reply("terminator", b"LIST 1"), b"+OK 1 29\r\n")


class HeaderTests(ContentCase):
    """header: broken in many ways."""

    def header(self, how: str, **settings: object) -> bytes:
        """Return what is made of the message's content."""
        return self.reply("header", how=how, **settings)[len(STATUS):-3]

    def test_header(self) -> None:
        field, blank = b"Subject: one\r\n", b"\r\n"
        for how, content in (
                ("none", blank + BODY), ("only", field), ("unended", field + BODY),
                ("empty_line_first", blank + field + blank + BODY),
                ("folded_first", b" folded behind nothing\r\n" + field + blank + BODY),
                ("colonless", field + b"this line has no colon\r\n" + blank + BODY),
                ("nameless", field + b": a field without a name\r\n" + blank + BODY),
                ("nul", field + b"X-Nul: a\0b\r\n" + blank + BODY),
                ("eight_bit", field + b"X-Eight-Bit: caf\xe9\r\n" + blank + BODY),
                ("twice", field + field + blank + BODY),
                ("changing", field + b"X-Session: 1\r\n" + blank + BODY)):
            self.assertEqual(self.header(how), content)
        self.assertTrue(self.header("mbox_line").startswith(b"From "))
        self.assertEqual(self.header("many", fields=300).count(b"\r\nX-Field-"), 300)
        self.assertIn(b"=?no-such-charset?", self.header("bad_encoded_word"))

    def test_changes_from_session_to_session(self) -> None:
        self.fault("header", how="changing", command="RETR 2")
        first = self.said(self.client, b"RETR 2")
        self.leave(self.client)
        self.assertEqual(self.said(self.log_in(), b"RETR 2"), first.replace(b"X-Session: 1", b"X-Session: 2"))
        self.assertEqual(first.replace(b"X-Session: 1\r\n", b""), RETR_2)
        self.assertIn(TWO[-6:], first)
