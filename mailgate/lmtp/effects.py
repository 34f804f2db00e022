"""What a conversation wants done: the shell around it carries it out.

Octets to send stand for themselves. An ask ends the turn: the shell performs it and gives its
result, or the exception that ended it, to `Session.outcome`. The others need no answer.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, Union

from mailgate.model import Placement


class Route(NamedTuple):
    """Find where a recipient's mail goes. Result: a Target."""

    path: bytes


class Write(NamedTuple):
    """Give content to the delivery, which begins with the first of it. Result: None."""

    content: bytes


class Commit(NamedTuple):
    """Make the message durable. Result: an outcome a placement, as `IDelivery.commit` gives them."""

    placements: tuple[Placement, ...]
    delivery_id: str


class Learn(NamedTuple):
    """Wait for an outcome that a Commit left open. Result: None."""

    outcome: object


class Delivered(NamedTuple):
    """A message was answered: what a log tells of it. Needs no answer."""

    delivery_id: str
    sender: bytes
    octets: int                     # as they came, before line ends were changed
    fates: tuple[tuple[bytes, BaseException | None], ...]   # every path with what kept it out, or None


class Signal(enum.Enum):
    """What needs neither argument nor answer."""

    ABORT = enum.auto()     # forget the delivery, if one has begun
    CLOSE = enum.auto()     # end the connection once what was sent is out
    START_TLS = enum.auto()     # begin TLS once what was sent is out, and a new conversation inside it


ABORT, CLOSE, START_TLS = Signal.ABORT, Signal.CLOSE, Signal.START_TLS
Ask = Union[Route, Write, Commit, Learn]
Effect = Union[bytes, Route, Write, Commit, Learn, Delivered, Signal]
