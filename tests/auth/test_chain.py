"""Checkers asked in order, other applications' among them."""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import (
    ANONYMOUS,
    AllowAnonymousAccess,
    FilePasswordDB,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.cred.credentials import Anonymous, IAnonymous, IUsernamePassword
from twisted.cred.error import LoginDenied, UnauthorizedLogin, UnhandledCredentials
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.checkers import CheckerChain, StoreChecker
from mailgate.auth.credentials import PasswordLogin
from mailgate.errors import LoginRefused, StoreUnavailable, TooBusy, Undecided
from tests.auth.staging import ALICE, Busy, Counted, fresh_path, store_with


class Says:
    """A checker that returns or raises what it is told to, and knows when it was asked."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, outcome: Any, asked: list[Any]) -> None:
        self._outcome = outcome
        self._asked = asked

    def requestAvatarId(self, credentials: Any) -> Any:
        self._asked.append(self._outcome)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class Chain(SynchronousTestCase):
    """CheckerChain."""

    def setUp(self) -> None:
        self.asked: list[Any] = []

    def ask(self, *outcomes: Any) -> Deferred[Any]:
        chain = CheckerChain([Says(outcome, self.asked) for outcome in outcomes])
        return chain.requestAvatarId(PasswordLogin(b"alice", b"open sesame"))

    def test_first_that_does_not_refuse(self) -> None:
        """Refusals of all kinds lead on; what is returned, ends it."""
        outcomes = [UnauthorizedLogin(), LoginRefused(), UnhandledCredentials(),
                    fail(UnauthorizedLogin()), fail(LoginRefused()), b"alice", b"never"]
        self.assertEqual(b"alice", self.successResultOf(self.ask(*outcomes)))
        self.assertEqual(outcomes[:6], self.asked)

    def test_in_order_and_one_at_a_time(self) -> None:
        """The second is asked after the first has refused."""
        first: Deferred[Any] = Deferred()
        outcome = self.ask(first, "alice")
        self.assertEqual([first], self.asked)
        self.assertNoResult(outcome)
        first.errback(UnauthorizedLogin())
        self.assertEqual("alice", self.successResultOf(outcome))

    def test_all_refuse(self) -> None:
        """One refusal comes out, of the kind that cred knows and of ours."""
        failure = self.failureResultOf(self.ask(UnauthorizedLogin(), LoginRefused()), LoginRefused)
        self.assertTrue(failure.check(UnauthorizedLogin))

    def test_outages(self) -> None:
        """A checker that is down keeps nobody of the others out, and makes nobody's password wrong."""
        for fault in (StoreUnavailable("x"), TooBusy("x")):
            for outcome in (fault, fail(fault)):
                with capturedLogs() as events:
                    self.assertEqual(b"alice", self.successResultOf(self.ask(outcome, b"alice")))
                self.assertEqual(["'x'"], [event["reason"] for event in events])
                for others in ((outcome, LoginRefused()), (LoginRefused(), outcome)):
                    self.failureResultOf(self.ask(*others), Undecided)
                self.failureResultOf(self.ask(fault), type(fault))
        first = self.failureResultOf(self.ask(TooBusy("1"), StoreUnavailable("2")), TooBusy)
        self.assertEqual("1", str(first.value))
        mixed = self.failureResultOf(self.ask(TooBusy("1"), StoreUnavailable("2"), LoginRefused()), Undecided)
        self.assertEqual("1 (others: LoginRefused)", str(mixed.value))

    def test_faults_end_it(self) -> None:
        """What is neither a refusal nor an outage is told as it is: the next checker is not asked."""
        for fault in (LoginDenied(), KeyError("bug")):
            for outcome in (fault, fail(fault)):
                self.asked.clear()
                self.failureResultOf(self.ask(outcome, b"alice"), type(fault))
                self.assertEqual([outcome], self.asked)

    def test_cancelled(self) -> None:
        """The checker that is at work hears of it; no other is asked."""
        heard: list[Any] = []
        outcome = self.ask(Deferred(heard.append), b"alice")
        outcome.cancel()
        self.failureResultOf(outcome, CancelledError)
        self.assertEqual(1, len(heard))
        self.assertEqual(1, len(self.asked))

    def test_kinds_of_credentials(self) -> None:
        """Each checker is asked for what it takes only."""
        chain = CheckerChain([Says(b"alice", self.asked), AllowAnonymousAccess()])
        self.assertEqual((IUsernamePassword, IAnonymous), chain.credentialInterfaces)
        self.assertEqual(ANONYMOUS, self.successResultOf(chain.requestAvatarId(Anonymous())))
        self.assertEqual([], self.asked)
        self.failureResultOf(CheckerChain([]).requestAvatarId(Anonymous()), UnhandledCredentials)

    def test_checkers_of_twisted(self) -> None:
        """In memory and in a file, behind the store's accounts."""
        path = str(fresh_path(self))
        with open(path, "wb") as file:
            file.write(b"carol:from a file\n")
        chain = CheckerChain([
            StoreChecker(store_with(ALICE).accounts, Counted()),
            InMemoryUsernamePasswordDatabaseDontUse(bob=b"builder"),
            FilePasswordDB(path),
        ])

        def ask(name: bytes, password: bytes) -> Deferred[Any]:
            return chain.requestAvatarId(PasswordLogin(name, password))

        self.assertEqual("alice", self.successResultOf(ask(b"alice", b"open sesame")).maildrop)
        self.assertEqual(b"bob", self.successResultOf(ask(b"bob", b"builder")))
        self.assertEqual(b"carol", self.successResultOf(ask(b"carol", b"from a file")))
        for name, password in [(b"alice", b"builder"), (b"bob", b"from a file"), (b"dave", b"x")]:
            self.failureResultOf(ask(name, password), LoginRefused)

    def test_busy_store(self) -> None:
        """A crowd cannot make a known password look wrong, nor keep the users of others out."""
        chain = CheckerChain([StoreChecker(store_with(ALICE).accounts, Busy()),
                              InMemoryUsernamePasswordDatabaseDontUse(bob=b"builder")])
        self.failureResultOf(chain.requestAvatarId(PasswordLogin(b"alice", b"open sesame")), Undecided)
        bob = chain.requestAvatarId(PasswordLogin(b"bob", b"builder"))
        self.assertEqual(b"bob", self.successResultOf(bob))
