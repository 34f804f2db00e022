"""What a portal's checkers answer to mechanisms with a challenge: several of them, strangers, outages."""

from __future__ import annotations

import os
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.answers import KEPT_SECONDS, Answers
from mailgate.auth.checkers import CheckerChain, StoreChecker
from mailgate.auth.credentials import NamedLogin, ProvenLogin, Vouch
from mailgate.auth.hashing import Inline
from mailgate.auth.keeping import verifiers_for
from mailgate.auth.passwdfile import PasswdFileChecker
from mailgate.auth.portal import MailgatePortal
from mailgate.auth.realm import MaildropRealm
from mailgate.auth.sasl import ScramQuestion
from mailgate.errors import LoginRefused, StoreUnavailable
from mailgate.interfaces import IMaildrop
from mailgate.model import Account
from tests.auth.staging import fresh_path, store_with

KEPT = verifiers_for([b"secret"], ("scram",))
ALICE = Account("alice", verifiers=KEPT, addresses=("alice@example.org",))
HASH_ONLY = Account("plain", verifiers=verifiers_for([b"secret"]), addresses=("plain@example.org",))
QUESTION = ScramQuestion("SCRAM-SHA-256", b"alice")


class AnswersCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = store_with(ALICE)
        self.checker = StoreChecker(self.store.accounts, Inline())
        self.path = fresh_path(self)
        self.path.write_text(f"bob:{KEPT[1]}\nlocked:*\n")
        self.file = PasswdFileChecker(str(self.path), Inline())

    def answers(self, *checkers: Any) -> Answers:
        return Answers(MailgatePortal(MaildropRealm(self.store), checkers), self.clock.seconds)

    def ask(self, answers: Answers, name: bytes, scheme: str = "SCRAM-SHA-256") -> Any:
        return self.successResultOf(answers.answer(ScramQuestion(scheme, name)))


class SecretTests(AnswersCase):
    def test_first_that_has_it(self) -> None:
        """Each name's own checker vouches; in a plain Portal too."""
        for answers in (self.answers(self.checker, self.file),
                        Answers(Portal(None, [CheckerChain([self.checker, self.file])]), self.clock.seconds)):
            self.assertIs(self.ask(answers, b"alice").vouch.checker, self.checker)
            self.assertIs(self.ask(answers, b"bob").vouch.checker, self.file)
            for name in (b"nobody", b"locked", b"\xff", b"a\0b", b""):
                self.assertIsNone(self.ask(answers, name).vouch)

    def test_invented_ones_last(self) -> None:
        """By the store's secret: another process of the same store invents the same."""
        one, two = (self.answers(StoreChecker(self.store.accounts, Inline())) for _ in range(2))
        self.assertEqual(self.ask(one, b"nobody"), self.ask(two, b"nobody"))
        self.assertEqual(self.ask(self.answers(self.file, self.checker), b"nobody"), self.ask(one, b"nobody"))
        alone = self.answers(self.file)
        self.assertEqual(self.ask(alone, b"nobody"), self.ask(alone, b"nobody"))
        sha_1 = self.ask(one, b"nobody", "SCRAM-SHA-1")
        self.assertEqual(len(sha_1.keys[0].stored), 20)

    def test_outage(self) -> None:
        """A store that is away is no unknown name."""
        self.patch(self.store.accounts, "find_login", lambda name: fail(StoreUnavailable("away")))
        self.failureResultOf(self.answers(self.checker).answer(QUESTION), StoreUnavailable)

    def test_vouch_is_for_its_own_checker(self) -> None:
        """A checker takes back what it gave, and nobody else's word."""
        chain = CheckerChain([self.file, self.checker])
        vouch = self.ask(self.answers(self.checker), b"alice").vouch
        self.assertEqual(self.successResultOf(chain.requestAvatarId(ProvenLogin(b"alice", vouch))).account,
                         "alice")
        stranger = ProvenLogin(b"alice", Vouch(object(), vouch.avatar_id))
        self.failureResultOf(chain.requestAvatarId(stranger), LoginRefused)


class ChangeTests(AnswersCase):
    def test_account_changed_during_the_exchange(self) -> None:
        """The proof was good for keys that are no more: the store finds out when it takes the lease."""
        portal = MailgatePortal(MaildropRealm(self.store), [self.checker])
        accounts = self.store.accounts
        for change in (lambda: accounts.set_verifiers("alice", KEPT), lambda: accounts.remove("alice")):
            login = ProvenLogin(b"alice", self.ask(self.answers(self.checker), b"alice").vouch)
            self.successResultOf(change())
            self.failureResultOf(portal.login(login, None, IMaildrop), StoreUnavailable)

    def test_unchanged(self) -> None:
        portal = MailgatePortal(MaildropRealm(self.store), [self.checker, self.file])
        for name in (b"alice", b"bob"):
            vouch = self.ask(self.answers(self.checker, self.file), name).vouch
            _, _, logout = self.successResultOf(portal.login(ProvenLogin(name, vouch), None,
                                                                    IMaildrop))
            self.successResultOf(logout())

    def test_names_that_were_proven_outside(self) -> None:
        portal = MailgatePortal(MaildropRealm(self.store), [self.checker, self.file])
        for name in (b"alice", b"alice@example.org", b"bob"):
            _, _, logout = self.successResultOf(portal.login(NamedLogin(name, "certificate"), None,
                                                             IMaildrop))
            self.successResultOf(logout())
        for name in (b"nobody", b"locked", b"\xff"):
            self.failureResultOf(portal.login(NamedLogin(name, "certificate"), None, IMaildrop), LoginRefused)


class KeptTests(AnswersCase):
    def kept(self, *checkers: Any) -> set[str]:
        return set(self.answers(*checkers).kept())

    def test_by_all_of_them(self) -> None:
        """SCRAM-SHA-256 in both; the file lacks SCRAM-SHA-1; a checker of passwords alone lacks all."""
        self.assertEqual(self.kept(self.checker), {"SCRAM-SHA-256", "SCRAM-SHA-1"})
        self.assertEqual(self.kept(self.checker, self.file), {"SCRAM-SHA-256"})
        stranger = InMemoryUsernamePasswordDatabaseDontUse(user=b"x")
        self.assertEqual(self.kept(stranger), {"CRAM-MD5", "APOP"})
        self.assertEqual(self.kept(self.checker, stranger), set())
        stranger.credentialInterfaces = (IUsernamePassword,)
        self.assertEqual(self.kept(stranger), set())
        self.assertEqual(self.kept(), set())

    def test_a_changed_file(self) -> None:
        answers = self.answers(self.file)
        self.assertEqual(set(answers.kept()), {"SCRAM-SHA-256"})
        self.path.write_text(f"bob:{KEPT[1]}\nann:{{PLAIN}}x\n")
        os.utime(self.path, (1, 1))
        self.clock.advance(KEPT_SECONDS)
        self.assertEqual(set(answers.kept()), set())

    def test_asked_once_in_a_while(self) -> None:
        """Not with every client, and all accounts only after a change."""
        asked = []
        lacking = self.store.accounts.lacking
        self.patch(self.store.accounts, "lacking", lambda *rest: asked.append(rest) or lacking(*rest))
        answers = self.answers(self.checker)
        for _ in range(5):
            answers.kept()
        first = len(asked)
        self.clock.advance(KEPT_SECONDS)
        answers.kept()
        self.assertEqual(len(asked), first)
        self.successResultOf(self.store.accounts.add([HASH_ONLY]))
        self.clock.advance(KEPT_SECONDS)
        self.assertEqual(answers.kept(), frozenset())
        self.assertGreater(len(asked), first)

    def test_outage(self) -> None:
        """What is not known is not announced; it is asked again later."""
        answers = self.answers(self.checker)
        changes = self.store.accounts.changes
        self.patch(self.store.accounts, "changes", lambda: fail(StoreUnavailable("away")))
        self.assertEqual(answers.kept(), frozenset())
        self.patch(self.store.accounts, "changes", changes)
        self.clock.advance(KEPT_SECONDS)
        self.assertEqual(set(answers.kept()), {"SCRAM-SHA-256", "SCRAM-SHA-1"})

    def test_slow_store_is_asked_once(self) -> None:
        pending: list[Deferred[int]] = []

        def changes() -> Deferred[int]:
            pending.append(Deferred())
            return pending[-1]

        self.patch(self.store.accounts, "changes", changes)
        answers = self.answers(self.checker)
        for _ in range(3):
            self.clock.advance(KEPT_SECONDS)
            answers.kept()
        self.assertEqual(len(pending), 1)
        pending[0].callback(1)
        self.assertEqual(set(answers.kept()), {"SCRAM-SHA-256", "SCRAM-SHA-1"})
