"""From a request to its operation and back: who asks, what is asked, what is answered."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from inspect import isawaitable
from typing import Any
from urllib.parse import parse_qsl, unquote

from twisted.internet.defer import Deferred
from twisted.python import log
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from mailgate.errors import MailgateError
from mailgate.testing.api.access import Access
from mailgate.testing.api.events import QUERY
from mailgate.testing.api.judging import KINDS, problems_of
from mailgate.testing.api.openapi import document
from mailgate.testing.api.operations import JSON, Answer, Call, Operation, Query
from mailgate.testing.api.problems import MEDIA, Problem, Refused, refused
from mailgate.testing.api.serving import version
from mailgate.testing.api.table import OPERATIONS

BODY_OCTETS = 32 * 1024 * 1024
HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"}


class Api(Resource):
    """`/api/v1` of one harness. `events` learn what requests change; `refill` is called after a reset."""

    isLeaf = True

    def __init__(self, harness: Any, reactor: Any, access: Access, events: Any,
                 refill: Callable[[], Awaitable[object]] | None = None) -> None:
        super().__init__()
        self._refill = refill
        self._harness = harness
        self._reactor = reactor
        self._access = access
        self._events = events

    def render(self, request: Any) -> int:
        """Answer a request, now or later."""
        try:
            self._judge(request)
            if request.postpath == [b"events"]:
                return self._watch(request)
            answer = self._carry_out(request)
        except Exception:
            send(request, refusal_of(Failure()))
            return NOT_DONE_YET
        if isawaitable(answer):
            Deferred.fromCoroutine(_awaiting(answer)).addErrback(refusal_of).addCallback(
                lambda found: self._done(request, found))
        else:
            self._done(request, answer)
        return NOT_DONE_YET

    def _done(self, request: Any, answer: Answer) -> None:
        send(request, answer)
        if answer.status < 300 and request.method not in (b"GET", b"HEAD", b"OPTIONS"):
            self._events.changed("/" + b"/".join(request.postpath).decode("utf-8", "replace"))

    def _judge(self, request: Any) -> None:
        """Refuse who may not ask. The host was judged before (site.py). Raises: Refused."""
        if not self._access.is_our_page(request):
            raise Refused(403, "a page of another origin asks")
        token = request.args.get(b"token", [b""])[0] if request.postpath == [b"events"] else b""
        if not self._access.authorized(request) and not self._access.is_token(token):
            raise Refused(401, "the token is missing or wrong: Authorization: Bearer TOKEN",
                          headers={"WWW-Authenticate": 'Bearer realm="mailgate harness"'})

    def _watch(self, request: Any) -> int:
        if request.method != b"GET":
            raise Refused(405, headers={"Allow": "GET"})
        return int(self._events.render(request, read_query(request, QUERY)))

    def _carry_out(self, request: Any) -> Answer | Awaitable[Answer]:
        rows = matching(request.path)
        if not rows:
            raise Refused(404, "the API has no such path: see openapi.json")
        method = "GET" if request.method == b"HEAD" else request.method.decode("latin-1")
        methods = {operation.method: (operation, path) for operation, path in rows}
        allowed = {"Allow": ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])}
        if method == "OPTIONS":
            return Answer(status=204, headers=allowed)
        if method not in methods:
            raise Refused(405, f"{method} is not possible here", headers=allowed)
        operation, path = methods[method]
        query = read_query(request, operation.query)
        media, body = read_body(request, operation)
        return operation.carry(Call(self._harness, self._reactor, request, path, query, media, body,
                                    base=self._access.base, refill=self._refill, document=self._document))

    def _document(self) -> Any:
        return document(OPERATIONS, self._access.base, version())


async def _awaiting(answer: Awaitable[Answer]) -> Answer:
    return await answer


def matching(path: bytes) -> list[tuple[Operation, dict[str, str]]]:
    """Return the operations of a path, and what its segments say."""
    segments = path.split(b"/")[3:]         # behind /api/v1
    found = []
    for operation, pattern in PATTERNS:
        if len(pattern) == len(segments) and all(
                one.startswith("{") or one.encode() == segment
                for one, segment in zip(pattern, segments, strict=True)):
            named = {one[1:-1]: unquote(segment.decode("latin-1"))
                     for one, segment in zip(pattern, segments, strict=True) if one.startswith("{")}
            found.append((operation, named))
    return found


PATTERNS = [(operation, operation.path.split("/")[1:]) for operation in OPERATIONS]


# What is asked ------------------------------------------------------------------------------------


def read_query(request: Any, known: Mapping[str, Query]) -> dict[str, Any]:
    """Return every parameter's value. Raises: Refused, with every problem."""
    values = {name: query.default for name, query in known.items()}
    problems = []
    written = request.uri.partition(b"?")[2].decode("latin-1")
    for name, text in parse_qsl(written, keep_blank_values=True):
        path = f"query.{name}"
        if name not in known:
            problems.append(Problem(path, "unknown"))
            continue
        values[name] = value_of(text, known[name].schema["type"])
        problems += problems_of(values[name], known[name].schema, path)
    if problems:
        raise Refused(400, "a parameter is wrong", problems)
    return values


def value_of(text: str, kind: str) -> Any:
    """Return what a parameter's text stands for; the text itself, where it stands for nothing."""
    if kind == "string":
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if KINDS[kind][0](value) and value == value else text


def read_body(request: Any, operation: Operation) -> tuple[str, Any]:
    """Return the body's media type and the body, read if it is JSON. Raises: Refused."""
    if request.content.overflowed:
        raise Refused(413, f"more than {BODY_OCTETS} octets", headers={"Connection": "close"})
    if operation.body is None:
        return JSON, None
    media = (request.getHeader(b"content-type") or b"").decode("latin-1").partition(";")[0].strip().lower()
    if media not in operation.body:
        raise Refused(415, f"the body has to be {' or '.join(operation.body)}",
                      headers={"Accept": ", ".join(operation.body)})
    octets = request.content.read()
    if media != JSON:
        return media, octets
    try:
        body = json.loads(octets.decode(), parse_constant=_no_constant)
        if b"\\u" in octets:
            json.dumps(body, ensure_ascii=False).encode()       # half of a surrogate pair is no text
    except (ValueError, RecursionError) as fault:
        raise Refused(400, f"the body is no JSON: {fault}") from None
    problems = problems_of(body, operation.body[media])
    if problems:
        raise Refused(422, "the request cannot be carried out as it is", problems)
    return media, body


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


# What is answered ---------------------------------------------------------------------------------


def refusal_of(failure: Failure) -> Answer:
    """Return the answer to what went wrong. What is no fault of the request's is logged."""
    fault = failure.value
    told = refused(fault) if isinstance(fault, MailgateError) else None
    if isinstance(fault, Refused):
        told = fault
    if told is None:
        log.err(failure, "a request to the harness")
        told = Refused(500, f"a bug of the harness: {fault!r}")
    return Answer(told.body(), told.status, MEDIA, told.headers)


def send(request: Any, answer: Answer) -> None:
    """Write an answer, unless nobody waits for it any more."""
    if request._disconnected:
        return
    request.setResponseCode(answer.status, HTTPStatus(answer.status).phrase.encode())
    for name, value in {**HEADERS, **answer.headers}.items():
        request.setHeader(name.encode(), value.encode())
    octets = b""
    if answer.status != 204:
        octets = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        request.setHeader(b"Content-Type", answer.media.encode())
        request.setHeader(b"Content-Length", b"%d" % len(octets))
    request.write(octets)       # Twisted leaves it out where HEAD asks
    request.finish()
