"""Between a real client and a real server: octets pass, and what both say is recorded.

TLS ends here on both sides, so that what is inside is seen: to the client a harness's certificate is shown,
the server's is verified. STLS passes as all commands do; when the server agrees, TLS begins on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.auth.servertls import in_words
from mailgate.net.certificates import read_identity
from mailgate.net.tls import Material, ServerTLS, secured
from mailgate.testing.certificates import Authority
from mailgate.testing.harness.line import Line
from mailgate.testing.harness.records import Records, SessionRecord
from mailgate.testing.scripted.writing import Pairing

PROTOCOL = "pop3"
AT_ONCE, BY_STLS, NONE = "at once", "by STLS", "none"       # how TLS begins to the server
UNREACHABLE = b"-ERR the server that is recorded cannot be reached\r\n"
NO_STLS = b"-ERR the server that is recorded refuses STLS\r\n"
LINE_OCTETS = 4096          # in which a server greets, and answers STLS


@dataclass(frozen=True)
class Way:
    """How the relay is spoken to, and speaks.

    `endpoint` leads to the server. `server_tls` is what TLS to it takes, `tls` (AT_ONCE, BY_STLS, NONE) how
    it begins unless the client asks for it; `client_tls` is what TLS to the client takes, and begins
    `at_once`.
    """

    endpoint: Any
    server_tls: Any
    client_tls: Any
    tls: str = NONE
    at_once: bool = False


def shown_tls(folder: Path, *names: str) -> ServerTLS:
    """Return what a client is shown for a server of these names; put the authority to trust into ca.pem."""
    authority = Authority("Authority of a mailgate harness that records")
    authority.issue(*dict.fromkeys(["localhost", "127.0.0.1", "::1", *names])).write(folder)
    (folder / "ca.pem").write_bytes(authority.pem)
    tls = ServerTLS("intermediate", protocol=b"pop3")
    tls.use(Material(read_identity(folder / "cert.pem", folder / "key.pem")))
    return tls


class RelayFactory(Factory):
    """Takes clients. `ended` is called with the record of each session that is over, `problem` with words."""

    noisy = False

    def __init__(self, way: Way, clock: Any, records: Records, ended: Callable[[SessionRecord], object],
                 problem: Callable[[str], object]) -> None:
        self.way = way
        self.clock = clock
        self.records = records
        self.ended = ended
        self.problem = problem
        self.relays: set[Relay] = set()

    def buildProtocol(self, addr: Any) -> Any:
        """Return what takes a client."""
        relay = Relay(self)
        self.relays.add(relay)
        return Line(relay.client, self.clock)

    def cut_all(self) -> None:
        """End all sessions."""
        for relay in list(self.relays):
            relay.cut()


class Relay:
    """One session: a client's connection, and one to the server."""

    def __init__(self, factory: RelayFactory) -> None:
        self.factory = factory
        self.way = factory.way
        self.record = factory.records.begin(PROTOCOL)
        self.client = ClientSide(self)
        self.server: ServerSide | None = None       # once it is connected
        self._unsent = b""                          # of the client's, before that
        self._pairing = Pairing(self.record.began)
        self._stls: int | None = None               # the turn that asks for TLS
        self._over = False

    def begin(self, peer: Any) -> None:
        """The client is there: connect to the server."""
        self.record.peer = f"{getattr(peer, 'host', None)}:{getattr(peer, 'port', '')}"
        if self.way.at_once:
            self.record.tls = True
            self.client.transport.startTLS(self.way.client_tls)
        server = ServerSide(self)
        factory = Factory.forProtocol(lambda: Line(server, self.factory.clock, is_client=True))
        self.way.endpoint.connect(factory).addErrback(self._unreachable)

    def _unreachable(self, failure: Failure) -> None:
        self.factory.problem(f"the server cannot be reached: {failure.getErrorMessage()}")
        self.refuse(UNREACHABLE)

    def refuse(self, line: bytes) -> None:
        """Say why there is nothing to record."""
        if self.client.up:
            self.client.transport.write(line)
            self.client.lose()
        if self.server is not None:
            self.server.lose()

    def open(self, server: ServerSide) -> None:
        """The server is there, ready to be spoken to."""
        if not self.client.up:
            server.lose()
            return
        self.server = server
        self.client.transport.registerProducer(server.transport, True)
        server.transport.registerProducer(self.client.transport, True)
        unsent, self._unsent = self._unsent, b""
        if unsent:
            server.transport.write(unsent)

    def client_said(self, octets: bytes) -> None:
        """Pass on what the client says."""
        self.factory.records.note(self.record, "C", octets)
        now = self.factory.clock.seconds()
        turns = self._pairing.turns
        before = len(turns)
        self._pairing.hear(octets, (), now)
        for index in range(before, len(turns)):
            if turns[index].verb == b"STLS":
                self._stls = index
        if self.server is not None:
            self.server.transport.write(octets)
        else:
            self._unsent += octets

    def server_said(self, octets: bytes) -> None:
        """Pass on what the server says."""
        self.factory.records.note(self.record, "S", octets)
        self._pairing.say(octets, (), self.factory.clock.seconds())
        if self.client.up:
            self.client.transport.write(octets)
        turn = self._pairing.turns[self._stls] if self._stls is not None else None
        if turn is not None and turn.whole:
            self._stls = None
            if turn.said.startswith(b"+OK"):
                self._begin_tls()

    def _begin_tls(self) -> None:
        self.record.tls = True
        self.factory.records.note(self.record, "*", text="TLS begins")
        if self.client.up and self.server is not None:
            self.client.transport.startTLS(self.way.client_tls)
            self.server.transport.startTLS(self.way.server_tls)

    def client_gone(self) -> None:
        """The client's connection is gone."""
        self._finish("the client hung up")
        if self.server is not None:
            self.server.lose()

    def server_gone(self, reason: Failure) -> None:
        """The server's connection is gone: so is the client's, in the same way."""
        # inside TLS one that forgot its farewells looks like one that was torn
        torn = reason.check(ConnectionLost) is not None and not self.record.tls and self.way.tls == NONE
        if not self._over:
            if not reason.check(ConnectionDone, ConnectionLost):
                self.factory.problem(in_words(reason.value) or str(reason.value))
            if torn:
                self.factory.records.note(self.record, "*", text="reset")
        self._finish("reset by the server" if torn else "closed by the server")
        if self.client.up:
            if torn:
                self.client.transport.abortConnection()
            else:
                self.client.lose()

    def _finish(self, how: str) -> None:
        if not self._over:
            self._over = True
            self.factory.records.end(self.record, how)
            self.factory.relays.discard(self)
            self.factory.ended(self.record)

    def cut(self) -> None:
        """End both connections at once."""
        self._finish("the recording ended")
        for side in (self.client, self.server):
            if side is not None and side.up:
                side.transport.abortConnection()


class _Side(Protocol):
    """One of the two connections."""

    transport: Any

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.up = False

    def lose(self) -> None:
        """Close once everything is out."""
        if self.up:
            self.transport.unregisterProducer()
            self.transport.loseConnection()


@implementer(IHalfCloseableProtocol)
class ClientSide(_Side):
    """The client's connection."""

    def connectionMade(self) -> None:
        """Begin."""
        self.up = True
        self._relay.begin(self.transport.getPeer())

    def handshakeCompleted(self) -> None:
        """TLS stands."""
        self._relay.record.tls_details = str(secured(self.transport))

    def dataReceived(self, data: bytes) -> None:
        """Pass octets on."""
        self._relay.client_said(data)

    def readConnectionLost(self) -> None:
        """The client says nothing more, and may listen: so is the server told."""
        server = self._relay.server
        if server is not None and server.up:
            server.transport.loseWriteConnection()
        else:
            self.lose()

    def writeConnectionLost(self) -> None:
        """Our half is never closed alone."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the relay."""
        self.up = False
        self._relay.client_gone()


class ServerSide(_Side):
    """The connection to the server. With BY_STLS, TLS is begun here before the client is let in."""

    def __init__(self, relay: Relay) -> None:
        super().__init__(relay)
        self._opening: list[bytes] | None = [] if relay.way.tls == BY_STLS else None     # lines so far
        self._line = b""

    def connectionMade(self) -> None:
        """Begin TLS if that is how it is done; let the client speak."""
        self.up = True
        if self._relay.way.tls == AT_ONCE:
            self.transport.startTLS(self._relay.way.server_tls)
        if self._opening is None:
            self._relay.open(self)

    def dataReceived(self, data: bytes) -> None:
        """Pass octets on, but for the answer to our own STLS."""
        if self._opening is None:
            self._relay.server_said(data)
            return
        self._line += data
        if b"\n" in self._line or len(self._line) > LINE_OCTETS:
            line, self._line = self._line, b""
            self._opening.append(line)
            self._open_on(self._opening)

    def _open_on(self, lines: list[bytes]) -> None:
        if len(lines) == 1 and lines[0].startswith(b"+OK"):
            self.transport.write(b"STLS\r\n")
        elif len(lines) == 2 and lines[1].startswith(b"+OK"):
            self._opening = None
            self.transport.startTLS(self._relay.way.server_tls)
            self._relay.open(self)
            self._relay.server_said(lines[0])
        else:
            self._opening = None
            self._relay.factory.problem("the server refuses STLS")
            self._relay.refuse(lines[0] if len(lines) == 1 else NO_STLS)
            self.lose()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the relay."""
        self.up = False
        self._relay.server_gone(reason)
