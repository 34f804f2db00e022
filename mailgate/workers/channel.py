"""What parent and workers say to one another: one JSON object a line; and how log events travel."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator
from threading import RLock
from typing import Any

from twisted.logger import LogEvent, LogLevel, eventAsText, globalLogPublisher

ORDERS = 0              # descriptors of a worker: what the parent says ...
TOLD = 3                # ... what the worker says ...
FIRST_SOCKET = 4        # ... and the listening sockets, in the order of the configuration
_READ_OCTETS = 65536


def spoken(words: dict[str, Any]) -> bytes:
    """Return a line, with its end."""
    return json.dumps(words).encode() + b"\n"


class Lines:
    """Cuts octets into lines, as they come."""

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, octets: bytes) -> list[bytes]:
        """Return the lines that are whole now, without their ends."""
        *whole, self._begun = (self._begun + octets).split(b"\n")
        return whole


def read_lines(descriptor: int) -> Iterator[dict[str, Any]]:
    """Give what is said on a descriptor, until its end. Blocks; not by a file object, which would
    be locked while the interpreter ends."""
    lines = Lines()
    while octets := os.read(descriptor, _READ_OCTETS):
        for line in lines.feed(octets):
            yield json.loads(line)


class Teller:
    """What a worker says to its parent. Lines stay whole, whichever thread says them; it blocks while
    the parent does not listen, as a log file would, and is silent once the parent has gone."""

    def __init__(self, descriptor: int = TOLD) -> None:
        self._descriptor = descriptor
        self._lock = RLock()
        self._waiting: deque[bytes] = deque()
        self._at_work = False

    def tell(self, **words: Any) -> None:
        """Say one line."""
        with self._lock:
            self._waiting.append(spoken(words))
            if self._at_work:
                return          # said by this thread in the midst of another line: by a finalizer, say
            self._at_work = True
            try:
                while self._waiting:
                    self._write(memoryview(self._waiting.popleft()))
            finally:
                self._at_work = False

    def _write(self, octets: memoryview) -> None:
        try:
            while octets:
                octets = octets[os.write(self._descriptor, octets):]
        except OSError:
            pass            # nobody is left who would want to know

    def observe(self, event: LogEvent) -> None:
        """Pass a log event on (an ILogObserver). It is formatted here: its values stay in this process."""
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        if text:
            level, system = event.get("log_level"), event.get("log_system")
            self.tell(log=text, time=event.get("log_time"), namespace=event.get("log_namespace"),
                      level="info" if level is None else level.name,
                      system=None if system is None else str(system))


def publish(words: dict[str, Any]) -> None:
    """Give a worker's event to the parent's own log, whatever form that has."""
    event = {"log_format": "{text}", "text": words["log"], "log_time": words["time"],
             "log_namespace": words["namespace"], "log_level": LogLevel.lookupByName(words["level"])}
    if words["system"] is not None:
        event["log_system"] = words["system"]
    globalLogPublisher(event)
