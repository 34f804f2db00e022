"""The contract of IBlobStore, written from the interface alone: what every store of bodies must pass.

Mix it into a trial SynchronousTestCase that gives the hooks.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from random import Random

from zope.interface.verify import verifyObject

from mailgate.errors import StoreUnavailable
from mailgate.interfaces import IBlobReader, IBlobStore, IBlobWriter

KEY = "abcdefgh234567abcdefgh2345"
OTHER = "abzzzzzz234567abcdefgh2345"
PIECE_OCTETS = 65536
LARGE_OCTETS = 11_500_000       # several of any parts that a store may cut it into


class BlobStoreContract:
    """Every guarantee of a store of blobs."""

    def new_blobs(self) -> IBlobStore:
        """Return a store over a place of its own where nothing is yet."""
        raise NotImplementedError

    def same_blobs(self, blobs: IBlobStore) -> IBlobStore:
        """Return another one over the same place, as a second process would make it."""
        raise NotImplementedError

    def drop_owner(self, blobs: IBlobStore) -> None:
        """Take away what says whose the blobs are."""
        raise NotImplementedError

    listing = ""        # the method of the store that lists what is there

    def put(self, blobs: IBlobStore, key: str, *pieces: bytes) -> None:
        writer = blobs.create(key)
        for piece in pieces:
            writer.write(piece)
        writer.finish()

    def content(self, blobs: IBlobStore, key: str) -> bytes:
        """Read a blob in order, as a stream does."""
        reader, pieces, offset = blobs.open(key), [], 0
        while piece := reader.read(offset, PIECE_OCTETS):
            pieces.append(piece)
            offset += len(piece)
        reader.close()
        return b"".join(pieces)

    def names(self, blobs: IBlobStore) -> list[str]:
        return list(dict(blobs.keys()))

    # Blobs ------------------------------------------------------------------------------------

    def test_interfaces(self) -> None:
        """Store, writer and reader provide what they say."""
        blobs = self.new_blobs()
        verifyObject(IBlobStore, blobs)
        writer = blobs.create(KEY)
        verifyObject(IBlobWriter, writer)
        writer.finish()
        verifyObject(IBlobReader, blobs.open(KEY))

    def test_an_empty_place(self) -> None:
        """No keys, no owner; nothing to open; removing what is not there is no error."""
        blobs = self.new_blobs()
        self.assertEqual(blobs.keys(), [])
        self.assertIsNone(blobs.owner())
        self.assertRaises(StoreUnavailable, blobs.open, KEY)
        blobs.remove(KEY)

    def test_there_and_back(self) -> None:
        """Any octets, written in pieces, read at any offset; fewer than asked for only at the end."""
        blobs, content = self.new_blobs(), Random(1).randbytes(300_000)
        self.put(blobs, KEY, content[:1], b"", content[1:70_000], content[70_000:])
        reader = self.same_blobs(blobs).open(KEY)
        random = Random(2)
        for offset in [0, 299_999, *(random.randrange(300_000) for _ in range(20))]:
            octets = random.choice((1, 100, PIECE_OCTETS, 250_000))
            self.assertTrue(reader.read(offset, octets) == content[offset:offset + octets])
        self.assertEqual([reader.read(at, 10) for at in (300_000, 300_001, 10_000_000)], [b""] * 3)
        reader.close()
        self.assertTrue(self.content(blobs, KEY) == content)

    def test_a_large_blob(self) -> None:
        """It is whole, however many parts it was cut into."""
        blobs, content = self.new_blobs(), Random(3).randbytes(LARGE_OCTETS)
        self.put(blobs, KEY, *(content[at:at + PIECE_OCTETS] for at in range(0, LARGE_OCTETS, PIECE_OCTETS)))
        self.assertTrue(self.content(blobs, KEY) == content)
        reader = blobs.open(KEY)
        self.assertTrue(reader.read(LARGE_OCTETS - 100, 200) == content[-100:])
        self.assertTrue(reader.read(5_242_000, PIECE_OCTETS) == content[5_242_000:5_242_000 + PIECE_OCTETS])

    def test_what_a_reader_has_at_hand(self) -> None:
        """If it can say so at all: those octets and no others, or None."""
        blobs, content = self.new_blobs(), Random(4).randbytes(200_000)
        self.put(blobs, KEY, content)
        reader = blobs.open(KEY)
        at_hand = getattr(reader, "read_at_hand", None)
        for offset in (0, 1, 65_000, 130_000, 199_999):
            reader.read(offset, 1000)
            if at_hand is not None and (piece := at_hand(offset, 500)) is not None:
                self.assertEqual(piece, content[offset:offset + len(piece)])
        reader.close()
        if at_hand is not None:
            self.assertIsNone(at_hand(0, 10))

    def test_a_blob_of_nothing(self) -> None:
        """It is there, and has no octets."""
        blobs = self.new_blobs()
        self.put(blobs, KEY)
        self.assertEqual((self.content(blobs, KEY), self.names(blobs)), (b"", [KEY]))

    def test_nothing_is_there_before_the_end(self) -> None:
        """Neither while it is written, in however many parts, nor when that was given up."""
        for octets in (100, LARGE_OCTETS):
            blobs = self.new_blobs()
            writer, other = blobs.create(KEY), self.same_blobs(blobs)
            writer.write(bytes(octets))
            self.assertRaises(StoreUnavailable, other.open, KEY)
            writer.abandon()
            writer.abandon()
            self.assertRaises(StoreUnavailable, other.open, KEY)
            self.assertEqual(other.keys(), [])

    def test_giving_up_what_is_finished(self) -> None:
        """Changes nothing; nor can more be written."""
        blobs = self.new_blobs()
        writer = blobs.create(KEY)
        writer.write(b"there")
        writer.finish()
        writer.abandon()
        self.assertRaises(StoreUnavailable, writer.write, b"more")
        self.assertEqual(self.content(blobs, KEY), b"there")

    def test_remove(self) -> None:
        """It is gone for every process, and no other blob."""
        blobs = self.new_blobs()
        for key in (KEY, OTHER):
            self.put(blobs, key, key.encode())
        other = self.same_blobs(blobs)
        for _ in range(2):
            other.remove(KEY)
        self.assertRaises(StoreUnavailable, blobs.open, KEY)
        self.assertEqual(self.content(blobs, OTHER), OTHER.encode())
        self.assertEqual(self.names(blobs), [OTHER])

    def test_keys_with_their_ages(self) -> None:
        """Every blob once, in seconds since it was written; what else lies there is none."""
        blobs, keys = self.new_blobs(), [f"{number:026x}" for number in range(30)]
        blobs.belong_to("one")
        for key in keys:
            self.put(blobs, key, b"x")
        for where in (blobs, self.same_blobs(blobs), blobs):
            found = where.keys()
            self.assertEqual(sorted(key for key, _ in found), keys)
            self.assertTrue(all(isinstance(age, int) and 0 <= age < 120 for _, age in found), found)

    def test_what_cannot_be_a_key(self) -> None:
        """It never becomes a path or another object's name."""
        blobs = self.new_blobs()
        for key in ("", "..", "STORE", "CLOCK", "../../abcdefgh", "a/b/abcdefgh", "abcdefgh.part",
                    "abcdefgh\n", "x" * 101, "äbcdefgh"):
            for call in (blobs.create, blobs.open, blobs.remove):
                self.assertRaises(StoreUnavailable, call, key)
        self.assertEqual(blobs.keys(), [])

    def test_a_reader_that_was_closed(self) -> None:
        """Reads no more, and may be closed again."""
        blobs = self.new_blobs()
        self.put(blobs, KEY, b"x" * 100_000)
        reader = blobs.open(KEY)
        self.assertEqual(reader.read(0, 1), b"x")
        for _ in range(2):
            reader.close()
            self.assertRaises(StoreUnavailable, reader.read, 0, 1)

    def test_threads(self) -> None:
        """One store serves many threads at once."""
        blobs = self.new_blobs()
        blobs.belong_to("one")

        def there_and_back(number: int) -> bool:
            key, content = f"{number:026}", Random(number).randbytes(1000 * number)
            self.put(blobs, key, content)
            return self.content(blobs, key) == content

        with ThreadPoolExecutor(8) as threads:
            self.assertTrue(all(threads.map(there_and_back, range(1, 25))))
        self.assertEqual((len(blobs.keys()), blobs.owner()), (24, "one"))

    # Whose they are ---------------------------------------------------------------------------

    def test_the_owner_comes_with_the_first_blob(self) -> None:
        """Saying it makes nothing yet; from the first blob on every process sees it."""
        blobs = self.new_blobs()
        blobs.belong_to("one")
        other = self.same_blobs(blobs)
        self.assertEqual((blobs.owner(), other.owner(), blobs.keys()), (None, None, []))
        blobs.create(KEY).abandon()
        self.assertEqual((blobs.owner(), other.owner()), ("one", "one"))
        other.belong_to("one")
        self.put(other, KEY, b"x")

    def test_blobs_of_another_store(self) -> None:
        """They are refused when it says who it is, and when it writes, if it was too early to see it."""
        blobs = self.new_blobs()
        early, late = self.same_blobs(blobs), self.same_blobs(blobs)
        blobs.belong_to("one")
        early.belong_to("two")
        self.put(blobs, KEY, b"x")
        self.assertRaises(StoreUnavailable, late.belong_to, "two")
        self.assertRaises(StoreUnavailable, early.create, OTHER)
        self.assertEqual((blobs.owner(), self.names(blobs)), ("one", [KEY]))

    def test_blobs_of_nobody(self) -> None:
        """Whose they are cannot be told: they are nobody's to sweep."""
        blobs = self.new_blobs()
        blobs.belong_to("one")
        self.put(blobs, KEY, b"x")
        self.drop_owner(blobs)
        other = self.same_blobs(blobs)
        self.assertRaises(StoreUnavailable, other.owner)
        self.assertRaises(StoreUnavailable, other.belong_to, "one")

    def test_another_process_begins_between_two_looks(self) -> None:
        """Its bodies are seen, and its mark was not yet: they are nobody's only if it still is not there."""
        blobs = self.new_blobs()
        first, second = self.same_blobs(blobs), self.same_blobs(blobs)
        first.belong_to("one")
        second.belong_to("one")
        listed = getattr(second, self.listing)

        def late() -> object:
            self.patch(second, self.listing, listed)
            self.put(first, KEY, b"x")
            return listed()

        self.patch(second, self.listing, late)
        self.put(second, OTHER, b"y")
        self.assertEqual(set(self.names(blobs)), {KEY, OTHER})

    def test_processes_that_begin_at_once(self) -> None:
        """Of one store, all may; of several, one at most, and who wrote a blob is the owner."""
        blobs = self.new_blobs()
        mine = [self.same_blobs(blobs) for _ in range(4)]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda one: one.belong_to("one"), mine))
            list(threads.map(lambda item: self.put(item[1], f"{item[0]:026}", b"x"), enumerate(mine)))
            listed = list(threads.map(lambda one: len(one.keys()), mine * 4))
        self.assertEqual((set(listed), blobs.owner()), ({4}, "one"))
        for _ in range(3):
            blobs = self.new_blobs()
            rivals = {name: self.same_blobs(blobs) for name in ("one", "two", "three")}
            for name, rival in rivals.items():
                rival.belong_to(name)

            def begin(name: str, rivals: dict[str, IBlobStore] = rivals) -> str | None:
                try:
                    self.put(rivals[name], KEY, name.encode())
                except StoreUnavailable:
                    return None
                return name

            with ThreadPoolExecutor(3) as threads:
                winners = [name for name in threads.map(begin, rivals) if name is not None]
            self.assertLessEqual(len(winners), 1)
            self.assertIn(blobs.owner(), winners or (None,))
