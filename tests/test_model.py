"""The values that pass between layers, where they derive something."""

from __future__ import annotations

from array import array
from dataclasses import FrozenInstanceError
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.model import EMPTY_LISTING, Account, Admission, Envelope, Login, Placement, ScanListing, Target

UNIQUE_ID = st.binary(min_size=1, max_size=70).map(lambda octets: bytes(33 + octet % 94 for octet in octets))


class ScanListingTests(SynchronousTestCase):
    """Sizes and unique-ids, packed."""

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.tuples(st.integers(0, 2 ** 63), UNIQUE_ID), max_size=50))
    def test_gives_back_what_it_was_made_of(self, messages: list[tuple[int, bytes]]) -> None:
        """Every size and every unique-id at its index, and their sum."""
        listing = ScanListing(array("Q", [size for size, _ in messages]), [one for _, one in messages])
        self.assertEqual(len(listing), len(messages))
        self.assertEqual(listing.octets, sum(size for size, _ in messages))
        self.assertEqual(listing.unique_ids(), [one for _, one in messages])
        self.assertEqual([(listing.sizes[index], listing.unique_id(index)) for index in range(len(listing))],
                         messages)

    def test_an_index_out_of_range(self) -> None:
        """Is an error, not an empty unique-id."""
        listing = ScanListing(array("Q", [1, 2]), [b"a", b"b"])
        self.assertRaises(IndexError, listing.unique_id, 2)
        self.assertRaises(IndexError, EMPTY_LISTING.unique_id, 0)

    def test_the_empty_listing(self) -> None:
        """Has no messages and no octets."""
        self.assertEqual((len(EMPTY_LISTING), EMPTY_LISTING.octets, list(EMPTY_LISTING.sizes)), (0, 0, []))

    def test_a_large_listing_is_small(self) -> None:
        """100,000 messages with unique-ids of 20 octets take about 3 MB, and no object a message."""
        random = Random(1)
        ids = [b"%020x" % random.getrandbits(80) for _ in range(100_000)]
        listing = ScanListing(array("Q", range(100_000)), ids)
        parts = [listing.sizes, listing._starts, listing._unique_ids]
        self.assertLess(sum(part.__sizeof__() for part in parts), 4_000_000)
        self.assertEqual([listing.unique_id(index) for index in (0, 54_321, 99_999)],
                         [ids[0], ids[54_321], ids[99_999]])

    def test_rendered_replies_are_its_own(self) -> None:
        """What one listing keeps, another does not see."""
        one, other = ScanListing(array("Q"), []), ScanListing(array("Q"), [])
        one.rendered["LIST"] = b"+OK\r\n"
        self.assertEqual(other.rendered, {})


class ValueTests(SynchronousTestCase):
    """Frozen values."""

    def test_they_cannot_be_changed(self) -> None:
        """Values that cross layers stay as they were made."""
        for value, name in [(Account("fred"), "name"), (Login(Account("fred")), "view"),
                            (Admission("fred"), "maildrop"), (Target("fred"), "user")]:
            self.assertRaises(FrozenInstanceError, setattr, value, name, "x")
        envelope = Envelope(b"a@b", b"c@d", 1)
        for value, name in [(envelope, "sender"), (Placement("fred", None, envelope), "user")]:
            self.assertRaises(AttributeError, setattr, value, name, "x")

    def test_secrets_are_not_shown(self) -> None:
        """A verifier appears in no repr, of the account or of what holds it."""
        account = Account("fred", verifiers=("{PLAIN}tanstaaf",))
        for shown in (repr(account), str(account), repr(Login(account)), f"{[account]}"):
            self.assertIn("fred", shown)
            self.assertNotIn("tanstaaf", shown)
