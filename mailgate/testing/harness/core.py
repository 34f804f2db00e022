"""The harness itself: a whole mailgate in memory, and what a test wants to do with it and to know of it.

Everything here belongs to one reactor's thread; with a `MemoryReactor`-like clock and connections in memory
there is no thread at all. `mailgate.testing.Server` is the same for programs that block.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from mailgate.auth.invented import FAMILIES
from mailgate.auth.kept import LEAST_SCRAM_ITERATIONS, SCRAM_SALT_OCTETS
from mailgate.auth.schemes import hash_password
from mailgate.config import Config
from mailgate.errors import MessageMalformed, NoSuchAccount
from mailgate.model import Account, Envelope, Listed, Placement
from mailgate.net.certificates import read_identity
from mailgate.testing.certificates import Authority
from mailgate.testing.harness.listening import Listener, Listeners
from mailgate.testing.harness.records import Records, SessionRecord
from mailgate.testing.harness.settings import Plan, changed, plan, without_scripts
from mailgate.testing.harness.store import HarnessStore
from mailgate.testing.peers import LOOPBACK, Address, Peer
from mailgate.testing.trouble.active import Trouble
from mailgate.testing.trouble.model import Fault, Scenario
from mailgate.wire.headers import preamble

CA_FILE = "ca.pem"
SEED = 0
DAY_SECONDS = 86400
DELIVERED_OCTETS = 64 * 1024 * 1024    # that records of deliveries may take, roughly
SECRET_OCTETS = 32      # of what SCRAM is answered from for names that are nobody's
SHOWN_NAMES = 20        # of accounts, to somebody who has misspelt one


class Harness:
    """A server in memory: accounts, maildrops, listeners, trouble, records.

    `records` are of sessions, `deliveries` of connections that brought mail.

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
        scripts, settings = without_scripts(settings or {})
        self._as_started: Plan = plan(settings, folder, protocols)
        self._plan = self._as_started
        self.names = ("localhost", "127.0.0.1", "::1", self.config.hostname)     # of the good certificate
        self._write_certificates()
        self.records = Records(clock.seconds)
        self.deliveries = Records(clock.seconds, kept_in_all=DELIVERED_OCTETS, called="delivery")
        self.watchers: list[Callable[[], object]] = []      # told of mail, and of ends of connections
        self.trouble = Trouble(seed)
        self.scenario: Scenario | None = None
        self.store = self._new_store()
        self._listeners = Listeners(self)
        self._listeners.serve(self._plan)
        for row in scripts:
            wait_for(Deferred.fromCoroutine(self._listeners.add_script(row)))

    @property
    def config(self) -> Config:
        """What it is configured with now, SMTP listeners as if they were of LMTP."""
        return self._plan.config

    @property
    def listeners(self) -> list[Listener]:
        """What it serves, scripts too."""
        return self._listeners.every

    @property
    def scripts(self) -> list[Listener]:
        """Listeners that play a script."""
        return list(self._listeners.scripts)

    def _write_certificates(self) -> None:
        self.authority.issue(*self.names).write(self.folder)
        (self.folder / CA_FILE).write_bytes(self.authority.pem)
        self.identity = read_identity(self.folder / "cert.pem", self.folder / "key.pem")    # the good one

    def _new_store(self) -> HarnessStore:
        section = self.config.store
        days = section.retention_days
        store = HarnessStore(clock=self.clock, retention_seconds=None if days is None else days * DAY_SECONDS,
                             housekeeping_seconds=section.housekeeping_seconds,
                             quota_octets=section.quota_octets, random=Random(self.seed))
        store.told = self.tell
        store.accounts.take_secret(Random(f"{self.seed} secret").randbytes(SECRET_OCTETS))
        return store

    def random_of(self, session: int) -> Callable[[int], bytes]:
        """Return a source of octets for a session's challenges: the same in every run, whoever else talks."""
        return Random(f"{self.seed} session {session}").randbytes

    def every_record(self) -> list[SessionRecord]:
        """Return the records of sessions, then those of deliveries."""
        return [*self.records, *self.deliveries]

    def tell(self) -> None:
        """Tell who watches that something has changed besides what is in the records."""
        for watcher in list(self.watchers):
            watcher()

    # Life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store. Listeners are bound by `listen`."""
        await self.store.start()
        await self._listeners.prepare()

    async def listen(self, reactor: Any) -> None:
        """Bind every listener's endpoint; none, if one cannot be. Raises: what Twisted's endpoints raise."""
        await self._listeners.listen(reactor)

    async def stop(self) -> None:
        """Stop listening, end all sessions, close the store."""
        await self._listeners.close()
        await self._listeners.shutdown()
        await self.store.stop()

    def cut_all(self) -> None:
        """End every connection at once."""
        self._listeners.cut_all()

    def reset(self) -> None:
        """Be as when it was started: end all connections; forget accounts, mail, faults and sessions.

        Ports and certificates stay; the clock is set back, and what was left to chance comes again.
        """
        self.cut_all()
        self.store.stop()
        self.clock.restart()
        self.records.reset()
        self.deliveries.reset()
        self.trouble.clear(self.seed)
        self.scenario = None
        for listener in self.scripts:
            listener.factory.forget()
        self.store = self._new_store()
        self.store.start()
        self._serve(self._as_started)

    def _serve(self, wanted: Plan) -> None:
        """Serve something else behind the same ports; connections that stand keep what they have."""
        before, self._plan = self._plan, wanted
        try:
            self._listeners.serve(wanted)
        except BaseException:
            self._plan = before
            raise
        self._listeners.prepare()

    def connections(self) -> int:
        """Return how many clients are connected, by whatever protocol."""
        return self._listeners.connections()

    def listener(self, protocol: str = "pop3") -> Listener:
        """Return the first listener of a protocol. Raises: LookupError."""
        return self._listeners.find(protocol)

    def connect(self, protocol: str = "pop3", *, address: Address = LOOPBACK, **more: Any) -> Peer:
        """Return the client's end of a new connection in memory (testing/peers.py)."""
        return Peer(self.listener(protocol).served, clock=getattr(self.clock, "clock", self.clock),
                    address=address, **more)

    async def add_script(self, row: Mapping[str, Any]) -> Listener:
        """Play a script to whoever connects; see scripted/factory.py for what `row` may have.

        Raises: ConfigurationError; what Twisted's endpoints raise.
        """
        return await self._listeners.add_script(row)

    # Trouble ------------------------------------------------------------------------------------

    def make(self, scenario: Scenario) -> list[int]:
        """Switch a scenario's faults on in place of all others, and its settings; return the faults' ids.

        Settings are of new connections; those of the scenario before are undone.
        Raises: ConfigurationError, for settings that are wrong, or that need a harness of their own.
        """
        wanted = self._as_started
        if scenario.settings:
            wanted = changed(wanted, scenario.settings, self.folder)
        if wanted.tables != self._plan.tables:
            self._serve(wanted)
        self.trouble.clear(scenario.seed or self.seed)
        self.scenario = scenario
        return [self.trouble.add(fault) for fault in scenario.faults]

    async def fill(self, maildrop: str, scenario: Scenario) -> list[str]:
        """Put the messages into a maildrop that a scenario needs (samples.py); return their unique-ids.

        Raises: LookupError, for a sample that there is not.
        """
        from mailgate.testing import samples

        contents = samples.all_contents(scenario.messages)
        return [await self.add_message(maildrop, one) for one in contents]

    def add_fault(self, fault: Fault) -> int:
        """Switch a fault on; return its id."""
        return self.trouble.add(fault)

    def remove_behind(self, maildrop: Any, number: int) -> None:
        """Remove a message that a session sees, as a server does that expunges under a session's feet."""
        maildrop.vanish(number)

    def has_vanished(self, maildrop: Any, number: int) -> bool:
        """Return whether a message that a session sees is gone from the store."""
        return bool(maildrop._has_lost(number))

    # Accounts and mail --------------------------------------------------------------------------

    async def add_account(self, name: str, *passwords: str, addresses: Sequence[str] = (),
                          domains: Sequence[str] = (), sdps: bool = False) -> None:
        """Add an account, or an SDPS host.

        Without addresses it receives NAME@hostname, a host all of NAME.hostname.
        Raises: AccountConflict; TypeError, for what is no text.
        """
        for what, one in [("name", name), *(("password", one) for one in passwords)]:
            if not isinstance(one, str):
                raise TypeError(f"a {what} is a text, not {type(one).__name__}")
        hostname = self.config.hostname
        account = Account(
            name, sdps=sdps, addresses=tuple(addresses) or (() if sdps else (f"{name}@{hostname}",)),
            domains=tuple(domains) or ((f"{name}.{hostname}",) if sdps else ()),
            verifiers=self._verifiers(name, passwords))
        await self.store.accounts.add([account])

    def _verifiers(self, name: str, passwords: Sequence[str]) -> tuple[str, ...]:
        """Return what every mechanism needs: the passwords, and SCRAM keys that cost a test little time."""
        given = [one.encode() for one in passwords]
        made = [hash_password(one, "PLAIN") for one in given]
        for scheme, family in FAMILIES.items():
            salt = Random(f"{self.seed} {scheme} {name}").randbytes(SCRAM_SALT_OCTETS)
            made += [f"{{{scheme}}}{family.make_salted(one, salt, LEAST_SCRAM_ITERATIONS).decode()}"
                     for one in given]
        return tuple(made)

    async def add_message(self, maildrop: str, content: bytes, *, sender: str = "",
                          recipient: str | None = None, unique_id: str | None = None,
                          arrived: float | None = None, as_it_is: bool = True) -> str:
        """Put a message into a maildrop; return its unique-id.

        `as_it_is`: without header lines of our own in front, so that what is fetched is what was put in.
        Raises: NoSuchAccount, where nobody could fetch it; MessageMalformed, for a unique-id that cannot be,
        or is taken; OverQuota.
        """
        await self._must_be_somebodys(maildrop)
        if unique_id is not None and unique_id.encode() in self.store.octets_of(maildrop):
            raise MessageMalformed(f"a message of {maildrop} has the unique-id {unique_id}")
        at = self.clock.seconds() if arrived is None else arrived
        address = recipient or f"{maildrop}@{self.config.hostname}"
        envelope = Envelope(sender.encode(), address.encode(), int(at * 1000))
        placement = Placement(maildrop, address.partition("@")[0].lower(), envelope,
                              b"" if as_it_is else preamble(envelope),
                              None if unique_id is None else unique_id.encode(),
                              None if unique_id is None else secrets.token_bytes(8))
        delivery = self.store.deliver()
        delivery.write(content)
        for outcome in await delivery.commit([placement], all_or_nothing=True):
            if outcome is not None:
                raise outcome
        return self.store.latest_id(maildrop).decode()

    async def _must_be_somebodys(self, maildrop: str) -> None:
        try:
            await self.store.accounts.get(maildrop)
        except NoSuchAccount as fault:
            names = [one.name for one in await self.store.accounts.list()][:SHOWN_NAMES]
            raise NoSuchAccount(f"{maildrop}; there are {', '.join(names) or 'none'}") from fault

    async def _must_be_there(self, maildrop: str) -> None:
        """Raises: NoSuchAccount. Who is known to another checker has mail without an account here."""
        if not self.store.has_maildrop(maildrop):
            await self._must_be_somebodys(maildrop)

    async def messages(self, maildrop: str) -> list[Listed]:
        """Return what a maildrop holds now. Raises: NoSuchAccount, where it is nobody's."""
        await self._must_be_there(maildrop)
        return list(await self.store.scan(maildrop))

    async def contents(self, maildrop: str) -> list[tuple[Listed, bytes]]:
        """Return what a maildrop holds now, each message with its octets (CRLF, not byte-stuffed).

        Raises: NoSuchAccount.
        """
        listed = await self.messages(maildrop)
        octets = self.store.octets_of(maildrop)
        return [(one, octets[one.unique_id]) for one in listed]

    async def remove_message(self, maildrop: str, unique_id: str) -> None:
        """Remove a message for good, also from under a session. Raises: LookupError, NoSuchAccount."""
        await self._must_be_there(maildrop)
        if not self.store.discard(maildrop, [unique_id.encode()]):
            raise LookupError(f"{maildrop} has no message {unique_id}")

    async def clear_maildrop(self, maildrop: str) -> None:
        """Remove all of a maildrop's mail, also from under a session. Raises: NoSuchAccount."""
        await self._must_be_there(maildrop)
        self.store.discard(maildrop)

    def lose_leases(self, after: float = 0.0) -> None:
        """Let every lease of now have run out in so many seconds, as if this server slept from now on."""
        if after > 0:
            self.clock.callLater(after, self.store.lose_leases, self.store.holder)
        else:
            self.store.lose_leases()


def wait_for(deferred: Deferred[Any]) -> Any:
    """Return the result of a Deferred that has fired: all of a harness's own do at once."""
    outcome: list[Any] = []
    deferred.addBoth(outcome.append)
    if not outcome:
        raise AssertionError("the harness had to wait")
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    return outcome[0]
