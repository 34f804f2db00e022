"""Serve what `mailgate harness` was asked for, until its parent or a signal ends it."""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.python import log

from mailgate.cli.harness_asked import Asked
from mailgate.cli.harness_parent import Parent
from mailgate.cli.running import without_store
from mailgate.cli.telling import Refusal
from mailgate.errors import ConfigurationError
from mailgate.testing.api.serving import ports, version
from mailgate.testing.api.site import web_of
from mailgate.testing.harness.clock import HarnessClock
from mailgate.testing.harness.core import CA_FILE, Harness


def serve(asked: Asked, parent: Parent | None) -> int:
    """Serve; return the exit code. Raises: ConfigurationError, Refusal, MailgateError."""
    if asked.verbose:
        log.startLogging(sys.stderr, setStdout=False)
    with tempfile.TemporaryDirectory(prefix="mailgate-harness-") as folder:
        from twisted.internet import reactor

        serving = Serving(asked, reactor, Path(folder))
        try:
            without_store(lambda _: serving.go(parent))
        except KeyboardInterrupt:
            pass        # a signal, and what had to be ended was
    return os.EX_OK


class Serving:
    """One harness on a reactor. Raises: ConfigurationError."""

    def __init__(self, asked: Asked, reactor: Any, folder: Path) -> None:
        self._asked = asked
        self._reactor = reactor
        self._ended: Deferred[None] = Deferred()
        clock = HarnessClock(reactor, held=asked.held)
        try:
            self._harness = Harness(clock, folder, settings=asked.settings, protocols=asked.protocols,
                                    seed=asked.seed)
        except ConfigurationError as fault:
            raise ConfigurationError([f"{asked.source}: {problem}" if asked.source else problem
                                      for problem in fault.problems]) from fault
        self._web = web_of(self._harness, reactor, asked.console, self._fill)

    async def go(self, parent: Parent | None) -> None:
        """Begin, tell where, and return when the parent is gone."""
        self._reactor.addSystemEventTrigger("before", "shutdown",
                                            lambda: Deferred.fromCoroutine(self._stop()))
        if parent is not None:
            parent.watch(lambda: self._reactor.callFromThread(self._ended.callback, None))
        await self._harness.start()
        for row in self._asked.scripts:
            await self._harness.add_script(row)
        await self._fill()
        try:
            await self._harness.listen(self._reactor)
            await self._web.listen(self._asked.api_port)
        except CannotListenError as fault:
            raise Refusal(f"port {fault.port}: {fault.socketError.strerror}",
                          code=os.EX_UNAVAILABLE) from None
        tell(self.ready())
        gc.enable()
        await self._ended

    async def _fill(self) -> None:
        """Do what options ask for; again after each reset."""
        scenario = self._asked.scenario
        for name, password in self._asked.accounts:
            await self._harness.add_account(name, password)
            if scenario is not None:
                await self._harness.fill(name, scenario)
        if scenario is not None:
            self._harness.make(scenario)

    async def _stop(self) -> None:
        await self._web.stop()
        await self._harness.stop()
        self._harness.clock.stop()

    def ready(self) -> dict[str, Any]:
        """Return what the parent has to know."""
        harness = self._harness
        told = {"version": version(), "pid": os.getpid(), "host": harness.listeners[0].address[0],
                "ports": ports(harness), "hostname": harness.config.hostname,
                "ca_file": str((harness.folder / CA_FILE).absolute()),
                "api": self._web.api, "token": self._web.token}
        if self._asked.console:     # what is behind # no browser sends, and no proxy logs
            told["console"] = f"{self._web.url}/console/#token={self._web.token}"
        return told


def tell(what: dict[str, Any]) -> None:
    """Write one line of JSON to standard output, and close it: who reads to its end need not wait."""
    print(json.dumps(what), flush=True)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
