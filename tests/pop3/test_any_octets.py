"""Any octets: nothing raises, every command has exactly one reply, and segments make no difference."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.pop3.policy import Policy
from tests.pop3.maildrops import Mail, mail_of
from tests.pop3.staging import AT_ONCE, Server

# the harness plays these tests on its own connection, too: examples are not drawn by chance, nor kept
ALSO_ELSEWHERE = (HealthCheck.differing_executors, HealthCheck.too_slow)

PATIENT = Policy(sdps=True, last=True, limits=replace(AT_ONCE, bad_commands=10_000, failed_logins=10_000))
MAILS = [mail_of(120), Mail(b".\n..\nH: x\n\n.\n"), Mail(b"", unique_id=b".id"),
         Mail(b"a\r\n" * 500, streamed=True)]

LISTING = (b"CAPA", b"LIST", b"UIDL", b"AUTH")      # multi-line without an argument
SENDING = (b"RETR", b"TOP", b"*ENV")                # multi-line in any case
LAST = (b"QUIT",)                                   # what comes behind it is not answered
VERBS = st.sampled_from([b"USER", b"PASS", b"AUTH", b"CAPA", b"STAT", b"LIST", b"UIDL", b"TOP", b"RETR",
                         b"*ENV", b"DELE", b"NOOP", b"RSET", b"LAST", b"STLS", b"APOP", b"XYZZY", b"rEtR",
                         b"list", b""])
WORDS = st.sampled_from([b"1", b"2", b"3", b"4", b"0", b"5", b"-1", b"mrose", b"secret", b"PLAIN", b"plain",
                         b"AG1yb3NlAHNlY3JldA==", b"AG1yb3NlAHdyb25n", b"x" * 300, b"99999999999",
                         b"=", b"*", b" ", b"", b"\0", b"\xff", b"\r", b"\t"])
# Hypothesis draws constants of the code under test, too, of whichever modules are loaded: QUIT is one.
NOISE = st.binary(max_size=30).map(lambda octets: octets.replace(b"\n", b"")).filter(
    lambda line: not line.upper().strip().startswith(LAST))
LINES = st.one_of(
    st.tuples(VERBS, st.lists(WORDS, max_size=3)).map(lambda parts: b" ".join([parts[0], *parts[1]])),
    st.sampled_from([b"USER mrose", b"PASS secret", b"AUTH PLAIN", b"RETR 2", b"UIDL", b"DELE 1", b"RSET"]),
    NOISE,
)
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])
CONVERSATIONS = st.lists(st.tuples(LINES, ENDS), max_size=25)


def reply_to(line: bytes, octets: bytes) -> bytes:
    """Return what is wrong with the octets that answer one line, or nothing."""
    status, end, rest = octets.partition(b"\r\n")
    if not end:
        return b"no whole reply"
    if status.startswith(b"-ERR ") or status == b"+ ":
        return rest and b"more than one line"
    if not status.startswith(b"+OK "):
        return b"no status"
    words = line.upper().split()
    multi_line = bool(words) and (words[0] in SENDING or (words[0] in LISTING and len(words) == 1))
    if not multi_line or not rest:
        return rest and b"a body where there is none"
    body = b"\r\n" + rest
    if body.find(b"\r\n.\r\n") != len(body) - 5:
        return b"a body that does not end at its end"
    return b""


class AnyOctetsTests(SynchronousTestCase):
    def one_by_one(self, conversation: list[tuple[bytes, bytes]], login: bool) -> bytes:
        """Say line by line, hold each to one reply, and return all that came."""
        server = Server(MAILS, policy=PATIENT)
        peer = server.log_in() if login else server.connect()
        peer.received.clear()
        came = b""
        for line, end in conversation:
            peer.say(line + end)
            octets = bytes(peer.received)
            peer.received.clear()
            came += octets
            in_exchange = octets.startswith((b"-ERR ", b"+OK ", b"+ "))
            self.assertTrue(in_exchange, (line, octets))
            self.assertEqual(reply_to(line, octets), b"", (line, octets))
        peer.vanish()
        self.assertEqual(server.left_behind(), [])
        self.assertTrue(all(drop.removed == [] for drop in server.realm.opened))
        return came

    def in_segments(self, conversation: list[tuple[bytes, bytes]], login: bool, cuts: list[int],
                    asynchronous: bool) -> bytes:
        """Say the same in other segments and return all that came."""
        server = Server(MAILS, policy=PATIENT, asynchronous=asynchronous)
        peer = server.log_in() if login else server.connect()
        peer.received.clear()
        octets = b"".join([line + end for line, end in conversation])
        edges = [0, *sorted(cut % (len(octets) + 1) for cut in cuts), len(octets)]
        for start, end in pairwise(edges):
            peer.say(octets[start:end])
        came = bytes(peer.received)
        peer.vanish()
        self.assertEqual(server.left_behind(), [])
        return came

    @settings(deadline=None, max_examples=400, derandomize=True, suppress_health_check=ALSO_ELSEWHERE)
    @given(CONVERSATIONS, st.booleans(), st.lists(st.integers(0, 1 << 30), max_size=6), st.booleans())
    def test_one_reply_each_in_any_segments(self, conversation: list[tuple[bytes, bytes]], login: bool,
                                            cuts: list[int], asynchronous: bool) -> None:
        """One reply a line, and the same octets in all however the lines were cut or the store answers."""
        came = self.one_by_one(conversation, login)
        self.assertEqual(self.in_segments(conversation, login, cuts, asynchronous), came)
        self.assertEqual(self.flushLoggedErrors(), [])

    @settings(deadline=None, max_examples=200, derandomize=True, suppress_health_check=ALSO_ELSEWHERE)
    @given(st.binary(max_size=2000), st.lists(st.integers(0, 1 << 30), max_size=6), st.booleans())
    def test_noise(self, octets: bytes, cuts: list[int], login: bool) -> None:
        """Random octets raise nothing and get one line an LF; what happens to ask for more is left out.

        So is what asks for less.
        """
        special = LISTING + SENDING + LAST
        assume(not any(line.upper().strip().startswith(special) for line in octets.split(b"\n")))
        came = self.in_segments([(octets, b"\n")], login, cuts, False)
        self.assertEqual(came.count(b"\r\n"), octets.count(b"\n") + 1)
        self.assertEqual(self.flushLoggedErrors(), [])
