"""Targets that judge bearer tokens: the token, its claims, the issuer's answers and keys."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed

from mailgate.auth.credentials import ITokenLogin, TokenLogin
from mailgate.auth.hashing import Inline
from mailgate.auth.oauth import AskedTokens, Expected, SignedTokens, TokenChecker, check_claims
from mailgate.cli.telling import printable
from mailgate.errors import LoginRefused, MailgateError, StoreUnavailable
from tests.auth.tokens import AUDIENCE, ISSUER, Issuer
from tests.fuzz.target import Target, hold, one_line


def outcome(pending: Deferred[Any]) -> object:
    """Return what a Deferred that has fired holds, or the exception. Others than ours are raised."""
    found: list[Any] = []
    pending.addBoth(found.append)
    hold(found, "it waits")
    if hasattr(found[0], "value") and hasattr(found[0], "getTraceback"):
        found[0].trap(MailgateError)
        return found[0].value
    return found[0]


class Fixture:
    """An issuer and files of keys, made when they are first wanted."""

    _made: Fixture | None = None

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="mailgate-fuzz-")
        self.issuer = Issuer()
        self.issuer.write(Path(self.folder.name) / "keys.json")
        self.tokens = SignedTokens(f"{self.folder.name}/keys.json", Inline(), Expected(ISSUER, AUDIENCE),
                                   now=lambda: 1.0)
        self.any_keys = Path(self.folder.name) / "any.json"

    @classmethod
    def get(cls) -> Fixture:
        cls._made = cls._made or cls()
        return cls._made


class Said:
    """Stands in for who judges tokens: the claims are what the input says."""

    def __init__(self, claims: Any) -> None:
        self._claims = claims

    def claims(self, token: bytes, network: str) -> Deferred[Any]:
        return succeed(self._claims)


def check_token(data: bytes) -> None:
    """A token that the issuer did not sign is refused, whatever it looks like; a checker says no more."""
    fixture = Fixture.get()
    try:
        claims = fixture.tokens.judge(data)
    except LoginRefused as refusal:
        one_line(printable(getattr(refusal, "reason", "")))
    else:
        hold(data in TOKEN_SEEDS, claims)


def check_claims_of_issuer(data: bytes) -> None:
    """Claims of any JSON: of a signed token, of an issuer's answer; and the account that they name."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(said, dict):
        try:
            check_claims(said, Expected(ISSUER, AUDIENCE, "mail"), 1.0)
        except LoginRefused:
            pass
        checker = TokenChecker(Said(said), None)
        for name in (b"", b"user"):
            credentials = TokenLogin(name, b"token", None)
            hold(ITokenLogin.providedBy(credentials), "no token")
            found = outcome(checker.requestAvatarId(credentials))
            hold(isinstance(found, (bytes, LoginRefused)), found)
    asked = AskedTokens("http://127.0.0.1/", Expected(ISSUER, AUDIENCE), client=None, reactor=None,
                        now=lambda: 1.0)
    asked._ask = lambda token: succeed(said)       # type: ignore[method-assign,assignment,return-value]
    hold(isinstance(outcome(asked.claims(b"t", "")), (dict, LoginRefused, StoreUnavailable)), said)


def check_keys(data: bytes) -> None:
    fixture = Fixture.get()
    fixture.any_keys.write_bytes(data)
    tokens = SignedTokens(str(fixture.any_keys), Inline(), Expected())
    try:
        tokens.keys()
    except StoreUnavailable as fault:
        one_line(printable(str(fault)))
        return
    try:
        tokens.judge(TOKEN_SEEDS[0])
    except LoginRefused:
        pass


def _token_seeds() -> tuple[bytes, ...]:
    issuer = Fixture.get().issuer
    good = issuer.token("user", exp=4_000_000_000)
    other = Issuer().token("user", exp=4_000_000_000)
    nested = b"W" * 40_000
    head = good.split(b".")[0]
    return (good, issuer.token("user", algorithm="ES256", exp=4_000_000_000), other,
            b"eyJhbGciOiJub25lIn0." + good.split(b".")[1] + b".", b"e30.e30.", b"..", b"a.b.c.d.e",
            head + b"." + nested + b".x", b"W1tb" * 20_000 + b".e30.x")


TOKEN_SEEDS: tuple[bytes, ...] = ()
CLAIM = {"iss": ISSUER, "aud": [AUDIENCE], "exp": 99, "nbf": 0, "sub": "user", "scope": "mail a",
         "active": True}
CLAIM_SEEDS = tuple(json.dumps(one).encode() for one in (
    CLAIM, {**CLAIM, "aud": AUDIENCE, "scp": ["mail"]}, {**CLAIM, "exp": 1e400, "sub": "a@b"},
    {"active": False}, [],
    {**CLAIM, "sub": ["x"], "exp": "soon"}))

def targets() -> dict[str, Target]:
    """Return the rows; making keys takes a moment."""
    global TOKEN_SEEDS
    TOKEN_SEEDS = TOKEN_SEEDS or _token_seeds()
    return {
        "token": Target(check_token, TOKEN_SEEDS,
                        (b".", b"e30", b"eyJhbGciOiJub25lIn0", b"W1tb", b"=", b"\xff"), 100_000),
        "claims": Target(check_claims_of_issuer, CLAIM_SEEDS, (
            b"null", b"true", b"[", b"]", b"{", b"}", b",", b'"', b"NaN", b"Infinity", b"1e999", b'"sub"',
            b'"\\ud800"')),
        "keys": Target(check_keys,
                       (Path(Fixture.get().folder.name, "keys.json").read_bytes(), b'{"keys": []}', b"{}"),
                       (b'"kty"', b'"oct"', b'"RSA"', b'"EC"', b"null", b"[" * 3000, b'"k"', b'"crv"')),
    }


TARGETS = targets()
