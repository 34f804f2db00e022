"""AUTH GSSAPI in conversation (RFC 5034, 4752): what libgssapi says is held by a gate."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from mailgate.auth.principals import PrincipalChecker
from mailgate.auth.sasl import Accepting, AcceptQuestion, Facts, Unproven, UnwrapQuestion
from mailgate.errors import StoreUnavailable, TooBusy
from mailgate.model import Account
from mailgate.pop3.policy import Limits, Policy
from mailgate.principals import Rules, parse_principal, parse_rule
from tests.auth.staging import store_with
from tests.pop3.maildrops import Gate
from tests.pop3.sasl_house import FAR_AWAY, SaslCase, SaslHouse, coded, offering

ONLY = offering("GSSAPI")
OFFER = b"\1\0\0\0"
REFUSED = b"-ERR [AUTH] login refused\r\n"


class FakeTickets:
    """Takes a principal's name for its token; `mutual NAME` gets a reply, `more` is not enough yet."""

    def __init__(self) -> None:
        self.works = True
        self.gate = Gate()
        self.asked: list[Any] = []
        self.stopped = False

    def answer(self, question: Any, peer: str | None = None) -> Deferred[Any]:
        self.asked.append((question, peer))
        return self.gate.passage(lambda: self._answer(question))

    def _answer(self, question: Any) -> Any:
        if isinstance(question, UnwrapQuestion):
            return question.message.removeprefix(b"wrapped ") if question.message.startswith(
                b"wrapped ") else Unproven("nothing is wrapped")
        if question.token == b"more":
            return Accepting("half", b"go on")
        if question.token == b"replay":
            return Unproven("Request is a replay")
        mutual, _, name = question.token.rpartition(b" ")
        return Accepting("whole", b"reply" if mutual else b"",
                         parse_principal(f"{name.decode()}@TEST.EXAMPLE"), b"offer")

    def look(self) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self.stopped = True
        return succeed(None)


class GssapiCase(SaslCase):
    rules = Rules(map(parse_rule, (
        "{name}@TEST.EXAMPLE -> {name}", "{name}/shop@TEST.EXAMPLE -> {name}@shop",
        "carol@TEST.EXAMPLE -> *", "{name}/all@TEST.EXAMPLE -> *@shop")))

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def furnishing(self, **more: Any) -> dict[str, Any]:
        """Return what makes a SaslHouse that takes tickets."""
        store = store_with(
            Account("alice", addresses=("alice@example.org",)), Account("gone", disabled=True),
            Account("shop", sdps=True, domains=("shop.example.org",)))
        self.tickets = FakeTickets()
        return {"policy": ONLY, "tickets": self.tickets,
                "further": [PrincipalChecker(self.rules, store.accounts)], **more}

    def play(self, script: str, **more: Any) -> None:
        self.converse(script, **self.furnishing(**more))

    def house(self, **more: Any) -> SaslHouse:
        return SaslHouse(**self.furnishing(**more))

    def log(self) -> list[str]:
        return [formatEvent(event) for event in self.events]


class ExchangeTests(GssapiCase):
    def test_initial_response(self) -> None:
        self.play(f"""
            C: AUTH GSSAPI {coded(b"alice")}
            S: + {coded(b"offer")}
            C: {coded(b"wrapped " + OFFER)}
            S: +OK maildrop has *
        """)

    def test_two_steps_and_mutual(self) -> None:
        self.play(f"""
            C: auth gssapi
            S: +\x20
            C: {coded(b"mutual alice")}
            S: + {coded(b"reply")}
            C:
            S: + {coded(b"offer")}
            C: {coded(b"wrapped " + OFFER + b"alice@example.org")}
            S: +OK maildrop has *
        """)

    def test_several_tokens(self) -> None:
        self.play(f"""
            C: AUTH GSSAPI {coded(b"more")}
            S: + {coded(b"go on")}
            C: {coded(b"more")}
            S: + {coded(b"go on")}
            C: {coded(b"alice")}
            S: + {coded(b"offer")}
            C: {coded(b"wrapped " + OFFER)}
            S: +OK maildrop has *
        """)

    def test_refusals(self) -> None:
        """A replay, a layer, a message that proves nothing; then the right way."""
        begun = f"""
            C: AUTH GSSAPI {coded(b"alice")}
            S: + {coded(b"offer")}
        """
        self.play(f"""
            C: AUTH GSSAPI {coded(b"replay")}
            S: -ERR [AUTH] login refused
            {begun}
            C: {coded(b"wrapped " + bytes([4, 0, 255, 255]))}
            S: -ERR [AUTH] login refused
            {begun}
            C: {coded(b"garbage")}
            S: -ERR [AUTH] login refused
            {begun}
            C: {coded(b"wrapped " + OFFER)}
            S: +OK maildrop has *
        """, policy=offering("GSSAPI", limits=Limits(failure_delay_seconds=0, failed_logins=9)))
        told = "\n".join(self.log())
        for reason in ("Request is a replay", "nothing is wrapped", "layer than none: 0400ffff"):
            self.assertIn(reason, told)

    def test_malformed(self) -> None:
        """An exchange that breaks the grammar ends at once; so does one that is cancelled."""
        self.play(f"""
            C: AUTH GSSAPI =
            S: -ERR malformed *
            C: AUTH GSSAPI abc
            S: -ERR malformed *
            C: AUTH GSSAPI {coded(b"mutual alice")}
            S: + {coded(b"reply")}
            C: {coded(b"something")}
            S: -ERR malformed *
            C: AUTH GSSAPI {coded(b"alice")}
            S: + {coded(b"offer")}
            C: *
            S: -ERR authentication cancelled
            C: AUTH GSSAPI {coded(b"alice")}
            S: + {coded(b"offer")}
            C: {coded(b"wrapped " + OFFER + b"alice" + bytes([10]))}
            S: -ERR malformed *
            C: AUTH GSSAPI {coded(b"alice")}
            S: + {coded(b"offer")}
            C: {coded(b"wrapped " + OFFER[:3])}
            S: -ERR malformed *
        """)

    def test_long_token(self) -> None:
        """64 KiB, as a ticket with many groups is; with an initial response and without."""
        token = coded(b"x" * 65_536 + b" alice")
        for begin in (f"C: AUTH GSSAPI {token}", f"C: AUTH GSSAPI\nS: +\x20\nC: {token}"):
            self.play(f"{begin}\nS: + {coded(b'reply')}\n")


class WhoTests(GssapiCase):
    def reply(self, principal: bytes, acting_as: bytes = b"") -> bytes:
        """Return the last line that a client gets."""
        house = self.house()
        peer = house.connect()
        peer.say(f"AUTH GSSAPI {coded(principal)}\r\n{coded(b'wrapped ' + OFFER + acting_as)}\r\n".encode())
        reply = bytes(peer.received).splitlines(keepends=True)[-1]
        peer.vanish()
        self.check(house)
        return reply

    def test_whose_maildrop(self) -> None:
        """Without a name the one that the rules name; with one, whatever they permit."""
        for principal, acting_as in (
                (b"alice", b""), (b"alice", b"alice"), (b"alice", b"ALICE"), (b"alice", b"alice@example.org"),
                (b"alice", b"alice@TEST.EXAMPLE"), (b"carol", b"alice"), (b"bob/shop", b""),
                (b"bob/shop", b"bob@shop"), (b"bob/shop", b"bob+shop"), (b"any/all", b"eve@shop")):
            self.assertTrue(self.reply(principal, acting_as).startswith(b"+OK maildrop"),
                            (principal, acting_as))

    def test_refusals_are_alike(self) -> None:
        """Nobody's name, another's, a disabled one, one that no rule names, a pattern that names none."""
        for principal, acting_as in (
                (b"nobody", b""), (b"alice", b"nobody"), (b"alice", b"shop"), (b"alice", b"bob@shop"),
                (b"gone", b""), (b"alice/admin", b""), (b"alice/admin", b"alice"), (b"bob/shop", b"eve@shop"),
                (b"info", b""), (b"any/all", b""), (b"alice", b"a" * 400), (b"Alice", b""),
                (b"alice", b"alice@OTHER.EXAMPLE"), (b"alice", b"carol@TEST.EXAMPLE")):
            self.assertEqual(self.reply(principal, acting_as), REFUSED, (principal, acting_as))
        self.assertIn("alice/admin@TEST.EXAMPLE may not open alice: no rule opens it", self.log())

    def test_log(self) -> None:
        """A session without a name is told by its principal."""
        self.reply(b"alice")
        self.assertIn("alice@TEST.EXAMPLE opens alice@TEST.EXAMPLE", self.log())
        self.assertEqual([line for line in self.log() if line.startswith("session of alice@TEST.EXAMPLE ")],
                         ["session of alice@TEST.EXAMPLE from 127.0.0.1: 0 retrieved, 0 removed, no QUIT"])


class PlaceTests(GssapiCase):
    def test_where_it_is_offered(self) -> None:
        """Where it is named and works, in clear too; a checker of passwords alone offers none."""
        self.assertEqual(self.mechanisms(address=FAR_AWAY, **self.furnishing()), ["GSSAPI"])
        self.assertNotIn("GSSAPI", self.mechanisms(**self.furnishing(policy=Policy())) or [])
        self.assertIsNone(self.mechanisms(**self.furnishing(tickets=None)))
        self.assertIsNone(self.mechanisms(**self.furnishing(further=())))

    def test_while_it_does_not_work(self) -> None:
        """Neither announced nor taken; connections that come later see that it works again."""
        house = self.house()
        self.tickets.works = False
        peer = house.connect()
        peer.received.clear()
        peer.say(f"CAPA\r\nAUTH GSSAPI {coded(b'alice')}\r\n".encode())
        self.assertNotIn(b"GSSAPI", peer.received)
        self.assertTrue(peer.received.endswith(b".\r\n-ERR command refused\r\n"))
        self.tickets.works = True
        peer = house.connect()
        peer.say(b"CAPA\r\n")
        self.assertIn(b"SASL GSSAPI\r\n", peer.received)

    def test_bindings(self) -> None:
        """The token is judged beside the channel's binding, and for the client's network."""
        facts = Facts(bindings={b"tls-exporter": b"e", b"tls-server-end-point": b"h"})
        peer = self.house(facts=facts).connect(FAR_AWAY)
        peer.say(f"AUTH GSSAPI {coded(b'alice')}\r\n".encode())
        self.assertEqual(self.tickets.asked, [
            (AcceptQuestion(b"alice", None, b"tls-server-end-point:h", OFFER), "203.0.113.7")])

    def test_end(self) -> None:
        """The factory's end is that of the threads."""
        house = self.house()
        self.successResultOf(house.factory.shutdown())
        self.assertTrue(self.tickets.stopped)


class TimeTests(GssapiCase):
    def test_failure_time(self) -> None:
        """A refusal leaves at the fixed time, whatever was wrong; the third ends the connection."""
        policy = offering("GSSAPI", limits=Limits(failure_delay_seconds=2.0, failed_logins=3))
        house = self.house(policy=policy)
        peer = house.connect()
        for said in (coded(b"replay"), f"{coded(b'alice')}\r\n{coded(b'garbage')}",
                     f"{coded(b'nobody')}\r\n{coded(b'wrapped ' + OFFER)}"):
            peer.received.clear()
            peer.say(f"AUTH GSSAPI {said}\r\n".encode())
            peer.advance(1.9, 0.1)
            self.assertNotIn(b"-ERR", peer.received)
            peer.advance(0.2, 0.1)
            self.assertTrue(peer.received.endswith(REFUSED), said)
        self.assertTrue(peer.closed)
        self.check(house)

    def test_outage(self) -> None:
        """A fault of ours is one to the client, at each step, and counts for no refusal."""
        for fault in (StoreUnavailable("Kerberos: no replay cache"), TooBusy("many")):
            house = self.house()
            peer = house.connect()
            self.tickets.gate.fault = fault
            peer.say(f"AUTH GSSAPI {coded(b'alice')}\r\n".encode() * 5)
            self.assertEqual(peer.received.count(b"-ERR [SYS/TEMP] "), 5)
            self.tickets.gate.fault = None
            peer.say(f"AUTH GSSAPI {coded(b'alice')}\r\n".encode())
            self.tickets.gate.fault = fault
            peer.received.clear()
            peer.say(f"{coded(b'wrapped ' + OFFER)}\r\n".encode())
            self.assertTrue(peer.received.startswith(b"-ERR [SYS/TEMP] "))
            self.assertFalse(peer.closed)
            peer.vanish()
            self.check(house)

    def test_vanishing(self) -> None:
        """A client that goes while its token is judged leaves nothing, and nobody works on for it."""
        for steps in (f"AUTH GSSAPI {coded(b'alice')}\r\n",
                      f"AUTH GSSAPI {coded(b'alice')}\r\n{coded(b'wrapped ' + OFFER)}\r\n"):
            house = self.house()
            peer = house.connect()
            *first, last = steps.splitlines(keepends=True)
            peer.say("".join(first).encode())
            self.tickets.gate.shut()
            peer.say(last.encode())
            (waiting, _), = self.tickets.gate.waiting
            peer.vanish()
            self.assertTrue(waiting.called)             # cancelled
            self.tickets.gate.open()
            self.assertEqual(house.realm.gone_well(), [])
            self.check(house)

    def test_hanging(self) -> None:
        """While a call hangs the commands behind it wait; given up it is an outage, and they go on."""
        house = self.house()
        peer = house.connect()
        self.tickets.gate.shut()
        peer.say(f"AUTH GSSAPI {coded(b'alice')}\r\nCAPA\r\n".encode())
        self.assertNotIn(b"+OK capability", peer.received)
        (waiting, _), = self.tickets.gate.waiting
        waiting.errback(StoreUnavailable("Kerberos: no answer within 180 seconds"))
        peer.settle()
        self.assertIn(b"-ERR [SYS/TEMP] ", peer.received)
        self.assertIn(b"+OK capability", peer.received)
