"""An LMTP server over a store and a router that do what a test wants, and a TestCase that plays scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailgate.errors import NoSuchDomain, NoSuchRecipient, StoreUnavailable
from mailgate.interfaces import IDelivery, IRouter
from mailgate.lmtp.policy import LmtpPolicy
from mailgate.model import Placement, Target
from mailgate.net.lmtp import LMTPFactory
from mailgate.testing.peers import LOOPBACK, Address, Peer
from mailgate.testing.transcript import PLAYS, Play, Stage, converse

HOSTNAME = "mail.example"
ARRIVED = 1_700_000_000.0       # Tue, 14 Nov 2023 22:13:20 +0000
RECEIVED = (b"Received: from mx.example ([127.0.0.1])\r\n\tby mail.example with LMTP id ID-1\r\n"
            b"\tfor <a@x>; Tue, 14 Nov 2023 22:13:20 +0000\r\n")
NAMES = ("a", "b", "c", '"q u"', "gr\u00fc\u00df")

GREETING = """
    S: 220 mail.example LMTP mailgate
"""
LHLO = GREETING + """
    C: LHLO mx.example
    S: 250-mail.example
    S: 250-PIPELINING
    S: 250-ENHANCEDSTATUSCODES
    S: 250-CHUNKING
    S: 250-8BITMIME
    S: 250-SMTPUTF8
    S: 250 SIZE 52428800
"""
TO_A = LHLO + """
    C: MAIL FROM:<s@y>
    S: 250 2.1.0 sender ok
    C: RCPT TO:<a@x>
    S: 250 2.1.5 recipient ok
"""


@implementer(IDelivery)
class StubDelivery:
    """Keeps what it is given, says what the store was told to say."""

    def __init__(self, store: StubStore) -> None:
        self.store = store
        self.content = bytearray()
        self.octets = self.largest = self.waiting = 0
        self.placements: tuple[Placement, ...] | None = None
        self.delivery_id: str | None = None
        self.aborted = False

    def write(self, content: bytes) -> Deferred[None] | None:
        assert not self.waiting, "written to before the last write was taken"
        assert not self.aborted and self.placements is None, "written to after its end"
        self.octets += len(content)
        self.largest = max(self.largest, len(content))
        if self.store.keeping:
            self.content += content
        if self.store.write_fault is not None and self.octets > self.store.write_fault_after:
            return fail(self.store.write_fault)
        if not self.store.slow:
            return None
        self.waiting += 1
        return self.store.later(self._taken)

    def _taken(self) -> None:
        self.waiting -= 1

    def commit(self, placements: Sequence[Placement], *, all_or_nothing: bool = False,
               delivery_id: str | None = None) -> Deferred[Any]:
        assert not self.aborted and self.placements is None, "committed after its end"
        self.placements = tuple(placements)
        self.delivery_id = delivery_id
        return self.store.later(self._outcomes)

    def _outcomes(self) -> list[Any]:
        if self.store.commit_fault is not None:
            raise self.store.commit_fault
        return [self.store.outcomes.get(placement.envelope.recipient) for placement in self.placements or ()]

    def abort(self) -> None:
        self.aborted = True


class StubStore:
    """The part of an IMaildropStore that delivers. `slow`: every answer takes a turn of the clock."""

    def __init__(self, clock: Clock, *, slow: bool = False) -> None:
        self.clock = clock
        self.slow = slow
        self.keeping = True
        self.outcomes: dict[bytes, Any] = {}            # by envelope recipient
        self.commit_fault: Exception | None = None
        self.write_fault: Exception | None = None
        self.write_fault_after = 0                      # octets that are taken before
        self.deliveries: list[StubDelivery] = []

    def later(self, function: Callable[[], Any]) -> Deferred[Any]:
        if self.slow:
            return deferLater(self.clock, 0, function)
        try:
            return succeed(function())
        except Exception as fault:
            return fail(fault)

    def deliver(self) -> IDelivery:
        self.deliveries.append(StubDelivery(self))
        return self.deliveries[-1]

    @property
    def committed(self) -> list[StubDelivery]:
        return [delivery for delivery in self.deliveries if delivery.placements is not None]

    def open_deliveries(self) -> int:
        return sum(delivery.placements is None and not delivery.aborted for delivery in self.deliveries)


@implementer(IRouter)
class StubRouter:
    """Knows a few users of the domain x, and Postmaster."""

    def __init__(self, store: StubStore) -> None:
        self.store = store
        self.asked: list[bytes] = []
        self.names = set(NAMES)

    def route(self, path: bytes) -> Deferred[Target]:
        self.asked.append(path)
        return self.store.later(lambda: self._target(path))

    def _target(self, path: bytes) -> Target:
        local, mark, domain = path.decode().rpartition("@")
        if not mark:
            local, domain = domain, "x"
        if domain.lower() == "down":
            raise StoreUnavailable("the database is away")
        if domain.lower() != "x":
            raise NoSuchDomain(domain)
        if local.startswith("user") or local.lower() == "postmaster":
            return Target("host", local)
        if local not in self.names:
            raise NoSuchRecipient(local)
        return Target(local)


class Server:
    """One server with its clock, store and router; `connect` reaches it."""

    def __init__(self, *, clock: Clock | None = None, policy: LmtpPolicy = LmtpPolicy(), slow: bool = False,
                 store: Any = None, router: Any = None) -> None:
        self.clock = clock or Clock()
        if not self.clock.seconds():
            self.clock.advance(ARRIVED)
        self.stub = StubStore(self.clock, slow=slow)
        self.router = StubRouter(self.stub)
        self.factory = LMTPFactory(store or self.stub, router or self.router, hostname=HOSTNAME,
                                   policy=policy, clock=self.clock)
        self.serial = 0
        self.factory.new_id = self.new_id

    def new_id(self, arrived_ms: int) -> str:
        self.serial += 1
        return f"ID-{self.serial}"

    def connect(self, address: Address = LOOPBACK, **how: Any) -> Peer:
        """Return a peer that was greeted."""
        return Peer(self.factory, clock=self.clock, address=address, **how)

    def left_behind(self) -> list[str]:
        """Return what is wrong now that every connection is gone; empty when nothing is."""
        faults = [f"still due: {call}" for call in self.clock.getDelayedCalls()]
        if self.stub.open_deliveries():
            faults.append(f"{self.stub.open_deliveries()} open deliveries")
        if self.factory.idle.watched:
            faults.append("a connection is still watched")
        return faults


class ConversationCase(SynchronousTestCase):
    """Plays scripts, each with a quick and a slow store; afterwards nothing may be left."""

    def converse(self, script: str, *, policy: LmtpPolicy = LmtpPolicy(), address: Address = LOOPBACK,
                 prepare: Callable[[Server], object] | None = None,
                 events: Callable[[Server], Mapping[str, Callable[[], object]]] | None = None,
                 stored: Sequence[bytes] | None = None, check: Callable[[Server], object] | None = None,
                 plays: Sequence[Play] = PLAYS) -> None:
        """Play a script. `stored`: contents that must have been committed, Received field left out."""
        for slow in (False, True):
            def set_stage(clock: Clock, slow: bool = slow) -> Stage:
                server = Server(clock=clock, policy=policy, slow=slow)
                if prepare is not None:
                    prepare(server)
                return Stage(server.factory, events(server) if events else {}, address,
                             done=lambda: self.check(server, stored, check))

            converse(set_stage, script, plays=plays)

    def check(self, server: Server, stored: Sequence[bytes] | None,
              check: Callable[[Server], object] | None) -> None:
        """Hold a server to what must be true when its last client has gone."""
        self.assertEqual(server.left_behind(), [])
        if stored is not None:
            contents = [bytes(delivery.content) for delivery in server.stub.committed]
            self.assertEqual([without_received(content) for content in contents], list(stored))
        if check is not None:
            check(server)


def without_received(content: bytes) -> bytes:
    """Return content without the one Received field that we put in front."""
    first, mark, rest = content.partition(b" +0000\r\n")
    assert first.startswith(b"Received: from ") and mark, content[:200]
    return rest
