"""The WebSocket on which everything is told as it happens."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from twisted.python.failure import Failure

from mailgate.console.parting import said
from mailgate.testing.api import shapes
from mailgate.testing.api.operations import SECRETS, Query
from mailgate.testing.api.problems import Refused
from mailgate.testing.api.schemas import SWITCH, TEXT
from mailgate.testing.harness.records import Event, SessionRecord
from mailgate.testing.harness.withheld import Indexed, Withheld

BACKLOG = 10_000        # notices that wait for a reader who is slow; then he is cut off
SOON_SECONDS = 0.05     # of the world's time
QUERY: Mapping[str, Query] = {
    "replay": Query(SWITCH, False, "What happened before comes first."), **SECRETS,
    "token": Query(TEXT, None, "The token, where a client can set no header.")}
TOO_SLOW, GOING_AWAY, NOT_WANTED = 1013, 1001, 1008     # codes of closing (RFC 6455 section 7.4.1)


class Events:
    """All who watch one harness."""

    def __init__(self, harness: Any, reactor: Any) -> None:
        self._harness = harness
        self._reactor = reactor
        self._streams: set[Stream] = set()
        self._soon: Any = None      # the delayed call that tells of mail and deliveries
        self._changed: dict[str, None] = {}     # what it tells of

    def render(self, request: Any, asked: Mapping[str, Any]) -> int:
        """Begin a WebSocket; `asked` has the values of QUERY. Raises: Refused."""
        if b"websocket" not in (request.getHeader(b"upgrade") or b"").lower():
            raise Refused(426, "this is a WebSocket",
                          headers={"Upgrade": "websocket", "Connection": "Upgrade"})
        try:
            # loads much that is seldom wanted, and may be missing
            from twisted.web.websocket import WebSocketResource

            from mailgate.console.handshake import problem_of
        except ImportError:
            raise Refused(501, "wsproto is not installed: pip install 'mailgate[harness]'") from None
        if problem := problem_of(request):
            raise Refused(400, f"the WebSocket's handshake is wrong: {problem}")
        return int(WebSocketResource(_Beginning(self, self._harness, asked)).render(request))

    def changed(self, what: str) -> None:
        """Tell that something was changed, by its path in the API."""
        for stream in list(self._streams):
            stream.tell({"type": "changed", "what": what})

    def _mail_has_come(self) -> None:
        """Tell soon that maildrops have changed: by delivery, by a session, by a test. Many come together."""
        self._tell_soon("/maildrops")

    def _delivery_goes_on(self, record: SessionRecord, event: Event | None) -> None:
        self._tell_soon("/deliveries")

    def _tell_soon(self, what: str) -> None:
        self._changed[what] = None
        if self._soon is None:
            self._soon = self._reactor.callLater(SOON_SECONDS, self._tell_now)

    def _tell_now(self) -> None:
        self._soon = None
        changed, self._changed = self._changed, {}
        for what in changed:
            self.changed(what)

    def begin(self, stream: Stream) -> None:
        """Have a stream told of what happens."""
        if not self._streams:
            self._harness.watchers.append(self._mail_has_come)
            self._harness.deliveries.watchers.append(self._delivery_goes_on)
        self._streams.add(stream)
        self._harness.records.watchers.append(stream.look)

    def end(self, stream: Stream) -> None:
        """Have it told no more."""
        if stream in self._streams:
            self._streams.remove(stream)
            self._harness.records.watchers.remove(stream.look)
            if not self._streams:
                self._harness.watchers.remove(self._mail_has_come)
                self._harness.deliveries.watchers.remove(self._delivery_goes_on)
                self._changed.clear()
                if self._soon is not None:
                    self._soon.cancel()
                    self._soon = None

    def stop(self) -> None:
        """End all."""
        for stream in list(self._streams):
            stream.cut(GOING_AWAY)


class _Beginning(NamedTuple):
    """Makes one stream: a WebSocketServerFactory of Twisted's."""

    events: Events
    harness: Any
    asked: Mapping[str, Any]

    def buildProtocol(self, request: Any) -> Stream:
        return Stream(self.events, self.harness, self.asked["replay"], self.asked["secrets"])


class Stream:
    """One watcher: a WebSocketProtocol of Twisted's, and the producer that its transport pauses."""

    def __init__(self, events: Events, harness: Any, replay: bool, secrets: bool) -> None:
        self._events = events
        self._harness = harness
        self._replay = replay
        self._secrets = secrets
        self._coming: Any = None            # the transport, until the handshake is through
        self._transport: Any = None
        self._paused = False
        self._waiting: deque[str] = deque()
        self._withheld: dict[int, Withheld] = {}    # by session, while it is open

    # What happens -------------------------------------------------------------------------------

    def look(self, record: SessionRecord, event: Event | None) -> None:
        """Be told of a session's event, beginning or end."""
        if event is not None:
            self._event(record, len(record.events) - 1, event)
        elif record.open:
            self._begin(record)
        else:
            self._end(record)

    def _begin(self, record: SessionRecord) -> None:
        self.tell({"type": "begin", "session": shapes.session(record, self._secrets)})

    def _end(self, record: SessionRecord) -> None:
        withheld = self._withheld.pop(record.number, None)
        if withheld is not None and withheld.record is record:
            self._tell_events(record, withheld.rest())
        self.tell({"type": "end", "session": shapes.session(record, self._secrets)})

    def _event(self, record: SessionRecord, index: int, event: Event) -> None:
        if self._secrets:
            self._tell_events(record, [(index, event)])
            return
        withheld = self._withheld.get(record.number)
        if withheld is None or withheld.record is not record:       # numbers begin anew after a reset
            withheld = self._withheld[record.number] = Withheld(record)
            earlier = record.masked_events()[:index] if index else []
            for place, one in enumerate(earlier):       # before anybody watched; the last may be half a line
                withheld.take(place, one)
        self._tell_events(record, withheld.take(index, event))

    def _tell_events(self, record: SessionRecord, events: Iterable[Indexed]) -> None:
        for index, event in events:
            self.tell({"type": "event", "session": record.number, "index": index,
                       "event": shapes.event(record, event, self._secrets)})

    def _tell_past(self) -> None:
        for record in self._harness.records:
            self._begin(record)
            for index, event in enumerate(record.events if self._secrets else record.masked_events()):
                self._event(record, index, event)
            if not record.open:
                self._end(record)

    def tell(self, notice: dict[str, Any]) -> None:
        """Send a notice, or keep it until the reader has caught up."""
        if self._transport is None:
            return
        self._waiting.append(json.dumps(notice))
        if len(self._waiting) > BACKLOG:
            self.cut(TOO_SLOW)
        else:
            self._send()

    def _send(self) -> None:
        while self._waiting and not self._paused and self._transport is not None:
            if not said(self._transport.sendTextMessage, self._waiting.popleft()):
                self.connectionLost(None)       # it said goodbye; what waits is for nobody

    def cut(self, code: int) -> None:
        """End it."""
        transport, self._transport = self._transport, None
        self._waiting.clear()
        self._events.end(self)
        if transport is not None:
            transport.detachProducer()
            said(transport.loseConnection, code)

    # WebSocketProtocol --------------------------------------------------------------------------

    def negotiationStarted(self, transport: Any) -> None:
        """Nothing is said before the handshake is through."""
        self._coming = transport

    def negotiationFinished(self) -> None:
        """Begin."""
        self._transport = self._coming
        self._transport.detachProducer()        # the HTTP channel, which has nothing more to say
        self._transport.attachProducer(self)
        if self._replay:
            self._tell_past()
        if self._transport is not None:
            self._events.begin(self)

    def textMessageReceived(self, message: str) -> None:
        """There is nothing to say to this server."""
        self.cut(NOT_WANTED)

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        """There is nothing to say to this server."""
        self.cut(NOT_WANTED)

    def pongReceived(self, payload: bytes) -> None:
        """No ping is sent."""

    def connectionLost(self, reason: Failure | None) -> None:
        """The watcher is gone."""
        self._transport = None
        self._events.end(self)

    # IPushProducer ------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The reader is slow."""
        self._paused = True

    def resumeProducing(self) -> None:
        """He has caught up."""
        self._paused = False
        self._send()

    def stopProducing(self) -> None:
        """He is gone."""
        self._paused = True
