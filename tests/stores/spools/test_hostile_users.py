"""Maildirs whose owners mean harm: to other people's files, and to who has to look at theirs."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from threading import Event

from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailgate.errors import StoreUnavailable
from mailgate.model import Admission
from mailgate.stores.spools import maildir_files, places
from mailgate.stores.spools.maildir import MaildirSpool
from mailgate.stores.spools.maildir_index import Addresses
from mailgate.stores.spools.places import Directory
from tests.stores.contract_base import MIME, StoreHooks
from tests.stores.spools.maildir_hooks import MaildirHooks

SOMEBODY = 12345
IS_ROOT = os.geteuid() == 0


class RightsTests(MaildirHooks, StoreHooks, TestCase):
    """A service that the superuser runs does for no user what that user may not do."""

    if not IS_ROOT:
        skip = "what a service of the superuser's does for others is seen by him alone"

    async def test_a_link_of_the_operator_s_that_leads_over_one_of_the_user_s(self) -> None:
        """Is followed as far as the operator has said: from his folders on, absolute or not."""
        store = await self.make_store()
        self.drop(store, "victim", b"private\n")
        home, disk = Path(store.folder, "home"), Path(store.folder, "disk")
        (disk / "mallory").mkdir(parents=True)
        (disk / "mallory" / "Maildir").symlink_to(home / "victim")
        for path in (disk / "mallory", disk / "mallory" / "Maildir"):
            os.chown(path, SOMEBODY, SOMEBODY, follow_symlinks=False)
        for folder in ("new", "cur", "tmp"):
            (disk / "mrose" / "deeper" / folder).mkdir(parents=True)
        (disk / "mrose" / "deeper" / "new" / "1.a").write_bytes(b"hers\n")
        (disk / "mrose" / "Maildir").symlink_to("deeper")
        (home / "mallory").symlink_to(disk / "mallory" / "Maildir")
        (home / "mrose").symlink_to("../disk/./mrose/Maildir")
        (home / "round").symlink_to("round")
        self.assertEqual(await self.held(store, "mrose"), [b"hers\r\n"])
        for name in ("mallory", "round"):
            await self.fault(StoreUnavailable, store.open(Admission(name)))
            self.assertIsInstance((await self.deliver(store, MIME, self.placement(name)))[0],
                                  StoreUnavailable)
        self.assertEqual(len(self.files(store, "victim")), 1)

    async def test_a_folder_that_is_replaced_while_it_is_made(self) -> None:
        """By another name of somebody else's file: that is not given to the user."""
        store = await self.make_store()
        self.maildir(store, "mallory")
        secret = Path(store.folder, "secret")
        secret.write_bytes(b"root's\n")
        root = Path(store.folder, "home", "mallory")
        (root / "cur").rmdir()
        os.chown(root, SOMEBODY, SOMEBODY)
        mkdir = os.mkdir

        def replaced(name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
            mkdir(name, mode, dir_fd=dir_fd)
            os.rmdir(name, dir_fd=dir_fd)
            os.link(secret, name, dst_dir_fd=dir_fd)

        self.patch(places.os, "mkdir", replaced)
        await self.fault(StoreUnavailable, store.open(Admission("mallory")))
        self.assertEqual(secret.stat().st_uid, 0)

    async def test_a_second_name_of_somebody_else_s_file(self) -> None:
        """Is no message of this user's; one of a file that is his own is."""
        store = await self.make_store()
        other = self.drop(store, "victim", b"private\n")
        cur = self.maildir(store, "mallory") / "cur"
        own = self.drop(store, "mallory", b"own\n", "1.own:2,", "cur")
        own.with_name("copy").hardlink_to(own)
        os.chown(cur, SOMEBODY, SOMEBODY)
        os.chown(own, SOMEBODY, SOMEBODY)
        (cur / "2.other:2,").hardlink_to(other)
        self.assertEqual(await self.held(store, "mallory"), [b"own\r\n"] * 2)

    async def test_a_quota_that_is_a_second_name_of_another_file(self) -> None:
        store = await self.make_store()
        secret = Path(store.folder, "secret")
        secret.write_bytes(b"root's\n")
        (self.maildir(store, "mallory") / "maildirsize").hardlink_to(secret)
        await self.put(store, "mallory", MIME)
        self.assertEqual(secret.read_bytes(), b"root's\n")


class MailTests(MaildirHooks, StoreHooks, TestCase):
    """No mail is lost, and none comes twice."""

    async def test_a_quota_that_cannot_be_kept(self) -> None:
        """The message is there: to say otherwise would have it sent again and again."""
        store = await self.make_store()
        (self.maildir(store, "mrose") / "maildirsize").write_bytes(b"1000S\n")
        write = os.write

        def full(file: int, data: bytes) -> int:
            if bytes(data).endswith(b" 1\n"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(file, data)

        self.patch(maildir_files.os, "write", full)
        self.assertEqual(await self.deliver(store, MIME, self.placement("mrose")), [None])
        self.assertEqual(await self.held(store, "mrose"), [MIME])

    async def test_a_name_that_tells_no_time(self) -> None:
        """A small number in front is none: what came today is not removed as forty years old."""
        store = await self.make_store()
        for name in ("12.eml", "4.a:2,S", "20240101.msg"):
            self.drop(store, "mrose", MIME, name)
        await (await self.login(store, "mrose")).release()
        self.assertEqual(await store.expire(86400), 0)
        self.assertEqual(len(await self.held(store, "mrose")), 3)

    async def test_two_that_settle_the_names_of_one_file_at_once(self) -> None:
        """One name is left, in whatever order each has seen the folder."""
        store = await self.make_store()
        first = self.drop(store, "mrose", MIME, "1.a:2,", "cur")
        first.with_name("1.a:2,S").hardlink_to(first)
        listdir = os.listdir
        turns = iter([False, True])

        def in_turn(folder: int | str) -> list[str]:
            return sorted(listdir(folder), reverse=next(turns))

        boxes = [maildir_files.Box.at(Directory.at(os.open(first.parent.parent, os.O_RDONLY), first.parent))
                 for _ in range(2)]
        self.patch(maildir_files.os, "listdir", in_turn)
        unlink, waiting = os.unlink, []

        def later(name: bytes, *, dir_fd: int) -> None:
            if not waiting:     # the other one comes in between
                waiting.append(name)
                boxes[1]._in_cur()
            unlink(name, dir_fd=dir_fd)

        self.patch(maildir_files.os, "unlink", later)
        self.assertEqual(len(boxes[0]._in_cur()), 1)
        self.assertEqual(len(listdir(first.parent)), 1)


class HeaderTests(SynchronousTestCase):
    """What a sender writes is no envelope."""

    def test_a_message_without_a_header(self) -> None:
        """Begins with its text."""
        for end in (b"\n", b"\r\n"):
            text = end + b"X-Original-To: <other@example.org>" + end
            self.assertEqual(Addresses(["X-Original-To"]).read(text + end), (b"", b""))
            self.assertEqual(Addresses(["X-Original-To"]).read(text[len(end):] + end),
                             (b"", b"other@example.org"))


class WorkTests(MaildirHooks, StoreHooks, TestCase):
    """One user's Maildir keeps no other one waiting."""

    async def test_a_file_that_has_no_end(self) -> None:
        """Is no message, and is not read, nor is a list; one that grows so is not read either."""
        store = await self.make_store()
        path = self.drop(store, "mrose", MIME, "1.a:2,", "cur")
        endless = self.drop(store, "mrose", MIME, "2.a,W=10000000000000:2,", "cur")
        os.truncate(endless, 1 << 42)
        session = await self.login(store, "mrose")
        self.assertEqual(await self.texts(session), [MIME])
        os.truncate(path, 1 << 42)
        await self.fault(StoreUnavailable, ensureDeferred(self.text(session, 1)))
        await session.release()
        endless.unlink()
        uidlist = path.parent.parent / "dovecot-uidlist"
        uidlist.write_bytes(b"3 V1 N1\n")
        os.truncate(uidlist, 1 << 42)
        self.drop(store, "mrose", MIME)
        await self.fault(StoreUnavailable, store.open(Admission("mrose")))

    async def test_a_folder_without_a_bottom(self) -> None:
        """Is removed with all that is in it."""
        store = await self.make_store()
        await store.make_folder("mrose", "a")
        root = self.maildir(store, "mrose")
        deep = os.open(root / ".a", os.O_RDONLY)
        for _ in range(1500):
            os.mkdir("deeper", dir_fd=deep)
            deeper = os.open("deeper", os.O_RDONLY, dir_fd=deep)
            os.close(deep)
            deep = deeper
        os.close(deep)
        await store.remove("mrose")
        self.assertEqual(sorted(path.name for path in root.iterdir()), ["cur", "new", "tmp"])

    async def test_those_who_look_at_one_maildrop_wait_for_each_other(self) -> None:
        """They take one thread, not all of them."""
        store = await self.make_store()
        self.drop(store, "slow", MIME)
        self.drop(store, "mrose", MIME)
        for name in ("slow", "mrose"):
            await (await self.login(store, name)).release()
        waiting = self.hang("slow")
        looks = [store.scan("slow") for _ in range(12)]
        self.assertEqual(await self.held(store, "mrose"), [MIME])
        waiting.set()
        self.assertEqual([len(one) for one in await gatherResults(looks)], [1] * 12)

    async def test_a_quota_is_asked_for_each_maildrop_alone(self) -> None:
        """Mail for others is not kept waiting by a maildrop that is slow; to one it counts all the same."""
        store = await self.make_store(quota_octets=3 * len(MIME))
        waiting = self.hang("slow")
        slow = [self.deliver(store, MIME, self.placement("slow")) for _ in range(5)]
        slow_ones = gatherResults([Deferred.fromCoroutine(one) for one in slow])
        self.assertEqual(await self.deliver(store, MIME, self.placement("mrose")), [None])
        both = Deferred.fromCoroutine(
            self.deliver(store, MIME, self.placement("slow"), self.placement("mrose")))
        waiting.set()
        self.assertEqual([one[0] is None for one in await slow_ones], [True] * 3 + [False] * 2)
        self.assertEqual([one is None for one in await both], [False, True])

    def hang(self, name: str) -> Event:
        """Have every scan of a maildrop wait until the event is set."""
        scan, waiting = MaildirSpool.scan, Event()

        def hanging(spool: MaildirSpool, known: Mapping[bytes, bytes]) -> object:
            if spool._place.name == name:
                waiting.wait(60)
            return scan(spool, known)

        self.patch(MaildirSpool, "scan", hanging)
        self.addCleanup(waiting.set)
        return waiting
