"""How a WebSocket begins: judged before Twisted does, which logs a bad one with its address and all in it."""

from __future__ import annotations

from typing import Any

from wsproto.connection import ConnectionType
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError


def problem_of(request: Any) -> str:
    """Return what is wrong with a request that is to become a WebSocket, empty if nothing is."""
    headers = [(name, value) for name, values in request.requestHeaders.getAllRawHeaders()
               for value in values]
    try:
        H11Handshake(ConnectionType.SERVER).initiate_upgrade_connection(headers, request.path)
    except RemoteProtocolError as fault:
        return str(fault)
    return ""
