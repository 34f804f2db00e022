"""`mailgate account password`: passwords for single programs and devices, beside an account's own."""

from __future__ import annotations

import click

from mailgate.auth.apppasswords import generate, verifier_of
from mailgate.auth.schemes import hash_password, scheme_of
from mailgate.cli.arguments import as_text, moment, name_argument
from mailgate.cli.commands import Settings, pass_settings
from mailgate.cli.passwords import read_app_password
from mailgate.cli.running import with_store
from mailgate.cli.telling import field
from mailgate.model import AppPassword


@click.group()
def password() -> None:
    """Add, list and revoke app passwords: one for each program or device."""


label_argument = click.argument("label", callback=as_text)


@password.command()
@name_argument
@label_argument
@click.option("--password-stdin", "from_stdin", is_flag=True,
              help="Read the password from standard input; else a strong one is made and printed, this once.")
@pass_settings
def add(settings: Settings, name: str, label: str, from_stdin: bool) -> None:
    """Add an app password, known by LABEL: the name of a program or device."""
    generated = None
    if from_stdin:
        added = AppPassword(label, hash_password(read_app_password()))
    else:
        generated = generate()
        added = AppPassword(label, verifier_of(generated), generated=True)
    with_store(settings.config, lambda store: store.accounts.add_app_password(name, added))
    if generated is not None:
        click.echo(generated)


@password.command("list")
@name_argument
@pass_settings
def list_(settings: Settings, name: str) -> None:
    """List app passwords: label, creation, last use (time and address), scheme; TAB-separated."""
    for one in with_store(settings.config, lambda store: store.accounts.app_passwords(name)):
        last = moment(one.last_used_ms, "never")
        used = f"{last} {one.last_used_from}" if one.last_used_from else last
        columns = [one.label, moment(one.created_ms), used, scheme_of(one.verifier)]
        click.echo("\t".join(map(field, columns)))


@password.command()
@name_argument
@label_argument
@pass_settings
def revoke(settings: Settings, name: str, label: str) -> None:
    """Remove an app password: no login by it from now on. Sessions that are open go on."""
    with_store(settings.config, lambda store: store.accounts.revoke_app_passwords(name, label))
