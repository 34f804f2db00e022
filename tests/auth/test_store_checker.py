"""The store's accounts as a checker."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.cred.credentials import UsernamePassword
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.checkers import DUMMY_VERIFIER, Complaints, StoreChecker
from mailgate.auth.credentials import PasswordLogin
from mailgate.auth.remembered import RememberedSuccess
from mailgate.errors import LoginRefused, StoreUnavailable, TooBusy
from mailgate.model import Account
from tests.auth.staging import ALICE, GONE, XYZ, Busy, Counted, Held, cheap, store_with


class Checked(SynchronousTestCase):
    """A checker over alice, the SDPS host xyz, and gone, who is disabled."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = store_with(ALICE, XYZ, GONE)
        self.hashing = Counted()
        self.remembered: RememberedSuccess[Any] = RememberedSuccess(self.clock)
        self.checker = StoreChecker(self.store.accounts, self.hashing, self.remembered)

    def check(self, username: bytes, password: bytes, peer: str | None = "192.0.2.7") -> Any:
        """Return the admission, or None for a refusal."""
        outcome = self.checker.requestAvatarId(PasswordLogin(username, password, peer))
        if not isinstance(outcome, Deferred):
            return outcome
        seen: list[Any] = []
        outcome.addErrback(lambda failure: failure.trap(LoginRefused) and None)
        outcome.addCallback(seen.append)
        return seen[0]


class Names(Checked):
    """Which account and view a login means."""

    def test_ordinary(self) -> None:
        """By name or address, in any case of ASCII letters."""
        version = self.successResultOf(self.store.accounts.get("alice")).version
        for name in (b"alice", b"Alice", b"alice@example.org", b"ALICE@EXAMPLE.ORG"):
            admission = self.check(name, b"open sesame")
            self.assertEqual(("alice", None, "alice", version),
                             (admission.maildrop, admission.view, admission.account, admission.version))

    def test_sdps(self) -> None:
        """Host and user forms, host bare or with its domain; either password opens either form."""
        views = {b"xyz": None, b"xyz.example.org": None, b"fred@xyz": "fred", b"fred+xyz": "fred",
                 b"FRED@XYZ": "fred", b"fred@xyz.example.org": "fred", b"fred+jim@xyz": "fred+jim"}
        for name, view in views.items():
            for password in (b"dial-up", b"pop3"):
                admission = self.check(name, password)
                self.assertEqual(("xyz", view), (admission.maildrop, admission.view), name)

    def test_exact_octets(self) -> None:
        """Nothing is trimmed, neither of the name nor of the password."""
        for name in (b" alice", b"alice ", b"alice\0", b"", b"\xe1lice", b"a" * 4000):
            self.assertIsNone(self.check(name, b"open sesame"), name)
        for password in (b"open sesame ", b" open sesame", b"Open sesame", b"open  sesame", b""):
            self.assertIsNone(self.check(b"alice", password), password)

    def test_credentials_of_other_applications(self) -> None:
        """Text, and no peer."""
        admission = self.successResultOf(
            self.checker.requestAvatarId(UsernamePassword("alice", "open sesame")))
        self.assertEqual("alice", admission.maildrop)
        self.assertEqual(["local"], self.hashing.networks)

    def test_peer_decides_the_turn(self) -> None:
        """Hashing is asked for in the name of the client's network."""
        self.check(b"alice", b"wrong", "2001:db8::1")
        self.assertEqual(["2001:db8::/56"], self.hashing.networks)

    def test_slot_is_logged(self) -> None:
        """Which of a host's passwords opened it; never the password."""
        with capturedLogs() as events:
            self.check(b"fred+xyz", b"pop3")
        event, = (event for event in events if event.get("slots"))
        self.assertEqual((2, 2, "fred+xyz"), (event["slot"], event["slots"], event["login"]))
        self.assertFalse([one for one in events if "pop3" in str(one)])


class Refusals(Checked):
    """Unknown, wrong and disabled cannot be told apart."""

    def hashes_of(self, username: bytes, password: bytes) -> int:
        before = self.hashing.hashes
        self.assertIsNone(self.check(username, password))
        return self.hashing.hashes - before

    def test_same_work(self) -> None:
        """One hash each, the unknown one's a dummy; names that cannot exist included."""
        self.assertEqual(1, self.hashes_of(b"alice", b"wrong"))
        for username in (b"nobody", b"gone", b"\xff", b"a\0", b"x" * 1000, b""):
            for password in (b"open sesame", b"wrong", b""):
                self.assertEqual(1, self.hashes_of(username, password), username)
        self.assertIn((DUMMY_VERIFIER,), self.hashing.tried)

    def test_all_slots_are_tried(self) -> None:
        """The first password costs what the second and a wrong one cost."""
        for password in (b"dial-up", b"pop3", b"wrong"):
            before = self.hashing.hashes
            self.check(b"xyz", password)
            self.assertEqual(2, self.hashing.hashes - before)

    def test_account_without_password(self) -> None:
        """Nobody logs in to it, and it costs a hash all the same."""
        self.successResultOf(self.store.accounts.add([Account("mute", addresses=("mute@example.org",))]))
        self.assertEqual(1, self.hashes_of(b"mute", b""))

    def test_same_fault(self) -> None:
        """One type, one text."""
        faults = set()
        for username in (b"alice", b"nobody", b"gone", b"\xff"):
            failure = self.failureResultOf(
                self.checker.requestAvatarId(PasswordLogin(username, b"wrong")), LoginRefused)
            faults.add((type(failure.value), str(failure.value)))
        self.assertEqual(1, len(faults))

    def test_refusals_are_not_remembered(self) -> None:
        """They are checked each time, and leave nothing behind."""
        for _ in range(3):
            self.hashes_of(b"alice", b"wrong")
        self.assertEqual(0, len(self.remembered))

    def test_faults_are_no_refusals(self) -> None:
        """A store that fails, a pool that is full: neither says that the password is wrong."""
        login = PasswordLogin(b"alice", b"open sesame")
        busy = StoreChecker(self.store.accounts, Busy())
        self.failureResultOf(busy.requestAvatarId(login), TooBusy)

        class Broken:
            def find_login(self, name: str) -> Deferred[Any]:
                return fail(StoreUnavailable("gone"))

        broken = StoreChecker(Broken(), self.hashing)  # type: ignore[arg-type]
        self.failureResultOf(broken.requestAvatarId(login), StoreUnavailable)

    def test_client_goes_while_it_waits(self) -> None:
        """Its queued work is dropped, and nothing is remembered."""
        held = Held()
        checker = StoreChecker(self.store.accounts, held, self.remembered)
        checking = checker.requestAvatarId(PasswordLogin(b"alice", b"open sesame"))
        self.assertEqual(1, len(held.waiting))
        checking.cancel()
        self.failureResultOf(checking, CancelledError)
        self.assertEqual([], held.waiting)
        self.assertEqual(0, len(self.remembered))

    def test_malformed_verifier_is_told_once(self) -> None:
        """With the account and the slot, without the hash; again when another mistake comes."""
        bad = Account("bad", sdps=True, verifiers=(cheap(b"good"), "{NO-SUCH}s3cr3t"),
                      domains=("bad.example.org",))
        self.successResultOf(self.store.accounts.add([bad]))
        with capturedLogs() as events:
            for _ in range(3):
                self.assertIsNone(self.check(b"bad", b"wrong"))
            self.assertIsNotNone(self.check(b"bad", b"good"))
        warnings = [event for event in events if event["log_level"] is LogLevel.warn]
        self.assertEqual(["account 'bad', password 2"], [event["place"] for event in warnings])
        self.assertNotIn("s3cr3t", str(warnings))

    def test_complaints_are_bounded(self) -> None:
        """A thousand bad accounts do not grow into a leak; a mended one may be told anew."""
        complaints = Complaints()
        with capturedLogs() as events:
            for number in range(Complaints.LIMIT + 5):
                complaints.about("{BAD}x", f"account {number}")
            complaints.about("{PLAIN}x", f"account {number}")
            complaints.about("{BAD}x", f"account {number}")
        self.assertEqual(Complaints.LIMIT + 6, len(events))
        self.assertLessEqual(len(complaints._told), Complaints.LIMIT)


class Remembered(Checked):
    """A second login with the same password."""

    def test_costs_nothing(self) -> None:
        """No hash and no question to the store; the same admission, at once."""
        first = self.check(b"fred@xyz", b"pop3")
        hashes = self.hashing.hashes
        self.checker._accounts = None  # type: ignore[assignment]
        second = self.checker.requestAvatarId(PasswordLogin(b"fred@xyz", b"pop3"))
        self.assertEqual(first, second)
        self.assertEqual(hashes, self.hashing.hashes)

    def test_only_this_login(self) -> None:
        """Another view, another spelling, another password: checked afresh."""
        self.check(b"fred@xyz", b"pop3")
        hashes = self.hashing.hashes
        self.assertEqual("jim", self.check(b"jim@xyz", b"pop3").view)
        self.assertIsNotNone(self.check(b"FRED@xyz", b"pop3"))
        self.assertIsNone(self.check(b"fred@xyz", b"pop3 "))
        self.assertEqual(hashes + 6, self.hashing.hashes)

    def test_expires(self) -> None:
        """After its time the hash is computed again."""
        self.check(b"alice", b"open sesame")
        self.clock.advance(300)
        self.check(b"alice", b"open sesame")
        self.assertEqual(2, self.hashing.hashes)

    def test_forget(self) -> None:
        """The admission itself can end its being remembered."""
        admission = self.check(b"alice", b"open sesame")
        self.assertEqual(1, len(self.remembered))
        admission.forget()
        self.assertEqual(0, len(self.remembered))

    def test_two_checkers_share_a_table(self) -> None:
        """What one store's checker found is nothing to another's."""
        self.check(b"alice", b"open sesame")
        other = store_with(replace(ALICE, verifiers=(cheap(b"other"),)))
        checker = StoreChecker(other.accounts, self.hashing, self.remembered)
        self.failureResultOf(checker.requestAvatarId(PasswordLogin(b"alice", b"open sesame")), LoginRefused)

    def test_without_table(self) -> None:
        """Each login is checked."""
        self.checker = StoreChecker(self.store.accounts, self.hashing)
        for _ in range(2):
            self.assertIsNone(self.check(b"alice", b"open sesame").forget)
        self.assertEqual(2, self.hashing.hashes)
