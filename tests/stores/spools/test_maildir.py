"""A Maildir as other programs use it: what they bring, move, mark and remove; sizes, ids, envelopes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from twisted.internet.defer import maybeDeferred
from twisted.trial.unittest import TestCase

from mailgate.errors import NoSuchMessage, StoreUnavailable
from mailgate.formats.uniqueids import parse_format
from mailgate.model import Admission, Envelope
from mailgate.stores.spools.maildir import Habits, MaildirSpool
from mailgate.stores.spools.maildir_index import Addresses
from tests.corpus import MESSAGES
from tests.stores.contract_base import MIME, StoreHooks, crlf_form, unique_ids
from tests.stores.spools.maildir_hooks import MaildirHooks
from tests.stores.sqlite_hooks import open_files

LF = b"Subject: hello\n\n.dot\n..\nlast"
LARGE = b"Subject: large\n\n" + b".%015d\n" % 7 * 10_000
GROWN = LARGE + b"more\n"


class ArrivingTests(MaildirHooks, StoreHooks, TestCase):
    """What is found in `new` and `cur`."""

    async def test_what_others_deliver_is_shown_as_it_would_be_sent(self) -> None:
        """LF, CRLF, mixed line ends, bare CR, NUL, dots, no line end, no header: sizes are exact."""
        store = await self.make_store()
        contents = [LF, LARGE, *MESSAGES.values()]
        for content in contents:
            self.drop(store, "mrose", content)
        for _ in range(2):
            self.assertEqual(await self.held(store, "mrose"), [crlf_form(one) for one in contents])

    async def test_a_login_moves_what_is_new(self) -> None:
        """To `cur`, with empty flags or those that it has; nothing else of the Maildir is touched."""
        store = await self.make_store()
        maildir = self.maildir(store, "mrose")
        for name, folder in (("1.a.b", "new"), ("2.a.b:2,S", "new"), ("3.a.b:2,FS", "cur"), ("4.a.b", "cur")):
            self.drop(store, "mrose", MIME, name, folder)
        for name in ("dovecot-uidlist.lock", "courierpop3dsizelist.tmp", "tmp/left"):
            (maildir / name).write_bytes(b"other programs'")
        self.assertEqual(len(await self.held(store, "mrose")), 4)
        self.assertEqual(self.files(store, "mrose"),
                         ["cur/1.a.b:2,", "cur/2.a.b:2,S", "cur/3.a.b:2,FS", "cur/4.a.b"])
        self.assertEqual(len(list(maildir.iterdir())), 5)
        self.assertEqual([one.flags for one in await store.scan("mrose")], ["", "S", "FS", ""])

    async def test_messages_come_in_the_order_of_their_arrival(self) -> None:
        """By the time in the name, to the microsecond; else by the file's; the same one every time."""
        store = await self.make_store()
        names = ["999999999.a.b", "1000000000.M000002P1.x", "1000000000.M000010P1.x", "1000000001.x.y",
                 "1000000001.z.y", "2000000000.x"]
        for name in reversed(names):
            self.drop(store, "mrose", name.encode() + b"\n", name)
        other = self.drop(store, "mrose", b"by mtime\n", "msg.late")
        os.utime(other, (1500000000, 1500000000))
        shown = [name.encode() + b"\r\n" for name in names]
        shown.insert(5, b"by mtime\r\n")
        for _ in range(2):
            self.assertEqual(await self.held(store, "mrose"), shown)
        envelopes = [one.envelope.arrived_ms for one in await store.scan("mrose")]
        self.assertEqual(envelopes[1:6], [1000000000000, 1000000000000, 1000000001000, 1000000001000,
                                          1500000000000])

    async def test_hostile_names(self) -> None:
        """Newlines, octets that are no UTF-8, long ones, odd infos: shown, read, and removed each."""
        store = await self.make_store()
        names = [b"1.a\nb.c", b"2.\xff\xfe.d", b"3." + b"x" * 253, b"4.a:1,exp", b"5.a:2,S:2,T", b"6 blanks ",
                 b"7.'\";$(x)", b"8.\\.\t", b"9." + b"y" * 250 + b":2,", "10.gr\u00fc\u00dfe".encode()]
        for number, name in enumerate(names):
            for folder in ("new", "cur"):
                content = b"%d %s\n" % (number, folder.encode())
                self.drop(store, "mrose", content, name.replace(b".", b"-%s." % folder[:1].encode(), 1)[:255],
                          folder)
        session = await self.login(store, "mrose")
        ids = unique_ids(session.listing)
        self.assertEqual((len(ids), len(set(ids))), (20, 20))
        for unique_id in ids:
            self.assertRegex(unique_id, rb"\A[!-~]{1,70}\Z")
        texts = await self.texts(session)
        self.assertEqual(sorted(texts), sorted(b"%d %s\r\n" % (number, folder) for number in range(10)
                                               for folder in (b"new", b"cur")))
        await session.commit(range(1, 20))
        self.assertEqual(await self.held(store, "mrose"), texts[19:])
        self.assertEqual(unique_ids((await self.login(store, "mrose")).listing), ids[19:])

    async def test_what_is_no_message(self) -> None:
        """Folders, pipes, sockets, links, hidden files: left out, left alone, not waited for."""
        store = await self.make_store()
        maildir = self.maildir(store, "mrose")
        secret = Path(store.folder, "secret")
        secret.write_bytes(b"somebody else's\n")
        for folder in ("new", "cur"):
            self.drop(store, "mrose", MIME, f"1.{folder}", folder)
            self.drop(store, "mrose", MIME, ".hidden", folder)
            (maildir / folder / "2.folder").mkdir()
            os.mkfifo(maildir / folder / "3.pipe")
            os.symlink(secret, maildir / folder / "4.link")
            os.symlink("nowhere", maildir / folder / "5.dangling")
            with socket.socket(socket.AF_UNIX) as plug:
                plug.bind(os.path.relpath(maildir / folder / "6.socket"))
        before = {str(path.relative_to(maildir)) for path in maildir.rglob("*")}
        for _ in range(2):
            session = await self.login(store, "mrose")
            self.assertEqual(await self.texts(session), [MIME] * 2)
            await session.release()
        after = {str(path.relative_to(maildir)) for path in maildir.rglob("*")}
        self.assertEqual(before - after, {"new/1.new"})
        self.assertEqual(after - before, {"cur/1.new:2,"})

    async def test_a_file_that_turns_into_a_link(self) -> None:
        """Between listing and reading: nothing of what it leads to is read, and QUIT does not touch it."""
        store = await self.make_store()
        secret = Path(store.folder, "secret")
        secret.write_bytes(crlf_form(MIME))
        path = self.drop(store, "mrose", MIME, "1.a", "cur")
        session = await self.login(store, "mrose")
        path.unlink()
        path.symlink_to(secret)
        await self.fault(NoSuchMessage, maybeDeferred(session.fetch, 1))
        await session.commit([1])
        self.assertTrue(path.is_symlink())
        self.assertEqual(secret.read_bytes(), crlf_form(MIME))

    async def test_two_files_of_one_base_name(self) -> None:
        """Two messages are two, each under an id of its own for good; two links to one file are one."""
        store = await self.make_store()
        self.drop(store, "mrose", b"one\n", "1.a:2,", "cur")
        self.drop(store, "mrose", b"two\n", "1.a:2,S", "cur")
        self.drop(store, "mrose", b"three\n", "1.a", "new")
        linked = self.drop(store, "mrose", b"four\n", "2.a", "new")
        os.link(linked, linked.parent.parent / "cur" / "2.a:2,F")
        session = await self.login(store, "mrose")
        ids, texts = unique_ids(session.listing), await self.texts(session)
        self.assertEqual(sorted(texts), [b"four\r\n", b"one\r\n", b"three\r\n", b"two\r\n"])
        self.assertEqual(len(set(ids)), 4)
        first = ids.index(b"1.a")
        await session.commit([first + 1])
        session = await self.login(store, "mrose")
        self.assertEqual(unique_ids(session.listing), ids[:first] + ids[first + 1:])
        self.assertEqual(await self.texts(session), texts[:first] + texts[first + 1:])


class SizeTests(MaildirHooks, StoreHooks, TestCase):
    """What is remembered of messages, so that they are not read again; and when it is wrong."""

    def reads(self) -> list[bytes]:
        """Return a list that grows with the name of every file that a scan looks into."""
        names: list[bytes] = []
        look_at = MaildirSpool._look_at

        def noted(spool: MaildirSpool, box: object, name: bytes, path: bytes) -> object:
            names.append(name)
            return look_at(spool, box, name, path)

        self.patch(MaildirSpool, "_look_at", noted)
        return names

    async def test_no_message_is_looked_into_twice(self) -> None:
        """Not by another process, not when its flags change, not when others come and go."""
        store = await self.make_store()
        other = await self.make_second(store)
        names = self.reads()
        for number in range(40):
            self.drop(store, "mrose", MIME, f"{number}.a")
        await (await self.login(store, "mrose")).commit([1])
        self.assertEqual(len(names), 40)
        cur = self.maildir(store, "mrose") / "cur"
        (cur / "5.a:2,").rename(cur / "5.a:2,RS")
        (cur / "6.a:2,").unlink()
        self.drop(store, "mrose", MIME, "99.a")
        del names[:]
        for where in (other, store):
            session = await self.login(where, "mrose")
            self.assertEqual(len(session.listing), 39)
            await session.release()
        self.assertEqual(names, [b"99.a"])

    async def test_a_large_message_is_as_long_as_its_name_says(self) -> None:
        """W= is taken at its word at login, and counted before the message is sent for the first time."""
        store = await self.make_store()
        octets = len(crlf_form(LARGE))
        self.drop(store, "mrose", LARGE, f"1.a,S={len(LARGE)},W={octets}")
        self.drop(store, "mrose", LARGE, f"2.a,W={octets}")
        for _ in range(2):
            session = await self.login(store, "mrose")
            self.assertEqual(list(session.listing.sizes), [octets] * 2)
            self.assertTrue(await self.texts(session) == [crlf_form(LARGE)] * 2)
            await session.release()

    async def test_names_that_lie(self) -> None:
        """A small file is counted at once. A large one is refused once, and right in the next session."""
        store = await self.make_store()
        octets = len(crlf_form(LARGE))
        lies = [f",W={octets + 1}", f",S={len(LARGE)},W={octets - 1}", f",S={len(LARGE)},W={len(LARGE)}"]
        for number, lie in enumerate([*lies, ",W=5", f",W={10 ** 14}", f",S=7,W={octets + 1}", ",S=x,W=y"]):
            self.drop(store, "mrose", LARGE, f"{number}.a{lie}", "cur")
        self.drop(store, "mrose", LF, "8.small,S=3,W=5", "cur")
        session = await self.login(store, "mrose")
        for number in (1, 2, 3, 1):
            await self.fault(StoreUnavailable, maybeDeferred(session.fetch, number))
        for number in (4, 5, 6, 7):
            self.assertTrue(await self.text(session, number) == crlf_form(LARGE))
        self.assertEqual(await self.text(session, 8), crlf_form(LF))
        await session.release()
        self.assertTrue(await self.held(store, "mrose") == [crlf_form(LARGE)] * 7 + [crlf_form(LF)])

    async def test_messages_that_change(self) -> None:
        """What is not as long as listed is not sent in this session; in the next it is."""
        store = await self.make_store()
        paths = [self.drop(store, "mrose", content, f"100000000{number}.a", "cur")
                 for number, content in enumerate((LF, LARGE, LF, MIME))]
        session = await self.login(store, "mrose")
        paths[0].write_bytes(LF + b"more\n")
        paths[1].write_bytes(GROWN)
        paths[2].write_bytes(LF.replace(b"hello\n", b"helloo"))     # as long, with another count of lines
        for number in (1, 2, 3, 1):
            await self.fault(StoreUnavailable, maybeDeferred(session.fetch, number))
        self.assertEqual(await self.text(session, 4), MIME)
        await session.release()
        session = await self.login(store, "mrose")
        self.assertTrue(await self.texts(session) == [crlf_form(path.read_bytes()) for path in paths])
        await session.commit([1, 2, 3])
        self.assertEqual(self.files(store, "mrose"), ["cur/1000000003.a"])

    async def test_messages_that_change_while_they_are_sent(self) -> None:
        """No octet too many is sent, and no end is shown that is none."""
        for content in (LARGE[:80_000], LARGE + LARGE):
            store = await self.make_store()
            path = self.drop(store, "mrose", LARGE, "1.a", "cur")
            session = await self.login(store, "mrose")
            stream = await session.fetch(1)
            sent = len(await stream.read())
            with path.open("r+b") as file:
                file.truncate(len(content))
                file.write(content)
            with self.assertRaises(StoreUnavailable):
                while piece := await stream.read():
                    sent += len(piece)
            self.assertLess(sent, session.listing.sizes[0] + 10_000)    # dots are stuffed
            await session.release()
            self.assertTrue(await self.held(store, "mrose") == [crlf_form(content)])
            self.assertEqual(open_files(store.folder + "/home"), [])


class IdTests(MaildirHooks, StoreHooks, TestCase):
    """Unique-ids and envelopes."""

    async def test_an_id_is_what_the_file_s_maker_chose(self) -> None:
        """Without what was added to it; where POP3 cannot carry that, or another has it, a different one."""
        store = await self.make_store()
        for name in ("1.a", "2.a,S=5,W=6", "3.a,S=5", "3.a,S=6", "4 b", "5." + "x" * 80):
            self.drop(store, "mrose", MIME, name)
        ids = [one.unique_id for one in await store.scan("mrose")]
        self.assertEqual(ids[:4], [b"1.a", b"2.a", b"3.a", b"3.a-2"])
        self.assertEqual([len(one) for one in ids[4:]], [64, 64])
        self.assertEqual([one.unique_id for one in await store.scan("mrose")], ids)

    async def test_another_server_s_ids_and_order(self) -> None:
        """What Dovecot's list has comes first, in its order; then the others. The list is not changed."""
        self.habits = Habits(unique_ids=parse_format("dovecot:%v-%u"))
        store = await self.make_store()
        for name in ("1.a", "2.a", "3.a", "0.new"):
            self.drop(store, "mrose", MIME, name)
        uidlist = self.maildir(store, "mrose") / "dovecot-uidlist"
        uidlist.write_bytes(b"3 V77 N9 G1234\n4 :3.a:2,S\n5 Psaved :1.a\n8 :2.a\n")
        status = uidlist.stat()
        expected = [b"77-4", b"saved", b"77-8", b"0.new"]
        self.assertEqual([one.unique_id for one in await store.scan("mrose")], expected)
        session = await self.login(store, "mrose")
        self.assertEqual(unique_ids(session.listing), expected)
        await session.commit([1])
        self.assertEqual([one.unique_id for one in await store.scan("mrose")], expected[1:])
        self.assertEqual(uidlist.stat(), status)
        uidlist.unlink()        # what was shown once stays
        self.assertEqual([one.unique_id for one in await store.scan("mrose")], expected[1:])

    async def test_a_list_that_cannot_be_read(self) -> None:
        """All would get ids of our own, and be fetched again: a temporary failure."""
        self.habits = Habits(unique_ids=parse_format("auto"))
        store = await self.make_store()
        self.drop(store, "mrose", MIME)
        (self.maildir(store, "mrose") / "dovecot-uidlist").mkdir()
        await self.fault(StoreUnavailable, store.open(Admission("mrose")))
        (self.maildir(store, "mrose") / "dovecot-uidlist").rmdir()
        self.assertEqual(await self.held(store, "mrose"), [MIME])

    async def test_envelopes_come_from_header_fields_in_a_configured_order(self) -> None:
        """The topmost of each; folded, in brackets or not, in any case; not from bodies; views by them."""
        self.habits = Habits(Addresses(("X-Original-To", "Delivered-To", "Envelope-To")))
        store = await self.make_store()
        messages = [
            (b"Return-Path: <S@example.org>\nDelivered-To: box@host\nX-Original-To: Fred@xyz.net\n\n",
             b"S@example.org", b"Fred@xyz.net"),
            (b"return-path:<>\r\ndelivered-to:\r\n jim@xyz.net\r\nDelivered-To: later@x\r\n\r\n",
             b"", b"jim@xyz.net"),
            (b"Return-Path: <a@b> \nEnvelope-to: <\"a b\"@xyz>\n\nX-Original-To: body@x\n", b"a@b",
             b'"a b"@xyz'),
            (b"X-Original-To: root\n\n", b"", b"root"), (b"Subject: none\n\n", b"", b""), (b"", b"", b"")]
        for number, (content, _, _) in enumerate(messages):
            self.drop(store, "xyz", content, f"100000000{number}.a")
        expected = [Envelope(sender, recipient, 1000 * (1_000_000_000 + number))
                    for number, (_, sender, recipient) in enumerate(messages)]
        self.assertEqual([one.envelope for one in await store.scan("xyz")], expected)
        session = await self.login(store, "xyz")
        self.assertEqual([await maybeDeferred(session.envelope, number + 1) for number in range(6)], expected)
        await session.release()
        for view, held in (("fred", [0]), ("jim", [1]), ("a b", [2]), ("root", [3]), ("ann", [])):
            self.assertEqual(await self.held(store, "xyz", view),
                             [crlf_form(messages[number][0]) for number in held])
