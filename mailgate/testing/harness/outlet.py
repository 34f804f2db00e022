"""The way out of a connection that trouble may be made on: steps are carried out one after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from mailgate.testing.trouble.model import End, Gap, Hold, Octets, Pause, Stall, Step


class Outlet:
    """Sends through `write`; `end(torn)` ends the connection.

    `idle_again` is called when the last step is done that was waited for. `clock` has `callLater` and
    `apart` (harness/clock.py).
    """

    def __init__(self, clock: Any, write: Callable[[bytes], None], end: Callable[[bool], None],
                 idle_again: Callable[[], None]) -> None:
        self._clock = clock
        self._write = write
        self._end = end
        self._idle_again = idle_again
        self._steps: deque[Step] = deque()
        self._waiting: Any = None       # the delayed call that goes on
        self._kept = b""                # what waits for the octets behind it
        self._replies_kept = 0
        self.stalled = False

    @property
    def idle(self) -> bool:
        """Whether everything was carried out."""
        return not self._steps and self._waiting is None and not self.stalled

    def put(self, steps: list[Step]) -> None:
        """Carry out steps behind those that are there. Those of one reply come together."""
        if self.stalled:
            return
        self._replies_kept -= 1
        self._steps.extend(steps)
        if self._waiting is None:
            self._go_on()

    def clear(self) -> None:
        """Forget everything: the connection is gone."""
        self._steps.clear()
        self._kept = b""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def flush(self) -> None:
        """Send what was kept: nothing comes behind it."""
        kept, self._kept = self._kept, b""
        if kept:
            self._write(kept)

    def _go_on(self) -> None:
        while self._steps:
            step = self._steps.popleft()
            if isinstance(step, Octets):
                self._send(step.octets)
            elif isinstance(step, Hold):
                self._replies_kept = step.replies
            elif isinstance(step, Stall):
                self.flush()
                self.stalled = True
                self._steps.clear()
                return
            elif isinstance(step, End):
                self.flush()
                self._steps.clear()
                self._end(step.torn)
                return
            else:
                self.flush()
                self._wait(step)
                return

    def _send(self, octets: bytes) -> None:
        if self._replies_kept > 0:
            self._kept += octets
        elif self._kept:
            octets, self._kept = self._kept + octets, b""
            self._write(octets)
        else:
            self._write(octets)

    def _wait(self, step: Pause | Gap) -> None:
        if isinstance(step, Pause):
            self._waiting = self._clock.callLater(step.seconds, self._waited)
        else:
            self._waiting = self._clock.apart(self._waited)

    def _waited(self) -> None:
        self._waiting = None
        self._go_on()
        if self.idle:
            self._idle_again()
