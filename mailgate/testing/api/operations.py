"""What one operation of the API is: its row in the table, what it is called with, what it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from mailgate.testing.api.schemas import SWITCH, Schema

if TYPE_CHECKING:
    from mailgate.testing.harness.core import Harness

JSON, TOML, MESSAGE, PLAIN = "application/json", "application/toml", "message/rfc822", "text/plain"
POLL_SECONDS, MOST_POLL_SECONDS = 5.0, 60.0     # of the world's time: how long an answer is waited for


class Answer(NamedTuple):
    """What is answered: `body` is written as JSON, unless it is octets of another media type."""

    body: Any = None            # None: nothing
    status: int = 200
    media: str = JSON
    headers: Mapping[str, str] = {}


class Query(NamedTuple):
    """One parameter behind the question mark."""

    schema: Schema
    default: Any
    told: str


@dataclass
class Call:
    """One request. `query` has every parameter, those that were not given by their defaults."""

    harness: Harness
    reactor: Any
    request: Any
    path: Mapping[str, str]
    query: Mapping[str, Any]
    media: str = JSON           # of the body
    body: Any = None            # read, if it is JSON; else octets
    base: str = ""              # where the API begins
    refill: Callable[[], Awaitable[object]] | None = None       # after a reset: what is there from the start
    document: Callable[[], Any] = dict      # makes the OpenAPI document


Carry = Callable[[Call], "Answer | Awaitable[Answer]"]


@dataclass(frozen=True)
class Operation:
    """One row: a method at a path, `{name}` in it standing for a segment."""

    method: str
    path: str
    name: str                   # operationId
    told: str
    carry: Carry
    answers: Mapping[int, Mapping[str, Schema] | None]      # status to media types and their schemas
    query: Mapping[str, Query] = field(default_factory=dict)
    body: Mapping[str, Schema] | None = None                # media types and their schemas
    needs_body: bool = True
    refusals: tuple[int, ...] = ()      # beside those that every operation has

    @property
    def statuses(self) -> tuple[int, ...]:
        """Return every status that it may answer with."""
        own = (400, 401, 403, 421, *((413, 415, 422) if self.body else ()))
        return tuple(sorted({*self.answers, *own, *self.refusals}))


def json(schema: Schema) -> Mapping[str, Schema]:
    """Return the one media type of an answer or a body."""
    return {JSON: schema}


SECRETS: Mapping[str, Query] = {"secrets": Query(SWITCH, False, "Show passwords and the like as they are.")}


def wait(words: tuple[str, ...], told: str) -> Mapping[str, Query]:
    """Return the parameters of an operation that can wait for something."""
    return {
        "wait": Query({"type": "string", "enum": list(words)}, None, told),
        "timeout": Query({"type": "number", "minimum": 0, "maximum": MOST_POLL_SECONDS}, POLL_SECONDS,
                         "So many seconds of the world's time at most, whatever the harness's clock does. "
                         "Afterwards the answer tells what is so then.")}


def page(after: Schema, told: str, limit: int, most: int) -> Mapping[str, Query]:
    """Return the parameters of a list that is given in pages."""
    return {"after": Query(after, None, told),
            "limit": Query({"type": "integer", "minimum": 1, "maximum": most}, limit, "So many at most.")}
