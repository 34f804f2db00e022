"""Waiting for a client to take what was sent to it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer


@implementer(IPullProducer)
class Room:
    """A producer that produces nothing itself: it tells when the transport has sent everything.

    Registered only while somebody waits in turn, so that a subclass can register a producer of its
    own at all other times.
    """

    def __init__(self, transport: Any) -> None:
        self._transport: Any = transport
        self._registered = False
        self._waiting: Deferred[None] | None = None

    def wait(self) -> Deferred[None]:
        """Return once what was written is out, or the connection is gone."""
        if self._transport is not None and not self._registered:
            self._registered = True
            self._transport.registerProducer(self, False)   # it says at once that there is room
        if self._transport is None:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        return waiting

    def leave(self) -> None:
        """Wait no more."""
        transport, self._transport = self._transport, None
        if self._registered and transport is not None:
            transport.unregisterProducer()

    def resumeProducing(self) -> None:
        """The transport is empty."""
        self._tell()

    def stopProducing(self) -> None:
        """The connection is gone."""
        self._transport = None
        self._tell()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
