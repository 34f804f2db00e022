"""A run: meet the server, deliver, make the checks one after another, take away what was delivered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mailgate.conformance.connection import Connection, Observed, OutOfTime, WireFault
from mailgate.conformance.delivering import Deliver
from mailgate.conformance.findings import Check, Finding, Level, Result, Skipped, Verdict
from mailgate.conformance.maildrop import Own
from mailgate.conformance.record import Mask, Record
from mailgate.conformance.target import Met, Target, capabilities
from mailgate.conformance.visit import Busy, LoginRefused, Unreachable, Visit


class Report(NamedTuple):
    """All that came of a run."""

    target: Target
    met: Met
    began: float            # seconds since 1970
    seconds: float
    results: list[Result]
    notices: list[str]      # about the run itself: what could not be delivered, or taken away

    def count(self, verdict: Verdict) -> int:
        """Return how many checks ended so."""
        return sum(result.verdict is verdict for result in self.results)


class Run:
    """One run over one server. `tell` is given each result as soon as it is there."""

    def __init__(self, target: Target, checks: Sequence[Check], deliver: Deliver | None = None, *,
                 tell: Callable[[Result], None] = lambda result: None,
                 about: Callable[[str], None] = lambda words: None) -> None:
        self._target = target
        self._checks = [*(one for one in checks if not one.last), *(one for one in checks if one.last)]
        self._tell = tell
        self._about = about
        self._own = Own(deliver)
        self._observed = Observed()
        self._mask = Mask([target.password])
        self._met: Met | None = None
        self._notices: list[str] = []
        # what a client says to log in, and what could be turned back into the password
        self._mask.add(b"\0" + target.user + b"\0" + target.password)

    def carry_out(self) -> Report:
        """Make all checks.

        Raises: Unreachable, LoginRefused, Busy: then no check was made.
        """
        began, clock = time.time(), time.monotonic()
        self._met = self._meet()
        results: list[Result] = []
        try:
            self._fill()
            for check in self._checks:
                late = time.monotonic() - clock > self._target.pace.total_seconds
                result = _late(check) if late else self._make(check)
                results.append(result)
                self._tell(result)
        finally:
            self._clear()
        return Report(self._target, self._met, began, time.monotonic() - clock, results, self._notices)

    def _visit(self) -> Visit:
        return Visit(self._target, self._met, self._own, self._observed, Record(self._mask))

    def _meet(self) -> Met:
        """Find out how to log in, and what is announced."""
        try:
            with self._visit() as visit:
                first = visit.connect()
                assert first.greeting is not None
                before = self._capabilities(first)
                first.leave()
                by_sasl = before is not None and "USER" not in before and "PLAIN" in before.get(
                    "SASL", "").upper().split()
                self._met = Met(first.greeting.raw, before, None, by_sasl)
                session = visit.login()
                return self._met._replace(after=self._capabilities(session))
        except (WireFault, Finding) as fault:
            raise Unreachable(f"{self._target.host}:{self._target.port}: {fault}") from None

    def _capabilities(self, connection: Connection) -> dict[str, str] | None:
        """Return what CAPA lists; a server that cannot say it is checked all the same."""
        try:
            return capabilities(connection.ask("CAPA", multi=True))
        except WireFault as fault:
            self._notice(f"CAPA is not understood: {fault}")
            connection.drop()
            return None

    def _fill(self) -> None:
        if not self._own.can_deliver:
            return
        self._about(f"delivering {len(self._own.wanted)} messages, known by {self._own.token}")
        try:
            with self._visit() as visit:
                self._own.fill(visit)
        except (WireFault, Finding, Skipped, LoginRefused, Unreachable) as fault:
            self._notice(f"the messages could not be looked for: {fault}")
            for name in set(self._own.wanted) - set(self._own.ids):
                self._own.missing.setdefault(name, f"it was not found in the maildrop: {fault}")
        for name, why in self._own.missing.items():
            self._notice(f"message {name}: {why}")

    def _clear(self) -> None:
        if not self._own.can_deliver:
            return
        try:
            with self._visit() as visit:
                removed = self._own.clear(visit)
            self._about(f"took {removed} messages away again")
        except (WireFault, Finding, Skipped, LoginRefused, Unreachable) as fault:
            self._notice(f"messages of this run may be left, known by {self._own.token}: {fault}")

    def _notice(self, words: str) -> None:
        self._notices.append(words)
        self._about(words)

    def _make(self, check: Check) -> Result:
        """Make one check; whatever a server does becomes a verdict."""
        began = time.monotonic()
        visit = self._visit()
        verdict, reason = Verdict.PASS, ""
        with visit:
            try:
                check.look(visit)
                reason = visit.remark
            except Finding as fault:
                verdict, reason = _of(fault.level or check.level), str(fault)
            except OutOfTime as fault:
                verdict, reason = Verdict.SKIP, str(fault)
            except (WireFault, LoginRefused) as fault:
                verdict, reason = _of(check.level), str(fault)
            except Unreachable as fault:
                verdict, reason = Verdict.FAIL, f"no connection: {fault}"
            except Busy as fault:       # nobody else is here: it is a lock that was left behind
                delayed = "LOGIN-DELAY" in str(fault)
                verdict, reason = Verdict.SKIP if delayed else _of(check.level), str(fault)
            except Skipped as fault:
                verdict, reason = Verdict.SKIP, str(fault)
            events = visit.record.events
        return Result(check, verdict, reason, time.monotonic() - began, events)


def _of(level: Level) -> Verdict:
    """Return what a statement of this level comes to if it is not kept."""
    return Verdict.FAIL if level is Level.MUST else Verdict.WARN


def _late(check: Check) -> Result:
    return Result(check, Verdict.SKIP, "the time for the whole run is over", 0.0, [])


def worst(results: Iterable[Result], *, strict: bool = False) -> bool:
    """Whether there is a finding that counts: a failure, or a warning as well where that is asked for."""
    counted = {Verdict.FAIL, Verdict.WARN} if strict else {Verdict.FAIL}
    return any(result.verdict in counted for result in results)
