"""What a harness is configured with: as a service is, and everything that its user says on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mailgate.config import Config, read
from mailgate.errors import ConfigurationError

HOSTNAME = "mail.example.org"
ADDRESS = "127.0.0.1"
PROTOCOLS = ("pop3", "pop3s", "lmtp", "smtp")       # that are served unless others are asked for
SMTP = "smtp"       # which a service does not speak, and a harness does: read as if it were LMTP
SCRIPT = "script"   # neither: a written conversation
CHANGEABLE = ("pop3", "limits", "checker")          # tables that a scenario may change, besides `listen`

DEFAULTS: Mapping[str, Any] = {
    "hostname": HOSTNAME,
    "store": {"lease_seconds": 60},
    "pop3": {"last": True},
    "tls": {"certificate": "cert.pem", "key": "key.pem"},
    # a client that is tested tries wrong passwords, and many connections, on purpose
    "limits": {"failure_delay_seconds": 0, "failed_logins": 1000, "connections_per_address": 100_000,
               "connections_per_user": 100_000},
}


class Plan(NamedTuple):
    """What a harness serves. `protocols` has the name of each of `config.listen`, SMTP told from LMTP."""

    tables: Mapping[str, Any]       # it was read from these
    config: Config
    protocols: tuple[str, ...]


def plan(settings: Mapping[str, Any], folder: Path, protocols: Sequence[str] | None = None) -> Plan:
    """Return what a harness serves: the defaults, and over them what `settings` says.

    `settings` has the form of `mailgate.toml`, as tables. Its `listen` has rows of its own, which need
    no `endpoint`, in place of those of `protocols`; all other tables are laid over the defaults, key by key.
    KPOP is among the default protocols where `settings` has a table `kerberos`.
    Raises: ConfigurationError, with every problem.
    """
    _check(protocols)
    tables = overlaid(DEFAULTS, settings)
    if "listen" not in settings:
        by_default = (*PROTOCOLS, "kpop") if "kerberos" in settings else PROTOCOLS
        tables["listen"] = [{"protocol": one} for one in (by_default if protocols is None else protocols)]
    if isinstance(tables["listen"], (list, tuple)):
        tables["listen"] = [_listener(row) if isinstance(row, Mapping) else row for row in tables["listen"]]
    return _read(tables, folder)


def _check(protocols: Sequence[str] | None) -> None:
    """Refuse what a harness does not speak. Raises: ConfigurationError."""
    known = (*PROTOCOLS, "kpop")
    if isinstance(protocols, str):
        raise ConfigurationError([f"protocols: names are expected, such as ['pop3'], not {protocols!r}"])
    problems = [f"protocols[{index}]: unknown: {one!r}; known: {', '.join(known)}"
                for index, one in enumerate(protocols or ()) if one not in known]
    if problems:
        raise ConfigurationError(problems)


def changed(now: Plan, settings: Mapping[str, Any], folder: Path) -> Plan:
    """Return what is served once a scenario's settings are laid over a harness's.

    The listeners stay, with their ports: rows of `listen` say what is different for their protocol.
    Raises: ConfigurationError, with every problem, also for what needs a harness of its own.
    """
    tables = dict(now.tables)
    problems: list[str] = []
    for name, wanted in settings.items():
        if name == "listen":
            tables[name] = _changed_rows(now, wanted, problems)
        elif name in CHANGEABLE:
            tables[name] = overlaid({name: tables.get(name)}, {name: wanted})[name]
        else:
            problems += [f"{place}: the harness has to be started with it"
                         for place in _different(name, wanted, tables.get(name))]
    if problems:
        raise ConfigurationError([f"settings.{words}" for words in problems])
    try:
        return _read(tables, folder)
    except ConfigurationError as fault:
        raise ConfigurationError([f"settings.{words}" for words in fault.problems]) from fault


def without_scripts(settings: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
    """Return the rows of `listen` that are scripts (testing/scripted), and the settings without them.

    Where there are only such rows, the default protocols are served beside them.
    """
    rows = settings.get("listen")
    if not isinstance(rows, (list, tuple)):
        return [], settings
    scripts = [row for row in rows if isinstance(row, Mapping) and row.get("protocol") == SCRIPT]
    if not scripts:
        return [], settings
    others = [row for row in rows if row not in scripts]
    rest = {key: value for key, value in settings.items() if key != "listen"}
    return scripts, {**rest, "listen": others} if others else rest


def overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables with others laid over them."""
    result = dict(below)
    for key, value in above.items():
        under = result.get(key)
        if isinstance(value, Mapping) and isinstance(under, Mapping):
            result[key] = overlaid(under, value)
        else:
            result[key] = value
    return result


def _read(tables: Mapping[str, Any], folder: Path) -> Plan:
    rows = tables["listen"]
    if not isinstance(rows, list):
        return Plan(tables, read(tables, folder=folder), ())
    names = tuple(row.get("protocol", "") if isinstance(row, dict) else "" for row in rows)
    as_lmtp = [{**row, "protocol": "lmtp"} if name == SMTP else row
               for name, row in zip(names, rows, strict=True)]
    return Plan(tables, read({**tables, "listen": as_lmtp}, folder=folder), names)


def _listener(row: Mapping[str, Any]) -> dict[str, Any]:
    preset: dict[str, Any] = {"endpoint": f"tcp:0:interface={ADDRESS}"}
    if row.get("protocol") in ("pop3", "pop3s"):
        preset["plaintext_login"] = True
    return {**preset, **row}


def _changed_rows(now: Plan, wanted: Any, problems: list[str]) -> list[Any]:
    """Return the rows of `listen`, each with what is said of its protocol."""
    rows = [dict(row) for row in now.tables["listen"]]
    if not isinstance(wanted, (list, tuple)) or not all(isinstance(row, Mapping) for row in wanted):
        problems.append("listen: tables are expected, each with a protocol")
        return rows
    for index, change in enumerate(wanted):
        protocol = change.get("protocol")
        if protocol not in now.protocols:
            problems.append(f"listen[{index}].protocol: none of those that are served:"
                            f" {', '.join(now.protocols)}")
        elif "endpoint" in change:
            problems.append(f"listen[{index}].endpoint: the harness has to be started with it")
        for row in rows:
            if row["protocol"] == protocol:
                row.update(change)
    return rows


def _different(name: str, wanted: Any, there: Any) -> list[str]:
    """Return the keys that are wanted otherwise than they are."""
    if isinstance(wanted, Mapping) and isinstance(there, Mapping):
        return [f"{name}.{key}" for key, value in wanted.items() if there.get(key) != value]
    return [] if wanted == there else [name]
