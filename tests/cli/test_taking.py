"""`mailgate import`: what is kept of a message, its envelope and its id, and that twice is once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mailgate.cli.taking import Progress
from mailgate.errors import NoSuchAccount, OverQuota
from mailgate.importing.mbox import Mbox
from tests.cli.base import CommandCase

FROM = b"From joe@example.org Thu Jan  1 00:00:01 1970\n"


class ImportCase(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.add("mrose")
        self.add("xyz", "--sdps")

    def maildir(self, *contents: bytes, name: str = "Maildir") -> Path:
        """Make a Maildir of messages that arrived one second after the other."""
        path = self.folder / name
        for folder in ("cur", "new", "tmp"):
            (path / folder).mkdir(parents=True)
        for number, content in enumerate(contents, 1):
            (path / "cur" / f"{number}.{name}.host:2,S").write_bytes(content)
        return path

    def mbox(self, *contents: bytes, name: str = "mbox") -> Path:
        path = self.folder / name
        path.write_bytes(b"".join(FROM + content + b"\n" for content in contents))
        return path

    def take(self, path: Path, name: str = "mrose") -> str:
        return self.succeed("import", name, str(path))

    def remove(self, *numbers: int) -> None:
        """Remove messages of mrose's as a client does."""
        self.successResultOf(self.open("mrose").commit(numbers))


class ContentTests(ImportCase):
    def test_kept_as_it_is(self) -> None:
        """A message that was delivered once, so has a Return-Path, gets nothing in front."""
        content = b"Return-Path: <a@b>\nReceived: x\nSubject: hi\n\n.body\n>From x\na\rb\0"
        self.assertEqual(self.take(self.maildir(content)), "1 messages read, 1 now in the maildrop\n")
        self.assertEqual(self.contents("mrose"), [
            b"Return-Path: <a@b>\r\nReceived: x\r\nSubject: hi\r\n\r\n.body\r\n>From x\r\na\rb\0\r\n"])
        self.assertEqual(self.held("mrose")[0].octets, len(self.contents("mrose")[0]))

    def test_account_that_is_removed_meanwhile(self) -> None:
        """Its mail is nobody's: told for each message, and no maildrop is left of it."""
        path, begin = self.mbox(b"A: 1\n\n", b"A: 2\n\n"), self.store.deliver

        def deliver() -> Any:
            self.store.accounts.remove("mrose").addErrback(lambda failure: failure.trap(NoSuchAccount))
            return begin()

        self.patch(self.store, "deliver", deliver)
        self.assertEqual(self.refused(67, "import", "mrose", str(path)).count("no such user here"), 2)
        self.add("mrose")
        self.assertEqual(self.held("mrose"), [])

    def test_without_return_path(self) -> None:
        """Else the envelope stands in front, as after any delivery."""
        self.take(self.mbox(b"Subject: hi\n\nbody\n"))
        self.assertEqual(self.contents("mrose"), [
            b"Return-Path: <joe@example.org>\r\nDelivered-To: mrose@mail.example.org\r\n"
            b"Subject: hi\r\n\r\nbody\r\n"])

    def test_large(self) -> None:
        """A message of megabytes comes through whole."""
        content = b"Return-Path: <>\n\n" + b"0123456789abcdef\n" * 200_000
        self.take(self.maildir(content))
        self.assertEqual(self.contents("mrose"), [content.replace(b"\n", b"\r\n")])


class EnvelopeTests(ImportCase):
    def envelope(self, header: bytes, name: str = "mrose") -> tuple[bytes, bytes]:
        path = self.maildir(header + b"\nTo: body@x\n", name=f"M{len(list(self.folder.iterdir()))}")
        self.take(path, name)
        envelope = self.held(name)[-1].envelope
        return envelope.sender, envelope.recipient

    def test_from_the_header(self) -> None:
        own = b"mrose@mail.example.org"
        for header, expected in [
                (b"Return-Path: <A@b.example>\nDelivered-To: x@y\n", (b"A@b.example", b"x@y")),
                (b"Return-Path: <>\n", (b"", own)),
                (b"Subject: x\n", (b"", own)),
                (b"Return-Path: not an address\nDelivered-To: nor this\n", (b"", own)),
                (b"Delivered-To: x@y\nX-Original-To: Alias@z\n", (b"", b"Alias@z")),
                (b"X-Original-To: x@y\nDelivered-To: " + own + b"\n", (b"", own)),
                (b"Return-Path: <first@x>\nReturn-Path: <second@x>\n", (b"first@x", own))]:
            self.assertEqual(self.envelope(header), expected, header)

    def test_arrival(self) -> None:
        """The time is the file name's, or the From line's."""
        path = self.maildir()
        (path / "new" / "100000000.host").write_bytes(b"A: 1\n\n")
        self.take(path)
        self.take(self.mbox(b"A: 1\n\n"))
        self.assertEqual([one.envelope.arrived_ms for one in self.held("mrose")], [100_000_000_000, 1000])

    def test_sdps_host(self) -> None:
        """A user's view holds what was for that user, also under a domain of the past."""
        for user in (b"fred@xyz.mail", b"Fred@xyz.demon", b"sam@xyz.mail"):
            recipient = user + b".example.org"
            self.assertEqual(self.envelope(b"Return-Path: <>\nDelivered-To: " + recipient + b"\n", "xyz")[1],
                             recipient)
        self.assertEqual(self.envelope(b"Return-Path: <>\n", "xyz")[1], b"xyz@xyz.mail.example.org")
        view = self.open("xyz", "fred")
        self.assertEqual(len(view.listing), 2)
        self.successResultOf(view.release())


class UniqueIdTests(ImportCase):
    def ids(self) -> list[bytes]:
        return [one.unique_id for one in self.held("mrose")]

    def test_kept(self) -> None:
        """Clients that left mail on the old server fetch none of it again."""
        path = self.maildir(b"A: 1\n\n", b"A: 2\n\n", b"A: 3\n\n")
        (path / "dovecot-uidlist").write_text("3 V255 N4\n1 :2.Maildir.host\n2 Pold :1.Maildir.host\n")
        self.take(path)
        self.assertEqual(self.ids()[:2], [b"00000001000000ff", b"old"])
        self.assertEqual(len(set(self.ids())), 3)

    def test_mbox(self) -> None:
        self.take(self.mbox(b"X-UIDL: abc\n\n"))
        self.assertEqual(self.ids(), [b"abc"])

    def test_twins(self) -> None:
        """Two messages with one id are both kept; the second gets an id of its own, for good."""
        path = self.mbox(b"X-UIDL: abc\n\none\n", b"X-UIDL: abc\n\ntwo\n", b"X-UIDL: abc\n\none\n")
        self.take(path)
        ids = self.ids()
        self.assertEqual((ids[0], len(set(ids))), (b"abc", 3))
        self.take(path)
        self.assertEqual(self.ids(), ids)

    def test_collision_with_another_source(self) -> None:
        """An id that another message of the maildrop has is no reason to drop mail, of any size."""
        self.take(self.mbox(b"X-UIDL: abc\n\none\n"))
        for number, body in enumerate((b"another", b"two", b"three")):
            path = self.mbox(b"X-UIDL: abc\n\n" + body + b"\n", name=f"other {number}")
            for _ in range(2):
                self.assertEqual(self.take(path), f"1 messages read, {number + 2} now in the maildrop\n")
        self.assertEqual((self.ids()[0], len(set(self.ids()))), (b"abc", 4))

    def test_collision_with_what_was_removed(self) -> None:
        """Clients may remember the id, so it is not given again; the message comes, with another."""
        self.take(self.mbox(b"X-UIDL: abc\n\none\n"))
        self.remove(1)
        self.assertEqual(self.take(self.mbox(b"X-UIDL: abc\n\ntwo\n", name="second")),
                         "1 messages read, 1 now in the maildrop\n")
        self.assertNotEqual(self.ids(), [b"abc"])

    def test_collision_with_new_mail(self) -> None:
        """A sender who writes the id of a message into another one's X-UIDL keeps out neither."""
        self.take(self.maildir(b"A: 1\n\n"))
        self.take(self.mbox(b"X-UIDL: " + self.ids()[0] + b"\n\nanother\n"))
        self.assertEqual(len(set(self.ids())), 2)


class RepeatedTests(ImportCase):
    def test_maildir(self) -> None:
        """New messages come, old ones do not come again: not those read, moved or deleted since."""
        path = self.maildir(b"A: 1\n\n", b"A: 2\n\n")
        (path / "dovecot-uidlist").write_text("3 V255 N4\n1 :1.Maildir.host\n")
        self.take(path)
        self.remove(1)
        (path / "cur/2.Maildir.host:2,S").rename(path / "cur/2.Maildir.host:2,FS")
        (path / "new/3.Maildir.host").write_bytes(b"A: 3\n\n")
        self.assertEqual(self.take(path), "3 messages read, 2 now in the maildrop\n")
        self.assertEqual([content[-8:-4] for content in self.contents("mrose")], [b"A: 2", b"A: 3"])

    def test_mbox(self) -> None:
        first, second, third = b"A: 1\n\nx\n", b"A: 2\n\nx\n", b"A: 3\n\nx\n"
        path = self.mbox(first, second, second)
        self.take(path)
        self.mbox(second.replace(b"\n\n", b"\nStatus: RO\n\n"), second, third)
        self.take(path)
        self.assertEqual(len(self.held("mrose")), 4)

    def test_list_that_came_later(self) -> None:
        """A message that was taken without its id is the same one when the old server's list is there."""
        path = self.maildir(b"A: 1\n\n", b"A: 2\n\n")
        self.take(path)
        self.remove(1)
        (path / "dovecot-uidlist").write_text("3 V255 N4\n1 :1.Maildir.host\n2 :2.Maildir.host\n")
        self.assertEqual(self.take(path), "2 messages read, 1 now in the maildrop\n")

    def test_another_maildir_with_the_same_names(self) -> None:
        """Names that some program made twice keep no message out."""
        self.take(self.maildir(b"A: 1\n\n"))
        path = self.folder / "other" / "Maildir"
        for folder in ("cur", "new"):
            (path / folder).mkdir(parents=True)
        (path / "cur/1.Maildir.host").write_bytes(b"A: another\n\n")
        self.assertEqual(self.take(path), "1 messages read, 2 now in the maildrop\n")

    def test_two_accounts(self) -> None:
        """One source may be taken into several maildrops."""
        path = self.maildir(b"A: 1\n\n")
        self.take(path)
        self.take(path, "xyz")
        self.assertEqual((len(self.held("mrose")), len(self.held("xyz"))), (1, 1))


class RefusedTests(ImportCase):
    def test_sources(self) -> None:
        """66 for what is not there, 65 for what is no mail, 67 for an unknown account."""
        self.refused(66, "import", "mrose", str(self.folder / "nothing"))
        (self.folder / "text").write_text("just text\n")
        self.refused(65, "import", "mrose", str(self.folder / "text"))
        self.refused(65, "import", "mrose", str(self.folder))
        self.refused(67, "import", "nobody", str(self.mbox(b"A: 1\n\n")))
        self.refused(64, "import", "mrose")
        told = self.refused(64, "import", "mrose", str(self.mbox(b"A: 1\n\n")), "--unique-ids", "pine")
        self.assertIn("'pine': no server whose unique-ids are known; there are auto, dovecot,", told)
        told = self.refused(65, "import", "mrose", str(self.mbox(b"A: 1\n\n")), "--unique-ids", "courier")
        self.assertIn("an mbox, but courier keeps none", told)

    def test_over_quota(self) -> None:
        """What has no room is named, the rest is taken; after more room was given, only that comes."""
        self.store._quota_octets = 400
        bounce = b"Return-Path: <>\n\n"
        path = self.maildir(bounce, bounce + b"x" * 400, bounce)
        said = self.refused(75, "import", "mrose", str(path))
        self.assertIn("2.Maildir.host: not taken: over quota", said)
        self.assertEqual(len(self.held("mrose")), 2)
        self.store._quota_octets = None
        self.take(path)
        self.assertEqual(len(self.held("mrose")), 3)
        self.assertTrue(issubclass(OverQuota, Exception))


class HostileTests(ImportCase):
    """What others put into a mailbox, and what senders put into their mail."""

    def test_links(self) -> None:
        """What a link leads to is not taken; a line says so, and the rest comes in."""
        path = self.maildir(b"A: 1\n\n", b"A: 2\n\n")
        (path / "cur/3.link.host").symlink_to(self.file)
        (path / "new/4.\x1blink.host").symlink_to(self.file)
        ran = self.command("import", "mrose", str(path))
        self.assertEqual((ran.code, ran.out), (0, "2 messages read, 2 now in the maildrop, 2 skipped\n"))
        self.assertEqual(ran.err.splitlines(), [
            "mailgate: 3.link.host: skipped: not a plain file",
            "mailgate: 4.\\x1blink.host: skipped: not a plain file"])
        self.assertEqual(len(self.contents("mrose")), 2)
        (path / "dovecot-uidlist").symlink_to(self.file)
        self.assertIn("dovecot-uidlist: not a plain file", self.refused(65, "import", "mrose", str(path)))

    def test_unreadable(self) -> None:
        """One message that the system does not give is named, and the exit code tells; the rest comes in."""
        path = self.maildir(b"A: 1\n\n", b"A: 2\n\n")
        real = os.open

        def refusing(name: Any, *arguments: Any, **options: Any) -> int:
            if name == "1.Maildir.host:2,S":
                raise PermissionError(13, "Permission denied")
            return real(name, *arguments, **options)

        self.patch(os, "open", refusing)
        self.assertEqual(self.refused(66, "import", "mrose", str(path)),
                         "mailgate: 1.Maildir.host: not taken: Permission denied\n")
        self.assertEqual(len(self.held("mrose")), 1)

    def test_times(self) -> None:
        """Impossible ones keep no message out, neither their own nor those behind."""
        path = self.maildir(b"A: 1\n\n")
        (path / "new" / ("9" * 40 + ".M1P1.h")).write_bytes(b"A: 2\n\n")
        self.take(path)
        body = b"A: 3\n\nbody\n\nFrom x@y Mon Jan  1 00:00:00 0000\nmore\n"
        self.take(self.mbox(body, b"A: 4\n\n"))
        self.assertEqual(len(self.contents("mrose")), 4)
        self.assertIn(body.replace(b"\n", b"\r\n"), self.contents("mrose")[2])

    def test_addresses(self) -> None:
        """Header fields that are no addresses, or too long to be one, keep no message out."""
        header = b"Return-Path: <%b>\nX-Original-To: %b\nDelivered-To: <%b>\nA: %d\n\n"
        path = self.mbox(*[
            header % (value, value, value, number) for number, value in enumerate((
                b"x" * 65 + b"@y", b"x@" + b"y" * 300, b"@", b"\xff@y", b"a@b>, <c@d", b"x" * 900_000 + b"@y",
                b"\0@y", b'""@y', b'"' + b"\\a" * 40 + b'"@y', b"\xc3\xbc@y", b"x" * 65))])
        self.take(path)
        for one in self.held("mrose"):
            self.assertLess(len(one.envelope.sender), 600)
            self.assertLess(len(one.envelope.recipient), 400)
        self.assertEqual(len(self.held("mrose")), 11)

    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.sampled_from([
        b"Return-Path: ", b"Delivered-To: ", b"X-Original-To: ", b"X-UIDL: ", b"<", b">", b"a@b", b"@", b"\n",
        b" ", b"\n\n", FROM, b'"', b"\\", b"\xff", b"\0", b"\r", b"abc", b"[", b"IPv6:", b"x" * 300, b"+",
        b"mrose"])
        | st.binary(max_size=5), max_size=25))
    def test_any_octets(self, parts: list[bytes]) -> None:
        """Every message of an mbox is taken, once."""
        path = self.mbox(b"".join(parts))
        before = len(self.held("mrose"))
        count = len(list(Mbox(path).messages()))
        self.assertEqual(int(self.take(path).split()[0]), count)
        held = len(self.held("mrose"))
        self.assertLessEqual(held - before, count)
        self.take(path)
        self.assertEqual(len(self.held("mrose")), held)


class ProgressTests(ImportCase):
    def test_shown(self) -> None:
        """With --progress how far it is goes to standard error; piped, by default nothing does."""
        path = self.maildir(b"A: 1\n\n", b"A: 2\n\n")
        ran = self.command("import", "mrose", str(path), "--progress")
        self.assertEqual(ran.code, 0)
        self.assertEqual(ran.err.splitlines()[-1], "2 messages, 100 %")
        self.assertEqual(self.command("import", "mrose", str(path)).err, "")

    def test_not_too_often(self) -> None:
        """A hundred thousand messages do not make as many lines."""
        now = 0.0
        progress = Progress(1000, True, lambda: now)
        written: list[str] = []
        self.patch(__import__("click"), "echo", lambda line, **options: written.append(line))
        for number in range(1000):
            now = number / 1000
            progress.at(number, number)
        progress.at(1000, 1000, last=True)
        self.assertEqual(len(written), 3)
