"""A POP3 client on a connection: moves octets between transport and ClientSession, and times the silence."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from mailgate.auth.servertls import in_words
from mailgate.pop3.answers import Reply, ServerFault
from mailgate.pop3.client import Broken, ClientSession, Command, Ended, Event, Line, Piece, Say

TIMEOUT_SECONDS = 60.0      # servers let refused logins wait for some of it
PROGRESS_OCTETS = 1024      # that have to come in this time, where no reply was completed

Sink = Callable[[bytes], "Deferred[Any] | None"]


class POP3Client(Protocol):
    """Asks one command after another, or many at once.

    `greeted` fires with the greeting. After a fault every Deferred fails with the same ServerFault. A
    silence ends the connection between one and two times `timeout_seconds` after the last octets.
    """

    transport: Any

    def __init__(self, clock: IReactorTime, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.greeted: Deferred[Reply] = Deferred()
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._session = ClientSession()
        self._asked: dict[Command, tuple[Deferred[Reply], Sink | None]] = {
            self._session.greeting: (self.greeted, None)}
        self._events: deque[Event] = deque()
        self._pouring = False                   # a sink has something to finish first
        self._fault: ServerFault | None = None
        self._progress = 0                      # octets since the timer was set; replies count as many
        self._timer: IDelayedCall | None = None     # to look whether anything comes; once closed, to give up
        self._connected = False

    def ask(self, command: Command, sink: Sink | None = None) -> Deferred[Reply]:
        """Send a command and return its reply, +OK or -ERR, once it is complete.

        `sink` takes the lines or octets that belong to it; where it returns a Deferred nothing more is
        read before that has fired. Raises: ServerFault; what the sink raises, and then it is over too.
        """
        answer: Deferred[Reply] = Deferred()
        if self._fault is not None:
            answer.errback(Failure(self._fault))
            return answer
        if not self._session.outstanding:
            self._watch()
        self._asked[command] = answer, sink
        self.transport.write(self._session.send(command))
        return answer

    def start_tls(self, creator: Any) -> None:
        """Begin TLS, behind the reply to STLS. `creator` is what Twisted's `startTLS` takes."""
        self.transport.startTLS(creator)

    def close(self) -> None:
        """Hang up; whoever waits for a reply gets a ServerFault. A server that does not is not waited for."""
        self._break(ServerFault("the connection was closed"))
        if self._connected and self._timer is None:
            self.transport.loseConnection()     # inside TLS it waits for the server's farewell
            self._timer = self._clock.callLater(self._timeout_seconds, self._give_up)

    # What the transport calls -----------------------------------------------------------------

    def connectionMade(self) -> None:
        self._connected = True
        self._watch()

    def dataReceived(self, data: bytes) -> None:
        if self._fault is not None:
            return
        self._progress += len(data)
        self._events.extend(self._session.receive(data))
        self._go_on()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        awaited = self._session.awaited
        self._connected = False
        self._events.clear()
        self._break(ServerFault(f"the connection ended before the reply to {awaited}{_why(reason)}"))
        self._stop_timer()

    # What comes ---------------------------------------------------------------------------------

    def _go_on(self, _: object = None) -> None:
        """Hand out what has come, as far as the sinks let it."""
        self._pouring = False
        while self._events and self._fault is None:
            waiting = self._hand_out(self._events.popleft())
            if waiting is not None:
                self._pouring = True
                self.transport.pauseProducing()
                waiting.addCallbacks(self._poured, self._abort_by)
                return

    def _poured(self, _: object) -> None:
        self._progress = PROGRESS_OCTETS
        if self._fault is None:
            self.transport.resumeProducing()
        self._go_on()

    def _hand_out(self, event: Event) -> Deferred[Any] | None:
        if isinstance(event, Say):
            self.transport.write(event.octets)
        elif isinstance(event, Broken):
            self._abort(ServerFault(event.words))
        elif isinstance(event, Ended):
            self._progress = PROGRESS_OCTETS
            answer, _ = self._asked.pop(event.command)
            answer.callback(event.reply)
        else:
            return self._sink(event)
        return None

    def _sink(self, event: Line | Piece) -> Deferred[Any] | None:
        sink = self._asked[event.command][1]
        if sink is None:
            return None
        try:
            waiting = sink(event.line if isinstance(event, Line) else event.octets)
        except Exception:
            self._abort_by(Failure())
            return None
        if waiting is None or (waiting.called and not waiting.paused):
            if waiting is not None:
                waiting.addErrback(self._abort_by)
            return None
        return waiting

    # The end ------------------------------------------------------------------------------------

    def _abort_by(self, failure: Failure) -> None:
        """A sink took no more: its own fault goes to whoever asked, a ServerFault to all others."""
        command = next(iter(self._asked), None)
        if command is not None:
            answer, _ = self._asked.pop(command)
            self._abort(ServerFault("the connection was given up"))
            answer.errback(failure)

    def _abort(self, fault: ServerFault) -> None:
        self._break(fault)
        self.transport.abortConnection()

    def _break(self, fault: ServerFault) -> None:
        """Tell everybody who waits, once."""
        if self._fault is not None:
            return
        self._fault = fault
        self._stop_timer()
        asked, self._asked = self._asked, {}
        for answer, _ in asked.values():
            answer.errback(Failure(fault))

    def _give_up(self) -> None:
        self._timer = None
        self.transport.abortConnection()

    # The time -----------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Look in a while whether anything has come; one look at a time."""
        self._progress = 0
        if self._timer is None:
            self._timer = self._clock.callLater(self._timeout_seconds, self._look)
        else:
            self._timer.reset(self._timeout_seconds)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if not self._session.outstanding and not self._events:
            return
        if self._pouring or self._progress >= PROGRESS_OCTETS:
            self._watch()
            return
        self._abort(ServerFault(f"no reply to {self._session.awaited} for {self._timeout_seconds:g} seconds"))


def _why(reason: Failure) -> str:
    """Return what ended a connection, in words for an operator."""
    if reason.check(ConnectionDone):
        return ""
    words = in_words(reason.value) or reason.getErrorMessage() or type(reason.value).__name__
    return f": {words}"
