"""AUTH with OAUTHBEARER (RFC 7628) and XOAUTH2 over POP3."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from mailgate.auth.hashing import Inline
from mailgate.auth.oauth import TokenChecker
from mailgate.auth.sasl import Facts
from mailgate.errors import LoginRefused, StoreUnavailable
from mailgate.pop3.policy import Limits, Policy
from mailgate.testing.transcript import AS_WRITTEN, Play
from tests.auth.staging import store_with
from tests.pop3.sasl_house import FAR_AWAY, USER, SaslCase, SaslHouse, coded
from tests.pop3.staging import with_limits

GOOD = b"goodtoken"
PIECES = (AS_WRITTEN, Play("in segments of 1000 octets", 1000))


class Tokens:
    """One token is good, one meets an outage."""

    def claims(self, token: bytes, network: str) -> Deferred[Any]:
        def judge() -> dict[str, str]:
            if token == b"outage":
                raise StoreUnavailable("the issuer is away")
            if token.strip(b"x") not in (GOOD, b""):
                raise LoginRefused("a bad token")
            return {"sub": "user"}

        return Inline().run(network, judge)


def bearer(token: bytes = GOOD, name: bytes = b"user", more: bytes = b"host=mail.example.org\1port=110\1",
           gs2: bytes | None = None) -> str:
    return coded((gs2 or b"n,a=%b," % name) + b"\1" + more + b"auth=Bearer " + token + b"\1\1")


def xoauth2(token: bytes = GOOD, name: bytes = b"user") -> str:
    return coded(b"user=%b\1auth=Bearer %b\1\1" % (name, token))


class TokenCase(SaslCase):
    def play(self, script: str, **house: Any) -> None:
        checker = TokenChecker(Tokens(), store_with(USER).accounts)
        # the version is that of another store with the same account: nobody compares it here
        self.converse(script, further=[checker], **house)


class OAuthBearerTests(TokenCase):
    def test_both_ways(self) -> None:
        self.play(f"""
            C: AUTH OAUTHBEARER {bearer()}
            S: +OK *
            C: STAT
            S: +OK 0 0
            """)
        self.play(f"""
            C: AUTH OAUTHBEARER
            S: +\\x20
            C: {bearer()}
            S: +OK *
            """)

    def test_refusal_is_told_in_json(self) -> None:
        """A challenge with `status`; whatever the client answers, -ERR follows (section 3.2.3)."""
        told = coded(json.dumps({"status": "invalid_token"}).encode())
        for answer in ("AQ==", "*", "", "!!!", "QUIT"):
            self.play(f"""
                C: AUTH OAUTHBEARER {bearer(b"wrong")}
                S: + {told}
                C: {answer}
                S: -ERR [AUTH] login refused
                C: STAT
                S: -ERR *
                C: AUTH OAUTHBEARER {bearer()}
                S: +OK *
                """)

    def test_counted_once(self) -> None:
        """Three refusals close, counted when their answer has come."""
        attempt = f"C: AUTH OAUTHBEARER {bearer(b'wrong')}\nS: + *\nC: AQ==\nS: -ERR [AUTH] *\n"
        self.play(attempt * 3 + "S: (closed)\n")

    def test_too_long_an_answer(self) -> None:
        """It counts as an answer."""
        policy = Policy(limits=Limits(failure_delay_seconds=0, auth_line_octets=2000))
        self.play(f"""
            C: AUTH OAUTHBEARER {bearer(b"wrong")}
            S: + *
            C: {"A" * 3000}
            S: -ERR [AUTH] login refused
            C: AUTH OAUTHBEARER {bearer()}
            S: +OK *
            """, policy=policy)

    def test_at_the_fixed_time(self) -> None:
        """The challenge that tells a refusal waits as a refusal does; behind it nothing waits."""
        checker = TokenChecker(Tokens(), store_with(USER).accounts)
        house = SaslHouse(further=[checker], policy=with_limits(failure_delay_seconds=2.0))
        peer = house.connect()
        peer.received.clear()
        peer.say(f"AUTH OAUTHBEARER {bearer(b'wrong')}\r\n".encode())
        house.clock.advance(1.9)
        self.assertEqual(bytes(peer.received), b"")
        house.clock.advance(0.1)
        peer.settle()
        self.assertTrue(bytes(peer.received).startswith(b"+ "))
        peer.received.clear()
        peer.say(b"AQ==\r\n")
        self.assertEqual(bytes(peer.received), b"-ERR [AUTH] login refused\r\n")

    def test_outage_is_none_of_the_tokens(self) -> None:
        self.play(f"""
            C: AUTH OAUTHBEARER {bearer(b"outage")}
            S: -ERR [SYS/TEMP] *
            """)
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_names(self) -> None:
        """Without one the token's own counts; `=2C` is a comma; another's is refused."""
        for name, good in ((b"user", True), (b"user@example.org", True), (b"other", False),
                           (b"us=2Cer", False)):
            self.play(f"""
                C: AUTH OAUTHBEARER {bearer(name=name)}
                S: {"+OK" if good else "+"} *
                """ + ("" if good else "C: AQ==\nS: -ERR [AUTH] *\n"))
        self.play(f"C: AUTH OAUTHBEARER {bearer(gs2=b'n,,')}\nS: +OK *\n")

    def test_request_for_what_is_wanted(self) -> None:
        """No token: the failure's JSON (section 4.3)."""
        for message in (b"n,,\1auth=\1\1", b"n,a=user,\1host=x\1\1"):
            self.play(f"""
                C: AUTH OAUTHBEARER {coded(message)}
                S: + *
                C: AQ==
                S: -ERR [AUTH] *
                """)

    def test_another_host(self) -> None:
        """The host has to be the one that TLS was begun with, where that was told (section 3.1)."""
        for name, good in ((b"mail.example.org", True), (b"MAIL.example.org", True),
                           (b"other.example.org", False)):
            self.play(f"C: AUTH OAUTHBEARER {bearer()}\nS: {'+OK' if good else '-ERR'} *\n",
                      facts=Facts(server_name=name))

    def test_scheme_word_in_any_case(self) -> None:
        for word in (b"bearer", b"BEARER"):
            message = b"n,,\1auth=%b goodtoken\1\1" % word
            self.play(f"C: AUTH OAUTHBEARER {coded(message)}\nS: +OK *\n")

    def test_malformed_and_cancel(self) -> None:
        messages = [b"x", b"n,,", b"n,,\1auth=Bearer x", b"n,,\1auth=Bearer x\1", b"n,,\1\1\1",
                    b"n,,\1auth=Basic x\1\1", b"n,,\1auth=Bearer x\1auth=Bearer y\1\1",
                    b"p=x,,\1auth=Bearer x\1\1",
                    b"n,a=u=s,\1auth=Bearer x\1\1", b"n,,\1port=x\1auth=Bearer x\1\1",
                    b"n,,\1auth=Bearer a b\1\1",
                    b"n,a=\xff,\1auth=Bearer x\1\1"]
        script = "".join(f"C: AUTH OAUTHBEARER {coded(one)}\nS: -ERR malformed*\n" for one in messages)
        self.play(script + "C: AUTH OAUTHBEARER\nS: +\\x20\nC: *\nS: -ERR *\n")
        self.play("C: AUTH OAUTHBEARER =\nS: -ERR *\n")

    def test_sixty_kilobytes(self) -> None:
        token = GOOD + b"x" * 60_000
        self.play(f"C: AUTH OAUTHBEARER {bearer(token)}\nS: +OK *\n", plays=PIECES)
        self.play(f"C: AUTH XOAUTH2\nS: +\\x20\nC: {xoauth2(token)}\nS: +OK *\n", plays=PIECES)

    def test_not_in_clear(self) -> None:
        """A token is as good as a password."""
        self.play("""
            C: AUTH OAUTHBEARER
            S: -ERR encryption*
            C: AUTH XOAUTH2
            S: -ERR encryption*
            """, address=FAR_AWAY)

    def test_announced_where_a_checker_takes_tokens(self) -> None:
        checker = TokenChecker(Tokens(), store_with(USER).accounts)
        self.assertEqual(self.mechanisms(further=[checker]),
                         ["SCRAM-SHA-256", "SCRAM-SHA-1", "OAUTHBEARER", "XOAUTH2", "PLAIN"])
        self.assertNotIn("XOAUTH2", self.mechanisms() or [])


class XOAuth2Tests(TokenCase):
    def test_both_ways(self) -> None:
        self.play(f"C: AUTH XOAUTH2 {xoauth2()}\nS: +OK *\nC: STAT\nS: +OK 0 0\n")
        self.play(f"C: AUTH XOAUTH2\nS: +\\x20\nC: {xoauth2()}\nS: +OK *\n")

    def test_refusal(self) -> None:
        """The client answers an empty line."""
        self.play(f"""
            C: AUTH XOAUTH2 {xoauth2(b"wrong")}
            S: + *
            C:
            S: -ERR [AUTH] login refused
            """)

    def test_malformed(self) -> None:
        for message in (b"", b"user=\1auth=Bearer x\1\1", b"auth=Bearer x\1\1", b"user=user\1auth=Bearer x\1",
                        b"user=user auth=Bearer x"):
            self.play(f"C: AUTH XOAUTH2 {coded(message) or '='}\nS: -ERR *\n")
