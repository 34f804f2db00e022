"""One store copied into another: how the parts of it are joined, and what an operator hears of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import click

from mailgate.cli.copying_accounts import copy_accounts
from mailgate.cli.copying_base import Counts, Wishes, each
from mailgate.cli.copying_mail import MailCopy
from mailgate.names import fold

MAILDROPS_AT_ONCE = 8       # so that small ones share commits
PROGRESS_SECONDS = 1.0


class Copying:
    """A copy from one store to another. `work` does it."""

    def __init__(self, wishes: Wishes, *, shown: bool = False,
                 seconds: Callable[[], float] = time.monotonic) -> None:
        self._wishes = wishes
        self._shown = shown
        self._seconds = seconds
        self._began = seconds()
        self._next = 0.0
        self.counts = Counts()

    @property
    def findings(self) -> int:
        return self.counts.findings

    async def work(self, source: Any, target: Any) -> None:
        """Open both and copy. Raises: StoreUnavailable, which ends it: what is copied stays."""
        await source.start()
        await target.start()
        self._began = self._seconds()
        kept_out = await copy_accounts(source.accounts, target.accounts, self._wishes, self.counts)
        mail = MailCopy(source, target, self._wishes, self.counts, self._look)
        names = await self._names(source, kept_out)
        self.counts.of_maildrops = len(names)
        await each(names, mail.copy, MAILDROPS_AT_ONCE)
        await each(mail.to_prune(), mail.prune, MAILDROPS_AT_ONCE)
        self._look(last=True)

    async def _names(self, source: Any, kept_out: set[str]) -> list[str]:
        """Return the maildrops to copy: those that are known, and accounts' that nobody opened yet."""
        found = [*await source.maildrops(), *[account.name for account in await source.accounts.list()]]
        names = {fold(name): name for name in reversed(found)}
        if self._wishes.maildrops:
            wanted = {fold(name): name for name in self._wishes.maildrops}
            for key in sorted(wanted.keys() - names.keys()):
                self.counts.find(f"{wanted[key]}: FROM has no such maildrop")
            names = {key: name for key, name in names.items() if key in wanted}
        for key in sorted(kept_out & names.keys()):
            self.counts.find(f"{names.pop(key)}: mail not copied: another account may be meant")
        return [name for _, name in sorted(names.items())]

    # Telling --------------------------------------------------------------------------------

    def _look(self, *, last: bool = False) -> None:
        """Show how far it is, a line a second."""
        if not self._shown or (not last and self._seconds() < self._next):
            return
        self._next = self._seconds() + PROGRESS_SECONDS
        counts = self.counts
        line = (f"{counts.maildrops} of {counts.of_maildrops} maildrops, {counts.copied} messages copied,"
                f" {counts.passed} there, {counts.octets >> 20} MiB, {self._rate():.0f} messages/s")
        over = sys.stderr.isatty()
        click.echo(f"\r{line}" if over else line, err=True, nl=last or not over)

    def _rate(self) -> float:
        return self.counts.copied / max(self._seconds() - self._began, 0.001)

    def summary(self) -> list[str]:
        """Return what came of it."""
        counts = self.counts
        further = "".join(f", {number} {words}" for number, words in (
            (counts.removed_since, "removed there since"), (counts.pruned, "pruned")) if number)
        return [f"accounts: {counts.accounts}, {counts.added} of them copied",
                f"maildrops: {counts.maildrops}",
                f"messages: {counts.copied} copied ({counts.octets} octets),"
                f" {counts.passed} were there{further}",
                f"verified: {counts.verified} messages; findings: {counts.findings}",
                f"{self._seconds() - self._began:.1f} seconds, {self._rate():.0f} messages/s"]
