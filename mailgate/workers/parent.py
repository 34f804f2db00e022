"""The process that twistd started, where `workers` serve: it holds the ports and looks after them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mailgate.config import Config, parse
from mailgate.errors import ConfigurationError
from mailgate.service import (
    CannotListen,
    Listener,
    ListeningService,
    MailgateService,
    end_process,
    endpoint_of,
    notify_systemd,
)
from mailgate.workers.generation import Generation
from mailgate.workers.process import WorkerFailed, WorkerProcess

END_SECONDS = 20.0          # for workers to end in order; systemd's unit waits for 30
MOST_DRAINING = 3           # generations that were replaced: beyond that, sessions of the oldest are told

log = Logger()


class WorkersService(ListeningService):
    """The service of a configuration with `workers`.

    `auth`: the values of twistd's --auth, and `further` the checkers that they made. With `demo` the
    store is filled for it. Made without opening anything, like the service of one process, and with
    the same faults. Raises: ConfigurationError.
    """

    def __init__(self, file: Path, *, reactor: Any, auth: Sequence[str] = (), further: Sequence[Any] = (),
                 demo: bool = False, announce: Callable[[Any], None] | None = None) -> None:
        self._file = file.absolute()
        self._reactor = reactor
        self._auth = list(auth)
        self._demo = demo
        self._announce = announce
        self._octets, self.config = self._read()
        MailgateService(self.config, reactor=reactor, further=further)      # what is wrong is told now
        self.listeners = [self._listener(self.config, index) for index in range(len(self.config.listen))]
        self._generation: Generation | None = None
        self._draining: list[Generation] = []
        self._begun: Generation | None = None       # not known to stand yet
        self._work: Deferred[None] | None = None    # a start or a reload that is under way
        self._once_more = False
        self._dead: set[str] = set()                # words of workers whose sessions may be in the store
        self._housekeeping = LoopingCall(self._keep_house)
        self._housekeeping.clock = reactor

    def _read(self) -> tuple[str, Config]:
        """Return the configuration as it is written now, and as it is meant. Raises: ConfigurationError."""
        try:
            octets = self._file.read_bytes()
            config = parse(octets, folder=self._file.parent)
            if config.workers == 1:     # whose endpoints may be such as cannot be handed over
                raise ConfigurationError(["workers: from several to 1 it takes a restart"])
        except OSError as fault:
            raise ConfigurationError([f"{self._file}: cannot be read: {fault.strerror}"]) from fault
        except ConfigurationError as fault:
            raise ConfigurationError([f"{self._file}: {words}" for words in fault.problems]) from fault
        return octets.decode(), config

    def _listener(self, config: Config, index: int) -> Listener:
        endpoint = endpoint_of(config, index, self._reactor)
        return Listener(f"listen[{index}].endpoint", config.listen[index].protocol, endpoint, Workers())

    # Begin ------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Begin the workers. Where one does not begin, the process ends."""
        self.privilegedStartService()
        super().startService()
        self._work = Deferred.fromCoroutine(self._start())
        self._work.addErrback(self._cannot_start)

    async def _start(self) -> None:
        assert self._bound is not None
        await self._bound
        self._generation = await self._begin(self._octets, self.config, self.listeners)
        for listener in self.listeners:
            listener.tell()
        self._ask("sweep")
        self._housekeeping.start(self.config.store.housekeeping_seconds, now=False)
        notify_systemd("READY=1")
        log.info("mailgate is ready: {count} workers", count=self.config.workers)
        if self._announce is not None:
            self._announce(self)
        self._done()

    async def _begin(self, octets: str, config: Config, listeners: Sequence[Listener]) -> Generation:
        """Return a generation that stands. Raises: WorkerFailed, and then nothing is left of it."""
        order = {"file": str(self._file), "configuration": octets, "folder": str(self._file.parent),
                 "auth": self._auth, "demo": self._demo}
        generation = self._begun = Generation(
            order, config.workers, [listener.port.fileno() for listener in listeners], self._reactor,
            make=self._worker, served=self._bury, died=self._buries)
        try:
            await generation.start()
        except WorkerFailed:
            generation.end()
            await generation.gone
            raise
        finally:
            self._begun = None
        return generation

    def _worker(self, order: dict[str, Any]) -> WorkerProcess:
        return WorkerProcess(order, self._reactor, self._dead.difference_update)

    def _cannot_start(self, failure: Any) -> None:
        self._work = None
        fault = failure.value
        if self.running or not isinstance(fault, WorkerFailed):     # else it was ended meanwhile
            self._give_up(failure)

    def _give_up(self, failure: Any) -> None:
        if not failure.check(WorkerFailed):
            super()._give_up(failure)
            return
        for words in failure.value.problems:
            log.critical("mailgate cannot start: {words}", words=words)
        end_process("cannot start: " + str(failure.value), failure.value.code)
        self._reactor.callWhenRunning(self._reactor.stop)

    # What one worker does for all ---------------------------------------------------------------

    def _ask(self, do: str, **words: Any) -> bool:
        """Let the worker that has served longest do something; False if there is none."""
        serving = self._generation.serving if self._generation is not None else []
        if serving:
            min(serving, key=lambda worker: worker.began).say(do=do, **words)
        return bool(serving)

    def _keep_house(self) -> None:
        self._ask("keep house")
        self._bury()            # what a store that was down did not do

    def _buries(self, worker: WorkerProcess) -> None:
        """A worker is dead, for certain: its sessions hold nobody up any longer."""
        self._dead.add(worker.word)
        self._bury()

    def _bury(self) -> None:
        if self._dead:
            self._ask("bury", processes=sorted(self._dead))

    # Reload -----------------------------------------------------------------------------------

    def reload(self) -> None:
        """Read the configuration again and serve it by new workers; the old ones end with their sessions.

        Where something is wrong with it, that is logged and all stays as it was.
        """
        if self._work is not None:
            self._once_more = True
            return
        self._work = Deferred.fromCoroutine(self._reload())
        self._work.addErrback(lambda failure: log.failure("the configuration was not taken up", failure))
        self._work.addBoth(lambda _: self._done())

    def _done(self) -> None:
        self._work = None
        if self._once_more and self.running:
            self._once_more = False
            self.reload()

    async def _reload(self) -> None:
        fresh: list[Listener] = []
        try:
            octets, config = self._read()
            listeners = self._reused(config, fresh)
            for listener in fresh:
                await listener.bind()
            generation = await self._begin(octets, config, listeners)
        except (ConfigurationError, CannotListen, WorkerFailed) as fault:
            for listener in fresh:
                await listener.close()
            for words in getattr(fault, "problems", [str(fault)]):
                log.error("the configuration is not taken up: {words}", words=words)
            return
        old, self._generation = self._generation, generation
        assert old is not None
        removed = [one for one in self.listeners if one not in listeners]
        self._octets, self.config, self.listeners = octets, config, listeners
        for listener, section in zip(listeners, config.listen, strict=True):
            listener.protocol = section.protocol
        self._retire(old)
        await old.drain()
        for listener in removed:
            await listener.close()
        if not self.running:        # ended meanwhile
            return
        for listener in fresh:
            listener.tell()
        self._housekeeping.stop()
        self._housekeeping.start(config.store.housekeeping_seconds, now=False)
        log.info("the configuration is in use: {count} workers", count=config.workers)

    def _reused(self, config: Config, fresh: list[Listener]) -> list[Listener]:
        """Return the listeners of a configuration; those that are not bound yet are put into `fresh`, too."""
        bound = [(self.config.endpoint_of(section), listener)
                 for section, listener in zip(self.config.listen, self.listeners, strict=True)]
        listeners = []
        for index, section in enumerate(config.listen):
            same = [pair for pair in bound if pair[0] == config.endpoint_of(section)]
            if same:
                bound.remove(same[0])
                listeners.append(same[0][1])
            else:
                fresh.append(self._listener(config, index))
                listeners.append(fresh[-1])
        return listeners

    def _retire(self, generation: Generation) -> None:
        self._draining.append(generation)
        generation.gone.addCallback(lambda _: self._draining.remove(generation))
        if len(self._draining) > MOST_DRAINING:
            self._draining[0].end()

    # End --------------------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Let the workers tell their sessions and end. Fires when none is left."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._housekeeping.running:
            self._housekeeping.stop()
        generations = [one for one in (self._generation, self._begun, *self._draining) if one is not None]
        # their ports first: to a port that this process closes nobody could come any more
        await DeferredList([one.end() for one in generations])
        await self._close_all()
        late = self._reactor.callLater(END_SECONDS, _kill, generations)
        for one in generations:
            await one.gone
        if late.active():
            late.cancel()
        if self._work is not None:
            await self._work
        log.info("mailgate has ended")


def _kill(generations: Sequence[Generation]) -> None:
    for one in generations:
        one.kill()


class Workers(Factory):
    """Stands behind a port that only workers accept from."""

    noisy = False

    def buildProtocol(self, addr: Any) -> None:
        """Nobody is served here."""
