"""`mailgate maildrop`: what the maildrops hold."""

from __future__ import annotations

from typing import Any

import click

from mailgate.cli.arguments import name_argument
from mailgate.cli.commands import Settings, pass_settings
from mailgate.cli.running import with_store
from mailgate.cli.telling import Refusal, field
from mailgate.model import Listed


@click.group()
def maildrop() -> None:
    """Look into maildrops."""


@maildrop.command("list")
@name_argument
@pass_settings
def list_(settings: Settings, name: str) -> None:
    """List a maildrop: number, octets, unique-id, sender, recipient; TAB-separated.

    The null sender is written <>. Backslashes and control characters are escaped.
    """
    for one in with_store(settings.config, lambda store: listing(store, name)):
        click.echo(line_of(one))


@maildrop.command()
@name_argument
@pass_settings
def remove(settings: Settings, name: str) -> None:
    """Remove a maildrop that no account has, with all its mail: another checker's user left it."""
    with_store(settings.config, lambda store: remove_left(store, name))


async def remove_left(store: Any, name: str) -> None:
    """Remove a maildrop that no account has. Raises: Refusal, if one has it; MaildropInUse."""
    login = await store.accounts.find_login(name)
    if login is not None and login.view is None:
        raise Refusal(f"{name} is an account's: mailgate account remove {login.account.name}")
    await store.remove(name)


async def listing(store: Any, name: str) -> list[Listed]:
    """Return what a maildrop holds. Raises: NoSuchAccount, if nobody ever had one of this name."""
    found: list[Listed] = await store.scan(name)
    if not found:
        await store.accounts.get(name)      # one that is empty, or a slip of the pen?
    return found


def line_of(one: Listed) -> str:
    """Return one line of the listing."""
    sender = field(one.envelope.sender) or "<>"
    recipient = field(one.envelope.recipient)
    return f"{one.number}\t{one.octets}\t{field(one.unique_id)}\t{sender}\t{recipient}"


