"""`mailgate store`: copy one store into another, read a whole one through, sweep."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from mailgate.cli.arguments import as_text
from mailgate.cli.commands import Settings, pass_settings
from mailgate.cli.running import with_stores
from mailgate.cli.telling import Refusal
from mailgate.config import Config, load
from mailgate.config.stores import MAIN, WHOLE, collide, none_optional, only, sections
from mailgate.errors import ConfigurationError

LEAST_GRACE_SECONDS = 3600      # no delivery takes longer from a body's end to its row


optional_name = click.argument("name", required=False,
                               callback=lambda ctx, param, value: value and as_text(ctx, param, value))


@click.group()
def store() -> None:
    """Look after whole stores: "store" is that of [store], NAME that of [stores.NAME]."""


@store.command()
@click.argument("source", metavar="FROM", callback=as_text)
@click.argument("target", metavar="TO", callback=as_text)
@click.option("--verify", type=click.Choice(["copied", "all", "none"]), default="copied", show_default=True,
              help="Which messages are read back from TO and compared.")
@click.option("--accounts", type=click.Choice(["add", "update", "none"]), default="add", show_default=True,
              help="Whether accounts that TO has already are left as they are, or made what FROM has.")
@click.option("--maildrop", "maildrops", metavar="NAME", multiple=True, callback=as_text,
              help="Copy this maildrop alone, and its account; may be repeated.")
@click.option("--prune", is_flag=True,
              help="Remove from TO what an earlier run copied and FROM has no more. TO must have been filled"
                   " from FROM alone.")
@click.option("--progress/--no-progress", default=None,
              help="Show progress on standard error; by default where that is a terminal.")
@pass_settings
def copy(settings: Settings, source: str, target: str, progress: bool | None, **wishes: Any) -> None:
    """Copy all of FROM into TO: accounts, and every message as it is.

    FROM and TO are `store`, a NAME of [stores.NAME], `merge` (all of a merge, as clients see it), or the
    path of another configuration. What is there is passed over: the command may be broken off at any
    time and repeated. FROM is not changed.
    """
    from mailgate.cli.copying import Copying, Wishes

    shown = sys.stderr.isatty() if progress is None else progress
    place, other = none_optional(find(settings, source)), find(settings, target)
    if other.store.merge is not None:       # the ids of most of its stores are shown behind a name
        raise Refusal(f"{target} is a merge: name one of its stores to copy to", code=os.EX_USAGE)
    if collide(place, other):
        raise Refusal(f"{source} and {target} are the same store, or one is part of the other",
                      code=os.EX_USAGE)
    copying = Copying(Wishes(**wishes), shown=shown)
    with_stores([place, other], copying.work, create=other)
    for line in copying.summary():
        click.echo(line)
    if copying.findings:
        raise Refusal(code=os.EX_DATAERR)


@store.command()
@optional_name
@pass_settings
def verify(settings: Settings, name: str | None) -> None:
    """Read every message of a store (else of all there are) whole, and say in one line each what is wrong.

    Sizes, the length of the header, byte-stuffing; that bodies are there; what the store counts. Sessions
    and deliveries may go on meanwhile.
    """
    from mailgate.cli.verifying import Verifying

    names = [name] if name else list(sections(settings.config))
    verifying = Verifying(names, click.echo)
    with_stores([find(settings, one) for one in names], verifying.work)
    click.echo(verifying.summary())
    if verifying.findings:
        raise Refusal(code=os.EX_DATAERR)


@store.command()
@optional_name
@click.option("--grace-seconds", metavar="N", type=click.IntRange(0),
              help="How old a body must be that no message names; by default as in the configuration.")
@click.option("--force", is_flag=True,
              help="Also with a grace of less than an hour: nothing else may be running.")
@pass_settings
def sweep(settings: Settings, name: str | None, grace_seconds: int | None, force: bool) -> None:
    """Remove the bodies that no message of a store (else of all there are) names.

    The service does so now and then.
    """
    names = [name] if name else list(sections(settings.config))
    places = [find(settings, one) for one in names]
    if grace_seconds is not None and grace_seconds < LEAST_GRACE_SECONDS and not force:
        raise Refusal(f"--grace-seconds {grace_seconds}: less than an hour: deliveries that are under way"
                      " could lose their bodies. With no service and no delivery running: --force",
                      code=os.EX_USAGE)

    async def work(*stores: Any) -> list[int]:
        swept = []
        for opened, place in zip(stores, places, strict=True):
            await opened.start()
            grace = place.store.sweep_grace_seconds if grace_seconds is None else grace_seconds
            swept.append(await opened.sweep(grace))
        return swept

    for one, count in zip(names, with_stores(places, work), strict=True):
        click.echo(f"{one}: {count} bodies without a message removed")


def find(settings: Settings, name: str) -> Config:
    """Return the configuration whose [store] is the one that a command names. Raises: ConfigurationError."""
    if os.sep in name or name.endswith(".toml"):
        try:
            return load(name)
        except ConfigurationError as fault:
            raise ConfigurationError([f"{name}: {problem}" for problem in fault.problems]) from fault
    config = settings.config
    if name == WHOLE:
        if config.store.merge is None:
            raise ConfigurationError([f"{settings.path}: store.merge is not set: {MAIN} is the one store"])
        return config
    try:
        return only(config, name)
    except ConfigurationError as fault:
        hint = " (the path of another configuration has a / in it)" if Path(name).exists() else ""
        told = [f"{settings.path}: {problem}{hint}" for problem in fault.problems]
        raise ConfigurationError(told) from fault



