"""Two protocols joined in memory: a server's connection and a real client's, in place of two sockets.

What one end writes in one piece reaches the other in one piece (64 KiB at most, as from a socket). Octets
move in turns of a clock: in each turn one segment each way, and never from within a call to `write`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure

from mailgate.testing.peers import READ_OCTETS, MemoryTransport
from mailgate.testing.tls import begin_tls


class End(MemoryTransport):
    """One end: the transport of one of the protocols."""

    def __init__(self, joined: Joined, peer: IPv4Address, host: IPv4Address, *, is_client: bool) -> None:
        super().__init__(peer, host)
        self.clock = joined.clock
        self._joined = joined
        self._is_client = is_client
        self._half_closed = False       # we say nothing more, and read on
        self._finished = False          # the other end has said all; to be told when we read
        self._hears_no_more = False     # it was told

    # The protocol's side: whatever may set octets moving wakes the connection ------------------

    def send(self, data: bytes) -> None:
        """See MemoryTransport."""
        super().send(data)
        self._joined.wake()

    def close(self) -> None:
        """See MemoryTransport."""
        super().close()
        self._joined.wake()

    def abortConnection(self) -> None:
        """See MemoryTransport."""
        super().abortConnection()
        self._joined.wake()

    def resumeProducing(self) -> None:
        """See MemoryTransport."""
        super().resumeProducing()
        self._joined.wake()

    def attach(self, producer: Any, streaming: bool) -> None:
        """See MemoryTransport."""
        super().attach(producer, streaming)
        self._joined.wake()

    def detach(self) -> None:
        """See MemoryTransport."""
        super().detach()
        self._joined.wake()

    def loseWriteConnection(self) -> None:
        """Say nothing more, and read on."""
        self._half_closed = True
        self._joined.wake()

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        """See ITLSTransport: the client's end is TLS's client, unless it is not `normal`."""
        begin_tls(self, contextFactory, is_client=self._is_client == normal)

    # The connection's side --------------------------------------------------------------------

    def carry(self, other: End) -> bool:
        """Move one thing from here to the other end; return whether anything moved."""
        if not self.connected:
            return False
        if self.aborting:
            self._lose(ConnectionAborted())
            other._lose(ConnectionLost())
        elif self.waiting and not other.connected:      # nobody is there: a socket would be reset
            self._lose(ConnectionDone() if self.disconnecting else ConnectionLost())
        elif self.waiting:
            return self._carry_segment(other)
        elif self.wants_more():
            pass
        elif self.disconnecting and not self._waits_for_producer():
            self._lose(ConnectionDone())
            other._finished = True
        elif self._half_closed and not other._hears_no_more:
            other._finished = True
            self._half_closed = False
        else:
            return False
        return True

    def hear_the_end(self) -> bool:
        """Be told that the other end says nothing more, if it is time; return whether it was."""
        if not (self._finished and self.connected and self.reading) or self._hears_no_more:
            return False
        self._hears_no_more = True
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is None:
            self._lose(ConnectionDone())
        else:
            half.readConnectionLost()
        return True

    def _carry_segment(self, other: End) -> bool:
        if not other.reading:
            return False
        segment = self.take(min(len(self._outbox[0]), READ_OCTETS))
        try:
            other.protocol.dataReceived(segment)
        except Exception as fault:      # as a reactor does: the connection is lost, and it is told
            other._lose(fault)
            self._finished = True
            raise
        self.wants_more()
        return True

    def _waits_for_producer(self) -> bool:
        return self.producer is not None and (not self.streaming or self.producer_paused)

    def _lose(self, reason: Exception) -> None:
        if self.connected:
            self.drop()
            self.protocol.connectionLost(Failure(reason))
            self._joined.lost(self, reason)


class Joined:
    """A connection in memory. `clock` has `callLater`; `on_client_lost` is told why the client's end went."""

    def __init__(self, clock: Any, client_address: IPv4Address, server_address: IPv4Address,
                 on_client_lost: Callable[[Failure], object] = lambda reason: None) -> None:
        self.clock = clock
        self.client = End(self, server_address, client_address, is_client=True)
        self.server = End(self, client_address, server_address, is_client=False)
        self._on_client_lost = on_client_lost
        self._call: Any = None

    def begin(self, client: Any, server: Any) -> None:
        """Join two protocols. `server` may be None: one that nobody serves is closed at once."""
        self.client.protocol, self.server.protocol = client, server
        if server is None:
            self.server.drop()
            self.client._finished = True
        else:
            server.makeConnection(self.server)
        client.makeConnection(self.client)
        self.wake()

    @property
    def ended(self) -> bool:
        """Whether both ends are gone."""
        return not (self.client.connected or self.server.connected)

    def wake(self) -> None:
        """Have octets moved in the next turn."""
        if self._call is None and not self.ended:
            self._call = self.clock.callLater(0, self._turn)

    def lost(self, end: End, reason: Exception) -> None:
        """One end is gone."""
        self.wake()
        if end is self.client:
            self._on_client_lost(Failure(reason))

    def _turn(self) -> None:
        self._call = None
        try:
            moved = [_move() for _move in self._moves()]
        except BaseException:
            self.wake()
            raise
        if any(moved):
            self.wake()

    def _moves(self) -> Iterable[Callable[[], bool]]:
        client, server = self.client, self.server
        return (lambda: server.carry(client), lambda: client.carry(server), client.hear_the_end,
                server.hear_the_end)
