"""What happens on a service's sessions, over a WebSocket, as it happens.

Nothing is queued: a watcher is told, a few times a second, what the sessions that changed have come to,
and the new lines of the one session that it looks at. Who takes nothing is told later, and no less than is
known then.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.python.failure import Failure

from mailgate.console.parting import said
from mailgate.console.watched import Watch, Watched

TELL_SECONDS = 0.15         # between two pieces of news for one watcher
WORDS_CHARACTERS = 100      # that a watcher may say at once
HEARD_OCTETS = 64 * 1024    # from a watcher, pings too, between two things that it says; then it is cut off
SESSIONS_AT_ONCE = 500      # of which one piece of news tells
LINES_AT_ONCE = 500
NOT_WANTED, GOING_AWAY = 1008, 1001     # codes of closing (RFC 6455 section 7.4.1)


class Feeds:
    """All watchers of one service; a factory of Twisted's WebSocketResource. `clock` has `callLater`."""

    def __init__(self, watch: Watch, clock: Any) -> None:
        self.watch = watch
        self.clock = clock
        self._feeds: set[Feed] = set()

    def buildProtocol(self, request: Any) -> Feed:
        """See WebSocketServerFactory."""
        return Feed(self)

    def add(self, feed: Feed) -> None:
        """Have a watcher told."""
        self._feeds.add(feed)
        self.watch.watchers.append(feed.changed)

    def remove(self, feed: Feed) -> None:
        """Have it told no more."""
        if feed in self._feeds:
            self._feeds.remove(feed)
            self.watch.watchers.remove(feed.changed)

    def stop(self) -> None:
        """End all."""
        for feed in list(self._feeds):
            feed.cut(GOING_AWAY)


class Feed:
    """One watcher: a WebSocketProtocol, and the producer that its transport pauses."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds = feeds
        self._transport: Any = None
        self._open = False
        self._paused = False
        self._due: Any = None
        self._changed: dict[int, Watched] = {}      # since the last news
        self._many = 2 * SESSIONS_AT_ONCE           # with more of them, those that are forgotten are left out
        self._looks_at: int | None = None
        self._next = 0                              # index of the line that it has not seen

    def changed(self, session: Watched) -> None:
        """Be told that something changed."""
        self._changed[session.number] = session
        if len(self._changed) > self._many:     # it has taken nothing for long
            self._changed = {number: one for number, one in self._changed.items() if not one.forgotten}
            self._many = 2 * max(SESSIONS_AT_ONCE, len(self._changed))
        self._soon()

    def _soon(self) -> None:
        if self._due is None and not self._paused and self._open:
            self._due = self._feeds.clock.callLater(TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        self._due = None
        if self._paused or not self._open:
            return
        numbers = list(self._changed)[:SESSIONS_AT_ONCE]
        news: dict[str, Any] = {"sessions": [self._changed.pop(number).summary() for number in numbers]}
        lines, more = self._new_lines()
        if lines is not None:
            news["lines"] = lines
        if (lines is not None or numbers) and not said(self._transport.sendTextMessage, json.dumps(news)):
            self._end()     # it said goodbye
            return
        if more or self._changed:
            self._soon()

    def _new_lines(self) -> tuple[dict[str, Any] | None, bool]:
        """Return what is new of the session that is looked at, and whether there is still more."""
        session = None if self._looks_at is None else self._feeds.watch.find(self._looks_at)
        if session is None:
            return None, False
        start, lines = session.lines_from(self._next)
        some = lines[:LINES_AT_ONCE]
        left_out, self._next = start - self._next, start + len(some)
        if not some:
            return None, False
        return {"session": session.number, "left_out": left_out,
                "lines": [line._asdict() for line in some]}, len(some) < len(lines)

    def cut(self, code: int) -> None:
        """End it."""
        self._end()
        self._transport.detachProducer()
        said(self._transport.loseConnection, code)

    def _end(self) -> None:
        self._open = False
        self._feeds.remove(self)
        if self._due is not None:
            self._due.cancel()
            self._due = None

    # WebSocketProtocol --------------------------------------------------------------------------

    def negotiationStarted(self, transport: Any) -> None:
        """Nothing is said before the handshake is through."""
        self._transport = transport

    def negotiationFinished(self) -> None:
        """Tell of all sessions."""
        self._transport.detachProducer()        # the HTTP channel, which has nothing more to say
        self._transport.attachProducer(self)
        self._transport.transport.room = HEARD_OCTETS
        self._open = True
        self._changed = {session.number: session for session in self._feeds.watch}
        self._feeds.add(self)
        self._tell()

    def textMessageReceived(self, message: str) -> None:
        """Take which session is looked at: `{"look": 17}`, or null."""
        self._transport.transport.room = HEARD_OCTETS
        try:
            wanted = json.loads(message[:WORDS_CHARACTERS])["look"]
        except (ValueError, KeyError, TypeError, RecursionError):
            self.cut(NOT_WANTED)
            return
        self._looks_at = wanted if isinstance(wanted, int) else None
        self._next = 0
        self._soon()

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        """Nothing is said so."""
        self.cut(NOT_WANTED)

    def pongReceived(self, payload: bytes) -> None:
        """No ping is sent."""

    def connectionLost(self, reason: Failure) -> None:
        """The watcher is gone."""
        self._end()

    # IPushProducer ------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The watcher is slow, and is not heard: it would be answered, if only by pongs."""
        self._paused = True
        self._transport.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """It has caught up."""
        self._paused = False
        self._transport.transport.resumeProducing()
        if self._changed or self._looks_at is not None:
            self._soon()

    def stopProducing(self) -> None:
        """It is gone."""
        self._paused = True
