"""What comes after DATA: what is stored of it, what ends it, and what keeps it out."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import MailLoop, MessageMalformed, MessageTooLarge, StoreUnavailable
from mailgate.interfaces import IMaildrop
from mailgate.lmtp.content import ChunkSource, Content
from mailgate.lmtp.policy import LmtpPolicy
from mailgate.lmtp.session import Session, Surroundings
from mailgate.model import Admission, Target
from mailgate.stores.memory import MemoryStore
from mailgate.wire.dots import unstuff
from mailgate.wire.lines import LineFramer
from tests.lmtp.staging import ARRIVED, RECEIVED, TO_A, ConversationCase, Server

OPENING = b"LHLO mx.example\r\nMAIL FROM:<s@y>\r\nRCPT TO:<a@x>\r\nDATA\r\n"

LINES = st.sampled_from([
    b"Subject: x", b"Received: y", b"", b".", b"..", b".x", b"x.", b"\t.", b"caf\xc3\xa9 \xff", b"x" * 998,
    b"y" * 5000])
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\n"])
CONTENTS = st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=12).map(b"".join)
PIECES = st.integers(1, 4000)


def stuffed(content: bytes) -> bytes:
    """Return what a client sends for a content that ends in CRLF, its bare LFs left bare."""
    return re.sub(rb"(?:\A|(?<=\r\n))\.", b"..", content)


class PropertyTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=80)
    @given(st.lists(CONTENTS, min_size=1, max_size=3), PIECES)
    def test_store_holds_the_crlf_form(self, contents: list[bytes], piece_octets: int) -> None:
        """Preamble, Received field and the message in CRLF form come back, in any segmentation."""
        contents = [content if content.endswith(b"\r\n") or not content else content + b"z\r\n"
                    for content in contents]
        clock = Clock()
        clock.advance(ARRIVED)
        store = MemoryStore(clock=clock)
        self.successResultOf(store.start())
        server = Server(clock=clock, store=store)
        peer = server.connect()
        peer.say(b"".join([OPENING + stuffed(content) + b".\r\n" for content in contents]), piece_octets)
        self.assertEqual(peer.received.count(b"\r\n250 2.0.0 stored"), len(contents))
        maildrop = self.successResultOf(store.open(Admission("a")))
        for number, content in enumerate(contents, 1):
            self.assertEqual(self.message(maildrop, number), (
                b"Return-Path: <s@y>\r\nDelivered-To: a@x\r\n" + RECEIVED.replace(b"ID-1", b"ID-%d" % number)
                + re.sub(rb"(?<!\r)\n", b"\r\n", content)))
        peer.vanish()
        self.successResultOf(store.stop())
        self.assertEqual(clock.getDelayedCalls(), [])

    def message(self, maildrop: IMaildrop, number: int) -> bytes:
        found = maildrop.fetch(number)
        if isinstance(found, Deferred):
            found = self.successResultOf(found)
        if not isinstance(found, bytes):
            pieces = iter(lambda: self.successResultOf(found.read()), b"")
            found = b"".join(pieces)
        return unstuff(found)

    @settings(deadline=None, max_examples=300)
    @given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"\0", b"a", b"bc"]), max_size=20).map(b"".join),
           st.integers(1, 5))
    def test_bare_cr_and_nul_are_found_over_any_cut(self, data: bytes, piece: int) -> None:
        """A message is refused when and only when it holds one, whatever the pieces are."""
        content = Content(LmtpPolicy(), b"")
        passed = b"".join([content.feed(data[at:at + piece]) for at in range(0, len(data), piece)])
        passed += content.finish()
        bad = bool(re.search(rb"\r(?!\n)|\0", data))
        self.assertEqual(content.fault is not None, bad)
        if not bad:
            self.assertEqual(passed, data)

    @settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=300), PIECES)
    def test_no_octets_raise(self, data: bytes, piece_octets: int) -> None:
        """Rubbish at any point of a conversation: replies, a close, never an exception."""
        for before in (b"", b"LHLO m\r\n", OPENING, OPENING[:-6] + b"BDAT 100\r\n"):
            server = Server()
            peer = server.connect()
            peer.say(before + data, piece_octets)
            peer.vanish()
            self.assertEqual(server.left_behind(), [])


class SmugglingTests(ConversationCase):
    def test_sequences_that_do_not_end_data(self) -> None:
        """D5: what follows LF.LF and its kin is text of the same message, not a command (SMTP smuggling)."""
        for sequence in (r"\n.\n", r"\n.\r\n", r"\r\n.\n", r"\n\n.\n\n"):
            content = (r"one" + sequence + r"MAIL FROM:<evil@y>").encode().decode("unicode_escape").encode()
            crlf = content + b"\r\n"
            self.converse(TO_A + f"""
                C: DATA
                S: 354 *
                C: one{sequence}\\c
                C: MAIL FROM:<evil@y>
                C: .
                S: 250 2.0.0 stored, id ID-1
                C: NOOP
                S: 250 2.0.0 ok
                """, stored=[crlf.replace(b"\r\n.", b"\r\n")])

    def test_bare_cr(self) -> None:
        """D5: CR.CR and its kin end nothing either, and the message is refused for every recipient."""
        for sequence in (r"\r.\r", r"\r\n.\r", r"\r.\r\n", r"\r\r\n.\r\r\n", r"\r\n.\0\r\n"):
            self.converse(TO_A + f"""
                C: RCPT TO:<b@x>
                S: 250 *
                C: DATA
                S: 354 *
                C: one{sequence}\\c
                C: MAIL FROM:<evil@y>
                C: .
                S: 550 5.6.0 *
                S: 550 5.6.0 *
                C: NOOP
                S: 250 2.0.0 ok
                """, stored=[])


class SiftingTests(ConversationCase):
    def played(self, lines: str, stored: list[bytes], reply: str = "250 2.0.0 stored*",
               policy: LmtpPolicy = LmtpPolicy()) -> None:
        said = "\n".join(f"C: {line}" for line in lines.split("\n"))
        script = f"C: DATA\nS: 354 *\n{said}\nC: .\nS: {reply}\nC: NOOP\nS: 250 2.0.0 ok"
        self.converse(TO_A + script, stored=stored, policy=policy)

    def test_return_path_is_dropped(self) -> None:
        """Exactly one in the delivered message: ours (RFC 5321 section 4.4)."""
        self.played("Return-Path: <other@y>\\r\\n (folded)\nSubject: s\n\nReturn-Path: text",
                    [b"Subject: s\r\n\r\nReturn-Path: text\r\n"])

    def test_only_a_return_path(self) -> None:
        """A header that is nothing else leaves nothing."""
        self.played("Return-Path: <other@y>", [b""])

    def test_received_fields_show_a_loop(self) -> None:
        """554 5.4.6 at 100 Received fields (RFC 5321 section 6.3); those in the body do not count."""
        hops = "\n".join(["Received: from a by b"] * 99)
        body = "\n".join(["Received: in the text"] * 200)
        wire = (hops + "\n\n" + body + "\n").replace("\n", "\r\n").encode()
        self.played(f"{hops}\n\n{body}", [wire])
        self.played(f"{hops}\nreceived: once more\n\n{body}", [], reply="554 5.4.6 *")
        self.played("Received: 1\nReceived: 2", [], reply="554 5.4.6 *", policy=LmtpPolicy(received_limit=2))

    def test_8_bit_and_long_lines(self) -> None:
        """D6: octets are kept, lines of any length too; BODY=7BIT is not held against a message."""
        self.played("Subject: \\xff\n\n" + "x" * 998 + "\n" + "y" * 5000,
                    [b"Subject: \xff\r\n\r\n" + b"x" * 998 + b"\r\n" + b"y" * 5000 + b"\r\n"])

    def test_dots(self) -> None:
        """One leading dot of a line goes (RFC 5321 section 4.5.2)."""
        self.played("..\n...x\n.y\n\nz.", [b".\r\n..x\r\ny\r\n\r\nz.\r\n"])


class SessionTests(SynchronousTestCase):
    def session(self, tls: bool = False) -> Session:
        return Session(LmtpPolicy(), Surroundings("mail.example", None, tls, lambda: 0, lambda ms: "ID"))

    def test_tls_is_recorded(self) -> None:
        """The `with` keywords of RFC 3848 and RFC 6531 section 4.3."""
        for parameters, keyword in ((b"", b"LMTPS"), (b" SMTPUTF8", b"UTF8LMTPS")):
            session = self.session(tls=True)
            session.receive(b"LHLO m\r\nMAIL FROM:<>%b\r\nRCPT TO:<a@x>\r\nDATA\r\n.\r\n" % parameters)
            session.advance()
            session.outcome(Target("a"))
            write = session.advance()[-1]
            self.assertIn(b" with %b id ID" % keyword, write.content)   # type: ignore[union-attr]

    def test_a_turn_is_bounded(self) -> None:
        """Many pipelined commands do not make one huge write: the shell feels back-pressure."""
        session = self.session()
        session.receive(b"HELP\r\n" * 20000)
        turn = session.advance()
        octets = sum(len(effect) for effect in turn if isinstance(effect, bytes))
        self.assertLess(octets, 65 * 1024)
        self.assertGreater(session.pending, 0)

    def test_chunk_source_leaves_the_rest(self) -> None:
        """A chunk takes its octets and not one more."""
        lines = LineFramer(100)
        lines.feed(b"abcdeNOOP\r\n")
        source = ChunkSource(5, True)
        self.assertEqual(source.take(lines), b"abcde")
        self.assertTrue(source.ended)
        self.assertEqual(lines.next_line(), b"NOOP")


class FaultTests(SynchronousTestCase):
    def test_what_counts_most(self) -> None:
        """Of several faults one is told, whichever octet came first and wherever they were cut."""
        policy = LmtpPolicy(size_octets=20, received_limit=1)
        loop, nul, cr, long = b"Received: x\r\n", b"a\0b\r\n", b"a\rb\r\n", b"x" * 30 + b"\r\n"
        for parts, kind in (([nul, long], MessageTooLarge), ([long, nul], MessageTooLarge),
                            ([loop, nul], MessageMalformed), ([nul, loop], MessageMalformed),
                            ([loop, cr], MessageMalformed), ([loop, loop, cr], MessageTooLarge),
                            ([loop], MailLoop)):
            for pieces in (parts, [b"".join(parts)], [bytes([octet]) for octet in b"".join(parts)]):
                content = Content(policy, b"")
                for piece in pieces:
                    content.feed(piece)
                content.finish()
                self.assertIs(type(content.fault), kind, pieces)

    def test_the_stores_own_fault(self) -> None:
        """It stays the one that is told: the message may be put right in vain."""
        content = Content(LmtpPolicy(), b"")
        content.fault = StoreUnavailable("full")
        content.feed(b"a\0\r\n")
        self.assertIsInstance(content.fault, StoreUnavailable)


class PolicyTests(SynchronousTestCase):
    def test_bounds_that_a_client_may_rely_on(self) -> None:
        """RFC 5321 sections 4.5.3.1.4 and 4.5.3.1.8."""
        self.assertRaises(ValueError, LmtpPolicy, recipients=99)
        self.assertRaises(ValueError, LmtpPolicy, command_octets=511)
