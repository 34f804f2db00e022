"""The running service: listeners, the store behind them, its housekeeping, and the end of it all.

Made without opening anything, because twistd forks afterwards. Low ports are bound before twistd
sheds its privileges; nobody is served before the store is open; and at the end every session is
told, before the store gives up its leases.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timezone
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mailgate.assembly.auth import Doors
from mailgate.assembly.console import ServiceConsole
from mailgate.assembly.listeners import make_attempts, make_crowd, make_factory, wrapped
from mailgate.assembly.store import make_store
from mailgate.assembly.tls import Certificates
from mailgate.auth.hashing import HashPool
from mailgate.config import Config
from mailgate.errors import ConfigurationError, MailgateError
from mailgate.wire.faults import answer_for

DAY_SECONDS = 86_400

log = Logger()


class CannotListen(MailgateError):
    """An endpoint cannot be had; the text names the setting."""


class Listener:
    """One [[listen]]: an endpoint, the factory that serves it, and the port once it is bound.

    `served` is what listens for the factory, where that is another: TLS in front of it. `where` is the
    setting that names the endpoint.
    """

    def __init__(self, where: str, protocol: str, endpoint: Any, factory: Any, served: Any = None) -> None:
        self.protocol = protocol
        self.factory = factory
        self.served = served or factory
        self.port: Any = None
        self._where = where
        self._endpoint = endpoint

    async def bind(self) -> None:
        """Take the address, and let clients wait. Raises: CannotListen."""
        try:
            self.port = await self._endpoint.listen(self.served)
        except Exception as fault:      # endpoints are plugins and fail with what they like; it is told
            raise CannotListen(f"{self._where}: {getattr(fault, 'socketError', fault)}") from fault
        self._pause("stopReading")

    async def prepare(self) -> None:
        """Let the factory look up what its first client must be told."""
        prepare = getattr(self.factory, "prepare", None)
        if prepare is not None:
            await maybeDeferred(prepare)

    def begin(self) -> None:
        """Serve those who wait and those who come."""
        self._pause("startReading")

    def tell(self) -> None:
        """Say in the log where it listens."""
        log.info("{protocol} at {address}", protocol=self.protocol, address=spelled(self.port.getHost()))

    async def close(self) -> None:
        """Give up the address; sessions go on."""
        if self.port is not None:
            port, self.port = self.port, None
            try:
                await maybeDeferred(port.stopListening)
            except Exception:       # a unix socket whose folder is gone: sessions are told all the same
                log.failure("{protocol} could not be closed in order", protocol=self.protocol)

    def _pause(self, name: str) -> None:
        """Call the port's own method, where it is one of Twisted's: an early client then waits unaccepted."""
        method = getattr(self.port, name, None)
        if method is not None:
            method()


def endpoint_of(config: Config, index: int, reactor: Any) -> Any:
    """Return the endpoint of a [[listen]]. Raises: ConfigurationError, if systemd should have opened it."""
    try:
        return serverFromString(reactor, config.endpoint_of(config.listen[index]))
    except (KeyError, IndexError) as fault:     # of `systemd:`; all else was judged with the file
        raise ConfigurationError([f"listen[{index}].endpoint: systemd has not passed this socket"]) from fault


def spelled(address: Any) -> str:
    """Return an address as an operator writes it."""
    if not hasattr(address, "port"):
        return os.fsdecode(address.name) if getattr(address, "name", None) else str(address)
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


class ConsoleListener(Listener):
    """The [console]."""

    def __init__(self, console: ServiceConsole, endpoint: Any) -> None:
        super().__init__("console.endpoint", "console", endpoint, console.site)
        self._console = console

    async def prepare(self) -> None:
        """Read the token, or make it. Raises: ConfigurationError."""
        self._console.prepare(self.port)

    def tell(self) -> None:
        """Say where it is, and where the token is."""
        super().tell()
        log.info("the console's token is in {path}", path=str(self._console.token_path))


class ListeningService(Service):
    """Binds its `listeners` when it may have rights that it sheds before it starts."""

    listeners: list[Listener]
    _reactor: Any
    _bound: Deferred[None] | None = None

    def privilegedStartService(self) -> None:
        """Bind every address, as root where twistd was started so. Raises: CannotListen."""
        super().privilegedStartService()
        if self._bound is None:
            self._bound = Deferred.fromCoroutine(self._bind())
            if self._bound.called:      # an endpoint that takes longer fails in `_start`
                failures: list[Any] = []
                self._bound.addErrback(failures.append)
                if failures:
                    failures[0].raiseException()

    def reload(self) -> None:
        """Take up what can change while it runs."""
        raise NotImplementedError

    async def _bind(self) -> None:
        try:
            for listener in self.listeners:
                await listener.bind()
        except CannotListen:
            Deferred.fromCoroutine(self._close_all())   # not awaited: twistd asks for the outcome at once
            raise

    async def _close_all(self) -> None:
        for listener in self.listeners:
            await listener.close()

    def _give_up(self, failure: Any) -> None:
        """End the process, and say why: a service without its store serves nobody."""
        words = failure.getErrorMessage() or failure.type.__name__
        if not failure.check(MailgateError):
            log.failure("mailgate cannot start", failure)
        log.critical("mailgate cannot start: {words}", words=words)
        end_process(f"cannot start: {words}", answer_for(failure.value).exit)
        if self.running:        # else it ends already
            self._reactor.callWhenRunning(self._reactor.stop)


class MailgateService(ListeningService):
    """All of mailgate as one Twisted service.

    `further` are checkers beside the configured ones. `prepare` is awaited with the store when it
    is open and nobody is served yet, `announce` is called when everybody is. Certificates are read at
    once, while there may still be rights to read them. `store`: another than the configuration's.
    Raises: ConfigurationError.
    """

    def __init__(self, config: Config, *, reactor: Any, further: Sequence[Any] = (),
                 prepare: Callable[[Any], Coroutine[Any, Any, None]] | None = None,
                 announce: Callable[[Any], None] | None = None, store: Any = None) -> None:
        self.config = config
        self.store = make_store(config, reactor) if store is None else store
        self._reactor = reactor
        self._pool = HashPool(reactor, threads=config.limits.hash_threads)
        self.certificates = Certificates(config, reactor)
        self._doors = Doors(config, self.store, self._pool, reactor, further)
        self._crowd = make_crowd(config)
        self._attempts = make_attempts(config, self._crowd, reactor)
        self._pool.suspect = self._attempts.failures.suspects
        self._console = None if config.console is None else ServiceConsole(
            config, self.store, reactor, self._addresses)
        self.listeners = [self._listener(index) for index in range(len(config.listen))]
        if self._console is not None:
            self.listeners.append(ConsoleListener(
                self._console, serverFromString(reactor, config.console_endpoint)))
        self._prepare = prepare
        self._announce = announce
        self._started: Deferred[None] | None = None
        self._housekeeping = LoopingCall(lambda: Deferred.fromCoroutine(self.keep_house()))
        self._housekeeping.clock = reactor
        self._watch = LoopingCall(self.certificates.look)
        self._watch.clock = reactor

    def _listener(self, index: int) -> Listener:
        section, tls = self.config.listen[index], self.certificates.of(index)
        factory = make_factory(
            self.config, section, self.store, self._doors, self._reactor, tls, self._crowd, self._attempts)
        if self._console is not None:
            self._console.watch(factory, section.protocol)
        return Listener(f"listen[{index}].endpoint", section.protocol, self._endpoint(index), factory,
                        wrapped(factory, section, tls, self._reactor))

    def _addresses(self) -> list[tuple[str, str]]:
        """Return protocol and address of all that listens."""
        return [(one.protocol, spelled(one.port.getHost())) for one in self.listeners if one.port is not None]

    def _endpoint(self, index: int) -> Any:
        return endpoint_of(self.config, index, self._reactor)

    def reload(self) -> None:
        """Read the certificates again. Sessions go on; what is wrong with one is logged."""
        log.info("certificates are read again")
        self.certificates.reload()

    def startService(self) -> None:
        """Open the store, then serve. A store that does not open ends the process."""
        self.privilegedStartService()       # where nobody has: another runner than twistd
        super().startService()
        self._pool.start()
        self._started = Deferred.fromCoroutine(self._start())
        self._started.addErrback(self._give_up)

    def stopService(self) -> Deferred[None]:
        """Stop listening, tell the sessions, give up all leases, close. Fires when all is done."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> None:
        assert self._bound is not None
        await self._bound
        await self._look_at_keytabs()
        await self.store.start()
        if self._prepare is not None:
            await self._prepare(self.store)
        for listener in self.listeners:
            await listener.prepare()
        if not self.running:        # stopped meanwhile
            return
        for listener in self.listeners:
            listener.begin()
        self._watch_certificates()
        self._ready()

    def _ready(self) -> None:
        """Begin what is done beside serving, and tell the world."""
        for listener in self.listeners:
            listener.tell()
        self.sweep()        # not yet what has expired: a clock that is wrong at the start may soon be mended
        self._housekeeping.start(self.config.store.housekeeping_seconds, now=False)
        notify_systemd("READY=1")
        log.info("mailgate is ready")
        if self._announce is not None:
            self._announce(self)

    def _watch_certificates(self) -> None:
        if self.config.tls is not None:
            for warning in self.certificates.warnings(datetime.now(timezone.utc)):
                log.warn("{warning}", warning=warning)
            self._watch.start(self.config.tls.watch_seconds, now=False)

    async def _look_at_keytabs(self) -> None:
        """Raise ConfigurationError, if a KPOP listener could take no ticket: nobody else can tell."""
        for listener in self.listeners:
            if listener.protocol == "kpop":
                faults = await listener.factory.faults()
                if faults:
                    raise ConfigurationError([f"kerberos.keytab: {words}" for words in faults])

    async def _stop(self) -> None:
        await self._close_all()
        if self._started is not None:
            await self._started
        if self._watch.running:
            self._watch.stop()
        await self._dismiss()
        if self._housekeeping.running:
            self._housekeeping.stop()
        await self._pool.stop()
        await self.store.stop()
        self._ended()

    def _ended(self) -> None:
        log.info("mailgate has ended")

    async def _dismiss(self) -> None:
        """Tell every session, and wait until all have gone."""
        ends = [listener.factory.shutdown() for listener in self.listeners]
        for ended, outcome in await DeferredList(ends, consumeErrors=True):
            if not ended:       # a bug there must keep no lease here
                log.failure("sessions did not end in order", outcome)

    async def keep_house(self) -> None:
        """Remove what is past its retention, then bodies that nobody names. Faults are logged."""
        await self._cared_for(self._expire_and_sweep())

    def sweep(self) -> None:
        """Begin to remove bodies that nobody names. Faults are logged."""
        Deferred.fromCoroutine(self._cared_for(self._sweep()))

    async def _expire_and_sweep(self) -> None:
        days = self.config.store.retention_days
        if days is not None:
            expired = await self.store.expire(days * DAY_SECONDS)
            log.info("{expired} messages were older than {days} days", expired=expired, days=days)
        await self._sweep()

    async def _sweep(self) -> None:
        swept = await self.store.sweep(self.config.store.sweep_grace_seconds)
        if swept:
            log.info("{swept} bodies without a message were removed", swept=swept)

    async def _cared_for(self, work: Awaitable[None]) -> None:
        """Await a part of the housekeeping, and log what went wrong."""
        try:
            await work
        except MailgateError as fault:
            log.warn("housekeeping is put off: {fault}", fault=str(fault))
        except Exception:       # a bug must not end the next round; what it is stands in the log
            log.failure("housekeeping failed")


def settle() -> None:
    """Leave all that is there out of later searches for garbage. Once a process, when it is ready.

    What a start loads is never garbage, and looking through it all holds every session up: with a storm
    of logins the longest wait for a NOOP was 47 ms, and is 6 ms so (`python -m bench latency`).
    """
    gc.freeze()


def end_process(words: str, code: int) -> None:
    """Say why on standard error, and make the process exit with `code` once it ends.

    twistd itself exits with 0 whatever happened while the reactor ran.
    """
    stderr = sys.__stderr__
    if stderr is not None:
        print(f"mailgate: {words}", file=stderr, flush=True)

    def leave() -> None:
        sys.stdout.flush()
        os._exit(code)

    atexit.register(leave)


def notify_systemd(state: str) -> None:
    """Tell systemd, where it asked to be told (`Type=notify`, sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)
