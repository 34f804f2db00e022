"""The harness itself: a whole mailgate in memory, and what a test wants to do with it and to know of it.

Everything here belongs to one reactor's thread; with a `MemoryReactor`-like clock and connections in memory
there is no thread at all. `mailgate.testing.Server` is the same for programs that block.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString

from mailgate.assembly.auth import Doors
from mailgate.assembly.listeners import make_factory, wrapped
from mailgate.auth.hashing import Inline
from mailgate.auth.schemes import hash_password
from mailgate.config import Config, ListenSection
from mailgate.errors import ConfigurationError
from mailgate.model import Account, Envelope, Listed, Placement
from mailgate.net.attempts import Attempts
from mailgate.net.crowd import Crowd
from mailgate.net.failures import Failures, Growth
from mailgate.net.kpop import KPOPFactory
from mailgate.net.pop3 import POP3Factory
from mailgate.stores.memory import MemoryStore
from mailgate.testing.certificates import Authority
from mailgate.testing.harness.line import LineFactory
from mailgate.testing.harness.records import Records
from mailgate.testing.harness.settings import configuration
from mailgate.testing.harness.tls import TroubledTLS
from mailgate.testing.harness.troubled import TroubledKPOP, TroubledPOP3
from mailgate.testing.peers import LOOPBACK, Address, Peer
from mailgate.testing.trouble.active import Trouble
from mailgate.testing.trouble.model import Fault, Scenario
from mailgate.wire.headers import preamble

CA_FILE = "ca.pem"
SEED = 0


class Listener:
    """One protocol of a harness. `port` is bound by `listen`; in memory there is none."""

    def __init__(self, section: ListenSection, endpoint: str, factory: Any, served: Any) -> None:
        self.protocol = section.protocol
        self.factory = factory
        self.served = served
        self.endpoint = endpoint
        self.port: Any = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port. Raises: LookupError, where it does not listen."""
        if self.port is None:
            raise LookupError(f"{self.protocol} does not listen")
        host = self.port.getHost()
        return host.host, host.port


class Harness:
    """A server in memory: accounts, maildrops, listeners, trouble, records.

    `clock` has `callLater`, `seconds` and `apart`: a HarnessClock, or what `in_memory` makes. `folder` takes
    the certificates. `settings` is laid over the defaults (harness/settings.py). `seed` decides all that is
    left to chance: unique-ids, challenges, faults with a probability.
    Raises: ConfigurationError.
    """

    def __init__(self, clock: Any, folder: Path, *, settings: Mapping[str, Any] | None = None,
                 protocols: Sequence[str] | None = None, seed: int = SEED) -> None:
        self.clock = clock
        self.folder = folder
        self.seed = seed
        self.authority = Authority("Authority of a mailgate harness")
        extra = {} if protocols is None else {"protocols": tuple(protocols)}
        self.config: Config = configuration(settings or {}, folder, **extra)
        self._write_certificates()
        self.records = Records(clock.seconds)
        self.trouble = Trouble(seed)
        self.scenario: Scenario | None = None
        self.store = self._new_store()
        self.listeners = self._make_listeners()

    def _write_certificates(self) -> None:
        issued = self.authority.issue("localhost", "127.0.0.1", "::1", self.config.hostname)
        issued.write(self.folder)
        (self.folder / CA_FILE).write_bytes(self.authority.pem)

    def _new_store(self) -> MemoryStore:
        section = self.config.store
        return MemoryStore(clock=self.clock, lease_seconds=section.lease_seconds,
                           quota_octets=section.quota_octets, random=Random(self.seed))

    def _make_listeners(self) -> list[Listener]:
        config, random = self.config, Random(self.seed)
        doors = Doors(config, self.store, Inline(), self.clock)
        crowd = Crowd(None, None, per_address=config.limits.connections_per_address,
                      per_user=config.limits.connections_per_user, seconds=self.clock.seconds)
        growth = Growth(config.limits.failure_delay_seconds, config.limits.failure_growth,
                        config.limits.failure_delay_most_seconds, config.limits.failure_half_life_seconds)
        attempts = Attempts(Failures(growth, self.clock.seconds), crowd, self.clock.seconds,
                            hostname=config.hostname.encode())
        listeners = []
        for section in config.listen:
            tls: Any = TroubledTLS(self, section)
            factory = make_factory(config, section, self.store, doors, self.clock, tls, crowd, attempts)
            if isinstance(factory, POP3Factory):
                factory.connection = TroubledKPOP if isinstance(factory, KPOPFactory) else TroubledPOP3
                factory.harness = self                      # type: ignore[attr-defined]
                factory.shown_as = section.protocol         # type: ignore[attr-defined]
                factory.at_once = section.protocol == "pop3s"    # type: ignore[attr-defined]
                factory.random = random.randbytes
            elif hasattr(factory, "now_ms"):
                factory.now_ms = lambda: int(self.clock.seconds() * 1000)
            served = wrapped(factory, section, tls, self.clock)
            listeners.append(Listener(section, config.endpoint_of(section), factory, served))
        return listeners

    # Life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store. Listeners are bound by `listen`."""
        await self.store.start()
        for listener in self.listeners:
            prepare = getattr(listener.factory, "prepare", None)
            if prepare is not None:
                await maybeDeferred(prepare)

    async def listen(self, reactor: Any) -> None:
        """Bind every listener's endpoint. Raises: what Twisted's endpoints raise."""
        for listener in self.listeners:
            endpoint = serverFromString(reactor, listener.endpoint)
            listener.port = await endpoint.listen(LineFactory(listener.served, self.clock))

    async def stop(self) -> None:
        """Stop listening, end all sessions, close the store."""
        for listener in self.listeners:
            port, listener.port = listener.port, None
            if port is not None:
                await maybeDeferred(port.stopListening)
        self.cut_all()
        await DeferredList([listener.factory.shutdown() for listener in self.listeners])
        await self.store.stop()

    def cut_all(self) -> None:
        """End every connection at once."""
        for listener in self.listeners:
            for connection in list(listener.factory.idle.watched):
                connection.cut()

    def listener(self, protocol: str = "pop3") -> Listener:
        """Return the first listener of a protocol. Raises: LookupError."""
        for one in self.listeners:
            if one.protocol == protocol:
                return one
        raise LookupError(f"no listener speaks {protocol};"
                          f" there are {[one.protocol for one in self.listeners]}")

    def connect(self, protocol: str = "pop3", *, address: Address = LOOPBACK, **more: Any) -> Peer:
        """Return the client's end of a new connection in memory (testing/peers.py)."""
        return Peer(self.listener(protocol).served, clock=getattr(self.clock, "clock", self.clock),
                    address=address, **more)

    # Trouble ------------------------------------------------------------------------------------

    def make(self, scenario: Scenario) -> list[int]:
        """Switch a scenario's faults on in place of all others; return their ids.

        Raises: ConfigurationError, for a scenario that needs settings that this harness was not made with.
        """
        problems = [f"settings.{key}: the harness has to be started with it"
                    for key in missing(scenario.settings, self.config)]
        if problems:
            raise ConfigurationError(problems)
        self.trouble.clear(scenario.seed or self.seed)
        self.scenario = scenario
        return [self.trouble.add(fault) for fault in scenario.faults]

    def add_fault(self, fault: Fault) -> int:
        """Switch a fault on; return its id."""
        return self.trouble.add(fault)

    def remove_behind(self, maildrop: Any, number: int) -> None:
        """Remove a message that a session sees, as a server does that expunges under a session's feet."""
        maildrop.vanish(number)

    # Accounts and mail --------------------------------------------------------------------------

    async def add_account(self, name: str, *passwords: str, addresses: Sequence[str] = (),
                          domains: Sequence[str] = (), sdps: bool = False) -> None:
        """Add an account, or an SDPS host.

        Without addresses it receives NAME@hostname, a host all of NAME.hostname.
        Raises: AccountConflict.
        """
        hostname = self.config.hostname
        account = Account(
            name, sdps=sdps, addresses=tuple(addresses) or (() if sdps else (f"{name}@{hostname}",)),
            domains=tuple(domains) or ((f"{name}.{hostname}",) if sdps else ()),
            verifiers=tuple(hash_password(one.encode(), "PLAIN") for one in passwords))
        await self.store.accounts.add([account])

    async def add_message(self, maildrop: str, content: bytes, *, sender: str = "",
                          recipient: str | None = None, unique_id: str | None = None,
                          arrived: float | None = None, as_it_is: bool = True) -> str:
        """Put a message into a maildrop; return its unique-id.

        `as_it_is`: without header lines of our own in front, so that what is fetched is what was put in.
        """
        at = self.clock.seconds() if arrived is None else arrived
        address = recipient or f"{maildrop}@{self.config.hostname}"
        envelope = Envelope(sender.encode(), address.encode(), int(at * 1000))
        before = {one.unique_id for one in await self.store.scan(maildrop)}
        placement = Placement(maildrop, address.partition("@")[0].lower(), envelope,
                              b"" if as_it_is else preamble(envelope),
                              None if unique_id is None else unique_id.encode(),
                              None if unique_id is None else secrets.token_bytes(8))
        delivery = self.store.deliver()
        delivery.write(content)
        for outcome in await delivery.commit([placement], all_or_nothing=True):
            if outcome is not None:
                raise outcome
        fresh = [one.unique_id for one in await self.store.scan(maildrop) if one.unique_id not in before]
        return fresh[0].decode()

    async def messages(self, maildrop: str) -> list[Listed]:
        """Return what a maildrop holds now."""
        return list(await self.store.scan(maildrop))


def missing(wanted: Mapping[str, Any], config: Config) -> list[str]:
    """Return the keys of settings that a configuration does not have so."""
    found = []
    for table, settings in wanted.items():
        section = getattr(config, table, None)
        if isinstance(settings, Mapping):
            found += [f"{table}.{key}" for key, value in settings.items()
                      if getattr(section, key, None) != value]
        elif section != settings:
            found.append(table)
    return found


def wait_for(deferred: Deferred[Any]) -> Any:
    """Return the result of a Deferred that has fired: all of a harness's own do at once."""
    outcome: list[Any] = []
    deferred.addBoth(outcome.append)
    if not outcome:
        raise AssertionError("the harness had to wait")
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    return outcome[0]
