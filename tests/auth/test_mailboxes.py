"""Maildrops of the store behind stock twisted.mail.pop3.POP3, through the mailbox adapter."""

from __future__ import annotations

import io
import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.mail.interfaces import IMailboxPOP3
from twisted.mail.pop3 import POP3, POP3Error
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailgate.auth.mailboxes import MaildropMailbox, MessageFile, MessageUnavailable
from mailgate.auth.realm import MaildropRealm
from mailgate.errors import StoreUnavailable
from mailgate.model import Admission, Envelope, Placement
from mailgate.net.mailboxes import fetch_message, open_mailbox
from mailgate.stores.memory import MemoryStore
from mailgate.testing.peers import Peer
from mailgate.wire.dots import cut_top, to_wire
from tests.net.mailboxes import portal_for

LOGIN = b"USER mrose\r\nPASS secret\r\n"
SHORT = b"Subject: short\r\n\r\n.dotted\r\n.\r\nlast\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"\r\n.".join([b"x" * 510] * 400) + b"\r\n"     # 200 KB
CHUNK_OCTETS = 2 ** 14      # twisted.protocols.basic.FileSender


class StockPOP3(POP3):
    """Twisted's own, without timers and a scheduler of the reactor's."""

    magic = b"<1@localhost>"
    timeOut = None      # type: ignore[assignment]
    schedule = staticmethod(list)


class StoreCase(SynchronousTestCase):
    """A store in memory with messages of mrose's."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock)
        self.successResultOf(self.store.start())

    def deliver(self, *messages: bytes) -> None:
        for message in messages:
            delivery = self.store.deliver()
            delivery.write(message)
            placement = Placement("mrose", None, Envelope(b"", b"mrose@example.org", 0))
            self.assertEqual(self.successResultOf(delivery.commit([placement])), [None])

    def open(self) -> MaildropMailbox:
        mailbox = MaildropMailbox(self.successResultOf(self.store.open(Admission("mrose"))))
        verifyObject(IMailboxPOP3, mailbox)
        return mailbox

    def left(self) -> list[int]:
        return [listed.octets for listed in self.successResultOf(self.store.scan("mrose"))]

    def connect(self) -> Peer:
        portal = portal_for(MaildropRealm(self.store, mailbox=MaildropMailbox))

        def protocol() -> StockPOP3:
            stock = StockPOP3()
            stock.portal = portal
            return stock

        return Peer(Factory.forProtocol(protocol), clock=self.clock)

    def stock_says(self, commands: bytes) -> bytes:
        """Return what stock POP3 answers to commands after a login."""
        peer = self.connect()
        peer.say(LOGIN)
        self.assertIn(b"succeeded", peer.received)
        peer.received.clear()
        peer.say(commands)
        peer.vanish()
        return bytes(peer.received)


class Mailbox(StoreCase):
    """The adapter by itself."""

    def test_listing(self) -> None:
        self.deliver(SHORT, LARGE)
        mailbox = self.open()
        self.assertEqual(mailbox.listMessages(), [len(SHORT), len(LARGE)])
        self.assertEqual(mailbox.listMessages(1), len(LARGE))
        listed = self.successResultOf(self.store.scan("mrose"))
        self.assertEqual([mailbox.getUidl(index) for index in (0, 1)], [one.unique_id for one in listed])

    def test_marks_count_nothing_and_are_no_messages(self) -> None:
        self.deliver(SHORT, SHORT)
        mailbox = self.open()
        mailbox.deleteMessage(0)
        self.assertEqual((mailbox.listMessages(), mailbox.listMessages(0)), ([0, len(SHORT)], 0))
        for ask in (mailbox.getMessage, mailbox.deleteMessage):
            self.assertRaises(ValueError, ask, 0)
        mailbox.undeleteMessages()
        self.assertEqual(mailbox.listMessages(), [len(SHORT), len(SHORT)])

    def test_indexes_that_are_none(self) -> None:
        self.deliver(SHORT)
        mailbox = self.open()
        for index in (-1, 1):
            for ask in (mailbox.listMessages, mailbox.getMessage, mailbox.getUidl, mailbox.deleteMessage):
                fault = self.assertRaises(ValueError, ask, index)
                self.assertIsInstance(fault.args[0], bytes)      # stock POP3 joins them

    def test_sync_has_removed_when_it_returns(self) -> None:
        self.deliver(SHORT, LARGE)
        mailbox = self.open()
        mailbox.deleteMessage(0)
        self.assertIs(mailbox.sync(), None)
        self.assertEqual(self.left(), [len(LARGE)])
        self.open()                                     # the lease was given up
        self.assertIs(mailbox.sync(), None)             # once more: there is nothing to do

    def test_only_sync_removes(self) -> None:
        self.deliver(SHORT)
        mailbox = self.open()
        mailbox.deleteMessage(0)
        self.successResultOf(mailbox.maildrop.release())
        self.assertEqual(self.left(), [len(SHORT)])

    def test_a_sync_that_fails_says_so_every_time(self) -> None:
        self.deliver(SHORT)
        mailbox = self.open()
        mailbox.deleteMessage(0)
        self.clock.advance(0)
        self.successResultOf(self.store.stop())         # every lease is given up
        for _ in range(2):
            fault = self.assertRaises(POP3Error, mailbox.sync)
            self.assertEqual(fault.args, (b"some deleted messages not removed",))
            mailbox._marked.add(0)

    def test_commit_waits_without_blocking(self) -> None:
        self.deliver(SHORT)
        mailbox = self.open()
        mailbox.deleteMessage(0)
        held: Deferred[None] = Deferred()
        drop = mailbox.maildrop
        mailbox.maildrop = Around(
            drop, commit=lambda marked: held.addCallback(lambda _: drop.commit(marked)))
        done = mailbox.commit()
        self.assertNoResult(done)
        held.callback(None)
        self.successResultOf(done)
        self.assertEqual(self.left(), [])

    def test_a_store_that_cannot_block_returns_its_deferred(self) -> None:
        self.deliver(SHORT)
        mailbox = self.open()
        drop = mailbox.maildrop
        mailbox.maildrop = Foreign(drop)
        mailbox.deleteMessage(0)
        self.successResultOf(mailbox.sync())
        self.assertEqual(self.left(), [])

    def test_a_message_that_does_not_come(self) -> None:
        """A ValueError, since stock POP3 leaves every other exception of getMessage unanswered."""
        self.deliver(SHORT)
        mailbox = self.open()
        fault = StoreUnavailable("no disk")

        def fail_(number: int) -> Any:
            return succeed(None).addCallback(lambda _: (_ for _ in ()).throw(fault))

        mailbox.maildrop = Around(mailbox.maildrop, fetch=fail_)
        failure = self.failureResultOf(mailbox.getMessage(0), MessageUnavailable)
        self.assertIsInstance(failure.value, ValueError)

    def test_our_own_protocol_undresses_it(self) -> None:
        self.deliver(SHORT)
        mailbox = self.open()
        self.assertIs(self.successResultOf(open_mailbox(mailbox)), mailbox.maildrop)
        self.assertEqual(self.successResultOf(fetch_message(mailbox, 0)), to_wire(SHORT))
        self.assertEqual(self.successResultOf(fetch_message(mailbox, 0, 1)),
                         b"Subject: short\r\n\r\n..dotted\r\n")


class Around:
    """A maildrop with some methods replaced."""

    def __init__(self, maildrop: Any, **methods: Any) -> None:
        self._maildrop = maildrop
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._maildrop, name)


class Foreign:
    """A maildrop of a store that knows no blocking commit."""

    def __init__(self, maildrop: Any) -> None:
        self.listing = maildrop.listing
        self.commit = maildrop.commit


class Files(SynchronousTestCase):
    """What stock POP3 reads."""

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.sampled_from([b"a", b"\n", b".", b"\n\n", b"\n."])).map(b"".join), st.integers(1, 9))
    def test_any_pieces_give_the_same_octets(self, content: bytes, octets: int) -> None:
        beneath = io.BytesIO(content)
        file = MessageFile(beneath)
        pieces = []
        while piece := file.read(octets):
            self.assertLessEqual(len(piece), octets)
            pieces.append(piece)
        self.assertEqual(b"".join(pieces), content)
        self.assertTrue(beneath.closed)
        for before, after in itertools.pairwise(pieces):
            if before.strip(b"\n"):
                self.assertNotIn(before[-1:] + after[:1], (b"\n.", b"\n\n"))

    def test_reading_all(self) -> None:
        file = MessageFile(io.BytesIO(b"one\ntwo\n"))
        said = file.read(1), file.read(), file.read(), file.read(3)
        self.assertEqual(said, (b"o", b"ne\ntwo\n", b"", b""))

    def test_a_file_that_is_dropped_is_closed(self) -> None:
        beneath = io.BytesIO(b"one")
        file = MessageFile(beneath)
        del file
        self.assertTrue(beneath.closed)


class Stock(StoreCase):
    """Whole conversations with stock POP3."""

    def test_a_conversation(self) -> None:
        self.deliver(SHORT, LARGE)
        unique_id = self.successResultOf(self.store.scan("mrose"))[1].unique_id
        answers = self.stock_says(b"DELE 1\r\nDELE 1\r\nUIDL\r\nRETR 1\r\n")
        self.assertIn(b"\r\n2 %b\r\n.\r\n" % unique_id, answers)
        self.assertTrue(answers.endswith(b"-ERR message deleted\r\n"))
        self.assertIn(b"-ERR bad protocol or server: ValueError: message deleted\r\n", answers)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.left(), [len(SHORT), len(LARGE)])

    def test_quit_has_removed_before_it_answers(self) -> None:
        self.deliver(SHORT, LARGE)
        self.assertEqual(self.stock_says(b"DELE 2\r\nQUIT\r\n"), b"+OK \r\n+OK \r\n")
        self.assertEqual(self.left(), [len(SHORT)])
        self.assertEqual(self.stock_says(b"STAT\r\n"), b"+OK 1 %d\r\n" % len(SHORT))     # no lock is left

    def test_a_failed_quit_is_no_ok(self) -> None:
        self.deliver(SHORT)
        peer = self.connect()
        peer.say(LOGIN + b"DELE 1\r\n")
        self.successResultOf(self.store.stop())
        peer.received.clear()
        peer.say(b"QUIT\r\n")
        self.assertEqual(
            bytes(peer.received),
            b"-ERR bad protocol or server: POP3Error: some deleted messages not removed\r\n")
        self.assertEqual(len(self.flushLoggedErrors(POP3Error)), 1)
        peer.vanish()
        self.successResultOf(self.store.start())
        self.assertEqual(self.left(), [len(SHORT)])

    def test_clients_that_vanish_remove_nothing(self) -> None:
        self.deliver(SHORT, LARGE)
        for said in (b"", b"DELE 1\r\n", b"DELE 2\r\nRETR 1\r\n"):
            self.stock_says(said)
            self.assertEqual(self.left(), [len(SHORT), len(LARGE)])

    def retrieved(self, message: bytes) -> bytes:
        answer = self.stock_says(b"RETR 1\r\n")
        status, _, wire = answer.partition(b"\r\n")
        self.assertEqual(status, b"+OK %d" % len(message))
        self.assertTrue(wire.endswith(b".\r\n"))
        return wire.removesuffix(b".\r\n")

    def test_framing_holds_at_every_edge(self) -> None:
        """The stock sender cuts at 16 KiB and stuffs each piece by itself."""
        for shift in range(-3, 4):
            for text in (b"\r\n.\r\n", b"\r\n\r\n..", b"\r\n\r\n\r\n.\r\n"):
                message = b"A: b\r\n\r\n" + b"x" * (CHUNK_OCTETS - 10 + shift) + text * 3 + b"end\r\n"
                self.deliver(message)
                self.assertEqual(self.retrieved(message), to_wire(message))
                self.successResultOf(self.store.remove("mrose"))

    def test_framing_of_strange_messages(self) -> None:
        for message in (b".\r\n", b".first\r\n", b"\r\n", b"bare\rCR\r\r\n", b"\0\xff\r\n", LARGE):
            self.deliver(message)
            self.assertEqual(self.retrieved(message), to_wire(message))
            self.successResultOf(self.store.remove("mrose"))

    def test_tops(self) -> None:
        """TOP is right too, wherever the header ends; in LF form it has as many octets as given here."""
        for head_octets in (100, *range(CHUNK_OCTETS - 9, CHUNK_OCTETS + 3), 40_000):
            count, rest = divmod(head_octets - 7, 72)
            head = b"A: " + b"\r\n ".join([b"x" * 70] * count) + b"\r\nB: " + b"y" * rest + b"\r\n\r\n"
            self.assertEqual(len(head.replace(b"\r", b"")), head_octets)
            message = head + b".line\r\n" * 3 + b"line\r\n.line\r\n" * 3
            self.deliver(message)
            for body_lines in (0, 1, 9):
                answer = self.stock_says(b"TOP 1 %d\r\n" % body_lines)
                _, _, top = answer.partition(b"\r\n")
                wire = to_wire(message)
                expected = cut_top(wire, wire.find(b"\r\n\r\n") + 4, body_lines)
                self.assertEqual(top, expected + b".\r\n")
            self.successResultOf(self.store.remove("mrose"))
