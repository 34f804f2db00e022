"""Names of files, and whatever else stands on a command line, cannot steer the terminal they are told on."""

from __future__ import annotations

import os
from pathlib import Path

from tests.cli.base import CommandCase

HOSTILE = ("a\r\nmailgate: all is well", "\x1b[2J\x1b]0;x\x07", "\x9b31m", "\u202egnp", "\udcff\udcfe",
           "%s{x}\\", "\x7f\b")
MESSAGE = b"From: a@example.org\n\nhello\n"


class HostileNameTests(CommandCase):
    def check(self, text: str) -> None:
        """Every line is ours and printable."""
        for line in text.splitlines():
            self.assertTrue(line.replace("\t", "").isprintable(), line)

    def test_files_of_a_maildir(self) -> None:
        """A link and an unreadable list are told by name; message files may be called anything."""
        self.add("mrose")
        maildir = self.folder / "Maildir"
        for name in ("new", "cur"):
            (maildir / name).mkdir(parents=True)
        for number, name in enumerate(HOSTILE):
            (maildir / "new" / f"170000000{number}.M1P1.{name}").write_bytes(MESSAGE)
            (maildir / "cur" / f"180000000{number}.M1P1.{name}").symlink_to("/etc/passwd")
        ran = self.command("import", "mrose", str(maildir))
        self.assertEqual(len(self.held("mrose")), len(HOSTILE))
        self.assertEqual(ran.err.count("skipped: not a plain file"), len(HOSTILE))
        self.check(ran.out + ran.err)
        self.assertEqual(len(ran.err.splitlines()), len(HOSTILE))

    def test_paths_and_names(self) -> None:
        """A path that is not there, an account that nobody has, addresses that are none."""
        for name in HOSTILE:
            for arguments in (("import", "mrose", str(self.folder / name)), ("maildrop", "list", name),
                              ("account", "remove", name), ("deliver", "--from", name, "mrose"),
                              ("deliver", "--from", "", name), ("account", "add", name, "--password-stdin")):
                ran = self.command(*arguments, stdin=b"x\n\n")
                if arguments[1] != "add":
                    self.assertNotEqual(ran.code, 0, arguments)
                self.check(ran.out + ran.err)

    def test_a_passwd_file(self) -> None:
        """Lines that are wrong are told by number, and what they hold cannot be seen."""
        path = Path(self.folder / "passwd")
        path.write_bytes(b"".join(os.fsencode(name).replace(b"\n",
                                                            b"") + b":{PLAIN}s3cr3t\n" for name in HOSTILE))
        ran = self.command("account", "load", str(path))
        self.assertNotEqual(ran.code, 0)
        self.assertNotIn("s3cr3t", ran.err)
        self.check(ran.out + ran.err)
