"""A WebSocket whose other end may have taken its leave while there is still something to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def said(say: Callable[..., Any], *words: Any) -> bool:
    """Call a method of Twisted's WebSocketTransport; return False where nothing can be said any more.

    From the other end's goodbye until the connection is gone Twisted's transport refuses every word by an
    exception, and tells nobody that it does: `connectionLost` comes later.
    """
    from wsproto.utilities import LocalProtocolError  # there is no WebSocket without it; see site.py

    try:
        say(*words)
    except LocalProtocolError:
        return False
    return True
