"""The contract of IFolderStore, written from the interface alone: what every adapter must pass.

Mix it into a trial TestCase that gives the hooks of `StoreHooks`. An adapter over other programs' files
says by the attributes of `FolderContract` where it can hold less.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from twisted.internet.defer import Deferred

from mailgate.errors import FolderConflict, LeaseLost, MaildropInUse, NoSuchFolder, OverQuota
from mailgate.model import INBOX
from mailgate.names import MAX_FOLDER_OCTETS
from tests.stores.contract_base import MIME, StoreHooks, unique_ids

LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcd\r\n" * 8000
BAD_NAMES = ("", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "./a", "a\0b", "a\nb", "\x7f", "a/\x1b[2J",
             "\x85", "a\u2028b", "\udc80", "x" * (MAX_FOLDER_OCTETS + 1), "\u00e9" * 128)


class FolderContract(StoreHooks):
    """Every guarantee of folders and flags."""

    odd_names: tuple[str, ...] = (          # that the adapter can hold, beside plain ones
        "Entw\u00fcrfe", "a b", " a", "\u65e5\u672c/\u8a9e", "Sent.Mail", "...", "~", "%", "*", "&", "a\\b",
        "'; --", '"', "-x", "$(id)", "inbox2", "a/INBOX", "x" * MAX_FOLDER_OCTETS, "/".join("x" * 128))
    keeps_order = True      # what is moved or copied stands behind what is there
    shows_views = True      # messages are a user's of an SDPS host by their placement
    has_quota = True        # and it counts all folders

    # What tests are written with ------------------------------------------------------------

    async def file(self, store, folder: str, *contents: bytes, flags: str = "", user: str | None = None,
                   maildrop: str = "mrose") -> list[bytes]:
        """Deliver messages into a folder; return the unique-ids of all that it holds then."""
        for content in contents:
            place = self.placement(maildrop, user, folder=folder, flags=flags)
            self.assertEqual(await self.deliver(store, content, place), [None])
        return await self.ids(store, folder, maildrop)

    async def ids(self, store, folder: str = INBOX, maildrop: str = "mrose") -> list[bytes]:
        return [one.unique_id for one in await store.scan(maildrop, folder)]

    async def texts_in(self, store, folder: str, maildrop: str = "mrose") -> list[bytes]:
        """Return what a folder's messages are to a reader without a lease; scan and listing must agree."""
        peeked = await store.peek(maildrop, folder)
        listed = await store.scan(maildrop, folder)
        self.assertEqual([one.number for one in listed], list(range(1, len(listed) + 1)))
        self.assertEqual([(one.octets, one.unique_id) for one in listed],
                         list(zip(peeked.listing.sizes, unique_ids(peeked.listing), strict=True)))
        texts = await self.texts(peeked)
        await peeked.release()
        return texts

    async def check_texts(self, store, **folders: list[bytes]) -> None:
        """See what folders hold; in a row of its own where the adapter keeps no order."""
        for folder, expected in folders.items():
            found = await self.texts_in(store, folder)
            self.assertEqual(*((found, expected) if self.keeps_order else (sorted(found), sorted(expected))))

    # Folders --------------------------------------------------------------------------------

    async def test_inbox_is_always_there(self) -> None:
        """In a maildrop that nobody has, too, which does not come into being by that; in any case."""
        store = await self.make_store()
        self.assertEqual(await store.folders("nobody"), [INBOX])
        self.assertEqual(await store.maildrops(), [])
        ids = await self.file(store, "inBox", MIME)
        for name in ("INBOX", "inbox", "Inbox"):
            self.assertEqual(await self.ids(store, name), ids)
        self.assertEqual(await store.folders("mrose"), [INBOX])
        self.assertEqual(await self.held(store, "mrose"), [MIME])

    async def test_folders_are_listed_in_order(self) -> None:
        """INBOX first; the same in every process; names keep their case, and are of one maildrop."""
        store = await self.make_store()
        other = await self.make_second(store)
        for name in ("b", "INBOX/x", "a/b/c", "B", "a", "Archive", "inbox/Y"):
            await store.make_folder("mrose", name)
        await other.make_folder("jim", "his")
        for where in (store, other):
            self.assertEqual(await where.folders("MROSE"),
                             [INBOX, "Archive", "B", "INBOX/Y", "INBOX/x", "a", "a/b/c", "b"])
            self.assertEqual(await where.folders("jim"), [INBOX, "his"])

    async def test_a_name_is_taken_once(self) -> None:
        """INBOX always is, in any case; two ways to write the same characters are one name."""
        store = await self.make_store()
        await store.make_folder("mrose", "caf\u00e9")
        for name in ("caf\u00e9", "cafe\u0301", "INBOX", "inbox", "iNBOX"):
            await self.fault(FolderConflict, store.make_folder("mrose", name))
        self.assertEqual(await store.folders("mrose"), [INBOX, "caf\u00e9"])
        self.assertEqual(await self.file(store, "cafe\u0301", MIME), await self.ids(store, "caf\u00e9"))
        self.assertEqual(await self.texts_in(store, "cafe\u0301"), [MIME])

    async def test_names_that_no_folder_can_have(self) -> None:
        """They are refused where something is made, and are no folder's anywhere else."""
        store = await self.make_store()
        ids = await self.file(store, "a", MIME)
        for name in BAD_NAMES:
            await self.fault(FolderConflict, store.make_folder("mrose", name))
            await self.fault(FolderConflict, store.rename_folder("mrose", "a", name))
            for outcome in (store.remove_folder("mrose", name), store.rename_folder("mrose", name, "b"),
                            store.move("mrose", "a", ids, name), store.move("mrose", name, ids, "a"),
                            store.copy("mrose", "a", ids, name), store.expunge("mrose", name, ids)):
                await self.fault(NoSuchFolder, outcome)
            self.assertEqual(await store.scan("mrose", name), [])
            self.assertEqual(len((await store.peek("mrose", name)).listing), 0)
            self.assertEqual(await store.flag("mrose", name, ids, add="S"), [])
        self.assertEqual(await store.folders("mrose"), [INBOX, "a"])
        self.assertEqual(await self.texts_in(store, "a"), [MIME])

    async def test_mail_for_a_folder_that_cannot_be(self) -> None:
        """Nothing is stored of such a delivery."""
        store = await self.make_store()
        for folder in ("a/../b", "", "a\0b"):
            places = self.placement("jim"), self.placement("mrose", folder=folder)
            await self.fault(FolderConflict, Deferred.fromCoroutine(self.deliver(store, MIME, *places)))
        self.assertEqual(await store.scan("jim"), [])
        self.assertEqual(await store.folders("mrose"), [INBOX])

    async def test_odd_names(self) -> None:
        """Whatever means something to shells, SQL, IMAP patterns and file systems is a name like others."""
        store = await self.make_store()
        for number, name in enumerate(self.odd_names):
            await self.file(store, name, b"%d\r\n" % number)
        await store.make_folder("mrose", "empty")
        self.assertEqual(await (await self.make_second(store)).folders("mrose"),
                         [INBOX, *sorted([*self.odd_names, "empty"])])
        for number, name in enumerate(self.odd_names):
            self.assertEqual(await self.texts_in(store, name), [b"%d\r\n" % number])
            await store.rename_folder("mrose", name, f"now{number}")
            self.assertEqual(await self.texts_in(store, f"now{number}"), [b"%d\r\n" % number])
        self.assertEqual(len(await store.folders("mrose")), len(self.odd_names) + 2)

    async def test_an_empty_folder_can_be_removed(self) -> None:
        """Those below stay; one with mail and INBOX stay; what is none is none."""
        store = await self.make_store()
        for name in ("a", "a/b", "a/b/c"):
            await store.make_folder("mrose", name)
        await self.file(store, "a/b", MIME)
        for name in ("INBOX", "inbox", "a/b"):
            await self.fault(FolderConflict, store.remove_folder("mrose", name))
        for maildrop, name in (("mrose", "b"), ("mrose", "A"), ("nobody", "a")):
            await self.fault(NoSuchFolder, store.remove_folder(maildrop, name))
        await store.remove_folder("mrose", "a")
        self.assertEqual(await store.folders("mrose"), [INBOX, "a/b", "a/b/c"])
        await self.fault(NoSuchFolder, store.remove_folder("mrose", "a"))
        await store.expunge("mrose", "a/b", await self.ids(store, "a/b"))
        await store.remove_folder("mrose", "a/b")
        await store.make_folder("mrose", "a/b")
        self.assertEqual(await self.texts_in(store, "a/b"), [])
        self.assertEqual(await store.folders("mrose"), [INBOX, "a/b", "a/b/c"])

    async def test_a_folder_is_renamed_with_all_below(self) -> None:
        """Mail, unique-ids, flags and order stay; what only begins with the same letters is another."""
        store = await self.make_store()
        ids = {}
        for name in ("a", "a/b", "a/b/a", "ab", "a b"):
            ids[name] = await self.file(store, name, name.encode() + b"\r\n", MIME, flags="FS")
        await store.rename_folder("mrose", "a", "New/a")
        self.assertEqual(await store.folders("mrose"),
                         [INBOX, "New/a", "New/a/b", "New/a/b/a", "a b", "ab"])
        for old, new in (("a", "New/a"), ("a/b", "New/a/b"), ("a/b/a", "New/a/b/a"), ("ab", "ab")):
            self.assertEqual(await self.ids(store, new), ids[old])
            self.assertEqual(await self.texts_in(store, new), [old.encode() + b"\r\n", MIME])
            self.assertEqual({one.flags for one in await store.scan("mrose", new)}, {"FS"})
            self.assertEqual(await self.ids(store, old), ids[old] if old == new else [])

    async def test_a_folder_moves_up(self) -> None:
        """Below it is one that has the name by then that another gave up."""
        store = await self.make_store()
        for name in ("b/c", "b/c/c", "b/c/c/c", "b/c/q"):
            await self.file(store, name, name.encode() + b"\r\n")
        await store.rename_folder("mrose", "b/c", "b")
        self.assertEqual(await store.folders("mrose"), [INBOX, "b", "b/c", "b/c/c", "b/q"])
        for old, new in (("b/c", "b"), ("b/c/c", "b/c"), ("b/c/c/c", "b/c/c"), ("b/c/q", "b/q")):
            self.assertEqual(await self.texts_in(store, new), [old.encode() + b"\r\n"])

    async def test_renames_that_cannot_be(self) -> None:
        """Onto another's name, into itself, from or to INBOX, too long below, of what is none."""
        store = await self.make_store()
        names = ["a", "a/b", "a/" + "x" * 200, "c", "d/b"]
        for name in names:
            await store.make_folder("mrose", name)
        await self.file(store, "a/b", MIME)
        for old, new in (("a", "c"), ("a", "a"), ("a", "a/x"), ("a", "d"), ("a", "inbox"), ("INBOX", "x"),
                         ("inbox", "x"), ("c", "a/b"), ("a", "y" * 100)):
            await self.fault(FolderConflict, store.rename_folder("mrose", old, new))
        for maildrop, old in (("mrose", "x"), ("mrose", "d"), ("nobody", "a")):
            await self.fault(NoSuchFolder, store.rename_folder(maildrop, old, "z"))
        self.assertEqual(await store.folders("mrose"), [INBOX, *sorted(names)])
        self.assertEqual(await self.texts_in(store, "a/b"), [MIME])

    # Mail in folders ------------------------------------------------------------------------

    async def test_mail_for_a_folder(self) -> None:
        """The folder is made; POP3 does not see it, nor does a session that is open notice."""
        store = await self.make_store()
        other = await self.make_second(store)
        await self.put(store, "mrose", b"in\r\n")
        session = await self.login(store, "mrose")
        await self.file(store, "Archive/1998", MIME, LARGE, b"x\r\n")
        for where in (store, other):
            self.assertEqual(await where.folders("mrose"), [INBOX, "Archive/1998"])
            self.assertEqual(await self.texts_in(where, "Archive/1998"), [MIME, LARGE, b"x\r\n"])
        await session.commit([1])
        for where in (store, other):
            self.assertEqual(await self.held(where, "mrose"), [])
            self.assertEqual(await self.texts_in(where, "Archive/1998"), [MIME, LARGE, b"x\r\n"])

    async def test_one_delivery_into_several_folders(self) -> None:
        """Of one maildrop, and of others; all copies share a body, each has its own id and flags."""
        store = await self.make_store()
        places = [self.placement("mrose", folder=folder, flags=flags, preamble=b"a: %d\r\n" % number)
                  for number, (folder, flags) in enumerate([(INBOX, ""), ("a", "S"), ("b", "FT"), ("a", "")])]
        self.assertEqual(await self.deliver(store, LARGE, *places), [None] * 4)
        await self.check_texts(store, INBOX=[b"a: 0\r\n" + LARGE], b=[b"a: 2\r\n" + LARGE],
                               a=[b"a: 1\r\n" + LARGE, b"a: 3\r\n" + LARGE])
        listed = [one for folder in (INBOX, "a", "b") for one in await store.scan("mrose", folder)]
        self.assertEqual(Counter(one.flags for one in listed), {"": 2, "S": 1, "FT": 1})
        self.assertEqual(len({one.unique_id for one in listed}), 4)
        self.assertEqual(await store.check(), [])

    async def test_unique_ids_are_the_maildrops(self) -> None:
        """An id that an import brings is kept in any folder, once: of a second message it is another."""
        store = await self.make_store()
        for number, folder in enumerate(("a", INBOX, "b")):
            place = self.placement("mrose", folder=folder, unique_id=b"old", identity=b"%d" % number)
            await self.deliver(store, b"%d\r\n" % number, place)
        self.assertEqual(await self.ids(store, "a"), [b"old"])
        self.assertEqual(len({*await self.ids(store, INBOX), *await self.ids(store, "b"), b"old"}), 3)
        await self.deliver(store, MIME, self.placement("mrose", unique_id=b"old", identity=b"0"))
        self.assertEqual(await self.held(store, "mrose"), [b"1\r\n"])

    async def test_retention_is_the_inboxs(self) -> None:
        """What was filed away stays, however old."""
        store = await self.make_store()
        for folder in (INBOX, "Archive"):
            for days in (9, 1):
                place = self.placement("mrose", folder=folder, age_seconds=days * 86400)
                await self.deliver(store, b"%d\r\n" % days, place)
        self.assertEqual(await store.expire(7 * 86400), 1)
        await self.check_texts(store, INBOX=[b"1\r\n"], Archive=[b"9\r\n", b"1\r\n"])

    async def test_the_quota_counts_all_folders(self) -> None:
        """And a message that is moved counts once."""
        if not self.has_quota:
            return
        store = await self.make_store(quota_octets=3 * len(MIME))
        ids = await self.file(store, "a", MIME, MIME)
        await self.put(store, "mrose", MIME)
        for folder in (INBOX, "a", "b"):
            outcomes = await self.deliver(store, b"x\r\n", self.placement("mrose", folder=folder))
            self.assertIsInstance(outcomes[0], OverQuota)
        self.assertEqual(await store.folders("mrose"), [INBOX, "a"])
        await store.make_folder("mrose", "b")
        await store.move("mrose", "a", ids, "b")
        await self.fault(OverQuota, store.copy("mrose", "b", ids[:1], "a"))
        await store.expunge("mrose", "b", ids[:1])
        self.assertEqual(len(await store.copy("mrose", "b", ids, "a")), 1)
        self.assertEqual(await store.check(), [])

    async def test_a_maildrop_goes_with_its_folders(self) -> None:
        """A new one of the same name has none."""
        store = await self.make_store()
        await self.file(store, "a", MIME, LARGE)
        await store.make_folder("mrose", "b")
        await store.remove("mrose")
        self.assertEqual(await store.folders("mrose"), [INBOX])
        self.assertEqual(await self.texts_in(store, "a"), [])
        await self.put(store, "mrose", MIME)
        self.assertEqual(await store.folders("mrose"), [INBOX])
        self.assertEqual(await store.check(), [])

    # Flags ----------------------------------------------------------------------------------

    async def test_flags(self) -> None:
        """Set, taken away, kept in one order; what is both to be set and taken away is set."""
        store = await self.make_store()
        other = await self.make_second(store)
        for folder in (INBOX, "a"):
            ids = await self.file(store, folder, MIME, b"2\r\n", b"3\r\n", flags="R")
            for add, remove, expected in (("SF", "", "FRS"), ("", "RT", "FS"), ("", "", "FS"),
                                          ("TPD", "SPD", "DFPT"), ("S", "DFPRT", "S")):
                self.assertEqual(await store.flag("mrose", folder, [ids[2], ids[0]], add=add, remove=remove),
                                 [ids[0], ids[2]])
                for where in (store, other):
                    self.assertEqual([one.flags for one in await where.scan("mrose", folder)],
                                     [expected, "R", expected])
            self.assertEqual(await self.ids(store, folder), ids)

    async def test_flags_of_what_is_not_there(self) -> None:
        """Ids of other folders, of none, twice; and letters that are no flags, which change nothing."""
        store = await self.make_store()
        ids = await self.file(store, "a", MIME)
        other = await self.file(store, INBOX, b"x\r\n")
        self.assertEqual(await store.flag("mrose", "a", [b"none", *ids, *other, *ids], add="S"), ids)
        for maildrop, folder in (("mrose", "b"), ("nobody", "a"), ("nobody", INBOX)):
            self.assertEqual(await store.flag(maildrop, folder, ids, add="F"), [])
        for letters in ("s", "X", "SX", " ", ","):
            await self.fault(ValueError, store.flag("mrose", "a", ids, add=letters))
            await self.fault(ValueError, store.flag("mrose", "a", ids, remove=letters))
        self.assertEqual([one.flags for one in await store.scan("mrose", "a")], ["S"])
        self.assertEqual([one.flags for one in await store.scan("mrose")], [""])

    async def test_flags_do_not_concern_a_session(self) -> None:
        """They change while it is open; what is flagged as trash is still there, and goes by QUIT."""
        store = await self.make_store()
        ids = await self.file(store, INBOX, MIME, b"x\r\n", flags="T")
        session = await self.login(store, "mrose")
        self.assertEqual(await store.flag("mrose", INBOX, ids, add="ST"), ids)
        self.assertEqual(await self.texts(session), [MIME, b"x\r\n"])
        self.assertEqual([one.flags for one in await store.scan("mrose")], ["ST", "ST"])
        await session.commit([1])
        self.assertEqual(await self.held(store, "mrose"), [b"x\r\n"])

    # Moves ----------------------------------------------------------------------------------

    async def test_messages_move(self) -> None:
        """They keep id, flags, envelope and octets, and stand last where they come to, in their order."""
        store = await self.make_store()
        await store.make_folder("mrose", "b")
        ids = await self.file(store, "a", MIME, LARGE, b"3\r\n", flags="S")
        there = await self.file(store, "b", b"b\r\n")
        before = {one.unique_id: one._replace(number=0) for one in await store.scan("mrose", "a")}
        moved = await store.move("mrose", "a", [ids[2], b"none", *there, ids[0], ids[2]], "b")
        self.assertEqual(moved, [ids[0], ids[2]])
        await self.check_texts(store, a=[LARGE], b=[b"b\r\n", MIME, b"3\r\n"])
        after = {one.unique_id: one._replace(number=0) for one in await store.scan("mrose", "b")}
        self.assertEqual({key: after[key] for key in moved}, {key: before[key] for key in moved})
        await store.move("mrose", "b", [ids[0]], "a")
        await self.check_texts(store, a=[LARGE, MIME], b=[b"b\r\n", b"3\r\n"])

    async def test_a_move_to_where_they_are(self) -> None:
        """Changes nothing; and no message, no move."""
        store = await self.make_store()
        ids = await self.file(store, "a", MIME, b"2\r\n")
        self.assertEqual(await store.move("mrose", "a", ids[:1], "a"), ids[:1])
        self.assertEqual(await store.move("mrose", "a", [], INBOX), [])
        self.assertEqual(await store.move("mrose", "a", [b"none"], INBOX), [])
        self.assertEqual(await store.move("nobody", INBOX, ids, INBOX), [])
        await self.check_texts(store, INBOX=[], a=[MIME, b"2\r\n"])

    async def test_moves_from_and_to_what_is_none(self) -> None:
        """A folder is not made by a move, and nothing leaves the place where it is."""
        store = await self.make_store()
        ids = await self.file(store, "a", MIME)
        for maildrop, folder, target in (("mrose", "a", "b"), ("mrose", "b", "a"), ("nobody", "a", INBOX),
                                         ("nobody", INBOX, "a"), ("mrose", "A", INBOX)):
            await self.fault(NoSuchFolder, store.move(maildrop, folder, ids, target))
            await self.fault(NoSuchFolder, store.copy(maildrop, folder, ids, target))
        self.assertEqual(await store.folders("mrose"), [INBOX, "a"])
        await self.check_texts(store, a=[MIME])

    async def test_the_next_session_sees_what_was_moved_into_the_inbox(self) -> None:
        """Not the one that is open; in every process, whatever it listed before."""
        store = await self.make_store()
        other = await self.make_second(store)
        ids = await self.file(store, "a", b"old\r\n", MIME)
        await self.put(store, "mrose", b"1\r\n")
        for where in (store, other):
            self.assertEqual(await self.held(where, "mrose"), [b"1\r\n"])
        session = await self.login(other, "mrose")
        self.assertEqual(await store.move("mrose", "a", ids[:1], INBOX), ids[:1])
        self.assertEqual(await self.texts(session), [b"1\r\n"])
        await session.commit([1])
        for where in (store, other):
            session = await self.login(where, "mrose")
            self.assertEqual(await self.texts(session), [b"old\r\n"])
            self.assertEqual(unique_ids(session.listing), ids[:1])
            await session.release()
        await other.move("mrose", INBOX, ids, "a")
        for where in (store, other):
            self.assertEqual(await self.held(where, "mrose"), [])
        await self.check_texts(store, a=[MIME, b"old\r\n"])

    async def test_nothing_leaves_the_inbox_that_a_session_sees(self) -> None:
        """Neither moved nor removed; copied it can be. Once the session is over, or dead, it can go."""
        store = await self.make_store()
        other = await self.make_second(store)
        await store.make_folder("mrose", "a")
        ids = await self.file(store, INBOX, MIME, b"x\r\n")
        session = await self.login(store, "mrose")
        for where in (store, other):
            await self.fault(MaildropInUse, where.move("mrose", INBOX, ids[:1], "a"))
            await self.fault(MaildropInUse, where.expunge("mrose", INBOX, ids[:1]))
            self.assertEqual(await where.move("mrose", INBOX, [b"none"], "a"), [])
        self.assertEqual(len(await store.copy("mrose", INBOX, ids[:1], "a")), 1)
        self.assertEqual(await self.texts(session), [MIME, b"x\r\n"])
        await session.release()
        self.assertEqual(await store.move("mrose", INBOX, ids[:1], "a"), ids[:1])
        session = await self.login(store, "mrose")
        await self.expire_holder(store)
        self.assertEqual(await other.expunge("mrose", INBOX, ids), ids[1:])
        await self.fault(LeaseLost, session.commit([1]))
        await self.check_texts(store, INBOX=[], a=[MIME, MIME])

    async def test_views_hold_only_what_they_show(self) -> None:
        """A session of one user of an SDPS host keeps the others' mail from nothing."""
        if not self.shows_views:
            return
        store = await self.make_store()
        await store.make_folder("xyz", "a")
        ids = []
        for user in ("fred", "jim", None):
            ids = await self.file(store, INBOX, f"{user}\r\n".encode(), user=user, maildrop="xyz")
        session = await self.login(store, "xyz", "fred")
        for some in (ids, ids[:1]):
            await self.fault(MaildropInUse, store.move("xyz", INBOX, some, "a"))
            await self.fault(MaildropInUse, store.expunge("xyz", INBOX, some))
        self.assertEqual(await store.move("xyz", INBOX, ids[1:], "a"), ids[1:])
        self.assertEqual([one.user for one in await store.scan("xyz", "a")], ["jim", None])
        self.assertEqual(await store.move("xyz", "a", ids, INBOX), ids[1:])
        await session.commit([1])
        self.assertEqual(await self.held(store, "xyz", "jim"), [b"jim\r\n"])
        self.assertEqual(await self.held(store, "xyz"), [b"jim\r\n", b"None\r\n"])

    # Copies, removals -----------------------------------------------------------------------

    async def test_messages_are_copied(self) -> None:
        """The copy has an id of its own, all else is the same; it outlives the original."""
        store = await self.make_store()
        await store.make_folder("mrose", "b")
        ids = await self.file(store, "a", MIME, LARGE, b"3\r\n", flags="FS")
        copies = await store.copy("mrose", "a", [ids[1], ids[0], b"none"], "b")
        within = await store.copy("mrose", "a", ids[:1], "a")
        inbox = await store.copy("mrose", "a", ids[1:2], INBOX)
        self.assertEqual(len({*copies, *within, *inbox, *ids}), 7)
        listed = await store.scan("mrose", "b")
        if self.keeps_order:
            self.assertEqual([one.unique_id for one in listed], copies)
        first = (await store.scan("mrose", "a"))[0]
        self.assertIn(first._replace(number=0, unique_id=copies[0]),
                      [one._replace(number=0) for one in listed])
        await self.check_texts(store, INBOX=[LARGE], a=[MIME, LARGE, b"3\r\n", MIME], b=[MIME, LARGE])
        self.assertEqual(await store.expunge("mrose", "a", [*ids, *within]), [*ids, *within])
        self.assertEqual(await self.held(store, "mrose"), [LARGE])
        await self.check_texts(store, a=[], b=[MIME, LARGE])
        self.assertEqual(await store.check(), [])

    async def test_messages_are_removed(self) -> None:
        """From one folder, by id; what is not in it is passed over, and its id is not used again."""
        store = await self.make_store()
        ids = await self.file(store, "a", MIME, LARGE, b"3\r\n")
        await self.put(store, "mrose", b"in\r\n")
        inbox = await self.ids(store)
        some = [ids[2], ids[0], *inbox, b"none"]
        self.assertEqual(await store.expunge("mrose", "a", some), [ids[0], ids[2]])
        self.assertEqual(await store.expunge("mrose", "a", [ids[2]]), [])
        self.assertEqual(await store.expunge("nobody", INBOX, ids), [])
        for maildrop, folder in (("mrose", "b"), ("nobody", "a")):
            await self.fault(NoSuchFolder, store.expunge(maildrop, folder, ids))
        await self.check_texts(store, INBOX=[b"in\r\n"], a=[LARGE])
        self.assertEqual(await store.expunge("mrose", INBOX, inbox), inbox)
        self.assertEqual(await self.held(store, "mrose"), [])
        self.assertEqual(await store.check(), [])

    async def test_many_at_once(self) -> None:
        """More than any statement or command line takes as values."""
        store = await self.make_store()
        places = [self.placement("mrose", preamble=b"n: %d\r\n" % number) for number in range(1100)]
        self.assertEqual(await self.deliver(store, MIME, *places), [None] * 1100)
        ids = await self.ids(store)
        await store.make_folder("mrose", "a")
        self.assertEqual(await store.move("mrose", INBOX, ids, "a"), ids)
        self.assertEqual(await store.flag("mrose", "a", ids[1:], add="S"), ids[1:])
        listed = await store.scan("mrose", "a")
        self.assertEqual(Counter(one.flags for one in listed), {"S": 1099, "": 1})
        if self.keeps_order:
            self.assertEqual([one.unique_id for one in listed], ids)
        self.assertEqual(await store.expunge("mrose", "a", ids[:1050]), ids[:1050])
        self.assertEqual(await self.ids(store, "a"), ids[1050:])
        self.assertEqual(await store.check(), [])

    # All of it ------------------------------------------------------------------------------

    async def test_a_walk(self) -> None:
        """Seeded steps through two processes: whatever is done, all see what a simple model says."""
        store = await self.make_store()
        walk = _Walk(self, [store, await self.make_second(store)], Random(11))
        for _ in range(80):
            await walk.step()
        await walk.check()
        self.assertEqual(await store.check(), [])


class _Walk:
    """Random changes, and what they must have come to: folders with (id, flags) in order."""

    names = ("a", "a/b", "b", "c/d")

    def __init__(self, case: FolderContract, stores: list, random: Random) -> None:
        self.case = case
        self.stores = stores
        self.random = random
        self.folders: dict[str, list[tuple[bytes, str]]] = {INBOX: []}
        self.texts: dict[bytes, bytes] = {}
        self.serial = 0

    async def step(self) -> None:
        steps = (self.deliver, self.deliver, self.deliver, self.make, self.remove, self.rename, self.flag,
                 self.move, self.move, self.copy, self.expunge)
        await self.random.choice(steps)(self.random.choice(self.stores))
        if self.random.random() < 0.2:
            await self.check()

    def any_folder(self) -> str:
        return self.random.choice(sorted(self.folders))

    def some_of(self, folder: str) -> list[tuple[bytes, str]]:
        return [one for one in self.folders[folder] if self.random.random() < 0.5]

    async def deliver(self, store) -> None:
        folder = self.random.choice([INBOX, *self.names])
        self.serial += 1
        text, flags = b"%d\r\n" % self.serial, self.random.choice(["", "S", "FT"])
        place = self.case.placement("mrose", folder=folder, flags=flags)
        self.case.assertEqual(await self.case.deliver(store, text, place), [None])
        known = {unique_id for rows in self.folders.values() for unique_id, _ in rows}
        [new] = [one for one in await store.scan("mrose", folder) if one.unique_id not in known]
        self.folders.setdefault(folder, []).append((new.unique_id, flags))
        self.texts[new.unique_id] = text

    async def make(self, store) -> None:
        name = self.random.choice(self.names)
        if name in self.folders:
            await self.case.fault(FolderConflict, store.make_folder("mrose", name))
        else:
            await store.make_folder("mrose", name)
            self.folders[name] = []

    async def remove(self, store) -> None:
        name = self.any_folder()
        if name == INBOX or self.folders[name]:
            await self.case.fault(FolderConflict, store.remove_folder("mrose", name))
        else:
            await store.remove_folder("mrose", name)
            del self.folders[name]

    async def rename(self, store) -> None:
        old, new = self.any_folder(), self.random.choice(self.names)
        changes = {one: new + one[len(old):] for one in self.folders if f"{one}/".startswith(f"{old}/")}
        left = set(self.folders).difference(changes)
        if old in (INBOX, new) or new.startswith(f"{old}/") or not left.isdisjoint(changes.values()):
            await self.case.fault(FolderConflict, store.rename_folder("mrose", old, new))
            return
        await store.rename_folder("mrose", old, new)
        self.folders = {changes.get(one, one): rows for one, rows in self.folders.items()}

    async def flag(self, store) -> None:
        folder = self.any_folder()
        some = self.some_of(folder)
        done = await store.flag("mrose", folder, [one for one, _ in some], add="R", remove="S")
        self.case.assertEqual(done, [one for one, _ in some])
        self.folders[folder] = [(one, "".join(sorted({*flags, "R"} - {"S"}))) if (one, flags) in some
                                else (one, flags) for one, flags in self.folders[folder]]

    async def move(self, store) -> None:
        folder, target = self.any_folder(), self.any_folder()
        some = self.some_of(folder)
        done = await store.move("mrose", folder, [one for one, _ in reversed(some)], target)
        self.case.assertEqual(done, [one for one, _ in some])
        if folder != target:
            self.folders[folder] = [one for one in self.folders[folder] if one not in some]
            self.folders[target] += some

    async def copy(self, store) -> None:
        folder, target = self.any_folder(), self.any_folder()
        some = self.some_of(folder)[:3]
        copies = await store.copy("mrose", folder, [one for one, _ in some], target)
        for new, (old, flags) in zip(copies, some, strict=True):
            self.texts[new] = self.texts[old]
            self.folders[target].append((new, flags))

    async def expunge(self, store) -> None:
        folder = self.any_folder()
        some = self.some_of(folder)[:3]
        done = await store.expunge("mrose", folder, [one for one, _ in some])
        self.case.assertEqual(done, [one for one, _ in some])
        self.folders[folder] = [one for one in self.folders[folder] if one not in some]

    async def check(self) -> None:
        store = self.random.choice(self.stores)
        self.case.assertEqual(set(await store.folders("mrose")), set(self.folders))
        for folder, rows in self.folders.items():
            listed = [(one.unique_id, one.flags) for one in await store.scan("mrose", folder)]
            expected = rows if self.case.keeps_order else sorted(rows)
            self.case.assertEqual(listed if self.case.keeps_order else sorted(listed), expected)
        inbox = await self.case.login(store, "mrose")
        texts = await self.case.texts(inbox)
        ids = unique_ids(inbox.listing)
        self.case.assertEqual(texts, [self.texts[unique_id] for unique_id in ids])
        self.case.assertEqual(sorted(ids), sorted(one for one, _ in self.folders[INBOX]))
        await inbox.release()
