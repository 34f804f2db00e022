"""`mailgate account address` and `domain`: what an account receives, changed afterwards."""

from __future__ import annotations

from typing import Any

import click

from mailgate.cli.arguments import as_text, name_argument
from mailgate.cli.commands import Settings, pass_settings
from mailgate.cli.running import with_store
from mailgate.cli.telling import Refusal


@click.group()
def address() -> None:
    """Add and remove addresses of an account."""


@click.group()
def domain() -> None:
    """Add and remove domains of an SDPS host."""


address_argument = click.argument("received", metavar="A@D", callback=as_text)
domain_argument = click.argument("received", metavar="D", callback=as_text)


@address.command("add")
@name_argument
@address_argument
@pass_settings
def add_address(settings: Settings, name: str, received: str) -> None:
    """Receive mail for one more address, and log in by it."""
    with_store(settings.config, lambda store: _add(store, name, received, sdps=False))


@address.command("remove")
@name_argument
@address_argument
@pass_settings
def remove_address(settings: Settings, name: str, received: str) -> None:
    """Take an address away; what came for it stays."""
    with_store(settings.config, lambda store: _remove(store, name, received, sdps=False))


@domain.command("add")
@name_argument
@domain_argument
@pass_settings
def add_domain(settings: Settings, name: str, received: str) -> None:
    """Receive mail for all of one more domain, and log in by it."""
    with_store(settings.config, lambda store: _add(store, name, received, sdps=True))


@domain.command("remove")
@name_argument
@domain_argument
@pass_settings
def remove_domain(settings: Settings, name: str, received: str) -> None:
    """Take a domain away; what came for it stays."""
    with_store(settings.config, lambda store: _remove(store, name, received, sdps=True))


async def _add(store: Any, name: str, received: str, *, sdps: bool) -> None:
    await _see_kind(store, name, sdps)
    await store.accounts.add_received(name, received)


async def _remove(store: Any, name: str, received: str, *, sdps: bool) -> None:
    await _see_kind(store, name, sdps)
    await store.accounts.remove_received(name, received)


async def _see_kind(store: Any, name: str, sdps: bool) -> None:
    """Refuse the other kind's command. Raises: NoSuchAccount."""
    account = await store.accounts.get(name)
    if account.sdps is not sdps:
        raise Refusal(f"{account.name} is an SDPS host: it has domains, no addresses" if account.sdps
                      else f"{account.name} is no SDPS host: it has addresses, no domains")
