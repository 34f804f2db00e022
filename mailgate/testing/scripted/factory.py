"""A listener that plays a script, and what a test wants to know of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory

from mailgate.errors import ConfigurationError
from mailgate.testing.harness.records import Records
from mailgate.testing.scripted.model import CLOSE, REFUSE, Mismatch, Script
from mailgate.testing.scripted.notation import ScriptError
from mailgate.testing.scripted.playing import Player
from mailgate.testing.scripted.protocol import ScriptedConnection

PROTOCOL = "script"
KEYS = ("protocol", "script", "tls", "endpoint", "name", "mismatch", "events")


class ScriptFactory(Factory):
    """Plays a script to every client that connects, each a session of its own number.

    `tls` is what startTLS takes; `name` is the protocol that records have. `events` has what `E:` lines call.
    Raises: ScriptError, for an event that is not there.
    """

    noisy = False

    def __init__(self, script: Script, clock: Any, records: Records, *, tls: Any = None, name: str = PROTOCOL,
                 events: Mapping[str, Callable[[], object]] | None = None) -> None:
        self.script = script
        self.clock = clock
        self.records = records
        self.tls = tls
        self.name = name
        self._events = dict(events or {})
        unknown = sorted(script.events - self._events.keys())
        if unknown:
            raise ScriptError(f"E: {unknown[0]}: there is no such event; there are {sorted(self._events)}")
        self.idle = SimpleNamespace(watched=set())      # connections that stand, as a service's factory has
        self.forget()

    def forget(self) -> None:
        """Begin anew with the first session."""
        self.sessions = 0                       # that have begun
        self.finished = 0                       # that were played to their end
        self.mismatches: list[Mismatch] = []
        self.kept: list[dict[str, bytes]] = []  # by session that has ended: names, and what was kept there

    def buildProtocol(self, addr: Any) -> ScriptedConnection:
        """Return the next session."""
        self.sessions += 1
        return ScriptedConnection(self, self.sessions)

    def missed(self, mismatch: Mismatch) -> None:
        """Keep it that a client said otherwise."""
        self.mismatches.append(mismatch)

    def happen(self, name: str) -> None:
        """Call an event of an E: line."""
        self._events[name]()

    def ended(self, connection: ScriptedConnection, player: Player) -> None:
        """Forget a connection."""
        self.idle.watched.discard(connection)
        self.finished += player.finished
        self.kept.append(dict(player.kept))

    def shutdown(self) -> Deferred[None]:
        """End all connections."""
        for connection in list(self.idle.watched):
            connection.cut()
        return succeed(None)


def script_factory(harness: Any, row: Mapping[str, Any]) -> tuple[ScriptFactory, Any]:
    """Return the factory of a row `{"protocol": "script", "script": ..., "tls": ...}`, and what serves it.

    `script`: a path, or the text (what has a line end, or begins as a line of a script does). `tls`: from the
    first octet. `mismatch`: "close" or "refuse", over what the script says. `name`: the protocol of its
    records. `events`: functions by name.
    Raises: ConfigurationError.
    """
    from mailgate.testing.harness.tls import TroubledTLS

    given = row.get("script", "")
    where = str(given) if isinstance(given, Path) else "listen.script"
    problems = [f"{where}.{key}: unknown; there are {', '.join(KEYS)}" for key in row if key not in KEYS]
    if row.get("mismatch") not in (None, CLOSE, REFUSE):
        problems.append(f"{where}.mismatch: {row['mismatch']!r} is none of {CLOSE}, {REFUSE}")
    if problems:
        raise ConfigurationError(problems)
    name = row.get("name") or PROTOCOL
    section = SimpleNamespace(protocol=name, tls_profile=None, client_certificates=None, implicit_tls=False)
    tls = TroubledTLS(harness, section)         # type: ignore[arg-type]
    try:
        script = read_any(given)
        if row.get("mismatch"):
            script = Script(script.sections, row["mismatch"], script.events)
        factory = ScriptFactory(script, harness.clock, harness.records, tls=tls, name=name,
                                events=row.get("events"))
    except (ValueError, OSError) as fault:       # ScriptError, or what is no path, or no text
        words = fault.strerror if isinstance(fault, OSError) else fault
        place = given if isinstance(fault, OSError) else where
        raise ConfigurationError([f"{place}: {words}"]) from fault
    clock: Any = harness.clock
    return factory, TLSMemoryBIOFactory(tls, False, factory, clock) if row.get("tls") else factory


def read_any(script: Script | Path | str) -> Script:
    """Return a script that is given as text, or by the path of its file. Raises: ScriptError, OSError."""
    from mailgate.testing.scripted.reading import load_script, read_script

    if isinstance(script, Script):
        return script
    if isinstance(script, Path):
        return load_script(script)
    is_text = not script or "\n" in script or re.match(r"\s*[A-Z]+:( |\Z)", script)
    return read_script(script) if is_text else load_script(Path(script))
