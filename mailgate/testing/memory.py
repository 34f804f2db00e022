"""A mailgate in memory, for tests of clients on Twisted: no thread, no socket, no sleeping.

    server = MemoryServer()
    server.account("mrose", "secret").add("Subject: one\\n\\nhello\\n")
    client = server.connect(MyClient())         # or through server.endpoint("pop3")
    client.retrieve_all()
    server.flush()                              # octets move until nobody has more to say
    server.advance(600)                         # ten minutes of silence

Everything is done when a call returns. Octets move in the turns of the clock: when it is advanced.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.testing import running
from mailgate.testing.face import Address, Face
from mailgate.testing.harness.clock import HarnessClock, MemoryClock
from mailgate.testing.harness.core import Harness, wait_for
from mailgate.testing.harness.line import LineFactory
from mailgate.testing.harness.memory_reactor import HOST, MemoryReactor

PORTS = {"pop3": 110, "pop3s": 995, "kpop": 1109, "lmtp": 24, "smtp": 25}
OTHER_PORTS = 50000     # and up: of protocols that have no number of their own


class Talker(Protocol):
    """A client's end that a test speaks through itself."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self.received = b""
        self.segments: list[bytes] = []     # as they came
        self.closed = False
        self.reason: Failure | None = None

    def say(self, octets: bytes) -> bytes:
        """Send octets; return what has come since, up to now."""
        before = len(self.received)
        assert self.transport is not None
        self.transport.write(octets)
        self._server.flush()
        return self.received[before:]

    def dataReceived(self, data: bytes) -> None:
        """Keep octets."""
        self.segments.append(data)
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep the reason."""
        self.closed, self.reason = True, reason


class MemoryServer(Face):
    """One server in memory. See Harness for `settings`, `protocols` and `seed`.

    `clock`: a task.Clock, which may be the client's, too; left out, one of its own. `now` is what the server
    takes its first moment for, in seconds since 1970. With a reactor in place of a clock everything happens
    in that reactor's turns, and `held` says whether time stands still at first.
    """

    def __init__(self, *, clock: IReactorTime | None = None, settings: Mapping[str, Any] | None = None,
                 protocols: Sequence[str] | None = None, seed: int = 0, held: bool = False,
                 now: float | None = None) -> None:
        below = Clock() if clock is None else clock
        self._time: Any = (MemoryClock(below, now=now) if isinstance(below, Clock)
                           else HarnessClock(below, held=held, now=now))
        self._folder = tempfile.TemporaryDirectory(prefix="mailgate-harness-")
        try:
            self._harness = Harness(self._time, Path(self._folder.name), settings=settings,
                                    protocols=protocols, seed=seed)
        except BaseException:
            self._folder.cleanup()
            raise
        self.reactor = MemoryReactor(self._time, self._build)
        names = [str(one.protocol) for one in self._harness.listeners]
        self._ports = {PORTS.get(name, OTHER_PORTS + index): name for index, name in enumerate(names)}
        self._running = True
        self._call(self._harness.start)
        running.made(self)

    def _call(self, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
        result = function(*args, **more)
        if isinstance(result, Coroutine):
            result = Deferred.fromCoroutine(result)
        if not isinstance(result, Deferred):
            return result
        if not result.called:
            self.flush()
        return wait_for(result) if result.called or self._is_held_by_hand else result

    @property
    def _is_held_by_hand(self) -> bool:
        """Whether nothing moves here but by the test; a reactor's turns come when they come."""
        return isinstance(self._time, MemoryClock)

    def stop(self) -> Any:
        """End all connections. May be called twice. With a reactor, return a Deferred: for addCleanup."""
        stopped: Deferred[None] = succeed(None)
        if self._running:
            self._running = False
            stopped = Deferred.fromCoroutine(self._harness.stop())
            self.flush()
        return self._call(stopped.addCallback, self._clean_up)

    def _clean_up(self, _: None) -> None:
        self.flush()
        self._stopped = True
        self._time.stop()
        self._folder.cleanup()

    def __enter__(self) -> MemoryServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    # Time -------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Let octets move, and whatever waits for its turn only. A reactor does so by itself."""
        if self._is_held_by_hand:
            self._time.advance(0)

    def advance(self, seconds: float) -> Any:
        """Move time on; what becomes due happens on the way, each at its own time.

        With a reactor, return a Deferred that fires when it has. Raises: ValueError.
        """
        return self._call(self._time.let_pass, seconds)

    # Connections ------------------------------------------------------------------------------

    def address(self, protocol: str) -> Address:
        """Return host and port that `self.reactor` connects to a protocol. Raises: LookupError."""
        self._harness.listener(protocol)
        if protocol not in self._ports.values():        # a script that came later
            self._ports[OTHER_PORTS + len(self._ports)] = protocol
        return next((HOST, port) for port, name in self._ports.items() if name == protocol)

    def endpoint(self, protocol: str = "pop3", *, tls: Any = None) -> IStreamClientEndpoint:
        """Return what a client connects through.

        `tls`: what the client does TLS by, for `pop3s`: that of `trusting`, or its own. (Twisted's
        wrapClientTLS does the same, but waits for the global reactor.) Raises: LookupError.
        """
        below = TCP4ClientEndpoint(self.reactor, *self.address(protocol))
        return below if tls is None else _InTLS(below, tls, self._time)

    def trusting(self, hostname: str = "localhost") -> Any:
        """Return client's TLS that trusts this server's authority, for `startTLS` and `endpoint`."""
        return optionsForClientTLS(hostname, trustRoot=Certificate.loadPEM(self._harness.authority.pem))

    def connect(self, client: Any, protocol: str = "pop3", *, tls: Any = None) -> Any:
        """Connect a client's protocol, or one that its factory builds; return it, the greeting received.

        With a reactor in place of a clock, return a Deferred of it, as `endpoint` does. (A ClientFactory that
        wants to hear of failures is given to `self.reactor.connectTCP`.) Raises: LookupError.
        """
        endpoint = self.endpoint(protocol, tls=tls)
        is_protocol = hasattr(client, "makeConnection")
        connected = connectProtocol(endpoint, client) if is_protocol else endpoint.connect(client)
        if not self._is_held_by_hand:
            return connected
        self.flush()
        return wait_for(connected)

    def talk(self, protocol: str = "pop3", *, tls: Any = None) -> Talker:
        """Return a client's end to speak through, the greeting received. Not with a reactor."""
        talker: Talker = self.connect(Talker(self), protocol, tls=tls)
        return talker

    def _build(self, port: int, address: IPv4Address) -> Any:
        if not self._running:
            raise LookupError("the server has stopped")
        return LineFactory(self._harness.listener(self._ports[port]), self._time).buildProtocol(address)


@implementer(IStreamClientEndpoint)
class _InTLS:
    """Connects inside TLS, by the clock of the server."""

    def __init__(self, below: IStreamClientEndpoint, tls: Any, clock: Any) -> None:
        self._below = below
        self._tls = tls
        self._clock = clock

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """See IStreamClientEndpoint."""
        factory: Any = TLSMemoryBIOFactory(self._tls, True, protocolFactory, self._clock)
        connected: Deferred[Any] = self._below.connect(factory)
        return connected.addCallback(lambda layer: layer.wrappedProtocol)


class MemoryServerMixin:
    """For trial's TestCases, before the TestCase in the list of bases: `self.server`, in memory.

    `settings`, `protocols` and `seed` may be set by the class. The clock is `self.clock`.
    """

    settings: Mapping[str, Any] | None = None
    protocols: Sequence[str] | None = None
    seed = 0

    def setUp(self) -> None:
        """Start a server."""
        super().setUp()         # type: ignore[misc]
        self.clock = Clock()
        self.server = MemoryServer(clock=self.clock, settings=self.settings, protocols=self.protocols,
                                   seed=self.seed)
        self.addCleanup(self.server.stop)       # type: ignore[attr-defined]
