"""The servers of this process: those that run, and those that were started since somebody asked.

Nothing is loaded with this: the pytest plugin has it in every run, also where no test wants a server.
"""

from __future__ import annotations

from typing import Any

servers: list[Any] = []                 # mailgate.testing.Server; those that run
started: list[Any] | None = None        # those that were started since it was made a list, stopped or not


def begin(server: Any) -> None:
    """Note that a server runs, until `end`."""
    servers.append(server)
    made(server)


def made(server: Any) -> None:
    """Note a server that need not be ended."""
    if started is not None:
        started.append(server)


def end(server: Any) -> None:
    """Note that it does not any more. May be called twice."""
    if server in servers:
        servers.remove(server)


def watch() -> list[Any] | None:
    """Keep those that are started from now on; return what there was before, to be put back in the end."""
    global started
    before, started = started, []
    return before


def put_back(before: list[Any] | None) -> None:
    """Be as before `watch`."""
    global started
    started = before
