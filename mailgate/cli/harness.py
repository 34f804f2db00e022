"""`mailgate harness`: a server for the tests of a mail client, in a process of its own."""

from __future__ import annotations

import gc

import click

from mailgate.cli.arguments import as_text
from mailgate.cli.commands import LazyGroup
from mailgate.cli.harness_parent import Parent
from mailgate.config.values import PROTOCOLS

SERVED = (*PROTOCOLS, "smtp")


@click.group(cls=LazyGroup, invoke_without_command=True,
             lazy={"record": "mailgate.cli.harness_record:record"})
@click.option("--protocol", "protocols", multiple=True, type=click.Choice(SERVED),
              help="What to serve; may be given several times. By default all but kpop.")
@click.option("--settings", "file", metavar="FILE", type=click.Path(),
              help="Settings as in mailgate.toml, over those of a harness.")
@click.option("--scenario", metavar="NAME|FILE", help="Switch a scenario on: one of the library, or a file.")
@click.option("--account", "accounts", metavar="NAME:PASSWORD", multiple=True, callback=as_text,
              help="Add an account, with the scenario's messages; may be given several times.")
@click.option("--script", "scripts", metavar="FILE", multiple=True, type=click.Path(),
              help="Play a written conversation on a port of its own; may be given several times.")
@click.option("--script-tls", "tls_scripts", metavar="FILE", multiple=True, type=click.Path(),
              help="The same inside TLS from the first octet.")
@click.option("--held", is_flag=True, help="The clock stands still until it is advanced.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N",
              help="Decides all that is left to chance.")
@click.option("--port", "fixed", metavar="PROTOCOL=N", multiple=True,
              help="Listen there; PROTOCOL may be api, too. By default on ports that are free.")
@click.option("--console", is_flag=True, help="Serve the console, too.")
@click.option("--parent", type=click.IntRange(1), metavar="PID",
              help="End with this process, not with the one that started this.")
@click.option("--keep-running", is_flag=True, help="End only when a signal says so.")
@click.option("--verbose", is_flag=True, help="Write a log to standard error.")
@click.pass_context
def harness(ctx: click.Context, protocols: tuple[str, ...], file: str | None, scenario: str | None,
            accounts: tuple[str, ...], scripts: tuple[str, ...], tls_scripts: tuple[str, ...], held: bool,
            seed: int, fixed: tuple[str, ...], console: bool, parent: int | None,
            keep_running: bool, verbose: bool) -> int | None:
    """Serve a mailgate for the tests of a mail client: in memory, breakable on command.

    When it is ready it writes one line of JSON to standard output (ports, ca_file, api, token, pid ...) and
    closes it. It ends with the process that started it, or when its standard input, if that is a pipe, is
    closed; or by SIGTERM.
    """
    if ctx.invoked_subcommand is not None:
        return None
    if keep_running and parent is not None:
        raise click.UsageError("--keep-running or --parent: give one.")
    watched = None if keep_running else Parent(parent)      # before all that takes time
    gc.disable()    # until it is ready: what is loaded leaves no garbage, and looking for it takes a while
    try:
        from mailgate.cli.harness_asked import read_asked
        from mailgate.cli.harness_serving import serve

        return serve(read_asked(protocols, file, scenario, accounts, fixed, held=held, seed=seed,
                                console=console, verbose=verbose, scripts=(scripts, tls_scripts)), watched)
    finally:
        gc.enable()
