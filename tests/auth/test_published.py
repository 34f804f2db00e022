"""Keys that an issuer publishes: fetched from a real server, by a clock that the test holds."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey
from joserfc.jws import JWSRegistry
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from mailgate.auth import web
from mailgate.auth.hashing import Inline
from mailgate.auth.oauth import ALGORITHMS, Expected, PublishedTokens
from mailgate.auth.published import (
    FRESH_SECONDS,
    KEPT_SECONDS,
    KINDS,
    LEAST_FRESH_SECONDS,
    MOST_FRESH_SECONDS,
    PAUSE_SECONDS,
    SET_OCTETS,
    PublishedKeys,
    fetch_set,
    fresh_seconds,
    read_keys,
)
from mailgate.errors import LoginRefused, StoreUnavailable
from tests.auth.tokens import AUDIENCE, ISSUER, Issuer

FIRST, SECOND = Issuer(), Issuer()
SECOND.rsa = RSAKey.generate_key(2048, {"kid": "newer"})


def document(*keys: Any, private: bool = False) -> bytes:
    return json.dumps(KeySet(list(keys)).as_dict(private=private)).encode()


class Published(Resource):
    """The issuer's server: answers what the test says, and counts."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bytes] = []
        self.content = document(FIRST.rsa, FIRST.ec)
        self.code = 200
        self.fields: dict[str, str] = {}
        self.held: list[Any] | None = None      # requests, where none is answered
        self.begun = b""                        # what is written of those

    def render_GET(self, request: Any) -> Any:
        self.asked.append(request.path)
        if self.held is not None:
            request.write(self.begun)
            self.held.append(request)
            request.notifyFinish().addErrback(lambda failure: None)
            return NOT_DONE_YET
        request.setResponseCode(self.code)
        for name, value in self.fields.items():
            request.setHeader(name, value)
        return self.content


class PublishedCase(TestCase):
    def setUp(self) -> None:
        self.issuer = Published()
        port = reactor.listenTCP(0, Site(self.issuer), interface="127.0.0.1")   # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        self.clock = Clock()
        self.clock.advance(1000)
        self.tokens = self.make(f"http://127.0.0.1:{port.getHost().port}/jwks.json")

    def make(self, url: str) -> PublishedTokens:
        self.keys = PublishedKeys(url, ("RS256", "ES256"), lambda: fetch_set(reactor, url),
                                  seconds=self.clock.seconds)
        return PublishedTokens(self.keys, Inline(), Expected(ISSUER, AUDIENCE))

    async def outcome(self, token: bytes) -> Any:
        """Return whose token it is, or the kind of the fault and its words."""
        try:
            return (await self.tokens.claims(token, "net"))["sub"]
        except LoginRefused:
            return LoginRefused
        except StoreUnavailable as fault:
            self.words = str(fault)
            return StoreUnavailable

    async def expect(self, outcome: Any, *tokens: bytes, asked: int) -> None:
        """Judge tokens one after the other; by then the issuer was asked so often."""
        for token in tokens:
            self.assertEqual(await self.outcome(token), outcome)
        self.assertEqual(len(self.issuer.asked), asked)


class TimesTests(PublishedCase):
    async def test_one_fetch_for_all(self) -> None:
        """Logins that come together wait for one answer; one that is broken off takes it from no other."""
        self.issuer.held = []
        judging = [self.tokens.claims(FIRST.token(algorithm=one), "net") for one in ("RS256", "ES256") * 5]
        while not self.issuer.held:
            await self.turn()
        judging[0].cancel()
        self.failureResultOf(judging.pop(0), CancelledError)
        self.issuer.held[0].write(self.issuer.content)
        self.issuer.held[0].finish()
        self.assertEqual([one["sub"] for one in await gatherResults(judging)], ["user"] * 9)
        self.issuer.held = None
        await self.expect("user", FIRST.token(), asked=1)

    def turn(self) -> Deferred[None]:
        end: Deferred[None] = Deferred()
        reactor.callLater(0.001, end.callback, None)        # type: ignore[attr-defined]
        return end

    async def test_freshness(self) -> None:
        """An hour, or what the issuer says."""
        await self.expect("user", FIRST.token(), asked=1)
        self.clock.advance(FRESH_SECONDS - 1)
        await self.expect("user", FIRST.token(), asked=1)
        self.clock.advance(1)
        self.issuer.fields = {"Cache-Control": "public, max-age=600"}
        await self.expect("user", FIRST.token(), asked=2)
        self.clock.advance(600)
        self.issuer.content = document(SECOND.rsa)
        await self.expect(LoginRefused, FIRST.token(), asked=3)     # a key that was taken back
        await self.expect("user", SECOND.token(), asked=3)

    async def test_unknown_key(self) -> None:
        """A new key is found at once; hostile tokens cost the issuer no more than one request a while."""
        await self.expect("user", FIRST.token(), asked=1)
        self.issuer.content = document(FIRST.rsa, SECOND.rsa)
        self.clock.advance(PAUSE_SECONDS)
        await self.expect("user", SECOND.token(), FIRST.token(), asked=2)
        hostile = [SECOND.token(kid=f"x{number}") for number in range(50)]
        await self.expect(LoginRefused, *hostile, asked=2)
        self.clock.advance(PAUSE_SECONDS - 0.1)
        await self.expect(LoginRefused, *hostile, asked=2)
        self.clock.advance(0.1)
        outcomes = await gatherResults(
            [Deferred.fromCoroutine(self.outcome(token)) for token in (*hostile, FIRST.token())])
        self.assertEqual(outcomes, [LoginRefused] * 50 + ["user"])
        await self.expect(LoginRefused, *hostile, asked=3)

    async def test_set_without_names(self) -> None:
        """One key without a kid, as small issuers have it; after a change a token without kid finds it."""
        def token(key: RSAKey) -> bytes:
            named = FIRST.token(key=key, kid="x")
            header = base64.urlsafe_b64encode(b'{"alg":"RS256"}').rstrip(b"=")
            signed = header + b"." + named.split(b".")[1]
            return signed + b"." + base64.urlsafe_b64encode(
                JWSRegistry.algorithms["RS256"].sign(signed, key)).rstrip(b"=")

        keys = [RSAKey.import_key(one.rsa.as_pem(private=True)) for one in (FIRST, SECOND)]
        single = [json.dumps({"keys": [{name: value for name, value in key.as_dict(private=False).items()
                                        if name != "kid"}]}).encode() for key in keys]
        self.issuer.content = single[0]
        await self.expect("user", token(keys[0]), asked=1)
        await self.expect(LoginRefused, token(keys[1]), asked=1)
        self.issuer.content = single[1]
        self.clock.advance(PAUSE_SECONDS)
        await self.expect("user", token(keys[1]), asked=2)

    async def test_outage_with_keys(self) -> None:
        """The old ones are good for a day more; what they cannot judge is no wrong token."""
        await self.expect("user", FIRST.token(), asked=1)
        self.issuer.code = 503
        self.clock.advance(PAUSE_SECONDS)
        await self.expect(StoreUnavailable, FIRST.token(kid="unknown"), SECOND.token(), asked=2)
        self.clock.advance(FRESH_SECONDS)
        await self.expect("user", *[FIRST.token()] * 3, asked=2)        # the next fetch goes beside
        await self.settled()
        self.assertEqual(len(self.issuer.asked), 3)
        await self.expect(LoginRefused, FIRST.token(exp=1), asked=3)
        self.clock.advance(KEPT_SECONDS - PAUSE_SECONDS - 1)
        await self.expect("user", FIRST.token(), asked=3)
        await self.settled()
        self.clock.advance(PAUSE_SECONDS + 1)
        await self.expect(StoreUnavailable, *[FIRST.token()] * 5, asked=5)
        self.assertIn("/jwks.json: answers 503", self.words)
        self.issuer.code = 200
        await self.expect(StoreUnavailable, FIRST.token(), asked=5)
        self.clock.advance(PAUSE_SECONDS)
        await self.expect("user", FIRST.token(), asked=6)

    async def settled(self) -> None:
        """Wait for a fetch for which no login waits."""
        while self.keys._fetching:
            await self.turn()

    async def test_refresh_that_fails(self) -> None:
        """The first login after the hour waits for it, and goes on with the old keys."""
        await self.expect("user", FIRST.token(), asked=1)
        self.issuer.code = 500
        self.clock.advance(FRESH_SECONDS)
        await self.expect("user", FIRST.token(), asked=2)
        self.issuer.code, self.issuer.content = 200, document(SECOND.rsa)
        self.clock.advance(PAUSE_SECONDS)
        await self.expect("user", FIRST.token(), asked=2)
        await self.settled()
        await self.expect("user", SECOND.token(), asked=3)


class OutageTests(PublishedCase):
    """No keys at all: never is a token wrong for that."""

    async def faults(self, *expected: str) -> None:
        self.clock.advance(PAUSE_SECONDS)
        before = len(self.issuer.asked)
        await self.expect(StoreUnavailable, FIRST.token(), b"rubbish", asked=before + 1)
        for words in expected:
            self.assertIn(words, self.words)

    async def test_answers(self) -> None:
        for code in (204, 400, 401, 404, 500):
            self.issuer.code = code
            await self.faults(f"answers {code}")
        self.issuer.code = 200
        for content in (b"", b"<html>", b"[]", b'{"keys": 1}', b"null", b"[" * 100_000, b'{"keys"', b"\xff"):
            self.issuer.content = content
            await self.faults("no JWK set")
        self.issuer.content = b" " * (SET_OCTETS + 1)
        await self.faults("longer than 262144 octets")
        self.issuer.content = document(FIRST.rsa)
        self.clock.advance(PAUSE_SECONDS)
        self.assertEqual(await self.outcome(FIRST.token()), "user")

    async def test_redirect(self) -> None:
        """Is followed nowhere: who may answer there is not who was named."""
        for code in (301, 302, 307, 308):
            for location in ("/other", "http://127.0.0.1:1/", "https://else.example.org/jwks.json"):
                self.issuer.code, self.issuer.fields = code, {"Location": location}
                await self.faults(f"answers {code}: moved to {location!r}; no redirect is followed")
        self.assertEqual(set(self.issuer.asked), {b"/jwks.json"})

    async def test_silence(self) -> None:
        """Before the answer or in its middle."""
        self.patch(web, "ASK_SECONDS", 0.2)
        self.issuer.held = []
        for begun in (b"", b'{"keys": ['):
            self.issuer.begun = begun
            await self.faults("no answer in 0.2 s")
        await gatherResults([request.notifyFinish().addErrback(lambda failure: None)
                             for request in self.issuer.held if not request._disconnected])

    async def test_unreachable(self) -> None:
        self.tokens = self.make("http://127.0.0.1:1/jwks.json")
        await self.expect(StoreUnavailable, FIRST.token(), FIRST.token(), asked=0)
        self.assertIn("refused", self.words)

    async def test_no_tls(self) -> None:
        """A server that speaks something else is told in words."""
        factory = Factory.forProtocol(Greeting)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")     # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        self.tokens = self.make(f"https://127.0.0.1:{port.getHost().port}/")
        await self.expect(StoreUnavailable, FIRST.token(), asked=0)
        self.assertIn("TLS: ", self.words)


class Greeting(Protocol):
    """Speaks first, and no TLS."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"220 hello\r\n")


class AlgorithmTests(PublishedCase):
    async def test_pinned(self) -> None:
        """Configured algorithms alone, by keys that are meant for them; no secret, no public key as one."""
        secret = OctKey.generate_key(256, {"kid": "secret"})
        self.issuer.content = document(
            FIRST.ec, secret, RSAKey.import_key(FIRST.rsa.as_dict(), {"kid": "512", "alg": "RS512"}),
            RSAKey.import_key(FIRST.rsa.as_dict(), {"kid": "enc", "use": "enc"}),
            RSAKey.import_key(FIRST.rsa.as_dict(), {"kid": "ops", "key_ops": ["encrypt"]}))
        await self.expect("user", FIRST.token(algorithm="ES256"), asked=1)
        for kid in ("512", "enc", "ops"):
            await self.expect(LoginRefused, FIRST.token(kid=kid), asked=1)
        await self.expect(LoginRefused, FIRST.token(kid="512", algorithm="RS512"), asked=1)
        _, body, _ = FIRST.token().split(b".")
        for key, kid in ((secret.raw_value, "secret"), (FIRST.ec.as_pem(private=False), "ec")):
            header = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": kid}).encode()).rstrip(b"=")
            mac = base64.urlsafe_b64encode(hmac.digest(key, header + b"." + body, "sha256")).rstrip(b"=")
            await self.expect(LoginRefused, header + b"." + body + b"." + mac, asked=1)


class ReadTests(SynchronousTestCase):
    def test_what_is_of_use(self) -> None:
        """Broken and foreign keys hide no good one; with none good the reasons are told."""
        good = FIRST.rsa.as_dict(private=False)
        strange: list[Any] = [1, None, {}, {"kty": 1}, {"kty": ["RSA"]}, {"kty": "PQ"}, {"kty": "RSA"},
                              {"kty": "RSA", "n": "!", "e": "AQAB"}, {**good, "key_ops": 5},
                              {**good, "use": ["sig"]}, {**good, "alg": {}}, {**good, "alg": "none"},
                              {"kty": "EC", "crv": ["P-256"]}, {"kty": "OKP", "crv": "X25519", "x": "AA"}]
        content = json.dumps({"keys": [*strange, good]}).encode()
        self.assertEqual([key.kid for key in read_keys(content, ["RS256"])], ["rsa"])
        for entry in strange:
            self.assertRaises(ValueError, read_keys, json.dumps({"keys": [entry]}).encode(), ["RS256"])
        for keys, words in (
                (document(OctKey.generate_key(256)), "key 1 is a secret"),
                (document(FIRST.rsa, private=True), "key 1 is a private key"),
                (document(FIRST.ec), "key 1 is 'P-256'"),
                (document(RSAKey.import_key(good, {"use": "enc"})), "key 1 is for 'enc'"),
                (document(RSAKey.import_key(good, {"alg": "PS256"})), "key 1 is for 'PS256'"),
                (b'{"keys": []}', "no key there is good for RS256")):
            fault = self.assertRaises(ValueError, read_keys, keys, ["RS256"])
            self.assertIn(words, str(fault))

    def test_every_algorithm_has_its_kind(self) -> None:
        self.assertEqual(set(KINDS), set(ALGORITHMS))
        for algorithm, curve in (("ES256", "P-256"), ("ES384", "P-384"), ("ES512", "P-521")):
            self.assertTrue(read_keys(document(ECKey.generate_key(curve)), [algorithm]))

    def test_fresh_seconds(self) -> None:
        for said, seconds in (
                ("", FRESH_SECONDS), ("max-age=600", 600), ("public,Max-Age=600, must-revalidate", 600),
                ('max-age="600"', 600), ("max-age=0", LEAST_FRESH_SECONDS), ("no-store", LEAST_FRESH_SECONDS),
                ("no-cache, max-age=600", LEAST_FRESH_SECONDS), ("max-age=9999999", MOST_FRESH_SECONDS),
                ("s-maxage=5", FRESH_SECONDS), ("max-age=-1", FRESH_SECONDS), ("max-age=x", FRESH_SECONDS),
                ("max-age=" + "9" * 5000, FRESH_SECONDS)):
            self.assertEqual(fresh_seconds({"cache-control": said}), seconds, said)
        self.assertEqual(fresh_seconds({"cache-control": "max-age=600", "age": "100"}), 500)
        self.assertEqual(fresh_seconds({"cache-control": "max-age=600", "age": "x"}), 600)
