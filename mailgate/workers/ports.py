"""A listening socket that several processes accept from.

Twisted's own ports will not do: one of a unix socket that was adopted sets its mode and, at its end,
removes its path, which is the parent's; one of TCP accepts up to a hundred clients in a row.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

AFTER_OTHERS_SECONDS = 0.05     # that a full process leaves to the others before it turns clients away
SHORT_SECONDS = 1.0             # to wait when the system has no descriptor or no memory left
MOST_TURNED_AWAY = 100          # in one turn of the reactor
SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = Logger()


@implementer(IStreamServerEndpoint)
class SharedEndpoint:
    """Listens at a socket that is bound already; owns it."""

    def __init__(self, listening: socket.socket, reactor: Any, is_full: Callable[[], bool]) -> None:
        self._make = lambda factory: SharedPort(listening, factory, reactor, is_full)

    def listen(self, factory: Any) -> Deferred[Any]:
        """Return the port; only once."""
        return execute(self._make, factory)


@implementer(IListeningPort)
class SharedPort(FileDescriptor):
    """Accepts one client in each turn of the reactor, so that a burst of them is shared.

    While `is_full` says so, others come first: whoever only turns clients away has most time to
    accept them, and would have all of them.
    """

    def __init__(self, listening: socket.socket, factory: Any, reactor: Any,
                 is_full: Callable[[], bool]) -> None:
        super().__init__(reactor)
        self.reactor: Any = reactor
        self._socket = listening
        self._factory = factory
        self._is_full = is_full
        self._after_others = False
        self._waiting: Any = None
        self._ceased = False
        listening.setblocking(False)
        factory.doStart()
        self.startListening()

    def startListening(self) -> None:
        """Accept from now on."""
        self.startReading()

    def fileno(self) -> int:
        """See IReadDescriptor; -1 once closed."""
        return self._socket.fileno()

    def getHost(self) -> Any:
        """Return the address that clients come to."""
        address, family = self._socket.getsockname(), self._socket.family
        if family == socket.AF_UNIX:
            return UNIXAddress(address or None)
        return (IPv6Address if family == socket.AF_INET6 else IPv4Address)("TCP", *address)

    def doRead(self) -> None:
        """Accept a client; or, after others had their chance, turn away all who are left."""
        if not self._after_others and self._is_full():
            self._wait(AFTER_OTHERS_SECONDS)
            return
        for _ in range(MOST_TURNED_AWAY if self._after_others else 1):
            if not self._accept():
                break
        self._after_others = False

    def _accept(self) -> bool:
        """Return whether there may be another one."""
        try:
            client, _ = self._socket.accept()
        except OSError as fault:
            if fault.errno in SHORT:
                self._wait_for_room(fault)
            return False            # another process was quicker, or the client has gone
        with client:
            client.setblocking(False)
            try:
                self.reactor.adoptStreamConnection(client.fileno(), client.family, self._factory)
            except Exception as fault:      # one client's; the port stays
                number = getattr(fault, "errno", None)
                if number in SHORT:         # it takes two descriptors for a moment; the client is lost
                    self._wait_for_room(fault)
                    return False
                if number != errno.ENOTCONN:
                    log.failure("a client could not be served")
        return True

    def _wait_for_room(self, fault: Exception) -> None:
        log.warn("no client can be accepted for now: {fault}", fault=str(fault))
        self._wait(SHORT_SECONDS)

    def _wait(self, seconds: float) -> None:
        self.stopReading()
        if self._waiting is None:
            self._waiting = self.reactor.callLater(seconds, self._go_on)

    def _go_on(self) -> None:
        self._waiting = None
        self._after_others = True
        self.startReading()

    def cease(self) -> None:
        """Accept nobody any more. The factory goes on: clients that are here are served to their end."""
        if not self._ceased:
            self._ceased = True
            if self._waiting is not None:
                self._waiting.cancel()
            self.stopReading()
            self._socket.close()

    def stopListening(self) -> Deferred[None]:
        """Accept nobody any more, and let the factory know."""
        self.cease()
        if self._factory is not None:
            self._factory.doStop()
            self._factory = None
        return succeed(None)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor could not watch the socket any more: the parent has shut it down."""
        self.cease()
