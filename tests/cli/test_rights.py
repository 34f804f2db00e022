"""A command that root runs cannot be led astray by whoever owns the store's folder."""

from __future__ import annotations

import os
import re
import shutil
import string
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from mailgate.cli.rights import owner_of_folder, stand_in, take_on
from mailgate.config import load
from tests.running import mailgate

USER = 54321            # of no name
OTHER = 54322
NOBODY = 65534          # of a name, everywhere
LARGE = b"A: 1\n\n" + b"x" * 200_000
MESSAGE = b"From: a@example.org\nSubject: %d\n\nhello\n"


class RootCase(SynchronousTestCase):
    """A folder that belongs to a user, with a store in it, and a folder of root's beside."""

    def setUp(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("only root has rights to give up")
        self.base = Path(tempfile.mkdtemp(prefix="mailgate-rights-"))
        self.addCleanup(shutil.rmtree, self.base)
        self.base.chmod(0o755)
        home = self.base / "home"
        home.mkdir()
        os.chown(home, USER, USER)
        self.folder = home / "lib"
        self.file = self.folder / "mailgate.toml"
        mailgate("init", self.folder, "--hostname", "mail.example.org")
        self.run_it("account", "add", "mrose", "--password-stdin", stdin=b"x\n")
        self.roots = self.base / "apt.conf.d"
        self.roots.mkdir()

    def run_it(self, *arguments: str | Path, stdin: bytes = b"", code: int = 0) -> str:
        return mailgate("-c", self.file, *arguments, stdin=stdin, code=code)

    def plant(self, path: Path, target: Path) -> None:
        """Make a link as the user would."""
        path.symlink_to(target)
        os.chown(path, USER, USER, follow_symlinks=False)

    def listed(self) -> list[str]:
        return self.run_it("maildrop", "list", "mrose").splitlines()


class OwnerTests(RootCase):
    def test_what_root_makes(self) -> None:
        """Configuration, database, bodies and their folders belong to the folder's owner."""
        self.run_it("deliver", "--from", "", "mrose", stdin=LARGE)
        made = [self.folder, *self.folder.rglob("*")]
        self.assertEqual(len(made), 8)      # the folder, the file, the database, bodies, STORE, a/b/body
        self.assertEqual({(path.lstat().st_uid, path.lstat().st_gid) for path in made}, {(USER, USER)})
        self.assertIn("all is well", self.run_it("check"))
        self.assertEqual(len(self.listed()), 1)

    def test_links_in_the_place_of_folders(self) -> None:
        """Bodies go nowhere but to where their owner himself may write: here the mail is put off."""
        bodies = self.folder / "bodies"
        bodies.mkdir()
        for one in string.ascii_lowercase + string.digits:
            (bodies / one).mkdir()
            for two in string.ascii_lowercase + string.digits:
                self.plant(bodies / one / two, self.roots)
        for path in (bodies, *bodies.iterdir()):
            os.chown(path, USER, USER)
        self.run_it("deliver", "--from", "", "mrose", stdin=LARGE, code=os.EX_TEMPFAIL)
        self.assertEqual(list(self.roots.iterdir()), [])

    def test_a_link_in_the_place_of_the_database(self) -> None:
        """Nothing is made where it leads, and nothing there is opened."""
        for path in self.folder.glob("mail.db*"):
            path.unlink()
        self.plant(self.folder / "mail.db", self.roots / "ld.so.preload")
        self.run_it("account", "add", "mrose", "--password-stdin", stdin=b"x\n", code=os.EX_TEMPFAIL)
        self.assertEqual(list(self.roots.iterdir()), [])
        (self.folder / "mail.db").unlink()
        (self.roots / "private").write_bytes(b"")
        (self.roots / "private").chmod(0o600)
        self.plant(self.folder / "mail.db", self.roots / "private")
        written = self.run_it("account", "list", code=os.EX_TEMPFAIL)
        self.assertIn(f"as user id {USER}, whose folder it is", written)
        self.assertEqual((self.roots / "private").stat().st_size, 0)

    def test_a_configuration_that_leads_elsewhere(self) -> None:
        """Its owner says where the store is: no further than he may go himself."""
        text = self.file.read_text()
        for setting, value in (("metadata", f"sqlite:{self.roots}/x"), ("bodies", f"file:{self.roots}")):
            self.file.write_text(re.sub(f'(?m)^{setting} = .*', f'{setting} = "{value}"', text))
            self.run_it("account", "add", "jim", "--password-stdin", stdin=b"x\n",
                        code=os.EX_TEMPFAIL if setting == "metadata" else 0)
            self.run_it("deliver", "--from", "", "mrose", stdin=LARGE, code=os.EX_TEMPFAIL)
            self.assertEqual(list(self.roots.iterdir()), [])

    def test_a_folder_on_the_way_that_is_a_link(self) -> None:
        shutil.copytree(self.folder, self.folder.parent / "copy")
        config = self.base / "etc"
        config.mkdir()
        self.plant(self.folder.parent / "way", self.roots)
        (config / "mailgate.toml").write_text(self.file.read_text().replace(
            '"sqlite:mail.db"', f'"sqlite:{self.folder.parent}/way/mail.db"'))
        self.assertEqual(stand_in(load(config / "mailgate.toml")), USER)
        mailgate("-c", config / "mailgate.toml", "account", "add", "jim", "--password-stdin", stdin=b"x\n",
                 code=os.EX_TEMPFAIL)
        self.assertEqual(list(self.roots.iterdir()), [])

    def test_what_is_roots_own(self) -> None:
        """Nothing is given up; nor is it by others, who have nothing to give."""
        folder = self.base / "own"
        mailgate("init", folder, "--hostname", "mail.example.org")
        self.assertIsNone(stand_in(load(folder / "mailgate.toml")))
        self.assertIsNone(owner_of_folder(folder / "further" / "down"))
        self.assertEqual((folder / "mail.db").stat().st_uid, 0)
        self.assertEqual(owner_of_folder(self.folder / "further" / "down"), USER)
        self.patch(os, "geteuid", lambda: USER)
        self.assertIsNone(stand_in(load(self.file)))
        self.assertIsNone(owner_of_folder(self.folder))


class ImportTests(RootCase):
    """Mailboxes that only root can read, into a store that is the service's user's."""

    def maildir(self) -> Path:
        path = self.base / "Maildir"
        for name in ("cur", "new", "tmp"):
            (path / name).mkdir(parents=True)
        for number in range(3):
            (path / "new" / f"170000000{number}.M1P1.h").write_bytes(MESSAGE % number)
        (path / "new" / "1700000009.M1P1.h").symlink_to(self.roots / "secret")
        self.private(path)
        return path

    def private(self, path: Path) -> None:
        for one in (path, *path.rglob("*")):
            os.chown(one, OTHER, OTHER, follow_symlinks=False)
            if not one.is_symlink():
                one.chmod(0o700 if one.is_dir() else 0o600)

    def test_a_maildir(self) -> None:
        said = self.run_it("import", "mrose", self.maildir())
        self.assertIn("3 messages read, 3 now in the maildrop, 1 skipped", said)
        self.assertIn("1700000009.M1P1.h: skipped: not a plain file", said)
        self.assertIn("3 messages read, 3 now", self.run_it("import", "mrose", self.base / "Maildir"))

    def test_an_mbox(self) -> None:
        path = self.base / "mbox"
        from_line = b"From a@example.org Mon Jan  1 00:00:00 2024\n"
        path.write_bytes(b"\n".join(from_line + MESSAGE % number for number in range(3)))
        self.private(path)
        self.assertIn("3 messages read, 3 now", self.run_it("import", "mrose", path))
        self.assertEqual([line.split("\t")[3] for line in self.listed()], ["a@example.org"] * 3)
        (self.base / "none").write_bytes(b"not one\n")
        self.assertIn("not an mbox", self.run_it("import", "mrose", self.base / "none", code=os.EX_DATAERR))
        self.run_it("import", "nobody", path, code=os.EX_NOUSER)


class TakeOnTests(SynchronousTestCase):
    def in_a_child(self, work: Callable[[], str]) -> str:
        """Return what a function says in a process of its own."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:      # nothing of Twisted's runs here
            try:
                os.write(writing, work().encode())
            except BaseException as fault:
                os.write(writing, repr(fault).encode())
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        with open(reading, "rb") as pipe:
            return pipe.read().decode()

    def test_for_good(self) -> None:
        """User, group and all other groups; and there is no way back."""
        if os.geteuid() != 0:
            raise SkipTest("only root has rights to give up")
        for user in (USER, NOBODY):
            def work(user: int = user) -> str:
                take_on(user)
                try:
                    os.setuid(0)
                except PermissionError:
                    return f"{os.getresuid()} {0 in os.getgroups()} {0 in os.getresgid()}"
                return "root again"

            self.assertEqual(self.in_a_child(work), f"{(user, user, user)} False False")
