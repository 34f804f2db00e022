"""The defects of twisted.mail.pop3.POP3: each shows there, and not in the class that stands in for it.

Every check is played twice: against mailgate.compat.POP3, where it has to hold, and against
Twisted's class, where it has to fail. Should upstream mend one, the second play tells.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.mail import pop3
from twisted.trial.unittest import FailTest
from zope.interface import alsoProvides

from mailgate import compat
from mailgate.testing.peers import Peer
from mailgate.wire.dots import to_wire
from tests.compat.staging import LOGIN, StandInCase
from tests.net.mailboxes import BLUE, GREEN, DeferredMailbox, ListMailbox

CHUNK_OCTETS = 2 ** 14      # Twisted's FileSender reads so much at a time


class Twisted(pop3.POP3):
    """Upstream's class, with STLS as applications add it."""

    AUTH_CMDS = [*pop3.POP3.AUTH_CMDS, b"STLS"]

    def do_STLS(self) -> None:
        self.successResponse(b"begin TLS")
        alsoProvides(self.transport, ISSLTransport)


class StandIn(compat.POP3):
    """The same over ours."""

    AUTH_CMDS = [*compat.POP3.AUTH_CMDS, b"STLS"]
    do_STLS = Twisted.do_STLS


Check = Callable[["DefectTests"], None]


class DefectTests(StandInCase):
    """`serve` makes a server of the kind that is being played."""

    kind: Any = None

    def serve(self, mailbox: Any, *args: Any, **how: Any) -> Peer:
        return super().serve(mailbox, self.kind, **how)

    def log_in(self, mailbox: Any, *args: Any, **how: Any) -> Peer:
        peer = self.serve(mailbox, **how)
        self.assertEqual(self.statuses(peer, LOGIN), [b"+OK", b"+OK"])
        return peer

    def statuses(self, peer: Peer, commands: bytes) -> list[bytes]:
        """Say commands; return the first word of each line that came."""
        return [line.partition(b" ")[0] for line in self.said(peer, commands)]

    def play(self, check: Check) -> None:
        self.kind = StandIn
        check(self)
        self.kind = Twisted
        try:
            check(self)
        except FailTest:
            pass
        except Exception as raised:             # out of dataReceived, where the reactor would hang up
            self.assertIsInstance(raised, (TypeError, ValueError, AttributeError))
        else:
            raise AssertionError("Twisted's POP3 has mended this")
        self.realm = None
        gc.collect()    # a failure that nobody saw is told of when its Deferred goes: now, in no other test
        self.flushLoggedErrors()
        for call in self.clock.getDelayedCalls():
            call.cancel()


def check_dots_at_an_edge(self: DefectTests) -> None:
    for shift in range(-2, 3):
        message = b"A: b\n\n" + b"x" * (CHUNK_OCTETS - 7 + shift) + b"\n.\n.. end\n"
        answer = b"\r\n".join(self.said(self.log_in(ListMailbox([message])), b"RETR 1\r\n")[1:])
        self.assertEqual(answer, to_wire(message) + b".")


def check_a_dot_in_front(self: DefectTests) -> None:
    answer = self.said(self.log_in(ListMailbox([b".\nA: b\n"])), b"RETR 1\r\n")
    self.assertEqual(answer[1:], [b"..", b"A: b", b"."])


def check_the_end_of_a_header_at_an_edge(self: DefectTests) -> None:
    message = b"A: " + b"x" * (CHUNK_OCTETS - 4) + b"\n\nbody\n" * 3
    answer = self.said(self.log_in(ListMailbox([message])), b"TOP 1 0\r\n")
    self.assertEqual(answer[2:], [b"", b"."])


def check_wrong_numbers_of_arguments(self: DefectTests) -> None:
    peer = self.log_in(ListMailbox([GREEN]))
    for command in (b"STAT 1", b"RETR", b"TOP 1", b"DELE 1 2", b"NOOP x"):
        self.assertEqual(self.statuses(peer, command + b"\r\n"), [b"-ERR"])


def check_octets_that_are_no_text(self: DefectTests) -> None:
    peer = self.log_in(ListMailbox([GREEN]))
    self.assertEqual(self.statuses(peer, b"\xff\xfe\r\n"), [b"-ERR"])


def check_commands_behind_a_login(self: DefectTests) -> None:
    peer = self.serve(ListMailbox([GREEN]))
    held = self.realm.held = Deferred()
    self.assertEqual(self.statuses(peer, LOGIN + b"STAT\r\n"), [b"+OK"])
    held.callback(None)
    peer.settle()
    self.assertEqual(peer.received.splitlines()[-1], b"+OK 1 32")


def check_commands_behind_a_message(self: DefectTests) -> None:
    peer = self.log_in(DeferredMailbox(ListMailbox([GREEN]), held=["getMessage"]))
    self.said(peer, b"RETR 1\r\nRETR 2\r\nFOO\r\nNOOP\r\n")
    self.realm.mailbox.let_go()
    peer.settle()
    statuses = [line.partition(b" ")[0] for line in peer.received.splitlines() if line[:1] in (b"+", b"-")]
    self.assertEqual(statuses, [b"+OK", b"-ERR", b"-ERR", b"+OK"])


def check_the_backlog_behind_a_message(self: DefectTests) -> None:
    peer = self.log_in(DeferredMailbox(ListMailbox([GREEN]), held=["getMessage"]))
    peer.say(b"RETR 1\r\n" + b"NOOP\r\n" * 100_000, piece_octets=4096)
    self.assertGreater(peer.unheard, 400_000)
    peer.vanish()


def check_commands_in_clear_behind_stls(self: DefectTests) -> None:
    peer = self.serve(ListMailbox([GREEN]))
    self.assertEqual(self.statuses(peer, b"STLS\r\nUSER mrose\r\n"), [])
    self.assertTrue(peer.closed)


def check_a_login_that_comes_too_late(self: DefectTests) -> None:
    peer = self.serve(ListMailbox([GREEN]))
    held = self.realm.held = Deferred()
    peer.say(LOGIN)
    peer.vanish()
    held.callback(None)
    self.assertEqual(self.realm.logouts, 1)


def check_a_second_login(self: DefectTests) -> None:
    peer = self.log_in(ListMailbox([GREEN]))
    peer.say(LOGIN)
    peer.vanish()
    self.assertEqual(self.realm.logouts, self.realm.logins)


def check_a_quit_that_fails(self: DefectTests) -> None:
    mailbox = ListMailbox([GREEN])
    mailbox.faults["sync"] = OSError("no space")
    peer = self.log_in(DeferredMailbox(mailbox))
    self.assertEqual(self.statuses(peer, b"DELE 1\r\nQUIT\r\n"), [b"+OK", b"-ERR"])
    self.assertTrue(peer.closed)


def check_a_quit_that_takes_time(self: DefectTests) -> None:
    peer = self.log_in(DeferredMailbox(ListMailbox([GREEN]), held=["sync"]))
    self.assertEqual(self.statuses(peer, b"QUIT\r\n"), [])


def check_deleted_messages_count_nothing(self: DefectTests) -> None:
    peer = self.log_in(ListMailbox([GREEN, BLUE]))
    self.assertEqual(self.said(peer, b"DELE 1\r\nSTAT\r\n")[1], b"+OK 1 20")
    self.assertEqual(self.said(peer, b"LIST\r\n")[1:], [b"2 20", b"."])
    self.assertEqual(self.said(peer, b"UIDL\r\n")[1:], [b"2 id1", b"."])


def check_marks_of_a_client_that_vanished(self: DefectTests) -> None:
    mailbox = ListMailbox([GREEN])
    peer = self.log_in(mailbox)
    peer.say(b"DELE 1\r\n")
    peer.vanish()
    self.assertEqual(mailbox.marked, set())


def check_deleting_twice(self: DefectTests) -> None:
    peer = self.log_in(ListMailbox([GREEN]))
    self.assertEqual(self.statuses(peer, b"DELE 1\r\nDELE 1\r\nLIST 1\r\n"), [b"+OK", b"-ERR", b"-ERR"])


def check_uidl_of_one(self: DefectTests) -> None:
    peer = self.log_in(ListMailbox([GREEN, BLUE]))
    self.assertEqual(self.said(peer, b"UIDL 2\r\n"), [b"+OK 2 id1"])


def check_numbers(self: DefectTests) -> None:
    peer = self.log_in(ListMailbox([GREEN] * 12))
    self.assertEqual(self.statuses(peer, b"LIST 1_0\r\nLIST +1\r\nDELE 0\r\n"), [b"-ERR"] * 3)


def check_a_message_that_cannot_be_had(self: DefectTests) -> None:
    mailbox = ListMailbox([GREEN])
    peer = self.log_in(mailbox)
    mailbox.faults["getMessage"] = OSError("no disk")
    self.assertEqual(self.statuses(peer, b"RETR 1\r\nNOOP\r\n"), [b"-ERR", b"+OK"])
    self.flushLoggedErrors(OSError)


def check_a_client_that_takes_nothing(self: DefectTests) -> None:
    peer = self.log_in(ListMailbox([b"x" * 1_000_000]))
    peer.reading_octets = 0
    peer.say(b"RETR 1\r\n")
    peer.advance(3600, step_seconds=10)
    self.assertTrue(peer.closed)


def _played(check: Check) -> Any:
    return lambda self: self.play(check)


for _name, _check in list(globals().items()):
    if _name.startswith("check_"):
        setattr(DefectTests, _name.replace("check_", "test_", 1), _played(_check))
