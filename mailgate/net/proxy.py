"""PROXY headers in front of a listener's connections, and in front of TLS where that comes at once.

A connection from a proxy that is trusted says nothing and is nobody's until its header is whole. Then
it is handed over to the protocol that the factory behind makes for the client: nothing of what read the
header stays on the way of the octets.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, Union

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailgate.net.addresses import is_loopback, written
from mailgate.net.crowd import Crowd
from mailgate.net.idle import IdleClock
from mailgate.net.relayed import Relayed
from mailgate.wire.proxy import BadHeader, Header, read_header

HEADER_SECONDS = 5.0        # a proxy says its header with the first octets; see there, section 2

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
UNIX = "unix"               # stands among networks for whoever comes over a unix socket

log = Logger()


class Trusted:
    """Whose word on a client's address is taken: networks, and UNIX."""

    def __init__(self, networks: Iterable[Network | str]) -> None:
        listed = tuple(networks)
        self._unix = UNIX in listed
        self._networks = tuple(one for one in listed if not isinstance(one, str))

    def vouches(self, address: IAddress | None) -> bool:
        """Whether a connection from an address must begin with a header."""
        host = getattr(address, "host", None)
        if host is None:
            return self._unix
        try:
            peer = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        mapped = peer.ipv4_mapped if isinstance(peer, ipaddress.IPv6Address) else None
        return any((mapped or peer) in network for network in self._networks)


class ProxyFactory(Factory):
    """Reads PROXY headers in front of another factory. Peers that are not trusted reach it as they are.

    `crowd` counts those whose header is not whole yet, in all; from then on they count as the client.
    With `tls` a client who speaks TLS to the proxy, as the header says, counts as inside TLS here.
    """

    noisy = False

    def __init__(self, wrapped: Any, trusted: Trusted, clock: IReactorTime, *, crowd: Crowd | None = None,
                 tls: bool = False) -> None:
        self.wrapped = wrapped
        self.clock = clock
        self.idle = IdleClock(clock, HEADER_SECONDS)    # of those whose header is not whole yet
        self._trusted = trusted
        self._crowd = crowd
        self._tls = tls

    def doStart(self) -> None:
        """Begin with the factory behind."""
        self.wrapped.doStart()
        super().doStart()

    def doStop(self) -> None:
        """End with the factory behind."""
        self.wrapped.doStop()
        super().doStop()

    def stopFactory(self) -> None:
        """Nobody listens any more: who has said no header yet comes too late."""
        for connection in list(self.idle.watched):
            connection.cut()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Return what reads a header, or at once what the factory behind makes; None: close."""
        if not self._trusted.vouches(addr):
            return self.wrapped.buildProtocol(addr)
        if self._crowd is not None and not self._crowd.enter(None):
            return None
        return HeaderReader(self)

    def client(self, header: Header, proxy: IAddress) -> Relayed:
        """Return the address of the client whom a header tells of.

        Where it does not say, or means the proxy's own machine, that is the proxy's.
        """
        tls, own = header.tls if self._tls else "", getattr(proxy, "host", None)
        if header.host is None or (is_loopback(header.host) and not is_loopback(own)):
            return Relayed(own, getattr(proxy, "port", 0), tls)
        return Relayed(header.host, header.port, tls)

    def gone(self, reader: HeaderReader) -> None:
        """Forget a connection that waited for its header."""
        self.idle.discard(reader)
        if self._crowd is not None:
            self._crowd.leave(None)


class HeaderReader(Protocol):
    """One connection until its header is whole."""

    __slots__ = ("_factory", "_octets", "_began", "_waiting", "_late")

    def __init__(self, factory: ProxyFactory) -> None:
        self._factory = factory
        self._octets = b""
        self._began = 0.0
        self._waiting = True        # for the header; counted by the factory
        self._late = False          # its time is over

    def connectionMade(self) -> None:
        """Wait: the proxy begins."""
        self._began = self._factory.clock.seconds()
        self._factory.idle.add(self)

    def dataReceived(self, data: bytes) -> None:
        """Take octets of the header; what follows it is the client's."""
        if not self._waiting:
            return
        self._octets += data
        try:
            header = read_header(self._octets)
        except BadHeader as fault:
            self._refuse(str(fault))
        else:
            if header is not None:
                self._hand_over(header)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell of a header that was begun; who only looked whether there is a server needs no line."""
        if self._waiting and self._octets:
            self._tell("it was cut off")
        self._leave()

    def _hand_over(self, header: Header) -> None:
        """Let the factory behind take the connection as if the client had made it."""
        transport: Any = self.transport
        self._leave()
        client = self._factory.client(header, transport.getPeer())
        protocol = self._factory.wrapped.buildProtocol(client)
        if protocol is None:
            transport.abortConnection()
            return
        rest = self._octets[header.octets:]
        transport.getPeer = client.itself       # as startTLS replaces what a transport says of itself
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if rest and not transport.disconnecting:
            transport.protocol.dataReceived(rest)

    def _refuse(self, reason: str) -> None:
        """Close without a word, and tell the operator."""
        self._tell(reason)
        self._leave()
        self.cut()

    def _tell(self, reason: str) -> None:
        transport: Any = self.transport
        log.info("PROXY header from {peer} refused: {reason}",
                 peer=written(getattr(transport.getPeer(), "host", None)), reason=reason)

    def _leave(self) -> None:
        if self._waiting:
            self._waiting = False
            self._factory.gone(self)

    # What the clock calls -------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Give up a proxy that takes too long, however busily.

        At the second tick: where it was us who had no time, the header is read between the two.
        """
        if now - self._began < HEADER_SECONDS:
            return
        late, self._late = self._late, True
        if late:
            self._refuse(f"it was not whole after {HEADER_SECONDS:g} s")

    def dismiss(self) -> None:
        """Close: nothing can be said to a client before it is known."""
        self.cut()

    def cut(self) -> None:
        """Close at once."""
        transport: Any = self.transport
        transport.abortConnection()
