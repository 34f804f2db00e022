"""The keys that an issuer of tokens publishes: which of a JWK set are of use, and a set fetched from a URL.

A set is fetched when it is first needed and again when it is no longer fresh, or when a token names a
key that it does not have; never twice in PAUSE_SECONDS, and once for all who wait.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailgate.auth.web import Answer, ask
from mailgate.errors import StoreUnavailable

SET_OCTETS = 256 * 1024         # of a JWK set
FRESH_SECONDS = 3600.0          # where the issuer says nothing of its own
LEAST_FRESH_SECONDS, MOST_FRESH_SECONDS = 60.0, 86_400.0    # whatever it says
KEPT_SECONDS = 86_400.0         # after that, while the issuer gives no others
PAUSE_SECONDS = 10.0            # between the beginnings of two fetches, whatever tokens come

KINDS = {"RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "PS256": "RSA", "PS384": "RSA", "PS512": "RSA",
         "ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "OKP"}

_MAX_AGE = re.compile(r'(?:^|[\s,])max-age="?(\d{1,10})"?(?=[\s,;]|$)', re.IGNORECASE)
_FORBIDDEN = re.compile(r"(?:^|[\s,])no-(?:store|cache)(?=[\s,;=]|$)", re.IGNORECASE)

log = Logger()


class PublishedKeys:
    """The key set at a URL, of which only what fits the algorithms counts.

    `fetch` gets it, `seconds` is a clock that never goes back. Kept through an outage of the issuer
    for KEPT_SECONDS beyond its freshness, in this process only.
    """

    def __init__(self, url: str, algorithms: Collection[str], fetch: Callable[[], Deferred[Answer]], *,
                 seconds: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._algorithms = tuple(algorithms)
        self._fetch = fetch
        self._seconds = seconds
        self._keys: Any = None
        self._fresh_until = 0.0
        self._asked_at: float | None = None             # when the last fetch began
        self._fault: StoreUnavailable | None = None     # of the last fetch
        self._fetching = False
        self._waiting: list[Deferred[None]] = []        # for the end of the fetch

    async def current(self) -> Any:
        """Return the key set. Raises: StoreUnavailable, if there is none."""
        now = self._seconds()
        if self._keys is not None and now >= self._fresh_until + KEPT_SECONDS:
            self._keys = None
        if self._keys is None:
            await self._fetched()
        elif now >= self._fresh_until and self._fault is None:
            try:
                await self._fetched()
            except StoreUnavailable:
                pass        # it was logged, and there are the old ones
        elif now >= self._fresh_until and self._may_fetch():
            self._begin()   # nobody waits for an issuer that was out of order
        return self._keys

    async def beyond(self, known: Any) -> Any:
        """Return another key set than `known`, in which a token found no key of its own, or None.

        Raises: StoreUnavailable, if whether there is another cannot be learnt now.
        """
        if self._keys is not known:
            return self._keys
        if self._fault is None and not self._fetching and not self._may_fetch():
            return None
        await self._fetched()
        return self._keys

    def _may_fetch(self) -> bool:
        return not self._fetching and (
            self._asked_at is None or self._seconds() - self._asked_at >= PAUSE_SECONDS)

    async def _fetched(self) -> None:
        """Wait for a fetch, begun now or before. Raises: StoreUnavailable."""
        if not self._fetching and not self._may_fetch():
            raise StoreUnavailable(f"keys of tokens: {self._fault or self._url}")
        end: Deferred[None] = Deferred()
        self._waiting.append(end)
        if not self._fetching:
            self._begin()
        await end

    def _begin(self) -> None:
        self._fetching = True
        self._asked_at = self._seconds()
        self._fetch().addCallback(self._take).addErrback(self._not_fetched).addBoth(self._tell)

    def _take(self, answer: Answer) -> None:
        try:
            keys = read_keys(answer.content, self._algorithms)
        except ValueError as fault:
            raise StoreUnavailable(f"{self._url}: {fault}") from fault
        if self._fault is not None:
            log.info("keys of tokens: {url} answers again", url=self._url)
        self._keys, self._fault = keys, None
        self._fresh_until = self._seconds() + fresh_seconds(answer.fields)

    def _not_fetched(self, failure: Failure) -> None:
        failure.trap(StoreUnavailable)
        if self._fault is None:
            log.warn("keys of tokens: {reason}", reason=failure.value)
        self._fault = failure.value

    def _tell(self, outcome: Failure | None) -> None:
        if outcome is not None:
            log.failure("keys of tokens", outcome)      # a bug
        self._fetching = False
        waiting, self._waiting = self._waiting, []
        for end in waiting:
            if end.called:      # whose login was broken off
                continue
            if outcome is not None:
                end.errback(outcome)
            elif self._fault is not None:
                end.errback(StoreUnavailable(f"keys of tokens: {self._fault}"))
            else:
                end.callback(None)


def fetch_set(reactor: Any, url: str) -> Deferred[Answer]:
    """Ask for a JWK set. Raises: StoreUnavailable."""
    return ask(reactor, "GET", url, most_octets=SET_OCTETS)


def fresh_seconds(fields: Mapping[str, str]) -> float:
    """Return for how long an answer may be used unasked (RFC 9111 section 4.2), within our bounds."""
    said = fields.get("cache-control", "")
    found = _MAX_AGE.search(said)
    seconds = FRESH_SECONDS if found is None else float(found[1])
    age = fields.get("age", "").strip()
    if found is not None and age.isascii() and age.isdigit() and len(age) < 10:
        seconds -= int(age)
    if _FORBIDDEN.search(said):
        seconds = 0.0
    return min(max(seconds, LEAST_FRESH_SECONDS), MOST_FRESH_SECONDS)


def read_keys(content: bytes, algorithms: Sequence[str]) -> Any:
    """Return joserfc's KeySet of what in a published JWK set can verify these algorithms.

    Others are left out, as RFC 7517 section 5 has it. Raises: ValueError, if none is left.
    """
    from joserfc.errors import JoseError
    from joserfc.jwk import JWKRegistry, KeySet

    try:
        entries = json.loads(content)["keys"]
        if not isinstance(entries, list):
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError) as fault:
        raise ValueError("what comes is no JWK set") from fault
    keys, unfit = [], []
    for number, entry in enumerate(entries, 1):
        try:
            words = _unfit(entry, algorithms)
            if words is None:
                keys.append(JWKRegistry.import_key(entry))
                continue
        except (JoseError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as fault:
            words = f"cannot be read: {fault}"
        unfit.append(f"key {number} {words}")
    if not keys:
        raise ValueError(f"no key there is good for {', '.join(algorithms)}"
                         + "".join(f"; {words}" for words in unfit[:5]))
    return KeySet(keys)


def _unfit(entry: Any, algorithms: Sequence[str]) -> str | None:
    """Return why a JWK is of no use, or None (RFC 7517 section 4)."""
    if not isinstance(entry, dict) or not isinstance(entry.get("kty"), str):
        return "is no JWK"
    kind = entry.get("crv") if entry["kty"] == "EC" else entry["kty"]
    fitting = [one for one in algorithms if KINDS.get(one) == kind]
    if entry["kty"] == "oct":
        return "is a secret, which is none where everybody can read it"
    if "d" in entry:
        return "is a private key: who reads it can sign"
    if entry.get("use") not in (None, "sig"):
        return f"is for {entry['use']!r:.40}, not for signatures"
    if "key_ops" in entry and "verify" not in (entry["key_ops"] or ()):
        return "is not for verifying"
    if not fitting:
        return f"is {kind!r:.40}"
    if entry.get("alg") not in (None, *fitting):
        return f"is for {entry['alg']!r:.40}"
    return None
