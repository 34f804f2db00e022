"""Events as they may be told while a session goes on: none before it is known what of it is secret.

Octets come in any pieces. What is half a line, or may be the beginning of a secret that is known, is kept
back, and all that follows it, until it is whole. A secret that is said before it is known to be one
(a password given as the name) has been told by then: only who asks afterwards finds it masked.
"""

from __future__ import annotations

from collections.abc import Callable

from mailgate.testing.harness.discretion import united
from mailgate.testing.harness.records import Event, SessionRecord

MOST_EVENTS = 1000              # that are kept back, and
MOST_OCTETS = 256 * 1024        # of them; with more, what may be secret is told as if it were

Indexed = tuple[int, Event]     # an event and its place in the session


class Withheld:
    """What of one session is not told yet. Give it every event, in order."""

    def __init__(self, record: SessionRecord) -> None:
        self.record = record
        self._events: list[Indexed] = []
        self._octets = 0

    def take(self, index: int, event: Event) -> list[Indexed]:
        """Take an event; return those that may be told now, what is secret of them marked."""
        self._events.append((index, event))
        self._octets += len(event.octets)
        unsettled = min(self._judge(who, self._open_octets) for who in ("C", "S"))
        if len(self._events) - unsettled > MOST_EVENTS or self._octets > MOST_OCTETS:
            unsettled = len(self._events)
            for who in ("C", "S"):
                self._judge(who, self._open_octets, cover=True)
        return self._told(unsettled)

    def rest(self) -> list[Indexed]:
        """Return what is left: the session is over."""
        for who in ("C", "S"):
            self._judge(who, self._cut_off, cover=True)
        return self._told(len(self._events))

    def _told(self, count: int) -> list[Indexed]:
        told, self._events = self._events[:count], self._events[count:]
        self._octets -= sum(len(event.octets) for _, event in told)
        return told

    def _open_octets(self, who: str, joined: bytes) -> int:
        """Return how many octets at the end of what one side said may still become a secret."""
        half_a_line = len(joined) - joined.rfind(b"\n") - 1 if who == "C" else 0
        return max(half_a_line, self.record.discretion.pending(joined))

    def _cut_off(self, who: str, joined: bytes) -> int:
        return self.record.discretion.cut_off(joined)

    def _judge(self, who: str, open_octets: Callable[[str, bytes], int], cover: bool = False) -> int:
        """Mark what one side's octets have of secrets; return the first event that is not settled.

        `open_octets`: how many at the end are not; with `cover` they are marked, too.
        """
        joined = b"".join(event.octets for _, event in self._events if event.who == who)
        settled = len(joined) - open_octets(who, joined)
        spans = united([*self.record.discretion.found(joined), *([(settled, len(joined))] if cover else [])])
        at, first = 0, len(self._events)
        for place, (index, event) in enumerate(self._events):
            if event.who != who:
                continue
            end = at + len(event.octets)
            inside = [(max(start, at) - at, min(stop, end) - at) for start, stop in spans
                      if start < end and stop > at]
            if inside:
                self._events[place] = index, event._replace(secret=united([*event.secret, *inside]))
            if end > settled:
                first = min(first, place)
            at = end
        return first
