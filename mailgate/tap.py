"""`twistd mailgate`: its options, and the service that they ask for."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import AuthOptionMixin
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python import usage

from mailgate.auth.credentials import ITokenLogin
from mailgate.cli.commands import Settings
from mailgate.cli.telling import printable
from mailgate.errors import ConfigurationError
from mailgate.service import CannotListen, ListeningService, MailgateService, settle
from mailgate.workers.parent import WorkersService

log = Logger()


class Options(usage.Options, AuthOptionMixin):
    """The command line behind `twistd mailgate`."""

    synopsis = "[-c FILE | --demo] [--auth TYPE[:ARGUMENT]]..."
    longdesc = ("Serves POP3 and SDPS, and takes mail over LMTP, as FILE says (else $MAILGATE_CONFIG, "
                "./mailgate.toml, /etc/mailgate/mailgate.toml). Checkers given by --auth are asked after "
                "those that FILE names.")
    supportedInterfaces = (IUsernamePassword, ITokenLogin)
    optParameters = [["config", "c", None, "The configuration file."]]
    optFlags = [["demo", None, "Serve accounts and messages to play with, on loopback, kept under var/."]]

    def opt_auth(self, description: str) -> None:
        """Specify an authentication method for the server."""
        super().opt_auth(description)
        self.setdefault("descriptions", []).append(description)     # for workers, which make it anew

    def addChecker(self, checker: Any) -> None:
        """Take a checker of --auth. Twisted's `memory` keeps text where POP3 has octets; none would match."""
        if isinstance(checker, InMemoryUsernamePasswordDatabaseDontUse):
            checker.users = {_octets(name): _octets(password) for name, password in checker.users.items()}
        super().addChecker(checker)

    def postOptions(self) -> None:
        """Raises: UsageError."""
        if self["demo"] and self["config"]:
            raise usage.UsageError("--demo has a configuration of its own: leave out -c")


class Daemon(ListeningService):
    """What twistd runs: what keeps it from starting is told in one line, with an exit code.

    SIGHUP makes it reload. twistd itself leaves that signal alone (it turns its log over at SIGUSR1), so
    that it would end the process. While the service ends, no signal hurries it: locks would stay.
    """

    def __init__(self, *args: Any, in_background: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_background = in_background
        self._before_us: dict[int, Any] = {}        # what signals did
        self._has_terminal = False
        self._ends = False

    def startService(self) -> None:
        """Take SIGHUP too."""
        super().startService()
        self._ends = False
        self._has_terminal = not self._in_background and os.isatty(0)
        self._take(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._hang_up))
        self._reactor.callWhenRunning(self._take_ends)      # the reactor has taken them then

    def stopService(self) -> Deferred[None]:
        """End in order, whatever signals come meanwhile; then leave them as they were."""
        self._ends = True
        return super().stopService().addBoth(self._leave_signals)

    def _take(self, number: int, heed: Callable[[int, Any], object]) -> None:
        self._before_us[number] = signal.signal(number, heed)

    def _take_ends(self) -> None:
        if self.running:
            for number in (signal.SIGTERM, signal.SIGINT):
                if callable(signal.getsignal(number)):
                    self._take(number, self._end_once)

    def _end_once(self, number: int, frame: Any) -> None:
        """Have the reactor end; it would take a second signal for a bug."""
        if self._ends:
            self._reactor.callFromThread(self._ends_already)
        else:
            self._ends = True
            self._before_us[number](number, frame)

    def _leave_signals(self, outcome: Any) -> Any:
        for number, before in self._before_us.items():
            if before is not None:      # else its owner is not Python
                signal.signal(number, before)
        self._before_us.clear()
        return outcome

    def _hang_up(self) -> None:
        """Reload; or end, when the signal came because our terminal is gone."""
        if self._ends:
            self._ends_already()
        elif self._has_terminal and not os.isatty(0):
            self._ends = True
            self._reactor.stop()
        else:
            self.reload()

    def _ends_already(self) -> None:
        log.info("a signal is passed over: mailgate is ending")

    def privilegedStartService(self) -> None:
        """Bind, or end the process. In the background twistd hands the exception's text to its parent."""
        try:
            super().privilegedStartService()
        except CannotListen as fault:
            if self._in_background:
                raise
            leave([str(fault)], os.EX_OSERR)


class DaemonService(Daemon, MailgateService):
    """The service of one process. A reload reads its certificates again."""

    def _ready(self) -> None:
        super()._ready()
        settle()


class DaemonWorkers(Daemon, WorkersService):
    """The service of several processes. A reload reads all of its configuration again."""


def makeService(options: Options) -> Daemon:
    """Return the service. No thread and no socket is opened, no database: twistd forks afterwards."""
    from twisted.internet import reactor

    hooks: dict[str, Any] = {}
    try:
        if options["demo"]:
            from mailgate import demo
            config, hooks = demo.setting()
            file = config.folder / demo.FILE_NAME
        else:
            settings = Settings(options["config"] or os.environ.get("MAILGATE_CONFIG"))
            config, file = settings.config, settings.path
        common = {"reactor": reactor, "further": options.get("credCheckers", ()),
                  "in_background": _in_background(options.parent)}
        if config.workers > 1:
            return DaemonWorkers(file, auth=options.get("descriptions", ()), demo=options["demo"],
                                 announce=hooks.get("announce"), **common)
        return DaemonService(config, **hooks, **common)
    except ConfigurationError as fault:
        leave(fault.problems, os.EX_CONFIG)


def _in_background(runner: Any) -> bool:
    """Return whether twistd will fork; `twist` and embedders never do."""
    return runner is not None and not runner.get("nodaemon", True)


def _octets(text: Any) -> Any:
    return text.encode() if isinstance(text, str) else text


def leave(lines: Sequence[str], code: int) -> NoReturn:
    """End the process before it served anybody: say why, in full."""
    for line in lines:
        print("mailgate: " + printable(line), file=sys.__stderr__)
    raise SystemExit(code)
