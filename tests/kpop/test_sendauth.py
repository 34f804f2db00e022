"""The sendauth exchange without I/O: at every cut, in one burst, with wrong versions and lengths."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.kpop.sendauth import (
    DONE,
    REQUEST_OCTETS,
    VERSION_OCTETS,
    Denied,
    Exchange,
    GiveUp,
    Granted,
    Judge,
    framed,
)

SENDAUTH = bytes.fromhex("00000013") + b"KRB5_SENDAUTH_V1.0\0"
KPOP = bytes.fromhex("00000009") + b"KPOPV1.0\0"
REQUEST = b"\x6e\x82" + bytes(range(256)) * 3
WHOLE = SENDAUTH + KPOP + framed(REQUEST)
REPLY = b"\x6f" + b"r" * 84


class Played:
    """What came of an exchange: octets sent, in order, the requests judged, and how it ended."""

    def __init__(self, result: Granted | Denied, versions: tuple[str, ...] = ("KPOPV1.0",)) -> None:
        self.exchange = Exchange(versions)
        self.result = result
        self.sent = b""
        self.judged: list[bytes] = []
        self.ended: object = None

    def say(self, octets: bytes) -> None:
        self.exchange.receive(octets)
        while self.ended is None:
            turn = self.exchange.advance()
            self.sent += turn.octets
            if isinstance(turn.then, Judge):
                self.judged.append(turn.then.request)
                turn = self.exchange.outcome(self.result)
                self.sent += turn.octets
            if turn.then is not None:
                self.ended = turn.then
            elif not turn.octets:
                break


def play(*pieces: bytes, result: Granted | Denied = Granted(),
         versions: tuple[str, ...] = ("KPOPV1.0",)) -> Played:
    played = Played(result, versions)
    for piece in pieces:
        played.say(piece)
    return played


class ExchangeTests(SynchronousTestCase):
    def test_measured_exchange(self) -> None:
        """Items 1 and 2 in one segment, then the AP-REQ; the AP-REP follows the empty message."""
        played = Played(Granted(REPLY))
        played.say(SENDAUTH + KPOP)
        self.assertEqual((played.sent, played.ended), (b"\x00", None))
        played.say(framed(REQUEST))
        self.assertEqual(played.sent, b"\x00" + b"\0\0\0\0" + b"\0\0\0\x55" + REPLY)
        self.assertEqual((played.judged, played.ended, played.exchange.rest), ([REQUEST], DONE, b""))

    def test_not_mutual(self) -> None:
        """Without an AP-REP the empty message is all."""
        self.assertEqual(play(WHOLE).sent, b"\x00\0\0\0\0")

    def test_octet_by_octet(self) -> None:
        """Nothing is said before both strings are whole, and one octet then."""
        played = Played(Granted())
        for at in range(len(WHOLE)):
            played.say(WHOLE[at:at + 1])
            said = b"" if at < len(SENDAUTH + KPOP) - 1 else b"\0" if at < len(WHOLE) - 1 else b"\0" * 5
            self.assertEqual(played.sent, said, at)
        self.assertEqual(played.ended, DONE)

    def test_every_cut(self) -> None:
        """Two segments, cut anywhere; what comes behind the exchange is kept for POP3."""
        octets = WHOLE + b"USER alice\r\n"
        for at in range(len(octets) + 1):
            played = play(octets[:at], octets[at:], result=Granted(REPLY))
            self.assertEqual(played.sent, b"\0" + framed(b"") + framed(REPLY), at)
            self.assertEqual((played.judged, played.ended), ([REQUEST], DONE), at)
            self.assertEqual(played.exchange.rest, b"USER alice\r\n", at)

    def test_denied(self) -> None:
        """The KRB-ERROR is framed, and all ends; without one it ends in silence."""
        for reply, sent in ((b"\x7eerror", b"\0\0\0\0\x06\x7eerror"), (b"", b"\0")):
            played = play(WHOLE + b"USER alice\r\n", result=Denied(reply))
            self.assertEqual(played.sent, sent)
            self.assertEqual(played.ended, GiveUp(""))
            self.assertEqual(played.exchange.pending, 0)

    def test_nothing_advances_while_a_request_is_judged(self) -> None:
        """What follows waits, whatever it is."""
        exchange = Exchange()
        exchange.receive(WHOLE)
        self.assertEqual(exchange.advance().octets, b"\0")
        self.assertEqual(exchange.advance().then, Judge(REQUEST))
        exchange.receive(WHOLE)
        self.assertEqual(exchange.advance(), (b"", None))
        self.assertEqual(exchange.pending, len(WHOLE))


class VersionTests(SynchronousTestCase):
    def test_wrong_sendauth_version(self) -> None:
        """`01`, after both strings were read, as MIT answers; the AP-REQ of a burst is not judged."""
        for wrong in (b"KRB5_SENDAUTH_V2.0\0", b"KRB5_SENDAUTH_V1.0", b"KRB5_SENDAUTH_V1.0\0\0", b"", b"\0"):
            played = Played(Granted())
            played.say(framed(wrong))
            self.assertEqual((played.sent, played.ended), (b"", None))
            played.say(KPOP + framed(REQUEST))
            self.assertEqual((played.sent, played.judged), (b"\x01", []), wrong)
            self.assertEqual(played.ended, GiveUp("another sendauth version"))

    def test_wrong_application_version(self) -> None:
        """`02`; the NUL is part of the string."""
        for wrong in (b"KPOPV0.9\0", b"KPOPV1.0", b"kpopV1.0\0", b"justjunk\0", b""):
            played = play(SENDAUTH + framed(wrong))
            self.assertEqual(played.sent, b"\x02", wrong)
            self.assertEqual(played.ended, GiveUp("another application version"))

    def test_both_wrong(self) -> None:
        """The first is told."""
        self.assertEqual(play(framed(b"x") + framed(b"y")).sent, b"\x01")

    def test_further_versions(self) -> None:
        """Eudora's word, where it is configured."""
        played = play(SENDAUTH + framed(b"justjunk\0") + framed(REQUEST), versions=("KPOPV1.0", "justjunk"))
        self.assertEqual((played.sent, played.ended), (b"\0" * 5, DONE))


class LengthTests(SynchronousTestCase):
    def ended(self, *pieces: bytes) -> tuple[bytes, str]:
        played = play(*pieces)
        assert isinstance(played.ended, GiveUp), played.ended
        self.assertEqual((played.judged, played.exchange.pending), ([], 0))
        return played.sent, played.ended.reason

    def test_strangers(self) -> None:
        """A POP3 client is known by its first four octets and gets none; so are others."""
        for first in (b"USER alice\r\n", b"CAPA\r\n", b"QUIT\r\n", b"user", b"STLS"):
            self.assertEqual(self.ended(first), (b"", "a POP3 client on the KPOP port"))
        self.assertEqual(self.ended(b"AUTHV0.1KPOPV0.1"), (b"", "a POP3 client, or one of Kerberos 4"))
        self.assertEqual(self.ended(b"\x16\x03\x01\x02\x00"), (b"", "TLS where none is spoken"))
        for first in (b"\xff\xff\xff\xff", b"\0\0\0\x41", b"\r\n\r\n", b"\x13\0\0\0"):
            self.assertEqual(self.ended(first), (b"", "no sendauth exchange"))

    def test_caps(self) -> None:
        """A length past its limit ends all as soon as it is read; at its limit it is waited for."""
        self.assertEqual(self.ended(SENDAUTH, (VERSION_OCTETS + 1).to_bytes(4, "big"))[0], b"\x02")
        self.assertEqual(self.ended(framed(b"x"), b"\x7f\xff\xff\xff")[0], b"\x01")
        sent, reason = self.ended(SENDAUTH + KPOP, (REQUEST_OCTETS + 1).to_bytes(4, "big"))
        self.assertEqual((sent, reason), (b"\0", "an AP-REQ of 65537 octets"))
        largest = play(SENDAUTH + KPOP + framed(b"n" * REQUEST_OCTETS))
        self.assertEqual((len(largest.judged[0]), largest.ended), (REQUEST_OCTETS, DONE))

    def test_fetchmail_without_a_ticket(self) -> None:
        """It says QUIT where the AP-REQ belongs."""
        self.assertEqual(self.ended(SENDAUTH + KPOP, b"QUIT\r\n"),
                         (b"\0", "the client has no ticket and gave up"))

    @settings(deadline=None, max_examples=300)
    @given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([SENDAUTH, KPOP, framed(REQUEST)])),
                    max_size=6))
    def test_any_octets(self, pieces: list[bytes]) -> None:
        """Nothing raises, grows past what was said, or says more than a client can expect."""
        played = play(*pieces, result=Denied(b"e"))
        self.assertIn(played.sent, (b"", b"\0", b"\x01", b"\x02", b"\0" + framed(b"e")))
        whole = play(b"".join(pieces), result=Denied(b"e"))
        self.assertEqual((whole.sent, whole.judged, whole.ended), (played.sent, played.judged, played.ended))
