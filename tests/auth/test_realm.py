"""The realm: admissions and plain names to maildrops."""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import ANONYMOUS
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock
from twisted.mail.interfaces import IMailboxPOP3
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface
from zope.interface.verify import verifyObject

from mailgate.auth.checkers import CheckedAdmission
from mailgate.auth.realm import MaildropRealm
from mailgate.errors import LoginRefused, LoginTooSoon, MaildropInUse, StaleCredential, StoreUnavailable
from mailgate.interfaces import IMaildrop
from mailgate.model import Admission
from tests.auth.staging import ALICE, XYZ, store_with


class Opened:
    """A maildrop that counts how often it is given up."""

    def __init__(self) -> None:
        self.released = 0

    def release(self) -> Deferred[None]:
        self.released += 1
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done


class SlowStore:
    """A store whose opening the test ends."""

    def __init__(self) -> None:
        self.admissions: list[Admission] = []
        self.opening: Deferred[Any] = Deferred()

    def open(self, admission: Admission) -> Deferred[Any]:
        self.admissions.append(admission)
        return self.opening


class Realm(SynchronousTestCase):
    """MaildropRealm over a store in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.store = store_with(ALICE, XYZ, clock=self.clock)
        self.realm = MaildropRealm(self.store)

    def admission(self, name: str, view: str | None = None) -> Admission:
        version = self.successResultOf(self.store.accounts.get(name)).version
        return Admission(name, view, name, version)

    def open(self, avatar_id: Any, *interfaces: Any) -> Any:
        return self.successResultOf(self.realm.requestAvatar(avatar_id, None, *(interfaces or (IMaildrop,))))

    def refused(self, avatar_id: Any, fault: type[Exception], *interfaces: Any) -> None:
        outcome = self.realm.requestAvatar(avatar_id, None, *(interfaces or (IMaildrop,)))
        self.failureResultOf(outcome, fault)

    def test_avatar(self) -> None:
        """A maildrop, held until the logout."""
        verifyObject(IRealm, self.realm)
        interface, avatar, logout = self.open(self.admission("alice"))
        self.assertIs(IMaildrop, interface)
        self.assertTrue(IMaildrop.providedBy(avatar))
        self.refused(self.admission("alice"), MaildropInUse)
        self.successResultOf(logout())
        self.open(self.admission("alice"))

    def test_views(self) -> None:
        """Users of one host side by side; the host alone."""
        self.open(self.admission("xyz", "fred"))
        self.open(self.admission("xyz", "jim"))
        self.refused(self.admission("xyz", "fred"), MaildropInUse)
        self.refused(self.admission("xyz"), MaildropInUse)

    def test_stale(self) -> None:
        """Told as such, and forgotten by who remembered it."""
        forgotten: list[int] = []
        version = self.successResultOf(self.store.accounts.get("alice")).version
        stale = CheckedAdmission("alice", None, "alice", version - 1, forget=lambda: forgotten.append(1))
        self.refused(stale, StaleCredential)
        self.assertEqual([1], forgotten)
        self.refused(self.admission_of_nobody(), StaleCredential)

    def admission_of_nobody(self) -> Admission:
        return Admission("nobody", None, "nobody", 1)

    def test_plain_names(self) -> None:
        """A name that a foreign checker found gets a maildrop of that name, octets or text."""
        for name in (b"foreign", "other", "jörg".encode(), b"carol@example.org"):
            self.open(name)
            text = name.decode() if isinstance(name, bytes) else name
            self.refused(Admission(text), MaildropInUse)

    def test_plain_names_of_accounts(self) -> None:
        """What another checker vouches for opens no account: refused, for Twisted's own POP3 too."""
        for name in (b"alice", "ALICE", b"xyz"):
            self.refused(name, LoginRefused)
            self.refused(name, UnauthorizedLogin)
        self.successResultOf(self.store.accounts.remove("alice"))
        self.open(b"alice")

    def test_no_names(self) -> None:
        """Anonymous and whatever cannot name a maildrop."""
        for avatar_id in (ANONYMOUS, None, 7, ["alice"], b"", "", b"\xff", "..", "a/b", "a b", "a\0b",
                          "x" * 300):
            self.refused(avatar_id, LoginRefused)

    def test_login_delay(self) -> None:
        """Enforced for accounts and plain names alike when it is set."""
        self.realm = MaildropRealm(self.store, login_delay_seconds=60)
        for avatar_id in (self.admission("alice"), b"foreign"):
            self.successResultOf(self.open(avatar_id)[2]())
            self.refused(avatar_id, LoginTooSoon)
        self.clock.advance(60)
        self.open(self.admission("alice"))

    def test_interfaces(self) -> None:
        """The first that is served counts; none is cred's NotImplementedError."""
        class IOther(Interface):
            pass

        realm = self.realm
        self.assertRaises(NotImplementedError, realm.requestAvatar, b"a", None, IOther, IMailboxPOP3)
        self.assertRaises(NotImplementedError, realm.requestAvatar, b"a", None)
        self.assertIs(IMaildrop, self.open(b"a", IOther, IMailboxPOP3, IMaildrop)[0])

    def test_mailbox(self) -> None:
        """With a factory it hands out IMailboxPOP3; logging out gives up the lease."""
        self.realm = MaildropRealm(self.store, mailbox=lambda maildrop: ("mailbox of", maildrop))
        interface, (words, maildrop), logout = self.open(self.admission("alice"), IMailboxPOP3, IMaildrop)
        self.assertIs(IMailboxPOP3, interface)
        self.assertEqual("mailbox of", words)
        self.assertTrue(IMaildrop.providedBy(maildrop))
        self.refused(self.admission("alice"), MaildropInUse)
        self.successResultOf(logout())
        self.open(self.admission("alice"))

    def test_mailbox_fails(self) -> None:
        """What the factory raises comes out, and the lease is given up."""
        self.realm = MaildropRealm(self.store, mailbox=lambda maildrop: 1 // 0)
        self.refused(self.admission("alice"), ZeroDivisionError, IMailboxPOP3)
        self.open(self.admission("alice"), IMaildrop)

    def test_cancelled(self) -> None:
        """The caller hears at once; a lease that arrives later is given up."""
        store, maildrop = SlowStore(), Opened()
        opening = MaildropRealm(store).requestAvatar(b"alice", None, IMaildrop)  # type: ignore[arg-type]
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.assertEqual(0, maildrop.released)
        store.opening.callback(maildrop)
        self.assertEqual(1, maildrop.released)

    def test_fault_after_cancelling(self) -> None:
        """Nobody waits for it: silent if it was to be expected, told if it is a bug."""
        for fault, told in ((StoreUnavailable("x"), 0), (KeyError("x"), 1)):
            store = SlowStore()
            opening = MaildropRealm(store).requestAvatar(b"alice", None, IMaildrop)  # type: ignore[arg-type]
            opening.cancel()
            self.failureResultOf(opening, CancelledError)
            store.opening.errback(fault)
            self.assertEqual(told, len(self.flushLoggedErrors(KeyError)))

    def test_store_that_raises(self) -> None:
        """Faults come by the Deferred."""
        store = SlowStore()
        store.opening = fail(StoreUnavailable("down"))
        outcome = MaildropRealm(store).requestAvatar(b"alice", None, IMaildrop)  # type: ignore[arg-type]
        self.failureResultOf(outcome, StoreUnavailable)
