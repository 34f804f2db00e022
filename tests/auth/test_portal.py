"""The portal: whole logins over a store that other processes change."""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import AllowAnonymousAccess, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import Anonymous, IAnonymous, IUsernamePassword
from twisted.cred.error import LoginDenied, UnauthorizedLogin, UnhandledCredentials
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailgate.auth.checkers import StoreChecker
from mailgate.auth.credentials import PasswordLogin
from mailgate.auth.passwdfile import PasswdFileChecker
from mailgate.auth.portal import MailgatePortal
from mailgate.auth.realm import MaildropRealm
from mailgate.auth.remembered import RememberedSuccess
from mailgate.errors import LoginRefused, MaildropInUse, StaleCredential, StoreUnavailable
from mailgate.interfaces import IMaildrop
from mailgate.stores.memory import MemoryStore
from tests.auth.staging import ALICE, XYZ, Counted, Held, cheap, fresh_path, store_with


@implementer(IRealm)
class Rooms:
    """A realm of another application: it knows no maildrops, and logs out by a plain call."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.avatars: list[Any] = []
        self.left: list[Any] = []

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        self.avatars.append(avatarId)
        if isinstance(self.answer, Exception):
            raise self.answer
        entered = (interfaces[0], avatarId, lambda: self.left.append(avatarId))
        return self.answer if isinstance(self.answer, Deferred) else entered


class Logins(SynchronousTestCase):
    """The service's own arrangement: store checker, remembered logins, realm, portal."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = store_with(ALICE, XYZ, clock=self.clock)
        self.other_process = MemoryStore.beside(self.store)
        self.successResultOf(self.other_process.start())
        self.hashing = Counted()
        self.remembered: RememberedSuccess[Any] = RememberedSuccess(self.clock)
        self.checker = StoreChecker(self.store.accounts, self.hashing, self.remembered)
        self.portal: Portal = MailgatePortal(MaildropRealm(self.store), [self.checker])

    def log_in(self, name: bytes = b"alice", password: bytes = b"open sesame") -> Deferred[Any]:
        return self.portal.login(PasswordLogin(name, password), None, IMaildrop)

    def in_and_out(self, name: bytes = b"alice", password: bytes = b"open sesame") -> bool:
        """Log in and out; return whether it was granted."""
        outcome = self.log_in(name, password)
        outcome.addErrback(lambda failure: failure.trap(LoginRefused) and None)
        granted = self.successResultOf(outcome)
        if granted is None:
            return False
        self.successResultOf(granted[2]())
        return True

    def test_granted_and_refused(self) -> None:
        """As the store's accounts say."""
        self.assertTrue(self.in_and_out())
        self.assertTrue(self.in_and_out(b"fred@xyz", b"pop3"))
        self.assertFalse(self.in_and_out(b"alice", b"wrong"))
        self.assertFalse(self.in_and_out(b"nobody", b"open sesame"))

    def test_remembered(self) -> None:
        """Polling costs one hash in five minutes."""
        for _ in range(10):
            self.clock.advance(29)
            self.assertTrue(self.in_and_out())
        self.assertEqual(1, self.hashing.hashes)
        self.clock.advance(40)
        self.assertTrue(self.in_and_out())
        self.assertEqual(2, self.hashing.hashes)

    def test_new_password_from_another_process(self) -> None:
        """Holds at the next login: the old one is refused, the new one granted."""
        self.assertTrue(self.in_and_out())
        self.successResultOf(self.other_process.accounts.set_verifiers("alice", [cheap(b"changed")]))
        self.assertFalse(self.in_and_out())
        self.assertTrue(self.in_and_out(b"alice", b"changed"))

    def test_disabled_from_another_process(self) -> None:
        """Holds at the next login, and so does enabling."""
        self.assertTrue(self.in_and_out())
        self.successResultOf(self.other_process.accounts.set_disabled("alice", True))
        self.assertFalse(self.in_and_out())
        self.successResultOf(self.other_process.accounts.set_disabled("alice", False))
        self.assertTrue(self.in_and_out())

    def test_removed_and_added_again(self) -> None:
        """Somebody else's account of the same name is not opened by the old password."""
        self.assertTrue(self.in_and_out())
        self.successResultOf(self.other_process.accounts.remove("alice"))
        self.assertFalse(self.in_and_out())
        self.successResultOf(self.other_process.accounts.add([ALICE]))
        self.assertTrue(self.in_and_out())

    def test_unrelated_change(self) -> None:
        """A password that stays is granted through the second check, unseen by the client."""
        self.assertTrue(self.in_and_out(b"xyz", b"pop3"))
        hashes = self.hashing.hashes
        verifiers = [cheap(b"new dial-up"), XYZ.verifiers[1]]
        self.successResultOf(self.other_process.accounts.set_verifiers("xyz", verifiers))
        self.assertTrue(self.in_and_out(b"xyz", b"pop3"))
        self.assertEqual(hashes + 2, self.hashing.hashes)
        self.assertTrue(self.in_and_out(b"xyz", b"pop3"))
        self.assertEqual(hashes + 2, self.hashing.hashes)

    def test_changing_all_the_time(self) -> None:
        """Two checks a login and no more; then the client should come again."""
        find = self.store.accounts.find_login
        checks: list[str] = []

        def find_then_change(name: str) -> Deferred[Any]:
            checks.append(name)
            found = find(name)
            self.successResultOf(self.other_process.accounts.set_verifiers("alice", ALICE.verifiers))
            return found

        self.patch(self.store.accounts, "find_login", find_then_change)
        self.failureResultOf(self.log_in(), StoreUnavailable)
        self.assertEqual(2, len(checks))

    def test_in_use_is_no_refusal(self) -> None:
        """Faults of the store come out as they are."""
        self.successResultOf(self.log_in())
        self.failureResultOf(self.log_in(), MaildropInUse)

    def test_plain_portal(self) -> None:
        """twisted.cred's own works as well; what was stale is forgotten there too, for the next try."""
        self.portal = Portal(MaildropRealm(self.store), [self.checker])
        self.assertTrue(self.in_and_out())
        self.successResultOf(self.other_process.accounts.set_verifiers("alice", ALICE.verifiers))
        self.failureResultOf(self.log_in(), StaleCredential)
        self.assertTrue(self.in_and_out())
        self.failureResultOf(self.log_in(b"alice", b"wrong"), UnauthorizedLogin)

    def test_several_checkers(self) -> None:
        """In order; a foreign one's user gets a maildrop at the first login."""
        path = str(fresh_path(self))
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"filed:{cheap(b'in a file')}\n")
        self.portal = MailgatePortal(MaildropRealm(self.store), [
            self.checker, PasswdFileChecker(path, self.hashing, self.remembered),
            InMemoryUsernamePasswordDatabaseDontUse(bob=b"builder")])
        for name, password in [(b"alice", b"open sesame"), (b"filed", b"in a file"), (b"bob", b"builder")]:
            for _ in range(2):
                self.assertTrue(self.in_and_out(name, password))
            self.assertFalse(self.in_and_out(name, b"wrong"))


class Foreign(SynchronousTestCase):
    """Realms and checkers of other applications."""

    def setUp(self) -> None:
        self.realm = Rooms()
        self.bob = InMemoryUsernamePasswordDatabaseDontUse(bob=b"builder")
        self.portal = MailgatePortal(self.realm, [self.bob])

    def test_granted(self) -> None:
        """The avatar that the realm gave."""
        login = self.portal.login(PasswordLogin(b"bob", b"builder"), None, IMaildrop)
        interface, avatar, logout = self.successResultOf(login)
        self.assertEqual((IMaildrop, b"bob"), (interface, avatar))
        logout()
        self.assertEqual([b"bob"], self.realm.left)

    def test_refused(self) -> None:
        """By the checker or by the realm: LoginRefused for us, UnauthorizedLogin for cred."""
        outcome = self.portal.login(PasswordLogin(b"bob", b"x"), None, IMaildrop)
        self.assertTrue(self.failureResultOf(outcome, LoginRefused).check(UnauthorizedLogin))
        for refusal in (LoginDenied(), UnauthorizedLogin(), LoginRefused()):
            self.realm.answer = refusal
            outcome = self.portal.login(PasswordLogin(b"bob", b"builder"), None, IMaildrop)
            self.failureResultOf(outcome, LoginRefused)

    def test_bug_is_no_refusal(self) -> None:
        """What nobody meant comes out as it is, from the realm and for a missing checker."""
        self.realm.answer = KeyError("bug")
        self.failureResultOf(self.portal.login(PasswordLogin(b"bob", b"builder"), None, IMaildrop), KeyError)
        for portal in (self.portal, MailgatePortal(self.realm)):
            self.failureResultOf(portal.login(Anonymous(), None, IMaildrop), UnhandledCredentials)

    def test_interface_of_portal(self) -> None:
        """What else an application does with a Portal works."""
        self.portal.registerChecker(AllowAnonymousAccess())
        self.assertIn(IAnonymous, self.portal.listCredentialsInterfaces())
        self.assertIn(IUsernamePassword, self.portal.listCredentialsInterfaces())
        self.successResultOf(self.portal.login(Anonymous(), None, IMaildrop))


class Vanished(SynchronousTestCase):
    """A client that goes at some point of its login."""

    def test_during_the_check(self) -> None:
        """The queued hash is dropped, and no maildrop is opened."""
        store, held = store_with(ALICE), Held()
        realm = Rooms()
        portal = MailgatePortal(realm, [StoreChecker(store.accounts, held)])
        login = portal.login(PasswordLogin(b"alice", b"open sesame"), None, IMaildrop)
        login.cancel()
        self.failureResultOf(login, CancelledError)
        self.assertEqual([], held.waiting)
        self.assertEqual([], realm.avatars)

    def test_while_the_avatar_comes(self) -> None:
        """It is logged out as soon as it is there, whatever realm it is."""
        answer: Deferred[Any] = Deferred(lambda _: self.fail("the realm's own work is not to be torn"))
        realm = Rooms(answer)
        portal = MailgatePortal(realm, [InMemoryUsernamePasswordDatabaseDontUse(bob=b"builder")])
        login = portal.login(PasswordLogin(b"bob", b"builder"), None, IMaildrop)
        self.assertEqual([b"bob"], realm.avatars)
        login.cancel()
        self.failureResultOf(login, CancelledError)
        self.assertEqual([], realm.left)
        answer.callback((IMaildrop, "avatar", lambda: realm.left.append("avatar")))
        self.assertEqual(["avatar"], realm.left)

    def test_while_the_lease_is_taken(self) -> None:
        """By our realm, through our portal and through cred's own: nothing stays locked."""
        for kind in (MailgatePortal, Portal):
            store = store_with(ALICE)
            gate: Deferred[None] = Deferred()
            opening = store.open
            self.patch(store, "open", lambda one, go=gate, on=opening: go.addCallback(lambda _: on(one)))
            portal = kind(MaildropRealm(store), [StoreChecker(store.accounts, Counted())])
            login = portal.login(PasswordLogin(b"alice", b"open sesame"), None, IMaildrop)
            login.cancel()
            self.failureResultOf(login, CancelledError)
            gate.callback(None)
            self.successResultOf(portal.login(PasswordLogin(b"alice", b"open sesame"), None, IMaildrop))

    def test_logout_that_fails(self) -> None:
        """Is told in the log: there is nobody else to tell."""
        answer: Deferred[Any] = Deferred()
        portal = MailgatePortal(Rooms(answer), [InMemoryUsernamePasswordDatabaseDontUse(bob=b"builder")])
        portal.login(PasswordLogin(b"bob", b"builder"), None, IMaildrop).addErrback(lambda _: None).cancel()
        answer.callback((IMaildrop, "avatar", lambda: 1 // 0))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
