"""`mailgate deliver` as delivery agents are used: exit codes, envelope, what is kept of the message."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mailgate.cli.delivering import _checked
from mailgate.errors import OverQuota, StoreFull, StoreUnavailable
from tests.cli.base import CONFIGURATION, BrokenStore, CommandCase

MESSAGE = b"Subject: hi\n\n.body\nFrom here\n"


class DeliverCase(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.add("mrose")
        self.add("xyz", "--sdps")

    def deliver(self, *recipients: str, sender: str = "a@b.example", message: bytes = MESSAGE) -> None:
        self.succeed("deliver", "--from", sender, *recipients, stdin=message)


class StoredTests(DeliverCase):
    def test_message(self) -> None:
        """Return-Path and Delivered-To in front, then our Received, then the message with CRLF."""
        self.deliver("mrose@mail.example.org")
        [content] = self.contents("mrose")
        head, _, body = content.partition(b"Subject: ")
        self.assertEqual(head.splitlines()[:2], [
            b"Return-Path: <a@b.example>", b"Delivered-To: mrose@mail.example.org"])
        self.assertRegex(head, rb"Received: by mail\.example\.org with local id \w+\r\n"
                               rb"\tfor <mrose@mail\.example\.org>; \w+, ")
        self.assertEqual(body, b"hi\r\n\r\n.body\r\nFrom here\r\n")
        [listed] = self.held("mrose")
        self.assertEqual(listed.octets, len(content))

    def test_envelope(self) -> None:
        """The recipient is kept as it was given; an SDPS view finds it by its local part."""
        self.deliver("Fred@XYZ.mail.example.org", sender="")
        [listed] = self.held("xyz")
        self.assertEqual(listed.envelope[:2], (b"", b"Fred@XYZ.mail.example.org"))
        view = self.open("xyz", "fred")
        self.assertEqual(len(view.listing), 1)
        self.successResultOf(view.release())

    def test_senders(self) -> None:
        """The null sender in both spellings, brackets, a local user's name, options' look-alikes."""
        for sender in ("", "<>", "<a@b.example>", "root", "MAILER-DAEMON", "-f@b.example"):
            self.deliver("mrose@mail.example.org", sender=sender)
        self.assertEqual([one.envelope.sender for one in self.held("mrose")],
                         [b"", b"", b"a@b.example", b"root", b"MAILER-DAEMON", b"-f@b.example"])

    def test_recipients(self) -> None:
        """A bare name, brackets, the same one twice; behind -- nothing is an option."""
        self.deliver("mrose", "<mrose@mail.example.org>", "mrose@MAIL.example.org",
                     "fred@xyz.mail.example.org", "sam@xyz.mail.example.org")
        self.assertEqual(len(self.held("mrose")), 2)
        self.assertEqual(len(self.held("xyz")), 2)
        self.succeed("deliver", "--from", "a@b.example", "--", "mrose", stdin=b"x\n")
        self.refused(67, "deliver", "--from", "a@b.example", "--", "--from", stdin=b"x\n")

    def test_one_received_for_many(self) -> None:
        """With several recipients none of them is told of the others."""
        self.deliver("mrose", "fred@xyz.mail.example.org")
        self.assertNotIn(b"for <", self.contents("mrose")[0])

    def test_account_that_is_removed_meanwhile(self) -> None:
        """Between the recipient and the message's end: 67, nobody has it, and no maildrop is left of it."""
        begin = self.store.deliver

        def deliver() -> Any:
            self.successResultOf(self.store.accounts.remove("mrose"))
            return begin()

        self.patch(self.store, "deliver", deliver)
        self.assertIn("no such user here", self.refused(
            67, "deliver", "--from", "", "mrose", "fred@xyz.mail.example.org", stdin=MESSAGE))
        self.assertEqual((self.held("mrose"), self.held("xyz")), ([], []))
        self.add("mrose")

    def test_from_lines(self) -> None:
        """Lines in front that are no header are dropped: an mbox separator, UUCP's marks."""
        for lines in (b"From a@b Thu Jan  1 00:00:00 1970\n", b"From a\n>From b remote\n", b">From a\n"):
            self.deliver("mrose", message=lines + b"Subject: x\n\n>From body\nFrom body\n")
        for content in self.contents("mrose"):
            self.assertTrue(content.endswith(b"+0000\r\nSubject: x\r\n\r\n>From body\r\nFrom body\r\n"))

    def test_return_path(self) -> None:
        """The message's own Return-Path gives way to the envelope's."""
        fields = b"Return-Path: <evil@x>\nReturn-path:\n <y@z>\nA: 1\n"
        self.deliver("mrose", message=fields + b"\nReturn-Path: body\n")
        [content] = self.contents("mrose")
        self.assertEqual(content.count(b"Return-Path: <"), 1)
        self.assertTrue(content.endswith(b"\r\nA: 1\r\n\r\nReturn-Path: body\r\n"), content)

    def test_odd_octets(self) -> None:
        """Bare CR and NUL are kept; an empty message is a message."""
        self.deliver("mrose", message=b"A: 1\n\na\rb\0c")
        self.deliver("mrose", message=b"")
        first, second = self.contents("mrose")
        self.assertTrue(first.endswith(b"\r\n\r\na\rb\0c\r\n"))
        self.assertTrue(second.endswith(b"+0000\r\n"))

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.sampled_from([b"From x\n", b">From y\n", b"A: 1\n", b"\n", b"Fro", b"m ", b">", b"x"]),
                    max_size=8), st.integers(1, 9))
    def test_any_cut(self, parts: list[bytes], size: int) -> None:
        """What passes does not depend on where the input was cut."""
        message = b"".join(parts)
        pieces = [message[at:at + size] for at in range(0, len(message), size)]
        passed = b"".join(_checked(pieces, 0, 100))
        self.assertEqual(passed, b"".join(_checked([message], 0, 100)))
        self.assertFalse(passed.startswith((b"From ", b">From ")))
        if not message.lstrip(b">").startswith(b"From "):
            self.assertEqual(passed, message)


class RefusedTests(DeliverCase):
    def nothing_stored(self) -> None:
        self.assertEqual((self.held("mrose"), self.held("xyz")), ([], []))

    def test_unknown_recipient(self) -> None:
        """67, every unknown one named, and nobody gets anything."""
        said = self.refused(67, "deliver", "--from", "", "mrose", "nobody@mail.example.org",
                            "a@elsewhere.example", stdin=MESSAGE)
        self.assertEqual(said, "mailgate: nobody@mail.example.org: no such user here\n"
                               "mailgate: a@elsewhere.example: no such domain here\n")
        self.nothing_stored()

    def test_bad_addresses(self) -> None:
        """65 for what is no address."""
        for recipient in ("", "a b@c", "a@b@c", "<a@b", "a@-b-", "x" * 70 + "@mail.example.org", "a\nb@c"):
            self.refused(65, "deliver", "--from", "", "--", "mrose", recipient, stdin=MESSAGE)
        for sender in ("a b@c", "<a@b", "a@b>\nEvil: x"):
            self.refused(65, "deliver", "--from", sender, "mrose", stdin=MESSAGE)
        self.nothing_stored()

    def test_usage(self) -> None:
        for arguments in (["mrose"], ["--from", "a@b"], ["--from"], ["--from", "a@b", "--frob", "mrose"]):
            self.refused(64, "deliver", *arguments, stdin=MESSAGE)

    def test_too_large(self) -> None:
        self.file.write_text(CONFIGURATION + "[limits]\nsize_octets = 100\n")
        self.refused(65, "deliver", "--from", "", "mrose", stdin=b"x" * 101)
        self.nothing_stored()
        self.succeed("deliver", "--from", "", "mrose", stdin=b"x" * 100)

    def test_loop(self) -> None:
        self.refused(65, "deliver", "--from", "", "mrose", stdin=b"Received: x\n" * 100 + b"\n")
        self.nothing_stored()
        self.succeed("deliver", "--from", "", "mrose", stdin=b"Received: x\n" * 99 + b"\n")

    def test_store_out_of_order(self) -> None:
        """75: the mail system keeps the message and tries again."""
        for fault in (StoreUnavailable(), StoreFull("disk full"), OverQuota("mrose")):
            self.store, kept = BrokenStore(fault), self.store
            self.refused(75, "deliver", "--from", "", "mrose", stdin=MESSAGE)
            self.store = kept

    def test_one_over_quota(self) -> None:
        """All or nothing: where one has no room, nobody gets it, and the real reason is told."""
        self.store._quota_octets = 500
        self.succeed("deliver", "--from", "", "mrose", stdin=MESSAGE)
        said = self.refused(75, "deliver", "--from", "", "fred@xyz.mail.example.org", "mrose",
                            stdin=MESSAGE * 8)
        self.assertIn("over quota", said)
        self.successResultOf(self.store.remove("mrose"))
        self.nothing_stored()

    def test_no_configuration(self) -> None:
        """78, whatever is wrong with it."""
        self.file.write_text(CONFIGURATION + "colour = 3\n")
        self.assertIn(f"{self.file}: listen[0].colour: ", self.refused(
            78, "deliver", "--from", "", "mrose", stdin=MESSAGE))
        self.file.unlink()
        self.refused(78, "deliver", "--from", "", "mrose", stdin=MESSAGE)


class OtherUsersTests(CommandCase):
    def test_passwd_file(self) -> None:
        """A user whom only a passwd-file knows receives mail too."""
        (self.folder / "passwd").write_text("legacy:{PLAIN}x\n")
        self.file.write_text(CONFIGURATION + """
            [[checker]]
            kind = "store"
            [[checker]]
            kind = "passwd-file"
            path = "passwd"
        """)
        self.succeed("deliver", "--from", "", "legacy@mail.example.org", stdin=MESSAGE)
        self.assertEqual(len(self.held("legacy")), 1)
        self.refused(67, "deliver", "--from", "", "other@mail.example.org", stdin=MESSAGE)
