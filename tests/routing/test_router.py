"""Recipients to maildrops."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailgate.errors import BadAddress, NoSuchDomain, NoSuchRecipient, StoreUnavailable
from mailgate.interfaces import IRouter
from mailgate.model import Account, Target
from mailgate.names import fold
from mailgate.routing.router import Router
from mailgate.stores.memory import MemoryStore


class Knows:
    """A lookup with a few names; keeps what it was asked."""

    def __init__(self, *names: str, fault: Exception | None = None) -> None:
        self._names = {fold(name) for name in names}
        self._fault = fault
        self.asked: list[str] = []

    def knows(self, name: str) -> Deferred[bool]:
        self.asked.append(name)
        return fail(self._fault) if self._fault else succeed(fold(name) in self._names)


class Routed(SynchronousTestCase):
    """A router over the accounts of an example."""

    def setUp(self) -> None:
        store = MemoryStore(clock=Clock())
        self.successResultOf(store.start())
        self.accounts = store.accounts
        self.successResultOf(self.accounts.add([
            Account("alice", addresses=("alice@mail.example.org", "Alice.Liddell@example.org")),
            Account("root", addresses=("postmaster@mail.example.org",)),
            Account("hidden", addresses=("only@example.org",)),
            Account("xyz", sdps=True, domains=("xyz.mail.example.org",)),
            Account("gone", addresses=("gone@mail.example.org",), disabled=True),
        ]))
        self.router = Router(self.accounts, "mail.example.org")

    def route(self, path: bytes) -> Target:
        return self.successResultOf(self.router.route(path))

    def refused(self, path: bytes, fault: type[Exception]) -> None:
        failure = self.failureResultOf(self.router.route(path))
        self.assertIs(fault, type(failure.value), path)


class Postmasters(Routed):
    """RFC 5321 section 4.5.1: mail for a postmaster is taken, whoever that is."""

    def test_is_nobody(self) -> None:
        """Without an account and without the setting there is nobody to take it."""
        self.refused(b"Postmaster@example.org", NoSuchRecipient)
        self.refused(b"postmaster@elsewhere.example", NoSuchDomain)

    def test_goes_to_whom_the_setting_names(self) -> None:
        """In every domain of ours, by name or by address; an account of the name comes first."""
        for receiver in ("alice", "Alice.Liddell@example.org"):
            self.router = Router(self.accounts, "mail.example.org", postmaster=receiver)
            self.assertEqual(Target("alice", "postmaster", True), self.route(b"PostMaster@example.org"))
            self.assertEqual(Target("root", "postmaster", True), self.route(b"Postmaster"))
            self.assertEqual(Target("xyz", "postmaster", True),
                             self.route(b"postmaster@xyz.mail.example.org"))
            self.refused(b"postmaster@elsewhere.example", NoSuchDomain)
            self.refused(b"nobody@example.org", NoSuchRecipient)

    def test_setting_that_names_nobody(self) -> None:
        """Then it is as if it were not there."""
        self.router = Router(self.accounts, "mail.example.org", postmaster="nobody")
        self.refused(b"postmaster@example.org", NoSuchRecipient)


class Accounts(Routed):
    """What the store knows."""

    def test_address(self) -> None:
        """Any case of ASCII letters; the user is the key of the local part."""
        verifyObject(IRouter, self.router)
        self.assertEqual(Target("alice", "alice", True), self.route(b"alice@mail.example.org"))
        self.assertEqual(Target("alice", "alice.liddell", True), self.route(b"ALICE.Liddell@EXAMPLE.org"))

    def test_sdps_host(self) -> None:
        """Every local part of its domains, the user its key."""
        self.assertEqual(Target("xyz", "fred", True), self.route(b"Fred@XYZ.mail.example.org"))
        self.assertEqual(Target("xyz", "a+b", True), self.route(b"a+b@xyz.mail.example.org"))

    def test_quoted_local_part(self) -> None:
        """Quoting is no part of the name (RFC 5321 section 4.1.2)."""
        self.assertEqual(Target("alice", "alice", True), self.route(b'"alice"@mail.example.org'))
        self.assertEqual(Target("xyz", "john doe", True), self.route(b'"John Doe"@xyz.mail.example.org'))
        self.assertEqual(Target("xyz", 'a"@b', True), self.route(b'"a\\"\\@b"@xyz.mail.example.org'))

    def test_without_domain(self) -> None:
        """The hostname's domain, Postmaster too; then an account's own name."""
        self.assertEqual(Target("alice", "alice", True), self.route(b"Alice"))
        self.assertEqual(Target("root", "postmaster", True), self.route(b"Postmaster"))
        self.assertEqual(Target("hidden", "hidden", True), self.route(b"hidden"))
        self.assertEqual(Target("xyz", "xyz", True), self.route(b"xyz"))
        self.refused(b"hidden@mail.example.org", NoSuchRecipient)

    def test_disabled_account_receives(self) -> None:
        """Who may not log in now still gets mail."""
        self.assertEqual(Target("gone", "gone", True), self.route(b"gone@mail.example.org"))

    def test_unknown(self) -> None:
        """The domain is ours or not; the hostname's is ours even without accounts."""
        self.refused(b"eve@mail.example.org", NoSuchRecipient)
        self.refused(b"eve@example.org", NoSuchRecipient)
        self.refused(b"eve@elsewhere.example", NoSuchDomain)
        self.refused(b"eve", NoSuchRecipient)
        self.router = Router(self.accounts, "empty.example.net")
        self.refused(b"eve@Empty.example.net", NoSuchRecipient)
        self.refused(b"eve", NoSuchRecipient)

    def test_no_address(self) -> None:
        """Empty halves, too long, not UTF-8."""
        too_long = b"x" * 65 + b"@example.org"
        for path in (b"", b"@", b"@example.org", b"alice@", b'""@mail.example.org', too_long):
            self.refused(path, BadAddress)
        self.refused(b"\xff@mail.example.org", NoSuchRecipient)

    def test_failing_store(self) -> None:
        """Is an outage: no mail is bounced for it, and no lookup is asked instead."""
        class Down:
            def find_recipient(self, address: str) -> Deferred[Any]:
                return fail(StoreUnavailable("down"))

        lookup = Knows("alice")
        self.router = Router(Down(), "mail.example.org", [lookup])  # type: ignore[arg-type]
        self.refused(b"alice@mail.example.org", StoreUnavailable)
        self.assertEqual([], lookup.asked)

    @settings(deadline=None, max_examples=150)
    @given(st.binary(max_size=80) | st.text(max_size=40).map(
        lambda local: f"{local}@xyz.mail.example.org".encode("utf-8", "surrogatepass")))
    @example(b'"@xyz.mail.example.org')
    @example(b'"\\"@xyz.mail.example.org')
    def test_anything(self, path: bytes) -> None:
        """A target with a user, or a fault that says what is wrong with the recipient."""
        router = Router(self.accounts, "mail.example.org", [Knows("bob")])
        outcome = router.route(path)
        outcome.addErrback(lambda failure: failure.trap(BadAddress, NoSuchRecipient) and None)
        target = self.successResultOf(outcome)
        if target is not None:
            self.assertTrue(target.user)
            self.assertEqual(fold(target.user), target.user)


class Lookups(Routed):
    """Names that only a checker knows."""

    def with_lookups(self, *lookups: Knows) -> None:
        self.router = Router(self.accounts, "mail.example.org", lookups)

    def test_in_the_hostname_s_domain(self) -> None:
        """With the domain or without any; the maildrop is the name's."""
        self.with_lookups(Knows("Bob"))
        for path in (b"bob@mail.example.org", b"BOB@Mail.Example.Org", b"bob"):
            self.assertEqual(Target("bob", "bob", False), self.route(path))
        self.refused(b"bob@example.org", NoSuchRecipient)
        self.refused(b"bob@elsewhere.example", NoSuchDomain)
        self.refused(b"eve@mail.example.org", NoSuchRecipient)

    def test_whole_addresses(self) -> None:
        """Users that are named local@domain receive at that address."""
        self.with_lookups(Knows("carol@elsewhere.example"))
        self.assertEqual(Target("carol@elsewhere.example", "carol", False),
                         self.route(b"Carol@elsewhere.example"))
        self.refused(b"carol@mail.example.org", NoSuchRecipient)

    def test_accounts_first(self) -> None:
        """An account's address is the account's, whoever else has the name."""
        lookup = Knows("alice", "fred@xyz.mail.example.org")
        self.with_lookups(lookup)
        self.assertEqual("alice", self.route(b"alice@mail.example.org").maildrop)
        self.assertEqual("xyz", self.route(b"fred@xyz.mail.example.org").maildrop)
        self.assertEqual([], lookup.asked)

    def test_names_of_accounts(self) -> None:
        """Whoever has the name of an account, or its address, gets no mail, and the account none of his."""
        self.with_lookups(Knows("hidden", "only@example.org", "xyz", "XYZ", "bob", "fred@xyz"))
        for path in (b"hidden@mail.example.org", b"xyz@mail.example.org", b"XYZ@mail.example.org"):
            self.refused(path, NoSuchRecipient)
        self.assertEqual(Target("hidden", "hidden", True), self.route(b"hidden"))
        self.assertEqual(Target("hidden", "only", True), self.route(b"only@example.org"))
        self.assertEqual(Target("bob", "bob", False), self.route(b"bob@mail.example.org"))
        self.assertEqual(Target("fred@xyz", "fred", False), self.route(b"fred@xyz"))

    def test_in_order(self) -> None:
        """All are asked until one knows."""
        first, second, third = Knows("x"), Knows("bob"), Knows("bob")
        self.with_lookups(first, second, third)
        self.route(b"bob@mail.example.org")
        self.assertEqual(["bob@mail.example.org", "bob"], first.asked)
        self.assertEqual(["bob@mail.example.org"], third.asked)

    def test_one_is_down(self) -> None:
        """Another one that knows the name is enough; else nobody can say that there is no such user.

        Nor that a bare name is meant, as long as the one that is down may know the whole address.
        """
        class Down(Knows):
            def knows(self, name: str) -> Deferred[bool]:
                return fail(StoreUnavailable("down"))

        self.with_lookups(Down(), Knows("bob@mail.example.org", "carol"), Down())
        self.assertEqual("bob@mail.example.org", self.route(b"bob@mail.example.org").maildrop)
        self.refused(b"carol@mail.example.org", StoreUnavailable)
        self.refused(b"ghost@mail.example.org", StoreUnavailable)

    def test_names_that_no_maildrop_can_have(self) -> None:
        """Are not asked for: a lookup must not meet paths or blanks."""
        lookup = Knows("../etc", "a b")
        self.with_lookups(lookup)
        self.refused(b"../etc@mail.example.org", NoSuchRecipient)
        self.refused(b'"a b"@mail.example.org', NoSuchRecipient)
        self.assertEqual([], lookup.asked)

    def test_failing_lookup(self) -> None:
        """Cannot say that nobody is there."""
        self.with_lookups(Knows(fault=StoreUnavailable("file")), Knows("bob"))
        self.refused(b"bob@mail.example.org", StoreUnavailable)
        self.assertEqual(Target("alice", "alice", True), self.route(b"alice@mail.example.org"))
