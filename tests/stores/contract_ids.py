"""Contract: messages that are given the unique-ids of another server."""

from __future__ import annotations

from mailgate.errors import MaildropInUse, MessageMalformed
from tests.stores.contract_base import MIME, StoreHooks, unique_ids

MANY = 1100         # more than goes into one statement


class UniqueIdContract(StoreHooks):
    """What `take_ids` promises."""

    async def filled(self, count: int, maildrop: str = "mrose"):
        """Return a store with a maildrop of short messages, numbered from 0, and their unique-ids."""
        store = await self.make_store()
        places = [self.placement(maildrop, preamble=b"n: %d\r\n" % number) for number in range(count)]
        self.assertEqual(await self.deliver(store, MIME, *places), [None] * count)
        return store, await self.ids(store, maildrop)

    async def ids(self, store, maildrop: str = "mrose") -> list[bytes]:
        return [one.unique_id for one in await store.scan(maildrop)]

    async def test_messages_take_ids(self) -> None:
        """Those that are named, and no others; the next login shows them in every process, all else stays."""
        store, ids = await self.filled(5)
        other = await self.make_second(store)
        before = await self.held(store, "mrose")
        self.assertEqual(await self.held(other, "mrose"), before)
        listed = await store.scan("mrose")
        longest = bytes(range(0x21, 0x67))
        given = {ids[3]: b"!", ids[0]: longest, b"nobody's": b"x", ids[1]: ids[1]}
        self.assertEqual(await store.take_ids("MROSE", given), [])
        expected = [longest, ids[1], ids[2], b"!", ids[4]]
        for where in (store, other):
            session = await self.login(where, "mrose")
            self.assertEqual(unique_ids(session.listing), expected)
            self.assertEqual(await self.texts(session), before)
            await session.release()
            self.assertEqual(await where.scan("mrose"), [
                one._replace(unique_id=new) for one, new in zip(listed, expected, strict=True)])
        await (await self.login(store, "mrose")).commit([1, 4])
        self.assertEqual(await self.ids(other), [ids[1], ids[2], ids[4]])
        self.assertEqual(await store.check(), [])

    async def test_ids_are_swapped(self) -> None:
        """And go round in a ring, and move along a row: by the end each is one message's."""
        store, (a, b, c, d, e, f) = await self.filled(6)
        self.assertEqual(await store.take_ids("mrose", {a: b, b: a, c: d, d: e, e: c, f: b"new"}), [])
        self.assertEqual(await self.ids(store), [b, a, d, e, c, b"new"])
        self.assertEqual(await store.take_ids("mrose", {b: a, a: d, d: e, e: b"newer"}), [])
        self.assertEqual(await self.ids(store), [a, d, e, b"newer", c, b"new"])
        self.assertEqual(await self.held(store, "mrose"),
                         [b"n: %d\r\n" % number + MIME for number in range(6)])

    async def test_ids_of_others_are_refused(self) -> None:
        """Of one that keeps it, of one that was removed, the same for two; and what hangs on those."""
        store, (a, b, c, d, e) = await self.filled(5)
        await self.deliver(store, MIME, self.placement("mrose", unique_id=b"gone"))
        await (await self.login(store, "mrose")).commit([6])
        given = {a: b"gone", b: a, c: d, e: b"twice", d: e, b"nobody's": a}
        self.assertEqual(sorted(await store.take_ids("mrose", given)), sorted([a, b]))
        self.assertEqual(await self.ids(store), [a, b, d, e, b"twice"])
        self.assertEqual(await store.take_ids("mrose", {a: b"same", b: b"same", d: b"twice"}), [b, d])
        self.assertEqual(await self.ids(store), [b"same", b, d, e, b"twice"])

    async def test_ids_that_were_given_up_are_not_given_again(self) -> None:
        """Neither to messages that are there, nor to imports; nor are those that messages took."""
        store, (a, b) = await self.filled(2)
        self.assertEqual(await store.take_ids("mrose", {a: b"first"}), [])
        self.assertEqual(await store.take_ids("mrose", {b"first": b"second"}), [])
        self.assertEqual(await store.take_ids("mrose", {b: a}), [b])
        self.assertEqual(await store.take_ids("mrose", {b: b"first"}), [b])
        await (await self.login(store, "mrose")).commit([1])
        self.assertEqual(await store.take_ids("mrose", {b: b"second"}), [b])
        for number, old in enumerate((a, b"first", b"second")):
            place = self.placement("mrose", unique_id=old, identity=b"%d" % number)
            self.assertEqual(await self.deliver(store, MIME, place), [None])
        now = await self.ids(store)
        self.assertEqual((len(set(now)), now[0]), (4, b))
        self.assertTrue({a, b"first", b"second"}.isdisjoint(now))

    async def test_an_import_is_known_by_what_it_was(self) -> None:
        """Not by the id that its message has now: repeated, it brings nothing."""
        store = await self.make_store()
        place = self.placement("mrose", unique_id=b"old")
        await self.deliver(store, MIME, place)
        self.assertEqual(await store.take_ids("mrose", {b"old": b"new"}), [])
        self.assertEqual(await self.deliver(store, MIME, place), [None])
        self.assertEqual(await self.ids(store), [b"new"])

    async def test_an_import_of_what_has_its_id_already(self) -> None:
        """Brings nothing, whether the message is still there or not; another identity is another message."""
        store, (a, b) = await self.filled(2)
        self.assertEqual(await store.take_ids("mrose", {a: b"old", b: b"older"}), [])
        await (await self.login(store, "mrose")).commit([1])
        for old in (b"old", b"older"):
            place = self.placement("mrose", unique_id=old)
            self.assertEqual(await self.deliver(store, MIME, place), [None])
        self.assertEqual(await self.ids(store), [b"older"])
        await self.deliver(store, MIME, self.placement("mrose", unique_id=b"older", identity=b"another"))
        self.assertEqual(len(await self.ids(store)), 2)

    async def test_an_id_that_was_taken_is_known_to_imports(self) -> None:
        """The message that had it elsewhere is here already: it is not brought again, removed or not."""
        store, ids = await self.filled(2)
        self.assertEqual(await store.take_ids("mrose", {ids[0]: b"elsewhere"}), [])
        place = self.placement("mrose", unique_id=b"elsewhere")
        self.assertEqual(await self.deliver(store, MIME, place), [None])
        self.assertEqual(await self.ids(store), [b"elsewhere", ids[1]])
        await (await self.login(store, "mrose")).commit([1])
        self.assertEqual(await self.deliver(store, MIME, place), [None])
        self.assertEqual(await self.ids(store), [ids[1]])

    async def test_ids_that_pop3_cannot_carry(self) -> None:
        """One of them, and nothing is changed (RFC 1939 section 7)."""
        store, ids = await self.filled(2)
        for bad in (b"", b"x" * 71, b"a b", b"\x7f", b"\x80", b"a\r\n", b"\0"):
            await self.fault(MessageMalformed, store.take_ids("mrose", {ids[0]: b"good", ids[1]: bad}))
        self.assertEqual(await self.ids(store), ids)

    async def test_ids_stay_while_a_session_is_open(self) -> None:
        """In any view and process; a session that is dead is none."""
        store, ids = await self.filled(2, "xyz")
        other = await self.make_second(store)
        for view in (None, "fred"):
            session = await self.login(store, "xyz", view)
            await self.fault(MaildropInUse, other.take_ids("xyz", {ids[0]: b"new"}))
            await session.commit([])
        await self.login(store, "xyz")
        await self.expire_holder(store)
        self.assertEqual(await other.take_ids("xyz", {ids[0]: b"new"}), [])
        self.assertEqual(await self.ids(store, "xyz"), [b"new", ids[1]])

    async def test_many_ids_are_taken_at_once(self) -> None:
        """Each message takes the next one's, the last one a new one; then all take new ones but for two."""
        store, ids = await self.filled(MANY)
        given = dict(zip(ids, [*ids[1:], b"new"], strict=True))
        self.assertEqual(await store.take_ids("mrose", given), [])
        now = await self.ids(store)
        self.assertEqual(now, [*ids[1:], b"new"])
        given = {one: b"newer%d" % number for number, one in enumerate(now)}
        given[now[0]], given[now[-1]] = ids[0], b"newer1"
        self.assertEqual(sorted(await store.take_ids("mrose", given)), sorted([now[0], now[-1]]))
        self.assertEqual(await self.ids(store), [now[0], *[given[one] for one in now[1:-1]], now[-1]])
        self.assertEqual(await store.check(), [])
