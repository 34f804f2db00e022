"""When a refusal leaves, by a clock: at the same time after the client's last word, whatever was wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailgate.auth.credentials import ITokenLogin, Refused
from mailgate.auth.sasl import Facts
from mailgate.model import Account
from mailgate.pop3.policy import Limits, Policy
from mailgate.testing.peers import Peer
from tests.auth.sasl.test_scram import Client
from tests.pop3.sasl_house import FAR_AWAY, PASSWORD, USER, SaslHouse

BEAT_SECONDS = 2.0
STEP_SECONDS = 1 / 64      # a sum of these is exact
ACCOUNTS = (USER, replace(USER, name="off", addresses=("off@example.org",), disabled=True),
            Account("bare", addresses=("bare@example.org",)))
NAMES = (b"user", b"off", b"bare", b"nobody", b"a@nowhere", b"b+nowhere", b"\xff\1")
MECHANISMS = (b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-1-PLUS", b"SCRAM-SHA-256", b"SCRAM-SHA-1", b"EXTERNAL",
              b"OAUTHBEARER", b"XOAUTH2", b"CRAM-MD5", b"PLAIN", b"LOGIN")
POLICY = Policy(hostname=b"mail.example.org", apop=True, mechanisms=MECHANISMS, plaintext_login=True,
                limits=Limits(failure_delay_seconds=BEAT_SECONDS, failure_growth=1))
BINDING = b"E" * 32


class Slow:
    """Work that takes so many seconds by the clock, on nobody's thread."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds

    def run(self, network: str, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return deferLater(self._clock, self._seconds, function, *args)


@implementer(ICredentialsChecker)
class Tokens:
    """Refuses every token, after some seconds."""

    credentialInterfaces = (ITokenLogin,)

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        return deferLater(self._clock, self._seconds, lambda: fail(Refused("no good")))


class Caller:
    """A client far away; `ask` returns the answer and the seconds that it took by the clock."""

    def __init__(self, check_seconds: float, name: bytes) -> None:
        self.clock = Clock()
        house = SaslHouse(ACCOUNTS, clock=self.clock, policy=POLICY,
                          further=[Tokens(self.clock, check_seconds)],
                          facts=Facts(bindings={b"tls-exporter": BINDING}, identities=(name,),
                                      hostname=b"mail.example.org"))
        house.checker._pool = Slow(self.clock, check_seconds)
        self.peer: Peer = house.connect(FAR_AWAY)
        self.greeting = bytes(self.peer.received)
        self.seconds = 0.0

    def say(self, line: bytes) -> bytes:
        self.peer.received.clear()
        self.peer.say(line + b"\r\n")
        self.seconds = 0.0
        while not self.peer.received:
            self.peer.advance(STEP_SECONDS, STEP_SECONDS)
            self.seconds += STEP_SECONDS
            assert self.seconds < 60, "no answer"
        return bytes(self.peer.received)

    def coded(self, octets: bytes) -> bytes:
        return self.say(base64.b64encode(octets))


def attempt(caller: Caller, mechanism: bytes, name: bytes, password: bytes) -> bytes:
    """Try to log in; return the first answer behind the last word that counts, and set `seconds`."""
    if mechanism == b"USER":
        caller.say(b"USER " + name)
        return caller.say(b"PASS " + password)
    if mechanism == b"APOP":
        stamp = caller.greeting.split()[-1]
        return caller.say(b"APOP %b %b" % (name, hashlib.md5(stamp + password).hexdigest().encode()))
    if mechanism == b"LOGIN":
        caller.say(b"AUTH LOGIN")
        caller.coded(name)
        return caller.coded(password)
    if mechanism == b"CRAM-MD5":
        challenge = base64.b64decode(caller.say(b"AUTH CRAM-MD5")[2:])
        return caller.coded(name + b" " + hmac.new(password, challenge, "md5").hexdigest().encode())
    if mechanism.startswith(b"SCRAM"):
        plus = mechanism.endswith(b"-PLUS")
        client = Client(password, name=name.replace(b",", b"=2C"),
                        gs2=b"p=tls-exporter,," if plus else b"n,,",
                        binding=BINDING if plus else b"",
                        algorithm="sha1" if mechanism.startswith(b"SCRAM-SHA-1") else "sha256")
        first = caller.say(b"AUTH %b %b" % (mechanism, base64.b64encode(client.first)))
        assert caller.seconds == 0.0, "the salt is told at once, whoever asks"
        return caller.coded(client.final(base64.b64decode(first[2:])))
    message = {b"PLAIN": b"\0%b\0%b" % (name, password), b"EXTERNAL": b"",
               b"OAUTHBEARER": b"n,a=%b,\1auth=Bearer abc\1\1" % name,
               b"XOAUTH2": b"user=%b\1auth=Bearer abc\1\1" % name}[mechanism]
    return caller.say(b"AUTH %b %b" % (mechanism, base64.b64encode(message) or b"="))


class RefusalTimeTests(SynchronousTestCase):
    def refusals(self, mechanism: bytes, check_seconds: float) -> set[tuple[bytes, float]]:
        """Return answers and times of every name with a right and a wrong password, but for who gets in."""
        found = set()
        names = [name for name in NAMES if mechanism in (b"USER", b"LOGIN") or b"\xff" not in name]
        for name in names:
            for password in (PASSWORD, b"wrong"):
                by_certificate = mechanism == b"EXTERNAL" and name in (b"user", b"bare")
                if by_certificate or (name, password) == (b"user", PASSWORD):
                    continue
                caller = Caller(check_seconds, name)
                answer = attempt(caller, mechanism, name, password)
                found.add((answer, caller.seconds))
                caller.peer.vanish()
        return found

    def test_every_mechanism(self) -> None:
        """One answer and one time for unknown, wrong, disabled, without a password, and not even a name."""
        for mechanism in (b"USER", b"APOP", *MECHANISMS):
            for check_seconds in (0.0, 1.9):
                found = self.refusals(mechanism, check_seconds)
                self.assertEqual(len(found), 1, (mechanism, check_seconds, found))
                answer, seconds = found.pop()
                self.assertEqual(seconds, BEAT_SECONDS, mechanism)
                told = b"+ " if mechanism in (b"OAUTHBEARER",
                                              b"XOAUTH2") else b"-ERR [AUTH] login refused\r\n"
                self.assertTrue(answer.startswith(told), (mechanism, answer))

    def test_a_check_that_takes_longer(self) -> None:
        """It leaves on the next beat: what the check took beyond the first one shows to a beat at most."""
        for check_seconds, seconds in ((2.1, 4.0), (3.9, 4.0), (4.1, 6.0)):
            self.assertEqual(self.refusals(b"PLAIN", check_seconds),
                             {(b"-ERR [AUTH] login refused\r\n", seconds)})

    def test_what_is_kept_is_good(self) -> None:
        """The same client gets in with the right password: it is not refused for another reason."""
        for mechanism in (b"USER", b"APOP", *MECHANISMS):
            if mechanism not in (b"OAUTHBEARER", b"XOAUTH2"):
                caller = Caller(0.3, b"user")
                answer = attempt(caller, mechanism, b"user", PASSWORD)
                if mechanism.startswith(b"SCRAM"):
                    answer = caller.say(b"")
                self.assertTrue(answer.startswith(b"+OK"), (mechanism, answer))
                caller.peer.vanish()
