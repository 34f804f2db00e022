"""Many accounts on their way from another POP3 server, some at a time; each is told when it is done."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import click
from twisted.internet.defer import Deferred

from mailgate.cli.moving import Move, Step, Tally, Wishes
from mailgate.cli.telling import field, reason, tell
from mailgate.config import Config
from mailgate.errors import MailgateError, StoreUnavailable
from mailgate.net.pop3_source import Credentials, Door, NotOffered, SourceBusy, Unreachable, log_in
from mailgate.wire.faults import answer_for

PROGRESS_SECONDS = 0.5      # between two looks at a terminal
MOST_OUTAGES = 10           # in a row, and no account is tried any more: the server, or our store, is down


class Job(NamedTuple):
    """One account to move."""

    name: str                   # here
    credentials: Credentials    # there


class Shown:
    """How far it is, on one line of standard error that is written over."""

    def __init__(self, shown: bool, accounts: int, seconds: Callable[[], float] = time.monotonic) -> None:
        self._shown = shown
        self._accounts = accounts
        self._done = 0
        self._seconds = seconds
        self._next = 0.0
        self._overwrites = sys.stderr.isatty()
        self._width = 0

    def at(self, step: Step) -> None:
        """Show how an account goes on, but not too often."""
        if self._shown and self._seconds() >= self._next:
            self._next = self._seconds() + PROGRESS_SECONDS
            accounts = f"{self._done} of {self._accounts} accounts, " if self._accounts > 1 else ""
            self._write(f"{accounts}{step.done} of {step.of} {step.words}")

    def account_done(self) -> None:
        """Count an account, and make room for what is said of it."""
        self._done += 1
        if self._overwrites and self._width:
            self._write("")

    def _write(self, line: str) -> None:
        if self._overwrites:
            click.echo("\r" + line.ljust(self._width) + ("" if line else "\r"), err=True, nl=False)
            self._width = len(line)
        else:
            click.echo(line, err=True)


class Many:
    """A run over accounts of one server."""

    def __init__(self, store: Any, config: Config, reactor: Any, door: Door, wishes: Wishes,
                 shown: Shown) -> None:
        self._move = Move(store, config, wishes, shown.at)
        self._reactor = reactor
        self._door = door
        self._dry = wishes.dry_run
        self._shown = shown
        self._codes: list[int] = []
        self._outages = 0       # in a row

    async def carry_out(self, jobs: Iterable[Job], parallel: int) -> int:
        """Move all accounts; return the exit code: 0, to be tried again (75), or the first fault's."""
        waiting = iter(jobs)
        for working in [Deferred.fromCoroutine(self._work(waiting)) for _ in range(parallel)]:
            await working
        left = sum(1 for _ in waiting)
        if left:
            tell(f"given up: {self._outages} accounts in a row failed; {left} were not tried")
        if len(self._codes) > 1 and {os.EX_TEMPFAIL, os.EX_UNAVAILABLE}.intersection(self._codes):
            return os.EX_TEMPFAIL
        return self._codes[0] if self._codes else os.EX_OK

    async def _work(self, waiting: Iterator[Job]) -> None:
        while self._outages < MOST_OUTAGES and (job := next(waiting, None)) is not None:
            try:
                tally = await self._move_one(job)
            except MailgateError as fault:
                is_outage = isinstance(fault, StoreUnavailable) and not isinstance(
                    fault, (SourceBusy, NotOffered))
                self._outages = self._outages + 1 if is_outage else 0
                self._failed(job, fault, [])
            else:
                self._outages = 0
                if tally.faults:
                    self._failed(job, tally.faults[0], tally.columns())
                else:
                    self._tell(job, "would-do" if self._dry else "done", tally.columns())

    async def _move_one(self, job: Job) -> Tally:
        owner = await self._move.owner(job.name)
        source = await log_in(self._reactor, self._door, job.credentials)
        try:
            tally = await self._move.move(owner, source, b"%b %b" % (
                str(self._door).encode(), job.credentials.name))
            await source.quit()
            return tally
        finally:
            source.drop()

    def _failed(self, job: Job, fault: MailgateError, columns: list[str]) -> None:
        code = os.EX_UNAVAILABLE if isinstance(fault, (Unreachable, NotOffered)) else answer_for(fault).exit
        self._codes.append(code)
        self._tell(job, "failed", [f"exit={code}", *columns])
        words = str(fault) if code == os.EX_UNAVAILABLE else reason(fault)
        tell(f"{field(job.name)}: {words}")

    def _tell(self, job: Job, state: str, columns: list[str]) -> None:
        self._shown.account_done()
        click.echo("\t".join([field(job.name), state, *columns]))
