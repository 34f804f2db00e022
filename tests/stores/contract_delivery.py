"""Contract: envelopes and unique-ids, who receives and who is kept out, deliveries that end early."""

from __future__ import annotations

from random import Random
from unittest import SkipTest

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred

from mailgate.errors import OverQuota, StoreUnavailable
from mailgate.interfaces import IMaildropStore, IPreparedDelivery
from mailgate.model import Envelope, Placement
from tests.stores.contract_base import MIME, StoreHooks, unique_ids

LARGE = b"Subject: large\r\n\r\n" + b"large line\r\n" * 20_000
NEWS = b"Subject: news\r\n\r\nnews\r\n"
FIELD = b"Delivered-To: %s\r\n"


class DeliveryContract(StoreHooks):
    """How mail comes in."""

    # Shared body, own envelope ----------------------------------------------------------------

    async def test_a_message_for_many(self) -> None:
        """One body, many recipients: each has it once, with its own preamble, id and envelope."""
        store = await self.make_store()
        for body in (NEWS, LARGE):
            names = [f"user{number}" for number in range(40)]
            places = [self.placement(name, preamble=FIELD % name.encode()) for name in names]
            self.assertEqual(await self.deliver(store, body, *places), [None] * 40)
            ids = set()
            for name, place in zip(names, places, strict=True):
                session = await self.login(store, name)
                self.assertTrue(await self.texts(session) == [place.preamble + body])
                self.assertEqual(await maybeDeferred(session.envelope, 1), place.envelope)
                ids.add(session.listing.unique_id(0))
                await session.commit([1])
            self.assertEqual(await self.held(store, names[0]), [])

    async def test_a_shared_body_outlives_other_copies(self) -> None:
        """One recipient's QUIT, and a sweep, take nothing from the others."""
        store = await self.make_store()
        places = [self.placement(name) for name in ("ann", "bob", "cid")]
        for body in (MIME, LARGE):
            await self.deliver(store, body, *places)
        await (await self.login(store, "ann")).commit([1, 2])
        await store.sweep(0)
        self.assertTrue(await self.held(store, "bob") == [MIME, LARGE])
        await (await self.login(store, "bob")).commit([2])
        await store.sweep(0)
        self.assertTrue(await self.held(store, "cid") == [MIME, LARGE])
        self.assertEqual([await self.held(store, name) for name in ("ann", "bob")], [[], [MIME]])

    async def test_copies_for_several_users_of_one_host(self) -> None:
        """Two local parts of one host are two messages, one a view, with different unique-ids."""
        store = await self.make_store()
        places = [self.placement("xyz", user) for user in ("fred", "jim")]
        self.assertEqual(await self.deliver(store, NEWS, *places), [None, None])
        host = await self.login(store, "xyz")
        ids = unique_ids(host.listing)
        self.assertEqual(len(set(ids)), 2)
        await host.release()
        for index, user in enumerate(("fred", "jim")):
            view = await self.login(store, "xyz", user)
            self.assertEqual(unique_ids(view.listing), ids[index:index + 1])
            self.assertEqual(await maybeDeferred(view.envelope, 1), places[index].envelope)

    async def test_mail_without_a_user_is_in_no_view(self) -> None:
        """It shows in the whole maildrop alone."""
        store = await self.make_store()
        await self.deliver(store, NEWS, self.placement("xyz", None))
        self.assertEqual(await self.held(store, "xyz", "fred"), [])
        self.assertEqual(await self.held(store, "xyz"), [NEWS])

    async def test_the_envelope_is_kept_octet_for_octet(self) -> None:
        """Null sender, case, 8-bit, quotes, blanks, a leading dot: as SMTP gave it."""
        store = await self.make_store()
        paths = [b"", b"Fred.Bloggs@Example.ORG", b'"a b"@xyz', b"gr\xc3\xbc\xc3\x9fe@b\xc3\xbccher.example",
                 b"\xff\xfe@x", b".dot@xyz", b"a" * 64 + b"@" + b"b" * 255, b"o'neil;--@x"]
        envelopes = [Envelope(sender, recipient, 899963657000 + number) for number, (sender, recipient)
                     in enumerate((sender, recipient) for sender in paths for recipient in paths[1:])]
        await gatherResults([Deferred.fromCoroutine(
            self.deliver(store, NEWS, Placement("xyz", "fred", envelope))) for envelope in envelopes])
        session = await self.login(store, "xyz")
        got = [await maybeDeferred(session.envelope, number + 1) for number in range(len(envelopes))]
        self.assertEqual(sorted(got), sorted(envelopes))
        self.assertEqual([one.envelope for one in await store.scan("xyz")], got)
        self.assertTrue(all(type(one.sender) is bytes and type(one.arrived_ms) is int for one in got))

    # Unique-ids -------------------------------------------------------------------------------

    async def test_unique_ids_are_legal_and_distinct(self) -> None:
        """1 to 70 octets of 0x21-0x7E without a slash, over deliveries, maildrops and processes."""
        store = await self.make_store()
        other = await self.make_second(store)
        places = [self.placement(f"user{number}") for number in range(3)] + [self.placement("user0")] * 2
        await gatherResults([Deferred.fromCoroutine(self.deliver(where, NEWS, *places))
                             for _ in range(20) for where in (store, other)])
        ids = [one.unique_id for number in range(3) for one in await store.scan(f"user{number}")]
        self.assertEqual((len(ids), len(set(ids))), (200, 200))
        for unique_id in ids:
            self.assertRegex(unique_id, rb"\A[!-.0-~]{1,70}\Z")

    async def test_a_unique_id_is_never_used_again(self) -> None:
        """Not after QUIT, not after the whole maildrop was removed and came back."""
        store = await self.make_store()
        seen: set[bytes] = set()
        for turn in range(6):
            await self.put(store, "mrose", *[MIME] * 3)
            session = await self.login(store, "mrose")
            ids = set(unique_ids(session.listing))
            self.assertEqual(len(ids), 3)
            self.assertFalse(ids & seen)
            seen |= ids
            await session.commit([1, 2, 3] if turn % 2 else [])
            if turn % 3 == 2:
                await store.remove("mrose")
            rest = await self.login(store, "mrose")
            await rest.commit(range(1, len(rest.listing) + 1))

    async def test_unique_ids_stay(self) -> None:
        """Over sessions without QUIT, over processes, and while other messages come and go."""
        store = await self.make_store()
        other = await self.make_second(store)
        await self.put(store, "mrose", MIME, NEWS, MIME)
        ids = [one.unique_id for one in await store.scan("mrose")]
        await (await self.login(other, "mrose")).release()
        await (await self.login(store, "mrose")).commit([2])
        await self.put(other, "mrose", NEWS)
        self.assertEqual([one.unique_id for one in await other.scan("mrose")][:2], [ids[0], ids[2]])

    # Import -------------------------------------------------------------------------------------

    async def test_an_import_keeps_its_unique_id(self) -> None:
        """As the old server gave it, up to 70 octets, case told apart, and per maildrop."""
        store = await self.make_store()
        ids = [b"UID1-899963657", b"uid1-899963657", b"!", b"~" * 70, b"<a/b@c>", b"00000001", b"1", b"1.0"]
        for name in ("ann", "bob"):
            for unique_id in ids:
                place = self.placement(name, unique_id=unique_id)
                self.assertEqual(await self.deliver(store, name.encode() + unique_id, place), [None])
            session = await self.login(store, name)
            self.assertEqual(unique_ids(session.listing), ids)
            self.assertEqual(await self.texts(session), [name.encode() + one + b"\r\n" for one in ids])

    async def test_an_import_can_be_repeated(self) -> None:
        """A unique-id that is there counts as done, whatever its message; the others come in."""
        store = await self.make_store()
        for contents in ((b"a\r\n", b"b\r\n"), (b"changed\r\n", b"b\r\n", b"c\r\n")):
            for number, content in enumerate(contents):
                place = self.placement("mrose", unique_id=b"id%d" % number)
                self.assertEqual(await self.deliver(store, content, place), [None])
        place = self.placement("mrose", unique_id=b"twice")
        self.assertEqual(await self.deliver(store, b"d\r\n", place, place), [None, None])
        self.assertEqual(await self.held(store, "mrose"), [b"a\r\n", b"b\r\n", b"c\r\n", b"d\r\n"])

    async def test_an_import_does_not_bring_back_what_was_removed(self) -> None:
        """A message that a client has removed stays away when the import runs again."""
        store = await self.make_store()
        place = self.placement("mrose", unique_id=b"old-1")
        await self.deliver(store, MIME, place)
        await (await self.login(store, "mrose")).commit([1])
        self.assertEqual(await self.deliver(store, MIME, place), [None])
        self.assertEqual(await self.held(store, "mrose"), [])

    async def test_identity_decides_what_an_import_has_taken(self) -> None:
        """Met again it stores nothing, with or without a unique-id, held or removed, in either process."""
        store = await self.make_store()
        other = await self.make_second(store)
        places = [self.placement("mrose", identity=b"one"),
                  self.placement("mrose", identity=b"two", unique_id=b"old-2")]
        for where in (store, other):
            for place in (*places, *[place._replace(unique_id=b"changed") for place in places]):
                self.assertEqual(await self.deliver(where, MIME, place), [None])
        self.assertEqual([one.unique_id for one in await store.scan("mrose")][1:], [b"old-2"])
        await (await self.login(store, "mrose")).commit([1, 2])
        self.assertEqual(await self.deliver(other, MIME, *places, all_or_nothing=True), [None, None])
        self.assertEqual(await self.held(store, "mrose"), [])
        self.assertEqual(await self.deliver(store, MIME, self.placement("ann", identity=b"one")), [None])
        self.assertEqual(await self.held(store, "ann"), [MIME])
        await store.remove("mrose")
        self.assertEqual(await self.deliver(store, MIME, *places, *places), [None] * 4)
        self.assertEqual(await self.held(store, "mrose"), [MIME] * 2)

    async def test_a_unique_id_that_was_another_message_s(self) -> None:
        """Held or removed, of another import or of this delivery: the message comes in, its id is fresh."""
        store = await self.make_store()
        await self.put(store, "mrose", b"new mail\r\n")
        own = (await store.scan("mrose"))[0].unique_id
        taken = self.placement("mrose", unique_id=b"k1", identity=b"one")
        self.assertEqual(await self.deliver(store, b"one\r\n", taken), [None])
        for identity, unique_id in ((b"two", b"k1"), (b"three", own)):
            place = self.placement("mrose", unique_id=unique_id, identity=identity)
            self.assertEqual(await self.deliver(store, identity + b"\r\n", place), [None])
        await (await self.login(store, "mrose")).commit([2])
        places = [self.placement("mrose", unique_id=unique_id, identity=identity)
                  for identity, unique_id in ((b"four", b"k1"), (b"five", b"k2"), (b"six", b"k2"))]
        for _ in range(2):
            self.assertEqual(await self.deliver(store, b"last\r\n", *places), [None] * 3)
        listed = [one.unique_id for one in await store.scan("mrose")]
        self.assertEqual((len(listed), len(set(listed))), (6, 6))
        self.assertEqual((listed[0], listed[4], b"k1" in listed), (own, b"k2", False))
        self.assertEqual(await self.held(store, "mrose"), [
            b"new mail\r\n", b"two\r\n", b"three\r\n", *[b"last\r\n"] * 3])
        self.assertEqual(await store.check(), [])

    async def test_an_identity_that_was_refused_is_not_remembered(self) -> None:
        """Over quota, or kept out by another recipient: the next import brings it."""
        store = await self.make_store(quota_octets=100)
        await self.put(store, "full", b"x" * 90)
        places = [self.placement(name, unique_id=b"k1", identity=b"one") for name in ("ann", "full")]
        outcomes = await self.deliver(store, MIME, *places, all_or_nothing=True)
        self.assertEqual([type(one) for one in outcomes], [StoreUnavailable, OverQuota])
        await (await self.login(store, "full")).commit([1])
        for _ in range(2):
            self.assertEqual(await self.deliver(store, MIME, *places), [None, None])
        for name in ("ann", "full"):
            self.assertEqual([one.unique_id for one in await store.scan(name)], [b"k1"])

    async def test_an_imported_id_is_not_given_to_new_mail(self) -> None:
        """Ids of our own making do not meet imported ones that look like them."""
        store = await self.make_store()
        await self.put(store, "ann", *[MIME] * 3)
        for one in await store.scan("ann"):
            await self.deliver(store, NEWS, self.placement("bob", unique_id=one.unique_id))
        await self.put(store, "bob", *[MIME] * 5)
        listed = await store.scan("bob")
        self.assertEqual((len(listed), len({one.unique_id for one in listed})), (8, 8))

    # Outcomes -----------------------------------------------------------------------------------

    async def test_over_quota_keeps_just_that_recipient_out(self) -> None:
        """The others have their copy; octets are counted with preamble, up to the quota itself."""
        store = await self.make_store(quota_octets=200)
        content = b"a: b\r\n\r\n" + b"x" * 90 + b"\r\n"
        await self.put(store, "full", content, content)
        places = [self.placement(name) for name in ("ann", "full", "bob")]
        outcomes = await self.deliver(store, content, *places)
        self.assertEqual([type(one) for one in outcomes], [type(None), OverQuota, type(None)])
        self.assertEqual(await self.held(store, "full"), [content] * 2)
        self.assertEqual([await self.held(store, name) for name in ("ann", "bob")], [[content]] * 2)
        outcomes = await self.deliver(store, content, self.placement("ann", preamble=b"a: b\r\n"))
        self.assertIsInstance(outcomes[0], OverQuota)
        self.assertEqual(await self.deliver(store, content, self.placement("ann")), [None])

    async def test_quota_counts_what_is_there(self) -> None:
        """Two copies in one delivery count both; what was removed makes room again."""
        store = await self.make_store(quota_octets=100)
        content = b"x" * 58 + b"\r\n"
        outcomes = await self.deliver(store, content, *[self.placement("xyz", user) for user in ("a", "b")])
        self.assertEqual([type(one) for one in outcomes], [type(None), OverQuota])
        session = await self.login(store, "xyz")
        self.assertIsInstance((await self.deliver(store, content, self.placement("xyz")))[0], OverQuota)
        await session.commit([1])
        self.assertEqual(await self.deliver(store, content, self.placement("xyz", "c")), [None])
        self.assertEqual(await self.held(store, "xyz", "c"), [content])

    async def test_all_or_nothing(self) -> None:
        """One refused recipient keeps all out; the others are told to try again."""
        store = await self.make_store(quota_octets=200)
        await self.put(store, "full", b"x" * 190)
        places = [self.placement(name) for name in ("ann", "full", "bob")]
        outcomes = await self.deliver(store, MIME, *places, all_or_nothing=True)
        self.assertIsInstance(outcomes[1], OverQuota)
        for outcome in (outcomes[0], outcomes[2]):
            self.assertIsInstance(outcome, StoreUnavailable)
        self.assertEqual([await self.held(store, name) for name in ("ann", "bob")], [[], []])
        self.assertEqual(len(await store.scan("full")), 1)
        outcomes = await self.deliver(store, MIME, places[0], places[2], all_or_nothing=True)
        self.assertEqual(outcomes, [None] * 2)
        self.assertEqual([await self.held(store, name) for name in ("ann", "bob")], [[MIME]] * 2)

    async def test_a_delivery_for_nobody(self) -> None:
        """No placements, no outcomes, nothing stored."""
        store = await self.make_store()
        self.assertEqual(await self.deliver(store, MIME), [])
        self.assertEqual(await store.check(), [])

    async def test_a_repeated_delivery_id_stores_nothing(self) -> None:
        """Our own retries double no message, in either process, even when it was removed meanwhile."""
        store = await self.make_store()
        other = await self.make_second(store)
        places = [self.placement("xyz", "fred"), self.placement("xyz", "jim"), self.placement("mrose")]
        for where in (store, store, other):
            self.assertEqual(await self.deliver(where, MIME, *places, delivery_id="one"), [None] * 3)
        self.assertEqual(await self.held(store, "xyz"), [MIME] * 2)
        self.assertEqual(await self.held(store, "mrose"), [MIME])
        await (await self.login(store, "mrose")).commit([1])
        self.assertEqual(await self.deliver(store, MIME, *places, delivery_id="one"), [None] * 3)
        self.assertEqual(await self.held(store, "mrose"), [])
        self.assertEqual(await self.deliver(store, MIME, *places, delivery_id="two"), [None] * 3)
        self.assertEqual((len(await store.scan("xyz")), len(await store.scan("mrose"))), (4, 1))

    async def test_simultaneous_retries_store_once(self) -> None:
        """The same delivery id, asked for at once in two processes."""
        store = await self.make_store()
        other = await self.make_second(store)
        outcomes = await gatherResults([
            Deferred.fromCoroutine(self.deliver(where, MIME, self.placement("mrose"), delivery_id="same"))
            for where in (store, other) * 4])
        self.assertEqual(outcomes, [[None]] * 8)
        self.assertEqual(await self.held(store, "mrose"), [MIME])

    async def test_a_retry_is_never_done_for_a_recipient_who_was_refused(self) -> None:
        """An outcome of None means that the message is there, also when the id was seen before."""
        store = await self.make_store(quota_octets=200)
        await self.put(store, "full", b"x" * 190)
        places = [self.placement("ann"), self.placement("full")]
        for options in ({"all_or_nothing": True}, {"all_or_nothing": False}):
            outcomes = await self.deliver(store, MIME, *places, delivery_id="again", **options)
            self.assertIsInstance(outcomes[1], OverQuota)
        await (await self.login(store, "full")).commit([1])
        outcomes = await self.deliver(store, MIME, *places, delivery_id="again")
        self.assertEqual(await self.held(store, "ann"), [MIME])
        self.assertEqual(outcomes[0], None)
        self.assertEqual(await self.held(store, "full"), [] if outcomes[1] else [MIME])

    async def test_a_retry_tells_two_users_of_one_host_apart(self) -> None:
        """One was refused where the other was stored: the retry stores it, or says that it did not."""
        store = await self.make_store(quota_octets=100)
        content = b"x" * 58 + b"\r\n"
        places = [self.placement("xyz", user) for user in ("fred", "jim")]
        outcomes = await self.deliver(store, content, *places, delivery_id="again")
        self.assertEqual([type(one) for one in outcomes], [type(None), OverQuota])
        await (await self.login(store, "xyz", "fred")).commit([1])
        outcomes = await self.deliver(store, content, *places, delivery_id="again")
        self.assertEqual(outcomes[0], None)
        self.assertEqual(await self.held(store, "xyz"), [] if outcomes[1] else [content])

    # Endings --------------------------------------------------------------------------------------

    async def test_abort_leaves_nothing(self) -> None:
        """At any time: at once, in the middle, twice."""
        store = await self.make_store()
        for pieces in ([], [MIME], [LARGE], [LARGE[:100_000], LARGE[100_000:]]):
            delivery = store.deliver()
            for piece in pieces:
                delivery.write(piece)
            delivery.abort()
            delivery.abort()
        await self.put(store, "mrose", MIME)
        await store.sweep(0)
        self.assertEqual(await store.sweep(0), 0)
        self.assertEqual(await store.check(), [])
        self.assertEqual(await self.held(store, "mrose"), [MIME])

    async def test_an_abandoned_delivery_leaves_nothing(self) -> None:
        """A message that nobody ended is not there, and its octets go with the next sweep."""
        store = await self.make_store()
        other = await self.make_second(store)
        for body in (MIME, LARGE):
            delivery = store.deliver()
            waiting = delivery.write(body)
            if waiting is not None:
                await waiting
        del delivery
        self.assertEqual(await store.scan("mrose"), [])
        await store.stop()
        await other.sweep(0)
        self.assertEqual(await other.sweep(0), 0)
        self.assertEqual(await other.check(), [])

    async def test_abort_after_commit_has_no_effect(self) -> None:
        """Neither while the commit is under way nor after it."""
        store = await self.make_store()
        for body in (MIME, LARGE):
            delivery = store.deliver()
            waiting = delivery.write(body)
            if waiting is not None:
                await waiting
            outcome = delivery.commit([self.placement("mrose")])
            delivery.abort()
            self.assertEqual(await outcome, [None])
            delivery.abort()
        self.assertTrue(await self.held(store, "mrose") == [MIME, LARGE])

    async def test_deliveries_side_by_side(self) -> None:
        """Pieces of many messages, mixed in any order, end in their own message."""
        store, random = await self.make_store(), Random(7)
        expected = [b"a: %d\r\n\r\n" % number + b"%d.\r\n" % number * (number * 300) for number in range(20)]
        deliveries = [store.deliver() for _ in expected]
        left = list(expected)
        while any(left):
            number = random.choice([at for at, text in enumerate(left) if text])
            octets = random.choice([1, 100, 10_000])
            waiting = deliveries[number].write(left[number][:octets])
            if waiting is not None:
                await waiting
            left[number] = left[number][octets:]
        outcomes = await gatherResults([one.commit([self.placement("mrose")]) for one in deliveries])
        self.assertEqual(outcomes, [[None]] * 20)
        self.assertEqual(sorted(await self.held(store, "mrose")), sorted(expected))

    async def test_deliveries_come_in_the_order_of_their_commits(self) -> None:
        """A message that was answered for stands before every later one."""
        store = await self.make_store()
        other = await self.make_second(store)
        texts = [b"%d\r\n" % number for number in range(10)]
        for number, text in enumerate(texts):
            await self.put((store, other)[number % 2], "mrose", text, age_seconds=number)
        self.assertEqual(await self.held(store, "mrose"), texts)

    async def prepared(self, store: IMaildropStore, content: bytes) -> IPreparedDelivery:
        """Return a delivery whose message has been written to its end, and prepared."""
        delivery = store.deliver()
        if not IPreparedDelivery.providedBy(delivery):
            raise SkipTest("its deliveries cannot be prepared")
        waiting = delivery.write(content)
        if waiting is not None:
            await waiting
        await delivery.prepare()
        return delivery

    async def test_prepared_deliveries_come_in_the_order_of_their_calls(self) -> None:
        """Whatever their sizes, in whatever order they were prepared, and though none was answered."""
        store = await self.make_store()
        texts = [b"a: %d\r\n\r\n" % number + b"x\r\n" * (number * 7919 % 40_000) for number in range(24)]
        ready = {number: await self.prepared(store, texts[number])
                 for number in sorted(range(24), key=lambda number: number * 11 % 24)}
        asked = [ready[number].commit([self.placement("mrose")]) for number in range(24)]
        self.assertEqual(await gatherResults(asked), [[None]] * 24)
        self.assertEqual(await self.held(store, "mrose"), texts)

    async def test_a_prepared_delivery_ends_once(self) -> None:
        """It takes no more octets, is prepared and committed once, and not while it is being prepared."""
        store = await self.make_store()
        for body in (MIME, LARGE):
            delivery = await self.prepared(store, body)
            delivery.write(b"more")
            self.assertEqual(await delivery.commit([self.placement("mrose")]), [None])
            delivery.abort()
            await self.fault(StoreUnavailable, delivery.commit([self.placement("mrose")]))
        self.assertTrue(await self.held(store, "mrose") == [MIME, LARGE])

    async def test_a_prepared_delivery_that_is_aborted_leaves_nothing(self) -> None:
        """Not while it is being prepared either."""
        store = await self.make_store()
        for body in (MIME, LARGE):
            (await self.prepared(store, body)).abort()
            delivery = store.deliver()
            waiting = delivery.write(body)
            if waiting is not None:
                await waiting
            preparing = delivery.prepare()
            delivery.abort()
            await preparing
            await self.fault(StoreUnavailable, delivery.commit([self.placement("mrose")]))
        self.assertEqual(await self.held(store, "mrose"), [])
        await store.sweep(0)
        self.assertEqual(await store.sweep(0), 0)
        self.assertEqual(await store.check(), [])

    async def test_stop_finishes_what_is_queued(self) -> None:
        """A commit that was asked for before stop is answered truthfully."""
        store = await self.make_store()
        other = await self.make_second(store)
        delivery = store.deliver()
        delivery.write(MIME)
        asked = delivery.commit([self.placement("mrose")])
        await store.stop()
        self.assertEqual(await asked, [None])
        self.assertEqual(await self.held(other, "mrose"), [MIME])
        late = store.deliver()
        late.write(MIME)
        await self.fault(StoreUnavailable, late.commit([self.placement("mrose")]))
        self.assertEqual(await self.held(other, "mrose"), [MIME])
