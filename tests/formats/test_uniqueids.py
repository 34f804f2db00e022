"""The setting, and what it finds where no server is asked: refusals, broken lists, ids that are taken."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailgate.formats.entries import BadSource, Folder
from mailgate.formats.known import Distinct, KnownId
from mailgate.formats.uniqueids import CYRUS, MAILDIR, MBOX, Format, parse_format

FROM = b"From a@example.org Mon Jan  1 00:00:00 2024\n"


class SettingTests(SynchronousTestCase):
    def test_forms(self) -> None:
        self.assertEqual(parse_format("auto"), Format())
        self.assertEqual(parse_format("dovecot").template, Format().template)
        self.assertEqual(parse_format("dovecot,reuse_xuidl,md5_all:%m").options, {"reuse_xuidl", "md5_all"})
        template = parse_format("dovecot:%u:%v").template
        self.assertEqual(template.fill({"uid": b"1", "uidvalidity": b"2"}), b"1:2")
        for name, kinds in {"auto": {MAILDIR, MBOX, CYRUS}, "dovecot": {MAILDIR, MBOX}, "courier": {MAILDIR},
                            "cyrus": {CYRUS}, "uw": {MBOX}, "qpopper": {MBOX}, "popa3d": {MBOX},
                            "x-uidl": {MAILDIR, MBOX}}.items():
            found = {kind for kind in (MAILDIR, MBOX, CYRUS) if parse_format(name).keeps(kind)}
            self.assertEqual(found, kinds, name)

    def test_refused(self) -> None:
        for text, words in {"": "no server", "Dovecot": "no server", "exchange": "dovecot, courier",
                            "cyrus:%u": "no template", "dovecot,x": "no option",
                            "courier,md5_all": "it has none",
                            "dovecot:": "no variable", "dovecot:%x": "no variable", "auto ": "no server",
                            "cyrus,cyrus,uidonly": "not several", "dovecot,": "no server"}.items():
            with self.assertRaisesRegex(ValueError, words):
                parse_format(text)

    def test_cyrus(self) -> None:
        """A folder from times when ids were UIDs alone keeps them, whatever is set."""
        self.assertEqual([parse_format(f"cyrus,{form}").cyrus_id(17, 5, old=False) for form in
                          ("cyrus", "uidonly", "dovecot", "courier")],
                         [b"17.5", b"5", b"0000000500000011", b"17-5"])
        self.assertEqual(parse_format("cyrus,courier").cyrus_id(17, 5, old=True), b"5")
        self.assertEqual(Format().cyrus_id(17, 5, old=False), b"17.5")


class MaildirTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.mkdir()

    def ids(self, text: str, *bases: str, header: bytes | None = None) -> dict[str, KnownId]:
        return parse_format(text).maildir_ids(Folder(self.path), set(bases), lambda base: header)

    def test_new_to_the_old_server(self) -> None:
        """What it would give is known where it needs no number; such messages have no place there."""
        (self.path / "dovecot-uidlist").write_text("3 V17 N3\n1 :seen\n")
        self.assertEqual(self.ids("dovecot:%f", "seen", "new"),
                         {"seen": KnownId(((1 << 32) - 1 << 32) + 1, b"seen"), "new": KnownId(None, b"new")})
        self.assertEqual(self.ids("dovecot", "seen", "new").keys(), {"seen"})
        self.assertEqual(self.ids("dovecot:%f", "n\xe9w", "seen")["n\xe9w"], KnownId(None, None))
        self.assertEqual(self.ids("x-uidl", "a", header=b"X-UIDL: kept\n"), {"a": KnownId(None, b"kept")})
        self.assertEqual(self.ids("x-uidl", "a", header=b"Subject: x\n"), {})
        self.assertEqual(self.ids("dovecot,reuse_xuidl", "seen", header=None)["seen"].unique_id,
                         b"0000000100000011")

    def test_whose_list(self) -> None:
        """Only the list of the server that was named counts; for `auto` the one written last."""
        (self.path / "dovecot-uidlist").write_text("3 V17 N3\n1 :a\n")
        (self.path / "courierpop3dsizelist").write_text("/1 7\na 100 4\nb 100 0\nc 9 5\n")
        os.utime(self.path / "dovecot-uidlist", (1, 1))
        self.assertEqual({base: one.unique_id for base, one in self.ids("auto", "a", "b").items()},
                         {"a": b"UID4", "b": b"b"})
        self.assertEqual(self.ids("dovecot", "a", "b").keys(), {"a"})
        self.assertEqual(self.ids("courier", "a")["a"].unique_id, b"UID4")

    def test_list_that_cannot_be_read(self) -> None:
        """Then nothing is known of anything, and that must not go on as if all were new."""
        (self.path / "dovecot-uidlist").mkdir()
        with self.assertRaisesRegex(BadSource, "dovecot-uidlist: not a plain file"):
            self.ids("auto", "a")
        self.assertEqual(self.ids("courier", "a"), {})


class MboxTests(SynchronousTestCase):
    def ids(self, text: str, *headers: bytes) -> list[bytes | None]:
        told = parse_format(text).mbox_ids()
        return [told.of(FROM, header) for header in headers]

    def test_auto(self) -> None:
        """Ids that the messages hold; else those of the server that looks to have counted."""
        counted = (b"X-IMAPbase: 17 9\nX-UID: 5\n", b"X-UIDL: mine\nX-UID: 6\n", b"X-UID: 7\n")
        self.assertEqual(self.ids("auto", *counted), [b"0000000500000011", b"mine", b"0000000700000011"])
        data = b"X-IMAP: 17 9\nSubject: FOLDER INTERNAL DATA\n"
        self.assertEqual(self.ids("auto", data, b"X-UID: 5\n"), [None, b"0000001100000005"])
        self.assertEqual(self.ids("auto", b"Subject: x\n", b"X-UID: 5\n"), [None, None])

    def test_qpopper(self) -> None:
        """It takes no ids for its own that cannot be."""
        kept, digest, long = self.ids("qpopper", b"X-UIDL: 0123456789a\n", b"X-UIDL: 0123456789\n",
                                      b"X-UIDL: " + b"x" * 33 + b"\n")
        self.assertEqual(kept, b"0123456789a")
        self.assertEqual((digest, len(digest or b"")), (long, 20))
        self.assertRegex(self.ids("qpopper,old_style", b"")[0] or b"", rb"^[0-9a-f]{32}$")

    def test_servers_without_an_mbox(self) -> None:
        self.assertEqual(self.ids("courier", b"X-UIDL: x\n"), [None])


class DistinctTests(SynchronousTestCase):
    def test_in_dovecots_way(self) -> None:
        ids = Distinct([b"given"])
        self.assertEqual([ids.give(one) for one in (b"a", b"a", b"a-2", b"a", b"given", b"a b", b"x" * 70)],
                         [b"a", b"a-2", b"a-2-2", b"a-3", b"given-2", None, b"x" * 70])
        self.assertIsNone(ids.give(b"x" * 70))
