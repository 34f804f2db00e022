"""Maildirs as Dovecot, Courier and others leave them."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailgate.formats.entries import BadSource
from mailgate.importing.maildir import Maildir, is_maildir

DOVECOT = """\
3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1
25006 :1276528487.M364837P9451.kurkku,S=1355,W=1394:2,
25017 W2481 :1276533073.M242911P3632.kurkku:2,F
25018 Pold.uidl.18 O3 G1 :1276533074.M1P2.kurkku
not a line
25019 P\x01bad :1276533075.M1P2.kurkku
"""
COURIER = """\
/2 7 1111111111
1276528487.M364837P9451.kurkku,S=1355,W=1394 1394 3:1111111111
1276533073.M242911P3632.kurkku 2500 4:0
cur/1276533074.M1P2.kurkku:2,S 2500 0:0
1276533075.M1P2+.kurkku 2500 6:1111111111:1
"""


class MaildirCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        for folder in ("cur", "new", "tmp"):
            (self.path / folder).mkdir(parents=True)

    def put(self, name: str, content: bytes = b"Subject: x\n\nbody\n") -> None:
        (self.path / name).write_bytes(content)

    def read(self) -> list[tuple[str, bytes, bytes | None]]:
        return [(m.name, b"".join(m.pieces()), m.unique_id) for m in Maildir(self.path).messages()]


class ReadTests(MaildirCase):
    def test_order_and_time(self) -> None:
        """Without any list, messages come by arrival, which their names tell."""
        self.put("cur/1276533073.M242911P3632.host:2,S", b"second")
        self.put("new/1276528487.M364837P9451.host", b"first")
        self.put("new/1276533073.R242912P3632.host", b"M in no place")
        self.put("tmp/1276528487.half", b"half written")
        self.put("cur/.hidden", b"no message")
        os.utime(self.path / "new/1276528487.M364837P9451.host", (1, 1))
        messages = list(Maildir(self.path).messages())
        self.assertEqual([m.name for m in messages], [
            "1276528487.M364837P9451.host", "1276533073.R242912P3632.host", "1276533073.M242911P3632.host"])
        self.assertEqual([m.arrived_ms for m in messages], [1276528487364, 1276533073000, 1276533073242])
        self.assertEqual([m.unique_id for m in messages], [None] * 3)
        self.assertEqual(messages[-1].octets, Maildir(self.path).octets)

    def test_name_without_time(self) -> None:
        """A name that tells no time has that of its file."""
        self.put("cur/copied-by-hand")
        os.utime(self.path / "cur/copied-by-hand", (1000, 1000))
        self.assertEqual(next(Maildir(self.path).messages()).arrived_ms, 1_000_000)

    def test_identity_survives_flags(self) -> None:
        """A message that was read since, so moved and renamed, is still the same."""
        self.put("new/1.a.host")
        before = [m.identity() for m in Maildir(self.path).messages()]
        (self.path / "new/1.a.host").rename(self.path / "cur/1.a.host:2,S")
        self.assertEqual([m.identity() for m in Maildir(self.path).messages()], before)

    def test_renamed_while_read(self) -> None:
        """Another program may set a flag between our look at the folder and the reading."""
        self.put("new/1.a.host", b"content")
        message = next(Maildir(self.path).messages())
        (self.path / "new/1.a.host").rename(self.path / "cur/1.a.host:2,S")
        self.assertEqual(b"".join(message.pieces()), b"content")
        (self.path / "cur/1.a.host:2,S").unlink()
        with self.assertRaises(FileNotFoundError):
            list(message.pieces())

    def test_shape(self) -> None:
        self.assertTrue(is_maildir(self.path))
        self.assertFalse(is_maildir(self.path / "cur"))
        with self.assertRaises(BadSource):
            Maildir(self.path / "nothing")


class KnownIdTests(MaildirCase):
    def put_all(self) -> None:
        self.put("cur/1276533073.M242911P3632.kurkku:2,FS")
        self.put("new/1276528487.M364837P9451.kurkku,S=1355,W=1394")
        self.put("cur/1276533074.M1P2.kurkku:2,")
        self.put("cur/1276533075.M1P2.kurkku:2,")
        self.put("new/1276533099.M1P2.kurkku")

    def test_dovecot(self) -> None:
        """Ids are UID and UIDVALIDITY in lower-case hex, or what field P keeps; field O orders."""
        self.put_all()
        (self.path / "dovecot-uidlist").write_bytes(DOVECOT.encode())
        self.assertEqual([(name[:10], unique_id) for name, _, unique_id in self.read()], [
            ("1276533074", b"old.uidl.18"),
            ("1276528487", b"000061ae4c0907b0"),
            ("1276533073", b"000061b94c0907b0"),
            ("1276533075", None),
            ("1276533099", None)])

    def test_dovecot_version_1(self) -> None:
        self.put("cur/1.a.host:2,")
        (self.path / "dovecot-uidlist").write_text("1 255 3\n2 1.a.host:2,S\n")
        self.assertEqual([unique_id for _, _, unique_id in self.read()], [b"00000002000000ff"])

    def test_courier(self) -> None:
        """UID and UIDVALIDITY in Courier's way, and what older versions gave: UID alone, file names."""
        self.put_all()
        (self.path / "cur/1276533075.M1P2.kurkku:2,").rename(self.path / "cur/1276533075.M1P2+.kurkku:2,")
        (self.path / "courierpop3dsizelist").write_text(COURIER)
        self.assertEqual([unique_id for _, _, unique_id in self.read()], [
            b"UID3-1111111111", b"UID4", b"1276533074.M1P2.kurkku", b"UID6-1111111111", None])

    def test_the_later_list_counts(self) -> None:
        """Where two servers were used one after the other, the last one's ids are those clients know."""
        self.put("cur/1.a.host:2,")
        (self.path / "dovecot-uidlist").write_text("3 V1 N3\n2 :1.a.host\n")
        (self.path / "courierpop3dsizelist").write_text("/3 3 9\n1.a.host 10 2:9:0\n")
        os.utime(self.path / "courierpop3dsizelist", (1000, 1000))
        self.assertEqual(self.read()[0][2], b"0000000200000001")
        os.utime(self.path / "dovecot-uidlist", (500, 500))
        self.assertEqual(self.read()[0][2], b"UID2-9")

    def test_broken_lists(self) -> None:
        """A list of an unknown form is no reason to refuse the mail."""
        self.put("cur/1.a.host:2,")
        for text in ("", "\n", "4 V1\n2 :1.a.host\n", "/9 1 2\n", "\xff\xfe"):
            (self.path / "dovecot-uidlist").write_bytes(text.encode("latin-1"))
            (self.path / "courierpop3dsizelist").write_bytes(text.encode("latin-1"))
            self.assertEqual([unique_id for _, _, unique_id in self.read()], [None])
