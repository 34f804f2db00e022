"""Bearer tokens: whose they are, and whether they are good. A checker for OAUTHBEARER and XOAUTH2.

Either a token is a JWT that is checked here against keys in a file or at a URL (RFC 7519, 7517), or the
issuer is asked about it (RFC 7662). Both need packages of the `oauth` extra, loaded with the first token.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from mailgate.auth.credentials import ITokenLogin, Refused, login_name
from mailgate.auth.hashing import Hashing, network_of
from mailgate.auth.published import PublishedKeys
from mailgate.auth.web import ask
from mailgate.errors import ConfigurationError, StoreUnavailable
from mailgate.interfaces import IAccountStore
from mailgate.model import Admission, Login
from mailgate.names import fold

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
DEFAULT_ALGORITHMS = ("RS256", "ES256")
LEEWAY_SECONDS = 60             # between our clock and the issuer's
ANSWER_OCTETS = 64 * 1024       # of an introspection

log = Logger()


class Expected(NamedTuple):
    """What a token's claims must be. None is not looked at."""

    issuer: str | None = None
    audience: str | None = None
    scope: str | None = None


class Tokens(Protocol):
    """How a token is judged."""

    def claims(self, token: bytes, network: str) -> Deferred[Mapping[str, Any]]:
        """Return the claims of a good token. Raises: LoginRefused; StoreUnavailable; TooBusy."""


def check_claims(claims: Mapping[str, Any], expected: Expected, now: float) -> None:
    """Raise Refused unless the claims are of now, of the issuer, for us, and wide enough."""
    if not _is_time(claims.get("exp")) or claims["exp"] + LEEWAY_SECONDS <= now:
        raise Refused("the token has expired, or never would")
    if "nbf" in claims and (not _is_time(claims["nbf"]) or claims["nbf"] - LEEWAY_SECONDS > now):
        raise Refused("the token is not good yet")
    if expected.issuer is not None and claims.get("iss") != expected.issuer:
        raise Refused("a token of another issuer")
    audience = claims.get("aud")
    if expected.audience is not None and expected.audience not in (
            audience if isinstance(audience, list) else [audience]):
        raise Refused("a token for somebody else")
    scope = claims.get("scope", claims.get("scp", ""))
    if expected.scope is not None and expected.scope not in (
            scope if isinstance(scope, list) else str(scope).split()):
        raise Refused("a token of another scope")


class UnknownKey(Refused):
    """The token may have been signed with a key that is not in the set."""


def judge(token: bytes, keys: Any, algorithms: Sequence[str], expected: Expected,
          now: float) -> Mapping[str, Any]:
    """Return the claims of a JWT that one of the keys signed. Raises: Refused. Blocks.

    What the token says of its own algorithm is no evidence (RFC 8725 section 3.1).
    """
    from joserfc import jws, jwt
    from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError

    try:
        decoded = jwt.decode(token, keys, algorithms=algorithms)
    except InvalidKeyIdError as fault:
        raise UnknownKey("no key of that name, for that algorithm") from fault
    except BadSignatureError as fault:
        kind = Refused if jws.extract_compact(token).headers().get("kid") else UnknownKey
        raise kind("a bad signature") from fault
    except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
        # whatever is wrong with its octets
        raise Refused(f"no good JWT: {type(fault).__name__}") from fault
    check_claims(decoded.claims, expected, now)
    return decoded.claims


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class SignedTokens:
    """JWTs, checked against the JWK set in a file, which is read again when it changes.

    Only `algorithms` are taken: what a token says of its own algorithm is no evidence (RFC 8725 section 3.1).
    """

    def __init__(self, path: str, pool: Hashing, expected: Expected, *,
                 algorithms: Sequence[str] = DEFAULT_ALGORITHMS,
                 now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._pool = pool
        self._expected = expected
        self._algorithms = list(algorithms)
        self._now = now
        self._keys: tuple[tuple[int, ...], Any] | None = None

    def claims(self, token: bytes, network: str) -> Deferred[Mapping[str, Any]]:
        """See Tokens."""
        return self._pool.run(network, self.judge, token)

    def judge(self, token: bytes) -> Mapping[str, Any]:
        """Do the same at once. Blocks."""
        return judge(token, self.keys(), self._algorithms, self._expected, self._now())

    def keys(self) -> Any:
        """Return the key set. Raises: StoreUnavailable."""
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        try:
            status = os.stat(self._path)
            signature = (status.st_mtime_ns, status.st_size, status.st_ino)
            if self._keys is None or self._keys[0] != signature:
                with open(self._path, "rb") as file:
                    self._keys = signature, KeySet.import_key_set(json.load(file))
        except (OSError, JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
            raise StoreUnavailable(f"keys of tokens: {self._path}: {fault}") from fault
        return self._keys[1]


class PublishedTokens:
    """JWTs, checked as SignedTokens does, against the JWK set that the issuer publishes."""

    def __init__(self, keys: PublishedKeys, pool: Hashing, expected: Expected, *,
                 algorithms: Sequence[str] = DEFAULT_ALGORITHMS,
                 now: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._pool = pool
        self._expected = expected
        self._algorithms = list(algorithms)
        self._now = now

    def claims(self, token: bytes, network: str) -> Deferred[Mapping[str, Any]]:
        """See Tokens."""
        return Deferred.fromCoroutine(self._claims(token, network))

    async def _claims(self, token: bytes, network: str) -> Mapping[str, Any]:
        keys = await self._keys.current()
        try:
            return await self._judge(token, network, keys)
        except UnknownKey:
            others = await self._keys.beyond(keys)
            if others is None:
                raise
            return await self._judge(token, network, others)

    def _judge(self, token: bytes, network: str, keys: Any) -> Deferred[Mapping[str, Any]]:
        return self._pool.run(
            network, judge, token, keys, self._algorithms, self._expected, self._now())


class AskedTokens:
    """Tokens about which their issuer is asked (RFC 7662), with a name and a secret of ours."""

    def __init__(self, url: str, expected: Expected, *, client: tuple[str, str] | None, reactor: Any,
                 now: Callable[[], float] = time.time) -> None:
        self._url = url
        self._expected = expected
        self._client = client
        self._reactor = reactor
        self._now = now

    def claims(self, token: bytes, network: str) -> Deferred[Mapping[str, Any]]:
        """See Tokens."""
        return Deferred.fromCoroutine(self._claims(token))

    async def _claims(self, token: bytes) -> Mapping[str, Any]:
        if not token.isascii():
            raise Refused("no token that RFC 6750 knows")
        answer = await self._ask(token)
        if not isinstance(answer, dict) or not isinstance(answer.get("active"), bool):
            raise StoreUnavailable(f"introspection: {self._url} answers nothing that RFC 7662 knows")
        if not answer["active"]:
            raise Refused("the issuer says that the token is not active")
        check_claims({"exp": self._now() + 1, **answer}, self._expected, self._now())
        return answer

    async def _ask(self, token: bytes) -> Any:
        try:
            answer = await ask(
                self._reactor, "POST", self._url, most_octets=ANSWER_OCTETS, auth=self._client,
                data={"token": token.decode("ascii"), "token_type_hint": "access_token"})
            return json.loads(answer.content)
        except StoreUnavailable as fault:
            raise StoreUnavailable(f"introspection: {fault}") from fault
        except (ValueError, RecursionError) as fault:
            raise StoreUnavailable(f"introspection: {self._url} answers no JSON") from fault


@implementer(ICredentialsChecker)
class TokenChecker:
    """Who brings a good token may open the maildrop of the name in it.

    `claim` says which of the token's claims is the login name. The name that the client gave has to
    mean the same account. Without an account of that name the name itself is answered.
    """

    credentialInterfaces = (ITokenLogin,)

    def __init__(self, tokens: Tokens, accounts: IAccountStore | None, *, claim: str = "sub") -> None:
        self._tokens = tokens
        self._accounts = accounts
        self._claim = claim

    def requestAvatarId(self, credentials: ITokenLogin) -> Deferred[Any]:
        """Return an Admission, or the name as octets.

        Raises, by the Deferred: LoginRefused; StoreUnavailable, if the issuer or the keys are not at
        hand; TooBusy.
        """
        return Deferred.fromCoroutine(self._check(credentials))

    async def _check(self, credentials: Any) -> Any:
        if not credentials.token:
            raise Refused("no token")
        claims = await self._tokens.claims(credentials.token, network_of(getattr(credentials, "peer", None)))
        name = claims.get(self._claim)
        if not isinstance(name, str) or login_name(name.encode("utf-8", "surrogatepass")) is None:
            raise Refused(f"the token has no name in {self._claim!r}")
        asked = login_name(credentials.username) if credentials.username else name
        if asked is None:
            raise Refused("no login name")
        login, own = await self._find(asked), await self._find(name)
        if login is None and own is None and fold(asked) == fold(name):
            return name.encode("utf-8")
        if login is None or own is None or _maildrop(login) != _maildrop(own):
            raise Refused("the token is for another name")
        if login.account.disabled:
            raise Refused("disabled")
        return Admission(login.account.name, login.view, login.account.name, login.account.version)

    async def _find(self, name: str) -> Login | None:
        return None if self._accounts is None else await self._accounts.find_login(name)


def _maildrop(login: Login) -> tuple[str, str | None]:
    return login.account.name, login.view


def require_packages(*packages: str) -> None:
    """Raise ConfigurationError unless the packages are there."""
    for package in packages:
        try:
            __import__(package)
        except ImportError as fault:
            words = f"needs the package {package}: pip install 'mailgate[oauth]'"
            raise ConfigurationError([words]) from fault
