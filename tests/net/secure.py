"""TLS clients in memory: Python's own `ssl` against the server's OpenSSL, with no socket between them."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from mailgate.net.certificates import Identity, read_identity
from mailgate.net.tls import Material, ServerTLS
from mailgate.testing.certificates import Authority, Issued
from mailgate.testing.peers import LOOPBACK, Address, Peer

NAME = "mail.example.org"


def identity_of(issued: Issued, folder: Path) -> Identity:
    """Return what was issued as the server reads it."""
    issued.write(folder)
    return read_identity(folder / "cert.pem", folder / "key.pem")


def server_tls(issued: Issued, folder: Path, profile: str = "intermediate", **options: Any) -> ServerTLS:
    """Return a listener's TLS with a certificate."""
    material = options.pop("material", None)
    tls = ServerTLS(profile, protocol=b"pop3", **options)
    tls.use(material or Material(identity_of(issued, folder)))
    return tls


def client_context(authority: Authority | None, *, least: Any = None, most: Any = None,
                   ciphers: str = "", alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """Return a client that trusts one authority; without one it trusts nobody, and says so."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority is not None:
        context.load_verify_locations(cadata=authority.pem.decode())
    if ciphers:
        context.set_ciphers(ciphers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)     # to speak old versions is on purpose
        if least is not None:
            context.minimum_version = least
        if most is not None:
            context.maximum_version = most
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class SecurePeer:
    """A client that can turn to TLS. `clear` is what came before, `received` what came inside it."""

    def __init__(self, factory: Any, context: ssl.SSLContext, *, clock: Clock, address: Address = LOOPBACK,
                 reading_octets: int | None = None) -> None:
        self.context = context
        self.clear = bytearray()
        self.received = bytearray()
        self.sink: Callable[[bytes], object] = self.received.extend
        self.tls: ssl.SSLObject | None = None
        self.fault: ssl.SSLError | None = None      # what the client found wrong
        self.farewell = False                       # the server closed as TLS wants it: close_notify
        self.secure = False                         # the handshake is done
        self.piece_octets = 1 << 16                 # of a segment to the server
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._heard = bytearray()
        how: dict[str, Any] = {} if reading_octets is None else {"reading_octets": reading_octets}
        self.peer = Peer(factory, clock=clock, address=address, sink=self._hear, **how)

    @property
    def closed(self) -> bool:
        return self.peer.closed

    def _hear(self, octets: bytes) -> None:
        if self.tls is None:
            self.clear += octets
        else:
            self._in.write(octets)

    def hello(self, name: str | None = NAME, session: ssl.SSLSession | None = None) -> bytes:
        """Begin TLS on this side and return the first flight, without sending it."""
        self.tls = self.context.wrap_bio(self._in, self._out, server_hostname=name, session=session)
        self._step()
        return self._out.read()

    def begin(self, name: str | None = NAME, session: ssl.SSLSession | None = None) -> None:
        """Do the handshake, as far as it goes."""
        self.peer.say(self.hello(name, session), self.piece_octets)
        self.turn()

    def say(self, octets: bytes) -> None:
        """Send octets: inside TLS once that has begun."""
        if self.tls is None:
            self.peer.say(octets)
        else:
            self.tls.write(octets)
            self.turn()

    def turn(self) -> None:
        """Let both sides go on until neither has anything to say."""
        moving = True
        while moving:
            self._step()
            octets = self._out.read()
            if octets:
                self.peer.say(octets, self.piece_octets)
            else:
                self.peer.settle()
            moving = bool(octets) or bool(self._in.pending)

    def close(self) -> None:
        """Say goodbye as TLS wants it, then close."""
        assert self.tls is not None
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass
        self.turn()
        self.peer.vanish()

    def _step(self) -> None:
        assert self.tls is not None
        if self.fault is not None or self.farewell:
            self._in.read()
            return
        try:
            if not self.secure:
                self.tls.do_handshake()
                self.secure = True
            while piece := self.tls.read(1 << 20):
                self.sink(piece)
            self.farewell = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.farewell = True
        except ssl.SSLError as fault:
            self.fault = fault
