"""The web server of a harness: `/api/v1`, and a place for the console beside it."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any
from weakref import WeakSet

from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from mailgate.errors import ConfigurationError
from mailgate.testing.api.access import ADDRESS, Access
from mailgate.testing.api.dispatch import BODY_OCTETS, Api, send
from mailgate.testing.api.events import Events
from mailgate.testing.api.operations import Answer
from mailgate.testing.api.problems import MEDIA, Refused

SILENT_SECONDS = 60     # a connection on which no request comes is closed
FAREWELL_SECONDS = 1.0  # for what was said to be taken, when all ends

Refill = Callable[[], Awaitable[object]]
Console = Callable[[Any, Access], Resource]     # of a harness and its Access makes what is at /console


class Body(io.BytesIO):
    """What comes with a request, up to a limit; what is past it is dropped and remembered as too much."""

    overflowed = False
    most = BODY_OCTETS

    def write(self, octets: Any) -> int:
        """Take octets."""
        if self.tell() + len(octets) > self.most:
            self.overflowed = True
            return len(octets)
        return super().write(octets)


class HarnessRequest(Request):
    """A request that is judged by its host and its origin before anything else, wherever it goes."""

    def gotLength(self, length: int | None) -> None:
        """Begin a body; of who is not let in nothing is kept."""
        super().gotLength(length)
        access: Access = self.channel.site.access       # type: ignore[attr-defined]
        if not access.authorized(self):
            self.content.most = 0       # type: ignore[attr-defined]

    def process(self) -> None:
        """Answer it."""
        self.site = site = self.channel.site        # type: ignore[attr-defined]
        access: Access = site.access
        if not access.is_our_host(self):
            self._refuse(421, "the request names another host than this")
        elif not access.is_our_page(self):
            self._refuse(403, "a page of another origin asks")
        else:
            super().process()

    def _refuse(self, status: int, words: str) -> None:
        send(self, Answer(Refused(status, words).body(), status, MEDIA))


class HarnessSite(Site):
    """The site. No body is kept in a file, no request is logged: its address may hold the token."""

    displayTracebacks = False

    def __init__(self, root: Resource, access: Access, reactor: Any) -> None:
        super().__init__(root, HarnessRequest, reactor=reactor, timeout=SILENT_SECONDS,
                         parsePOSTFormSubmission=False)
        self.access = access
        self._clock = reactor
        self._channels: WeakSet[Any] = WeakSet()

    def buildProtocol(self, addr: Any) -> Any:
        """Take a connection."""
        channel = super().buildProtocol(addr)
        self._channels.add(channel)
        return channel

    def cut_all(self) -> None:
        """End all connections: those that take what was said to them in order, the others soon afterwards."""
        transports = [channel._channel.transport for channel in self._channels]     # the wrapper has none
        for transport in transports:
            if transport is not None:
                transport.unregisterProducer()      # one that has not finished keeps the connection
                transport.loseConnection()
                self._clock.callLater(FAREWELL_SECONDS, transport.abortConnection)

    def getContentFile(self, length: int | None) -> Body:
        """Return where a request's body goes."""
        return Body()

    def log(self, request: Any) -> None:
        """Write nothing."""


class Web:
    """The web server of one harness, on the harness's reactor.

    `url` is where it is (without a slash at its end), `api` where the API begins, `token` what opens it.
    `refill` puts back what was there from the start, after a reset.
    """

    def __init__(self, harness: Any, reactor: Any, *, token: str | None = None,
                 console: Console | None = None, refill: Refill | None = None) -> None:
        self.harness = harness
        self.has_console = console is not None
        self.access = Access(token)
        self._reactor = reactor
        self._events = Events(harness, reactor)
        root = make_root(harness, self.access,
                         Api(harness, reactor, self.access, self._events, refill), console)
        self._site = HarnessSite(root, self.access, reactor)
        self._listening: Any = None

    async def listen(self, port: int = 0) -> None:
        """Bind to loopback. Raises: what Twisted's endpoints raise."""
        endpoint = TCP4ServerEndpoint(self._reactor, port, interface=ADDRESS)
        self._listening = await endpoint.listen(self._site)
        self.access.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Listen no more, and end who watches."""
        listening, self._listening = self._listening, None
        self._events.stop()
        if listening is not None:
            await listening.stopListening()
        self._site.cut_all()

    @property
    def token(self) -> str:
        """What every request has to show."""
        return self.access.token

    @property
    def url(self) -> str:
        """Where it is served."""
        return self.access.url

    @property
    def api(self) -> str:
        """Where the API begins."""
        return self.access.base


def web_of(harness: Any, reactor: Any, console: bool = False, refill: Refill | None = None) -> Web:
    """Return the web server of a harness, with the console if it is wanted.

    Raises: ConfigurationError, where the console's package is missing.
    """
    if not console:
        return Web(harness, reactor, refill=refill)
    try:
        import_module("wsproto")      # what the page hears of sessions by
    except ModuleNotFoundError as fault:
        raise ConfigurationError(
            ["console: needs the package wsproto: pip install 'mailgate[harness]'"]) from fault
    from mailgate.testing.console.pages import Console as Pages  # much, that is seldom wanted

    return Web(harness, reactor, console=Pages, refill=refill)


class Nothing(Resource):
    """There is no such thing, and nothing below it."""

    isLeaf = True

    def render(self, request: Any) -> int:
        """Say so."""
        send(request, Answer(Refused(404).body(), 404, MEDIA))
        return NOT_DONE_YET


class Root(Resource):
    """What has the API and the console below it."""

    def getChild(self, path: bytes, request: Any) -> Resource:
        """Return what is at a path where nothing was put."""
        return Nothing()

    def render(self, request: Any) -> int:
        """There is nothing here itself."""
        return Nothing().render(request)


def make_root(harness: Any, access: Access, api: Api, console: Console | None = None) -> Resource:
    """Return the tree: `/api/v1`, and `/console` where there is one."""
    root, versions = Root(), Root()
    root.putChild(b"api", versions)
    versions.putChild(b"v1", api)
    if console is not None:
        root.putChild(b"console", console(harness, access))
    return root
