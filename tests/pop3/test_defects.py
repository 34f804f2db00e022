"""What `twisted.mail.pop3.POP3` does wrong and this server does not.

Each defect is one test body. `OurTests` runs it on our server, where it passes; `StockTests` runs
it on Twisted's own class, where it must fail: a claim about other people's code stays true only as
long as it is tried. Both serve the same messages to the same client.
"""

from __future__ import annotations

import gc
import io
from collections.abc import Callable
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.defer import fail, succeed
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock, Cooperator
from twisted.mail.interfaces import IMailboxPOP3
from twisted.mail.pop3 import POP3
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailgate.errors import StoreUnavailable
from mailgate.testing.peers import Peer
from tests.pop3.maildrops import PASSWORDS, Gate, Mail, Users, crlf_form, mail_of
from tests.pop3.staging import Server

CHUNK_OCTETS = 16384    # twisted.protocols.basic.FileSender.CHUNK_SIZE


class Ours:
    """Our server, with the switches that the test bodies need."""

    def __init__(self, mails: list[Mail]) -> None:
        self.server = Server(mails)
        self.clock = self.server.clock
        self.login_gate = self.server.realm.opening
        self.fetch_gate = Gate()
        self.commit_fails = False
        self.server.realm.prepare = self._prepare

    def _prepare(self, drop: Any) -> None:
        drop.fetching = self.fetch_gate
        if self.commit_fails:
            drop.committing.fault = StoreUnavailable("down")

    def connect(self) -> Peer:
        """Return a peer that was greeted."""
        return self.server.connect()

    @property
    def sessions(self) -> tuple[int, int]:
        """Logins and logouts."""
        return len(self.server.realm.opened), self.server.realm.logouts


@implementer(IMailboxPOP3)
class Mailbox:
    """The same messages as Twisted's interface asks for them: 0-based, LF line ends in files."""

    loginDelay = messageExpiration = 0

    def __init__(self, mails: list[Mail], fetch_gate: Gate, commit_fails: bool) -> None:
        self.mails = mails
        self.deleted: set[int] = set()
        self.fetch_gate = fetch_gate
        self.commit_fails = commit_fails

    def listMessages(self, i: int | None = None) -> Any:
        """Return one size or all; a deleted message's is 0, as the interface says."""
        if i is not None:
            return 0 if i in self.deleted else self._mail(i).octets
        return [0 if i in self.deleted else mail.octets for i, mail in enumerate(self.mails)]

    def _mail(self, i: int) -> Mail:
        if i >= len(self.mails):
            raise ValueError("no such message")
        return self.mails[i]

    def getMessage(self, i: int) -> Any:
        """Return a file, at once or when the gate opens."""
        return self.fetch_gate.passage(lambda: io.BytesIO(self._mail(i).crlf.replace(b"\r\n", b"\n")))

    def getUidl(self, i: int) -> bytes:
        """Return the unique-id."""
        return self._mail(i).unique_id or b"uid-%d" % (i + 1)

    def deleteMessage(self, i: int) -> None:
        """Mark it."""
        self.deleted.add(i)

    def undeleteMessages(self) -> None:
        """Unmark all."""
        self.deleted.clear()

    def sync(self) -> Any:
        """Remove for good, or fail to."""
        return fail(StoreUnavailable("down")) if self.commit_fails else succeed(None)


class Stock:
    """Twisted's server over the same messages; its clocks are moved by the test, its code is untouched."""

    def __init__(self, mails: list[Mail]) -> None:
        self.mails = mails
        self.clock = Clock()
        self.login_gate, self.fetch_gate = Gate(), Gate()
        self.commit_fails = False
        self.logins = self.logouts = 0

    def connect(self) -> Peer:
        """Return a peer that was greeted."""
        cooperator = Cooperator(scheduler=lambda call: self.clock.callLater(0, call))

        class Held(POP3):
            callLater = staticmethod(self.clock.callLater)
            schedule = staticmethod(cooperator.coiterate)
            portal = Portal(self, [Users(PASSWORDS)])

        factory = Factory.forProtocol(Held)
        factory.noisy = False
        return Peer(factory, clock=self.clock)

    def requestAvatar(self, avatarId: bytes, mind: object, *interfaces: Any) -> Any:
        """The realm."""
        return self.login_gate.passage(self._open)

    def _open(self) -> Any:
        self.logins += 1

        def logout() -> None:
            self.logouts += 1

        return IMailboxPOP3, Mailbox(self.mails, self.fetch_gate, self.commit_fails), logout

    @property
    def sessions(self) -> tuple[int, int]:
        """Logins and logouts."""
        return self.logins, self.logouts


class Defects(SynchronousTestCase):
    """The bodies. Each takes what serves the messages it asks for."""

    def log_in(self, served: Any) -> Peer:
        """Return a logged-in peer with every reply forgotten."""
        peer = served.connect()
        peer.say(b"USER mrose\r\nPASS secret\r\n")
        peer.received.clear()
        return peer

    def replies(self, peer: Peer, octets: bytes) -> list[bytes]:
        """Say something and return the lines that came."""
        peer.received.clear()
        peer.say(octets)
        return bytes(peer.received).splitlines()

    def body(self, peer: Peer, number: int) -> bytes:
        """Fetch a message as a client does: lines up to a lone dot, one leading dot taken away."""
        lines = self.replies(peer, b"RETR %d\r\n" % number)[1:]
        kept = lines[:lines.index(b".")]
        return b"".join(line.removeprefix(b".") + b"\r\n" for line in kept)

    def ordinary(self, serve: Callable[..., Any]) -> None:
        """The control: what both servers do well. A rig that breaks one of them would show here."""
        served = serve([Mail(b"Subject: x\n\nbody\n.dot\n"), mail_of(200)])
        peer = self.log_in(served)
        self.assertEqual(self.replies(peer, b"STAT\r\n"), [b"+OK 2 %d" % (26 + 200)])
        self.assertEqual(self.body(peer, 1), b"Subject: x\r\n\r\nbody\r\n.dot\r\n")
        self.assertEqual(self.replies(peer, b"LIST 2\r\nXYZZY\r\n")[0], b"+OK 2 200")
        self.assertEqual(self.replies(peer, b"DELE 1\r\nQUIT\r\n")[1][:3], b"+OK")
        self.assertEqual((peer.closed, served.sessions), (True, (1, 1)))

    def dot_at_chunk_edge(self, serve: Callable[..., Any]) -> None:
        """A dot that begins a line at a 16 KiB edge of the message is stuffed: mail cannot end the reply."""
        head = b"Subject: x\n\n"
        content = head + b"x" * (CHUNK_OCTETS - len(head) - 1) + b"\n.\nDELE 1\nafter\n"
        self.assertEqual(self.body(self.log_in(serve([Mail(content)])), 1), crlf_form(content))

    def dot_on_first_line(self, serve: Callable[..., Any]) -> None:
        """A dot that begins the message is stuffed."""
        self.assertEqual(self.body(self.log_in(serve([Mail(b".first\nsecond\n")])), 1),
                         b".first\r\nsecond\r\n")

    def wrong_argument_count(self, serve: Callable[..., Any], octets: bytes) -> None:
        """Too many or too few arguments are answered by one `-ERR`; nothing raises."""
        peer = self.log_in(serve([mail_of(120)]))
        lines = self.replies(peer, octets)
        self.assertEqual((len(lines), lines[0][:5]), (1, b"-ERR "))
        self.assertEqual(self.replies(peer, b"NOOP\r\n")[0][:3], b"+OK")

    def early_behind_login(self, serve: Callable[..., Any]) -> None:
        """Commands pipelined behind a login that takes its time are carried out after it."""
        served = serve([mail_of(120)])
        served.login_gate.shut()
        peer = served.connect()
        lines = self.replies(peer, b"USER mrose\r\nPASS secret\r\nSTAT\r\n")
        served.login_gate.open()
        peer.settle()
        lines = bytes(peer.received).splitlines()
        self.assertEqual([line[:3] for line in lines], [b"+OK"] * 3)
        self.assertEqual(lines[2], b"+OK 1 120")

    def lost_behind_retr(self, serve: Callable[..., Any]) -> None:
        """Commands pipelined behind a RETR are answered one by one, a bad one among them too."""
        served = serve([mail_of(120)])
        served.fetch_gate.shut()
        peer = self.log_in(served)
        peer.say(b"RETR 1\r\nXYZZY\r\nSTAT\r\n")
        served.fetch_gate.open()
        peer.settle()
        lines = bytes(peer.received).splitlines()
        after = lines[lines.index(b".") + 1:]
        self.assertEqual([line[:4] for line in after], [b"-ERR", b"+OK "])

    def unbounded_behind_retr(self, serve: Callable[..., Any]) -> None:
        """Behind a RETR that waits, the server stops reading at some point."""
        served = serve([mail_of(120)])
        served.fetch_gate.shut()
        peer = self.log_in(served)
        peer.say(b"RETR 1\r\n")
        for _ in range(200):
            peer.say(b"NOOP\r\n" * 1000)
        self.assertGreater(peer.unheard, 1_000_000)

    def login_after_disconnect(self, serve: Callable[..., Any]) -> None:
        """A login that finishes when the client has gone is logged out."""
        served = serve([mail_of(120)])
        served.login_gate.shut()
        peer = served.connect()
        peer.say(b"USER mrose\r\nPASS secret\r\n")
        peer.vanish()
        served.login_gate.open()
        peer.settle()
        logins, logouts = served.sessions
        self.assertEqual(logouts, logins)

    def second_login(self, serve: Callable[..., Any]) -> None:
        """However often a client logs in, every login is logged out when it goes."""
        served = serve([mail_of(120)])
        peer = self.log_in(served)
        peer.say(b"USER xyz\r\nPASS slot one\r\n")
        peer.vanish()
        logins, logouts = served.sessions
        self.assertEqual(logouts, logins)

    def failed_quit(self, serve: Callable[..., Any]) -> None:
        """QUIT whose removal failed is not answered `+OK`."""
        served = serve([mail_of(120)])
        served.commit_fails = True
        peer = self.log_in(served)
        lines = self.replies(peer, b"DELE 1\r\nQUIT\r\n")
        self.assertEqual([line[:4] for line in lines], [b"+OK ", b"-ERR"])

    def deleted_in_stat(self, serve: Callable[..., Any]) -> None:
        """A marked message does not count in STAT."""
        peer = self.log_in(serve([mail_of(120), mail_of(200)]))
        self.assertEqual(self.replies(peer, b"DELE 1\r\nSTAT\r\n")[1], b"+OK 1 200")

    def deleted_in_list(self, serve: Callable[..., Any]) -> None:
        """A marked message is not listed."""
        peer = self.log_in(serve([mail_of(120), mail_of(200)]))
        self.assertEqual(self.replies(peer, b"DELE 1\r\nLIST\r\n")[2:], [b"2 200", b"."])

    def deleted_in_uidl(self, serve: Callable[..., Any]) -> None:
        """A marked message has no line in UIDL."""
        peer = self.log_in(serve([mail_of(120), mail_of(200)]))
        self.assertEqual(self.replies(peer, b"DELE 1\r\nUIDL\r\n")[2:], [b"2 uid-2", b"."])

    def deleted_by_number(self, serve: Callable[..., Any]) -> None:
        """`LIST n` of a marked message is refused."""
        peer = self.log_in(serve([mail_of(120), mail_of(200)]))
        self.assertEqual(self.replies(peer, b"DELE 1\r\nLIST 1\r\n")[1][:4], b"-ERR")

    def uidl_number(self, serve: Callable[..., Any]) -> None:
        """`UIDL n` answers the number and the unique-id."""
        peer = self.log_in(serve([mail_of(120), mail_of(200)]))
        self.assertEqual(self.replies(peer, b"UIDL 2\r\n"), [b"+OK 2 uid-2"])

    def user_after_login(self, serve: Callable[..., Any]) -> None:
        """USER belongs to AUTHORIZATION; after the login it is refused."""
        peer = self.log_in(serve([mail_of(120)]))
        self.assertEqual(self.replies(peer, b"USER mrose\r\n")[0][:4], b"-ERR")

    def empty_message(self, serve: Callable[..., Any]) -> None:
        """An empty message can be fetched; it is not a deleted one."""
        lines = self.replies(self.log_in(serve([mail_of(0)])), b"RETR 1\r\n")
        self.assertEqual((lines[0][:3], lines[-1]), (b"+OK", b"."))


BODIES = ["dot_at_chunk_edge", "dot_on_first_line", "early_behind_login", "lost_behind_retr",
          "unbounded_behind_retr", "login_after_disconnect", "second_login", "failed_quit", "deleted_in_stat",
          "deleted_in_list", "deleted_in_uidl", "deleted_by_number", "uidl_number", "user_after_login",
          "empty_message"]
WRONG_COUNTS = [b"DELE\r\n", b"NOOP x\r\n", b"STAT 1\r\n", b"AUTH PLAIN AA==\r\n", b"DELE x\r\n",
                b"TOP 1\r\n"]


class OurTests(Defects):
    """Our server has none of them."""

    def test_ordinary_session(self) -> None:
        """The control passes."""
        self.ordinary(Ours)

    def test_wrong_argument_counts(self) -> None:
        """Every wrong argument count is answered."""
        for octets in WRONG_COUNTS:
            self.wrong_argument_count(Ours, octets)


class StockTests(Defects):
    """Twisted's class has all of them."""

    def tearDown(self) -> None:
        gc.collect()    # a Deferred that it forgot speaks of its failure here, not in another test
        self.flushLoggedErrors()

    def test_ordinary_session(self) -> None:
        """The control passes."""
        self.ordinary(Stock)
        self.flushLoggedErrors()

    def test_wrong_argument_counts(self) -> None:
        """Every wrong argument count raises out of dataReceived."""
        for octets in WRONG_COUNTS:
            with self.assertRaises(TypeError):
                self.wrong_argument_count(Stock, octets)
        self.flushLoggedErrors()


def _add_tests() -> None:
    for name in BODIES:
        body = getattr(Defects, name)

        def passes(self: Defects, body: Any = body) -> None:
            body(self, Ours)

        def fails(self: Defects, body: Any = body) -> None:
            with self.assertRaises(self.failureException):
                body(self, Stock)
            self.flushLoggedErrors()

        passes.__doc__ = fails.__doc__ = body.__doc__
        setattr(OurTests, f"test_{name}", passes)
        setattr(StockTests, f"test_{name}", fails)


_add_tests()
