"""A POP3 server over maildrops in memory, and a TestCase that plays scripts against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.net.pop3 import POP3Factory
from mailgate.pop3.policy import Limits, Policy
from mailgate.testing.peers import EVERYTHING, LOOPBACK, Address, Peer
from mailgate.testing.transcript import PLAYS, Play, Stage, converse
from tests.pop3.maildrops import PASSWORDS, Mail, Maildrop, Realm, Users, mail_of, portal_of

AT_ONCE = Limits(failure_delay_seconds=0)
QUICK = Policy(limits=AT_ONCE)

LOGIN = """
    S: +OK *
    C: USER mrose
    S: +OK *
    C: PASS secret
    S: +OK *
"""
GREETING = """
    S: +OK *
"""


def with_limits(**limits: Any) -> Policy:
    """Return a policy that refuses at once, with other limits changed."""
    return Policy(limits=replace(AT_ONCE, **limits))


class Server:
    """One server with its clock, realm and users; `connect` reaches it."""

    def __init__(self, mails: Sequence[Mail] = (), *, clock: Clock | None = None, policy: Policy = QUICK,
                 passwords: dict[bytes, list[bytes]] | None = None, asynchronous: bool = False,
                 prepare: Callable[[Maildrop], object] | None = None) -> None:
        self.clock = clock or Clock()
        self.realm = Realm(list(mails), asynchronous=asynchronous, prepare=prepare)
        self.users = Users(passwords or PASSWORDS)
        self.peers: list[Peer] = []
        self.factory = POP3Factory(portal_of(self.realm, self.users), policy=policy, clock=self.clock)

    @property
    def drop(self) -> Maildrop:
        """The maildrop of the last login."""
        return self.realm.drop

    def connect(self, address: Address = LOOPBACK, **how: Any) -> Peer:
        """Return a peer that was greeted."""
        self.peers.append(Peer(self.factory, clock=self.clock, address=address, **how))
        return self.peers[-1]

    def log_in(self, **how: Any) -> Peer:
        """Return a peer that has logged in, with every reply read and forgotten."""
        peer = self.connect(**how)
        peer.say(b"USER mrose\r\nPASS secret\r\n")
        peer.take(EVERYTHING)
        assert len(self.realm.opened) > 0, bytes(peer.received)
        peer.received.clear()
        return peer

    def left_behind(self) -> list[str]:
        """Return what is wrong now that every connection is gone; empty when nothing is."""
        return [*self.realm.gone_well(),
                *[f"still due: {call}" for call in self.clock.getDelayedCalls()],
                *[f"written too late: {peer.transport.late!r}" for peer in self.peers if peer.transport.late]]


class ConversationCase(SynchronousTestCase):
    """Plays scripts; after each play nothing may be left: no lease, no stream, no delayed call."""

    def converse(self, script: str, *, sizes: Sequence[int] = (), mails: Sequence[Mail] = (),
                 login: bool = True, policy: Policy = QUICK, address: Address = LOOPBACK,
                 passwords: dict[bytes, list[bytes]] | None = None, asynchronous: bool = False,
                 events: Callable[[Server], dict[str, Callable[[], object]]] | None = None,
                 prepare: Callable[[Server], object] | None = None,
                 prepare_drop: Callable[[Maildrop], object] | None = None,
                 removed: Sequence[int] | None = None, fetched: Sequence[Any] | None = None,
                 plays: Sequence[Play] = PLAYS) -> None:
        """Play a script; `login` plays greeting, USER and PASS first.

        `removed` are the numbers that must be gone after each play; `prepare` gets each play's server.
        """
        contents = [mail_of(size) for size in sizes] or list(mails)

        def set_stage(clock: Clock) -> Stage:
            server = Server(contents, clock=clock, policy=policy, passwords=passwords,
                            asynchronous=asynchronous, prepare=prepare_drop)
            if prepare is not None:
                prepare(server)
            return Stage(server.factory, events(server) if events else {}, address,
                         done=lambda: self.check(server, removed, fetched))

        converse(set_stage, LOGIN + script if login else script, plays=plays)

    def check(self, server: Server, removed: Sequence[int] | None, fetched: Sequence[Any] | None) -> None:
        """Hold a server to what must be true when its last client has gone."""
        self.assertEqual(server.left_behind(), [])
        if removed is not None:
            self.assertEqual(server.drop.removed, list(removed))
        if fetched is not None:
            self.assertEqual(server.drop.fetched, list(fetched))
