"""Ask a service on the web something, with bounds: on the time in all, and on the octets of the answer.

Needs treq, which is loaded with the first question.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from mailgate.errors import StoreUnavailable

ASK_SECONDS = 10.0          # from the name's look-up to the answer's last octet


class Answer(NamedTuple):
    """What came, with status 200. The names of fields are in lower case; of equal ones the last counts."""

    fields: Mapping[str, str]
    content: bytes


def ask(reactor: Any, method: str, url: str, *, most_octets: int, **options: Any) -> Deferred[Answer]:
    """Return the answer; `options` are treq's. No redirect is followed.

    Raises: StoreUnavailable, whatever went wrong, with words for an operator.
    """
    asking = Deferred.fromCoroutine(_ask(reactor, method, url, most_octets, options))
    return asking.addTimeout(ASK_SECONDS, reactor, _too_slow).addErrback(_in_words, url)


async def _ask(reactor: Any, method: str, url: str, most_octets: int, options: Mapping[str, Any]) -> Answer:
    from treq.client import HTTPClient
    from twisted.web.client import Agent, HTTPConnectionPool
    from twisted.web.http_headers import Headers

    from mailgate.auth.webtls import NamedServers

    agent = Agent(reactor, NamedServers(), pool=HTTPConnectionPool(reactor, persistent=False))
    response = await HTTPClient(agent).request(
        method, url, headers=Headers({"Accept": ["application/json"]}), allow_redirects=False,
        reactor=reactor, **options)
    fields = {name.decode("latin-1").lower(): values[-1].decode("latin-1")
              for name, values in response.headers.getAllRawHeaders()}
    body = _Body(most_octets)
    response.deliverBody(body)
    if response.code == 200:
        return Answer(fields, await body.whole)
    body.drop()
    elsewhere = fields.get("location", "") if 300 <= response.code < 400 else ""
    raise StoreUnavailable(f"answers {response.code}" + (
        f": moved to {elsewhere[:200]!r}; no redirect is followed" if elsewhere else ""))


class _Body(Protocol):
    """The body of an answer, up to a number of octets."""

    def __init__(self, most_octets: int) -> None:
        self._most_octets = most_octets
        self._content = bytearray()
        self._dropped = False
        self.whole: Deferred[bytes] = Deferred(lambda _: self.drop())

    def dataReceived(self, data: bytes) -> None:
        if self._dropped:
            return
        self._content += data
        if len(self._content) > self._most_octets:
            self.drop()
            self.whole.errback(StoreUnavailable(f"the answer is longer than {self._most_octets} octets"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        from twisted.web.client import ResponseDone
        from twisted.web.http import PotentialDataLoss

        if self._dropped or self.whole.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):   # without a length: what was cut is no JSON
            self.whole.callback(bytes(self._content))
        else:
            self.whole.errback(reason)

    def drop(self) -> None:
        """Take no more of it."""
        self._dropped = True
        self._content.clear()
        if self.transport is not None:
            self.transport.loseConnection()


def _too_slow(outcome: object, seconds: float) -> Failure:
    """Take the place of whatever the cancelled request ends with."""
    return Failure(StoreUnavailable(f"no answer in {seconds:g} s"))


def _in_words(failure: Failure, url: str) -> Failure:
    """Say of any failure what an operator can use: who asked has to try again."""
    if not failure.check(Exception):
        return failure
    return Failure(StoreUnavailable(f"{url}: {_words(failure.value)}"))


def _words(fault: BaseException) -> str:
    """Return the reason that Twisted wraps, and of OpenSSL's errors the words."""
    reasons = getattr(fault, "reasons", None)       # ResponseFailed and its kin
    if reasons:
        return _words(reasons[0].value)
    from mailgate.auth.servertls import in_words

    return in_words(fault) or str(fault) or type(fault).__name__
