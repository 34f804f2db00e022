"""One harness for many tests: started when the first needs it, and reset for each."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from typing import Any

from mailgate.testing.server import Server

BODY = b"Subject: long\r\n\r\n" + b"a line of a message\r\n" * 500

_servers: dict[str, Server] = {}


def served(settings: Mapping[str, Any] | None = None) -> Server:
    """Return a server with these settings, an account `mrose` (`secret`) and a message of 10 kB in it."""
    key = repr(settings)
    if key not in _servers:
        server = _servers[key] = Server(settings=settings).start()
        atexit.register(server.stop)
    server = _servers[key]
    server.reset()
    server.account("mrose", "secret")
    server.maildrop("mrose").add(BODY)
    return server
