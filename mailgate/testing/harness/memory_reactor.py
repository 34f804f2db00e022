"""What a client that is tested takes for a reactor: time, and connections that never leave the process."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.base import BaseConnector
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import (
    IHostnameResolver,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
)
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.testing.harness.joined import Joined

HOST = "127.0.0.1"
FIRST_PORT = 40110      # of clients

Build = Callable[[int, IPv4Address], Any]   # a server's connection, by port; None: it takes none; LookupError


@implementer(IReactorTime, IReactorTCP, IReactorPluggableNameResolver)
class MemoryReactor:
    """The part of a reactor that clients use. Every host name is the server's."""

    def __init__(self, clock: Any, build: Build) -> None:
        self.clock = clock
        self._build = build
        self._ports = count(FIRST_PORT)
        self.joined: list[Joined] = []          # those that stand
        self.nameResolver: IHostnameResolver = Resolver()

    def seconds(self) -> float:
        """See IReactorTime."""
        return float(self.clock.seconds())

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> Any:
        """See IReactorTime."""
        return self.clock.callLater(delay, callable, *args, **kw)

    def getDelayedCalls(self) -> Any:
        """See IReactorTime."""
        return self.clock.getDelayedCalls()

    def connectTCP(self, host: str, port: int, factory: ClientFactory[Any], timeout: float = 30,
                   bindAddress: Any = None) -> Connector:
        """See IReactorTCP. It fails where the server has no such port."""
        connector = Connector(self, port, factory, timeout)
        connector.connect()
        return connector

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """See IReactorTCP. Raises: NotImplementedError, for there are no other servers here."""
        raise NotImplementedError("in memory there is one server, and it is there already")

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """See IReactorPluggableNameResolver."""
        before, self.nameResolver = self.nameResolver, resolver
        return before

    def join(self, connector: Connector) -> Joined:
        """Make a connection. Raises: ConnectionRefusedError."""
        server_address = IPv4Address("TCP", HOST, connector.port)
        client_address = IPv4Address("TCP", HOST, next(self._ports))
        try:
            server = self._build(connector.port, client_address)
        except LookupError as fault:
            raise ConnectionRefusedError(string=f"nothing listens at port {connector.port}") from fault
        joined = Joined(self.clock, client_address, server_address, connector.connectionLost)
        client = connector.buildProtocol(server_address)
        if client is None:
            connector.state = "disconnected"
            raise ConnectionRefusedError(string="the client's factory built no protocol")
        self.joined = [one for one in self.joined if not one.ended]
        self.joined.append(joined)
        joined.begin(client, server)
        return joined


class Connector(BaseConnector):
    """Makes one client's connection, in the next turn of the clock."""

    reactor: Any

    def __init__(self, reactor: MemoryReactor, port: int, factory: Any, timeout: float) -> None:
        super().__init__(factory, timeout, reactor)     # type: ignore[arg-type]
        self.port = port

    def _makeTransport(self) -> Any:
        return Attempt(self)

    def getDestination(self) -> IPv4Address:
        """See IConnector."""
        return IPv4Address("TCP", HOST, self.port)


class Attempt:
    """A connection that is to be made: what a connector knows of it."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._joined: Joined | None = None
        self._call = connector.reactor.callLater(0, self._connect)

    def _connect(self) -> None:
        try:
            self._joined = self._connector.reactor.join(self._connector)
        except ConnectionRefusedError as fault:
            self._connector.connectionFailed(Failure(fault))

    def failIfNotConnected(self, reason: Exception) -> None:
        """Give up, if it is not made yet."""
        if self._call.active():
            self._call.cancel()
            self._connector.connectionFailed(Failure(reason))

    def loseConnection(self) -> None:
        """Close the client's end."""
        if self._joined is not None:
            self._joined.client.loseConnection()


@implementer(IHostnameResolver)
class Resolver:
    """Finds the server by every name."""

    def resolveHostName(self, resolutionReceiver: Any, hostName: str, portNumber: int = 0,
                        addressTypes: Any = None, transportSemantics: str = "TCP") -> Any:
        """See IHostnameResolver."""
        resolutionReceiver.resolutionBegan(self)
        resolutionReceiver.addressResolved(IPv4Address("TCP", HOST, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolutionReceiver

    def cancel(self) -> None:
        """Nothing: it is done at once."""
