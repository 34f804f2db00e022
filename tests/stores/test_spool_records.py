"""What SQLite keeps for maildrops in files: what is remembered, notes, and the one journal."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from mailgate.errors import LeaseLost, MaildropInUse
from mailgate.interfaces import ISpoolRecords, ITenure
from mailgate.model import INBOX, Admission, Envelope, Note
from mailgate.stores.sql.spoolrows import ROWS, pack, pack_note, row_of, unpack, unpack_note
from tests.stores.contract_base import StoreHooks
from tests.stores.sqlite_hooks import SqliteHooks

OCTETS = st.binary(max_size=40)


class PackingTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=60)
    @given(st.dictionaries(OCTETS, OCTETS))
    def test_rows(self, entries: dict[bytes, bytes]) -> None:
        """Any octets come out as they went in."""
        self.assertEqual(dict(unpack(pack(entries.items()))), entries)

    @settings(deadline=None, max_examples=60)
    @given(st.builds(Note, st.none() | st.binary(min_size=1, max_size=70),
                     st.none() | st.builds(Envelope, OCTETS, OCTETS, st.integers(0, 1 << 60)),
                     st.none() | st.text(max_size=20)))
    def test_notes(self, note: Note) -> None:
        """What is not known is told from what is empty."""
        self.assertEqual(unpack_note(pack_note(note)), note)

    def test_many_messages_are_few_rows(self) -> None:
        """100,000 names have at most 1,024 rows."""
        self.assertEqual(len({row_of(b"%d.host" % number) for number in range(100_000)}), ROWS)


class RecordContract(StoreHooks):
    """What every engine's records do."""

    async def test_interfaces(self) -> None:
        store = await self.make_store()
        verifyObject(ISpoolRecords, store.records)
        verifyObject(ITenure, await store.records.take(Admission("mrose")))

    async def test_who_remembers_second_has_to_look_again(self) -> None:
        """Users of one host may scan at once: none loses what the other has found."""
        store = await self.make_store()
        fred = await store.records.take(Admission("xyz", "fred"))
        jim = await store.records.take(Admission("xyz", "jim"))
        self.assertTrue(await fred.remember({b"1": b"fred's"}))
        self.assertFalse(await jim.remember({b"1": b"jim's", b"2": b"jim's"}))
        self.assertEqual(jim.known, {b"1": b"fred's"})
        self.assertTrue(await jim.remember({**jim.known, b"2": b"jim's"}))
        self.assertFalse(await fred.remember({}))

    async def test_notes_stay_with_their_messages(self) -> None:
        """And go with them; a note that comes while somebody scans is not lost."""
        store = await self.make_store()
        placement = self.placement("mrose", "fred", unique_id=b"old-1")
        tenure = await store.records.take(Admission("mrose"))
        await store.records.delivered(placement, None, b"name")
        self.assertFalse(await tenure.remember({b"other": b"x"}))
        note = Note(b"old-1", placement.envelope, "fred")
        self.assertEqual(dict(tenure.notes), {b"name": note})
        self.assertTrue(await tenure.remember({b"name": b"x"}))
        await tenure.rename({b"name": b"new-1"}, [b"old-1", b"new-1"])
        self.assertEqual(await tenure.used([b"old-1", b"new-1", b"x"]), {b"old-1", b"new-1"})
        await tenure.release()
        await store.records.note("mrose", "a", {b"name": note})
        await store.records.rename_folders("mrose", {"a": "b"})
        self.assertEqual([dict((await store.records.look("mrose", folder)).notes)
                          for folder in (INBOX, "a", "b")],
                         [{b"name": note._replace(unique_id=b"new-1")}, {}, {b"name": note}])
        tenure = await store.records.take(Admission("mrose"))
        self.assertTrue(await tenure.remember({}))
        self.assertEqual(dict(tenure.notes), {})

    async def test_one_journal_at_a_time(self) -> None:
        """The second to decide learns of the first, and forgets no journal but the one that it knows."""
        store = await self.make_store()
        fred = await store.records.take(Admission("xyz", "fred"))
        jim = await store.records.take(Admission("xyz", "jim"))
        self.assertTrue(await fred.decide(b"fred's\n\n", "key"))
        self.assertFalse(await jim.decide(b"jim's", None))
        self.assertEqual(jim.journal, (b"fred's\n\n", "key"))
        await jim.carried_out([])
        self.assertTrue(await jim.decide(b"jim's", None))
        await fred.carried_out([b"1"])
        looked = await store.records.look("xyz")
        self.assertEqual(looked.journal, (b"jim's", None))
        await self.expire_holder(store)
        await self.fault(LeaseLost, fred.decide(b"late", None))

    async def test_a_maildrop_that_is_held(self) -> None:
        """Upkeep keeps sessions out, and they it; what is unknown is made on demand alone."""
        store = await self.make_store()
        self.assertIsNone(await store.records.hold("mrose"))
        held = await store.records.hold("mrose", make=True)
        await self.fault(MaildropInUse, store.records.take(Admission("mrose")))
        await held.release()
        tenure = await store.records.take(Admission("mrose"))
        await self.fault(MaildropInUse, store.records.hold("mrose"))
        await self.fault(MaildropInUse, store.records.forget("mrose"))
        await tenure.release()
        await store.records.forget("mrose")
        self.assertIsNone(await store.records.look("mrose"))


class RecordTests(SqliteHooks, RecordContract, TestCase):
    """Over SQLite, with a look inside."""

    async def test_what_is_remembered(self) -> None:
        """By every process; what changes little is written little; what is not named is forgotten."""
        store = await self.make_store()
        other = await self.make_second(store)
        known = {b"%d" % number: b"data %d" % number for number in range(3000)}
        tenure = await store.records.take(Admission("mrose"))
        self.assertTrue(await tenure.remember(known))
        statements = await self.trace(store)
        known = {**known, b"1": b"changed", b"new": b"more"}
        del known[b"2"]
        self.assertTrue(await tenure.remember(known))
        self.assertEqual(len([one for one in statements if "spool_entry" in one]), 3)
        del statements[:]
        self.assertTrue(await tenure.remember(dict(known)))
        self.assertEqual(statements, [])
        await tenure.amend({b"1": b"amended", b"3": None})
        await tenure.release()
        del known[b"3"]
        looked = await other.records.look("MROSE")
        self.assertEqual(looked.known, {**known, b"1": b"amended"})
        await self.fault(LeaseLost, looked.decide(b"journal", None))
        self.assertIsNone(await store.records.look("nobody"))
        self.assertEqual((await store.records.look("mrose", "a")).known, {})

    async def test_the_sweep_spares_what_a_journal_needs(self) -> None:
        """Though no body names it."""
        store = await self.make_store()
        blobs = store._database.blobs
        for key in ("journal00", "rubbish00"):
            writer = blobs.create(key)
            writer.write(b"x")
            writer.finish()
        tenure = await store.records.take(Admission("mrose"))
        await tenure.decide(b"journal", "journal00")
        self.assertEqual(await store.sweep(0), 1)
        self.assertEqual(self.body_files(store), ["journal00"])
        await tenure.carried_out([])
        self.assertEqual(await store.sweep(0), 1)
