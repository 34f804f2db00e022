"""Bearer tokens: JWTs against a key set, introspection against a real server, whose maildrop they open."""

from __future__ import annotations

import base64
import hmac
import json
import os
from typing import Any

from joserfc.jwk import RSAKey
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from mailgate.auth.credentials import TokenLogin
from mailgate.auth.hashing import Inline
from mailgate.auth.oauth import AskedTokens, Expected, SignedTokens, TokenChecker
from mailgate.errors import LoginRefused, StoreUnavailable
from tests.auth.staging import ALICE, GONE, XYZ, fresh_path, store_with
from tests.auth.tokens import AUDIENCE, ISSUER, Issuer

ISSUED = Issuer()
EXPECTED = Expected(ISSUER, AUDIENCE)


class SignedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = fresh_path(self)
        ISSUED.write(self.path)
        self.tokens = SignedTokens(str(self.path), Inline(), EXPECTED)

    def refused(self, token: bytes, tokens: SignedTokens | None = None) -> None:
        self.failureResultOf((tokens or self.tokens).claims(token, "net"), LoginRefused)

    def good(self, token: bytes, tokens: SignedTokens | None = None) -> Any:
        return self.successResultOf((tokens or self.tokens).claims(token, "net"))

    def test_both_keys(self) -> None:
        for algorithm in ("RS256", "ES256"):
            self.assertEqual(self.good(ISSUED.token(algorithm=algorithm))["sub"], "user")

    def test_algorithms_are_pinned(self) -> None:
        """What the token names counts only if we do too; never none, never a public key as a secret."""
        self.refused(ISSUED.token(algorithm="RS512"))
        self.good(ISSUED.token(algorithm="RS512"), SignedTokens(
            str(self.path), Inline(), EXPECTED, algorithms=["RS512"]))
        _, body, signature = ISSUED.token().split(b".")

        def coded(header: dict[str, Any]) -> bytes:
            return base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=")

        for header in ({"alg": "none"}, {"alg": "None", "kid": "rsa"}, {"alg": "none", "kid": "rsa"}):
            self.refused(coded(header) + b"." + body + b".")
            self.refused(coded(header) + b"." + body + b"." + signature)
        for header in ({"alg": "HS256"}, {"alg": "HS256", "kid": "rsa"}):
            message = coded(header) + b"." + body
            mac = hmac.digest(ISSUED.rsa.as_pem(private=False), message, "sha256")
            self.refused(message + b"." + base64.urlsafe_b64encode(mac).rstrip(b"="))

    def test_claims(self) -> None:
        for wrong in ({"iss": "https://else.example.org"}, {"iss": None}, {"aud": "another"}, {"aud": None},
                      {"aud": ["a", "b"]}, {"exp": 1}, {"exp": None}, {"exp": "never"}, {"exp": True},
                      {"nbf": 1 << 40}, {"nbf": "soon"}):
            self.refused(ISSUED.token(**wrong))
        self.good(ISSUED.token(aud=["other", AUDIENCE]))
        self.good(ISSUED.token(nbf=1))

    def test_scope(self) -> None:
        tokens = SignedTokens(str(self.path), Inline(), Expected(ISSUER, AUDIENCE, "mail.read"))
        for scope, good in (("openid mail.read", True), ("mail.readwrite", False), (None, False)):
            (self.good if good else self.refused)(ISSUED.token(scope=scope), tokens)
        self.good(ISSUED.token(scp=["mail.read"]), tokens)

    def test_signature(self) -> None:
        """Another's key, a changed body, a cut or strange token."""
        token = ISSUED.token()
        head, body, signature = token.split(b".")
        other = ISSUED.token(name="other").split(b".")[1]
        self.refused(ISSUED.token(key=RSAKey.generate_key(2048, {"kid": "rsa"})))
        for wrong in (b".".join((head, other, signature)), head + b"." + body, token + b"x", token[:-8], b"",
                      b".", b"..", b"a.b.c", b"\xff\xfe.\x00.x", b"x" * 60_000, b"." * 1000,
                      ISSUED.token(kid="unknown")):
            self.refused(wrong)

    def test_sixty_kilobytes(self) -> None:
        token = ISSUED.token(groups=["x" * 45_000])
        self.assertGreater(len(token), 60_000)
        self.assertEqual(self.good(token)["sub"], "user")

    def test_keys_are_read_again(self) -> None:
        """A file that changes; one that is missing or broken is an outage, not a wrong token."""
        self.good(ISSUED.token())
        another = Issuer()
        another.write(self.path)
        os.utime(self.path, (1, 1))
        self.refused(ISSUED.token())
        self.good(another.token())
        for content in ("", "{}", "[]", '{"keys": [1]}', "null", "[" * 100_000):
            self.path.write_text(content)
            os.utime(self.path, (2, 2))
            self.failureResultOf(self.tokens.claims(another.token(), "net"), StoreUnavailable)
        self.path.unlink()
        self.failureResultOf(self.tokens.claims(another.token(), "net"), StoreUnavailable)


class Claims:
    """Tokens that all have the same claims."""

    def __init__(self, **claims: Any) -> None:
        self._claims = claims

    def claims(self, token: bytes, network: str) -> Deferred[Any]:
        return Inline().run(network, lambda: self._claims)


class CheckerTests(SynchronousTestCase):
    def check(self, name: bytes, claims: dict[str, Any], claim: str = "sub", *, alone: bool = False) -> Any:
        accounts = None if alone else store_with(ALICE, GONE, XYZ).accounts
        return TokenChecker(Claims(**claims), accounts,
                            claim=claim).requestAvatarId(TokenLogin(name, b"token"))

    def test_account(self) -> None:
        """By its name or an address, asked for by any of them or by none; with the credential's version."""
        for name in (b"", b"alice", b"Alice", b"alice@example.org"):
            for said in ("alice", "alice@example.org", "ALICE"):
                admission = self.successResultOf(self.check(name, {"sub": said}))
                self.assertEqual((admission.maildrop, admission.account), ("alice", "alice"))
                self.assertIsInstance(admission.version, int)

    def test_another_name(self) -> None:
        for name, said in ((b"alice", "bob"), (b"alice", "xyz"), (b"xyz", "alice"), (b"bob", "alice"),
                           (b"alice", "bob@example.org"), (b"fred@xyz", "jim@xyz"), (b"xyz", "jim@xyz"),
                           (b"gone", "gone"), (b"", "gone"), (b"al\xffce", "alice")):
            self.failureResultOf(self.check(name, {"sub": said}), LoginRefused)

    def test_a_hosts_user(self) -> None:
        self.assertEqual(self.successResultOf(self.check(b"fred@xyz", {"sub": "fred+xyz"})).view, "fred")

    def test_claim(self) -> None:
        self.assertEqual(
            self.successResultOf(self.check(b"", {"sub": "1", "email": "alice@example.org"},
                                            "email")).account, "alice")
        for claims in ({}, {"email": 1}, {"email": None}, {"email": ["alice"]}, {"email": ""},
                       {"email": "a\0b"},
                       {"email": "\ud800"}):
            self.failureResultOf(self.check(b"", claims, "email"), LoginRefused)

    def test_name_without_an_account(self) -> None:
        """The issuer's word is enough; the realm judges whether it can be a maildrop's name."""
        self.assertEqual(self.successResultOf(self.check(b"", {"sub": "new"})), b"new")
        self.assertEqual(self.successResultOf(self.check(b"alice", {"sub": "alice"}, alone=True)), b"alice")
        self.failureResultOf(self.check(b"new", {"sub": "newer"}), LoginRefused)

    def test_no_token(self) -> None:
        checker = TokenChecker(Claims(sub="alice"), store_with(ALICE).accounts)
        self.failureResultOf(checker.requestAvatarId(TokenLogin(b"alice", b"")), LoginRefused)


class Introspection(Resource):
    """An issuer's endpoint: answers what the token says."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []

    def render_POST(self, request: Any) -> bytes:
        token = request.args[b"token"][0]
        self.asked.append((request.getUser(), request.getPassword()))
        if token.startswith(b"status "):
            request.setResponseCode(int(token[7:]))
            return b""
        request.setHeader("Content-Type", "application/json")
        return token


class AskedTests(TestCase):
    def setUp(self) -> None:
        self.endpoint = Introspection()
        port = reactor.listenTCP(0, Site(self.endpoint), interface="127.0.0.1")     # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        self.url = f"http://127.0.0.1:{port.getHost().port}/introspect"
        self.tokens = AskedTokens(self.url, Expected(ISSUER), client=("mailgate", "secret"), reactor=reactor)

    async def outcome(self, token: Any) -> Any:
        octets = token if isinstance(token, bytes) else json.dumps(token).encode()
        try:
            return await self.tokens.claims(octets, "net")
        except (LoginRefused, StoreUnavailable) as fault:
            return LoginRefused if isinstance(fault, LoginRefused) else StoreUnavailable

    async def test_answers(self) -> None:
        """Active and of this issuer is good; anything but a plain answer is an outage."""
        good = {"active": True, "iss": ISSUER, "sub": "alice"}
        self.assertEqual((await self.outcome(good))["sub"], "alice")
        self.assertEqual(self.endpoint.asked, [(b"mailgate", b"secret")])
        for token, expected in (({"active": False}, LoginRefused), ({**good, "iss": "x"}, LoginRefused),
                                ({**good, "exp": 1}, LoginRefused), ({"active": "yes"}, StoreUnavailable),
                                ([], StoreUnavailable), (b"no json", StoreUnavailable),
                                (b"status 500", StoreUnavailable),
                                (b"status 302", StoreUnavailable), (b"status 401", StoreUnavailable),
                                ({**good, "x": "y" * 70_000}, StoreUnavailable)):
            self.assertEqual(await self.outcome(token), expected, token)

    async def test_unreachable(self) -> None:
        self.tokens = AskedTokens("http://127.0.0.1:1/", Expected(), client=None, reactor=reactor)
        self.assertEqual(await self.outcome({"active": True}), StoreUnavailable)


