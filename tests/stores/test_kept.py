"""In which form stores keep ids, folders and flags: what can be said of any input."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import FolderConflict, MessageMalformed
from mailgate.model import FLAGS, INBOX, Envelope, Placement
from mailgate.stores.kept import as_kept, changed, find_taken, ordered, parted, renamed

IDS = [b"%d" % number for number in range(9)]
free = settings(deadline=None, max_examples=200)
NAMES = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join)


class TakenTests(SynchronousTestCase):
    @free
    @given(st.sets(st.sampled_from(IDS)), st.sets(st.sampled_from(IDS)), st.data())
    def test_ids_stay_apart(self, present: set[bytes], gone: set[bytes], data: st.DataObject) -> None:
        """Whatever is asked for: each message has an id of its own, and none that is another's or was."""
        gone -= present
        asked = data.draw(st.dictionaries(st.sampled_from(sorted(present)), st.sampled_from(IDS))
                          if present else st.just({}))
        refused = find_taken(asked, present | gone)
        self.assertEqual(len(refused), len(set(refused)))
        self.assertLessEqual(set(refused), set(asked))
        now = {old: new for old, new in asked.items() if old not in refused}
        after = [now.get(one, one) for one in present]
        self.assertEqual(len(set(after)), len(after))
        self.assertTrue(gone.isdisjoint(after))
        for one in refused:     # not without a reason
            self.assertIn(asked[one], [*gone, *after])

    @free
    @given(st.sets(st.sampled_from(IDS), min_size=1), st.integers(1, 4), st.data())
    def test_parts(self, present: set[bytes], most: int, data: st.DataObject) -> None:
        """One part after the other comes out as all at once would, and none is larger than it must be."""
        gone = data.draw(st.sets(st.sampled_from(IDS))) - present
        asked = data.draw(st.dictionaries(st.sampled_from(sorted(present)), st.sampled_from(IDS)))
        at_once = find_taken(asked, present | gone)
        now, had, refused = set(present), present | gone, []
        for part in parted(asked, most):
            still = find_taken(part, had)
            taken = {old: new for old, new in part.items() if old not in still}
            self.assertLessEqual(set(taken), now)
            now = now - set(taken) | set(taken.values())
            had |= now
            refused += still
            if len(part) > most:    # of one piece: whoever is in it shares an id with somebody else
                ids = Counter(one for pair in part.items() for one in set(pair))
                self.assertTrue(all(ids[old] + ids[new] > 2 for old, new in part.items()))
        self.assertEqual(sorted(refused), sorted(at_once))
        self.assertEqual(now, {new if old not in at_once else old for old, new in asked.items()}
                         | (present - set(asked)))

    def test_parts_of_many(self) -> None:
        """Of what does not hang together, as many as may be; of nothing, one part."""
        asked = {b"%d" % number: b"new%d" % number for number in range(10)}
        self.assertEqual([len(part) for part in parted(asked, 4)], [4, 4, 2])
        self.assertEqual([*parted({}, 4)], [{}])

    def test_rings_and_rows(self) -> None:
        """All of a ring get theirs; of a row that ends at one who stays nobody does."""
        self.assertEqual(find_taken({b"a": b"b", b"b": b"c", b"c": b"a"}, {b"a", b"b", b"c"}), [])
        self.assertEqual(set(find_taken({b"a": b"b", b"b": b"c", b"c": b"x"}, {b"a", b"b", b"c", b"x"})),
                         {b"a", b"b", b"c"})


class RenamedTests(SynchronousTestCase):
    @free
    @given(st.sets(NAMES, min_size=1), NAMES, st.data())
    def test_no_two_meet(self, folders: set[str], name: str, data: st.DataObject) -> None:
        """One rename after the other, each onto a name that nobody has just then; or none of them."""
        folder = data.draw(st.sampled_from(sorted(folders)))
        try:
            changes = renamed(folders, folder, name)
        except FolderConflict:
            return
        now = set(folders)
        for old, new in changes:
            now.remove(old)
            self.assertNotIn(new, now)
            now.add(new)
        self.assertEqual(len(now), len(folders))
        self.assertEqual({old for old, _ in changes},
                         {one for one in folders if f"{one}/".startswith(f"{folder}/")})
        self.assertEqual({new for _, new in changes}, {name + old[len(folder):] for old, _ in changes})


class FlagTests(SynchronousTestCase):
    @free
    @given(*[st.text(st.sampled_from(FLAGS)) for _ in range(3)])
    def test_any_letters(self, flags: str, add: str, remove: str) -> None:
        """In one order, each once."""
        result = changed(ordered(flags), add, remove)
        self.assertEqual(set(result), set(flags) - set(remove) | set(add))
        self.assertEqual(result, ordered(result))
        self.assertEqual(len(result), len(set(result)))

    def test_placements(self) -> None:
        """Folder and flags take their form; what cannot be kept is refused by its own fault."""
        place = Placement("mrose", None, Envelope(b"", b"", 0), folder="inbox", flags="SFS")
        self.assertEqual(as_kept(place), place._replace(folder=INBOX, flags="FS"))
        for wrong, fault in (({"flags": "x"}, MessageMalformed), ({"unique_id": b"a b"}, MessageMalformed),
                             ({"folder": "a//b"}, FolderConflict)):
            self.assertRaises(fault, as_kept, place._replace(**wrong))
