"""Answers that sessions keep for one another: never another answer than a session would give by itself."""

from __future__ import annotations

from array import array

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.model import ScanListing
from mailgate.pop3.commands import RULES
from mailgate.pop3.conversation import KEPT_ANSWERS
from mailgate.pop3.effects import NOTHING
from mailgate.pop3.policy import Policy
from mailgate.pop3.session import Session, Table


class Listed:
    """A maildrop as a session sees it before it asks for anything."""

    def __init__(self, count: int = 5) -> None:
        self.listing = ScanListing(array("Q", range(100, 100 + count)), [b"id-%d" % n for n in range(count)])


def begun(maildrop: Listed, table: Table | None = None) -> Session:
    session = Session(table or Table(), Policy(last=True), plaintext_allowed=True)
    session.open()
    session._logged_in(maildrop)
    return session


def said(session: Session, chunk: bytes) -> bytes:
    """Return what a session answers to octets that come at once, as the shell asks for it."""
    reply = session.answer(chunk)
    if reply is None:
        session.receive(chunk)
        reply = b""
        while (turn := session.advance()) is not NOTHING:
            reply += turn.octets
    return reply if isinstance(reply, bytes) else reply.octets


LINES = st.sampled_from([
    b"NOOP", b"noop", b"STAT", b"STAT ", b"LIST", b"LIST 2", b"list 2", b"LIST 2 ", b"LIST 9", b"UIDL 3",
    b"UIDL", b"UIDL x", b"DELE 2", b"DELE 3", b"RSET", b"LAST", b"NOOP 1", b"XYZZY", b"", b"CAPA"])
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])
CHUNKS = st.lists(st.lists(st.tuples(LINES, ENDS).map(b"".join), min_size=1, max_size=6).map(b"".join),
                  max_size=12)


class KeptAnswerTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=100)
    @given(st.lists(CHUNKS, min_size=1, max_size=4), st.lists(st.integers(1, 40), max_size=5))
    def test_same_as_without(self, sessions: list[list[bytes]], cuts: list[int]) -> None:
        """Sessions that share a listing answer octet for octet as those that share nothing, in any pieces."""
        shared = Listed()
        for chunks in sessions:
            one, other = begun(shared), begun(Listed())
            other._known_answers = None
            for chunk in chunks:
                for cut in cuts:
                    if 0 < cut < len(chunk):
                        self.assertEqual(said(one, chunk[:cut]), said(other, chunk[:cut]))
                        chunk = chunk[cut:]
                self.assertEqual(said(one, chunk), said(other, chunk))
                other._known_answers = None

    def test_marks_are_minded(self) -> None:
        """After DELE nothing is taken from what others keep; after RSET it is again."""
        maildrop = Listed()
        self.assertEqual(said(begun(maildrop), b"STAT\r\nLIST 2\r\n"), b"+OK 5 510\r\n+OK 2 101\r\n")
        session = begun(maildrop)
        self.assertEqual(said(session, b"STAT\r\n"), b"+OK 5 510\r\n")
        said(session, b"DELE 2\r\n")
        self.assertEqual(said(session, b"STAT\r\n"), b"+OK 4 409\r\n")
        self.assertTrue(said(session, b"LIST 2\r\n").startswith(b"-ERR"))
        self.assertEqual(maildrop.listing.answers[b"STAT"], b"+OK 5 510\r\n")
        said(session, b"RSET\r\n")
        self.assertEqual(said(session, b"STAT\r\nLIST 2\r\n"), b"+OK 5 510\r\n+OK 2 101\r\n")

    def test_tables_that_say_otherwise(self) -> None:
        """A table with a NOOP or a conversation of its own neither takes nor keeps answers."""
        class Polite(Session):
            __slots__ = ()

            def on_noop(self) -> bytes:
                return b"+OK with pleasure\r\n"

        maildrop = Listed()
        said(begun(maildrop), b"NOOP\r\n")
        polite = Table(conversation=Polite)
        session = Polite(polite, Policy(), plaintext_allowed=True)
        session.open()
        session._logged_in(maildrop)
        self.assertEqual(said(session, b"NOOP\r\n"), b"+OK with pleasure\r\n")
        self.assertEqual(maildrop.listing.answers[b"NOOP"], b"+OK nothing done\r\n")
        self.assertFalse(Table({**RULES, b"NOOP": RULES[b"STAT"]}).keeps_answers)

    def test_little_is_kept(self) -> None:
        """Short answers to short lines, a few hundred of them; the rest is answered all the same."""
        maildrop = Listed(KEPT_ANSWERS * 2)
        session = begun(maildrop)
        for number in range(1, KEPT_ANSWERS * 2 + 1):
            self.assertEqual(said(session, b"LIST %d\r\n" % number), b"+OK %d %d\r\n" % (number, 99 + number))
        said(session, b"LIST" + b" " * 100 + b"\r\n")
        answers = maildrop.listing.answers
        self.assertEqual(len(answers), KEPT_ANSWERS)
        self.assertLess(max(map(len, answers)), 30)
        self.assertLess(max(map(len, answers.values())), 200)

    def test_bad_commands_in_a_row(self) -> None:
        """A kept answer ends the row of bad commands, as any other does."""
        maildrop = Listed()
        said(begun(maildrop), b"NOOP\r\n")
        session = begun(maildrop)
        for _ in range(3):
            said(session, b"XYZZY\r\n" * (session.policy.limits.bad_commands - 1))
            self.assertEqual(said(session, b"NOOP\r\n"), b"+OK nothing done\r\n")
        self.assertEqual(said(session, b"NOOP\r\nNOOP\r\n"), b"+OK nothing done\r\n" * 2)
