"""One handshake with trouble: what leaves in it goes through the hands of the faults that met it."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.protocols.tls import TLSMemoryBIOProtocol

from mailgate.net.tls import ServerConnection
from mailgate.testing.harness.outlet import Outlet
from mailgate.testing.trouble.active import Met, outcome_of
from mailgate.testing.trouble.model import End, Instead, Octets, Step


class FaultyConnection(ServerConnection):
    """The OpenSSL side of a connection whose first flight may be changed, cut, delayed or left out.

    `layer` is Twisted's TLS on the connection, `inner` the connection inside: it is told how a fault ends it.
    """

    def __init__(self, context: SSL.Context, layer: Any, inner: Any, clock: Any, met: list[Met]) -> None:
        super().__init__(context)
        self.inner = inner
        self._layer = layer
        self._met = met
        self._due = inner.factory.at_once       # what a server says that knows no TLS: at once, or
        self._first = True          # nothing has left yet
        self._silent = False        # there is no TLS: something else was said
        self._outlet = Outlet(clock, self._leave, self._end, lambda: None)

    def do_handshake(self) -> None:
        """Go on with the handshake, or say what is said instead of one. Raises: SSL.Error."""
        if self._due and self._first and (instead := self._instead()) is not None:
            self._first, self._silent = False, True
            self._outlet.put([Octets(instead.reply), *([End()] if instead.then_end else [])])
        if self._silent:
            raise SSL.WantReadError
        super().do_handshake()

    def bio_write(self, buf: Any) -> int:
        """Take octets of the client's."""
        self._due = True        # behind STLS, to what it takes for a command
        return len(buf) if self._silent else super().bio_write(buf)

    def bio_read(self, bufsiz: int) -> bytes:
        """Return octets that can leave at once. Raises: SSL.WantReadError, where there are none."""
        octets = super().bio_read(bufsiz)
        if self._first:
            self._first = False
            steps: list[Step] = [Octets(outcome_of(self._met, octets))]
            for kind, occasion in self._met:
                if kind.deliver is not None:
                    steps = kind.deliver(occasion, steps)
            self._outlet.put(steps)
        elif self._outlet.idle:
            return octets
        else:
            self._outlet.put([Octets(octets)])
        raise SSL.WantReadError

    def forget(self) -> None:
        """The connection is gone."""
        self._outlet.clear()

    def _instead(self) -> Instead | None:
        for kind, occasion in self._met:
            if kind.instead is not None and (instead := kind.instead(occasion)) is not None:
                return instead
        return None

    def _leave(self, octets: bytes) -> None:
        if self._layer.transport is not None:
            self._layer.transport.write(octets)

    def _end(self, step: End) -> None:
        self.inner.handshake_ended(step)
        if step.torn:
            self._layer.transport.abortConnection()
        else:
            self._layer.transport.loseConnection()


def layer_of(transport: Any) -> TLSMemoryBIOProtocol | None:
    """Return the TLS that a connection is inside of: from the first octet, or begun later."""
    if isinstance(transport, TLSMemoryBIOProtocol):
        return transport
    layer: TLSMemoryBIOProtocol | None = getattr(transport, "tls", None)
    return layer


def speak_first(transport: Any) -> None:
    """Let be said what is said instead of TLS at once: TLS itself waits for the client to begin."""
    layer: Any = layer_of(transport)
    if layer is not None and isinstance(layer.getHandle(), FaultyConnection):
        layer._checkHandshakeStatus()


def close_beneath(transport: Any) -> None:
    """Close a connection for TCP, without a word of TLS."""
    layer: Any = layer_of(transport)
    (transport if layer is None else layer.transport).loseConnection()
