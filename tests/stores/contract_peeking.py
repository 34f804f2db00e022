"""Contract: which maildrops there are, and what they hold, read without a lease."""

from __future__ import annotations

from twisted.internet.defer import maybeDeferred

from mailgate.errors import LeaseLost, NoSuchMessage
from tests.stores.contract_base import MIME, StoreHooks, unique_ids

LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcd\r\n" * 20_000
SMALL = [b"Subject: %d\r\n\r\n" % number + b"x" * number + b"\r\n" for number in range(40)]


class PeekContract(StoreHooks):
    """Looking at a store's maildrops from outside of any session."""

    async def test_maildrops_are_listed(self) -> None:
        """Once delivered to or logged in to, in order, until they are removed; under the name first heard."""
        store = await self.make_store()
        self.assertEqual(await store.maildrops(), [])
        await self.put(store, "mrose", MIME)
        for name in ("Fred", "b\u00fccher", "MROSE"):
            await (await self.login(store, name)).commit([])
        for where in (store, await self.make_second(store)):
            self.assertEqual(await where.maildrops(), ["Fred", "b\u00fccher", "mrose"])
        await store.remove("FRED")
        self.assertEqual(await store.maildrops(), ["b\u00fccher", "mrose"])

    async def test_looking_makes_no_maildrop(self) -> None:
        """There is nothing in it, and it is not there afterwards."""
        store = await self.make_store()
        peeked = await store.peek("nobody")
        self.assertEqual((len(peeked.listing), peeked.listing.octets), (0, 0))
        for number in (0, 1):
            await self.fault(NoSuchMessage, maybeDeferred(peeked.fetch, number))
            await self.fault(NoSuchMessage, maybeDeferred(peeked.envelope, number))
        self.assertEqual(await store.scan("nobody"), [])
        self.assertEqual(await store.take_ids("nobody", {b"a": b"b"}), [])
        self.assertEqual(await store.maildrops(), [])

    async def test_a_peek_reads_what_a_session_would(self) -> None:
        """Numbers, ids, sizes, envelopes, TOP; of all views; whether or not sessions are open."""
        store = await self.make_store()
        other = await self.make_second(store)
        mails = [*SMALL, LARGE, MIME]
        for number, mail in enumerate(mails):
            await self.put(store, "xyz", mail, user="jim" if number % 3 else "fred")
        session = await self.login(store, "xyz", "fred")
        for where in (store, other):
            peeked = await where.peek("XYZ")
            listed = await where.scan("xyz")
            self.assertEqual(unique_ids(peeked.listing), [one.unique_id for one in listed])
            self.assertEqual(await self.texts(peeked), mails)
            self.assertEqual(await self.text(peeked, len(mails), 1), MIME.rpartition(b"line two")[0])
            for one in listed:
                self.assertEqual(await maybeDeferred(peeked.envelope, one.number), one.envelope)
            await peeked.release()
        await session.commit([1])
        self.assertEqual(await self.held(store, "xyz"), mails[1:])

    async def test_a_peek_holds_nothing(self) -> None:
        """Logins and removals go on beside it; it can remove nothing; to end it twice, or not, is no harm."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME, b"x\r\n")
        first, second, third = [await store.peek("mrose") for _ in range(3)]
        session = await self.login(store, "mrose")
        for marked in ([1], []):
            await self.fault(LeaseLost, first.commit(marked))
            first = second
        for _ in range(2):
            await third.release()
            await second.release()
        await session.commit([2])
        self.assertEqual(await self.held(store, "mrose"), [MIME])
        await store.peek("mrose")
        await store.remove("mrose")
        self.assertEqual(await store.maildrops(), [])

    async def test_what_is_removed_meanwhile_is_gone(self) -> None:
        """Its number says so and keeps its place; the others can be read."""
        store = await self.make_store()
        mails = [MIME, LARGE, b"3\r\n", b"4\r\n"]
        await self.put(store, "mrose", *mails)
        peeked = await store.peek("mrose")
        await (await self.login(store, "mrose")).commit([1, 2, 3])
        await self.put(store, "mrose", b"new\r\n")
        self.assertEqual(len(peeked.listing), 4)
        for number in (2, 1, 3):
            await self.fault(NoSuchMessage, maybeDeferred(peeked.fetch, number))
            await self.fault(NoSuchMessage, maybeDeferred(peeked.fetch, number, 0))
            await self.fault(NoSuchMessage, maybeDeferred(peeked.envelope, number))
        self.assertEqual(await self.text(peeked, 4), b"4\r\n")

    async def test_peeks_do_not_disturb_one_another(self) -> None:
        """What one has read ahead is not the other's, not even of another maildrop."""
        store = await self.make_store()
        await self.put(store, "mrose", *SMALL)
        await self.put(store, "jim", *reversed(SMALL))
        one, other = await store.peek("mrose"), await store.peek("jim")
        for index, mail in enumerate(SMALL):
            self.assertEqual(await self.text(one, index + 1), mail)
            self.assertEqual(await self.text(other, index + 1), SMALL[-1 - index])
