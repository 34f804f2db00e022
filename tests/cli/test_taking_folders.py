"""`mailgate import` of a Maildir with folders below it, and of marks."""

from __future__ import annotations

import os
from pathlib import Path

from mailgate.importing.forked import ForkedSource
from mailgate.importing.maildir import Maildir
from mailgate.model import INBOX
from tests.cli.test_taking import FROM, ImportCase


class FolderCase(ImportCase):
    def below(self, path: Path, directory: str, *contents: bytes, flags: str = "S") -> Path:
        """Make a folder of a Maildir++, its messages one second apart; the first one in `new`."""
        for name in ("cur", "new", "tmp"):
            (path / directory / name).mkdir(parents=True)
        for number, content in enumerate(contents, 1):
            name = f"cur/{number}.host:2,{flags}" if number > 1 else f"new/{number}.host"
            (path / directory / name).write_bytes(content)
        return path / directory

    def in_folders(self) -> dict[str, list[tuple[bytes, str]]]:
        """Return what mrose's folders hold: contents and flags."""
        found = {}
        for folder in self.successResultOf(self.store.folders("mrose")):
            peeked = self.successResultOf(self.store.peek("mrose", folder))
            listed = self.successResultOf(self.store.scan("mrose", folder))
            contents = [peeked.fetch(one.number) for one in listed]
            found[folder] = [(content[content.index(b"A: "):], one.flags)
                             for content, one in zip(contents, listed, strict=True)]
        return found


class FolderTests(FolderCase):
    def test_folders_are_taken(self) -> None:
        """Their names, as Courier and Dovecot write them; marks; no unique-ids. POP3 sees the INBOX."""
        path = self.maildir(b"A: in\n\n")
        (path / "dovecot-uidlist").write_text("3 V1 N5 Gx\n4 :1.Maildir.host\n")
        sent = self.below(path, ".Sent", b"A: s1\n\n", b"A: s2\n\n", flags="RS")
        (sent / "dovecot-uidlist").write_text("3 V1 N5 Gx\n4 :1.host\n")
        (sent / "maildirfolder").touch()
        self.below(path, ".Sent.&U,BTFw-", b"A: t\n\n")
        self.below(path, ".Jim&AC4-B", b"A: j1\n\n", b"A: j2\n\n", flags="FTZa")
        self.below(path, ".Empty")
        self.assertEqual(self.take(path), "6 messages read, 6 now in the maildrop\n")
        self.assertEqual(self.in_folders(), {
            INBOX: [(b"A: in\r\n\r\n", "S")],
            "Jim.B": [(b"A: j1\r\n\r\n", ""), (b"A: j2\r\n\r\n", "FT")],
            "Sent": [(b"A: s1\r\n\r\n", ""), (b"A: s2\r\n\r\n", "RS")],
            "Sent/\u53f0\u5317": [(b"A: t\r\n\r\n", "")]})
        self.assertEqual([one.unique_id for one in self.held("mrose")], [b"0000000400000001"])
        self.assertEqual(len(self.open("mrose").listing), 1)

    def test_repeated(self) -> None:
        """What was taken, from whichever folder, is not taken again; copies in two folders are two."""
        path = self.maildir()
        for name in (".a", ".b"):
            self.below(path, name, b"A: 1\n\n", b"A: 2\n\n")
        self.assertEqual(self.take(path), "4 messages read, 4 now in the maildrop\n")
        gone = [one.unique_id for one in self.successResultOf(self.store.scan("mrose", "a"))]
        self.successResultOf(self.store.expunge("mrose", "a", gone[:1]))
        self.below(path, ".c", b"A: 3\n\n")
        os.rename(path / ".b/new/1.host", path / ".b/cur/1.host:2,FS")
        self.assertEqual(self.take(path), "5 messages read, 4 now in the maildrop\n")
        self.assertEqual([len(mails) for mails in self.in_folders().values()], [0, 1, 2, 1])

    def test_without_folders(self) -> None:
        """Only what POP3 shows, if that is wanted; the folders can come later."""
        path = self.maildir(b"A: in\n\n")
        self.below(path, ".a", b"A: 1\n\n")
        self.assertEqual(self.succeed("import", "mrose", str(path), "--no-folders"),
                         "1 messages read, 1 now in the maildrop\n")
        self.assertEqual(self.take(path), "2 messages read, 2 now in the maildrop\n")

    def test_what_is_no_folder(self) -> None:
        """Files and other programs' directories lie about in Maildirs."""
        path = self.maildir(b"A: in\n\n")
        (path / ".customflags").write_text("x")
        (path / ".cache" / "cur").mkdir(parents=True)
        self.below(path, "Sent", b"A: no dot\n\n")
        self.assertEqual(self.take(path), "1 messages read, 1 now in the maildrop\n")
        self.assertEqual(list(self.in_folders()), [INBOX])

    def test_read_by_another_process(self) -> None:
        """Folders and flags come through its pipe, the rest too."""
        path = self.maildir(b"A: in\n\n")
        self.below(path, ".a", b"A: 1\n\n", b"A: 2\n\n", flags="RS")
        os.symlink("/", path / ".link")

        def read(source) -> list[object]:
            found = []
            for message in source.messages():
                folder = message.folder
                try:
                    content = b"".join(message.pieces())
                except Exception as fault:
                    content = str(fault)
                found.append((message.name, folder, content, message.flags, message.octets,
                              message.arrived_ms, message.identity()))
            return found

        expected = read(Maildir(path))
        self.assertEqual([row[1:4] for row in expected[:3]], [
            (INBOX, b"A: in\n\n", "S"), ("a", b"A: 1\n\n", ""), ("a", b"A: 2\n\n", "RS")])
        self.assertEqual(read(ForkedSource(Maildir(path))), expected)

    def test_store_without_folders(self) -> None:
        """What they hold is left out, and that is said."""
        path = self.maildir(b"A: in\n\n")
        self.below(path, ".a", b"A: 1\n\n", b"A: 2\n\n")
        self.patch(__import__("mailgate.cli.taking").cli.taking, "IFolderStore", _Nobody)
        ran = self.command("import", "mrose", str(path))
        self.assertEqual((ran.code, ran.out), (0, "1 messages read, 1 now in the maildrop, 1 skipped\n"))
        self.assertIn("a: skipped: the store has no folders; 2 messages", ran.err)


class HostileFolderTests(FolderCase):
    def test_names(self) -> None:
        """None leads out of the maildrop, into the INBOX, or breaks a line; who has such a folder is told."""
        path = self.maildir(b"A: in\n\n")
        names = [b"...", b".a..b", b".INBOX", b".inbox", b".&AEkATgBCAE8AWA-", b".&AAo-", b".a.&AC4ALg-",
                 b".\xff", b".a\nb", b".\x1b[2J", b"." + b"x" * 254]
        for name in names[:-1]:
            self.below(path, os.fsdecode(name), b"A: hostile\n\n")
        self.below(path, os.fsdecode(names[-1]), b"A: long\n\n")
        self.below(path, ".&AC8AZQB0AGM-.x", b"A: etc\n\n")
        self.below(path, ".ok&", b"A: ok\n\n")
        ran = self.command("import", "mrose", str(path))
        self.assertEqual(ran.code, 0, ran)
        self.assertEqual(ran.out, "3 messages read, 3 now in the maildrop, 11 skipped\n")
        self.assertEqual(list(self.in_folders()), [INBOX, "ok&", "x" * 254])
        lines = ran.err.splitlines()
        self.assertEqual(len(lines), 11)
        self.assertTrue(all(line.isprintable() and line.startswith("mailgate: .") for line in lines), ran.err)

    def test_links(self) -> None:
        """None is followed: neither a folder's nor that of its parts, nor a message's."""
        path, other = self.maildir(), self.maildir(b"A: secret\n\n", name="other")
        os.symlink(other, path / ".link")
        folder = self.below(path, ".a")
        os.rmdir(folder / "cur")
        os.symlink(other / "cur", folder / "cur")
        folder = self.below(path, ".b", b"A: 1\n\n")
        os.symlink(other / "cur" / "1.other.host:2,S", folder / "cur" / "2.host:2,S")
        ran = self.command("import", "mrose", str(path))
        self.assertEqual(ran.code, os.EX_NOINPUT, ran)
        self.assertEqual(ran.out, "1 messages read, 1 now in the maildrop, 2 skipped\n")
        self.assertEqual(self.in_folders(), {INBOX: [], "b": [(b"A: 1\r\n\r\n", "")]})
        self.assertNotIn("secret", ran.err)

    def test_many_folders(self) -> None:
        """More than a process may have files open: one after the other is read."""
        path = self.maildir()
        for number in range(400):
            self.below(path, f".{number:03}", b"A: %d\n\n" % number)
        before = len(os.listdir("/proc/self/fd"))
        open_at_once = 0
        for message in Maildir(path).messages():
            self.assertTrue(b"".join(message.pieces()))
            open_at_once = max(open_at_once, len(os.listdir("/proc/self/fd")) - before)
        self.assertLess(open_at_once, 20)

    def test_a_folder_that_goes_away(self) -> None:
        """Between the first look and its turn: the others are taken."""
        path = self.maildir()
        for name in (".a", ".b", ".c"):
            self.below(path, name, b"A: 1\n\n")
        source = Maildir(path)
        os.rename(path / ".b", path / "gone")
        self.assertEqual([message.folder for message in source.messages()], ["a", "c"])


class MarkTests(FolderCase):
    def test_of_a_maildir(self) -> None:
        """Letters of the file's name; of a message in `new` none."""
        path = self.maildir(b"A: 1\n\n")
        (path / "new" / "2.host").write_bytes(b"A: 2\n\n")
        (path / "cur" / "3.host:2,TFDPRSab").write_bytes(b"A: 3\n\n")
        self.take(path)
        self.assertEqual([one.flags for one in self.held("mrose")], ["S", "", "DFPRST"])

    def test_of_an_mbox(self) -> None:
        """What Status and X-Status say."""
        path = self.folder / "mbox"
        path.write_bytes(b"".join(FROM + header + b"\nbody\n\n" for header in (
            b"A: 1\n", b"Status: RO\n", b"status: O\nX-STATUS: AF\n", b"Status: R\nX-Status: DT\nA: 2\n")))
        self.take(path)
        self.assertEqual([one.flags for one in self.held("mrose")], ["", "S", "FR", "DST"])


class _Nobody:
    @staticmethod
    def providedBy(thing: object) -> bool:
        return False
