"""`mailgate account password`, and what `account passwd` does to app passwords."""

from __future__ import annotations

from typing import Any

from mailgate.auth.apppasswords import find_generated
from mailgate.auth.schemes import verify
from mailgate.cli.mechanisms import standing_in_the_way
from mailgate.config import load
from mailgate.model import MOST_CHOSEN_APP_PASSWORDS, Admission, AppPassword
from tests.cli.base import CONFIGURATION, CommandCase


class AppPasswordCase(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.add("mrose")

    def there(self, name: str = "mrose") -> dict[str, AppPassword]:
        return {one.label: one for one in self.successResultOf(self.store.accounts.app_passwords(name))}

    def own(self, name: str = "mrose") -> Any:
        return self.successResultOf(self.store.accounts.get(name)).verifiers


class AddTests(AppPasswordCase):
    def test_generated(self) -> None:
        """A strong one is printed, once and alone; its verifier is a fast one."""
        printed = self.succeed("account", "password", "add", "MRose", "Fred's phone")
        self.assertRegex(printed, r"\A([a-z]{5}-){5}[a-z]{5}\n\Z")
        one = self.there()["Fred's phone"]
        self.assertEqual(find_generated([one], printed.strip().encode()), one)
        self.assertNotIn(printed.strip(), self.succeed("account", "password", "list", "mrose"))

    def test_chosen(self) -> None:
        """Nothing is printed; its verifier is a slow one."""
        said = self.succeed("account", "password", "add", "mrose", "laptop", "--password-stdin",
                            stdin=b" pass word \r\n")
        self.assertEqual(said, "")
        one = self.there()["laptop"]
        self.assertFalse(one.generated)
        self.assertTrue(one.verifier.startswith("{ARGON2ID}"))
        self.assertTrue(verify(one.verifier, b" pass word "))

    def test_bad_passwords(self) -> None:
        for octets in (b"", b"\n", b"one\ntwo\n", b"a\0b\n", b"a\rb\n"):
            self.refused(65, "account", "password", "add", "mrose", "x", "--password-stdin", stdin=octets)
        self.assertEqual(self.there(), {})

    def test_labels(self) -> None:
        """One that is there, in any case, and one that is none: 65. No account: 67."""
        self.succeed("account", "password", "add", "mrose", "phone")
        for label in ("phone", "PHONE", "", " ", "a\tb", "x" * 65, "a\udcff"):
            self.refused(65, "account", "password", "add", "mrose", label)
        self.assertIn("no such account", self.refused(67, "account", "password", "add", "nobody", "phone"))
        self.assertEqual(list(self.there()), ["phone"])

    def test_too_many(self) -> None:
        """So many chosen ones, since each costs a hash at every wrong attempt; then a generated one."""
        for number in range(MOST_CHOSEN_APP_PASSWORDS):
            self.successResultOf(self.store.accounts.add_app_password(
                "mrose", AppPassword(f"{number}", "{PLAIN}x")))
        said = self.refused(65, "account", "password", "add", "mrose", "x", "--password-stdin", stdin=b"x\n")
        self.assertIn("a generated one is welcome", said)
        self.succeed("account", "password", "add", "mrose", "x")

    def test_usage(self) -> None:
        for arguments in (["add", "mrose"], ["add"], ["revoke", "mrose"], ["list"], ["frob"], []):
            self.refused(64, "account", "password", *arguments)


class ListTests(AppPasswordCase):
    def test_lines(self) -> None:
        """Label, creation, last use with its address, scheme; an empty list is no fault."""
        self.assertEqual(self.succeed("account", "password", "list", "mrose"), "")
        for label in ("phone", "tablet", "a\\b"):
            self.succeed("account", "password", "add", "mrose", label)
        self.succeed("account", "password", "add", "mrose", "old", "--password-stdin", stdin=b"x\n")
        self.clock.advance(3600)
        version = self.successResultOf(self.store.accounts.get("mrose")).version
        for label, peer in (("phone", "192.0.2.1"), ("tablet", None)):
            admission = Admission("mrose", None, "mrose", version, app_password=label, used_from=peer)
            self.successResultOf(self.successResultOf(self.store.open(admission)).release())
        self.assertEqual(
            self.succeed("account", "password", "list", "mrose"),
            "a\\\\b\t2001-09-09T01:46:40Z\tnever\tSSHA512\n"
            "old\t2001-09-09T01:46:40Z\tnever\tARGON2ID\n"
            "phone\t2001-09-09T01:46:40Z\t2001-09-09T02:46:40Z 192.0.2.1\tSSHA512\n"
            "tablet\t2001-09-09T01:46:40Z\t2001-09-09T02:46:40Z\tSSHA512\n")
        self.refused(67, "account", "password", "list", "nobody")


class RevokeTests(AppPasswordCase):
    def test_one(self) -> None:
        """By its label in any case; one that is not there is 67, as no such account is."""
        for label in ("phone", "tablet"):
            self.succeed("account", "password", "add", "mrose", label)
        self.succeed("account", "password", "revoke", "mrose", "Phone")
        self.assertEqual(list(self.there()), ["tablet"])
        self.assertEqual(self.refused(67, "account", "password", "revoke", "mrose", "phone"),
                         "mailgate: no such entry: account 'mrose' has no app password 'phone'\n")
        self.assertIn("no such account", self.refused(67, "account", "password", "revoke", "nobody", "phone"))

    def test_by_passwd(self) -> None:
        """A new password of its own leaves them alone, unless it is said otherwise."""
        self.succeed("account", "password", "add", "mrose", "phone")
        self.succeed("account", "passwd", "mrose", "--password-stdin", stdin=b"new\n")
        self.assertEqual(list(self.there()), ["phone"])
        self.succeed("account", "passwd", "mrose", "--revoke-all", "--password-stdin", stdin=b"newer\n")
        self.assertEqual(list(self.there()), [])
        self.assertTrue(verify(self.own()[0], b"newer"))

    def test_no_password_of_its_own(self) -> None:
        """--none takes it away, with what was kept of it; app passwords stay or go as it is said."""
        self.add("xyz", "--sdps", "--scram", password=b"one\ntwo\n")
        for name in ("mrose", "xyz"):
            self.succeed("account", "password", "add", name, "phone")
            self.succeed("account", "passwd", name, "--none")
            self.assertEqual((self.own(name), list(self.there(name))), ((), ["phone"]))
        self.succeed("account", "passwd", "xyz", "--none", "--revoke-all")
        self.assertEqual(list(self.there("xyz")), [])
        self.succeed("account", "passwd", "mrose", "--password-stdin", stdin=b"back\n")
        self.assertTrue(verify(self.own()[0], b"back"))
        for option in ("--password-stdin", "--scram", "--apop", "--hash-only"):
            self.refused(64, "account", "passwd", "mrose", "--none", option, stdin=b"x\n")
        self.refused(67, "account", "passwd", "nobody", "--none")


class MechanismTests(AppPasswordCase):
    def told(self) -> list[str]:
        config = load(self.file)
        return self._with_store(config, lambda store: standing_in_the_way(config, store))

    def test_who_stands_in_the_way(self) -> None:
        """An account with app passwords, whatever is kept of its own; and it is said why."""
        self.file.write_text(CONFIGURATION + '[accounts]\nkeep = ["scram"]\n')
        self.succeed("account", "passwd", "mrose", "--password-stdin", stdin=b"x\n")
        self.assertEqual(self.told(), [])
        self.succeed("account", "password", "add", "mrose", "phone")
        self.add("plain", "--hash-only")
        [line] = self.told()
        self.assertTrue(line.endswith(" announced, for want of keys: mrose (app passwords), plain"), line)
