"""Commands run in the test's own process, over a store in memory that stays between them."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.cli import accounts, app_passwords, delivering, maildrops, main, received, taking
from mailgate.errors import StoreUnavailable
from mailgate.interfaces import IMaildrop, IMessageStream
from mailgate.model import Admission, Listed
from mailgate.stores.memory import MemoryStore
from mailgate.wire.dots import unstuff

CONFIGURATION = """\
hostname = "mail.example.org"
[[listen]]
protocol = "pop3"
endpoint = "tcp:1110:interface=127.0.0.1"
"""


class Ran(NamedTuple):
    """What a command did: its exit code and what it wrote."""

    code: int
    out: str
    err: str


class Terminal(io.TextIOWrapper):
    """Standard input with octets in it; no terminal, unless it is said to be one."""

    def __init__(self, octets: bytes, is_terminal: bool) -> None:
        super().__init__(io.BytesIO(octets))
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


class CommandCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.file = self.folder / "mailgate.toml"
        self.file.write_text(CONFIGURATION)
        self.clock = Clock()
        self.clock.advance(1_000_000_000)
        self.store: Any = MemoryStore(clock=self.clock)
        self.successResultOf(self.store.start())
        self.addCleanup(lambda: self.successResultOf(self.store.stop()))
        for module in (accounts, app_passwords, delivering, maildrops, received, taking):
            self.patch(module, "with_store", self._with_store)

    def _with_store(self, config: Any, work: Any, *, create: bool = False) -> Any:
        outcome: list[Any] = []
        Deferred.fromCoroutine(_awaiting(work, self.store)).addBoth(outcome.append)
        self.assertTrue(outcome, "the command waits for ever")
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]

    def command(self, *arguments: str, stdin: bytes = b"", is_terminal: bool = False) -> Ran:
        """Run one command on this configuration."""
        return self.command_as_given("-c", str(self.file), *arguments, stdin=stdin, is_terminal=is_terminal)

    def command_as_given(self, *arguments: str, stdin: bytes = b"", is_terminal: bool = False) -> Ran:
        """Run one command."""
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdin", Terminal(stdin, is_terminal))
        pieces = [stdin[at:at + 7] for at in range(0, len(stdin), 7)]
        self.patch(delivering, "stdin_pieces", lambda: iter(pieces))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(arguments)
        return Ran(code, out.getvalue(), err.getvalue())

    def succeed(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run a command that must end well, and return what it wrote."""
        ran = self.command(*arguments, stdin=stdin)
        self.assertEqual((ran.code, ran.err), (0, ""), arguments)
        return ran.out

    def refused(self, code: int, *arguments: str, stdin: bytes = b"") -> str:
        """Run a command that must end with a code, and return what it said: whole lines, no traceback."""
        ran = self.command(*arguments, stdin=stdin)
        self.assertEqual(ran.code, code, ran)
        self.assertNotEqual(ran.err, "")
        for line in ran.err.splitlines():
            self.assertTrue(line.startswith("mailgate: "), ran.err)
        return ran.err

    def add(self, name: str, *options: str, password: bytes = b"secret\n") -> None:
        self.succeed("account", "add", name, *options, "--password-stdin", stdin=password)

    def held(self, maildrop: str) -> list[Listed]:
        return self.successResultOf(self.store.scan(maildrop))

    def open(self, name: str, view: str | None = None) -> IMaildrop:
        """Open a maildrop: as its account, or where there is none as another checker's user."""
        accounts = {one.name: one for one in self.successResultOf(self.store.accounts.list())}
        admission = Admission(name, view)
        if name in accounts:
            admission = Admission(name, view, name, accounts[name].version)
        return self.successResultOf(self.store.open(admission))

    def contents(self, maildrop: str) -> list[bytes]:
        """Return every message of a maildrop as RETR would give it."""
        opened = self.open(maildrop)
        found = []
        for number in range(1, len(opened.listing) + 1):
            content = opened.fetch(number)
            content = self.successResultOf(content) if isinstance(content, Deferred) else content
            if IMessageStream.providedBy(content):
                pieces = []
                while piece := self.successResultOf(content.read()):
                    pieces.append(piece)
                content = b"".join(pieces)
            found.append(unstuff(content))
        self.successResultOf(opened.release())
        return found


async def _awaiting(work: Any, store: Any) -> Any:
    return await work(store)


class BrokenStore:
    """A store that is out of order, whatever it is asked."""

    def __init__(self, fault: Exception | None = None) -> None:
        self._fault = fault or StoreUnavailable("the disk has gone")
        self.accounts = self

    def __getattr__(self, name: str) -> Any:
        raise self._fault


__all__ = ["CONFIGURATION", "BrokenStore", "CommandCase", "Ran"]
