"""The command line's grammar at its root. A subcommand's module is imported when it is called for.

A delivery agent is started for every message, so what one command needs is not loaded for another.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click

from mailgate.config import Config, load
from mailgate.errors import ConfigurationError

PLACES = ("mailgate.toml", "/etc/mailgate/mailgate.toml")      # where a configuration is looked for
VARIABLE = "MAILGATE_CONFIG"


class LazyGroup(click.Group):
    """A group that knows its subcommands as `module:attribute`."""

    def __init__(self, *args: Any, lazy: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all subcommands, in the order in which help shows them."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a subcommand, or None when there is none of this name."""
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


class Settings:
    """The configuration, read when a command first asks for it."""

    def __init__(self, path: str | None) -> None:
        self._given = path

    @property
    def path(self) -> Path:
        """The file. Raises: ConfigurationError, if none was given and none is found."""
        if self._given:
            return Path(self._given)
        for place in PLACES:
            if Path(place).is_file():
                return Path(place)
        raise ConfigurationError([f"no configuration: give -c FILE or set {VARIABLE}, or make one by "
                                  f"`mailgate init DIR`; there is no {' and no '.join(PLACES)}"])

    @property
    def config(self) -> Config:
        """The configuration. Raises: ConfigurationError, every problem behind the file's name."""
        path = self.path
        try:
            return load(path)
        except ConfigurationError as fault:
            raise ConfigurationError([f"{path}: {problem}" for problem in fault.problems]) from fault


pass_settings = click.make_pass_decorator(Settings)


@click.group(cls=LazyGroup, lazy={
    "init": "mailgate.cli.starting:init",
    "account": "mailgate.cli.accounts:account",
    "deliver": "mailgate.cli.delivering:deliver",
    "import": "mailgate.cli.taking:import_",
    "migrate": "mailgate.cli.migrating:migrate",
    "maildrop": "mailgate.cli.maildrops:maildrop",
    "store": "mailgate.cli.stores:store",
    "check": "mailgate.cli.checking:check",
    "conformance": "mailgate.cli.conformance:conformance",
    "harness": "mailgate.cli.harness:harness",
}, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-c", "--config", "path", metavar="FILE", envvar=VARIABLE, type=click.Path(),
              help=f"The configuration; else ${VARIABLE}, {', '.join(PLACES)}.")
@click.version_option(package_name="mailgate", message="%(prog)s %(version)s")
@click.pass_context
def mailgate(ctx: click.Context, path: str | None) -> None:
    """Look after the maildrops that `twistd mailgate` serves."""
    ctx.obj = Settings(path)



