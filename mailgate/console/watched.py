"""What a console knows of the sessions of a service: commands and status lines, in bounded memory.

Secrets never come here, nor does the content of messages: `watching` keeps them out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mailgate.wire.shown import shown

KEPT_LINES = 20_000         # of all sessions together; the oldest go first. Some 6 MB
KEPT_ENDED = 200            # sessions that are over
LINE_CHARACTERS = 160


class Line(NamedTuple):
    """Something that was said, or happened."""

    at: float       # seconds since 1970
    who: str        # "C" the client, "S" the server, "*" what happened
    text: str


@dataclass(eq=False)
class Watched:
    """One session."""

    number: int
    protocol: str
    peer: str
    began: float
    user: str = ""
    tls: str = ""               # version and cipher, once there is TLS
    state: str = ""
    commands: int = 0
    octets_in: int = 0          # of the conversation, as it is inside TLS
    octets_out: int = 0
    ended: float | None = None
    lines: deque[Line] = field(default_factory=deque)
    said: int = 0               # lines, those that are forgotten too
    forgotten: bool = False

    def summary(self) -> dict[str, Any]:
        """Return all but the lines, for JSON."""
        return {name: getattr(self, name) for name in (
            "number", "protocol", "peer", "began", "user", "tls", "state", "commands", "octets_in",
            "octets_out", "ended", "said")}

    def lines_from(self, index: int) -> tuple[int, list[Line]]:
        """Return lines from the one of an index (the first has 0) on, and the index of the first of them."""
        gone = self.said - len(self.lines)
        start = max(index, gone)
        return start, list(self.lines)[start - gone:]


class Watch:
    """All live sessions, and the last that ended. `seconds`: since 1970.

    `watchers` are called with a session of which something changed.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        self.watchers: list[Callable[[Watched], object]] = []
        self._count = 0
        self._live: dict[int, Watched] = {}
        self._ended: deque[Watched] = deque()
        self._order: deque[Watched] = deque()       # whose is the oldest line, the next ...

    def __iter__(self) -> Iterator[Watched]:
        return iter([*self._ended, *self._live.values()])

    def find(self, number: int) -> Watched | None:
        """Return a session, unless it is forgotten."""
        return self._live.get(number) or next((one for one in self._ended if one.number == number), None)

    def begin(self, protocol: str, peer: str) -> Watched:
        """Return a new session."""
        self._count += 1
        session = self._live[self._count] = Watched(self._count, protocol, peer, self.seconds())
        self.changed(session)
        return session

    def note(self, session: Watched, who: str, octets: bytes | str) -> None:
        """Add a line."""
        session.lines.append(Line(self.seconds(), who, shown(octets, LINE_CHARACTERS)))
        session.said += 1
        self._order.append(session)
        if len(self._order) > KEPT_LINES:
            oldest = self._order.popleft()
            if oldest.lines:
                oldest.lines.popleft()
        self.changed(session)

    def end(self, session: Watched) -> None:
        """Note that a session is over."""
        session.ended = self.seconds()
        self._live.pop(session.number, None)
        self._ended.append(session)
        if len(self._ended) > KEPT_ENDED:
            self._forget(self._ended.popleft())
        self.changed(session)

    def changed(self, session: Watched) -> None:
        """Tell who watches."""
        for watcher in self.watchers:
            watcher(session)

    def _forget(self, session: Watched) -> None:
        """Let a session's lines go; its places in the order stay until their turn comes."""
        session.lines.clear()
        session.forgotten = True
