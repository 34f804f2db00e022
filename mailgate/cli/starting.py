"""`mailgate init`: a configuration to begin with, and an empty store."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import click

from mailgate.cli.rights import owner_of_folder, take_on
from mailgate.cli.telling import Refusal
from mailgate.config import load
from mailgate.config.values import BadValue, host_name

FILE_NAME = "mailgate.toml"
TEMPLATE = """\
# mailgate: what this service is. Paths are relative to this file's folder.
# Every setting there is, with its meaning, stands in etc/mailgate.toml of the distribution.
# After a change: mailgate -c {file} check

hostname = "{hostname}"

[store]
metadata = "sqlite:mail.db"         # accounts, envelopes, small messages
bodies = "file:bodies"              # larger messages, a file each

[[listen]]                          # where mail is fetched: POP3 and SDPS
protocol = "pop3"
endpoint = "tcp:1110:interface=127.0.0.1"
# plaintext_login = true            # passwords in clear: left out, only from this machine

[[listen]]                          # where mail comes in; `mailgate deliver` is the other way
protocol = "lmtp"
endpoint = "tcp:2424:interface=127.0.0.1"
# endpoint = "unix:lmtp.sock:mode=660"
"""


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--hostname", metavar="NAME", help="The name of this mail host; else that of the machine.")
def init(folder: Path, hostname: str | None) -> None:
    """Write DIR/mailgate.toml and make an empty store. Overwrites nothing."""
    try:
        name = host_name(hostname) if hostname is not None else own_name()
    except BadValue as fault:
        raise click.UsageError(f"--hostname: {fault}.") from fault
    user = owner_of_folder(folder)
    if user is not None:        # what root makes in somebody's folder is his
        take_on(user)
    file = write_configuration(folder, name)
    make_store(file)
    click.echo(f"{file} is written; the next step: mailgate -c {file} account add NAME")


def own_name() -> str:
    """Return the machine's name if it is a host name, else localhost."""
    try:
        return host_name(socket.gethostname())
    except BadValue:
        return "localhost"


def write_configuration(folder: Path, hostname: str, text: str = TEMPLATE) -> Path:
    """Write the first configuration and return its path. Raises: Refusal, if anything is in the way."""
    file = folder / FILE_NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for taken in (folder / "mail.db", folder / "bodies"):
            if taken.exists():
                raise FileExistsError(0, "is there already", str(taken))
        with open(file, "x", encoding="utf-8") as written:      # never one that is there
            written.write(text.replace("{file}", str(file)).replace("{hostname}", hostname))
    except FileExistsError as fault:
        raise Refusal(f"{fault.filename} is there already; nothing was written",
                      code=os.EX_CANTCREAT) from fault
    except OSError as fault:
        raise Refusal(f"{fault.filename}: {fault.strerror}", code=os.EX_CANTCREAT) from fault
    return file


def make_store(file: Path) -> None:
    """Make the store that a configuration names."""
    from mailgate.cli.running import with_store

    async def nothing(store: Any) -> None:
        pass

    with_store(load(file), nothing, create=True)
