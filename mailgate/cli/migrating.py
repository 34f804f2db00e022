"""`mailgate migrate`: take over from another server while it still runs, so that no client fetches twice."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable
from typing import Any, BinaryIO, NamedTuple

import click

from mailgate.auth.servertls import AnyServer, NamedServer, read_authorities
from mailgate.cli.arguments import as_text
from mailgate.cli.commands import Settings, pass_settings
from mailgate.cli.moving import Wishes
from mailgate.cli.moving_many import Job, Many, Shown
from mailgate.cli.passwords import read_password_elsewhere
from mailgate.cli.running import with_store
from mailgate.cli.telling import Refusal
from mailgate.config import Config
from mailgate.config.stores import none_optional
from mailgate.importing.matching import UNCOUNTED
from mailgate.names import fold
from mailgate.net.pop3_client import TIMEOUT_SECONDS
from mailgate.net.pop3_source import POP3_PORT, POP3S_PORT, Credentials, Door

PARALLEL = 4            # accounts at a time: a courtesy to the other server
MOST_PARALLEL = 64


@click.group()
def migrate() -> None:
    """Take over from another server while it still runs."""


class Trust(NamedTuple):
    """What the command line says of TLS."""

    tls: str | None
    ca: BinaryIO | None
    name: str | None
    insecure: bool


@migrate.command()
@click.argument("host", metavar="HOST[:PORT]", callback=as_text)
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--user", metavar="USER", help="The login name there; by default NAME.")
@click.option("--password-stdin", is_flag=True, help="Read the password there from standard input.")
@click.option("--batch", type=click.File("rb"), metavar="FILE",
              help="Move many accounts: lines of NAME, TAB, login name there, TAB, password; - is standard "
                   "input.")
@click.option("--parallel", type=click.IntRange(1, MOST_PARALLEL), default=PARALLEL, show_default=True,
              help="How many accounts at a time.")
@click.option("--tls", type=click.Choice(["implicit", "starttls", "none"]),
              help="How TLS begins: by default at once where no port or 995 is given, else by STLS. none "
                   "sends passwords and mail in clear.")
@click.option("--ca", type=click.File("rb"), metavar="FILE",
              help="Trust these authorities (PEM), not the system's; a self-signed certificate will do.")
@click.option("--tls-name", metavar="NAME", help="The name in the server's certificate, if it is not HOST.")
@click.option("--insecure", is_flag=True, help="Believe any certificate, and speak TLS 1.0 and 1.1 too.")
@click.option("--apop", is_flag=True, help="Log in by APOP.")
@click.option("--copy", is_flag=True, help="Fetch messages that are missing here, with their unique-ids.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing here.")
@click.option("--ignore-sizes", is_flag=True,
              help="Equal header fields are enough: for a server whose sizes are all wrong.")
@click.option("--ignore-header", multiple=True, metavar="NAME",
              help="A header field that only one side has, as filters add them; may be given several times.")
@click.option("--timeout", type=click.FloatRange(1, 3600), default=TIMEOUT_SECONDS, show_default=True,
              metavar="SECONDS", help="How long the server may say nothing.")
@click.option("--progress/--no-progress", default=None,
              help="Show progress on standard error; by default where that is a terminal.")
@pass_settings
def pop3(settings: Settings, host: str, name: str | None, user: str | None, password_stdin: bool,
         batch: BinaryIO | None, parallel: int, tls: str | None, ca: BinaryIO | None, tls_name: str | None,
         insecure: bool, apop: bool, copy: bool, dry_run: bool, ignore_sizes: bool,
         ignore_header: tuple[str, ...], timeout: float, progress: bool | None) -> int:
    """Give messages here the unique-ids that a POP3 server shows for the same ones.

    Messages are the same if their header fields and the sizes of their bodies are. Nothing is removed
    or changed at the server. What was taken over before costs nothing again, so a run may be repeated.

    One line an account: its name, done or failed, and counts. Exit codes: 0 done, also where messages have
    no partner; 67 no such account here, 69 the server cannot be reached, or trusted, or has no unique-ids,
    75 try again (a maildrop is in use ...), 77 it refuses the login.
    """
    config = none_optional(settings.config)     # what a store that is down has would be fetched again
    if copy:
        see_ids_are_shown(config)
    door = read_door(host, Trust(tls, ca, tls_name, insecure), timeout)
    if batch is not None:
        if name is not None or user is not None or password_stdin:
            raise click.UsageError("--batch says who is moved: no NAME, --user or --password-stdin with it.")
        jobs = read_batch(batch, apop)
    elif name is None:
        raise click.UsageError("Give a NAME, or --batch FILE.")
    else:
        password = read_password_elsewhere(from_stdin=password_stdin)
        jobs = [Job(as_name(name), Credentials(os.fsencode(user or name), password, apop))]
    wishes = Wishes(copy=copy, dry_run=dry_run, ignore_sizes=ignore_sizes,
                    uncounted=UNCOUNTED.union(one.rstrip(":").lower().encode() for one in ignore_header))
    shown = Shown(sys.stderr.isatty() if progress is None else progress, len(jobs))

    def work(store: Any) -> Awaitable[int]:
        from twisted.internet import reactor

        return Many(store, config, reactor, door, wishes, shown).carry_out(jobs, parallel)

    return with_store(config, work)


def see_ids_are_shown(config: Config) -> None:
    """Raise Refusal where clients would not see the unique-ids of new mail as they are."""
    merge, taker = config.store.merge, config.store.deliver_to
    if merge is not None and taker not in (None, merge[0]):
        raise Refusal(f"--copy: store.deliver_to is {taker}, whose unique-ids are shown behind its name:"
                      f" clients would fetch all again. Copy with {merge[0]} there, or without the merge",
                      code=os.EX_CONFIG)


def as_name(name: str) -> str:
    """Return a name that is text. Raises: Refusal."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Refusal(f"{name}: not UTF-8") from None
    return name


# Where ----------------------------------------------------------------------------------------


def read_door(host: str, trust: Trust, timeout_seconds: float) -> Door:
    """Return where the server is and how it is spoken to. Raises: click.UsageError, Refusal."""
    name, port = read_host(host)
    tls = trust.tls or ("implicit" if port in (None, POP3S_PORT) else "starttls")
    port = port or (POP3S_PORT if tls == "implicit" else POP3_PORT)
    if tls == "none":
        if trust.ca or trust.name or trust.insecure:
            raise click.UsageError("Without TLS there is no certificate: no --ca, --tls-name or --insecure.")
        return Door(name, port, tls, None, timeout_seconds)
    if trust.insecure and (trust.ca or trust.name):
        raise click.UsageError("With --insecure any certificate will do: no --ca or --tls-name.")
    try:
        creator: Any = AnyServer(name) if trust.insecure else NamedServer(
            trust.name or name, read_authorities(trust.ca.read()) if trust.ca else None)
    except UnicodeError:
        raise click.UsageError(f"{trust.name or name} is no host name.") from None
    except ValueError as fault:
        raise Refusal(f"{trust.ca.name if trust.ca else '--ca'}: {fault}") from fault
    return Door(name, port, tls, creator, timeout_seconds)


def read_host(text: str) -> tuple[str, int | None]:
    """Return host and port of `HOST`, `HOST:PORT`, `[ADDRESS]:PORT`. Raises: click.UsageError."""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or rest[:1] not in ("", ":"):
            raise click.UsageError(f"{text} is not [ADDRESS]:PORT.")
        port = rest[1:] if rest else None
    elif text.count(":") > 1:       # an address of IPv6 by itself
        host, port = text, None
    else:
        host, colon, rest = text.partition(":")
        port = rest if colon else None
    if not host or any(one.isspace() for one in host):
        raise click.UsageError(f"{text!r} names no host.")
    if port is None:
        return host, None
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise click.UsageError(f"{port!r} is no port.")
    return host, int(port)


# Who ------------------------------------------------------------------------------------------


def read_batch(file: BinaryIO, apop: bool) -> list[Job]:
    """Return the jobs of a batch, in order. Raises: Refusal, naming every line that is none."""
    jobs: dict[str, Job] = {}
    wrong = []
    for number, line in enumerate(file.read().split(b"\n"), 1):
        line = line.removesuffix(b"\r")
        if not line:
            continue
        columns = line.split(b"\t", 2)
        if len(columns) < 3 or not all(columns):
            wrong.append(f"line {number}: not a name, a login name and a password, with TABs between them")
            continue
        try:
            name = columns[0].decode()
        except UnicodeDecodeError:
            wrong.append(f"line {number}: the name is not UTF-8")
            continue
        if fold(name) in jobs:
            wrong.append(f"line {number}: {name} a second time")
        jobs[fold(name)] = Job(name, Credentials(columns[1], columns[2], apop))
    if wrong:
        raise Refusal(*wrong)
    return list(jobs.values())
