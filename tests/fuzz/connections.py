"""Targets that are whole servers: protocol, portal, checkers and store together, over transports in memory.

What no input may do: leave an exception, a traceback in the log, a log line that is not one printable
line, a reply with a client's control characters, or anything behind when the client has gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from mailgate.auth import checkers
from mailgate.auth.checkers import StoreChecker
from mailgate.auth.hashing import Inline
from mailgate.auth.keeping import verifiers_for
from mailgate.auth.kerberos import Accepted
from mailgate.auth.portal import MailgatePortal
from mailgate.auth.principals import PrincipalChecker
from mailgate.auth.realm import MaildropRealm
from mailgate.errors import TicketRefused
from mailgate.lmtp.policy import LmtpPolicy
from mailgate.model import Account, Admission
from mailgate.net.kpop import KPOPFactory
from mailgate.net.lmtp import LMTPFactory
from mailgate.net.pop3 import POP3Factory
from mailgate.net.proxy import ProxyFactory, Trusted
from mailgate.pop3.policy import Limits, Policy
from mailgate.principals import Principal, Rules
from mailgate.routing.router import Router
from mailgate.stores.memory import MemoryStore
from mailgate.testing.peers import FAR_AWAY, Peer
from tests.fuzz.seeds import KPOP_SEED, LMTP_SEEDS, LMTP_WORDS, POP3_LINES, POP3_SEEDS
from tests.fuzz.target import Target, chance, hold, one_line, pieces, reply_lines
from tests.fuzz.wire import PROXY_SEEDS, V2

POLICY = Policy(plaintext_login=True, sdps=True, last=True, apop=True, hostname=b"mail.example.org",
                mechanisms=(b"PLAIN", b"LOGIN", b"CRAM-MD5", b"SCRAM-SHA-256", b"SCRAM-SHA-1"),
                limits=Limits(failed_logins=4, auth_line_octets=4096, failure_delay_seconds=2))
ACCOUNTS = (Account("mrose", verifiers=verifiers_for([b"secret"], ("scram", "apop")), addresses=("mrose@x",)),
            Account("shire", sdps=True, verifiers=verifiers_for([b"secret"], ("apop",)),
                    domains=("shire.x",)),
            Account("off", verifiers=verifiers_for([b"secret"], ("apop",)), addresses=("off@x",),
                    disabled=True))
REFUSALS_SECONDS = 400.0    # after so long everything that was put off has been said


def outcome(pending: Deferred[Any]) -> Any:
    """Return what a Deferred that has fired holds. Raises: what it failed with."""
    found: list[Any] = []
    pending.addBoth(found.append)
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return found[0]


class Quick(Inline):
    """Computes no hash for names that nobody has: the time is no matter here."""

    def run(self, network: str, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return succeed([False]) if args[:1] == ((checkers.DUMMY_VERIFIER,),) else super().run(network,
                                                                                              function, *args)


class House:
    """A store in memory with accounts, and factories over it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(10 ** 9)
        self.store = MemoryStore(clock=self.clock)
        self.store.start()
        self.store.accounts.add(ACCOUNTS)
        self.realm = MaildropRealm(self.store)

    def nobody_is_in(self) -> None:
        """Open every maildrop; raises MaildropInUse where a lease was left."""
        for name in ("mrose", "shire"):
            account = outcome(self.store.accounts.get(name))
            outcome(outcome(self.store.open(Admission(name, None, name, account.version))).release())

    def pop3(self) -> POP3Factory:
        checker = StoreChecker(self.store.accounts, Quick())
        return POP3Factory(MailgatePortal(self.realm, [checker]), policy=POLICY, clock=self.clock)

    def lmtp(self) -> LMTPFactory:
        return LMTPFactory(self.store, Router(self.store.accounts, "x"), hostname="mail.example.org",
                           policy=LmtpPolicy(size_octets=2000), clock=self.clock)

    def kpop(self) -> KPOPFactory:
        checker = PrincipalChecker(Rules.of_realms(["TEST.EXAMPLE"]), self.store.accounts, [])
        return KPOPFactory(MailgatePortal(self.realm, [checker]), Acceptor(), policy=POLICY, clock=self.clock)


class Acceptor:
    """Takes any request for the ticket of the name that it spells; one that is too short for none."""

    def accept(self, request: bytes, peer: str | None) -> Deferred[Accepted]:
        if len(request) < 3:
            return fail(TicketRefused("too short", b"\x7eKRB-ERROR"))
        name = request.decode("utf-8", "surrogateescape").split("/")
        return succeed(Accepted(Principal(tuple(name), "TEST.EXAMPLE"),
                                b"\x6frep" if len(request) % 2 else None))

    def faults(self) -> Deferred[list[str]]:
        return succeed([])

    def stop(self) -> Deferred[None]:
        return succeed(None)


@contextmanager
def watched_log() -> Iterator[None]:
    """Raise AssertionError for a traceback in the log, and for a line that a client could have formed."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(events.append)
    for event in events:
        if "log_failure" in event:
            raise event["log_failure"].value
        one_line(formatEvent(event))


def play(factory: Any, house: House, data: bytes) -> bytes:
    """Say the input in pieces, with pauses; let the client go; return what it heard."""
    random = chance(data)
    with watched_log():
        peer = Peer(factory, clock=house.clock, address=FAR_AWAY)
        for part in pieces(data, random):
            peer.say(part)
            if random.random() < 0.3:
                peer.advance(random.choice((0.1, 2.0, 5.0)), 1.0)
        if random.random() < 0.5:
            peer.advance(REFUSALS_SECONDS, 50.0)
        peer.vanish()
        hold(not peer.transport.late, f"written too late: {peer.transport.late!r}")
        peer.advance(REFUSALS_SECONDS, 100.0)
    hold(not factory.idle.watched, "a connection is still watched")
    house.nobody_is_in()
    return bytes(peer.received)


def check_pop3_server(data: bytes) -> None:
    house = House()
    reply_lines(play(house.pop3(), house, data))


def check_lmtp_server(data: bytes) -> None:
    house = House()
    reply_lines(play(house.lmtp(), house, data))


def check_kpop_server(data: bytes) -> None:
    house = House()
    play(house.kpop(), house, data)


def check_proxied_server(data: bytes) -> None:
    house = House()
    factory = ProxyFactory(house.pop3(), Trusted([ip_network("203.0.113.0/24")]), house.clock)
    said = play(factory, house, data)
    reply_lines(said)


NAMES = (b"\r", b"\0", b"\x1b[2J", b"\xff", b"\xe2\x80\xae", b"a@b+shire")
TARGETS = {
    "pop3-server": Target(check_pop3_server, tuple(one[1:] for one in POP3_SEEDS), (
        *(line + b"\r\n" for line in POP3_LINES), *NAMES, b"x" * 300)),
    "lmtp-server": Target(check_lmtp_server,
                          tuple(one.replace(b"@x>", b"@x>") .replace(b"a@x",
                                                                     b"mrose@x") for one in LMTP_SEEDS),
                          (*LMTP_WORDS, *NAMES, b"mrose@x", b"u@shire.x")),
    "kpop-server": Target(check_kpop_server,
                          (KPOP_SEED[:36] + b"\0\0\0\x05mrose" + b"USER mrose\r\nPASS x\r\nSTAT\r\n",
                           KPOP_SEED),
                          (*(line + b"\r\n" for line in POP3_LINES), b"\0\0\0\x06replay",
                           b"\0\0\0\x0cmutual mrose", *NAMES)),
    "proxied-server": Target(check_proxied_server,
                             tuple(seed + b"USER mrose\r\nPASS secret\r\nSTAT\r\n" for seed in PROXY_SEEDS),
                             (V2, b"PROXY ", b"TCP4", b"\r\n", b"CAPA\r\n", b"\x21\x11")),
}
