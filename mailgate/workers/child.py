"""One worker: the whole service behind sockets of the parent's, which says when it begins and ends."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, Logger, globalLogBeginner

from mailgate.assembly.store import make_store
from mailgate.config import Config, parse
from mailgate.errors import ConfigurationError, MailgateError
from mailgate.service import MailgateService, settle
from mailgate.wire.faults import answer_for
from mailgate.workers.channel import FIRST_SOCKET, ORDERS, TOLD, Teller, read_lines
from mailgate.workers.ports import SharedEndpoint

DRAIN_SECONDS = 3600.0      # how long sessions of a configuration that was replaced may last
LOOK_SECONDS = 0.5          # between two looks whether they have gone
ORPHAN_SECONDS = 15.0       # for the end of a worker whose parent is dead; one that hangs is ended then

log = Logger()


def main() -> None:
    """Serve as ordered, until told to end or until nobody is left to tell."""
    said = read_lines(ORDERS)
    order = next(said, None)
    if order is None:
        return
    for number in (signal.SIGINT, signal.SIGHUP):       # control-C and its like: the parent decides
        signal.signal(number, lambda *_: None)          # not SIG_IGN, which programs of ours would inherit
    reactor = install_reactor(order["reactor"])
    teller = Teller()
    os.set_inheritable(TOLD, False)
    globalLogBeginner.beginLoggingTo([cast(ILogObserver, teller.observe)])
    try:
        service = make_service(order, teller, reactor)
    except ConfigurationError as fault:
        teller.tell(failed=fault.problems, code=os.EX_CONFIG)
        return
    Worker(service, teller, reactor).run(said)


def install_reactor(module: str) -> Any:
    """Install the reactor that the parent has, by its module, and return it."""
    install = getattr(import_module(module), "install", None)
    if install is not None:
        install()
    from twisted.internet import reactor

    return reactor


def make_service(order: dict[str, Any], teller: Teller, reactor: Any) -> WorkerService:
    """Return the service that was ordered. Raises: ConfigurationError."""
    config = parse(order["configuration"].encode(), folder=Path(order["folder"]))
    sockets = [socket.socket(fileno=FIRST_SOCKET + index) for index in range(len(config.listen))]
    for one in sockets:
        one.set_inheritable(False)
    return WorkerService(
        shared(config), sockets, teller, reactor=reactor, further=_checkers(order["auth"]),
        prepare=_demo_filling(config) if order["demo"] else None,
        store=make_store(config, reactor, process=order["process"]))


def shared(config: Config) -> Config:
    """Return a worker's part of what is bounded in all: as much as the others', rounded up."""
    most = config.limits.connections
    if most is None:
        return config
    return attrs.evolve(config, limits=attrs.evolve(config.limits, connections=-(-most // config.workers)))


def _checkers(descriptions: Sequence[str]) -> Sequence[Any]:
    from mailgate.tap import Options

    options = Options()
    for description in descriptions:
        options.opt_auth(description)
    return options.get("credCheckers") or ()


def _demo_filling(config: Config) -> Callable[[Any], Any]:
    from mailgate import demo

    return lambda store: demo.fill(store, config)


class WorkerService(MailgateService):
    """The service of one worker. What is done once for all of them, the parent does or asks for."""

    def __init__(self, config: Config, sockets: Sequence[socket.socket], teller: Teller,
                 **options: Any) -> None:
        self._sockets = sockets
        self._teller = teller
        super().__init__(config, **options)

    def _endpoint(self, index: int) -> SharedEndpoint:
        mail_comes_in = self.config.listen[index].protocol == "lmtp"
        return SharedEndpoint(self._sockets[index], self._reactor,
                              (lambda: False) if mail_comes_in else (lambda: self._crowd.full))

    def _ready(self) -> None:
        settle()
        self._teller.tell(now="ready")

    def _ended(self) -> None:
        """The parent says it, once for all."""

    async def _close_all(self) -> None:
        await super()._close_all()
        self._teller.tell(now="closed")

    def _give_up(self, failure: Any) -> None:
        words = failure.getErrorMessage() or failure.type.__name__
        if not failure.check(MailgateError):
            log.failure("a worker cannot start", failure)
        self._teller.tell(failed=[words], code=answer_for(failure.value).exit)
        if self.running:        # else it ends already
            self._reactor.callWhenRunning(self._reactor.stop)

    def cease(self) -> None:
        """Accept nobody any more. Sessions go on."""
        for listener in self.listeners:
            if listener.port is not None:
                listener.port.cease()
        self._teller.tell(now="closed")

    @property
    def busy(self) -> bool:
        """Whether there are connections."""
        return any(one.idle.watched for listener in self.listeners
                   for one in (listener.factory, listener.served) if hasattr(one, "idle"))


class Worker:
    """Does what the parent says."""

    def __init__(self, service: WorkerService, teller: Teller, reactor: Any) -> None:
        self.service = service
        self._teller = teller
        self._reactor = reactor
        self._look = LoopingCall(self._end_if_idle)
        self._look.clock = reactor
        self._deeds: dict[str, Callable[..., object]] = {
            "ping": lambda: teller.tell(now="alive"),
            "drain": self.drain,
            "end": self.end,
            "sweep": service.sweep,
            "keep house": lambda: Deferred.fromCoroutine(service.keep_house()),
            "bury": lambda processes: Deferred.fromCoroutine(self._bury(processes)),
        }

    def run(self, said: Iterator[dict[str, Any]]) -> None:
        """Serve until the end."""
        threading.Thread(target=self._hear, args=(said,), daemon=True, name="mailgate parent").start()
        self._reactor.callWhenRunning(self._take_sigterm)
        self._reactor.callWhenRunning(self.service.startService)
        self._reactor.addSystemEventTrigger("before", "shutdown", self.service.stopService)
        self._reactor.run()

    def _take_sigterm(self) -> None:
        """End as at the parent's word: a group of processes is told by both, in any order."""
        signal.signal(signal.SIGTERM, lambda *_: self._reactor.callFromThread(self.end))

    def _hear(self, said: Iterator[dict[str, Any]]) -> None:
        """Pass on what the parent says. In a thread: it sees the parent's end even if the reactor hangs."""
        for words in said:
            self._reactor.callFromThread(self.obey, **words)
        self._reactor.callFromThread(self.end)
        time.sleep(ORPHAN_SECONDS)
        os._exit(os.EX_UNAVAILABLE)

    def obey(self, do: str, **words: Any) -> None:
        """Do one thing."""
        self._deeds[do](**words)

    def drain(self) -> None:
        """Accept nobody any more, and end when the last session has, or after a long time."""
        self.service.cease()
        if not self._look.running:
            self._look.start(LOOK_SECONDS)
            self._reactor.callLater(DRAIN_SECONDS, self.end)

    def _end_if_idle(self) -> None:
        if not self.service.busy:
            self.end()

    def end(self) -> None:
        """Tell all sessions, and end in order."""
        if self._look.running:
            self._look.stop()
        with suppress(ReactorNotRunning):       # it is ending already
            self._reactor.stop()

    async def _bury(self, processes: Sequence[str]) -> None:
        """End the sessions of dead workers. What cannot be done is asked for again."""
        try:
            for one in processes:
                await self.service.store.bury_process(one)
        except MailgateError as fault:
            if self.service.running:        # else all end together, and leave nothing to bury
                log.warn("a dead worker's sessions stay until their lease is over: {fault}", fault=str(fault))
        else:
            self._teller.tell(now="buried", processes=processes)
