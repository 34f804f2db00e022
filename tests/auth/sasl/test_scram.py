"""The SCRAM exchange by itself (RFC 5802, 7677): vectors, grammar, channel binding."""

from __future__ import annotations

import base64
import hashlib
import hmac

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.kept import SCRAM_SHA_1, SCRAM_SHA_256
from mailgate.auth.sasl import Attempt, Challenge, Consult, Facts, ProvenClaim, ScramQuestion
from mailgate.auth.sasl.scram import Scram
from mailgate.errors import BadExchange, LoginRefused
from mailgate.model import ScramKeys, ScramSecret

SALT_1 = base64.b64decode("QSXCR+Q6sek8bf92")
SALT_256 = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
TLS = {b"tls-exporter": b"exported", b"tls-server-end-point": b"certificate"}


def secret(family=SCRAM_SHA_256, passwords=(b"pencil",), salt=SALT_256, vouch="vouched") -> ScramSecret:
    forms = [family.read(family.make_salted(one, salt, 4096)) for one in passwords]
    return ScramSecret(4096, salt, tuple(form.keys for form in forms), vouch)


class Client:
    """A client's side, written from the standard alone."""

    def __init__(self, password: bytes = b"pencil", *, name: bytes = b"user", gs2: bytes = b"n,,",
                 binding: bytes = b"", algorithm: str = "sha256") -> None:
        self.password, self.gs2, self.binding, self.algorithm = password, gs2, binding, algorithm
        self.bare = b"n=%b,r=clientnonce" % name
        self.first = gs2 + self.bare

    def final(self, server_first: bytes, *, nonce: bytes | None = None, extra: bytes = b"") -> bytes:
        parts = dict(part.split(b"=", 1) for part in server_first.split(b","))
        salted = hashlib.pbkdf2_hmac(self.algorithm, self.password, base64.b64decode(parts[b"s"]),
                                     int(parts[b"i"]))
        key = hmac.digest(salted, b"Client Key", self.algorithm)
        unproven = b"c=%b,r=%b%b" % (base64.b64encode(self.gs2 + self.binding), nonce or parts[b"r"], extra)
        message = b",".join((self.bare, server_first, unproven))
        mine = hmac.digest(hashlib.new(self.algorithm, key).digest(), message, self.algorithm)
        self.expected = b"v=" + base64.b64encode(hmac.digest(
            hmac.digest(salted, b"Server Key", self.algorithm), message, self.algorithm))
        return unproven + b",p=" + base64.b64encode(bytes(a ^ b for a, b in zip(key, mine, strict=True)))


def begun(facts: Facts = Facts(), *, plus: bool = False, scheme: str = "SCRAM-SHA-256") -> Scram:
    return Scram(scheme, facts, plus=plus)


class VectorTests(SynchronousTestCase):
    def test_sha_1(self) -> None:
        """The example of RFC 5802 section 5, octet by octet."""
        exchange = Scram("SCRAM-SHA-1", Facts(), plus=False, nonce=b"3rfcNHYJY1ZVvWVs7j")
        self.assertEqual(exchange.step(None), Challenge(b""))
        self.assertEqual(exchange.step(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"),
                         Consult(ScramQuestion("SCRAM-SHA-1", b"user")))
        self.assertEqual(exchange.answered(secret(SCRAM_SHA_1, salt=SALT_1)), Challenge(
            b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"))
        self.assertEqual(
            exchange.step(b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="),
            Challenge(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ="))
        self.assertEqual(exchange.step(b""), Attempt(ProvenClaim(b"user", "vouched")))

    def test_sha_256(self) -> None:
        """The example of RFC 7677 section 3."""
        exchange = Scram("SCRAM-SHA-256", Facts(), plus=False, nonce=b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
        exchange.step(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
        self.assertEqual(exchange.answered(secret()), Challenge(
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"))
        self.assertEqual(exchange.step(
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
            Challenge(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="))


class ScramCase(SynchronousTestCase):
    def run_with(self, client: Client, answer: ScramSecret, facts: Facts = Facts(), *, plus: bool = False,
                 **final: bytes) -> object:
        exchange = begun(facts, plus=plus)
        exchange.step(client.first)
        challenge = exchange.answered(answer)
        assert isinstance(challenge, Challenge)
        signature = exchange.step(client.final(challenge.data, **final))
        self.assertEqual(signature, Challenge(client.expected))
        return exchange.step(b"")


class ExchangeTests(ScramCase):
    def test_wrong_password(self) -> None:
        self.assertRaises(LoginRefused, self.run_with, Client(b"pen"), secret())

    def test_any_of_several_passwords(self) -> None:
        """Keys under one salt: each password is good, and the signature is made by its own key."""
        for password in (b"one", b"two"):
            done = self.run_with(Client(password), secret(passwords=(b"one", b"two")))
            self.assertEqual(done, Attempt(ProvenClaim(b"user", "vouched")))

    def test_nobody_vouches(self) -> None:
        """An invented secret, or a disabled account's: refused however good the proof is."""
        self.assertRaises(LoginRefused, self.run_with, Client(), secret(vouch=None))

    def test_nonce_is_fresh_and_has_to_come_back(self) -> None:
        nonces = set()
        for _ in range(3):
            exchange = begun()
            exchange.step(Client().first)
            step = exchange.answered(secret())
            assert isinstance(step, Challenge)
            nonces.add(step.data)
        self.assertEqual(len(nonces), 3)
        for nonce in (b"clientnonce", b"other", step.data[2:].split(b",")[0] + b"x"):
            self.assertRaises(LoginRefused, self.run_with, Client(), secret(), nonce=nonce)

    def test_unknown_extensions_are_passed_over(self) -> None:
        """Optional attributes that nobody knows are no error (RFC 5802 section 5.1)."""
        client = Client()
        client.bare += b",x=unknown"
        client.first += b",x=unknown"
        self.assertIsInstance(self.run_with(client, secret(), extra=b",y=too"), Attempt)

    def test_mandatory_extension(self) -> None:
        """`m=` fails."""
        for first in (b"n,,m=x,n=user,r=abc", b"n,,n=user,m=x,r=abc", b"m=x,n,,n=user,r=abc"):
            self.assertRaises(BadExchange, begun().step, first)

    def test_names(self) -> None:
        """`=2C` and `=3D` are comma and equals sign; any other `=` fails; authzid has to be the same."""
        for name, read in ((b"a=2Cb=3Dc", b"a,b=c"), ("\u00e4".encode(), "\u00e4".encode())):
            self.assertEqual(begun().step(b"n,,n=%b,r=abc" % name),
                             Consult(ScramQuestion("SCRAM-SHA-256", read)))
            self.assertIsInstance(begun().step(b"n,a=%b,n=%b,r=abc" % (name, name)), Consult)
        for name in (b"a=b", b"a=2cb", b"a=", b"=", b"", b"a\0b", b"\xff"):
            self.assertRaises(BadExchange, begun().step, b"n,,n=%b,r=abc" % name)
        self.assertRaises(LoginRefused, begun().step, b"n,a=other,n=user,r=abc")

    def test_malformed_first(self) -> None:
        for first in (b"", b"n", b"n,,", b"x,,n=user,r=abc", b"n,n=user,r=abc", b"n,,r=abc,n=user",
                      b"n,,n=user",
                      b"n,,n=user,r=", b"n,,n=user,r=a b", b"n,,n=user,r=abc,", b"n,,n=user,r=abc,x",
                      b"p=,,n=user,r=abc", b"N,,n=user,r=abc", b" n,,n=user,r=abc", b"n,,n=user,r=abc\n"):
            self.assertRaises(BadExchange, begun().step, first)

    def test_malformed_final(self) -> None:
        for change in (lambda m: b"", lambda m: m.split(b",p=")[0], lambda m: m + b",x=1",
                       lambda m: m.replace(b"c=", b"C="), lambda m: m.replace(b",p=", b",p=!"),
                       lambda m: m[:-1], lambda m: m.replace(b"c=biws", b"c=biw"),
                       lambda m: b"x=1," + m, lambda m: m.replace(b",p=", b",p==")):
            exchange, client = begun(), Client()
            exchange.step(client.first)
            step = exchange.answered(secret())
            assert isinstance(step, Challenge)
            self.assertRaises(BadExchange, exchange.step, change(client.final(step.data)))

    def test_short_and_long_proofs(self) -> None:
        for proof in (b"AAAA", base64.b64encode(bytes(33)), base64.b64encode(bytes(32))):
            exchange, client = begun(), Client()
            exchange.step(client.first)
            step = exchange.answered(secret())
            assert isinstance(step, Challenge)
            message = client.final(step.data).split(b",p=")[0] + b",p=" + proof
            self.assertRaises(LoginRefused, exchange.step, message)

    def test_answer_to_the_signature(self) -> None:
        """It has to be empty."""
        exchange, client = begun(), Client()
        exchange.step(client.first)
        step = exchange.answered(secret())
        assert isinstance(step, Challenge)
        exchange.step(client.final(step.data))
        self.assertRaises(BadExchange, exchange.step, b"x")

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(
        [b"n,,n=user,r=abc", b"c=biws,r=abc,p=AAAA", b"y,,n=u,r=a", b"p=x,,n=u,r=a"])), max_size=4))
    def test_any_messages(self, messages: list[bytes]) -> None:
        """Whatever comes, in whatever order: our own faults and nothing else, and no claim without proof."""
        exchange = begun(Facts(bindings=TLS))
        try:
            for message in messages:
                step = exchange.step(message)
                self.assertNotIsInstance(step, Attempt)
                if isinstance(step, Consult):
                    exchange.answered(secret())
        except (BadExchange, LoginRefused):
            pass


class ChannelBindingTests(ScramCase):
    """RFC 5802 section 6, RFC 9266."""

    facts = Facts(bindings=TLS, offered=(b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"))

    def test_each_type(self) -> None:
        for kind, data in TLS.items():
            client = Client(gs2=b"p=%b,," % kind, binding=data)
            self.assertIsInstance(self.run_with(client, secret(), self.facts, plus=True), Attempt)

    def test_another_channel(self) -> None:
        """Who stands in between has another channel."""
        client = Client(gs2=b"p=tls-exporter,,", binding=b"another's")
        self.assertRaises(LoginRefused, self.run_with, client, secret(), self.facts, plus=True)

    def test_changed_flag(self) -> None:
        """The flag that was proven is the one that was sent first."""
        client = Client(gs2=b"n,,")
        exchange = begun(Facts())
        exchange.step(b"y,," + client.bare)
        step = exchange.answered(secret())
        assert isinstance(step, Challenge)
        self.assertRaises(LoginRefused, exchange.step, client.final(step.data))

    def test_downgrade(self) -> None:
        """`y` where a -PLUS name was offered: somebody removed it. Where none was, it is true."""
        self.assertRaises(LoginRefused, begun(self.facts).step, b"y,,n=user,r=abc")
        self.assertIsInstance(begun(Facts()).step(b"y,,n=user,r=abc"), Consult)
        only_sha_1 = Facts(bindings=TLS, offered=(b"SCRAM-SHA-1-PLUS", b"SCRAM-SHA-256"))
        self.assertIsInstance(begun(only_sha_1).step(b"y,,n=user,r=abc"), Consult)

    def test_flag_and_name(self) -> None:
        """`p` belongs to a -PLUS name, `n` and `y` to the others; the type has to be there."""
        self.assertRaises(BadExchange, begun(self.facts).step, b"p=tls-exporter,,n=user,r=abc")
        for first in (b"n,,n=user,r=abc", b"y,,n=user,r=abc", b"p=tls-unique,,n=user,r=abc",
                      b"p=TLS-EXPORTER,,n=user,r=abc"):
            self.assertRaises(BadExchange, begun(self.facts, plus=True).step, first)


class SecretTests(SynchronousTestCase):
    def test_shows_no_keys(self) -> None:
        self.assertNotIn("stored", repr(ScramKeys(b"stored", b"server")))
