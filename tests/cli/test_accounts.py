"""`mailgate account` and `mailgate maildrop list`."""

from __future__ import annotations

import getpass
from typing import Any

from mailgate.auth.schemes import scheme_of, verify
from mailgate.cli.telling import field, printable
from mailgate.model import Envelope, Listed, Placement
from tests.cli.base import CONFIGURATION, BrokenStore, CommandCase


class AccountCase(CommandCase):
    def account(self, name: str) -> Any:
        return self.successResultOf(self.store.accounts.get(name))

    def accepts(self, name: str, password: bytes) -> bool:
        return any(verify(one, password) for one in self.account(name).verifiers)


class KeepTests(AccountCase):
    """What is kept of a password beside its hash."""

    def kept(self, name: str) -> list[str]:
        return [scheme_of(one) for one in self.account(name).verifiers]

    def test_nothing_unless_asked(self) -> None:
        self.add("a")
        self.assertEqual(self.kept("a"), ["ARGON2ID"])

    def test_options(self) -> None:
        self.add("a", "--scram")
        self.assertEqual(self.kept("a"), ["ARGON2ID", "SCRAM-SHA-256", "SCRAM-SHA-1"])
        self.add("b", "--cram")
        self.assertEqual(self.kept("b"), ["ARGON2ID", "CRAM-MD5"])
        self.add("c", "--scram", "--apop")
        self.assertEqual(self.kept("c"), ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-1"])
        self.add("xyz", "--sdps", "--scram", password=b"one\ntwo\n")
        self.assertEqual(len(self.kept("xyz")), 6)
        for name in ("a", "b", "c"):
            self.assertTrue(all(verify(one, b"secret") for one in self.account(name).verifiers))

    def test_by_configuration(self) -> None:
        self.file.write_text(CONFIGURATION + '[accounts]\nkeep = ["scram"]\n')
        self.add("a", "--cram")
        self.assertEqual(self.kept("a"), ["ARGON2ID", "SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5"])
        self.add("b", "--hash-only")
        self.assertEqual(self.kept("b"), ["ARGON2ID"])

    def test_change_of_password(self) -> None:
        """Keeps what was kept, of the new password; but never a password in clear that nobody asked for."""
        self.add("a", "--scram", "--cram")
        self.succeed("account", "passwd", "a", "--password-stdin", stdin=b"new\n")
        self.assertEqual(self.kept("a"), ["ARGON2ID", "SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5"])
        self.assertTrue(all(verify(one, b"new") for one in self.account("a").verifiers))
        self.succeed("account", "passwd", "a", "--hash-only", "--password-stdin", stdin=b"new\n")
        self.assertEqual(self.kept("a"), ["ARGON2ID"])
        self.add("b", "--apop")
        self.succeed("account", "passwd", "b", "--password-stdin", stdin=b"new\n")
        self.assertEqual(self.kept("b"), ["ARGON2ID"])

    def test_contradiction(self) -> None:
        self.refused(64, "account", "add", "a", "--hash-only", "--scram", "--password-stdin", stdin=b"x\n")


class AddTests(AccountCase):
    def test_ordinary(self) -> None:
        """Without --address an account receives NAME@hostname; the default scheme is ARGON2ID."""
        self.add("mrose", password=b" pass word \r\n")
        account = self.account("mrose")
        self.assertEqual(account.addresses, ("mrose@mail.example.org",))
        self.assertTrue(account.verifiers[0].startswith("{ARGON2ID}"))
        self.assertTrue(self.accepts("mrose", b" pass word "))
        self.assertFalse(account.sdps)

    def test_addresses(self) -> None:
        self.add("mrose", "--address", "a@b.example", "--address", "c@d.example")
        self.assertEqual(self.account("mrose").addresses, ("a@b.example", "c@d.example"))

    def test_name_that_is_an_address(self) -> None:
        """Such a name is its own address by default."""
        self.add("mrose@b.example")
        self.assertEqual(self.account("mrose@b.example").addresses, ("mrose@b.example",))

    def test_sdps(self) -> None:
        """Two lines are two passwords; without --domain the host receives all of NAME.hostname."""
        self.add("xyz", "--sdps", password=b"one\ntwo")
        self.assertEqual(self.account("xyz").domains, ("xyz.mail.example.org",))
        self.assertTrue(self.accepts("xyz", b"one") and self.accepts("xyz", b"two"))
        self.add("abc", "--sdps", "--domain", "abc.demon.example", "--domain", "abc.example", password=b"1\n")
        self.assertEqual(self.account("abc").domains, ("abc.demon.example", "abc.example"))
        self.assertEqual(len(self.account("abc").verifiers), 1)

    def test_bad_passwords(self) -> None:
        """Exit 65, and nothing is added."""
        for octets in (b"", b"\n", b"one\n\n", b"one\ntwo\n", b"a\0b\n", b"a\rb\n"):
            self.refused(65, "account", "add", "mrose", "--password-stdin", stdin=octets)
        self.refused(65, "account", "add", "xyz", "--sdps", "--password-stdin", stdin=b"1\n2\n3\n")
        self.assertEqual(self.successResultOf(self.store.accounts.list()), [])

    def test_conflicts(self) -> None:
        """What would make two accounts answer to one name is data that cannot be: 65."""
        self.add("mrose")
        self.add("xyz", "--sdps")
        for options in (["mrose"], ["MRose"], ["other", "--address", "mrose@mail.example.org"],
                        ["fred+xyz"], ["a b"], ["other", "--address", "nodomain"]):
            self.refused(65, "account", "add", *options, "--password-stdin", stdin=b"x\n")

    def test_usage(self) -> None:
        """What contradicts the grammar is 64."""
        for arguments in (
                ["add"], ["add", "a", "--domain", "d.example"], ["add", "a", "--sdps", "--address", "a@b"],
                ["add", "a", "b"], ["add", "a", "--nonsense"], ["add", "a"], ["frob"], []):
            self.refused(64, "account", *arguments)

    def test_name_that_is_no_text(self) -> None:
        said = self.refused(65, "account", "add", "a\udcff", "--password-stdin", stdin=b"x\n")
        self.assertIn("a\\xff: not UTF-8", said)

    def test_store_out_of_order(self) -> None:
        """A store that does not answer asks to try again: 75, one line."""
        self.store, kept = BrokenStore(), self.store
        said = self.refused(75, "account", "add", "mrose", "--password-stdin", stdin=b"x\n")
        self.assertEqual(said, "mailgate: try again later: the disk has gone\n")
        self.store = kept

    def test_a_bug(self) -> None:
        """Even a bug is one line, and no reason to bounce mail."""
        self.store, kept = BrokenStore(ZeroDivisionError("oops")), self.store
        self.assertIn("a bug: ", self.refused(75, "account", "list"))
        self.store = kept


class TerminalTests(AccountCase):
    def type(self, *passwords: str) -> None:
        answers = iter(passwords)
        self.patch(getpass, "getpass", lambda prompt: next(answers))

    def test_asks_twice(self) -> None:
        self.type("secret", "secret")
        self.assertEqual(self.command("account", "add", "mrose", is_terminal=True).code, 0)
        self.assertTrue(self.accepts("mrose", b"secret"))

    def test_disagreement(self) -> None:
        self.type("secret", "secert")
        self.assertEqual(self.command("account", "add", "mrose", is_terminal=True).code, 65)

    def test_second_password_may_be_left_out(self) -> None:
        self.type("one", "one", "")
        self.assertEqual(self.command("account", "add", "abc", "--sdps", is_terminal=True).code, 0)
        self.type("one", "one", "two", "two")
        self.assertEqual(self.command("account", "add", "xyz", "--sdps", is_terminal=True).code, 0)
        self.assertEqual((len(self.account("abc").verifiers), len(self.account("xyz").verifiers)), (1, 2))


class ChangeTests(AccountCase):
    def test_passwd(self) -> None:
        """The new password holds, the old one does not; the credential version grows."""
        self.add("mrose")
        before = self.account("mrose").version
        self.succeed("account", "passwd", "mrose", "--password-stdin", stdin=b"fresh\n")
        self.assertTrue(self.accepts("mrose", b"fresh"))
        self.assertFalse(self.accepts("mrose", b"secret"))
        self.assertGreater(self.account("mrose").version, before)

    def test_passwd_of_sdps_host(self) -> None:
        """How many passwords there may be depends on the account."""
        self.add("mrose")
        self.add("xyz", "--sdps")
        self.succeed("account", "passwd", "xyz", "--password-stdin", stdin=b"1\n2\n")
        self.assertEqual(len(self.account("xyz").verifiers), 2)
        self.refused(65, "account", "passwd", "mrose", "--password-stdin", stdin=b"1\n2\n")

    def test_disable_enable(self) -> None:
        self.add("mrose")
        self.succeed("account", "disable", "mrose")
        self.assertTrue(self.account("mrose").disabled)
        self.succeed("account", "enable", "mrose")
        self.assertFalse(self.account("mrose").disabled)

    def test_remove(self) -> None:
        """The mail goes with the account."""
        self.add("mrose")
        self.succeed("deliver", "--from", "", "mrose@mail.example.org", stdin=b"x\n")
        self.succeed("account", "remove", "mrose")
        self.assertEqual(self.held("mrose"), [])
        self.refused(67, "maildrop", "list", "mrose")

    def test_unknown(self) -> None:
        """No such account is 67 everywhere."""
        for arguments in (["account", "disable", "nobody"], ["account", "enable", "nobody"],
                          ["account", "remove", "nobody"], ["maildrop", "list", "nobody"]):
            self.refused(67, *arguments)
        self.refused(67, "account", "passwd", "nobody", "--password-stdin", stdin=b"x\n")

    def test_list(self) -> None:
        self.add("mrose", "--address", "a@b.example", "--address", "c@d.example")
        self.add("xyz", "--sdps")
        self.succeed("account", "disable", "xyz")
        self.assertEqual(self.succeed("account", "list"),
                         "mrose\tordinary\tenabled\ta@b.example,c@d.example\t-\n"
                         "xyz\tsdps\tdisabled\txyz.mail.example.org\t-\n")


class LoadTests(AccountCase):
    HASH = "{PLAIN}secret"

    def load(self, text: str, code: int = 0) -> str:
        ran = self.command("account", "load", "-", stdin=text.encode())
        self.assertEqual(ran.code, code, ran)
        return ran.err

    def test_file(self) -> None:
        """Lines of a passwd-file become accounts; comments, blank lines and further fields do not count."""
        path = self.folder / "passwd"
        path.write_text(f"# users\n\nmrose:{self.HASH}\nfred:{self.HASH}:1000:1000::/home/fred\nlocked:*\n")
        self.assertEqual(self.succeed("account", "load", str(path)), "3 accounts loaded\n")
        self.assertEqual(self.account("fred").addresses, ("fred@mail.example.org",))
        self.assertTrue(self.accepts("mrose", b"secret"))
        self.assertEqual(self.account("locked").verifiers, ())

    def test_all_or_none(self) -> None:
        """Every wrong line is told with its number, and nothing is loaded."""
        lines = [f"mrose:{self.HASH}", "no colon", "fred:{NOSUCH}x", f"a b:{self.HASH}", f"MROSE:{self.HASH}"]
        said = self.load("\n".join(lines), 65)
        for number in (2, 3, 4, 5):
            self.assertIn(f"line {number}: ", said)
        self.assertNotIn("line 1: ", said)
        self.assertNotIn("secret", said)
        self.assertEqual(self.successResultOf(self.store.accounts.list()), [])

    def test_existing(self) -> None:
        self.add("fred")
        self.assertIn("line 2: ", self.load(f"mrose:{self.HASH}\nfred:{self.HASH}\n", 65))
        self.assertEqual(len(self.successResultOf(self.store.accounts.list())), 1)

    def test_conflicting_address(self) -> None:
        """What only the store can see is refused too, all of it."""
        self.add("other", "--address", "fred@mail.example.org")
        self.load(f"mrose:{self.HASH}\nfred:{self.HASH}\n", 65)
        self.assertEqual(len(self.successResultOf(self.store.accounts.list())), 1)

    def test_missing_file(self) -> None:
        self.refused(66, "account", "load", str(self.folder / "nothing"))


class OtherCheckersTests(CommandCase):
    """Names that another checker's users have maildrops by."""

    def setUp(self) -> None:
        super().setUp()
        envelope = Envelope(b"", b"alice@mail.example.org", 1)
        delivery = self.store.deliver()
        delivery.write(b"x\n")
        self.successResultOf(delivery.commit([Placement("alice", None, envelope, account=False)]))

    def test_become_no_account(self) -> None:
        """Refused with 65, by name or address, added or loaded; nothing is there of it."""
        for arguments, stdin in (
                (("add", "Alice", "--password-stdin"), b"x\n"),
                (("add", "alice", "--sdps", "--password-stdin"), b"x\n"),
                (("load", "-"), b"bob:{PLAIN}x\nalice:{PLAIN}x\n")):
            self.assertIn("is the maildrop of another checker's user",
                          self.refused(65, "account", *arguments, stdin=stdin))
        self.assertEqual(self.succeed("account", "list"), "")
        self.assertEqual(len(self.held("alice")), 1)

    def test_remove(self) -> None:
        """Takes the mail, and the name is free; again, or for nobody's, it is no fault."""
        for _ in range(2):
            self.succeed("maildrop", "remove", "ALICE")
        self.assertEqual(self.held("alice"), [])
        self.add("alice")

    def test_remove_of_an_account(self) -> None:
        """Is another command's: by none of its names."""
        self.add("mrose", "--address", "rose@example.org")
        for name in ("mrose", "rose@example.org"):
            self.assertIn("mailgate account remove mrose", self.refused(65, "maildrop", "remove", name))

    def test_remove_while_it_is_open(self) -> None:
        """A session keeps it."""
        self.open("alice")
        self.refused(75, "maildrop", "remove", "alice")
        self.assertEqual(len(self.held("alice")), 1)


class MaildropListTests(CommandCase):
    def test_lines(self) -> None:
        """TAB-separated; the null sender is <>; what could break a line is escaped."""
        self.add("mrose")
        delivery = self.store.deliver()
        delivery.write(b"x\n")
        envelopes = [Envelope(b"", b"mrose@mail.example.org", 1),
                     Envelope(b'"a\tb\\"@c', b"\xc3\xa9\xff\n@d", 2)]
        self.successResultOf(delivery.commit([Placement("mrose", None, one) for one in envelopes]))
        first, second = self.held("mrose")
        self.assertEqual(self.succeed("maildrop", "list", "mrose"),
                         f"1\t3\t{first.unique_id.decode()}\t<>\tmrose@mail.example.org\n"
                         f"2\t3\t{second.unique_id.decode()}\t" + '"a\\tb\\\\"@c\té\\xff\\n@d\n')
        self.assertIsInstance(first, Listed)

    def test_empty(self) -> None:
        """An account without mail has an empty list, and that is no fault."""
        self.add("mrose")
        self.assertEqual(self.succeed("maildrop", "list", "mrose"), "")

    def test_folders(self) -> None:
        """Their names, messages and octets; the mail of each with --folder, INBOX in any case."""
        self.add("mrose")
        self.assertEqual(self.succeed("maildrop", "folders", "mrose"), "INBOX\t0\t0\n")
        delivery = self.store.deliver()
        delivery.write(b"x\n")
        envelope = Envelope(b"a@b", b"mrose@mail.example.org", 1)
        self.successResultOf(delivery.commit([
            Placement("mrose", None, envelope, b"y\r\n" * number, folder=folder)
            for number, folder in enumerate(["R\u00e9sum\u00e9s", "inbox", "a/b", "a/b"])]))
        self.successResultOf(self.store.make_folder("mrose", "empty"))
        self.assertEqual(self.succeed("maildrop", "folders", "mrose"),
                         "INBOX\t1\t6\nR\u00e9sum\u00e9s\t1\t3\na/b\t2\t21\nempty\t0\t0\n")
        self.assertEqual(len(self.succeed("maildrop", "list", "mrose", "--folder", "a/b").splitlines()), 2)
        self.assertEqual(self.succeed("maildrop", "list", "mrose", "--folder", "Inbox"),
                         self.succeed("maildrop", "list", "mrose"))
        self.assertEqual(self.succeed("maildrop", "list", "mrose", "--folder", "empty"), "")
        for folder in ("a", "", "a//b", "\udcff"):
            self.assertIn("no such folder", self.refused(65, "maildrop", "list", "mrose", "--folder", folder))
        self.refused(67, "maildrop", "folders", "nobody")

    def test_escapes(self) -> None:
        self.assertEqual(field("a\u2028b\x1b[2J\u200b"), "a\\u2028b\\x1b[2J\\u200b")
        self.assertEqual(printable("a\nb\udcff"), "a\\x0ab\\xff")
