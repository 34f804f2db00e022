"""`mailgate conformance`: what another server does otherwise than the RFCs say."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import BinaryIO, TextIO

import click

from mailgate.cli.arguments import as_text
from mailgate.cli.migrating import read_host
from mailgate.cli.passwords import read_password_elsewhere
from mailgate.cli.telling import Refusal, printable, tell
from mailgate.conformance.checks import all_checks, chosen
from mailgate.conformance.connection import Bounds
from mailgate.conformance.delivering import Deliver, by_command, by_url
from mailgate.conformance.findings import POLITE, PROFILES, Check, Result, Verdict
from mailgate.conformance.reports import as_json, as_junit, details, line, summary
from mailgate.conformance.running import Run, worst
from mailgate.conformance.target import Pace, Target
from mailgate.conformance.visit import Busy, LoginRefused, Unreachable

POP3_PORT, POP3S_PORT = 110, 995
LOOPBACK = ("127.0.0.1", "::1", "localhost")
FOUND = 1       # the exit code of a run with findings


@click.command()
@click.argument("server", required=False, metavar="HOST:PORT", callback=lambda ctx, param, value:
                as_text(ctx, param, value or ""))
@click.option("--user", metavar="NAME", help="The account to log in as: better one for tests.")
@click.option("--password-stdin", is_flag=True, help="Read its password from standard input.")
@click.option("--deliver", metavar="URL", help="Deliver messages for the checks by "
              "lmtp://HOST:PORT/RECIPIENT or smtp://HOST:PORT/RECIPIENT; they are removed at the end.")
@click.option("--deliver-command", metavar="COMMAND", help="Deliver them by a command that reads "
              "standard input.")
@click.option("--profile", "profiles", multiple=True, type=click.Choice([*PROFILES, "all"]),
              help=f"Which checks; may be given several times. By default {', '.join(POLITE)}.")
@click.option("--only", metavar="ID,...", help="These checks alone.")
@click.option("--list", "listing", is_flag=True, help="List the checks, and connect to nobody.")
@click.option("--tls", type=click.Choice(["none", "starttls", "implicit"]),
              help="How TLS begins for logins: by default at once with port 995, not at all on loopback, "
                   "else by STLS.")
@click.option("--ca", type=click.File("rb"), metavar="FILE", help="Trust these authorities (PEM).")
@click.option("--tls-name", metavar="NAME", help="The name in the certificate, if it is not HOST.")
@click.option("--insecure", is_flag=True, help="Say the password to whatever certificate there is.")
@click.option("--allow-delete", is_flag=True, help="Mail that the suite did not deliver may be lost.")
@click.option("--timeout", type=click.FloatRange(1, 600), default=Bounds().reply_seconds, show_default=True,
              metavar="SECONDS", help="How long a reply may take.")
@click.option("--total", type=click.FloatRange(1, 86400), default=Pace().total_seconds, show_default=True,
              metavar="SECONDS", help="How long the run may take: then what is left is skipped.")
@click.option("--pause", type=click.FloatRange(0, 60), default=Pace().pause_seconds, show_default=True,
              metavar="SECONDS", help="A rest before each connection.")
@click.option("--junit", type=click.Path(dir_okay=False), metavar="FILE", help="Write JUnit XML.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False), metavar="FILE", help="Write JSON; "
              "- is standard output, and then nothing else is written there.")
@click.option("--quiet", is_flag=True, help="Tell only findings, and the sum.")
@click.option("--strict", is_flag=True, help="Warnings count as findings.")
def conformance(server: str, user: str | None, password_stdin: bool, deliver: str | None,
                deliver_command: str | None, profiles: tuple[str, ...], only: str | None, listing: bool,
                tls: str | None, ca: BinaryIO | None, tls_name: str | None, insecure: bool,
                allow_delete: bool, timeout: float, total: float, pause: float, junit: str | None,
                json_file: str | None, quiet: bool, strict: bool) -> int:
    """Check a POP3 server against what the RFCs say.

    Needs an account for tests. Removes only what it delivered. The hostile profile is made only when asked
    for.

    One line a check, and below a finding what was said. Exit codes: 0 no findings, 1 findings, 69 the server
    cannot be reached or spoken to, 75 its maildrop stays in use, 77 it refuses the login.
    """
    checks = read_checks(profiles, only)
    if listing:
        for check in checks if profiles or only else all_checks():
            click.echo(f"{check.id}\t{check.profile}\t{check.level.value}\t{check.section}\t{check.title}")
        return os.EX_OK
    if not server or user is None:
        raise click.UsageError("Give HOST:PORT and --user NAME, or --list.")
    way = read_delivery(deliver, deliver_command)
    target = read_target(server, user, tls, ca, tls_name, insecure)._replace(
        password=read_password_elsewhere(from_stdin=password_stdin), allow_delete=allow_delete,
        pace=Pace(bounds=Bounds(reply_seconds=timeout), total_seconds=total, pause_seconds=pause))
    shown = Shown(quiet, sys.stderr if json_file == "-" else sys.stdout,
                  checks)
    run = Run(target, checks, way, tell=shown.result, about=shown.about)
    try:
        report = run.carry_out()
    except Unreachable as fault:
        raise Refusal(str(fault), code=os.EX_UNAVAILABLE) from None
    except Busy as fault:
        raise Refusal(str(fault), code=os.EX_TEMPFAIL) from None
    except LoginRefused as fault:
        raise Refusal(f"{server}: {fault}", code=os.EX_NOPERM) from None
    shown.end(summary(report))
    if junit is not None:
        write(junit, as_junit(report))
    if json_file is not None:
        write(json_file, as_json(report).encode())
    return FOUND if worst(report.results, strict=strict) else os.EX_OK


class Shown:
    """What the terminal sees: progress on it, one line a result, colours where it is one."""

    def __init__(self, quiet: bool, stream: TextIO, checks: Sequence[Check]) -> None:
        self._quiet = quiet
        self._stream = stream
        self._width = max((len(check.id) for check in checks), default=0)
        self._total = len(checks)
        self._done = 0
        self._terminal = stream.isatty()
        self._colours = self._terminal and "NO_COLOR" not in os.environ

    def result(self, result: Result) -> None:
        """Show a result; below a finding, what was said."""
        self._done += 1
        found = result.verdict in (Verdict.FAIL, Verdict.WARN)
        if self._quiet and not found:
            return
        progress = f"{self._done:>3}/{self._total}  " if self._terminal else ""
        self._echo(progress + line(result, colours=self._colours, width=self._width))
        if result.verdict is Verdict.FAIL:
            for row in details(result):
                self._echo(row)

    def about(self, words: str) -> None:
        """Tell something of the run itself."""
        if not self._quiet:
            tell(words)

    def end(self, words: str) -> None:
        """Show the sum."""
        self._echo(words)

    def _echo(self, words: str) -> None:
        click.echo(words, file=self._stream, color=True if self._colours else None)


def write(name: str, content: bytes) -> None:
    """Write a report. Raises: Refusal."""
    try:
        if name == "-":
            sys.stdout.buffer.write(content)
            return
        with open(name, "wb") as file:
            file.write(content)
    except OSError as fault:
        raise Refusal(f"{printable(name)}: {fault.strerror}", code=os.EX_CANTCREAT) from None


def read_checks(profiles: tuple[str, ...], only: str | None) -> list[Check]:
    """Return the checks that are asked for. Raises: click.UsageError."""
    if only is not None and profiles:
        raise click.UsageError("--only names checks, --profile groups of them: give one.")
    wanted = set(PROFILES if "all" in profiles else profiles or POLITE)
    try:
        return chosen(wanted, {one.strip() for one in (only or "").split(",") if one.strip()})
    except KeyError as fault:
        raise click.UsageError(f"There is no check {fault.args[0]}.") from None


def read_delivery(url: str | None, command: str | None) -> Deliver | None:
    """Return the way to deliver, if one is given. Raises: click.UsageError."""
    if url is not None and command is not None:
        raise click.UsageError("--deliver or --deliver-command: give one.")
    try:
        if url is not None:
            return by_url(url)
        return None if command is None else by_command(command)
    except ValueError as fault:
        raise click.UsageError(f"{fault}.") from None


def read_target(server: str, user: str, tls: str | None, ca: BinaryIO | None, tls_name: str | None,
                insecure: bool) -> Target:
    """Return where the server is and how TLS is spoken; no password yet.

    Raises: click.UsageError, Refusal.
    """
    host, port = read_host(server)
    if tls is None:
        by_place = "none" if host in LOOPBACK and port != POP3S_PORT else "starttls"
        tls = "implicit" if port == POP3S_PORT else by_place
    port = port or (POP3S_PORT if tls == "implicit" else POP3_PORT)
    pem = None
    if ca is not None:
        try:
            pem = ca.read().decode("ascii")
            Target(host, port, b"", b"", ca_pem=pem).context()
        except ValueError as fault:
            raise Refusal(f"{printable(ca.name)}: {fault}") from None
        except OSError as fault:
            raise Refusal(f"{printable(ca.name)}: no certificates in it: {fault}") from None
    return Target(host, port, os.fsencode(user), b"", tls, pem, tls_name, insecure)
