"""The listeners of a harness: what stands behind each port, which may be made anew while the port stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString

from mailgate.assembly.auth import Doors
from mailgate.assembly.listeners import make_factory, wrapped
from mailgate.auth.hashing import Inline
from mailgate.net.attempts import Attempts
from mailgate.net.crowd import Crowd
from mailgate.net.failures import Failures, Growth
from mailgate.net.kpop import KPOPFactory
from mailgate.net.lmtp import LMTPFactory
from mailgate.net.pop3 import POP3Factory
from mailgate.testing.harness.deliveries import RecordedLMTP
from mailgate.testing.harness.line import LineFactory
from mailgate.testing.harness.settings import ADDRESS, SCRIPT, SMTP, Plan
from mailgate.testing.harness.tls import TroubledTLS
from mailgate.testing.harness.troubled import TroubledPOP3
from mailgate.testing.harness.troubled_kpop import TroubledKPOP

ANY_PORT = f"tcp:0:interface={ADDRESS}"


class Listener:
    """One protocol of a harness. `port` is bound by `listen`; in memory there is none.

    `factory` makes its connections; `served` is what takes them, TLS and PROXY headers in front. Both are
    replaced when the harness is given other settings: connections that stand keep those that they have.
    """

    def __init__(self, protocol: str, endpoint: str) -> None:
        self.protocol = protocol
        self.endpoint = endpoint
        self.factory: Any = None
        self.served: Any = None
        self.port: Any = None
        self._address: tuple[str, int] | None = None

    def buildProtocol(self, addr: Any) -> Any:
        """Return what takes a new connection."""
        return self.served.buildProtocol(addr)

    async def listen(self, reactor: Any, clock: Any) -> None:
        """Bind the endpoint. Raises: what Twisted's endpoints raise."""
        self.port = await serverFromString(reactor, self.endpoint).listen(LineFactory(self, clock))
        bound = self.port.getHost()     # kept: a forked process of clients has no socket to ask
        self._address = (bound.host, bound.port) if hasattr(bound, "port") else None

    def close(self) -> Deferred[Any]:
        """Give up the port."""
        port, self.port = self.port, None
        return maybeDeferred(port.stopListening if port is not None else lambda: None)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port. Raises: LookupError, where it does not listen, or not on a port."""
        if self.port is None or self._address is None:
            why = "" if self.port is None else " on a port"
            raise LookupError(f"{self.protocol} does not listen{why or ': the server does not run'}")
        return self._address


class Listeners:
    """All of a harness's."""

    def __init__(self, harness: Any) -> None:
        self._harness = harness
        self._former: list[Any] = []        # factories that were replaced, and may have connections yet
        self._reactor: Any = None           # once they listen
        self.all: list[Listener] = []       # of the configuration, in its order
        self.scripts: list[Listener] = []   # written conversations (testing/scripted)

    def serve(self, plan: Plan) -> None:
        """Give every listener what it serves from now on; the first time, make them."""
        harness, config = self._harness, plan.config
        if not self.all:
            self.all = [Listener(name, config.endpoint_of(section))
                        for name, section in zip(plan.protocols, config.listen, strict=True)]
        self._former = [one for one in self._former if one.idle.watched]
        crowd = _crowd(config, harness.clock)
        attempts = _attempts(config, crowd, harness.clock)
        doors = Doors(config, harness.store, Inline(), harness.clock, now=harness.clock.seconds)
        made = [self._made(plan, listener.protocol, section, (doors, crowd, attempts))
                for listener, section in zip(self.all, config.listen, strict=True)]
        for listener, (factory, served) in zip(self.all, made, strict=True):
            if listener.factory is not None:
                self._retire(listener.factory)
            listener.factory, listener.served = factory, served

    def _made(self, plan: Plan, protocol: str, section: Any, shared: Any) -> tuple[Any, Any]:
        """Return a factory, and what takes its connections. Raises: ConfigurationError."""
        harness = self._harness
        doors, crowd, attempts = shared
        tls: Any = TroubledTLS(harness, section)
        if protocol == SMTP:
            from mailgate.testing.harness.smtp import make_smtp_factory

            factory = make_smtp_factory(harness, section, tls, doors)
        else:
            factory = make_factory(plan.config, section, harness.store, doors, harness.clock, tls, crowd,
                                   attempts)
        _take_in(factory, harness, protocol)
        return factory, wrapped(factory, section, tls, harness.clock)

    async def add_script(self, row: Mapping[str, Any]) -> Listener:
        """Serve a script too; see `script_factory`. Raises: ConfigurationError; as `listen`."""
        from mailgate.testing.scripted.factory import script_factory  # loaded by who plays scripts

        listener = Listener(row.get("name") or self._free_name(), row.get("endpoint") or ANY_PORT)
        factory, listener.served = script_factory(self._harness, {**row, "name": listener.protocol})
        listener.factory = factory
        if self._reactor is not None:
            await listener.listen(self._reactor, self._harness.clock)
        self.scripts.append(listener)
        return listener

    def _free_name(self) -> str:
        taken = {one.protocol for one in self.every}
        number = 1
        while (name := SCRIPT if number == 1 else f"{SCRIPT}-{number}") in taken:
            number += 1
        return name

    @property
    def every(self) -> list[Listener]:
        """All, scripts too."""
        return [*self.all, *self.scripts]

    def _retire(self, factory: Any) -> None:
        """Let a factory go, at once or when its connections have ended."""
        if factory.idle.watched:
            self._former.append(factory)
        else:
            factory.shutdown()

    def prepare(self) -> Deferred[Any]:
        """Have factories do what they do before their first connection."""
        return DeferredList([maybeDeferred(listener.factory.prepare) for listener in self.all
                             if hasattr(listener.factory, "prepare")], fireOnOneErrback=True)

    async def listen(self, reactor: Any) -> None:
        """Bind every endpoint; none, if one of them cannot be. Raises: what Twisted's endpoints raise."""
        self._reactor = reactor
        try:
            for listener in self.every:
                await listener.listen(reactor, self._harness.clock)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Give up all ports."""
        self._reactor = None
        await DeferredList([listener.close() for listener in self.every])

    async def shutdown(self) -> None:
        """End all connections; return when they are gone."""
        self.cut_all()
        await DeferredList([factory.shutdown() for factory in self._factories()])

    def cut_all(self) -> None:
        """End every connection at once."""
        for factory in self._factories():
            for connection in list(factory.idle.watched):
                connection.cut()

    def connections(self) -> int:
        """Return how many stand."""
        return sum(len(factory.idle.watched) for factory in self._factories())

    def _factories(self) -> list[Any]:
        return [*self._former, *(listener.factory for listener in self.every)]

    def find(self, protocol: str) -> Listener:
        """Return the first listener of a protocol. Raises: LookupError."""
        for one in self.every:
            if one.protocol == protocol:
                return one
        raise LookupError(f"no listener speaks {protocol};"
                          f" there are {', '.join(one.protocol for one in self.every)}")


def _take_in(factory: Any, harness: Any, protocol: str) -> None:
    """Make a service's factory one of a harness."""
    ended = factory.ended

    def told(connection: Any) -> None:
        ended(connection)
        harness.tell()

    factory.ended = told
    factory.harness = harness
    factory.shown_as = protocol
    if isinstance(factory, POP3Factory):
        factory.connection = TroubledKPOP if isinstance(factory, KPOPFactory) else TroubledPOP3
        factory.at_once = protocol == "pop3s"       # type: ignore[attr-defined]
    elif hasattr(factory, "now_ms"):
        if isinstance(factory, LMTPFactory):
            factory.connection = RecordedLMTP
        factory.now_ms = lambda: int(harness.clock.seconds() * 1000)


def _crowd(config: Any, clock: Any) -> Crowd:
    limits = config.limits
    return Crowd(limits.connections, limits.connections_per_network,
                 per_address=limits.connections_per_address, per_user=limits.connections_per_user,
                 seconds=clock.seconds)


def _attempts(config: Any, crowd: Crowd, clock: Any) -> Attempts:
    limits = config.limits
    growth = Growth(limits.failure_delay_seconds, limits.failure_growth, limits.failure_delay_most_seconds,
                    limits.failure_half_life_seconds)
    # all clients of a harness are of this machine
    return Attempts(Failures(growth, clock.seconds), crowd, clock.seconds, hostname=config.hostname.encode(),
                    spares_loopback=False)
