"""Folders of Cyrus: what its index says of the files that lie beside it, and what it cannot make us do."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailgate.cli.taking import open_source
from mailgate.formats.entries import BadSource, NotPlain
from mailgate.formats.uniqueids import parse_format
from mailgate.importing.cyrus import CyrusFolder
from tests.formats.test_cyrus import EXPUNGED, index


class FolderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.mkdir()

    def put(self, *uids: int) -> None:
        for uid in uids:
            (self.path / f"{uid}.").write_bytes(b"Subject: %d\r\n\r\nx\r\n" % uid)

    def test_read(self) -> None:
        """In the index's order. What was expunged is left out while its file is there."""
        self.put(1, 2, 5, 9)
        (self.path / "cyrus.index").write_bytes(
            index(17, [(1, 1000, 0), (2, 2000, EXPUNGED), (4, 2500, 0), (5, 3000, 0), (9, 4000, 0)]))
        source = open_source(self.path)
        assert isinstance(source, CyrusFolder)
        found = [(m.name, m.unique_id, m.arrived_ms, b"".join(m.pieces())[:10]) for m in source.messages()]
        self.assertEqual(found, [("1.", b"1700000000.1", 1_000_000, b"Subject: 1"),
                                 ("5.", b"1700000000.5", 3_000_000, b"Subject: 5"),
                                 ("9.", b"1700000000.9", 4_000_000, b"Subject: 9")])
        messages = list(source.messages())
        self.assertEqual(messages[-1].octets, source.octets)
        identities = []
        for _ in range(2):
            for message in messages:
                list(message.pieces())
                identities.append(message.identity())
        self.assertEqual(len(set(identities)), 3)

    def test_uids_that_cannot_be(self) -> None:
        """No id is given twice, and no more messages are looked for than there are files."""
        self.put(1, 3)
        (self.path / "cyrus.index").write_bytes(
            index(17, [(3, 1, 0), (3, 1, 0), (1, 1, 0), *((uid, 1, 0) for uid in range(4, 2000))]))
        self.assertEqual([m.unique_id for m in CyrusFolder(self.path).messages()], [b"1700000000.3"])

    def test_links(self) -> None:
        (self.path / "secret").write_bytes(b"secret")
        (self.path / "1.").symlink_to("secret")
        (self.path / "cyrus.index").write_bytes(index(17, [(1, 1, 0)]))
        (message,) = CyrusFolder(self.path).messages()
        with self.assertRaises(NotPlain):
            list(message.pieces())
        (self.path / "cyrus.index").rename(self.path / "other")
        (self.path / "cyrus.index").symlink_to("other")
        with self.assertRaisesRegex(BadSource, "not a plain file"):
            CyrusFolder(self.path)

    def test_refused(self) -> None:
        with self.assertRaisesRegex(BadSource, "neither a Maildir"):
            open_source(self.path)
        (self.path / "cyrus.index").write_bytes(b"text")
        with self.assertRaisesRegex(BadSource, "too short"):
            open_source(self.path)
        (self.path / "cyrus.index").write_bytes(index(17, []))
        with self.assertRaisesRegex(BadSource, "courier keeps none"):
            open_source(self.path, parse_format("courier"))
        with self.assertRaisesRegex(BadSource, "cyrus keeps none"):
            (self.path / "inbox").write_bytes(b"From a@b Mon Jan  1 00:00:00 2024\n\n")
            open_source(self.path / "inbox", parse_format("cyrus"))
