"""A POP3 server as a source of messages: reached, logged in to, listed and read. Nothing is removed there.

Commands go out many at a time where the server announces PIPELINING (RFC 2449 section 6.6), else one
after another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS

from mailgate.errors import LoginRefused, StoreUnavailable
from mailgate.net.pop3_client import TIMEOUT_SECONDS, POP3Client, Sink
from mailgate.pop3 import client
from mailgate.pop3.answers import (
    NO_CAPABILITIES,
    Capabilities,
    Reply,
    ServerFault,
    read_capabilities,
    read_size,
    read_unique_id,
    timestamp,
)

POP3_PORT, POP3S_PORT = 110, 995
MOST_OUTSTANDING = 32               # commands: an answer's worth of them fits every socket's buffers
HEADER_SLACK_OCTETS = 1 << 20       # that a reply to TOP n 0 may be longer than twice the whole message
SLACK_OCTETS = 64 << 20             # that a message may be longer than twice what LIST said of it
TEMPORARY = ("IN-USE", "LOGIN-DELAY", "SYS/TEMP", "SYS")     # why a login came to nothing (RFC 2449, 3206)


class Unreachable(StoreUnavailable):
    """There is no such server, none that answers, or none that can be trusted."""


class SourceBusy(StoreUnavailable):
    """The server knows the user and cannot let him in now."""


class NotOffered(StoreUnavailable):
    """The server lacks what there is no doing without."""


class Door(NamedTuple):
    """Where a server is, and how it is spoken to."""

    host: str
    port: int
    tls: str                        # "implicit", "starttls" or "none"
    creator: Any = None             # for TLS: what connections of it are made by
    timeout_seconds: float = TIMEOUT_SECONDS

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Credentials(NamedTuple):
    """What is shown to the server."""

    name: bytes
    password: bytes
    apop: bool = False              # never the password itself

    def __repr__(self) -> str:
        return f"Credentials({self.name!r}, ...)"


async def log_in(reactor: Any, door: Door, credentials: Credentials) -> POP3Source:
    """Return the source, logged in to.

    Raises: Unreachable, NotOffered, LoginRefused, SourceBusy, ServerFault.
    """
    protocol, greeting = await _reach(reactor, door)
    try:
        if not greeting.ok:
            raise SourceBusy(f"{door}: {greeting}")
        if door.tls == "starttls":
            capabilities = await _secure(protocol, door)
        else:
            capabilities = await _capabilities(protocol)
        await _authenticate(protocol, greeting, capabilities, credentials)
        if capabilities.words is not None and not capabilities.has(b"PIPELINING"):
            capabilities = await _capabilities(protocol)    # some tell it after the login only
    except BaseException:
        protocol.close()
        raise
    return POP3Source(protocol, capabilities)


async def _reach(reactor: Any, door: Door) -> tuple[POP3Client, Reply]:
    endpoint: Any = HostnameEndpoint(reactor, door.host, door.port, timeout=door.timeout_seconds)
    if door.tls == "implicit":
        endpoint = wrapClientTLS(door.creator, endpoint)
    try:
        protocol = await connectProtocol(endpoint, POP3Client(reactor, door.timeout_seconds))
    except Exception as fault:      # a look-up, a route, a port, a pause: nothing but words differs
        raise Unreachable(f"{door}: {str(fault) or type(fault).__name__}") from fault
    try:
        return protocol, await protocol.greeted
    except ServerFault as fault:
        raise Unreachable(f"{door}: {fault}") from fault


async def _secure(protocol: POP3Client, door: Door) -> Capabilities:
    reply = await protocol.ask(client.stls())
    if not reply.ok:
        raise NotOffered(f"{door} does not begin TLS (STLS): {reply}")
    protocol.start_tls(door.creator)
    try:        # the handshake goes wrong with the first command, if it does
        return await _capabilities(protocol)
    except ServerFault as fault:
        raise Unreachable(f"{door}: {fault}") from fault


async def _capabilities(protocol: POP3Client) -> Capabilities:
    lines: list[bytes] = []
    reply = await protocol.ask(client.capa(), lines.append)
    return read_capabilities(lines) if reply.ok else NO_CAPABILITIES


async def _authenticate(protocol: POP3Client, greeting: Reply, capabilities: Capabilities,
                        credentials: Credentials) -> None:
    name, password, by_apop = credentials
    stamp = timestamp(greeting)
    if by_apop and stamp is None:
        raise NotOffered("the greeting has no timestamp for APOP")
    has_plain = capabilities.has_mechanism(b"PLAIN")
    try:
        if by_apop and stamp is not None:
            reply = await protocol.ask(client.apop(name, password, stamp))
        elif has_plain and (b" " in name or not capabilities.has(b"USER")):
            reply = await protocol.ask(client.auth_plain(name, password))
        else:
            reply = await protocol.ask(client.user(name))
            if reply.ok:
                reply = await protocol.ask(client.pass_(password))
    except ValueError as fault:
        raise LoginRefused(f"name or password: {fault}") from None
    if not reply.ok:
        raise (SourceBusy if reply.code in TEMPORARY else LoginRefused)(str(reply))


class POP3Source:
    """A maildrop of another server, while logged in to it. Faults of the server are ServerFaults."""

    def __init__(self, protocol: POP3Client, capabilities: Capabilities) -> None:
        self._protocol = protocol
        self.pipelines = capabilities.has(b"PIPELINING")
        self.says_top = capabilities.has(b"TOP")
        self._expires = capabilities.arguments(b"EXPIRE")[:1] == (b"0",)

    async def unique_ids(self) -> dict[int, bytes | None]:
        """Return the unique-ids by message-number, in order; None for what is none. Raises: NotOffered."""
        found: dict[int, bytes | None] = {}

        def take(line: bytes) -> None:
            number, unique_id = read_unique_id(line)
            if number in found:
                raise ServerFault(f"UIDL lists message {number} twice")
            found[number] = unique_id

        reply = await self._protocol.ask(client.uidl(), take)
        if not reply.ok:
            raise NotOffered(f"the server has no unique-ids to take over (UIDL): {reply}")
        return dict(sorted(found.items()))

    async def sizes(self) -> dict[int, int]:
        """Return octets by message-number, as the server counts them. Raises: ServerFault."""
        found: dict[int, int] = {}

        def take(line: bytes) -> None:
            number, octets = read_size(line)
            found[number] = octets

        reply = await self._protocol.ask(client.list_(), take)
        if not reply.ok:
            raise ServerFault(f"LIST is refused: {reply}")
        return found

    async def has_top(self, number: int, octets: int) -> bool:
        """Return whether TOP works, as far as a message tells; nobody asks if it was announced."""
        return self.says_top or (await self._protocol.ask(_header(number, octets))).ok

    async def headers(self, sizes: Mapping[int, int], sink: Callable[[int], Sink],
                      ended: Callable[[int, bool], None]) -> None:
        """Fetch headers (TOP n 0) of messages, given with their sizes.

        Octets go to `sink(number)`, then `ended` is told whether it was +OK.
        """
        places = DeferredSemaphore(MOST_OUTSTANDING if self.pipelines else 1)
        faults: list[BaseException] = []

        def answered(reply: Any, number: int) -> None:
            places.release()
            if isinstance(reply, Reply):
                ended(number, reply.ok)
            else:
                faults.append(reply.value)

        asked: Deferred[Any] | None = None
        for number, octets in sizes.items():
            await places.acquire()
            if faults:
                break
            asked = self._protocol.ask(_header(number, octets), sink(number))
            asked.addBoth(answered, number)
        if asked is not None:
            await DeferredList([asked])     # replies come in order: with the last one all are there
        if faults:
            raise faults[0]

    async def retrieve(self, number: int, octets: int, sink: Sink) -> bool:
        """Fetch a message that LIST says to be so long; return whether it was +OK. See `POP3Client.ask`."""
        most = 2 * octets + SLACK_OCTETS
        return (await self._protocol.ask(client.retr(number, most), sink)).ok

    async def quit(self) -> None:
        """Say goodbye, with nothing marked.

        Not to a server that removes what was read (EXPIRE 0, RFC 2449 section 6.7): it does so at QUIT.
        """
        try:
            await self._protocol.ask(client.rset())
            if not self._expires:
                await self._protocol.ask(client.quit_())
        except ServerFault:
            pass        # gone already: it removes nothing then
        self._protocol.close()

    def drop(self) -> None:
        """Hang up without a word."""
        self._protocol.close()


def _header(number: int, octets: int) -> client.Command:
    """Ask for the header of a message that is so long; all of it may be header."""
    return client.top(number, 0, 2 * octets + HEADER_SLACK_OCTETS)
