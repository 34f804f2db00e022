"""The service's console: what is served where. It shows and changes nothing, but for the sign-in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from twisted.web.websocket import WebSocketResource

from mailgate.console.access import Access
from mailgate.console.feed import Feeds
from mailgate.console.handshake import problem_of
from mailgate.console.pages import SHARED, File, Files, Ours, SignIn, answer_json, refuse
from mailgate.console.parting import said
from mailgate.console.watched import Watch
from mailgate.errors import MailgateError

BODY_OCTETS = 16 * 1024         # of a request: there is none that needs a body
MOST_BROWSERS = 32              # connections at a time
SILENT_SECONDS = 60
MAILDROPS_AT_ONCE = 100

log = Logger()


class Facts:
    """What a console shows beside the sessions. `listeners` gives protocol and address of each."""

    def __init__(self, *, hostname: str, version: str, listeners: Callable[[], list[tuple[str, str]]],
                 store: Any) -> None:
        self.hostname = hostname
        self.version = version
        self.listeners = listeners
        self.store = store


class ConsoleRequest(Request):
    """A request that is judged by its host and its origin before anything else."""

    def gotLength(self, length: int | None) -> None:
        """Take no large body, and none whose size is not told."""
        if length is None or length > BODY_OCTETS:
            self.channel.transport.abortConnection()        # type: ignore[union-attr]
            length = 0
        super().gotLength(length)

    def process(self) -> None:
        """Answer it."""
        access: Access = self.channel.site.access       # type: ignore[attr-defined]
        if not access.is_our_host(self):
            self._refuse(421, "the request names another host than this")
        elif not access.is_our_page(self):
            self._refuse(403, "a page of another origin asks")
        else:
            super().process()

    def _refuse(self, status: int, words: str) -> None:
        self.write(refuse(self, status, words))
        self.finish()


class ConsoleSite(Site):
    """The site."""

    displayTracebacks = False

    def __init__(self, root: Resource, access: Access, clock: Any) -> None:
        super().__init__(root, ConsoleRequest, reactor=clock, timeout=SILENT_SECONDS,
                         parsePOSTFormSubmission=False)
        self.access = access

    def log(self, request: Any) -> None:
        """Write nothing: what is worth a line is told by the service."""


class Connection(ProtocolWrapper):
    """A browser's connection. `room`: octets that it may still send; None: what reads HTTP sees to that."""

    room: int | None = None

    def dataReceived(self, data: bytes) -> None:
        """Take octets, unless they are too many: a message may be without end."""
        if self.room is not None:
            self.room -= len(data)
            if self.room < 0:
                self.transport.abortConnection()        # type: ignore[union-attr]
                return
        if not said(super().dataReceived, data):        # a ping behind our goodbye wants an answer
            self.transport.abortConnection()        # type: ignore[union-attr]


class ConsoleFactory(WrappingFactory):
    """What listens for the site: no more than so many connections, and a `shutdown`."""

    noisy = False
    protocol = Connection

    def __init__(self, facts: Facts, access: Access, watch: Watch, clock: Any) -> None:
        self._feeds = Feeds(watch, clock)
        super().__init__(ConsoleSite(make_root(facts, access, self._feeds), access, clock))

    def buildProtocol(self, addr: Any) -> Any:
        """Take a connection, unless there are too many."""
        return super().buildProtocol(addr) if len(self.protocols) < MOST_BROWSERS else None

    def shutdown(self) -> Deferred[None]:
        """End all connections."""
        self._feeds.stop()
        for connection in list(self.protocols):
            connection.transport.abortConnection()
        return succeed(None)


def make_root(facts: Facts, access: Access, feeds: Feeds) -> Resource:
    """Return the tree."""
    root = Ours()
    page = File(SHARED / "index.html")
    root.putChild(b"", page)
    root.putChild(b"static", Files(SHARED))
    root.putChild(b"session", SignIn(access))
    root.putChild(b"state", State(facts, access))
    root.putChild(b"maildrops", Maildrops(facts, access))
    root.putChild(b"live", Live(access, feeds))
    return root


class Closed(Resource):
    """Something that is shown only to who is signed in."""

    isLeaf = True

    def __init__(self, access: Access) -> None:
        super().__init__()
        self._access = access

    def render(self, request: Any) -> Any:
        """Ask for the token."""
        if not self._access.authorized(request):
            return refuse(request, 401, "the token is missing or wrong")
        if request.method not in (b"GET", b"HEAD"):
            return refuse(request, 405, "nothing can be changed here")
        return self.show(request)

    def show(self, request: Any) -> Any:
        """Answer who is let in."""
        raise NotImplementedError


class State(Closed):
    """What is served."""

    def __init__(self, facts: Facts, access: Access) -> None:
        super().__init__(access)
        self._facts = facts

    def show(self, request: Any) -> bytes:
        """Answer who is let in."""
        return answer_json(request, {
            "hostname": self._facts.hostname, "version": self._facts.version,
            "listeners": [{"protocol": protocol, "address": address}
                          for protocol, address in self._facts.listeners()]})


class Maildrops(Closed):
    """Maildrops behind the one that `after` names: how many messages, how many octets. No content."""

    def __init__(self, facts: Facts, access: Access) -> None:
        super().__init__(access)
        self._facts = facts

    def show(self, request: Any) -> int:
        """Answer who is let in."""
        after = request.args.get(b"after", [b""])[0].decode("utf-8", "replace")
        found = Deferred.fromCoroutine(self._find(after))
        found.addCallbacks(lambda answer: self._send(request, answer_json(request, answer)),
                           lambda failure: self._failed(request, failure))
        return NOT_DONE_YET

    async def _find(self, after: str) -> dict[str, Any]:
        store = self._facts.store
        names = [name for name in sorted(await store.maildrops()) if name > after]
        shown = []
        for name in names[:MAILDROPS_AT_ONCE]:
            listed = await store.scan(name)
            shown.append({"name": name, "messages": len(listed), "octets": sum(one.octets for one in listed),
                          "newest": max((one.envelope.arrived_ms / 1000 for one in listed), default=None)})
        return {"maildrops": shown, "more": len(names) > len(shown)}

    def _failed(self, request: Any, failure: Failure) -> None:
        if not failure.check(MailgateError):
            log.failure("the console could not list maildrops", failure)
        self._send(request, refuse(request, 503, "the store cannot be asked now"))

    def _send(self, request: Any, octets: bytes) -> None:
        if not request._disconnected:
            request.write(octets)
            request.finish()


class Live(Closed):
    """The WebSocket."""

    def __init__(self, access: Access, feeds: Feeds) -> None:
        super().__init__(access)
        self._socket = WebSocketResource(feeds)

    def show(self, request: Any) -> Any:
        """Answer who is let in. A browser says where its page is from, and is judged by that before."""
        if problem := problem_of(request):
            return refuse(request, 400, f"the WebSocket's handshake is wrong: {problem}")
        return self._socket.render_GET(request)
