"""Targets that are mechanisms: each exchange, with what it is told in between."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

from mailgate.auth import sasl
from mailgate.auth.kept import SCRAM_SHA_1, SCRAM_SHA_256
from mailgate.auth.sasl.mechanisms import MECHANISMS
from mailgate.errors import BadExchange, LoginRefused
from mailgate.model import ScramSecret
from mailgate.principals import Principal
from mailgate.wire.shown import shown
from tests.fuzz.target import Target, hold, one_line, same

SALT = bytes(range(16))
SECRETS = {scheme: ScramSecret(4096, SALT, (family.read(family.make_salted(b"secret", SALT, 4096)).keys,),
                               "vouch")
           for scheme, family in (("SCRAM-SHA-256", SCRAM_SHA_256), ("SCRAM-SHA-1", SCRAM_SHA_1))}
FACTS = sasl.Facts(bindings={b"tls-exporter": b"E" * 32, b"tls-server-end-point": b"P" * 32},
                   identities=(b"mrose",),
                   hostname=b"mail.example.org", server_name=b"mail.example.org",
                   random=lambda count: bytes(count))


def answer_to(question: Any) -> object:
    """Return what a mechanism that asks is told."""
    if isinstance(question, sasl.ScramQuestion):
        return SECRETS[question.scheme]
    if isinstance(question, sasl.AcceptQuestion):
        if not question.token.startswith(b"T"):
            return sasl.Unproven("no token")
        done = question.token.endswith(b"!")
        return sasl.Accepting(1, question.token[:20] + b"R", Principal(("mrose",), "R") if done else None,
                              b"sealed")
    if isinstance(question, sasl.UnwrapQuestion):
        return question.message[1:] if question.message[:1] == b"W" else sasl.Unproven("no seal")
    raise AssertionError(f"an unknown question: {question!r}")



def check_mechanism(name: bytes) -> Callable[[bytes], None]:
    """Return the check of a mechanism: its responses are the input's lines, as they are before base64."""
    def check(data: bytes) -> None:
        exchange: Any = MECHANISMS[name].begin(FACTS)
        responses: list[bytes | None] = list(data.split(b"\n"))
        if len(data) % 2 or MECHANISMS[name].server_first:
            responses.insert(0, None)
        for response in responses:
            try:
                step = exchange.step(response)
                while isinstance(step, sasl.Consult):
                    step = exchange.answered(answer_to(step.question))
            except (BadExchange, LoginRefused):
                return
            if isinstance(step, sasl.Attempt):
                check_claim(step)
                return
            hold(isinstance(step, sasl.Challenge) and isinstance(step.data, bytes), step)
            hold(len(step.data) < len(data) + 1000, "a long challenge")

    return check


def check_claim(step: sasl.Attempt) -> None:
    """Whatever is claimed can be told in a line of the log, and shows no secret."""
    claim = step.claim
    hold(isinstance(claim.name, bytes), claim)
    one_line(shown(claim.name))
    if isinstance(claim, (sasl.PasswordClaim, sasl.TokenClaim)):
        secret = claim.password if isinstance(claim, sasl.PasswordClaim) else claim.token
        hold(len(secret) < 8 or secret in claim.name or repr(secret)[2:-1] not in repr(claim),
             "a secret is shown")
    if isinstance(claim, sasl.ProvenClaim):
        same(claim.vouch, "vouch")


def coded(octets: bytes) -> bytes:
    return base64.b64encode(octets)


def scram_responses(algorithm: str) -> bytes:
    bare, nonce = b"n=mrose,r=abc", b"abc" + coded(bytes(18))
    first = b"r=%b,s=%b,i=4096" % (nonce, coded(SALT))
    unproven = b"c=biws,r=" + nonce
    salted = hashlib.pbkdf2_hmac(algorithm, b"secret", SALT, 4096)
    key = hmac.digest(salted, b"Client Key", algorithm)
    signature = hmac.digest(hashlib.new(algorithm, key).digest(), b",".join((bare, first, unproven)),
                            algorithm)
    proof = bytes(one ^ other for one, other in zip(key, signature, strict=True))
    return b"n,," + bare + b"\n" + unproven + b",p=" + coded(proof) + b"\n"


SCRAM_WORDS = (b"n,,", b"y,,", b"p=tls-exporter,,", b"a=mrose,", b"n=", b",r=", b"c=biws", b",p=", b"=2C",
               b"=3D", b"m=x,", b"\0",
               b"\xff", b",e=x")
MECHANISM_SEEDS = {
    b"PLAIN": (b"\0mrose\0secret", b"mrose\0mrose\0x", "\0grüß\0ä".encode()),
    b"LOGIN": (b"mrose\nsecret", b"\xff\n\xfe"),
    b"CRAM-MD5": (b"mrose " + b"0" * 32, b"two words " + b"Ab" * 16),
    b"EXTERNAL": (b"mrose", b""),
    b"OAUTHBEARER": (b"n,a=mrose,\1host=mail.example.org\1port=110\1auth=Bearer abc.def\1\1",
                     b"n,,\1auth=\1\1"),
    b"XOAUTH2": (b"user=mrose\1auth=Bearer abc.def==\1\1",),
    b"GSSAPI": (b"T1\nT2!\n\nW\1\0\0\0mrose", b"T!\n\nW\1\0\0\0", b"T1"),
    b"SCRAM-SHA-256": (scram_responses("sha256"), b"y,a=mrose,n=mrose,r=x"),
    b"SCRAM-SHA-1": (scram_responses("sha1"),),
    b"SCRAM-SHA-256-PLUS": (b"p=tls-exporter,," + scram_responses("sha256")[3:],),
    b"SCRAM-SHA-1-PLUS": (b"p=tls-server-end-point,," + scram_responses("sha1")[3:],),
}
MECHANISM_WORDS = (b"\0", b"\n", b"\1", b"auth=Bearer ", b"user=", b"host=", b"port=", b"a=", b"n,", b"\r",
                   b"\x7f", b"W\1\0\0\0",
                   b"T", b"!", *SCRAM_WORDS)


LINE_OCTETS = 60_000     # as long as tokens get

TARGETS = {f"sasl-{name.decode().lower()}": Target(
    check_mechanism(name), MECHANISM_SEEDS[name], MECHANISM_WORDS, LINE_OCTETS) for name in MECHANISMS}
