"""Contract: the snapshot of a login, exact sizes, TOP, and bodies that come out as they went in."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import maybeDeferred

from mailgate.interfaces import IMessageStream
from mailgate.wire.dots import to_wire
from tests.corpus import MESSAGES, edge_messages, random_message, random_pieces
from tests.stores.contract_base import MIME, StoreHooks, crlf_form, top_of, unique_ids

RETURN_PATH = b"Return-Path: <Sender@Example.org>\r\n"
TRACE = RETURN_PATH + b"Received: from a\r\n\tby b; Thu, 09 Jul 1998 05:54:17 +0000\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"".join(b".%d lines\r\n" % number for number in range(20_000))


class ReadingContract(StoreHooks):
    """What one session reads of its maildrop."""

    # Snapshot -------------------------------------------------------------------------------

    async def test_an_unknown_maildrop_is_empty(self) -> None:
        """It comes into being with its first login."""
        store = await self.make_store()
        session = await self.login(store, "nobody")
        self.assertEqual((len(session.listing), session.listing.octets), (0, 0))
        await session.commit([])

    async def test_mail_that_arrives_later_waits(self) -> None:
        """A delivery never waits for a session; the session never sees it; the next one does."""
        store = await self.make_store()
        other = await self.make_second(store)
        await self.put(store, "mrose", MIME)
        session = await self.login(store, "mrose")
        before = unique_ids(session.listing)
        await self.put(store, "mrose", b"here\r\n")
        await self.put(other, "mrose", b"there\r\n")
        self.assertEqual(unique_ids(session.listing), before)
        self.assertEqual(await self.texts(session), [MIME])
        await session.commit([1])
        self.assertEqual(await self.held(store, "mrose"), [b"here\r\n", b"there\r\n"])

    async def test_numbers_are_stable(self) -> None:
        """Whatever other views and deliveries do, number n is the same message to the end."""
        store = await self.make_store()
        mails = [b"a: %d\r\n\r\n" % number + b"x" * number + b"\r\n" for number in range(12)]
        for number, mail in enumerate(mails):
            await self.put(store, "xyz", mail, user="jim" if number % 3 else "fred")
        jim, fred = await self.login(store, "xyz", "jim"), await self.login(store, "xyz", "fred")
        mine = [mail for number, mail in enumerate(mails) if number % 3]
        await fred.commit([1, 2, 3, 4])
        await self.put(store, "xyz", b"new\r\n", user="jim")
        self.assertEqual(await self.texts(jim), mine)
        self.assertEqual([await self.text(jim, number) for number in (8, 1, 5)], [mine[7], mine[0], mine[4]])
        await jim.commit([2, 4])
        self.assertEqual(await self.held(store, "xyz"),
                         [mail for at, mail in enumerate(mine) if at not in (1, 3)] + [b"new\r\n"])

    async def test_unchanged_maildrop_gives_an_equal_listing(self) -> None:
        """Login after login, in either process, the same sizes and unique-ids."""
        store = await self.make_store()
        other = await self.make_second(store)
        await self.put(store, "mrose", MIME, b"x\n")
        seen = []
        for where in (store, store, other, store):
            session = await self.login(where, "mrose")
            seen.append((list(session.listing.sizes), unique_ids(session.listing)))
            await session.release()
        self.assertEqual(seen, [seen[0]] * 4)
        self.assertEqual(len(seen[0][0]), 2)

    async def test_a_listing_is_never_out_of_date(self) -> None:
        """Every kind of change shows at the next login, in every view and process that listed before."""
        store = await self.make_store()
        other = await self.make_second(store)
        mails: list[tuple[str, bytes]] = []

        async def listed() -> None:
            for where in (store, other):
                for view in (None, "fred", "jim"):
                    expected = [text for user, text in mails if view in (None, user)]
                    self.assertEqual(await self.held(where, "xyz", view), expected)

        arriving = [(store, "fred", b"1\r\n"), (other, "jim", b"22\r\n"), (store, "jim", b"333\r\n")]
        for where, user, text in arriving:
            await self.put(where, "xyz", text, user=user)
            mails.append((user, text))
            await listed()
        await (await self.login(other, "xyz", "jim")).commit([1])
        del mails[1]
        await listed()
        await self.put(store, "xyz", b"old\r\n", user="fred", age_seconds=9 * 86400)
        mails.append(("fred", b"old\r\n"))
        await listed()
        self.assertEqual(await other.expire(7 * 86400), 1)
        del mails[2]
        await listed()
        await store.remove("xyz")
        for at in (0, 1):
            await self.put(store, "xyz", b"again\r\n", user="fred")
            mails[at] = ("fred", b"again\r\n")
        await listed()

    async def test_a_listing_does_not_change_after_quit(self) -> None:
        """Listings may be shared: what one session removes is not taken from another's listing."""
        store = await self.make_store()
        await self.put(store, "mrose", MIME, b"x\r\n")
        first = await self.login(store, "mrose")
        ids = unique_ids(first.listing)
        await first.commit([1])
        second = await self.login(store, "mrose")
        self.assertEqual((unique_ids(first.listing), list(first.listing.sizes)), (ids, [len(MIME), 3]))
        self.assertEqual((unique_ids(second.listing), list(second.listing.sizes)), (ids[1:], [3]))

    # Bodies, sizes, TOP -----------------------------------------------------------------------

    async def check_bodies(self, contents: list[bytes], seed: int) -> None:
        """Deliver messages in random pieces, each with three preambles, and read all there is to read."""
        random, store = Random(seed), await self.make_store()
        texts = []
        for content in contents:
            outcomes = await self.deliver(store, random_pieces(random, content), *[
                self.placement("mrose", preamble=preamble) for preamble in (b"", RETURN_PATH, TRACE)])
            self.assertEqual(outcomes, [None] * 3)
            texts += [preamble + crlf_form(content) for preamble in (b"", RETURN_PATH, TRACE)]
        session = await self.login(store, "mrose")
        self.assertEqual(list(session.listing.sizes), [len(text) for text in texts])
        self.assertEqual(session.listing.octets, sum(map(len, texts)))
        for number, text in enumerate(texts, 1):
            await self.check_message(session, number, text)
        self.assertEqual([one.octets for one in await store.scan("mrose")], [len(text) for text in texts])

    async def check_message(self, session, number: int, text: bytes) -> None:
        """Read one message whole and its TOPs: wire form, and each TOP an exact prefix."""
        whole = await self.wire(session, number)
        self.assertEqual(whole, to_wire(text))
        self.assertTrue(self.as_client(whole) == text, f"message {number}")
        for body_lines in (0, 1, 2, 17, 99_999_999, 2 ** 63):
            top = await self.wire(session, number, body_lines)
            self.assertTrue(whole.startswith(top), f"TOP {number} {body_lines}")
            self.assertTrue(self.as_client(top) == top_of(text, body_lines), f"TOP {number} {body_lines}")

    async def test_bodies_come_out_as_they_went_in(self) -> None:
        """Dots, bare CR, bare LF, NUL, no line end, empty, no header, long lines: all exact."""
        await self.check_bodies(list(MESSAGES.values()), 1)

    async def test_dots_at_every_edge(self) -> None:
        """Lines that begin with a dot around every 2^k octets, plain and in wire form."""
        await self.check_bodies(list(edge_messages()), 2)

    async def test_free_input(self) -> None:
        """Seeded messages of CR, LF, dots and some others, cut anywhere."""
        random = Random(3)
        await self.check_bodies([random_message(random) for _ in range(60)], 4)

    async def test_octet_by_octet(self) -> None:
        """A message may come in pieces of one octet."""
        store = await self.make_store()
        for content in (MESSAGES["bare CR"], MESSAGES["dots behind bare LF"], MESSAGES["lone dots"]):
            pieces = [content[at:at + 1] for at in range(len(content))]
            self.assertEqual(await self.deliver(store, pieces, self.placement("mrose")), [None])
            session = await self.login(store, "mrose")
            self.assertEqual(await self.texts(session), [crlf_form(content)])
            await session.commit([1])

    async def test_messages_may_be_read_in_any_order_and_again(self) -> None:
        """Reading ahead must not depend on a client that reads in order."""
        store = await self.make_store()
        mails = [b"a: %d\r\n\r\n" % number + b"x" * (997 * number) + b"\r\n" for number in range(30)]
        mails[10:10] = [LARGE, LARGE[:100_000] + b"\r\n"]
        await self.put(store, "mrose", *mails)
        session = await self.login(store, "mrose")
        order = list(range(len(mails))) * 2
        Random(5).shuffle(order)
        for index in order:
            self.assertTrue(await self.text(session, index + 1) == mails[index], f"message {index + 1}")
            top = await self.text(session, index + 1, index % 3)
            self.assertTrue(top == top_of(mails[index], index % 3), f"TOP {index + 1} {index % 3}")

    async def test_a_stream_may_be_left(self) -> None:
        """Closed before its end, twice, or never read; the session goes on, QUIT works."""
        store = await self.make_store()
        await self.put(store, "mrose", LARGE, MIME)
        session = await self.login(store, "mrose")
        for reads in (0, 1, 2):
            content = await maybeDeferred(session.fetch, 1)
            if IMessageStream.providedBy(content):
                for _ in range(reads):
                    self.assertTrue(await content.read())
                content.close()
                content.close()
        self.assertEqual(await self.text(session, 2), MIME)
        self.assertTrue(await self.text(session, 1) == LARGE)
        await session.commit([1])
        self.assertEqual(await self.held(store, "mrose"), [MIME])

    async def test_two_streams_of_one_body(self) -> None:
        """Two users read their copies of one large body at once, each with its own preamble."""
        store = await self.make_store()
        await self.deliver(store, LARGE, self.placement("xyz", "fred", preamble=RETURN_PATH),
                           self.placement("xyz", "jim", preamble=TRACE))
        streams, wires = [], [b"", b""]
        for user in ("fred", "jim"):
            session = await self.login(store, "xyz", user)
            streams.append(await maybeDeferred(session.fetch, 1))
        if not all(map(IMessageStream.providedBy, streams)):
            self.assertEqual(streams, [to_wire(RETURN_PATH + LARGE), to_wire(TRACE + LARGE)])
            return
        pieces = [b"first", b"first"]
        while any(pieces):
            pieces = [await stream.read() for stream in streams]
            wires = [wire + piece for wire, piece in zip(wires, pieces, strict=True)]
        self.assertTrue(wires == [to_wire(RETURN_PATH + LARGE), to_wire(TRACE + LARGE)])

    async def test_many_large_messages(self) -> None:
        """Messages of megabytes come back whole; their TOP too."""
        store = await self.make_store()
        random = Random(6)
        content = b"Subject: big\n\n" + b"".join(
            random.choice((b"..\n", b".", b"x" * 70 + b"\r\n", b"\n", b"\r")) for _ in range(200_000))
        self.assertEqual(await self.deliver(
            store, random_pieces(random, content, 65536), self.placement("mrose", preamble=TRACE)), [None])
        session = await self.login(store, "mrose")
        await self.check_message(session, 1, TRACE + crlf_form(content))
