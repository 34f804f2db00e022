"""What a harness is configured with: as a service is, and everything that its user says on top."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mailgate.config import Config, read

HOSTNAME = "mail.example.org"
ADDRESS = "127.0.0.1"
PROTOCOLS = ("pop3", "pop3s", "lmtp")       # that are served unless others are asked for

DEFAULTS: Mapping[str, Any] = {
    "hostname": HOSTNAME,
    "store": {"lease_seconds": 60},
    "pop3": {"last": True},
    "tls": {"certificate": "cert.pem", "key": "key.pem"},
    # a client that is tested tries wrong passwords, and many connections, on purpose
    "limits": {"failure_delay_seconds": 0, "failed_logins": 1000, "connections_per_address": 100_000,
               "connections_per_user": 100_000},
}


def configuration(settings: Mapping[str, Any], folder: Path,
                  protocols: tuple[str, ...] = PROTOCOLS) -> Config:
    """Return a harness's configuration: the defaults, and over them what `settings` says.

    `settings` has the form of `mailgate.toml`, as tables. Its `listen` has rows of its own, which need
    no `endpoint`, in place of those of the default `protocols`; all other tables are laid over the defaults,
    key by key.
    Raises: ConfigurationError, with every problem.
    """
    raw = overlaid(DEFAULTS, settings)
    rows = settings.get("listen") or [{"protocol": protocol} for protocol in protocols]
    raw["listen"] = [_listener(row) if isinstance(row, Mapping) else row for row in rows]
    return read(raw, folder=folder)


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


def _listener(row: Mapping[str, Any]) -> dict[str, Any]:
    preset: dict[str, Any] = {"endpoint": f"tcp:0:interface={ADDRESS}"}
    if row.get("protocol") in ("pop3", "pop3s", "kpop"):
        preset["plaintext_login"] = True
    return {**preset, **row}
