"""How much of what was written a client does not have yet."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any

if sys.platform != "win32":
    import fcntl
    import termios


def unsent_octets(transport: Any) -> int:
    """Return the octets that wait in a transport, or in the system until the peer has acknowledged them.

    0 where that cannot be told.
    """
    waiting = getattr(transport, "waiting", None)       # of a transport in memory
    if isinstance(waiting, int):
        return waiting
    queued = len(getattr(transport, "dataBuffer", b"")) + int(getattr(transport, "_tempDataLen", 0))
    connection = getattr(transport, "socket", None)
    if sys.platform == "win32" or not isinstance(connection, socket.socket) or connection.fileno() < 0:
        return queued
    try:
        kept: int = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]
    except OSError:
        return queued
    return queued + kept
