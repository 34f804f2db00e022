"""`mailgate account`: who may log in, and what they receive."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import click

from mailgate.auth.keeping import kinds_of
from mailgate.auth.schemes import scheme_of
from mailgate.cli.app_passwords import password
from mailgate.cli.arguments import as_text, moment, name_argument
from mailgate.cli.commands import Settings, pass_settings
from mailgate.cli.passwords import read_verifiers
from mailgate.cli.received import address, domain
from mailgate.cli.running import with_store
from mailgate.cli.telling import Refusal, field
from mailgate.model import Account
from mailgate.names import fold


@click.group()
def account() -> None:
    """Add, list, change and remove accounts."""


for group in (address, domain, password):
    account.add_command(group)

password_option = click.option(
    "--password-stdin", "from_stdin", is_flag=True,
    help="Read one password a line from standard input (an SDPS host may have two); else ask.")
adopt_option = click.option(
    "--adopt", is_flag=True, help="Take over the maildrop of that name which another checker's user has.")


def keep_options(command: Any) -> Any:
    """Add the options that say what is kept of a password beside its hash."""
    for option in (
            click.option("--hash-only", is_flag=True,
                         help="Keep nothing but the hash, whatever the configuration says."),
            click.option("--apop", is_flag=True, help="Keep the password itself, in clear: for APOP."),
            click.option("--cram", is_flag=True,
                         help="Keep what CRAM-MD5 needs; as good as the password there."),
            click.option("--scram", is_flag=True, help="Keep keys for SCRAM-SHA-256 and SCRAM-SHA-1.")):
        command = option(command)
    return command


def _kinds(config: Any, had: Collection[str], *, hash_only: bool, **asked: bool) -> set[str]:
    """Return what to keep: what is asked for, configured, or was kept before."""
    chosen = {kind for kind, wanted in asked.items() if wanted}
    if hash_only and chosen:
        raise click.UsageError("--hash-only leaves no room for --scram, --cram or --apop.")
    return set() if hash_only else chosen | set(config.accounts.keep or ()) | set(had)


@account.command()
@name_argument
@click.option("--address", "addresses", multiple=True, callback=as_text, metavar="A@D",
              help="Receive mail for this address (repeatable); else for NAME at the hostname.")
@click.option("--sdps", is_flag=True,
              help="Make an SDPS host: all users of its domains, up to two passwords.")
@click.option("--domain", "domains", multiple=True, callback=as_text, metavar="D",
              help="With --sdps: receive mail for this domain (repeatable); else for NAME.hostname.")
@adopt_option
@keep_options
@password_option
@pass_settings
def add(settings: Settings, name: str, addresses: tuple[str, ...], sdps: bool, domains: tuple[str, ...],
        adopt: bool, from_stdin: bool, **keep: bool) -> None:
    """Add an account."""
    if sdps and addresses:
        raise click.UsageError("An SDPS host receives by --domain, not by --address.")
    if domains and not sdps:
        raise click.UsageError("--domain is for SDPS hosts: add --sdps.")
    config = settings.config
    verifiers = read_verifiers(from_stdin=from_stdin, sdps=sdps, kinds=_kinds(config, (), **keep))
    added = new_account(name, config.hostname, verifiers, addresses=addresses, sdps=sdps, domains=domains)
    with_store(config, lambda store: store.accounts.add([added], adopt=adopt), create=True)


def new_account(name: str, hostname: str, verifiers: tuple[str, ...], *, addresses: tuple[str, ...] = (),
                sdps: bool = False, domains: tuple[str, ...] = ()) -> Account:
    """Return an account; what it receives by default follows from its name and the hostname."""
    if sdps:
        return Account(name, sdps=True, verifiers=verifiers, domains=domains or (f"{name}.{hostname}",))
    own = name if "@" in name else f"{name}@{hostname}"
    return Account(name, verifiers=verifiers, addresses=addresses or (own,))


@account.command("list")
@pass_settings
def list_(settings: Settings) -> None:
    """List accounts: name, kind, state, what it receives, last login; TAB-separated."""
    for one in with_store(settings.config, lambda store: store.accounts.list()):
        columns = [one.name, "sdps" if one.sdps else "ordinary", "disabled" if one.disabled else "enabled",
                   ",".join(one.domains if one.sdps else one.addresses), moment(one.last_login_ms)]
        click.echo("\t".join(field(column) for column in columns))


@account.command()
@name_argument
@pass_settings
def show(settings: Settings, name: str) -> None:
    """Show one account: a line for each thing there is to say, TAB-separated."""

    async def work(store: Any) -> tuple[Account, int]:
        return await store.accounts.get(name), len(await store.accounts.app_passwords(name))

    one, app_passwords = with_store(settings.config, work)
    lines = [("name", one.name), ("kind", "sdps" if one.sdps else "ordinary"),
             ("state", "disabled" if one.disabled else "enabled"),
             *(("address", received) for received in one.addresses),
             *(("domain", received) for received in one.domains),
             *(("password", scheme_of(verifier)) for verifier in one.verifiers),
             ("app-passwords", str(app_passwords)), ("last-login", moment(one.last_login_ms))]
    for what, value in lines:
        click.echo(f"{what}\t{field(value)}")


@account.command()
@name_argument
@click.option("--none", "take_away", is_flag=True,
              help="Take the password away: app passwords and proofs of other kinds still log in.")
@click.option("--revoke-all", is_flag=True, help="Revoke all app passwords too.")
@keep_options
@password_option
@pass_settings
def passwd(settings: Settings, name: str, take_away: bool, revoke_all: bool, from_stdin: bool,
           **keep: bool) -> None:
    """Change an account's password, or an SDPS host's passwords.

    What was kept for SCRAM and CRAM-MD5 is kept of the new password too. App passwords stay.
    """
    config = settings.config
    if take_away and (from_stdin or any(keep.values())):
        raise click.UsageError("--none leaves no password of which anything could be kept.")

    async def work(store: Any) -> None:
        found = await store.accounts.get(name)
        kinds = _kinds(config, kinds_of(found.verifiers), **keep)
        verifiers = () if take_away else read_verifiers(
            from_stdin=from_stdin, sdps=found.sdps, kinds=kinds)
        await store.accounts.set_verifiers(name, verifiers, revoke_app_passwords=revoke_all)

    with_store(config, work)


@account.command()
@name_argument
@pass_settings
def disable(settings: Settings, name: str) -> None:
    """Refuse an account's logins; its mail is still taken."""
    with_store(settings.config, lambda store: store.accounts.set_disabled(name, True))


@account.command()
@name_argument
@pass_settings
def enable(settings: Settings, name: str) -> None:
    """Let an account log in again."""
    with_store(settings.config, lambda store: store.accounts.set_disabled(name, False))


@account.command()
@name_argument
@pass_settings
def remove(settings: Settings, name: str) -> None:
    """Remove an account with all its mail."""
    with_store(settings.config, lambda store: store.accounts.remove(name))


@account.command()
@click.argument("file", metavar="FILE")
@adopt_option
@pass_settings
def load(settings: Settings, file: str, adopt: bool) -> None:
    """Add the accounts of a passwd-file (name:{SCHEME}hash, one a line), all of them or none.

    FILE may be - for standard input. Further fields of Dovecot's form are passed over.
    """
    config = settings.config
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as fault:
        raise Refusal(f"{file}: {fault.strerror}", code=os.EX_NOINPUT) from fault
    found = _read_passwd_file(content, config.hostname)

    async def work(store: Any) -> None:
        taken = {fold(one.name) for one in await store.accounts.list()}
        twice = [f"line {number}: there is an account {one.name} already"
                 for number, one in found if fold(one.name) in taken]
        if twice:
            raise Refusal(*twice, "nothing was loaded")
        await store.accounts.add([one for _, one in found], adopt=adopt)

    with_store(config, work, create=True)
    click.echo(f"{len(found)} accounts loaded")


def _read_passwd_file(content: bytes, hostname: str) -> list[tuple[int, Account]]:
    """Return the accounts with their line numbers. Raises: Refusal, with every line that is wrong."""
    from mailgate.auth.passwdfile import parse

    found: list[tuple[int, Account]] = []
    wrong: list[str] = []
    first: dict[str, int] = {}
    for number, line in enumerate(content.split(b"\n"), 1):
        entries, problems = parse(line)
        wrong += [f"line {number}: {reason}" for _, reason in problems]
        for key, entry in entries.items():
            if first.setdefault(key, number) != number:
                wrong.append(f"line {number}: {entry.name} stands in line {first[key]} already")
            verifiers = () if entry.verifier is None else (entry.verifier,)
            found.append((number, new_account(entry.name, hostname, verifiers)))
    if wrong:
        raise Refusal(*wrong, "nothing was loaded", code=os.EX_DATAERR)
    return found
