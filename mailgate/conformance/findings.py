"""Checks and what comes of them."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from mailgate.conformance.record import Event


class Level(enum.Enum):
    """How strongly the statement is worded: not kept, a MUST fails and all others warn."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    ADVICE = "advice"       # of no RFC's words, but clients that meet it otherwise come to grief


class Verdict(enum.Enum):
    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


PROFILES = {
    "basic": "what any client needs",
    "full": "all of RFC 1939; includes basic",
    "extensions": "CAPA and what it announces, response codes, SASL",
    "tls": "STLS and certificates",
    "hostile": "what no client should send, and connections that break",
}
POLITE = ("full", "extensions", "tls")      # without being asked for others


class Finding(Exception):
    """The statement is not kept. `level` is given where it differs from the check's own."""

    def __init__(self, words: str, level: Level | None = None) -> None:
        super().__init__(words)
        self.level = level


class Skipped(Exception):
    """The check cannot be made here: why."""


Look = Callable[[Any], None]        # it is given a Visit, which stands above this module


class Check(NamedTuple):
    """One statement and the function that looks whether it is kept."""

    id: str             # never changes its meaning
    profile: str
    level: Level
    section: str
    title: str
    look: Look
    last: bool          # looks at what was seen in all others

    @property
    def done(self) -> str:
        """What is done, in words."""
        return " ".join((self.look.__doc__ or "").split())


class Result(NamedTuple):
    """What came of a check."""

    check: Check
    verdict: Verdict
    reason: str         # of anything but a pass; may be a remark there
    seconds: float
    events: list[Event]


class Table:
    """The checks of a module, in order."""

    def __init__(self, profile: str) -> None:
        self._profile = profile
        self.checks: list[Check] = []

    def add(self, id: str, level: Level, section: str, title: str, *, profile: str = "",
            last: bool = False) -> Callable[[Look], Look]:
        """Decorate the function of a check; its docstring tells what is done."""
        def keep(look: Look) -> Look:
            self.checks.append(Check(id, profile or self._profile, level, section, title, look, last))
            return look
        return keep


def expect(kept: object, words: str, level: Level | None = None) -> None:
    """Raises: Finding, unless the statement is kept."""
    if not kept:
        raise Finding(words, level)


def skip(words: str) -> NoReturn:
    """Raises: Skipped."""
    raise Skipped(words)
