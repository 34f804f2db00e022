"""`mailgate check`, `mailgate init`, and where a configuration is looked for."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mailgate.cli import checking, starting
from mailgate.cli.mechanisms import standing_in_the_way
from mailgate.config import Config, load
from tests.cli.base import CONFIGURATION, BrokenStore, CommandCase
from tests.test_config import TEN_MISTAKES


class CheckTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(checking, "_store", lambda config: (self.findings, self.in_the_way(config)))
        self.findings: list[str] = []

    def in_the_way(self, config: Config) -> list[str]:
        return self._with_store(config, lambda store: standing_in_the_way(config, store))

    def test_accounts_in_the_way(self) -> None:
        """Who keeps nothing for a mechanism that others use, or that a setting names, is told; no fault."""
        (self.folder / "mail.db").touch()
        self.add("alice")
        self.assertEqual(self.command("check").err, "")
        self.add("bob", "--scram")
        self.assertIn("SCRAM-SHA-256 and SCRAM-SHA-1 will not be announced, for want of keys: alice\n",
                      self.command("check").err)
        self.file.write_text(CONFIGURATION + 'mechanisms = ["CRAM-MD5"]\n[pop3]\napop = true\n')
        told = self.command("check")
        self.assertEqual(told.code, 0)
        self.assertIn("listen[0].mechanisms: CRAM-MD5 is announced, and cannot work for: alice, bob",
                      told.err)
        self.assertIn("pop3.apop: APOP needs the password itself, which is not kept for: alice, bob",
                      told.err)
        for name in ("alice", "bob"):
            self.succeed("account", "passwd", name, "--scram", "--apop", "--password-stdin", stdin=b"x\n")
        self.assertEqual(self.command("check").err, "")

    def test_well(self) -> None:
        self.assertIn("all is well", self.succeed("check"))

    def test_ten_mistakes(self) -> None:
        """All of them, each with file and path; exit 78."""
        self.file.write_text(TEN_MISTAKES)
        lines = self.refused(78, "check").splitlines()
        self.assertEqual(len(lines), 10)
        for line in lines:
            self.assertTrue(line.startswith(f"mailgate: {self.file}: "), line)

    def test_checker_files(self) -> None:
        """A passwd-file that is missing, or has lines that cannot be read."""
        self.file.write_text(CONFIGURATION + '[[checker]]\nkind = "passwd-file"\npath = "passwd"\n')
        self.assertIn("checker[0].path: ", self.refused(78, "check"))
        (self.folder / "passwd").write_text("a:{PLAIN}x\nb:{NOSUCH}x\n")
        self.assertIn("passwd line 2: ", self.refused(78, "check"))
        (self.folder / "passwd").write_text("a:{PLAIN}x\n")
        self.assertEqual(self.command("check").err, "")
        (self.folder / "passwd").write_text("a:{PLAIN}x")
        told = self.command("check")
        self.assertEqual(told.code, 0)
        self.assertIn("passwd does not end with a line end", told.err)

    def test_socket_folder(self) -> None:
        folder = Path(tempfile.mkdtemp())       # the path of a socket must be short
        self.addCleanup(folder.rmdir)
        self.file.write_text(CONFIGURATION.replace("tcp:1110:interface=127.0.0.1", f"unix:{folder}/run/pop3"))
        self.assertIn("listen[0].endpoint: there is no folder ", self.refused(78, "check"))
        (folder / "run").mkdir()
        self.succeed("check")
        (folder / "run").rmdir()

    def test_store(self) -> None:
        """What is wrong in the store is 65; a store that is elsewhere and missing is configuration."""
        (self.folder / "mail.db").touch()
        self.findings = ["message 3: its body is missing"]
        self.assertEqual(self.refused(65, "check"), "mailgate: store: message 3: its body is missing\n")
        elsewhere = self.folder.parent / "nothing.db"
        self.file.write_text(CONFIGURATION + f'[store]\nmetadata = "sqlite:{elsewhere}"\n')
        self.assertIn("store.metadata: there is no ", self.refused(78, "check"))

    def test_bodies_are_no_folder(self) -> None:
        (self.folder / "mail.db").touch()
        (self.folder / "bodies").touch()
        self.assertIn("store.bodies: ", self.refused(78, "check"))

    def test_broken_store(self) -> None:
        """A store that cannot be opened is told as such."""
        self.patch(checking, "_store", checking_store)
        (self.folder / "mail.db").touch()
        self.patch(__import__("mailgate.cli.running", fromlist=["x"]), "with_store", self._with_store)
        self.store, kept = BrokenStore(), self.store
        self.assertIn("store: try again later: the disk has gone", self.refused(65, "check"))
        self.store = kept


checking_store = checking._store


class InitTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.made: list[Path] = []
        self.patch(starting, "make_store", self.made.append)

    def test_new_folder(self) -> None:
        """The folder is made, for its owner alone; the configuration is one that can be read."""
        folder = self.folder / "a" / "b"
        ran = self.command_as_given("init", str(folder), "--hostname", "pop.example.org")
        self.assertEqual(ran.code, 0)
        config = load(folder / "mailgate.toml")
        self.assertEqual(config.hostname, "pop.example.org")
        self.assertEqual([one.protocol for one in config.listen], ["pop3", "lmtp"])
        self.assertEqual(folder.stat().st_mode & 0o777, 0o700)
        self.assertEqual(self.made, [folder / "mailgate.toml"])

    def test_never_overwrites(self) -> None:
        """73, and what was there is as it was."""
        self.file.write_text("precious")
        self.assertEqual(self.command_as_given("init", str(self.folder)).code, 73)
        self.assertEqual(self.file.read_text(), "precious")
        self.file.unlink()
        (self.folder / "mail.db").write_text("mail")
        self.assertEqual(self.command_as_given("init", str(self.folder)).code, 73)
        self.assertFalse(self.file.exists())
        self.assertEqual(self.command_as_given("init", str(self.folder / "mail.db")).code, 73)
        self.assertEqual(self.made, [])

    def test_names(self) -> None:
        """Without --hostname the machine's name is taken; a bad one is refused."""
        self.patch(starting.socket, "gethostname", lambda: "box.example.org")
        self.assertEqual(self.command_as_given("init", str(self.folder / "a")).code, 0)
        self.assertEqual(load(self.folder / "a/mailgate.toml").hostname, "box.example.org")
        self.patch(starting.socket, "gethostname", lambda: "not a name")
        self.assertEqual(self.command_as_given("init", str(self.folder / "b")).code, 0)
        self.assertEqual(load(self.folder / "b/mailgate.toml").hostname, "localhost")
        self.assertEqual(self.command_as_given("init", str(self.folder / "c"), "--hostname", "a b").code, 64)


class PlaceTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        self.patch(os, "environ", dict(os.environ))
        os.environ.pop("MAILGATE_CONFIG", None)

    def test_order(self) -> None:
        """-c, then the environment, then the current folder."""
        self.assertEqual(self.command_as_given("account", "list").code, 0)
        os.environ["MAILGATE_CONFIG"] = "nothing.toml"
        ran = self.command_as_given("account", "list")
        self.assertEqual((ran.code, ran.err), (
            78, "mailgate: nothing.toml: cannot be read: No such file or directory\n"))
        self.assertEqual(self.command_as_given("-c", str(self.file), "account", "list").code, 0)

    def test_none(self) -> None:
        self.file.unlink()
        ran = self.command_as_given("account", "list")
        self.assertEqual(ran.code, 78)
        self.assertIn("no configuration", ran.err)

    def test_help(self) -> None:
        """Help needs no configuration, and every command has some."""
        self.file.unlink()
        for line in ("--help", "-h", "--version", "account --help", "account add --help", "deliver --help",
                     "import --help", "maildrop list --help", "check --help", "init --help"):
            arguments = line.split()
            ran = self.command_as_given(*arguments)
            self.assertEqual((ran.code, ran.err), (0, ""), arguments)
            self.assertNotEqual(ran.out, "")
