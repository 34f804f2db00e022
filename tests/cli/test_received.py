"""`mailgate account address`, `domain` and `show`; `account add --adopt`."""

from __future__ import annotations

from typing import Any

from mailgate.auth.schemes import verify
from mailgate.errors import MailgateError
from mailgate.model import Envelope, Placement
from tests.cli.base import CommandCase


class ReceivedCase(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.add("mrose", "--address", "mrose@example.org")
        self.add("xyz", "--sdps", "--domain", "xyz.example.org")

    def account(self, name: str) -> Any:
        return self.successResultOf(self.store.accounts.get(name))


class AddressTests(ReceivedCase):
    def test_comes_and_goes(self) -> None:
        """The last one may go; mail that came stays."""
        self.succeed("account", "address", "add", "MRose", "rose@example.net")
        self.assertEqual(self.account("mrose").addresses, ("mrose@example.org", "rose@example.net"))
        self.succeed("deliver", "--from", "", "rose@example.net", stdin=b"x\n")
        for address in ("Rose@Example.net", "mrose@example.org"):
            self.succeed("account", "address", "remove", "mrose", address)
        self.assertEqual(self.account("mrose").addresses, ())
        self.refused(67, "deliver", "--from", "", "rose@example.net", stdin=b"x\n")
        self.assertEqual(len(self.held("mrose")), 1)

    def test_refused(self) -> None:
        """What is taken, is no address, or is the other kind's business: 65. What is not there: 67."""
        self.add("other")
        for address in ("mrose@example.org", "MROSE@example.org", "other@mail.example.org", "fred@xyz",
                        "nodomain", "", "a\udcff@b"):
            self.refused(65, "account", "address", "add", "mrose", address)
        self.assertIn("is an SDPS host", self.refused(65, "account", "address", "add", "xyz", "a@b.example"))
        self.refused(65, "account", "address", "remove", "xyz", "xyz.example.org")
        self.assertIn("has no address 'a@b.example'",
                      self.refused(67, "account", "address", "remove", "mrose", "a@b.example"))
        for what in ("add", "remove"):
            self.refused(67, "account", "address", what, "nobody", "a@b.example")
            self.refused(64, "account", "address", what, "mrose")
        self.assertEqual(self.account("mrose").addresses, ("mrose@example.org",))


class DomainTests(ReceivedCase):
    def test_comes_and_goes(self) -> None:
        self.succeed("account", "domain", "add", "xyz", "xyz.example")
        self.assertEqual(self.account("xyz").domains, ("xyz.example.org", "xyz.example"))
        self.succeed("deliver", "--from", "", "fred@xyz.example", stdin=b"x\n")
        for domain in ("XYZ.example", "xyz.example.org"):
            self.succeed("account", "domain", "remove", "xyz", domain)
        self.assertEqual(self.account("xyz").domains, ())

    def test_refused(self) -> None:
        for domain in ("xyz.EXAMPLE.org", "example.org", "mrose", "a b", ""):
            self.refused(65, "account", "domain", "add", "xyz", domain)
        self.assertIn("is no SDPS host", self.refused(65, "account", "domain", "add", "mrose", "b.example"))
        self.refused(65, "account", "domain", "remove", "mrose", "mrose@example.org")
        self.refused(67, "account", "domain", "remove", "xyz", "b.example")
        self.refused(67, "account", "domain", "add", "nobody", "b.example")


class ShowTests(ReceivedCase):
    def test_lines(self) -> None:
        """What there is to say of an account; no hash."""
        self.succeed("account", "passwd", "mrose", "--scram", "--password-stdin", stdin=b"x\n")
        self.succeed("account", "password", "add", "mrose", "phone")
        self.successResultOf(self.open("mrose").release())
        self.assertEqual(self.succeed("account", "show", "MROSE").splitlines(), [
            "name\tmrose", "kind\tordinary", "state\tenabled", "address\tmrose@example.org",
            "password\tARGON2ID", "password\tSCRAM-SHA-256", "password\tSCRAM-SHA-1", "app-passwords\t1",
            "last-login\t2001-09-09T01:46:40Z"])
        self.succeed("account", "disable", "xyz")
        self.succeed("account", "passwd", "xyz", "--none")
        self.assertEqual(self.succeed("account", "show", "xyz").splitlines(), [
            "name\txyz", "kind\tsdps", "state\tdisabled", "domain\txyz.example.org", "app-passwords\t0",
            "last-login\t-"])
        self.refused(67, "account", "show", "nobody")


class AdoptTests(CommandCase):
    """Maildrops of another checker's users, taken over."""

    def setUp(self) -> None:
        super().setUp()
        for name in ("alice", "bob"):
            delivery = self.store.deliver()
            delivery.write(b"x\n")
            envelope = Envelope(b"", f"{name}@mail.example.org".encode(), 1)
            self.successResultOf(delivery.commit([Placement(name, None, envelope, account=False)]))

    def test_by_choice(self) -> None:
        """The account has the mail, and its own password; without a maildrop it is an ordinary addition."""
        before = self.held("alice")
        self.refused(65, "account", "add", "alice", "--password-stdin", stdin=b"x\n")
        self.add("Alice", "--adopt")
        self.assertEqual(self.held("alice"), before)
        self.assertEqual(len(self.contents("Alice")), 1)
        self.add("carol", "--adopt")
        for name in ("alice", "carol"):
            self.refused(65, "account", "add", name, "--adopt", "--password-stdin", stdin=b"x\n")

    def test_many(self) -> None:
        """A passwd-file's users become accounts with their mail: all or none."""
        lines = b"alice:{PLAIN}a\nbob:{PLAIN}b\ncarol:{PLAIN}c\n"
        self.refused(65, "account", "load", "-", stdin=lines)
        session = self.open("bob")
        self.refused(75, "account", "load", "-", "--adopt", stdin=lines)
        self.assertEqual(self.succeed("account", "list"), "")
        self.successResultOf(session.release())
        self.assertEqual(self.succeed("account", "load", "-", "--adopt", stdin=lines), "3 accounts loaded\n")
        self.assertEqual([len(self.contents(name)) for name in ("alice", "bob", "carol")], [1, 1, 0])
        [verifier] = self.successResultOf(self.store.accounts.get("bob")).verifiers
        self.assertTrue(verify(verifier, b"b"))

    def test_nothing_else(self) -> None:
        """An address that is another's maildrop is refused as ever."""
        self.refused(65, "account", "add", "dave", "--adopt", "--sdps", "--domain", "alice",
                     "--password-stdin", stdin=b"x\n")
        failure = self.failureResultOf(self.store.accounts.get("dave"))
        self.assertTrue(failure.check(MailgateError))
