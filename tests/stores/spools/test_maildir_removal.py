"""QUIT over a Maildir: decided once and carried out for certain, beside programs that do what they like."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mailgate.errors import LeaseLost, StoreUnavailable
from mailgate.model import Admission
from mailgate.stores.spools import maildir
from mailgate.stores.spools.maildir import MaildirSpool
from mailgate.stores.spools.removal import Removal
from tests.stores.contract_base import MIME, StoreHooks
from tests.stores.spools.maildir_hooks import MaildirHooks


class RemovalTests(MaildirHooks, StoreHooks, TestCase):
    """What QUIT removes."""

    async def filled(self, count: int = 4) -> object:
        """Return a store with so many messages in `cur`: 0.a and so on, each saying its number."""
        store = await self.make_store()
        for number in range(count):
            self.drop(store, "mrose", b"%d\n" % number, f"{number}.a:2,", "cur")
        return store

    async def test_messages_are_found_again(self) -> None:
        """Though another program has marked them, moved them or removed them meanwhile."""
        store = await self.filled()
        cur = self.maildir(store, "mrose") / "cur"
        session = await self.login(store, "mrose")
        (cur / "0.a:2,").rename(cur / "0.a:2,FS")
        (cur / "1.a:2,").rename(cur.parent / "new" / "1.a")
        (cur / "2.a:2,").unlink()
        self.assertEqual(await self.text(session, 1), b"0\r\n")
        await session.commit([1, 2, 3])
        self.assertEqual(self.files(store, "mrose"), ["cur/3.a:2,"])
        self.assertEqual(await store.check(), [])

    async def test_another_message_under_the_name_of_one_that_was_listed(self) -> None:
        """Stays: it is not the one that the client has seen."""
        store = await self.filled(2)
        cur = self.maildir(store, "mrose") / "cur"
        session = await self.login(store, "mrose")
        (cur / "0.a:2,").unlink()
        (cur / "0.a:2,S").write_bytes(b"another message\n")
        await session.commit([1, 2])
        self.assertEqual(await self.held(store, "mrose"), [b"another message\r\n"])

    async def test_a_maildir_that_came_back_from_a_backup(self) -> None:
        """Its files are others of the same names and sizes, and are removed."""
        store = await self.filled(2)
        cur = self.maildir(store, "mrose") / "cur"
        session = await self.login(store, "mrose")
        for path in list(cur.iterdir()):
            copy = path.read_bytes()
            path.rename(cur.parent / "tmp" / path.name)     # so that no inode is used again
            path.write_bytes(copy)
        await session.commit([1, 2])
        self.assertEqual(self.files(store, "mrose"), [])

    async def test_a_quota_is_told(self) -> None:
        """A line of what has gone or come, in octets of the files, if Maildir++ keeps count here."""
        store = await self.filled(3)
        size = self.maildir(store, "mrose") / "maildirsize"
        size.write_bytes(b"1000000S\n6 3\n")
        await (await self.login(store, "mrose")).commit([1, 3])
        await self.put(store, "mrose", MIME)
        octets = len(MIME.replace(b"\r", b""))
        self.assertEqual(size.read_bytes(), b"1000000S\n6 3\n-4 -2\n%d 1\n" % octets)
        size.unlink()
        await (await self.login(store, "mrose")).commit([1])
        self.assertFalse(size.exists())
        target = Path(store.folder, "elsewhere")
        target.write_bytes(b"")
        size.symlink_to(target)
        await (await self.login(store, "mrose")).commit([1])
        self.assertEqual(target.read_bytes(), b"")

    async def test_a_session_without_its_lease_removes_nothing(self) -> None:
        """Nor does it leave anything for others to carry out."""
        store = await self.filled(2)
        session = await self.login(store, "mrose")
        await self.expire_holder(store)
        await self.fault(LeaseLost, session.commit([1, 2]))
        self.assertEqual((self.count(store, "spool_journal"), len(self.files(store, "mrose"))), (0, 2))

    async def test_users_of_one_host_quit_at_once(self) -> None:
        """Each removes his own, though there is room for one decision at a time."""
        store = await self.make_store()
        other = await self.make_second(store)
        for number in range(12):
            self.drop(store, "xyz", b"Delivered-To: u%d@xyz\n\n" % (number % 4), f"1{number:09}.a")
        sessions = [await self.login((store, other)[user % 2], "xyz", f"u{user}") for user in range(4)]
        await gatherResults([session.commit([1, 3]) for session in sessions])
        self.assertEqual(await self.held(store, "xyz"),
                         [b"Delivered-To: u%d@xyz\r\n\r\n" % number for number in range(4)])
        self.assertEqual(self.count(store, "spool_journal"), 0)

    # What comes between decision and removal ----------------------------------------------------

    async def interrupted(self, store: object, marked: list[int]) -> None:
        """Let a QUIT come to its decision, and fail where it should be carried out."""
        def fail(*args: object) -> None:
            raise StoreUnavailable("the disk went away")

        patch = self.patch(MaildirSpool, "carry_out", fail)
        session = await self.login(store, "mrose")
        await session.commit(marked)
        patch.restore()
        self.assertEqual(self.count(store, "spool_journal"), 1)

    async def test_what_was_decided_is_done_by_the_next_session(self) -> None:
        """QUIT was answered +OK: the next login, in whichever process, shows nothing of it."""
        for octets in (maildir.JOURNAL_OCTETS, 10):     # in its row, and beside it
            self.patch(maildir, "JOURNAL_OCTETS", octets)
            store = await self.filled()
            other = await self.make_second(store)
            await self.interrupted(store, [1, 3])
            self.assertEqual(len(self.files(store, "mrose")), 4)
            await other.sweep(0)
            cur = self.maildir(store, "mrose") / "cur"
            (cur / "0.a:2,").rename(cur / "0.a:2,S")
            (cur / "2.a:2,").unlink()
            self.assertEqual(await self.held(other, "mrose"), [b"1\r\n", b"3\r\n"])
            self.assertEqual((self.count(store, "spool_journal"), self.body_files(store)), (0, []))
            self.assertEqual(await store.check(), [])

    async def test_it_is_carried_out_again_without_harm(self) -> None:
        """By a process that died behind the last removal: the journal is there, the files are not."""
        store = await self.filled()
        await self.interrupted(store, [1, 2, 3])
        rows = self.sql(store, "SELECT maildrop_id, data FROM spool_journal")
        self.assertEqual(await self.held(store, "mrose"), [b"3\r\n"])
        self.drop(store, "mrose", b"new\n", "0.b")
        self.sql(store, "INSERT INTO spool_journal (maildrop_id, data) VALUES (?, ?)", *rows[0])
        self.assertEqual(await self.held(store, "mrose"), [b"3\r\n", b"new\r\n"])
        self.assertEqual(self.count(store, "spool_journal"), 0)

    async def test_a_session_that_wakes_up_late(self) -> None:
        """The next one has carried out its decision and taken another: that one is not forgotten."""
        store = await self.filled()
        other = await self.make_second(store)
        waiting: list[Deferred[None]] = []
        carry_out = type(store._removal)._carry_out

        async def asleep(removal: object, *args: object) -> None:
            if removal is store._removal:
                waiting.append(Deferred())
                await waiting[-1]
            await carry_out(removal, *args)

        self.patch(type(store._removal), "_carry_out", asleep)
        late = (await self.login(store, "mrose")).commit([1])
        while not waiting:
            await deferLater(reactor, 0.005, lambda: None)
        await self.expire_holder(store)
        next_one = await self.login(other, "mrose")
        self.assertEqual(await self.texts(next_one), [b"1\r\n", b"2\r\n", b"3\r\n"])
        self.drop(store, "mrose", b"new\n", "0.a", "new")       # a name that nobody should use again
        waiting[0].callback(None)
        await late
        await next_one.commit([2])
        self.assertEqual(await self.held(other, "mrose"), [b"1\r\n", b"3\r\n", b"new\r\n"])

    def before_carrying_out(self, *stores: Any) -> tuple[dict[object, Deferred[None]], list[object]]:
        """Stop removals before they carry out a decision; return what lets each go on, and who has come."""
        asleep: dict[object, Deferred[None]] = {store._removal: Deferred() for store in stores}
        reached: list[object] = []
        carry_out = Removal._carry_out

        async def in_turn(removal: Removal, *args: Any) -> None:
            reached.append(removal)
            await asleep[removal]
            await carry_out(removal, *args)

        self.patch(Removal, "_carry_out", in_turn)
        return asleep, reached

    async def test_another_session_finishes_it_first(self) -> None:
        """What lies beside a decision goes with it: who was about to carry it out, too, has nothing to do."""
        self.patch(maildir, "JOURNAL_OCTETS", 10)
        store = await self.make_store()
        other = await self.make_second(store)
        for number in range(4):
            self.drop(store, "xyz", b"Delivered-To: u%d@xyz\n\n" % (number % 2), f"1{number:09}.a")
        first, second = [await self.login(one, "xyz", f"u{user}") for user, one in enumerate((store, other))]
        asleep, reached = self.before_carrying_out(store, other)
        ends = []
        for session, removal in ((first, store._removal), (second, other._removal)):
            ends.append(session.commit([1]))
            while removal not in reached:
                await deferLater(reactor, 0.005, lambda: None)
        for end, removal in zip(ends, asleep, strict=True):     # the second is about to do the first's
            asleep[removal].callback(None)
            await end
        self.assertEqual(len(await self.held(store, "xyz")), 2)
        self.assertEqual((self.count(store, "spool_journal"), self.body_files(store)), (0, []))

    async def test_a_login_behind_a_removal_that_ends_just_now(self) -> None:
        """What it was about to carry out for another one is done, and what lay beside has gone."""
        self.patch(maildir, "JOURNAL_OCTETS", 10)
        store = await self.make_store()
        other = await self.make_second(store)
        for number in range(2):
            self.drop(store, "xyz", b"Delivered-To: u%d@xyz\n\n" % number, f"1{number:09}.a")
        asleep, reached = self.before_carrying_out(store, other)
        ending = (await self.login(store, "xyz", "u0")).commit([1])
        while store._removal not in reached:
            await deferLater(reactor, 0.005, lambda: None)
        opening = Deferred.fromCoroutine(self.login(other, "xyz", "u1"))
        while other._removal not in reached:
            await deferLater(reactor, 0.005, lambda: None)
        for removal in (store._removal, other._removal):
            asleep[removal].callback(None)
            if removal is store._removal:
                await ending
        session = await opening
        self.assertEqual(len(session.listing), 1)
        await session.commit([1])
        self.assertEqual((await self.held(store, "xyz"), self.count(store, "spool_journal")), ([], 0))

    async def test_a_maildir_that_is_not_there(self) -> None:
        """While its disk is not mounted there is no login; ids and what was decided wait for its return."""
        store = await self.filled()
        await self.interrupted(store, [1])
        home = Path(store.folder, "home")
        home.rename(f"{home}.away")
        await self.fault(StoreUnavailable, store.open(Admission("mrose")))
        outcomes = await self.deliver(store, MIME, self.placement("mrose"))
        self.assertIsInstance(outcomes[0], StoreUnavailable)
        os.rename(f"{home}.away", home)
        self.assertEqual(await self.held(store, "mrose"), [b"1\r\n", b"2\r\n", b"3\r\n"])

    async def test_a_maildir_that_is_not_there_yet(self) -> None:
        """Is an empty maildrop, and is made by the first delivery, not by a login."""
        store = await self.make_store()
        self.assertEqual(await self.held(store, "mrose"), [])
        self.assertFalse(Path(store.folder, "home", "mrose").exists())
        await self.put(store, "mrose", MIME)
        for folder in ("", "cur", "new", "tmp"):
            self.assertEqual(Path(store.folder, "home", "mrose", folder).stat().st_mode & 0o777, 0o700)



class DeliveryTests(MaildirHooks, StoreHooks, TestCase):
    """How messages are written for other programs to read."""

    async def test_a_message_as_other_programs_expect_it(self) -> None:
        """In `new`, LF, sizes in its name, for its owner alone, dated when it came; nothing left in `tmp`."""
        store = await self.make_store()
        maildir_ = self.maildir(store, "mrose")
        place = self.placement("mrose", preamble=b"Return-Path: <a@b>\r\n", age_seconds=1000)
        self.assertEqual(await self.deliver(store, MIME, place), [None])
        [path] = (maildir_ / "new").iterdir()
        text = place.preamble + MIME
        self.assertEqual(path.read_bytes(), text.replace(b"\r\n", b"\n"))
        self.assertRegex(path.name, r"^\d+\.M\d+P\d+R[0-9a-f]+\.[^,:/]+,"
                                    rf"S={path.stat().st_size},W={len(text)}$")
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(path.stat().st_mtime_ns // 1_000_000, place.envelope.arrived_ms)
        self.assertEqual(path.stat().st_uid, maildir_.stat().st_uid)
        self.assertEqual(list((maildir_ / "tmp").iterdir()), [])

    async def test_it_belongs_to_the_owner_of_the_maildir(self) -> None:
        """Where the superuser delivers: the file, and a Maildir or folder that is made."""
        if os.geteuid() != 0:
            return      # nobody else can give files away
        store = await self.make_store()
        os.chown(f"{store.folder}/home", 12345, 12345)
        for folder in ("INBOX", "a"):
            await self.deliver(store, MIME, self.placement("mrose", folder=folder))
        paths = list(Path(store.folder, "home").rglob("*"))
        self.assertEqual(len(paths), 11)
        self.assertEqual({(path.stat().st_uid, path.stat().st_gid) for path in paths}, {(12345, 12345)})

    async def test_nothing_is_left_of_what_cannot_be_written(self) -> None:
        """With `all_or_nothing` also those who could have had it have not."""
        store = await self.make_store()
        Path(store.folder, "home", "jim").write_bytes(b"a file\n")
        places = [self.placement("mrose"), self.placement("jim")]
        outcomes = await self.deliver(store, MIME, *places)
        self.assertEqual([type(one) for one in outcomes], [type(None), StoreUnavailable])
        outcomes = await self.deliver(store, MIME, *places, all_or_nothing=True)
        self.assertEqual([type(one) for one in outcomes], [StoreUnavailable] * 2)
        self.assertEqual(len(self.files(store, "mrose")), 1)
        self.assertEqual(await self.held(store, "mrose"), [MIME])

    async def test_links_of_a_user_lead_nowhere(self) -> None:
        """Not the Maildir, not its folders: neither read nor written. The operator's links are followed."""
        store = await self.make_store()
        self.drop(store, "victim", b"private\n")
        home = Path(store.folder, "home")
        other = home / "mallory"
        other.mkdir()
        for folder in ("cur", "tmp"):
            (other / folder).mkdir()
        (other / "new").symlink_to(home / "victim" / "new")
        (home / "linked").symlink_to("victim")
        await self.fault(StoreUnavailable, store.open(Admission("mallory")))
        outcomes = await self.deliver(store, MIME, self.placement("mallory"))
        self.assertIsInstance(outcomes[0], StoreUnavailable)
        self.assertEqual(len(self.files(store, "victim")), 1)
        self.assertEqual(await self.held(store, "linked"), [b"private\r\n"])
        if os.geteuid() == 0:
            os.chown(home / "linked", 12345, 12345, follow_symlinks=False)
            await self.fault(StoreUnavailable, store.open(Admission("linked")))


class GivenUpTests(MaildirHooks, StoreHooks, TestCase):
    """Clients that go away while something is under way."""

    async def test_a_login_that_is_given_up(self) -> None:
        """Its reading goes on, and is the next one's gain; its lease is given up then."""
        store = await self.make_store()
        for number in range(200):
            self.drop(store, "mrose", MIME, f"{number}.a")
        opening = store.open(Admission("mrose"))
        opening.addErrback(lambda failure: failure.trap(CancelledError))
        opening.cancel()
        while self.count(store, "lease") or not self.count(store, "spool_entry"):
            await deferLater(reactor, 0.005, lambda: None)
        look_at = self.patch(MaildirSpool, "_look_at", None)
        session = await self.login(store, "mrose")
        self.assertEqual(len(session.listing), 200)
        look_at.restore()

    async def test_a_quit_that_nobody_waits_for(self) -> None:
        """Is carried out as one that is waited for; so it is by a store that stops meanwhile."""
        store = await self.make_store()
        other = await self.make_second(store)
        for number in range(3):
            self.drop(store, "mrose", MIME, f"{number}.a")
        session = await self.login(store, "mrose")
        ending = session.commit([1, 2])
        ending.addErrback(lambda failure: failure.trap(CancelledError))
        ending.cancel()
        await store.stop()
        self.assertEqual(await self.held(other, "mrose"), [MIME])
        self.assertEqual(self.count(store, "spool_journal"), 0)
