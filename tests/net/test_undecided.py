"""Logins that one checker refuses while another cannot be asked: no free guesses, and no wrong words."""

from __future__ import annotations

from typing import Any

from twisted.cred.credentials import IUsernamePassword
from twisted.cred.portal import Portal
from twisted.internet.address import IPv4Address
from twisted.internet.defer import fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailgate.auth.credentials import Refused
from mailgate.auth.portal import MailgatePortal
from mailgate.errors import StoreUnavailable, TooBusy, Undecided
from mailgate.net.failures import Failures, Growth
from mailgate.net.pop3 import POP3Factory
from mailgate.pop3.policy import Limits, Policy
from mailgate.testing.peers import Peer
from tests.pop3.staging import Realm

OUTAGE = b"-ERR [SYS/TEMP] try again later\r\n"


class Answering:
    """A checker with one answer."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def requestAvatarId(self, credentials: Any) -> Any:
        return fail(self.answer) if isinstance(self.answer, Exception) else succeed(self.answer)


class RowTests(SynchronousTestCase):
    def outcome(self, *answers: Any) -> Any:
        portal = MailgatePortal(Realm([]), [Answering(one) for one in answers])
        checker = portal.checkers[IUsernamePassword]
        return self.failureResultOf(checker.requestAvatarId(_Password())).value

    def test_who_could_not_be_asked(self) -> None:
        """Only where somebody has refused it is a refusal to whoever guesses."""
        down, busy, wrong = StoreUnavailable("down"), TooBusy("many"), Refused("wrong password")
        for row in ((wrong, down), (down, wrong), (wrong, busy), (busy, wrong, wrong)):
            self.assertIsInstance(self.outcome(*row), Undecided, row)
        self.assertIs(self.outcome(down), down)
        self.assertIs(self.outcome(busy, down), busy)
        self.assertIs(type(self.outcome(wrong, wrong)), Refused)


@implementer(IUsernamePassword)
class _Password:
    username, password = b"mrose", b"guess"


class GuessingTests(SynchronousTestCase):
    def test_each_waits_and_counts(self) -> None:
        """The answer is the outage's, in the time of a refusal; three end the connection."""
        clock = Clock()
        portal = MailgatePortal(Realm([]), [Answering(Refused("wrong")), Answering(StoreUnavailable("down"))])
        limits = Limits(failure_delay_seconds=2.0, failed_logins=3, failure_growth=2.0,
                        failure_delay_most_seconds=60.0)
        factory = POP3Factory(portal, policy=Policy(limits=limits, plaintext_login=True), clock=clock)
        self.assertEqual(factory.attempts.failures.growth, Growth.of(limits))
        peer = Peer(factory, clock=clock, address=IPv4Address("TCP", "192.0.2.7", 1024))
        waited = []
        for _ in range(3):
            peer.received.clear()
            peer.say(b"USER mrose\r\nPASS guess\r\n")
            passed = 0
            while OUTAGE not in peer.received and passed < 100:
                peer.advance(1)
                passed += 1
            waited.append(passed)
        self.assertTrue(peer.closed)
        self.assertEqual(waited, [2, 4, 8])
        self.assertGreater(factory.attempts.failures.begin("192.0.2.7", "somebody else"), 0)
        self.flushLoggedErrors(StoreUnavailable)

    def test_a_mere_outage_is_nobodys_fault(self) -> None:
        """Where nobody judged the password there is nothing to guess."""
        clock = Clock()
        portal = MailgatePortal(Realm([]), [Answering(StoreUnavailable("down"))])
        factory = POP3Factory(portal, policy=Policy(plaintext_login=True), clock=clock)
        peer = Peer(factory, clock=clock, address=IPv4Address("TCP", "192.0.2.7", 1024))
        for _ in range(5):
            peer.received.clear()
            peer.say(b"USER mrose\r\nPASS secret\r\n")
            self.assertIn(OUTAGE, peer.received)
        self.assertFalse(peer.closed)
        self.assertIsInstance(factory.attempts.failures, Failures)
        self.assertIsInstance(portal, Portal)
        self.flushLoggedErrors(StoreUnavailable)
