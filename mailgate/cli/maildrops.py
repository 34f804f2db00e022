"""`mailgate maildrop`: what the maildrops hold."""

from __future__ import annotations

from typing import Any

import click

from mailgate.cli.arguments import name_argument
from mailgate.cli.commands import Settings, pass_settings
from mailgate.cli.running import with_store
from mailgate.cli.telling import Refusal, field
from mailgate.errors import NoSuchFolder
from mailgate.interfaces import IFolderStore
from mailgate.model import INBOX, Listed
from mailgate.names import find_folder


@click.group()
def maildrop() -> None:
    """Look into maildrops."""


@maildrop.command("list")
@name_argument
@click.option("--folder", default=INBOX, show_default=True, help="The folder to list; POP3 shows INBOX only.")
@pass_settings
def list_(settings: Settings, name: str, folder: str) -> None:
    """List a maildrop: number, octets, unique-id, sender, recipient; TAB-separated.

    The null sender is written <>. Backslashes and control characters are escaped.
    """
    for one in with_store(settings.config, lambda store: listing(store, name, folder)):
        click.echo(line_of(one))


@maildrop.command("folders")
@name_argument
@pass_settings
def folders_(settings: Settings, name: str) -> None:
    """List the folders of a maildrop: name, messages, octets; TAB-separated."""
    for folder, listed in with_store(settings.config, lambda store: contents(store, name)):
        click.echo(f"{field(folder)}\t{len(listed)}\t{sum(one.octets for one in listed)}")


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


async def listing(store: Any, name: str, folder: str = INBOX) -> list[Listed]:
    """Return what a folder of a maildrop holds.

    Raises: NoSuchAccount, if nobody ever had one of this name; NoSuchFolder.
    """
    found: list[Listed] = await store.scan(name, folder)
    if not found:                           # one that is empty, or a slip of the pen?
        known = await folder_names(store, name)
        if known == [INBOX]:
            await store.accounts.get(name)
        if find_folder(folder) not in known:
            raise NoSuchFolder(f"{name} has no folder {folder!r}")
    return found


async def contents(store: Any, name: str) -> list[tuple[str, list[Listed]]]:
    """Return all folders with what they hold. Raises: NoSuchAccount, if nobody ever had such a maildrop."""
    await listing(store, name)
    return [(folder, await store.scan(name, folder)) for folder in await folder_names(store, name)]


async def folder_names(store: Any, name: str) -> list[str]:
    """Return the folders of a maildrop: INBOX alone, where the store has no others."""
    if not IFolderStore.providedBy(store):
        return [INBOX]
    names: list[str] = await store.folders(name)
    return names


def line_of(one: Listed) -> str:
    """Return one line of the listing."""
    sender = field(one.envelope.sender) or "<>"
    recipient = field(one.envelope.recipient)
    return f"{one.number}\t{one.octets}\t{field(one.unique_id)}\t{sender}\t{recipient}"


