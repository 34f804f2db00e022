"""The service's console: its token, what it watches, and the site that it is served by."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailgate.config import Config
from mailgate.errors import ConfigurationError

if TYPE_CHECKING:
    from mailgate.console.site import ConsoleFactory

TOKEN_OCTETS = 32
LEAST_CHARACTERS = 20       # of a token that somebody chose


class ServiceConsole:
    """The console of one service. `clock`: the reactor. Made before anything is opened.

    Raises: ConfigurationError, without the package that WebSockets need.
    """

    def __init__(self, config: Config, store: Any, clock: Any,
                 listeners: Callable[[], list[tuple[str, str]]]) -> None:
        # loaded only where there is a console: twisted.web costs every start a tenth of a second
        try:
            from mailgate.console.site import ConsoleFactory, Facts
        except ModuleNotFoundError as fault:
            if fault.name != "wsproto":
                raise
            raise ConfigurationError(
                ["console: needs the package wsproto: pip install 'mailgate[console]'"]) from fault
        from mailgate.console.access import Access
        from mailgate.console.watched import Watch

        section, path = config.console, config.console_token_path
        assert section is not None and path is not None, "the configuration was checked"
        self.token_path = path
        self.watched = Watch(clock.seconds)
        self.access = Access(names=(config.hostname, *section.names))
        facts = Facts(hostname=config.hostname, version=_version(), listeners=listeners, store=store)
        self.site: ConsoleFactory = ConsoleFactory(facts, self.access, self.watched, clock)

    def watch(self, factory: Any, protocol: str) -> None:
        """Have a listener's factory make connections that are watched."""
        from mailgate.console.watching import watch

        watch(factory, protocol, self.watched)

    def prepare(self, port: Any) -> None:
        """Read the token, or make one; know where it is served. Raises: ConfigurationError."""
        self.access.token = read_token(self.token_path)
        self.access.port = getattr(port.getHost(), "port", 0)


def read_token(path: Path) -> str:
    """Return the token of a file; one that is not there is made, for its owner alone.

    Raises: ConfigurationError.
    """
    where = f"console.token_file: {path}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path, where)
    except OSError as fault:
        raise ConfigurationError([f"{where} cannot be made: {fault.strerror}"]) from fault
    token = secrets.token_urlsafe(TOKEN_OCTETS)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    return token


def _read(path: Path, where: str) -> str:
    try:
        with path.open("rb") as file:
            others = os.fstat(file.fileno()).st_mode & 0o077
            token = file.read(4096).decode("ascii", "replace").strip()
    except OSError as fault:
        raise ConfigurationError([f"{where} cannot be read: {fault.strerror}"]) from fault
    if others:
        raise ConfigurationError([f"{where} can be read or written by others: chmod 600"])
    if len(token) < LEAST_CHARACTERS or not token.isprintable() or " " in token or "\ufffd" in token:
        raise ConfigurationError(
            [f"{where} holds no token: {LEAST_CHARACTERS} characters of ASCII or more, without blanks"])
    return token


def _version() -> str:
    try:
        return version("mailgate")
    except PackageNotFoundError:
        return "?"
