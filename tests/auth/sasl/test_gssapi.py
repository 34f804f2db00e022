"""The GSSAPI exchange by itself (RFC 4752): order, layers, whom to act as."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.credentials import PrincipalLogin, credentials_of
from mailgate.auth.sasl import (
    Accepting,
    AcceptQuestion,
    Attempt,
    Challenge,
    Consult,
    Facts,
    TicketClaim,
    Unproven,
    UnwrapQuestion,
)
from mailgate.auth.sasl.gssapi import MOST_TOKENS, Gssapi
from mailgate.errors import BadExchange, LoginRefused
from mailgate.principals import Principal

ALICE = Principal(("alice",), "TEST.EXAMPLE")
OFFER = b"\1\0\0\0"
STANDS = Accepting("context", b"", ALICE, b"offer")


def offered(facts: Facts = Facts()) -> Gssapi:
    """Return an exchange whose context stands and whose offer is out."""
    exchange = Gssapi(facts)
    exchange.step(b"token")
    assert exchange.answered(STANDS) == Challenge(b"offer")
    return exchange


def chosen(choice: bytes) -> Any:
    """Return what becomes of a client's choice."""
    exchange = offered()
    assert exchange.step(b"wrapped") == Consult(UnwrapQuestion(b"wrapped", "context"))
    return exchange.answered(choice)


class OrderTests(SynchronousTestCase):
    def test_two_steps(self) -> None:
        """Without an initial response the client is asked for its token."""
        exchange = Gssapi(Facts())
        self.assertEqual(exchange.step(None), Challenge(b""))
        self.assertEqual(exchange.step(b"token"), Consult(AcceptQuestion(b"token", None, None, OFFER)))

    def test_mutual(self) -> None:
        """The server's token first; it is answered by nothing, and then comes the offer."""
        exchange = Gssapi(Facts())
        exchange.step(b"token")
        self.assertEqual(exchange.answered(STANDS._replace(reply=b"reply")), Challenge(b"reply"))
        self.assertEqual(exchange.step(b""), Challenge(b"offer"))
        exchange.step(b"wrapped")
        self.assertEqual(exchange.answered(OFFER), Attempt(TicketClaim(ALICE, b"")))

    def test_answer_to_the_last_token(self) -> None:
        exchange = Gssapi(Facts())
        exchange.step(b"token")
        exchange.answered(STANDS._replace(reply=b"reply"))
        self.assertRaises(BadExchange, exchange.step, b"more")

    def test_several_tokens(self) -> None:
        """As many as the context wants, within reason; each with the context so far."""
        exchange = Gssapi(Facts())
        context = None
        for number in range(MOST_TOKENS):
            self.assertEqual(exchange.step(b"token"), Consult(AcceptQuestion(b"token", context, None, OFFER)))
            context = f"context {number}"
            self.assertEqual(exchange.answered(Accepting(context, b"more")), Challenge(b"more"))
        self.assertRaises(BadExchange, exchange.step, b"token")

    def test_empty_token(self) -> None:
        """`AUTH GSSAPI =` says nothing."""
        self.assertRaises(BadExchange, Gssapi(Facts()).step, b"")

    def test_unproven(self) -> None:
        """The reason goes to the log; at a token and at the choice."""
        exchange = Gssapi(Facts())
        exchange.step(b"token")
        refused = self.assertRaises(LoginRefused, exchange.answered, Unproven("Request is a replay"))
        self.assertEqual((str(refused), exchange.name), ("Request is a replay", b""))
        exchange = offered()
        exchange.step(b"wrapped")
        self.assertRaises(LoginRefused, exchange.answered, Unproven("malformed"))
        self.assertEqual(exchange.name, b"alice@TEST.EXAMPLE")

    def test_binding(self) -> None:
        """Of the channel's bindings the end point's, under its name; in clear none."""
        for bindings, binding in (
                ({b"tls-exporter": b"e", b"tls-server-end-point": b"hash"}, b"tls-server-end-point:hash"),
                ({b"tls-exporter": b"e"}, None)):
            step: Any = Gssapi(Facts(bindings=bindings)).step(b"token")
            self.assertEqual(step.question.binding, binding)


class ChoiceTests(SynchronousTestCase):
    def test_layers(self) -> None:
        """None is the only one that is offered; a choice of none has no size."""
        for first in range(256):
            if first != 1:
                refused = self.assertRaises(LoginRefused, chosen, bytes([first, 0, 0, 0]) + b"alice")
                self.assertIn("security layer", str(refused))
        for size in (b"\0\0\1", b"\1\0\0", b"\xff\xff\xff"):
            self.assertRaises(LoginRefused, chosen, b"\1" + size + b"alice")

    def test_too_short(self) -> None:
        for length in range(4):
            self.assertRaises(BadExchange, chosen, OFFER[:length])

    def test_acting_as(self) -> None:
        """Any UTF-8 without control characters; nothing stands for the principal itself."""
        for name in (b"alice", b"bob@shop", "jürgen".encode(), b"a b"):
            step: Any = chosen(OFFER + name)
            self.assertEqual(step, Attempt(TicketClaim(ALICE, name)))
            self.assertEqual(step.claim.name, name)
        step = chosen(OFFER)
        self.assertEqual(step.claim.name, b"alice@TEST.EXAMPLE")
        for name in (b"alice\0", b"\0", b"a\r\nb", b"a\x1bb", b"\x7f", "\x85".encode(), b"\xff", b"\xc3"):
            self.assertRaises(BadExchange, chosen, OFFER + name)

    def test_credentials(self) -> None:
        """The checker gets principal and name."""
        login = credentials_of(TicketClaim(ALICE, b"info"), "192.0.2.1")
        self.assertIsInstance(login, PrincipalLogin)
        self.assertEqual((login.principal, login.username, login.peer), (ALICE, b"info", "192.0.2.1"))

    @settings(deadline=None, max_examples=300)
    @given(st.binary(max_size=40))
    def test_any_choice(self, choice: bytes) -> None:
        """Octets of whatever kind are a claim or a refusal, and nothing else is raised."""
        try:
            step = chosen(choice)
        except (BadExchange, LoginRefused):
            return
        self.assertEqual(step, Attempt(TicketClaim(ALICE, choice[4:])))
        self.assertEqual(choice[:4], OFFER)
