"""Run one target over inputs by number."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.fuzz.mutation import Mutator, smaller
from tests.fuzz.table import TARGETS
from tests.fuzz.target import Target

TELL_SECONDS = 60.0
SMALLER_OCTETS = 4096       # an input that is longer is told as it is
MOST_SECONDS = 20.0         # for one input, on a machine that has other work


class Finding(NamedTuple):
    """An input that shows a fault."""

    number: int
    data: bytes             # made shorter
    fault: BaseException


class Outcome(NamedTuple):
    """What came of a run."""

    executions: int
    findings: list[Finding]


def run(name: str, executions: int, seed: int, *, first: int = 0, most_findings: int = 1,
        tell: Callable[[str], object] | None = None, seconds: Callable[[], float] = lambda: 0.0) -> Outcome:
    """Run a target; end early once there are so many findings."""
    target = TARGETS[name]
    mutator = Mutator(name, target.seeds, target.words, target.most_octets, seed)
    findings: list[Finding] = []
    begun = told = seconds()
    for number in range(first, first + executions):
        data = mutator.at(number)
        fault = fault_of(target, data)
        if fault is not None:
            findings.append(_finding(target, number, data, fault))
            if len(findings) >= most_findings:
                executions = number - first + 1
                break
        if tell is not None and seconds() - told >= TELL_SECONDS:
            told = seconds()
            tell(f"{name}: {number - first + 1} executions")
    if tell is not None:
        tell(f"{name}: {executions} executions in {seconds() - begun:.0f} s, {len(findings)} findings")
    return Outcome(executions, findings)


def fault_of(target: Target, data: bytes) -> Exception | None:
    """Return what an input shows to be wrong: also that it takes too long."""
    try:
        with _limited():
            target.check(data)
    except Exception as fault:
        return fault
    return None


class TooSlow(Exception):
    """One input took longer than any may: an expression that tries everything, a loop without end."""


@contextmanager
def _limited() -> Iterator[None]:
    def end(number: int, frame: object) -> None:
        raise TooSlow(f"more than {MOST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _finding(target: Target, number: int, data: bytes, fault: Exception) -> Finding:
    """Return a finding whose input is as short as can be, for a fault of the same kind."""
    if len(data) <= SMALLER_OCTETS and not isinstance(fault, TooSlow):
        data = smaller(data, lambda shorter: isinstance(fault_of(target, shorter), type(fault)))
        fault = fault_of(target, data) or fault
    return Finding(number, data, fault)
