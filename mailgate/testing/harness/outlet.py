"""The way out of a connection that trouble may be made on: steps are carried out one after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from mailgate.testing.trouble.model import Aside, End, Gap, Hold, Later, Octets, Pause, Repeat, Stall, Step

PIECE_OCTETS = 64 * 1024    # of what is sent at a client's pace: after each it may say that it is enough

Labels = tuple[str, ...]


class _Done:
    """Stands in the queue where a reply ends."""


class Outlet:
    """Sends through `write`; `end` ends the connection, as its argument says.

    `idle_again` is called when the last step is done that was waited for. `clock` has `callLater` and
    `apart` (harness/clock.py). `labels` are those of what is sent, or ended, at the moment.
    """

    def __init__(self, clock: Any, write: Callable[[bytes], None], end: Callable[[End], None],
                 idle_again: Callable[[], None]) -> None:
        self._clock = clock
        self._write = write
        self._end = end
        self._idle_again = idle_again
        self._steps: deque[tuple[Step | _Done, Labels]] = deque()
        self._waiting: Any = None       # the delayed call that goes on
        self._kept = bytearray()        # what waits for the octets behind it
        self._kept_labels: Labels = ()
        self._holding = 0               # replies, the present one counted, whose octets are kept
        self._release: Any = None       # the delayed call that sends what is kept
        self._aside: list[tuple[bytes, Labels]] = []        # goes behind the next reply
        self._aside_now: list[tuple[bytes, Labels]] = []    # goes behind this one
        self._later: list[tuple[Later, Labels, Any]] = []
        self._congested = False
        self.labels: Labels = ()
        self.stalled = False
        self.ended = False

    @property
    def idle(self) -> bool:
        """Whether everything was carried out."""
        return not self._steps and self._waiting is None and not self.stalled

    def put(self, steps: Iterable[Step], labels: Labels = ()) -> None:
        """Carry out steps behind those that are there."""
        if not (self.stalled or self.ended):
            self._steps.extend([(step, labels) for step in steps])
            self._proceed()

    def send(self, octets: bytes, labels: Labels = ()) -> None:
        """Send octets behind the steps that are there; with none, now, whatever the client's pace."""
        if self._steps or self._waiting is not None:
            self.put([Octets(octets)], labels)
        elif not (self.stalled or self.ended):
            self._leave(octets, labels)

    def finish(self) -> None:
        """The steps that were put make a whole reply, or what is left of it."""
        if not (self.stalled or self.ended):
            self._steps.append((_Done(), ()))
            self._proceed()

    def pause(self) -> None:
        """The client takes nothing at the moment."""
        self._congested = True

    def resume(self) -> None:
        """The client has taken everything."""
        self._congested = False
        if self._waiting is None and self._steps:
            self._go_on()
            if self.idle:
                self._idle_again()

    def heard(self) -> None:
        """The client has said something."""
        for step, _, call in self._later:
            if step.silent and call.active():
                call.reset(step.seconds)

    def clear(self) -> None:
        """Forget everything: the connection is gone."""
        self._steps.clear()
        self._kept.clear()
        self._aside, self._aside_now = [], []
        for call in (self._waiting, self._release, *[call for _, _, call in self._later]):
            if call is not None and call.active():
                call.cancel()
        self._waiting = self._release = None
        self._later = []

    def flush(self) -> None:
        """Send what is kept for octets behind it."""
        kept, self._kept = bytes(self._kept), bytearray()
        self._holding = 0
        if self._release is not None and self._release.active():
            self._release.cancel()
        self._release = None
        if kept:
            self.labels = self._kept_labels
            self._write(kept)

    def flush_all(self) -> None:
        """Send everything that was kept back: nothing comes behind it."""
        self.flush()
        aside, self._aside, self._aside_now = self._aside_now + self._aside, [], []
        for octets, labels in aside:
            self._leave(octets, labels)

    # One step after another -------------------------------------------------------------------

    def _proceed(self) -> None:
        if self._waiting is None:
            self._go_on()

    def _go_on(self) -> None:
        while self._steps and self._waiting is None and not self.ended:
            step, labels = self._steps.popleft()
            if isinstance(step, _Done):
                self._reply_done()
            elif isinstance(step, Octets):
                if not self._send_some(step, labels):
                    return
            elif isinstance(step, (Hold, Aside, Later)):
                self._arrange(step, labels)
            elif isinstance(step, Repeat):
                self._repeat(step, labels)
                return
            elif isinstance(step, Stall):
                self._stall()
            elif isinstance(step, End):
                self._finally(step, labels)
            else:
                self.flush()
                self._wait(step)

    def _send_some(self, step: Octets, labels: Labels) -> bool:
        """Send a piece, if the client takes any; False: it waits in front of the queue."""
        if self._congested:
            self._steps.appendleft((step, labels))
            return False
        pieces = range(0, len(step.octets), PIECE_OCTETS)
        if len(pieces) > 1:
            self._steps.extendleft([(Octets(step.octets[at:at + PIECE_OCTETS]), labels)
                                    for at in reversed(pieces)])
        else:
            self._leave(step.octets, labels)
        return True

    def _leave(self, octets: bytes, labels: Labels) -> None:
        if self._holding > 0:
            self._kept += octets
            self._kept_labels += tuple([label for label in labels if label not in self._kept_labels])
        elif octets:
            self.labels = labels
            self._write(octets)

    def _arrange(self, step: Hold | Aside | Later, labels: Labels) -> None:
        if isinstance(step, Aside):
            self._aside.append((step.octets, labels))
        elif isinstance(step, Later):
            call = self._clock.callLater(step.seconds, self._happen, step, labels)
            self._later.append((step, labels, call))
        else:
            if not self._kept:
                self._kept_labels = ()
            self._holding = max(self._holding, step.replies + 1)
            if step.seconds and self._release is None:
                self._release = self._clock.callLater(step.seconds, self.flush)

    def _reply_done(self) -> None:
        for octets, labels in self._aside_now:
            self._leave(octets, labels)
        self._aside, self._aside_now = [], self._aside
        if self._holding:
            self._holding -= 1
            if not self._holding:
                self.flush()

    def _repeat(self, step: Repeat, labels: Labels) -> None:
        self.flush()
        self._steps.appendleft((step, labels))
        if self._congested:
            return
        self._leave(step.octets, labels)
        self._waiting = self._clock.callLater(step.seconds, self._waited)

    def _stall(self) -> None:
        self.flush()
        self.stalled = True
        self._steps.clear()

    def _finally(self, step: End, labels: Labels) -> None:
        self.flush()
        self._steps.clear()
        self.ended = True
        self.labels = labels
        self._end(step)

    def _happen(self, step: Later, labels: Labels) -> None:
        """Do what was to be done later, whatever is under way."""
        if self.stalled or self.ended:
            return
        self._steps.clear()
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._leave(step.words, labels)
        if isinstance(step.then, End):
            self._finally(step.then, labels)
        else:
            self._stall()

    def _wait(self, step: Pause | Gap) -> None:
        if isinstance(step, Pause):
            self._waiting = self._clock.callLater(step.seconds, self._waited)
        elif step.brief:
            self._waiting = self._clock.callLater(0, self._waited)
        else:
            self._waiting = self._clock.apart(self._waited)

    def _waited(self) -> None:
        self._waiting = None
        self._go_on()
        if self.idle:
            self._idle_again()
