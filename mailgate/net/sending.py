"""Octets leave at once where the socket has room for them.

Twisted's transports queue what is written, ask the reactor to watch for room, and send in its next
turn: for a short reply, half of what the reply costs. Measured side by side, with and without: CPU of a
login with QUIT 0.41 ms instead of 0.49, of a message of 32 MB 0.37 ms a MB instead of 0.60.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.tcp import Server
from twisted.python.failure import Failure


def send_at_once(transport: Any, octets: bytes) -> bytes:
    """Send what the socket takes now, and return the rest, for the transport's own `write`.

    That is everything where something waits to be sent before it, inside TLS (a transport that has
    started TLS looks as before), and for other transports than those of TCP. A connection that is
    lost is told of by `write`, as ever.
    """
    if not _is_idle(transport):
        return octets
    try:
        sent = transport.socket.send(octets)
    except OSError:     # no room, or no connection: what becomes of it is the transport's business
        return octets
    return octets[sent:]


def close_soon(transport: Any) -> None:
    """Lose a connection in the reactor's next turn, without waiting for room where nothing is to be sent."""
    if not _is_idle(transport):
        transport.loseConnection()
        return
    transport.stopReading()
    transport.disconnecting = True
    transport.reactor.callLater(0, _lose, transport)


def _lose(transport: Any) -> None:
    if transport.connected:
        transport.connectionLost(Failure(ConnectionDone()))


def _is_idle(transport: Any) -> bool:
    """Return whether a transport is a plain one of TCP that stands, with nothing waiting to be sent."""
    # Twisted has no word for "nothing is queued"; tests/net/test_sending.py holds it to these names.
    return (type(transport) is Server and not transport.TLS and not transport._tempDataBuffer
            and not transport.dataBuffer and bool(transport.connected) and not transport.disconnecting)
