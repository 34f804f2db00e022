"""App passwords: how generated ones look, and logins by either kind."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth import apppasswords
from mailgate.auth.apppasswords import find_generated, generate, plain_form, verifier_of
from mailgate.auth.checkers import DUMMY_VERIFIER, StoreChecker
from mailgate.auth.credentials import PasswordLogin
from mailgate.auth.portal import MailgatePortal
from mailgate.auth.realm import MaildropRealm
from mailgate.auth.remembered import RememberedSuccess
from mailgate.auth.schemes import check_verifier, scheme_of
from mailgate.errors import LoginRefused, TooBusy
from mailgate.interfaces import IMaildrop
from mailgate.model import MOST_APP_PASSWORDS, MOST_CHOSEN_APP_PASSWORDS, Account, AppPassword
from tests.auth.staging import ALICE, GONE, XYZ, Busy, Counted, cheap, store_with


class GeneratedTests(SynchronousTestCase):
    def test_form(self) -> None:
        """Six groups of five letters, none of them easily misread: more than 128 bits."""
        made = {generate() for _ in range(50)}
        self.assertEqual(len(made), 50)
        for one in made:
            self.assertRegex(one, r"\A[a-hjkmnp-z]{5}(-[a-hjkmnp-z]{5}){5}\Z")
        self.assertGreater(23 ** 30, 2 ** 128)
        self.assertEqual(len(set(apppasswords.LETTERS)), 23)

    def test_every_letter_is_drawn(self) -> None:
        """Each by the function that is given, from all of the letters."""
        drawn: list[str] = []
        seeded = Random(1)

        def choice(letters: str) -> str:
            self.assertEqual(letters, apppasswords.LETTERS)
            drawn.append(seeded.choice(letters))
            return drawn[-1]

        self.assertEqual(generate(choice).replace("-", ""), "".join(drawn))
        self.assertEqual(len(drawn), 30)

    def test_as_people_type(self) -> None:
        """With blanks, without anything between, in capitals: the same; a letter more or less is not."""
        shown = generate(Random(2).choice)
        one = AppPassword("phone", verifier_of(shown), generated=True)
        self.assertEqual(scheme_of(one.verifier), "SSHA512")
        check_verifier(one.verifier)
        for typed in (shown, shown.replace("-", " "), shown.replace("-", ""), shown.upper(), f" {shown} "):
            self.assertEqual(find_generated([one], typed.encode()), one, typed)
        for typed in (shown[:-1], shown + "a", shown[1:] + shown[0], shown.replace("-", "_"), "", "-" * 34):
            self.assertIsNone(find_generated([one], typed.encode()), typed)
        self.assertIsNone(find_generated([replace(one, generated=False)], shown.encode()))

    @settings(deadline=None)
    @given(st.binary(max_size=120) | st.text("abcxyzilo -AZ", max_size=100).map(str.encode))
    @example(b"a" * 30)
    @example(b"-" * 100_000)
    def test_any_octets(self, typed: bytes) -> None:
        """30 of the letters, or nothing; whatever comes is no fault."""
        plain = plain_form(typed)
        if plain is not None:
            self.assertRegex(plain, rb"\A[a-hjkmnp-z]{30}\Z")
            self.assertEqual(plain_form(plain), plain)
        self.assertIsNone(find_generated([AppPassword("bad", "{NO}x", generated=True)], typed))


class CheckerCase(SynchronousTestCase):
    """A checker over alice with two generated app passwords and a chosen one, and over others."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        only = Account("only", addresses=("only@example.org",))
        self.store = store_with(ALICE, XYZ, GONE, only, clock=self.clock)
        random = Random(3)
        self.phone, self.tablet, self.gone = (generate(random.choice) for _ in range(3))
        self.give("alice", "phone", self.phone)
        self.give("alice", "tablet", self.tablet)
        self.choose("alice", "old laptop", b"chosen")
        for name in ("gone", "only", "xyz"):
            self.give(name, "phone", self.gone)
        self.hashing = Counted()
        self.remembered: RememberedSuccess[Any] = RememberedSuccess(self.clock)
        self.checker = StoreChecker(self.store.accounts, self.hashing, self.remembered)

    def give(self, name: str, label: str, password: str) -> None:
        self.add(name, AppPassword(label, verifier_of(password), generated=True))

    def choose(self, name: str, label: str, password: bytes) -> None:
        self.add(name, AppPassword(label, cheap(password)))

    def add(self, name: str, app_password: AppPassword) -> None:
        self.successResultOf(self.store.accounts.add_app_password(name, app_password))

    def ask(self, username: str, password: str | bytes, peer: str | None = "192.0.2.7") -> Any:
        octets = password.encode() if isinstance(password, str) else password
        return self.checker.requestAvatarId(PasswordLogin(username.encode(), octets, peer))

    def check(self, username: str, password: str | bytes, peer: str | None = "192.0.2.7") -> Any:
        """Return the admission, or None for a refusal."""
        outcome = self.ask(username, password, peer)
        if not isinstance(outcome, Deferred):
            return outcome
        seen: list[Any] = []
        outcome.addErrback(lambda failure: failure.trap(LoginRefused) and None)
        outcome.addCallback(seen.append)
        return seen[0]


class LoginTests(CheckerCase):
    def test_each_opens(self) -> None:
        """By name or address; the admission says which it was and where it is used."""
        version = self.successResultOf(self.store.accounts.get("alice")).version
        for username in ("alice", "Alice@example.org"):
            for label, password in (("phone", self.phone), ("tablet", self.tablet), ("old laptop", "chosen"),
                                    (None, "open sesame")):
                admission = self.check(username, password)
                self.assertEqual(
                    (admission.maildrop, admission.account, admission.version, admission.app_password),
                    ("alice", "alice", version, label))
                self.assertEqual(admission.used_from, "192.0.2.7" if label else None)

    def test_views(self) -> None:
        """One of an SDPS host opens all that its passwords open."""
        for username, view in (("xyz", None), ("fred@xyz", "fred"), ("sam+xyz.example.org", "sam")):
            admission = self.check(username, self.gone)
            self.assertEqual((admission.view, admission.app_password), (view, "phone"))

    def test_account_without_password_of_its_own(self) -> None:
        """Opens by app passwords alone."""
        self.assertEqual(self.check("only", self.gone).app_password, "phone")
        for password in ("", "open sesame", self.phone):
            self.assertIsNone(self.check("only", password))

    def test_chosen_ones_are_taken_as_they_are(self) -> None:
        """Nothing of them is left out; one that looks like a generated one is still a chosen one."""
        self.choose("alice", "odd", b"Abcde-Abcde-Abcde-Abcde-Abcde-Abcde")
        self.assertEqual(self.check("alice", "Abcde-Abcde-Abcde-Abcde-Abcde-Abcde").app_password, "odd")
        for password in ("chosen ", "Chosen", "cho-sen", "abcde" * 6):
            self.assertIsNone(self.check("alice", password))

    def test_refused(self) -> None:
        """Another's, a disabled account's, a revoked one; the log knows why."""
        self.assertIsNone(self.check("alice", self.gone))
        failure = self.failureResultOf(self.ask("gone", self.gone), LoginRefused)
        self.assertEqual(failure.value.reason, "disabled")
        self.successResultOf(self.store.accounts.revoke_app_passwords("alice", "phone"))
        failure = self.failureResultOf(self.ask("alice", self.phone), LoginRefused)
        self.assertEqual(failure.value.reason, "no password matches")
        self.assertEqual(self.check("alice", self.tablet).app_password, "tablet")

    def test_malformed_verifier(self) -> None:
        """Is told once, by account and label."""
        self.add("alice", AppPassword("bad", "{NO-SUCH}s3cr3t", generated=True))
        with capturedLogs() as events:
            for _ in range(2):
                self.check("alice", "wrong")
        self.assertEqual([event["place"] for event in events if "place" in event],
                         ["account 'alice', app password 'bad'"])
        self.assertNotIn("s3cr3t", str(events))


class CostTests(CheckerCase):
    def hashes_of(self, username: str, password: str) -> int:
        before = self.hashing.hashes
        self.check(username, password)
        return self.hashing.hashes - before

    def test_a_generated_one_costs_no_slow_hash(self) -> None:
        """However many there are; not even a turn in the queue."""
        for number in range(MOST_APP_PASSWORDS - 4):
            self.give("alice", f"device {number}", generate())
        last = generate()
        self.give("alice", "last", last)
        self.assertEqual(self.hashes_of("alice", last), 0)
        self.checker = StoreChecker(self.store.accounts, Busy())
        self.assertEqual(self.check("alice", self.phone).app_password, "phone")
        self.failureResultOf(self.ask("alice", "open sesame"), TooBusy)

    def test_a_wrong_one_costs_a_bounded_number(self) -> None:
        """Those of its own and the chosen ones, all of them tried; generated ones add none."""
        self.assertEqual(self.hashes_of("alice", "wrong"), 2)
        for number in range(MOST_CHOSEN_APP_PASSWORDS - 1):
            self.choose("alice", f"chosen {number}", b"x%d" % number)
        for number in range(MOST_CHOSEN_APP_PASSWORDS):
            self.choose("xyz", f"chosen {number}", b"x%d" % number)
        for password in ("wrong", generate(), "chosen", "x0"):
            self.assertEqual(self.hashes_of("alice", password), 1 + MOST_CHOSEN_APP_PASSWORDS)
        self.assertEqual(self.hashes_of("fred@xyz", "wrong"), 2 + MOST_CHOSEN_APP_PASSWORDS)

    def test_nobody_is_told_from_somebody(self) -> None:
        """An account without slow hashes costs one as well, as an unknown or a disabled one does."""
        for username, password in (("only", "wrong"), ("only", generate()), ("nobody", self.phone),
                                   ("gone", self.gone), ("gone", "wrong")):
            self.assertEqual(self.hashes_of(username, password), 1, username)
        self.assertIn((DUMMY_VERIFIER,), self.hashing.tried)


class RememberedTests(CheckerCase):
    """Clients that poll, over the portal and the store as a service has them."""

    def setUp(self) -> None:
        super().setUp()
        self.portal = MailgatePortal(MaildropRealm(self.store), [self.checker])

    def log_in(self, password: str, peer: str = "192.0.2.7") -> None:
        login = PasswordLogin(b"alice", password.encode(), peer)
        _, _, logout = self.successResultOf(self.portal.login(login, None, IMaildrop))
        self.successResultOf(logout())

    def used(self) -> dict[str, tuple[Any, Any]]:
        return {one.label: (one.last_used_ms, one.last_used_from)
                for one in self.successResultOf(self.store.accounts.app_passwords("alice"))}

    def test_last_use(self) -> None:
        """Told from logins that are remembered too, with the address of each; nobody asks the store."""
        self.log_in(self.phone)
        self.assertEqual(self.used(), {"phone": (1_000_000_000, "192.0.2.7"), "tablet": (None, None),
                                       "old laptop": (None, None)})
        accounts, self.checker._accounts = self.checker._accounts, None     # type: ignore[assignment]
        self.clock.advance(100)
        self.log_in(self.phone, "192.0.2.8")
        self.assertEqual(self.used()["phone"], (1_000_100_000, "192.0.2.8"))
        self.checker._accounts = accounts
        self.log_in("chosen")
        self.assertEqual(self.used()["old laptop"], (1_000_100_000, "192.0.2.7"))

    def test_own_password(self) -> None:
        """Is the use of no app password."""
        self.log_in("open sesame")
        self.assertEqual(set(self.used().values()), {(None, None)})

    def test_revoked_while_remembered(self) -> None:
        """It opens nothing from that moment; the other passwords do."""
        for password in (self.phone, self.tablet, "open sesame"):
            self.log_in(password)
        self.successResultOf(self.store.accounts.revoke_app_passwords("alice", "phone"))
        login = PasswordLogin(b"alice", self.phone.encode())
        with capturedLogs() as events:
            self.failureResultOf(self.portal.login(login, None, IMaildrop), LoginRefused)
        self.assertFalse([event for event in events if "app password" in event.get("log_format", "")])
        for password in (self.tablet, "open sesame"):
            self.log_in(password)

    def test_the_log_names_it(self) -> None:
        """At each login, remembered or not; the password is nowhere."""
        with capturedLogs() as events:
            for _ in range(2):
                self.log_in(self.phone)
            self.log_in("open sesame")
        lines = [event["log_format"].format(**event) for event in events]
        self.assertEqual(lines, ["login of alice: app password 'phone', from 192.0.2.7"] * 2)
        self.assertNotIn(self.phone, str(events))


class MechanismTests(CheckerCase):
    """App passwords are for mechanisms that bring the password itself."""

    def test_kept(self) -> None:
        """While an account has one, nothing with a challenge is what every user can use."""
        store = store_with(Account("a", verifiers=("{PLAIN}x",)))
        checker = StoreChecker(store.accounts, self.hashing)
        self.assertIn("APOP", self.successResultOf(checker.kept()))
        self.successResultOf(store.accounts.add_app_password("a", AppPassword("phone", "{SSHA512}x")))
        self.assertEqual(self.successResultOf(checker.kept()), frozenset())
        self.successResultOf(store.accounts.revoke_app_passwords("a"))
        self.assertIn("CRAM-MD5", self.successResultOf(checker.kept()))
