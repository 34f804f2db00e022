"""Names of folders in a Maildir++."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.formats.maildirnames import directory_of, folder_of
from mailgate.model import INBOX
from mailgate.names import find_folder


class FolderTests(SynchronousTestCase):
    def test_as_other_programs_write_them(self) -> None:
        """RFC 3501 section 5.1.3; a dot within a part as Courier writes it."""
        for folder, directory in [
            ("Sent", ".Sent"), ("a/b", ".a.b"), ("R&D", ".R&-D"), ("Entw\u00fcrfe", ".Entw&APw-rfe"),
            ("\u53f0\u5317/\u65e5\u672c\u8a9e", ".&U,BTFw-.&ZeVnLIqe-"), ("Jim.B", ".Jim&AC4-B"),
            ("INBOX/x", ".INBOX.x"), ("\U0001f600", ".&2D3eAA-"), ("~/a b", ".~.a b"),
        ]:
            self.assertEqual((directory_of(folder), folder_of(directory)), (directory, folder))

    def test_names_that_are_no_utf_7(self) -> None:
        """Are taken as they stand: no mail is left out for its folder's name."""
        for directory, folder in [(".R&D", "R&D"), (".Entw\u00fcrfe", "Entw\u00fcrfe"), (".&!!-", "&!!-"),
                                  (".&2D0-", "&2D0-"), (".a.&AGE", "a/&AGE"), (".&AGEA-", "&AGEA-")]:
            self.assertEqual(folder_of(directory), folder)

    def test_directories_that_are_no_folders(self) -> None:
        """Nothing escapes by what is hidden in UTF-7, and nothing takes the INBOX's place."""
        for directory in ("", "a", ".", "..", "...", ".a..b", ".a.", ".INBOX", ".inbox", ".&AEkATgBCAE8AWA-",
                          ".&AAA-", ".&AAo-", ".a.&AC4ALg-", ".&AC4-", ".\udcff", ".\n", ".&AC8-a"):
            self.assertIsNone(folder_of(directory), ascii(directory))

    @settings(deadline=None)
    @given(st.text(st.sampled_from("a.&/-+,\\ \u00fc\u65e5\U0001f600\x00"), max_size=12)
           | st.text(max_size=12))
    def test_any_name(self, name: str) -> None:
        """What can be a folder's comes back from its directory; a directory gives a folder or none."""
        folder = find_folder(name)
        if folder not in (None, INBOX):
            directory = directory_of(folder)
            self.assertTrue(directory.isascii() and "/" not in directory and directory.isprintable())
            self.assertEqual(folder_of(directory), folder)
        found = folder_of(f".{name}")
        self.assertEqual(found, None if found is None else find_folder(found))
