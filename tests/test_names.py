"""Names: how they are compared, split, and which ones an account may have."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import AccountConflict, BadAddress, FolderConflict
from mailgate.names import (
    MAX_DOMAIN_OCTETS,
    MAX_FOLDER_OCTETS,
    MAX_LOCAL_OCTETS,
    MAX_NAME_OCTETS,
    Candidate,
    check_domain,
    check_folder,
    check_name,
    find_folder,
    fold,
    login_candidates,
    split_address,
)

ANY_TEXT = st.text(max_size=30) | st.text(st.sampled_from("aA@+. :/\0\n\x85\u2028ä\udcff"), max_size=20)
free = settings(deadline=None, max_examples=200)


class FoldTests(SynchronousTestCase):
    """The key of a name."""

    def test_only_ascii_letters_are_folded(self) -> None:
        """Whatever else Unicode takes for the same letter stays as it is."""
        self.assertEqual(fold("Fred.Bloggs-1@EXAMPLE.Org"), "fred.bloggs-1@example.org")
        for kept in ("\u00c4", "\u0130", "\u212a", "\u00df", "\u03a3", "\ufb01", "\udcff", "@[`{"):
            self.assertEqual(fold(kept), kept)

    @free
    @given(ANY_TEXT)
    def test_a_key_is_its_own_key(self, name: str) -> None:
        """Folding twice is folding once, and changes no length."""
        self.assertEqual(fold(fold(name)), fold(name))
        self.assertEqual(len(fold(name)), len(name))


class LoginCandidateTests(SynchronousTestCase):
    """What a login name may mean."""

    def check(self, login: str, *expected: Candidate) -> None:
        self.assertEqual(login_candidates(login), expected)

    def test_a_plain_name_has_one_reading(self) -> None:
        """Its key."""
        self.check("MRose", Candidate("mrose"))
        self.check("", Candidate(""))

    def test_splits(self) -> None:
        """At the last separator of each kind, `@` first; host and user in their keys."""
        self.check("Fred@XYZ", Candidate("fred@xyz"), Candidate("xyz", "fred"))
        self.check("Fred+XYZ", Candidate("fred+xyz"), Candidate("xyz", "fred"))
        self.check("a@b@c", Candidate("a@b@c"), Candidate("c", "a@b"))
        self.check("a+b@c", Candidate("a+b@c"), Candidate("c", "a+b"), Candidate("b@c", "a"))
        self.check("a@b+c", Candidate("a@b+c"), Candidate("b+c", "a"), Candidate("c", "a@b"))

    def test_an_empty_half_is_no_reading(self) -> None:
        """Neither a user without a name nor a host without one."""
        for login in ("@xyz", "fred@", "+xyz", "fred+", "@", "+"):
            self.check(login, Candidate(login))
        self.check("@+xyz", Candidate("@+xyz"), Candidate("xyz", "@"))

    @free
    @given(ANY_TEXT)
    @example("@@++")
    def test_any_login(self, login: str) -> None:
        """The exact key first; every split can be put together again."""
        first, *splits = login_candidates(login)
        self.assertEqual(first, (fold(login), None))
        self.assertLessEqual(len(splits), 2)
        for key, user in splits:
            self.assertTrue(key and user)
            self.assertIn(fold(login), (f"{user}@{key}", f"{user}+{key}"))


class SplitAddressTests(SynchronousTestCase):
    """Local part and domain."""

    def test_halves_as_they_are_given(self) -> None:
        """Case and quotes kept; the domain stands behind the last `@`."""
        for address, expected in {
            "Fred@Example.org": ("Fred", "Example.org"), '"a@b c"@xyz': ('"a@b c"', "xyz"),
            "a@b@c": ("a@b", "c"), "postmaster": ("postmaster", ""), "grüße@bücher": ("grüße", "bücher"),
        }.items():
            self.assertEqual(split_address(address), expected)

    def test_what_is_no_address(self) -> None:
        """An empty half, or one too long; lengths in octets of UTF-8; octets that are none."""
        for address in ("", "@", "@xyz", "fred@", "\udcff@xyz", "fred@\ud800"):
            self.assertRaises(BadAddress, split_address, address)
        half = MAX_LOCAL_OCTETS // 2
        for local, domain in [("x" * MAX_LOCAL_OCTETS, "y" * MAX_DOMAIN_OCTETS), ("ü" * half, "y")]:
            self.assertEqual(split_address(f"{local}@{domain}"), (local, domain))
        for local, domain in [("x" * (MAX_LOCAL_OCTETS + 1), "y"), ("x", "y" * (MAX_DOMAIN_OCTETS + 1)),
                              ("ü" * (half + 1), "y")]:
            self.assertRaises(BadAddress, split_address, f"{local}@{domain}")

    @free
    @given(ANY_TEXT)
    def test_any_text(self, address: str) -> None:
        """BadAddress, or two halves that make up the address."""
        try:
            local, domain = split_address(address)
        except BadAddress:
            return
        self.assertEqual(f"{local}@{domain}" if domain else local, address)


class CheckTests(SynchronousTestCase):
    """Which names may be given."""

    def accepts(self, check, *args: object, **options: object) -> bool:
        try:
            check(*args, **options)
        except AccountConflict:
            return False
        return True

    def test_names_of_accounts(self) -> None:
        """Anything that a path, a passwd file and one line can hold."""
        for name in ("fred", "Fred.Bloggs", "fred@example.org", "fred+tag", "-x", "_", "日本", "a%b", "...",
                     "x" * MAX_NAME_OCTETS):
            self.assertTrue(self.accepts(check_name, name, sdps=False), name)
        for name in ("", ".", "..", " ", "a b", "a\tb", "a\n", "a\0", "a\x7f", "a/b", "a\\b", "a:b", "a\x85",
                     "a\xa0b", "a\u2028b", "a\u3000b", "\udcff", "x" * (MAX_NAME_OCTETS + 1), "ü" * 125):
            self.assertFalse(self.accepts(check_name, name, sdps=False), ascii(name))

    def test_names_of_sdps_hosts(self) -> None:
        """Host labels and host names: no separator, so that a user of it has one reading."""
        for name in ("xyz", "XYZ", "x", "9", "a-b", "xyz.example.org", "x" * MAX_NAME_OCTETS):
            self.assertTrue(self.accepts(check_name, name, sdps=True), name)
        for name in ("", ".", "..", "-a", "a-", ".a", "a.", "a_b", "a@b", "a+b", "a b", "ä", "a\n", "\udcff",
                     "x" * (MAX_NAME_OCTETS + 1)):
            self.assertFalse(self.accepts(check_name, name, sdps=True), ascii(name))

    def test_domains(self) -> None:
        """Host names of up to 255 octets."""
        for domain in ("example.org", "XYZ.Example.ORG", "localhost", "1.2", "x" * MAX_DOMAIN_OCTETS):
            self.assertTrue(self.accepts(check_domain, domain), domain)
        for domain in ("", ".", "-a.org", "a.org.", ".org", "a@b.org", "a+b", "a b", "a_b.org",
                       "bücher.example", "a\n", "\udcff", "x" * (MAX_DOMAIN_OCTETS + 1)):
            self.assertFalse(self.accepts(check_domain, domain), ascii(domain))

    @free
    @given(ANY_TEXT)
    def test_any_text(self, name: str) -> None:
        """Is accepted, or refused with the one fault; a host's name has no split, and is a name."""
        self.accepts(check_domain, name)
        if self.accepts(check_name, name, sdps=False):
            self.assertEqual((name.split(), name.splitlines()), ([name], [name]))
        if self.accepts(check_name, name, sdps=True):
            self.assertTrue(self.accepts(check_name, name, sdps=False))
            self.assertEqual(len(login_candidates(name)), 1)


class FolderTests(SynchronousTestCase):
    """Names of folders."""

    def test_kept_as_they_are(self) -> None:
        """Parts divided by slashes; case, blanks, and what means something elsewhere."""
        for name in ("Sent", "a/b/c", "a b", " ", "...", "a..b", "~", "*", "%", "\\", "'", '"', "b\u00fccher",
                     "Inbox2", "a/inbox", "x" * MAX_FOLDER_OCTETS, "\U0001f600" * 63, "\xa0"):
            self.assertEqual(check_folder(name), name)
            self.assertEqual(find_folder(name), name)

    def test_one_name_in_two_forms(self) -> None:
        """INBOX in any case, also as the first part; characters that can be composed are."""
        for name, kept in [("inbox", "INBOX"), ("Inbox", "INBOX"), ("iNbOx/a", "INBOX/a"),
                           ("e\u0301", "\xe9"), ("\u212b", "\xc5"), ("a/u\u0308/b", "a/\xfc/b")]:
            self.assertEqual(check_folder(name), kept)

    def test_refused(self) -> None:
        """Empty parts, dots, controls, separators of lines, halves of characters; and too long ones."""
        for name in ("", "/", "a/", "/a", "a//b", ".", "..", "a/.", "../a", "a/../b", "\0", "a\tb", "a\n",
                     "\x7f", "\x85", "\u2028", "a\u2029", "\ud800", "\udcff", "inbox/",
                     "x" * (MAX_FOLDER_OCTETS + 1), "\xe9" * 128):
            self.assertRaises(FolderConflict, check_folder, name)
            self.assertIsNone(find_folder(name))

    @free
    @given(ANY_TEXT)
    def test_any_text(self, name: str) -> None:
        """Is refused, or has one form, which can be kept and shown on a line."""
        kept = find_folder(name)
        if kept is not None:
            self.assertEqual(check_folder(kept), kept)
            self.assertLessEqual(len(kept.encode()), MAX_FOLDER_OCTETS)
            self.assertEqual(kept.splitlines(), [kept])
