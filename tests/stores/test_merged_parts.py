"""A merge of stores: numbers, unique-ids, whom a login reaches, and when a part cannot be had."""

from __future__ import annotations

from array import array
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from mailgate.errors import (
    LeaseLost,
    LoginRefused,
    MaildropInUse,
    NoSuchMessage,
    StaleCredential,
    StoreUnavailable,
)
from mailgate.interfaces import IAccountStore, IMaildrop, IMaildropStore, IPreparedDelivery
from mailgate.model import Account, Admission, ScanListing
from mailgate.stores.merging.ids import ENTRY_MESSAGES, Listings, PartIds
from mailgate.stores.merging.parts import OPTIONAL_SECONDS
from tests.stores.breakable import DOWN, MergeCase
from tests.stores.contract_base import unique_ids


class ReadingTests(MergeCase):
    def test_interfaces(self) -> None:
        for interface, thing in [(IMaildropStore, self.merged), (IAccountStore, self.merged.accounts),
                                 (IMaildrop, self.login()), (IPreparedDelivery, self.merged.deliver())]:
            verifyObject(interface, thing)

    def test_one_numbering(self) -> None:
        """The parts in their order, each with its messages in theirs; sizes and sum are the whole's."""
        for store, content in [(self.b, b"three\r\n"), (self.a, b"one\r\n"), (self.b, b"four\r\n"),
                               (self.a, b"two\r\n")]:
            self.put(store, content)
        drop = self.login()
        self.assertEqual(self.texts(drop), [b"one\r\n", b"two\r\n", b"three\r\n", b"four\r\n"])
        self.assertEqual(list(drop.listing.sizes), [5, 5, 7, 6])
        self.assertEqual(drop.listing.octets, 23)
        for number in (0, 5, -1):
            self.fault(NoSuchMessage, drop.fetch(number))
            self.fault(NoSuchMessage, drop.envelope(number))
        self.assertEqual(drop.envelope(4).recipient, b"mrose@example.org")

    def test_views(self) -> None:
        """A user of an SDPS host sees his messages of every part; views exclude each other as ever."""
        for store, user in [(self.a, "fred"), (self.a, "jim"), (self.b, "fred")]:
            self.put(store, user.encode() + b"\r\n", "host", user=user)
        fred = self.successResultOf(self.merged.open(Admission("host", "fred")))
        self.assertEqual(self.texts(fred), [b"fred\r\n", b"fred\r\n"])
        jim = self.successResultOf(self.merged.open(Admission("host", "jim")))
        self.assertEqual(len(jim.listing), 1)
        self.fault(MaildropInUse, self.merged.open(Admission("host")))
        for drop in (fred, jim):
            self.successResultOf(drop.release())
        whole = self.successResultOf(self.merged.open(Admission("host")))
        self.assertEqual(len(whole.listing), 3)
        self.assertEqual(set(unique_ids(fred.listing)) | set(unique_ids(jim.listing)),
                         set(unique_ids(whole.listing)))

    def test_scan_and_peek(self) -> None:
        """Without a lease: the same numbers and ids as a session's."""
        for store in (self.b, self.a):
            self.put(store, b"x\r\n")
        drop = self.login()
        listed = self.successResultOf(self.merged.scan("mrose"))
        peeked = self.successResultOf(self.merged.peek("mrose"))
        self.assertEqual([(one.number, one.unique_id) for one in listed],
                         list(enumerate(unique_ids(drop.listing), 1)))
        self.assertEqual(unique_ids(peeked.listing), unique_ids(drop.listing))
        self.assertEqual(self.texts(peeked), self.texts(drop))
        self.fault(LeaseLost, peeked.commit([1]))
        self.fault(LeaseLost, peeked.commit([]))
        self.successResultOf(peeked.release())
        self.assertEqual(len(self.texts(drop)), 2)

    def test_maildrops(self) -> None:
        """Each once, however often it is there and however it is written."""
        self.put(self.a, b"x\r\n", "Ann")
        self.put(self.b, b"x\r\n", "ann")
        self.put(self.b, b"x\r\n", "bob")
        self.assertEqual(self.successResultOf(self.merged.maildrops()), ["Ann", "bob"])

    def test_listings_are_shared(self) -> None:
        """Two sessions between which nothing changed have the very same listing, rendered replies and all."""
        shown = PartIds("a", ["a", "b"], plain=True), PartIds("b", ["a", "b"], plain=False)
        for store in (self.a, self.b):
            self.put(store, b"x\r\n")
        first = self.login()
        self.successResultOf(first.release())
        parts = [self.successResultOf(one.store.open(Admission("mrose", judged=True))).listing
                 for one in (self.a, self.b)]
        listings = Listings(most=3 + 3 * ENTRY_MESSAGES)
        pairs = list(zip(shown, parts, strict=True))
        kept = listings.merged(pairs)
        self.assertIs(listings.merged(pairs), kept)
        listings.merged([pairs[0]])
        listings.merged([pairs[1]])
        self.assertIsNot(listings.merged(pairs), kept, "no more is kept than was said")

    def test_many_small_listings(self) -> None:
        """Each costs more than its one message: so many are dropped before there are as many as messages."""
        shown = PartIds("a", ["a"], plain=True)
        listings = Listings(most=1000)
        for number in range(500):
            listings.merged([(shown, ScanListing(array("Q", [number]), [b"1"]))])
        self.assertEqual(len(listings._kept), 1000 // (1 + ENTRY_MESSAGES))


class IdTests(MergeCase):
    def test_the_first_ones_are_as_they_are(self) -> None:
        """The others' stand behind their store's name; they do not change with what the other holds."""
        self.put(self.b, b"x\r\n", unique_id=b"7")
        self.put(self.a, b"x\r\n", unique_id=b"8")
        before = unique_ids(self.login().listing)
        self.assertEqual(before, [b"8", b"b:7"])

    def test_the_same_id_in_both(self) -> None:
        """Two servers that both counted from 1: nothing is mistaken, and removing one renames nothing."""
        for store in (self.a, self.b):
            for number in b"12":
                self.put(store, b"%c\r\n" % number, unique_id=b"%c" % number)
        drop = self.login()
        self.assertEqual(unique_ids(drop.listing), [b"1", b"2", b"b:1", b"b:2"])
        self.successResultOf(drop.commit([1]))
        self.assertEqual(unique_ids(self.login().listing), [b"2", b"b:1", b"b:2"])

    def test_an_id_that_looks_like_anothers(self) -> None:
        self.put(self.a, b"x\r\n", unique_id=b"b:7")
        self.put(self.b, b"x\r\n", unique_id=b"7")
        self.assertEqual(unique_ids(self.login().listing), [b"a:b:7", b"b:7"])

    def test_an_id_that_is_too_long(self) -> None:
        """RFC 1939 section 7 allows 70 octets: where the name does not fit, a digest stands for the id."""
        for end in b"12":
            self.put(self.b, b"x\r\n", unique_id=b"x" * 69 + b"%c" % end)
        shown = unique_ids(self.login().listing)
        self.assertEqual([len(one) for one in shown], [34, 34])
        self.assertEqual(len(set(shown)), 2)

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.binary(min_size=1, max_size=70).map(
        lambda octets: bytes(0x21 + octet % 0x5E for octet in octets)), max_size=6, unique=True),
        st.lists(st.sampled_from([b"a:", b"b:", b"a;", b"b;", b"a", b":"]), min_size=1, max_size=3))
    def test_no_two_are_the_same(self, ids: list[bytes], starts: list[bytes]) -> None:
        """Whatever the stores hold: unique over the merge, of characters and length that POP3 allows."""
        ids = list({*ids, *((b"".join(starts) + one)[:70] for one in ids), b"".join(starts)})
        names = ["a", "b"]
        shown = [PartIds(name, names, plain=name == "a") for name in names]
        listing = ScanListing(array("Q", [1] * len(ids)), ids)
        found = [one for part in shown for one in part.shown_of(listing)]
        self.assertEqual(found, [part.shown(one) for part in shown for one in ids])
        self.assertEqual(len(set(found)), 2 * len(ids))
        for one in found:
            self.assertTrue(1 <= len(one) <= 70 and all(0x21 <= octet <= 0x7E for octet in one), one)
            self.assertEqual([part.is_ours(one) for part in shown].count(True), 1)

    def test_taking_ids(self) -> None:
        """Those of the first store can be taken; those that would be shown otherwise are refused."""
        for store, number in [(self.a, b"1"), (self.a, b"2"), (self.a, b"3"), (self.b, b"1")]:
            self.put(store, b"x\r\n", unique_id=number)
        refused = self.successResultOf(self.merged.take_ids("mrose", {
            b"1": b"old1", b"2": b"3", b"3": b"b:9", b"b:1": b"old2", b"gone": b"old3"}))
        self.assertEqual(sorted(refused), [b"2", b"3", b"b:1"])
        self.assertEqual(unique_ids(self.login().listing), [b"old1", b"2", b"3", b"b:1"])
        self.assertEqual(self.successResultOf(self.merged.take_ids("mrose", {b"b:1": b"b:2"})), [b"b:1"])


class LoginTests(MergeCase):
    def test_all_or_none(self) -> None:
        """Whichever part refuses: an honest fault, and no lease is left."""
        for store in (self.main, self.a, self.b):
            for fault in (DOWN, MaildropInUse("mrose")):
                store.faults["open"] = fault
                self.fault(type(fault), self.merged.open(self.admission()))
                store.faults.clear()
                self.assertNoLease()
        self.assertEqual(self.held(), [])

    def test_no_partial_maildrop(self) -> None:
        """A store that is down is a temporary failure, not a shorter list."""
        self.put(self.a, b"x\r\n")
        self.b.faults["open"] = StoreUnavailable("no route")
        words = self.fault(StoreUnavailable, self.merged.open(self.admission()))
        self.assertEqual(words, "store b: no route")

    def test_a_session_elsewhere(self) -> None:
        """One that holds a part alone keeps the whole from being opened."""
        other = self.successResultOf(self.b.store.open(Admission("mrose", judged=True)))
        self.fault(MaildropInUse, self.merged.open(self.admission()))
        self.successResultOf(other.release())
        self.assertNoLease()

    def test_the_main_store_judges(self) -> None:
        """By its accounts alone: what other stores have of accounts does not count."""
        for store in (self.a, self.b):
            self.successResultOf(store.accounts.add([Account("mrose", disabled=True), Account("ann")]))
        self.assertEqual(self.held(), [])
        stale = self.admission()
        self.successResultOf(self.main.accounts.set_disabled("mrose", True))
        self.fault(StaleCredential, self.merged.open(stale))
        self.fault(LoginRefused, self.merged.open(Admission("mrose")))
        self.successResultOf(self.successResultOf(self.merged.open(Admission("ann"))).release())
        self.assertNoLease()

    def test_one_of_two_at_once(self) -> None:
        """However their calls meet: the main store lets one pass, and it gets all."""
        self.main.held["open"] = Deferred()
        first, second = (self.merged.open(self.admission()) for _ in range(2))
        self.main.held["open"].callback(None)
        drop = self.successResultOf(first)
        self.fault(MaildropInUse, second)
        self.successResultOf(drop.release())
        self.assertNoLease()

    def test_a_client_that_has_gone(self) -> None:
        """While a part is being waited for: what comes is given up."""
        for store in (self.main, self.a, self.b):
            held: Deferred[None] = Deferred()
            store.held["open"] = held
            opening = self.merged.open(self.admission())
            opening.addErrback(lambda _: None)
            opening.cancel()
            held.callback(None)
            store.held.clear()
            self.assertNoLease()


class OptionalTests(MergeCase):
    optional = True

    def test_a_part_that_is_down_is_skipped(self) -> None:
        """With what is there one can work; it is not touched by that, and there again when it is back."""
        self.put(self.a, b"a\r\n")
        self.put(self.b, b"b\r\n")
        self.b.faults["open"] = StoreUnavailable("no route")
        drop = self.login()
        self.assertEqual(self.texts(drop), [b"a\r\n"])
        self.successResultOf(drop.commit([1]))
        self.b.faults.clear()
        self.assertEqual(self.held(), [b"b\r\n"])

    def test_it_is_said(self) -> None:
        self.b.faults["open"] = StoreUnavailable("no route")
        said = self.logged(self.held)
        self.assertEqual(said, ["store b: no route; it is done without"])

    def logged(self, function: Any) -> list[str]:
        from twisted.logger import formatEvent, globalLogPublisher

        found: list[str] = []

        def observe(event: Any) -> None:
            found.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        try:
            function()
        finally:
            globalLogPublisher.removeObserver(observe)
        return found

    def test_in_use_is_no_outage(self) -> None:
        """What somebody else has open is not skipped: his session may remove it."""
        other = self.successResultOf(self.b.store.open(Admission("mrose", judged=True)))
        self.fault(MaildropInUse, self.merged.open(self.admission()))
        self.successResultOf(other.release())

    def test_one_that_does_not_answer(self) -> None:
        """It is not waited for; a lease that comes too late is given up at once."""
        self.b.held["open"] = Deferred()
        opening = self.merged.open(self.admission())
        self.clock.advance(OPTIONAL_SECONDS - 1)
        self.assertNoResult(opening)
        self.clock.advance(1)
        drop = self.successResultOf(opening)
        self.b.held.pop("open").callback(None)
        self.successResultOf(drop.release())
        self.assertNoLease()

    def test_the_others_are_needed(self) -> None:
        self.a.faults["open"] = DOWN
        self.fault(StoreUnavailable, self.merged.open(self.admission()))

    def test_reading_without_a_lease(self) -> None:
        self.put(self.a, b"a\r\n")
        self.b.faults.update(scan=DOWN, peek=DOWN, maildrops=DOWN)
        self.assertEqual(len(self.successResultOf(self.merged.scan("mrose"))), 1)
        self.assertEqual(len(self.successResultOf(self.merged.peek("mrose")).listing), 1)
        self.assertEqual(self.successResultOf(self.merged.maildrops()), ["mrose"])
