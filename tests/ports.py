"""Ports of loopback for servers that take only numbers, and listen some time after the number was chosen.

Meanwhile the system would give a port that nobody has to anybody: whoever listens at port 0, or connects.
So a socket has it, and never listens. A server can listen beside it, since both set SO_REUSEADDR (nearly
every server does); until one does, and after it has ended, clients are refused.
"""

from __future__ import annotations

import socket
from unittest import TestCase

_HELD: list[socket.socket] = []     # until this process ends


def hold() -> socket.socket:
    """Return a socket that has a port of 127.0.0.1 until it is closed."""
    holder = socket.socket()
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
    except BaseException:
        holder.close()
        raise
    return holder


def held_port(case: TestCase) -> int:
    """Return a port that is held until a test has ended."""
    holder = hold()
    case.addCleanup(holder.close)
    return int(holder.getsockname()[1])


def free_port() -> int:
    """Return a port that is held until this process ends: for servers that outlive a test."""
    _HELD.append(hold())
    return int(_HELD[-1].getsockname()[1])


def free_ports(count: int) -> list[int]:
    """Return so many of them."""
    return [free_port() for _ in range(count)]
