"""The server that tests of mail clients talk to.

    from mailgate.testing import Server

    with Server() as server:
        server.account("mrose", "secret").add("Subject: one\\n\\nhello\\n")
        server.fault("close", command="RETR", at=100)

`Server` is for programs that block, or have any event loop of their own; `MemoryServer` for tests on Twisted.
In pytest there is the fixture `mailgate`. What is named here is loaded when it is first used.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailgate.testing.face import Face, HeldClock
    from mailgate.testing.harness.records import Command, Event, LoginTry, SessionRecord
    from mailgate.testing.maildrops import Maildrop, Message
    from mailgate.testing.memory import MemoryServer
    from mailgate.testing.server import Server, ServerProblem, TooLate
    from mailgate.testing.switches import ActiveFault
    from mailgate.testing.trouble.model import Fault, Scenario

_PLACES = {
    "ActiveFault": "switches", "Face": "face", "HeldClock": "face", "Maildrop": "maildrops",
    "Message": "maildrops",
    "Command": "harness.records", "Event": "harness.records", "LoginTry": "harness.records",
    "SessionRecord": "harness.records", "MemoryServer": "memory", "Server": "server",
    "ServerProblem": "server", "TooLate": "server", "Fault": "trouble.model", "Scenario": "trouble.model",
}
__all__ = [
    "ActiveFault",
    "Command",
    "Event",
    "Face",
    "Fault",
    "HeldClock",
    "LoginTry",
    "Maildrop",
    "MemoryServer",
    "Message",
    "Scenario",
    "Server",
    "ServerProblem",
    "SessionRecord",
    "TooLate",
]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with _unswept():
        found = getattr(import_module(f"{__name__}.{place}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})


@contextmanager
def _unswept() -> Iterator[None]:
    """Load modules without the search for garbage, of which they make none: a tenth of the time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
