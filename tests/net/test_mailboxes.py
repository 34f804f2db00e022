"""Applications' IMailboxPOP3 avatars, opened as maildrops and served by our factory."""

from __future__ import annotations

import io
import os
import poplib
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.mail.maildir import MaildirMailbox, StringListMailbox, initializeMaildir
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from mailgate.errors import BadCommand, MaildropInUse, NoSuchMessage, StoreUnavailable
from mailgate.interfaces import IMaildrop, IMessageStream
from mailgate.net.mailboxes import PIECE_OCTETS, FileStream, MailboxRealm, fetch_message, open_mailbox
from mailgate.net.pop3 import POP3Factory
from mailgate.pop3.policy import Limits, Policy
from mailgate.testing.peers import Peer
from mailgate.wire.dots import cut_top, to_wire
from tests.net import mailboxes
from tests.net.mailboxes import BLUE, GREEN, DeferredMailbox, ListMailbox, portal_for

LOGIN = b"USER mrose\r\nPASS secret\r\n"
QUICK = Policy(limits=Limits(failure_delay_seconds=0))
LARGE = b"Subject: large\n\n" + b".x\n" * 100_000      # 300 KB, 500 KB in wire form
EIGHT_BIT = b"Subject: \xe4\r\n\r\n8-bit \xff\r\n"

TEXTS = st.lists(st.sampled_from([b"a", b".", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"longer words"])
                 ).map(b"".join)


def crlf(message: bytes) -> bytes:
    """Return a message of LF lines with CRLF ones."""
    return message.replace(b"\n", b"\r\n")


class Maildir(MaildirMailbox):
    """Twisted's, with the one method mended that mixes text and octets in a path."""

    def deleteMessage(self, i: int) -> None:
        path: Any = self.list[i]
        trash = os.path.join(self.path, b".Trash", b"cur", os.path.basename(path))
        os.rename(path, trash)
        self.deleted[path] = trash
        self.list[i] = 0


class Trickle:
    """A file object that gives few octets a read, and only has `read`."""

    def __init__(self, content: bytes, octets: int) -> None:
        self._file = io.BytesIO(content)
        self._octets = octets

    def read(self, octets: int) -> bytes:
        return self._file.read(min(octets, self._octets))


class Opening(SynchronousTestCase):
    """The listing of a session."""

    def open(self, mailbox: Any) -> Any:
        maildrop = self.successResultOf(open_mailbox(mailbox))
        verifyObject(IMaildrop, maildrop)
        return maildrop

    def ids_of(self, uids: list[Any]) -> list[bytes]:
        listing = self.open(ListMailbox([b"x"] * len(uids), uids)).listing
        return [listing.unique_id(index) for index in range(len(uids))]

    def test_sizes_and_ids_are_the_mailboxes(self) -> None:
        listing = self.open(ListMailbox([GREEN, BLUE])).listing
        self.assertEqual(list(listing.sizes), [len(GREEN), len(BLUE)])
        self.assertEqual([listing.unique_id(0), listing.unique_id(1)], [b"id0", b"id1"])

    def test_messages_deleted_before_are_none_of_this_session(self) -> None:
        """A size of 0, or None as some say it, is a hole; the numbers have none (RFC 1939 section 4)."""
        mailbox = ListMailbox([b"", GREEN, b"", BLUE], uids=[ValueError, "one", ValueError, "three"])
        maildrop = self.open(mailbox)
        self.assertEqual(list(maildrop.listing.sizes), [len(GREEN), len(BLUE)])
        self.assertEqual(maildrop.listing.unique_id(1), b"three")
        self.assertEqual(self.successResultOf(maildrop.fetch(2)), to_wire(BLUE))
        self.successResultOf(maildrop.commit({2}))
        self.assertEqual(mailbox.calls, [("delete", 3), "sync"])

    def test_ids_that_are_no_octets(self) -> None:
        self.assertEqual(self.ids_of(["text", 17, b"octets"]), [b"text", b"17", b"octets"])

    def test_illegal_ids_become_digests_that_stay_the_same(self) -> None:
        """RFC 1939 section 7: 1 to 70 octets of 0x21 to 0x7E."""
        illegal = [b"two words", b"", b"x" * 71, "grün", b"line\r\nend"]
        ids = self.ids_of(illegal)
        self.assertEqual(len(set(ids)), len(illegal))
        for unique_id in ids:
            self.assertRegex(unique_id, rb"\A[!-~]{1,70}\Z")
        self.assertEqual(self.ids_of(list(reversed(illegal))), list(reversed(ids)))

    def test_copies_get_ids_of_their_own(self) -> None:
        self.assertEqual(self.ids_of([b"a", b"b", b"a", b"a.2", b"a"]), [b"a", b"b", b"a.3", b"a.2", b"a.4"])
        long = b"y" * 70
        ids = self.ids_of([long, long, long])
        self.assertEqual(ids[0], long)
        self.assertEqual(len(set(ids)), 3)
        self.assertTrue(all(len(unique_id) <= 70 for unique_id in ids))

    def test_digests_as_ids(self) -> None:
        """StringListMailbox hashes contents, so that copies share an id."""
        listing = self.open(StringListMailbox([GREEN, GREEN])).listing
        self.assertNotEqual(listing.unique_id(0), listing.unique_id(1))

    def test_answers_that_come_later(self) -> None:
        mailbox = DeferredMailbox(ListMailbox([GREEN] * 200), held=["listMessages", "getUidl"])
        opening = open_mailbox(mailbox)
        self.assertEqual(mailbox.let_go(), ["listMessages"])
        asked = []
        while mailbox.waiting:
            asked.append(len(mailbox.let_go()))
        self.assertEqual(asked, [64, 64, 64, 8])        # not 200 at once
        listing = self.successResultOf(opening).listing
        self.assertEqual(listing.unique_id(199), b"id199")

    def test_a_mailbox_that_cannot_be_listed(self) -> None:
        for method in ("listMessages", "getUidl"):
            for wrap in (lambda mailbox: mailbox, DeferredMailbox):
                mailbox = ListMailbox([GREEN])
                mailbox.faults[method] = OSError("no disk")
                fault = self.failureResultOf(open_mailbox(wrap(mailbox)), StoreUnavailable)
                self.assertIn("no disk", str(fault.value))

    def test_a_bug_of_the_mailbox_is_logged_in_full(self) -> None:
        self.failureResultOf(open_mailbox(object()), StoreUnavailable)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)

    def test_our_faults_pass(self) -> None:
        mailbox = ListMailbox([GREEN])
        mailbox.faults["listMessages"] = MaildropInUse("mrose")
        self.failureResultOf(open_mailbox(mailbox), MaildropInUse)

    def test_there_is_no_envelope(self) -> None:
        self.failureResultOf(self.open(ListMailbox([GREEN])).envelope(1), BadCommand)


class Fetching(SynchronousTestCase):
    """Messages in wire form."""

    def octets(self, content: Any) -> bytes:
        if isinstance(content, bytes):
            return content
        verifyObject(IMessageStream, content)
        pieces = []
        while piece := self.successResultOf(content.read()):
            self.assertLessEqual(len(piece), PIECE_OCTETS)
            pieces.append(piece)
        return b"".join(pieces)

    @settings(deadline=None, max_examples=150)
    @given(TEXTS, st.integers(1, 9), st.none() | st.integers(0, 6))
    def test_any_content_in_any_pieces(self, content: bytes, octets: int, body_lines: int | None) -> None:
        mailbox = ListMailbox([content])
        mailbox.getMessage = lambda i: Trickle(content, octets)     # type: ignore[method-assign]
        fetched = self.successResultOf(fetch_message(mailbox, 0, body_lines))
        wire = to_wire(content)
        if body_lines is not None:
            head = (b"\r\n" + wire).find(b"\r\n\r\n") + 2       # a message may begin with its blank line
            wire = cut_top(wire, head if head > 1 else len(wire), body_lines)
        self.assertEqual(self.octets(fetched), wire)

    def test_small_ones_come_whole_and_large_ones_as_streams(self) -> None:
        """The border is 64 KiB of wire form."""
        for octets, kind in ((PIECE_OCTETS, bytes), (PIECE_OCTETS + 1, FileStream)):
            mailbox = ListMailbox([b"x" * (octets - 2) + b"\r\n"])
            content = self.successResultOf(fetch_message(mailbox, 0))
            self.assertIsInstance(content, kind)
            self.assertEqual(self.octets(content), mailbox.messages[0])
            self.assertTrue(mailbox.files[0].closed)

    def test_a_stream_reads_as_it_is_asked(self) -> None:
        mailbox = ListMailbox([LARGE])
        stream = self.successResultOf(fetch_message(mailbox, 0))
        self.assertLess(mailbox.files[0].tell(), 3 * PIECE_OCTETS)
        self.assertEqual(self.octets(stream), to_wire(LARGE))
        self.assertTrue(mailbox.files[0].closed)

    def test_a_stream_that_is_given_up_closes_its_file(self) -> None:
        mailbox = ListMailbox([LARGE])
        stream = self.successResultOf(fetch_message(mailbox, 0))
        stream.close()
        stream.close()
        self.assertTrue(mailbox.files[0].closed)

    def test_the_top_reads_no_further(self) -> None:
        mailbox = ListMailbox([LARGE])
        top = self.successResultOf(fetch_message(mailbox, 0, 1))
        self.assertEqual(top, b"Subject: large\r\n\r\n..x\r\n")
        self.assertTrue(mailbox.files[0].closed)

    def test_text_files(self) -> None:
        """MaildirMailbox opens files as text; their octets need not be UTF-8."""
        path = self.mktemp()
        Path(path).write_bytes(b"Subject: \xe4\r\n\n.\n")
        for file in (open(path), io.StringIO("Subject: \udce4\r\n\n.\n")):      # noqa: SIM115
            self.assertEqual(FileStream(file).whole(), b"Subject: \xe4\r\n\r\n..\r\n")

    def test_messages_that_are_gone(self) -> None:
        for fault in (ValueError(), IndexError(), FileNotFoundError()):
            for wrap in (lambda mailbox: mailbox, DeferredMailbox):
                mailbox = ListMailbox([GREEN])
                mailbox.faults["getMessage"] = fault
                self.failureResultOf(fetch_message(wrap(mailbox), 0), NoSuchMessage)
        maildrop = self.successResultOf(open_mailbox(ListMailbox([GREEN])))
        for number in (0, 2):
            self.failureResultOf(maildrop.fetch(number), NoSuchMessage)

    def test_files_that_cannot_be_read(self) -> None:
        class Broken:
            closed = False

            def read(self, octets: int) -> bytes:
                raise OSError("bad sector")

            def close(self) -> None:
                self.closed = True

        file = Broken()
        mailbox = ListMailbox([GREEN])
        mailbox.getMessage = lambda i: file     # type: ignore[method-assign]
        self.failureResultOf(fetch_message(mailbox, 0), StoreUnavailable)
        self.assertTrue(file.closed)
        mailbox = ListMailbox([GREEN])
        mailbox.faults["getMessage"] = OSError("no such disk")
        self.failureResultOf(fetch_message(mailbox, 0), StoreUnavailable)


class Committing(SynchronousTestCase):
    """QUIT and every other end."""

    def test_the_marked_are_deleted_in_order_and_synced(self) -> None:
        for wrap in (lambda mailbox: mailbox, DeferredMailbox):
            mailbox = ListMailbox([GREEN, BLUE, GREEN])
            maildrop = self.successResultOf(open_mailbox(wrap(mailbox)))
            self.successResultOf(maildrop.commit(frozenset({3, 1})))
            self.assertEqual(mailbox.calls, [("delete", 0), ("delete", 2), "sync"])

    def test_sync_is_waited_for(self) -> None:
        mailbox = DeferredMailbox(ListMailbox([GREEN]), held=["sync"])
        maildrop = self.successResultOf(open_mailbox(mailbox))
        done = maildrop.commit({1})
        self.assertNoResult(done)
        mailbox.let_go()
        self.successResultOf(done)

    def test_a_failure_takes_the_marks_back(self) -> None:
        for method in ("deleteMessage", "sync"):
            for wrap in (lambda mailbox: mailbox, DeferredMailbox):
                mailbox = ListMailbox([GREEN, BLUE])
                mailbox.faults[method] = OSError("no space")
                maildrop = self.successResultOf(open_mailbox(wrap(mailbox)))
                fault = self.failureResultOf(maildrop.commit({1, 2}), StoreUnavailable)
                self.assertIn("no space", str(fault.value))
                self.assertEqual(mailbox.calls[-1], "undelete")
                self.assertEqual(mailbox.marked, set())

    def test_marks_that_cannot_be_taken_back_are_told_to_the_operator(self) -> None:
        mailbox = ListMailbox([GREEN])
        mailbox.faults = {"sync": OSError("no space"), "undeleteMessages": OSError("no space either")}
        maildrop = self.successResultOf(open_mailbox(mailbox))
        self.failureResultOf(maildrop.commit({1}), StoreUnavailable)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_release_asks_the_mailbox_nothing(self) -> None:
        mailbox = ListMailbox([GREEN])
        maildrop = self.successResultOf(open_mailbox(mailbox))
        self.successResultOf(maildrop.release())
        self.successResultOf(maildrop.release())
        self.assertEqual(mailbox.calls, [])


class ExactSizes(TestCase):
    """Messages measured at login."""

    async def test_sizes_are_those_of_retr(self) -> None:
        for wrap in (lambda mailbox: mailbox, DeferredMailbox):
            mailbox = ListMailbox([GREEN, b"", b"no line end", LARGE])
            maildrop = await open_mailbox(wrap(mailbox), exact_sizes=True)
            self.assertEqual(list(maildrop.listing.sizes),
                             [len(crlf(message)) for message in (GREEN, b"no line end\n", LARGE)])
            self.assertTrue(all(file.closed for file in mailbox.files))

    async def test_a_message_that_cannot_be_measured(self) -> None:
        mailbox = ListMailbox([GREEN])
        mailbox.faults["getMessage"] = OSError("no disk")
        await self.assertFailure(open_mailbox(mailbox, exact_sizes=True), StoreUnavailable)

    async def test_the_realm_measures_for_who_asks_for_maildrops(self) -> None:
        inner = mailboxes.MailboxRealm(ListMailbox([GREEN]))
        realm = MailboxRealm(inner, exact_sizes=True)
        interface, maildrop, logout = await realm.requestAvatar(b"mrose", None, IMaildrop)
        self.assertIs(interface, IMaildrop)
        self.assertEqual(maildrop.listing.octets, len(GREEN) + GREEN.count(b"\n"))
        logout()
        self.assertEqual(inner.logouts, 1)
        with self.assertRaises(NotImplementedError):
            realm.requestAvatar(b"mrose", None, verifyObject)

    async def test_the_realm_logs_out_where_nothing_opens(self) -> None:
        inner = mailboxes.MailboxRealm(ListMailbox([GREEN]))
        inner.mailbox.faults["listMessages"] = OSError("no disk")
        opening = MailboxRealm(inner).requestAvatar(b"mrose", None, IMaildrop)
        await self.assertFailure(opening, StoreUnavailable)
        self.assertEqual(inner.logouts, 1)


class Served(SynchronousTestCase):
    """Conversations of our factory over such mailboxes, and clients that vanish from them."""

    def serve(self, mailbox: Any) -> Peer:
        self.realm = mailboxes.MailboxRealm(mailbox)
        self.clock = Clock()
        return Peer(POP3Factory(portal_for(self.realm), policy=QUICK, clock=self.clock), clock=self.clock)

    def gone(self) -> None:
        self.assertEqual((self.realm.logins, self.realm.logouts), (1, 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_conversation(self) -> None:
        for wrap in (lambda mailbox: mailbox, DeferredMailbox):
            mailbox = ListMailbox([GREEN, BLUE])
            peer = self.serve(wrap(mailbox))
            peer.say(LOGIN + b"STAT\r\nUIDL 2\r\nRETR 1\r\nTOP 1 1\r\n")
            peer.say(b"DELE 1\r\nRETR 1\r\nLIST\r\n*ENV 1\r\nQUIT\r\n")
            self.assertEqual(bytes(peer.received).split(b"\r\n")[3:], [
                b"+OK 2 52", b"+OK 2 id1", b"+OK 32 octets", b"Subject: green", b"", b"..dotted", b"...",
                b"last", b".", b"+OK top of message follows", b"Subject: green", b"", b"..dotted", b".",
                b"+OK marked as deleted", b"-ERR no such message", b"+OK 1 messages (20 octets)", b"2 20",
                b".", b"-ERR command refused", b"+OK goodbye", b""])
            self.assertEqual(mailbox.calls, [("delete", 0), "sync"])
            self.gone()

    def test_a_failed_sync_is_told(self) -> None:
        mailbox = ListMailbox([GREEN])
        mailbox.faults["sync"] = OSError("no space")
        peer = self.serve(DeferredMailbox(mailbox))
        peer.say(LOGIN + b"DELE 1\r\nQUIT\r\n")
        self.assertEqual(peer.received.splitlines()[-1], b"-ERR [SYS/TEMP] some deleted messages not removed")
        self.assertTrue(peer.closed)
        self.gone()

    def test_clients_that_vanish(self) -> None:
        """Wherever the mailbox lets them wait: one logout, no deletion but a QUIT's own."""
        for held, said in {
            "listMessages": b"", "getUidl": b"", "getMessage": b"DELE 1\r\nRETR 2\r\n",
            "deleteMessage": b"DELE 1\r\nQUIT\r\n", "sync": b"DELE 1\r\nQUIT\r\n",
        }.items():
            mailbox = ListMailbox([GREEN, BLUE])
            slow = DeferredMailbox(mailbox, held=[held])
            peer = self.serve(slow)
            peer.say(LOGIN + said)
            self.assertTrue(slow.waiting, held)
            peer.vanish()
            while slow.let_go():
                peer.settle()
            self.gone()
            quit_came = b"QUIT" in said
            self.assertEqual(mailbox.calls, [("delete", 0), "sync"] if quit_came else [], held)
            self.assertTrue(all(file.closed for file in mailbox.files))

    def test_clients_that_vanish_while_the_realm_thinks(self) -> None:
        peer = self.serve(ListMailbox([GREEN]))
        held = self.realm.held = Deferred()
        peer.say(LOGIN)
        peer.vanish()
        held.callback(None)
        self.gone()

    def test_clients_that_vanish_from_a_large_message(self) -> None:
        mailbox = ListMailbox([LARGE])
        peer = self.serve(mailbox)
        peer.reading_octets = 1000
        peer.transport.wants_more = lambda: False       # type: ignore[method-assign]
        peer.say(LOGIN + b"DELE 1\r\nRSET\r\nRETR 1\r\n")
        self.assertFalse(mailbox.files[0].closed)
        peer.vanish()
        self.assertTrue(mailbox.files[0].closed)
        self.assertEqual(mailbox.calls, [])
        self.gone()

    def test_an_unreadable_mailbox_leaves_no_login(self) -> None:
        mailbox = ListMailbox([GREEN])
        mailbox.faults["listMessages"] = OSError("no disk")
        peer = self.serve(mailbox)
        peer.say(LOGIN)
        self.assertEqual(peer.received.splitlines()[-1], b"-ERR [SYS/TEMP] try again later")
        self.assertEqual(self.realm.logouts, 1)     # at once: after -ERR no lock is kept
        peer.vanish()
        self.gone()


class RealMaildir(TestCase):
    """Twisted's MaildirMailbox behind our factory, over a real socket, read by poplib."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name, "Maildir")
        initializeMaildir(str(self.path).encode())
        for name, content in (("1.a", GREEN), ("2.b", EIGHT_BIT), ("3.c", LARGE)):
            (self.path / "new" / name).write_bytes(content)

    def serve(self) -> int:
        self.realm = mailboxes.MailboxRealm(None)
        self.realm.mailbox = Maildir(str(self.path).encode())
        port = reactor.listenTCP(0, POP3Factory(portal_for(self.realm)), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return port.getHost().port

    def names(self) -> list[str]:
        return sorted(path.name for path in (self.path / "new").iterdir())

    async def test_reading_and_deleting(self) -> None:
        port = self.serve()

        def client() -> dict[str, Any]:
            pop = poplib.POP3("127.0.0.1", port, timeout=60)
            pop.user("mrose")
            pop.pass_("secret")
            seen: dict[str, Any] = {"stat": pop.stat()}
            seen["messages"] = [b"\r\n".join(pop.retr(number)[1]) + b"\r\n" for number in (1, 2, 3)]
            seen["top"] = pop.top(3, 2)[1]
            seen["ids"] = pop.uidl()[1]
            pop.dele(1)
            pop.dele(3)
            pop.quit()
            return seen

        seen = await deferToThread(client)
        self.assertEqual(seen["stat"][0], 3)
        self.assertEqual(seen["messages"], [crlf(GREEN), EIGHT_BIT, crlf(LARGE)])
        self.assertEqual(seen["top"], [b"Subject: large", b"", b".x", b".x"])
        self.assertEqual(len(set(seen["ids"])), 3)
        self.assertEqual(self.names(), ["2.b"])
        self.assertEqual(self.realm.logouts, 1)

    async def test_a_client_that_does_not_quit(self) -> None:
        port = self.serve()

        def client() -> None:
            pop = poplib.POP3("127.0.0.1", port, timeout=60)
            pop.user("mrose")
            pop.pass_("secret")
            pop.dele(1)
            pop.close()

        gone: Deferred[None] = Deferred()
        realm = self.realm
        log_out = realm._log_out

        def logged_out() -> None:
            log_out()
            gone.callback(None)

        realm._log_out = logged_out     # type: ignore[method-assign]
        await deferToThread(client)
        await gone.addTimeout(60, reactor)
        self.assertEqual(self.names(), ["1.a", "2.b", "3.c"])
        self.assertEqual(realm.logouts, 1)
