"""What the command line of `mailgate harness` asks for, read: settings, scenario, accounts, ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from mailgate.errors import ConfigurationError
from mailgate.testing import scenarios
from mailgate.testing.harness import settings as harness_settings
from mailgate.testing.trouble.model import Scenario
from mailgate.testing.trouble.reading import parse_scenario, tomllib

API = "api"     # stands for a protocol in --port
SCRIPT = harness_settings.SCRIPT


class Asked(NamedTuple):
    """What the command line asks for. `source` is the file that `settings` were read from, or empty."""

    settings: Mapping[str, Any]
    source: str
    protocols: tuple[str, ...] | None
    scenario: Scenario | None
    accounts: tuple[tuple[str, str], ...]
    api_port: int
    held: bool
    seed: int
    console: bool
    verbose: bool
    scripts: tuple[Mapping[str, Any], ...] = ()     # rows as scripted/factory.py takes them


def read_asked(protocols: Sequence[str], file: str | None, scenario: str | None, accounts: Sequence[str],
               fixed: Sequence[str], *, scripts: tuple[Sequence[str], Sequence[str]] = ((), ()),
               **more: Any) -> Asked:
    """Read everything; `scripts` are files, in clear and inside TLS.

    Raises: click.UsageError, ConfigurationError.
    """
    settings = {} if file is None else read_settings(file)
    if protocols and "listen" in settings:
        raise click.UsageError(f"--protocol, or `listen` in {file}: give one.")
    found = None if scenario is None else read_scenario(scenario)
    named = tuple(read_account(one) for one in accounts)
    places = dict(read_place(one) for one in fixed)
    api_port = places.pop(API, 0)
    rows: list[dict[str, Any]] = [{"script": Path(one), "tls": tls}
                                  for tls in (False, True) for one in scripts[tls]]
    if rows and SCRIPT in places:
        rows[0]["endpoint"] = f"tcp:{places.pop(SCRIPT)}:interface={harness_settings.ADDRESS}"
    if places:
        settings = placed(settings, protocols, places)
    return Asked(needed(settings, found), file or "", tuple(protocols) or None, found, named, api_port,
                 scripts=tuple(rows), **more)


def read_settings(file: str) -> Mapping[str, Any]:
    """Return the tables of a file. Raises: ConfigurationError, behind the file's name."""
    try:
        return tomllib.loads(_text(file))
    except (ValueError, RecursionError) as fault:
        raise ConfigurationError([f"{file}: no TOML that can be read: {fault}"]) from fault


def read_scenario(name: str) -> Scenario:
    """Return one of the library, or that of a file. Raises: ConfigurationError, click.UsageError."""
    if name in scenarios.names():
        return scenarios.load(name)
    if not name.endswith(".toml") and "/" not in name and not Path(name).is_file():
        try:
            return scenarios.load(name)
        except LookupError as fault:
            words = fault.args[0]
            raise click.UsageError(f"--scenario: {words}{'' if words.endswith('?') else '.'}") from None
    text = _text(name)
    try:
        return parse_scenario(text, Path(name).stem)
    except ConfigurationError as fault:
        raise ConfigurationError([f"{name}: {problem}" for problem in fault.problems]) from fault


def _text(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as fault:
        raise ConfigurationError([f"{file}: {fault.strerror}"]) from fault
    except UnicodeDecodeError as fault:
        raise ConfigurationError([f"{file}: not UTF-8"]) from fault


def read_account(written: str) -> tuple[str, str]:
    """Return name and password. Raises: click.UsageError."""
    name, colon, password = written.partition(":")
    if not name or not colon:
        raise click.UsageError("--account: NAME:PASSWORD is expected.")
    return name, password


def read_place(written: str) -> tuple[str, int]:
    """Return protocol and port. Raises: click.UsageError."""
    protocol, _, port = written.partition("=")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536):
        raise click.UsageError(f"--port {written}: PROTOCOL=N is expected, with N from 1 to 65535.")
    return protocol, int(port)


def placed(settings: Mapping[str, Any], protocols: Sequence[str], places: Mapping[str, int]
           ) -> Mapping[str, Any]:
    """Return settings whose listeners have these ports. Raises: click.UsageError."""
    rows = settings.get("listen", [{"protocol": one} for one in protocols or harness_settings.PROTOCOLS])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return settings     # which will be told
    served = [row.get("protocol") for row in rows]
    for protocol in places:
        if protocol not in served:
            raise click.UsageError(f"--port {protocol}={places[protocol]}: this is not served; there are "
                                   f"{', '.join(map(str, served))}, api.")
    rows = [dict(row) for row in rows]
    for protocol, port in places.items():
        endpoint = f"tcp:{port}:interface={harness_settings.ADDRESS}"
        rows[served.index(protocol)]["endpoint"] = endpoint
    return {**settings, "listen": rows}


def needed(settings: Mapping[str, Any], scenario: Scenario | None) -> Mapping[str, Any]:
    """Return settings over those with which a harness has to be started for a scenario."""
    if scenario is None:
        return settings
    changeable = (*harness_settings.CHANGEABLE, "listen")
    return harness_settings.overlaid(
        {name: table for name, table in scenario.settings.items() if name not in changeable}, settings)
