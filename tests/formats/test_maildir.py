"""Names of files in Maildirs, and paths with a maildrop's name in them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.formats.maildir import arrived_us, base_of, flags_of, sizes_of, unique_of, with_flags
from mailgate.formats.paths import parse_pattern


class NameTests(SynchronousTestCase):
    def test_parts(self) -> None:
        """As Courier, Dovecot, Postfix and procmail make them."""
        for name, unique, flags, sizes in [
            (b"1700000000.M5P7.host,S=10,W=12:2,FS", b"1700000000.M5P7.host", "FS", (10, 12)),
            (b"1700000000.Vfd01I3M5.mx", b"1700000000.Vfd01I3M5.mx", "", (None, None)),
            (b"1700000000.7_1.mx:2,", b"1700000000.7_1.mx", "", (None, None)),
            (b"1.a,S=5:2,SRa,b", b"1.a", "RS", (5, None)), (b"1.a,W=x,S=1y:1,S", b"1.a", "", (None, None)),
            (b"1.a,SS=5,S=99999999999999999:2,", b"1.a", "", (None, None)),
        ]:
            base = base_of(name)
            self.assertEqual((unique_of(base), flags_of(name), sizes_of(base)), (unique, flags, sizes))

    def test_flags_are_set(self) -> None:
        """Letters of others stay; so does what follows them."""
        self.assertEqual(with_flags(b"1.a,S=5", "RS"), b"1.a,S=5:2,RS")
        self.assertEqual(with_flags(b"1.a:2,Sab", "F"), b"1.a:2,Fab")
        self.assertEqual(with_flags(b"1.a:2,S,x", ""), b"1.a:2,,x")

    def test_times(self) -> None:
        """Of the name to the microsecond, else the file's; never one that cannot be written."""
        for base, expected in [
            (b"1700000000.M5P7.host", 1700000000_000005), (b"1700000000.V1M000123.mx", 1700000000_000123),
            (b"1700000000.7_1.mx", 1700000000_000000), (b"100000000.M12345678P.x", 100000000_000000),
            (b"12345678.M5P7.host", 7), (b"12.eml", 7), (b"x.y", 7),
            (b"99999999999.x", 7), (b"", 7),
        ]:
            self.assertEqual(arrived_us(base, 7000), expected, base)
        self.assertEqual((arrived_us(b"", -5), arrived_us(b"", 1 << 80)), (0, 253_402_300_799_999_000))

    @settings(deadline=None, max_examples=60)
    @given(st.binary(max_size=60))
    def test_any_octets(self, name: bytes) -> None:
        """Have an answer; flags that are set are there."""
        sizes_of(base_of(name))
        arrived_us(name, 0)
        self.assertEqual(flags_of(with_flags(name, "FS")), "FS")
        self.assertEqual(base_of(with_flags(name, "")), base_of(name))


class PathTests(SynchronousTestCase):
    def test_what_stands_for_what(self) -> None:
        """The name, and both halves of one that is an address."""
        for text, name, root, below in [
            ("/home/{name}/Maildir", "fred", "/home", ["fred", "Maildir"]),
            ("/v/{domain}/{local}", "fred@example.net", "/v", ["example.net", "fred"]),
            ("/v/{domain}/{local}", "fred", "/v", ["example.org", "fred"]),
            ("{name}", "a@b", ".", ["a@b"]), ("/{name}", "x", "/", ["x"]), ("/m/x-{local}.d", "a@b@c", "/m",
                                                                           ["x-a@b.d"]),
        ]:
            pattern = parse_pattern(text)
            self.assertEqual((pattern.split()[0], pattern.fill(name, "example.org")), (root, below))

    def test_names_that_lead_elsewhere(self) -> None:
        """Are refused wherever they stand."""
        for text, name in [("/h/{name}", ".."), ("/h/{name}", "."), ("/h/{name}", ""), ("/h/{name}", "a/b"),
                           ("/h/{local}{domain}", ".@."), ("/h/{name}/x", "a\0b"), ("/h/{local}", "../x@y"),
                           ("/h/{domain}/{local}", "x@.."), ("/h/{name}", "a\nb"), ("/h/{name}", "\udcff")]:
            self.assertRaises(ValueError, parse_pattern(text).fill, name, "example.org")
        self.assertEqual(parse_pattern("/h/{name}").fill("...", "d"), ["..."])
