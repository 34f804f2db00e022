"""Whether a client still takes what it is sent."""

from __future__ import annotations

import socket
import sys
from typing import Any

# In Linux's struct tcp_info: eight octets, 24 numbers of 4, two of 8, then tcpi_bytes_acked (RFC 4898).
_ACKED_AT = 120
_INFO_OCTETS = 128


def octets_taken(transport: Any) -> int | None:
    """Return the octets that the peer has acknowledged since the connection began.

    None where the system does not tell (other systems, unix sockets, transports without a socket). A
    transport in memory says it by an attribute of this name.
    """
    told = getattr(transport, "octets_taken", None)
    if isinstance(told, int):
        return told
    if not hasattr(socket, "TCP_INFO"):
        return None
    # not by getHandle: after startTLS, that of a transport is OpenSSL's
    connection = getattr(transport, "socket", None)
    return _acknowledged(connection) if isinstance(connection, socket.socket) else None


def _acknowledged(connection: socket.socket) -> int | None:
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_OCTETS)
    except OSError:
        return None
    return int.from_bytes(info[_ACKED_AT:_INFO_OCTETS], sys.byteorder) if len(info) >= _INFO_OCTETS else None
