"""A TCP relay in front of a server: it counts round trips, and cuts connections at a chosen moment."""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from threading import Lock, Thread

PIECE_OCTETS = 65536


class Relay:
    """Connections to `port` of 127.0.0.1 are carried on to another one there. Threads end with `close`."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.sent: list[bytes] = []         # what clients said since this was cleared, a turn each
        self.cut_before: bytes | None = None    # words of a client that do not arrive: the connection ends
        self.cut_after: bytes | None = None     # words that arrive and are answered, but the answer does not
        self.hold_back: bytes | None = None     # words that arrive only when `let_go` is called
        self._held: list[tuple[socket.socket, bytes]] = []
        self._lock = Lock()
        self._sockets: set[socket.socket] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        Thread(target=self._accept, name="relay", daemon=True).start()

    @property
    def turns(self) -> int:
        """How often clients spoke after they had heard: round trips."""
        return len(self.sent)

    def let_go(self) -> None:
        """Deliver what was held back."""
        with self._lock:
            held, self._held, self.hold_back = self._held, [], None
        for end, data in held:
            with suppress(OSError):         # the server has ended the connection
                end.sendall(data)

    def is_holding(self) -> bool:
        """Return whether anything is held back."""
        return bool(self._held)

    def close(self) -> None:
        """End all connections, and take no more."""
        with suppress(OSError):         # else the thread that waits for clients would take one more
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.end_connections()

    def end_connections(self) -> None:
        """End those that there are. A server that is at work on something does not see it."""
        for one in list(self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    # In threads -------------------------------------------------------------------------------

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                Thread(target=self._carry, args=(client,), name="relay connection", daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self.upstream)) as server:
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets |= {client, server}
            try:
                self._relay(client, server)
            finally:
                self._sockets -= {client, server}

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        heard = True
        while True:
            ready = select.select([client, server], [], [])[0]
            if server in ready:
                data = server.recv(PIECE_OCTETS)
                if not data:
                    return
                client.sendall(data)
                heard = True
            if client in ready:
                data = client.recv(PIECE_OCTETS)
                if not data:
                    return
                with self._lock:
                    if heard or not self.sent:      # a test may have cleared it in the midst of a turn
                        self.sent.append(data)
                    else:
                        self.sent[-1] += data
                heard = False
                if not self._pass_on(server, data):
                    return

    def _pass_on(self, server: socket.socket, data: bytes) -> bool:
        """Send a client's words, or do with them what was asked for. Return False to end the connection."""
        with self._lock:
            if self.cut_before is not None and self.cut_before in data:
                self.cut_before = None
                return False
            if self.hold_back is not None and self.hold_back in data:
                self._held.append((server, data))
                return True
            cut = self.cut_after is not None and self.cut_after in data
            if cut:
                self.cut_after = None
        server.sendall(data)
        if cut:
            answer = b""
            while b"COMMIT\0" not in answer:        # its completion
                piece = server.recv(PIECE_OCTETS)
                if not piece:
                    break
                answer += piece
        return not cut
