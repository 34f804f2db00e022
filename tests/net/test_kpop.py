"""KPOP over transports in memory: real portal, checker and store; what Kerberos says is held by a gate."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.kerberos import Accepted
from mailgate.auth.portal import MailgatePortal
from mailgate.auth.principals import PrincipalChecker
from mailgate.auth.realm import MaildropRealm
from mailgate.errors import ConfigurationError, TicketRefused, TooBusy
from mailgate.kpop.sendauth import framed
from mailgate.model import Account, Envelope, Placement
from mailgate.net.kpop import KPOPFactory
from mailgate.pop3.policy import Limits, Policy
from mailgate.principals import Rules, parse_principal
from mailgate.stores.memory import MemoryStore
from mailgate.testing.peers import FAR_AWAY, Peer
from tests.pop3.maildrops import Gate

VERSIONS = framed(b"KRB5_SENDAUTH_V1.0\0") + framed(b"KPOPV1.0\0")
EXCHANGE = VERSIONS + framed(b"alice")
OPENED = b"\0" + framed(b"") + b"+OK mailgate ready\r\n"
ERROR = b"\x7eKRB-ERROR"
ALICE = b"USER alice\r\nPASS hej\r\n"
WELCOME = b"+OK send the password\r\n+OK maildrop has 1 messages (12 octets)\r\n"
REFUSED = b"-ERR [AUTH] login refused\r\n"


class FakeAcceptor:
    """Takes a principal's name for its ticket; "mutual NAME" gets an AP-REP, a fault's name the fault."""

    FAULTS = {b"replay": TicketRefused("Request is a replay", ERROR),
              b"ours": TicketRefused("no keytab", ERROR, ours=True),
              b"busy": TooBusy("many"), b"broken": ConfigurationError(["no libkrb5"]),
              b"bug": ZeroDivisionError()}

    def __init__(self) -> None:
        self.gate = Gate()
        self.peers: list[str | None] = []
        self.stopped = False

    def accept(self, request: bytes, peer: str | None) -> Deferred[Accepted]:
        self.peers.append(peer)
        return self.gate.passage(lambda: self._accept(request))

    def _accept(self, request: bytes) -> Accepted:
        if request in self.FAULTS:
            raise self.FAULTS[request]
        mutual, _, name = request.rpartition(b" ")
        return Accepted(parse_principal(f"{name.decode()}@TEST.EXAMPLE"), b"\x6frep" if mutual else None)

    def faults(self) -> Any:
        raise NotImplementedError

    def stop(self) -> None:
        self.stopped = True


class KpopCase(SynchronousTestCase):
    policy = Policy(limits=Limits(failure_delay_seconds=2.0, login_seconds=60.0, failed_logins=10))

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock)
        self.successResultOf(self.store.start())
        self.successResultOf(self.store.accounts.add([
            Account("alice", addresses=("alice@mail.example",)), Account("bob"),
            Account("gone", disabled=True), Account("shop", sdps=True, domains=("shop.example",))]))
        for maildrop in ("alice", "bob"):
            delivery = self.store.deliver()
            delivery.write(b"a: b\r\n\r\nxy\r\n")
            self.successResultOf(delivery.commit([Placement(maildrop, None, Envelope(b"", b"a", 0))]))
        self.always = self.clock.getDelayedCalls()
        self.acceptor = FakeAcceptor()
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def tearDown(self) -> None:
        gc.collect()    # a Deferred that nobody listens to speaks of its failure when it goes
        self.assertEqual(self.flushLoggedErrors(), [])

    def factory(self, rules: Rules | None = None, **more: Any) -> KPOPFactory:
        checker = PrincipalChecker(rules or Rules.of_realms(["TEST.EXAMPLE"]), self.store.accounts)
        portal = MailgatePortal(MaildropRealm(self.store), [checker])
        self.made = KPOPFactory(portal, self.acceptor, clock=self.clock, **{"policy": self.policy, **more})
        return self.made

    def connect(self, factory: KPOPFactory | None = None, **how: Any) -> Peer:
        return Peer(factory or self.factory(), clock=self.clock, **how)

    def log(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    def leases(self) -> int:
        """Return how many leases are out."""
        return sum(len(drop.leases) for drop in self.store._shared.maildrops.values())

    def due(self) -> list[Any]:
        """Return the delayed calls beside those that the store itself always has."""
        return [call for call in self.clock.getDelayedCalls() if call not in self.always]

    def nothing_left(self) -> None:
        self.assertEqual(self.leases(), 0)
        self.assertEqual(self.due(), [])
        self.assertEqual(self.made.idle.watched, set())


class ConversationTests(KpopCase):
    def test_silent_until_the_client_speaks(self) -> None:
        peer = self.connect()
        self.assertEqual(peer.received, b"")
        peer.say(VERSIONS[:-1])
        self.assertEqual(peer.received, b"")
        peer.say(VERSIONS[-1:])
        self.assertEqual(peer.received, b"\0")

    def test_one_burst(self) -> None:
        """The exchange, USER, PASS and commands in one write are answered in order."""
        peer = self.connect()
        peer.say(EXCHANGE + ALICE + b"STAT\r\nQUIT\r\n")
        self.assertEqual(peer.received, OPENED + WELCOME + b"+OK 1 12\r\n+OK goodbye\r\n")
        self.assertTrue(peer.closed)
        self.nothing_left()

    def test_every_cut(self) -> None:
        octets = EXCHANGE + ALICE + b"QUIT\r\n"
        factory = self.factory()
        for at in range(len(octets) + 1):
            peer = self.connect(factory)
            peer.say(octets[:at])
            peer.say(octets[at:])
            self.assertEqual(peer.received, OPENED + WELCOME + b"+OK goodbye\r\n", at)
            self.nothing_left()

    def test_mutual(self) -> None:
        peer = self.connect()
        peer.say(VERSIONS + framed(b"mutual alice"))
        self.assertEqual(peer.received, b"\0" + framed(b"") + framed(b"\x6frep") + b"+OK mailgate ready\r\n")

    def test_slow_judgement(self) -> None:
        """What comes meanwhile waits, bounded; a pause of the client is no silence."""
        self.acceptor.gate.shut()
        peer = self.connect()
        peer.say(EXCHANGE + ALICE)
        peer.say(b"NOOP\r\n" * 50_000)
        self.assertEqual((peer.received, peer.heard), (b"\0", False))
        peer.advance(300)
        self.assertFalse(peer.closed)
        self.acceptor.gate.open()
        peer.settle()
        self.assertTrue(peer.received.startswith(OPENED + WELCOME))
        self.assertEqual(peer.received.count(b"+OK nothing done\r\n"), 50_000)

    def test_half_tickets(self) -> None:
        """What clients begin to say and do not end is bounded for all together, and closed beyond that."""
        factory = self.factory(policy=Policy(limits=Limits(unread_octets=100_000)))
        peers = [self.connect(factory) for _ in range(3)]
        for peer in peers:
            peer.say(VERSIONS + framed(b"x" * 50_000)[:40_000])
        self.assertEqual([peer.closed for peer in peers], [False, False, True])
        self.assertEqual(factory.unread.held, 80_000)
        peers.append(self.connect(factory))
        peers[-1].say(EXCHANGE + ALICE)
        self.assertEqual(peers[-1].received, OPENED + WELCOME)
        for peer in peers:
            peer.vanish()
        self.assertEqual(factory.unread.held, 0)
        self.nothing_left()

    def test_half_closed_behind_a_burst(self) -> None:
        """A client that closes its half behind QUIT is still served; one before the AP-REQ is not."""
        self.acceptor.gate.shut()
        peer = self.connect()
        peer.say(EXCHANGE + ALICE + b"STAT\r\n")
        peer.protocol.readConnectionLost()     # type: ignore[attr-defined]
        self.acceptor.gate.open()
        peer.settle()
        self.assertEqual(peer.received, OPENED + WELCOME + b"+OK 1 12\r\n")
        self.assertTrue(peer.closed)
        peer = self.connect()
        peer.say(VERSIONS)
        peer.protocol.readConnectionLost()     # type: ignore[attr-defined]
        peer.settle()
        self.assertTrue(peer.closed)
        self.nothing_left()

    def test_capabilities(self) -> None:
        """USER is announced and works from anywhere, AUTH neither; whatever plaintext_login says."""
        peer = self.connect(self.factory(policy=Policy(plaintext_login=False)), address=FAR_AWAY)
        peer.say(EXCHANGE + b"CAPA\r\nAUTH\r\nAUTH PLAIN\r\nAPOP alice 0123456789abcdef0123456789abcdef\r\n")
        words = bytes(peer.received).split(b"\r\n")
        self.assertIn(b"USER", words)
        self.assertEqual([word for word in words if word.startswith((b"SASL", b"STLS"))], [])
        self.assertEqual(words[-4:], [b"-ERR command refused"] * 3 + [b""])
        self.assertEqual(self.acceptor.peers, ["203.0.113.7"])

    def test_any_password(self) -> None:
        """Any text is taken for one, none too, and no log line holds it."""
        for password in (b"", b" ", b"krb_ticket", b"my real secret", b"\xff\xfe", b"a b c"):
            peer = self.connect()
            peer.say(EXCHANGE + b"USER alice\r\nPASS " + password + b"\r\nQUIT\r\n")
            self.assertEqual(peer.received, OPENED + WELCOME + b"+OK goodbye\r\n", password)
        peer = self.connect()
        peer.say(EXCHANGE + b"PASS x\r\nUSER alice\r\nPASS\r\n")
        self.assertEqual(peer.received, OPENED + b"-ERR command refused\r\n" + WELCOME)
        self.assertEqual([line for line in self.log() if "secret" in line], [])


class WhoTests(KpopCase):
    def replies(self, principal: bytes, *users: bytes, rules: Rules | None = None) -> list[bytes]:
        """Return what each PASS is answered with, each answer waited for."""
        peer = self.connect(self.factory(rules))
        peer.say(VERSIONS + framed(principal))
        found = []
        for user in users:
            peer.received.clear()
            peer.say(b"USER " + user + b"\r\nPASS x\r\n")
            early = bytes(peer.received)
            peer.advance(2.5, 0.5)
            late = bytes(peer.received)[len(early):]
            self.assertEqual(early.count(b"\r\n"), 1 if late else 2)     # a refusal keeps its time
            found.append((early + late).removeprefix(b"+OK send the password\r\n"))
        peer.vanish()
        self.nothing_left()
        return found

    def test_refusals_are_alike(self) -> None:
        """Somebody else's maildrop, one that is not there and a disabled one: the same, and so late."""
        users = (b"bob", b"nobody", b"gone", b"bob@shop", b"shop", b"\xff", b"a" * 200)
        self.assertEqual(self.replies(b"alice", *users), [REFUSED] * len(users))
        self.assertEqual(self.replies(b"gone", b"gone"), [REFUSED])
        self.assertEqual(self.replies(b"alice/admin", b"alice"), [REFUSED])
        self.assertIn("alice/admin@TEST.EXAMPLE may not open alice: no rule opens it", self.log())

    def test_session_goes_on(self) -> None:
        """After a refusal the right maildrop can be asked for, by any of its names."""
        for name in (b"alice", b"ALICE", b"alice@mail.example"):
            refused, granted = self.replies(b"alice", b"bob", name)
            self.assertEqual(refused, REFUSED)
            self.assertEqual(granted, b"+OK maildrop has 1 messages (12 octets)\r\n")
        self.assertIn("alice@TEST.EXAMPLE opens alice@mail.example", self.log())

    def test_disabled_while_remembered(self) -> None:
        """An account that changed between check and lease stays out: its version is compared."""
        checker = PrincipalChecker(Rules.of_realms(["TEST.EXAMPLE"]), self.store.accounts)
        from mailgate.auth.principals import PrincipalLogin
        admission = self.successResultOf(checker.requestAvatarId(
            PrincipalLogin(parse_principal("alice@TEST.EXAMPLE"), b"alice")))
        account = self.successResultOf(self.store.accounts.get("alice"))
        self.assertEqual((admission.account, admission.version), ("alice", account.version))

    def test_too_many_refusals(self) -> None:
        """The connection is closed behind them, as behind wrong passwords."""
        limits = Limits(failure_delay_seconds=0, failed_logins=2)
        peer = self.connect(self.factory(policy=Policy(limits=limits)))
        peer.say(EXCHANGE + b"USER bob\r\nPASS x\r\n" * 3)
        self.assertEqual(peer.received.count(REFUSED), 2)
        self.assertTrue(peer.closed)


class EndTests(KpopCase):
    def test_refused_tickets(self) -> None:
        """The KRB-ERROR goes out and the connection is closed; what is our fault is an error in the log."""
        for request, sent, told in (
                (b"replay", framed(ERROR),
                 'login refused for 127.0.0.1 (kpop, ticket) as "": Request is a replay'),
                (b"ours", framed(ERROR), "ticket from 127.0.0.1 refused: no keytab"),
                (b"busy", b"", "a ticket from 127.0.0.1 cannot be judged: many"),
                (b"broken", b"", "a ticket from 127.0.0.1 cannot be judged: no libkrb5")):
            peer = self.connect()
            peer.say(VERSIONS + framed(request) + ALICE)
            self.assertEqual((peer.received, peer.closed), (b"\0" + sent, True), request)
            self.assertEqual(self.log()[-1], told)
            self.nothing_left()

    def test_bug_closes(self) -> None:
        """What nobody foresaw is logged with its traceback, and the client goes without a word."""
        peer = self.connect()
        peer.say(VERSIONS + framed(b"bug"))
        self.assertEqual((peer.received, peer.closed), (b"\0", True))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.nothing_left()

    def test_pop3_client(self) -> None:
        """It is recognized, told in the log, and closed without an octet."""
        for first in (b"USER alice\r\nPASS secret\r\n", b"CAPA\r\n", b"AUTH PLAIN AGEAYg==\r\n"):
            peer = self.connect()
            peer.say(first)
            self.assertEqual((peer.received, peer.closed), (b"", True))
            self.assertRegex(self.log()[-1], r"^KPOP of 127.0.0.1 closed: a POP3 client")
        self.assertEqual([line for line in self.log() if "secret" in line], [])
        self.nothing_left()

    def test_lengths_cost_no_memory(self) -> None:
        """Nothing is kept for a length past its limit, however much follows."""
        for octets in (b"\xff" * 4, VERSIONS + b"\x7f\xff\xff\xff", VERSIONS[:23] + b"\0\0\1\0"):
            peer = self.connect()
            peer.say(octets + b"x" * 1_000_000)
            self.assertTrue(peer.closed)
            self.nothing_left()

    def test_slow_clients(self) -> None:
        """The time of a login is for the whole exchange: an octet a second does not stretch it."""
        peer = self.connect()
        peer.advance(59)
        self.assertFalse(peer.closed)
        peer.advance(6)
        self.assertEqual((peer.closed, peer.received), (True, b""))
        peer = self.connect()
        for at in range(66):
            peer.say(framed(b"x" * 64)[at:at + 1])
            peer.advance(1)
        self.assertTrue(peer.closed)
        self.assertEqual(self.log()[-1], "no sendauth exchange of 127.0.0.1 came to its end")
        peer = self.connect()
        peer.advance(30)
        peer.say(EXCHANGE)
        peer.advance(29)
        peer.say(b"NOOP\r\n")
        self.assertFalse(peer.closed)
        peer.advance(6)
        self.assertTrue(peer.closed)        # exchange and login have their time together
        peer = self.connect()
        peer.advance(59)
        peer.say(EXCHANGE + ALICE)
        peer.advance(590, 10)
        self.assertFalse(peer.closed)       # and in a session it is silence that counts
        peer.advance(20)
        self.assertTrue(peer.closed)
        self.nothing_left()

    def test_vanishing_at_every_octet(self) -> None:
        """Nothing is left: no lease, no delayed call, no connection; whatever answers later."""
        octets = EXCHANGE + ALICE + b"STAT\r\n"
        factory = self.factory()
        for at in range(len(octets) + 1):
            for reason in (ConnectionLost(), ConnectionDone()):
                peer = self.connect(factory)
                peer.say(octets[:at])
                peer.vanish(reason)
                self.nothing_left()

    def test_vanishing_while_a_ticket_is_judged(self) -> None:
        for request in (b"alice", b"replay", b"busy"):
            self.acceptor.gate.shut()
            peer = self.connect()
            peer.say(VERSIONS + framed(request))
            (waiting, _), = self.acceptor.gate.waiting
            cancelled: list[Any] = []
            peer.vanish()
            waiting.addErrback(lambda failure, told=cancelled: told.append(failure.check(CancelledError)))
            self.acceptor.gate.open()
            self.nothing_left()

    def test_shutdown(self) -> None:
        """Whoever is in the exchange is closed without a word; the acceptor's threads end."""
        factory = self.factory()
        self.acceptor.gate.shut()
        peers = [self.connect(factory) for _ in range(3)]
        peers[1].say(VERSIONS)
        peers[2].say(EXCHANGE)
        stopped = factory.shutdown()
        for peer in peers:
            peer.settle()
        self.successResultOf(stopped)
        self.assertEqual([bytes(peer.received) for peer in peers], [b"", b"\0", b"\0"])
        self.assertEqual([peer.closed for peer in peers], [True] * 3)
        self.assertTrue(self.acceptor.stopped)
        self.acceptor.gate.open()
        self.nothing_left()
