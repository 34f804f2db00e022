"""What a test says to a harness, and asks of it: the same words for every way to run one.

`mailgate.testing.Server` runs its harness in a thread and on sockets, `mailgate.testing.memory.MemoryServer`
runs it in memory and without a thread. Both are a `Face`; they differ in how a call gets to the harness.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mailgate.testing.harness.core import CA_FILE, Harness
from mailgate.testing.harness.records import LoginTry, SessionRecord
from mailgate.testing.maildrops import Call, Maildrop
from mailgate.testing.switches import ActiveFault, scenario_of
from mailgate.testing.trouble.model import Fault, Scenario
from mailgate.testing.trouble.reading import read_fault

if TYPE_CHECKING:   # loaded by who plays scripts
    from mailgate.testing.scripted.face import Scripted
    from mailgate.testing.scripted.model import Script

Address = tuple[str, int]       # host and port
Mark = dict[int, tuple[SessionRecord, int]]     # of each session, by its identity: how many events it had


class HeldClock:
    """The harness's clock in a test's hand."""

    def __init__(self, call: Call, harness: Harness) -> None:
        self._call = call
        self._clock = harness.clock

    @property
    def now(self) -> float:
        """Seconds since 1970."""
        return float(self._call(self._clock.seconds))

    @property
    def held(self) -> bool:
        """Whether time stands still."""
        return bool(self._call(lambda: self._clock.held))

    def hold(self) -> None:
        """Let time stand still from now on."""
        self._call(self._clock.hold)

    def run(self) -> None:
        """Let time go on from where it stands."""
        self._call(self._clock.run)

    def advance(self, seconds: float) -> None:
        """Move time on, held or not, and do on the way what becomes due. Raises: ValueError."""
        self._call(self._clock.let_pass, seconds)


class Face:
    """What Server and MemoryServer have in common. They give `_harness` and `_call`."""

    _harness: Harness
    _stopped = False

    def _call(self, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
        """Call a function of the harness; return its result, or that of its Deferred or coroutine."""
        raise NotImplementedError

    def _do(self, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
        """Call a function that needs a server which was not stopped. Raises: RuntimeError."""
        if self._stopped:
            raise RuntimeError("the server is stopped: what was said can be read yet, and nothing else")
        return self._call(function, *args, **more)

    # Where it is ------------------------------------------------------------------------------

    def address(self, protocol: str) -> Address:
        """Return host and port of a protocol. Raises: LookupError, where it does not listen."""
        return self._harness.listener(protocol).address

    @property
    def pop3(self) -> Address:
        """Host and port of POP3, with STLS."""
        return self.address("pop3")

    @property
    def pop3s(self) -> Address:
        """Host and port of POP3 inside TLS."""
        return self.address("pop3s")

    @property
    def kpop(self) -> Address:
        """Host and port of POP3 behind a Kerberos ticket."""
        return self.address("kpop")

    @property
    def lmtp(self) -> Address:
        """Host and port of LMTP, to deliver."""
        return self.address("lmtp")

    @property
    def smtp(self) -> Address:
        """Host and port of SMTP, to deliver."""
        return self.address("smtp")

    @property
    def hostname(self) -> str:
        """What the server calls itself: its mail addresses end so."""
        return self._harness.config.hostname

    @property
    def ca_file(self) -> str:
        """The file of the authority that a client has to trust, in PEM form."""
        return str(Path(self._harness.folder) / CA_FILE)

    def ssl_context(self) -> ssl.SSLContext:
        """Return what a client in Python does TLS with, trusting this server and nobody else."""
        return ssl.create_default_context(cafile=self.ca_file)

    def url(self, protocol: str = "pop3", user: str | None = None, password: str | None = None) -> str:
        """Return the address as curl and others take it: `pop3s://user:password@host:port`."""
        host, port = self.address(protocol)
        words = [quote(word, safe="") for word in (user, password) if word is not None]
        return f"{protocol}://{':'.join(words)}{'@' if words else ''}{host}:{port}"

    # Who has mail -----------------------------------------------------------------------------

    def account(self, name: str, *passwords: str, addresses: Sequence[str] = (),
                domains: Sequence[str] = ()) -> Maildrop:
        """Add an account; return its maildrop. It receives NAME@hostname, or `addresses`.

        Raises: AccountConflict.
        """
        self._do(self._harness.add_account, name, *passwords, addresses=addresses, domains=domains)
        return self.maildrop(name)

    def host(self, name: str, *passwords: str, domains: Sequence[str] = ()) -> Maildrop:
        """Add an SDPS host; return its maildrop. It receives all of NAME.hostname, or of `domains`.

        Raises: AccountConflict.
        """
        self._do(self._harness.add_account, name, *passwords, domains=domains, sdps=True)
        return self.maildrop(name)

    def maildrop(self, name: str) -> Maildrop:
        """Return a maildrop by its name: that of its account, or of its SDPS host."""
        return Maildrop(self._do, self._harness, name)

    # What goes wrong --------------------------------------------------------------------------

    def fault(self, do: str | Fault, **settings: Any) -> ActiveFault:
        """Switch a fault on: its kind, when it acts, and the settings of the kind (trouble/model.py).

        Raises: ConfigurationError, with every problem.
        """
        made = do if isinstance(do, Fault) else read_fault({"do": do, **settings})
        return ActiveFault(self._call, self._harness, self._do(self._harness.add_fault, made), made)

    def scenario(self, scenario: Scenario | Mapping[str, Any] | Path | str, *,
                 maildrops: Sequence[str] = ()) -> list[ActiveFault]:
        """Switch a scenario on in place of all faults that are on; return its faults.

        It is given by its name in the library, as TOML text, as a file, as tables, or itself. The messages
        that it needs are put into the maildrops that are named.
        Raises: ConfigurationError, with every problem; LookupError, for a name that there is not; OSError;
        NoSuchAccount, for a maildrop that is nobody's.
        """
        if isinstance(maildrops, str):
            raise TypeError(f"maildrops: names are expected, such as [{maildrops!r}]")
        made = scenario_of(scenario)
        ids = self._do(self._harness.make, made)
        for name in maildrops:
            self._call(self._harness.fill, name, made)
        return [ActiveFault(self._call, self._harness, *row) for row in zip(ids, made.faults, strict=True)]

    @property
    def faults(self) -> list[ActiveFault]:
        """The faults that are on, in the order in which they act."""
        found: dict[int, Fault] = self._call(self._harness.trouble.faults)
        return [ActiveFault(self._call, self._harness, *row) for row in found.items()]

    def clear_faults(self) -> None:
        """Switch all faults off."""
        self._call(self._harness.make, Scenario(""))

    def lose_leases(self, after: float = 0.0) -> None:
        """Take all open maildrops away from their sessions, as happens to a server that was stopped so long
        that its leases ran out: QUIT is refused and removes nothing, and others may log in meanwhile.

        `after`: in so many seconds of the harness's clock; `[store] lease_seconds` is 60 in a service.
        """
        self._do(self._harness.lose_leases, after)

    def settle(self) -> None:
        """Return when what clients have sent until now was read and answered."""

    # Scripts ----------------------------------------------------------------------------------

    def script(self, script: Script | Path | str, *, tls: bool = False, name: str | None = None,
               mismatch: str | None = None,
               events: Mapping[str, Callable[[], object]] | None = None) -> Scripted:
        """Play a written conversation, on a port of its own, to whoever connects (testing/scripted).

        It is a text, the path of a file, or one that was read. `tls`: from the first octet. `mismatch`:
        "close" or "refuse" what fits nowhere. `events`: what `E:` lines call.
        Raises: ConfigurationError, for a script that means nothing.
        """
        row = {"script": script, "tls": tls, "name": name, "mismatch": mismatch, "events": events}
        listener = self._do(self._harness.add_script, row)
        return self._scripted(listener)

    @property
    def scripts(self) -> dict[str, Scripted]:
        """All scripts that are played, by name: "script", "script-2" ... unless they have others."""
        return {one.protocol: self._scripted(one) for one in self._harness.scripts}

    def _scripted(self, listener: Any) -> Scripted:
        from mailgate.testing.scripted.face import Scripted

        return Scripted(self, self._call, listener)

    # What was said, and when ------------------------------------------------------------------

    @property
    def sessions(self) -> list[SessionRecord]:
        """All sessions since the start or the last reset, the earliest first."""
        found: list[SessionRecord] = self._call(lambda: list(self._harness.records))
        return found

    @property
    def deliveries(self) -> list[SessionRecord]:
        """All connections that brought mail, by LMTP or SMTP, since the start or the last reset."""
        found: list[SessionRecord] = self._call(lambda: list(self._harness.deliveries))
        return found

    @property
    def logins(self) -> list[LoginTry]:
        """All logins that were tried, in all sessions."""
        return [one for session in self.sessions for one in session.logins]

    @property
    def retrieved(self) -> list[str]:
        """Unique-ids of the messages whose content was sent whole, in all sessions, in order."""
        return [one for session in self.sessions for one in session.retrieved]

    @property
    def deleted(self) -> list[str]:
        """Unique-ids of the messages that QUIT removed for good, in all sessions, in order."""
        return [one for session in self.sessions for one in session.deleted]

    def transcript(self, *, secrets: bool = False) -> str:
        """Return what was said in all sessions, then in all deliveries, as C: and S: lines.

        Passwords are masked unless asked for.
        """
        from mailgate.testing.showing import show_all

        return show_all([*self.sessions, *self.deliveries], secrets)

    def mark(self) -> Mark:
        """Return how much was said until now, for `report`. Waits for nobody."""
        return {id(one): (one, len(one.events)) for one in self._harness.every_record()}

    def report(self, since: Mark | None = None, *, secrets: bool = False) -> str:
        """Return what a test should show that failed: what was said, and what went wrong in the server.

        `since`: the mark that was made before the test. Sessions in which nothing was said since are left
        out, and where nothing is left the text is empty. None: the server is the test's own.
        """
        from mailgate.testing.showing import show_all

        known = since or {}

        def fresh() -> list[SessionRecord]:
            return [one.copy() for one in self._harness.every_record()
                    if id(one) not in known or len(one.events) > known[id(one)][1]]

        told = self._call(fresh) if self.sessions or self.deliveries else []
        parts = [show_all(told, secrets)] if told or since is None else []
        return "\n".join([*parts, *(f"# in the server: {one}" for one in self.problems)]).rstrip()

    @property
    def problems(self) -> list[str]:
        """Exceptions in the server that nobody expected."""
        return []

    @property
    def clock(self) -> HeldClock:
        """The clock of everything here."""
        return HeldClock(self._call, self._harness)

    def reset(self) -> None:
        """Be as when it was started: end all connections; forget accounts, mail, faults and sessions.

        Ports and certificates stay; the clock is set back, the next session has the number 1.
        """
        self._do(self._harness.reset)
