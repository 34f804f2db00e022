"""`mailgate harness record`: what a client and a server say, as a script that plays it again."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import click
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, serverFromString

from mailgate.auth.servertls import AnyServer, NamedServer, read_authorities
from mailgate.cli.arguments import as_text
from mailgate.cli.running import without_store
from mailgate.cli.telling import Refusal, tell
from mailgate.testing.harness.records import Records, SessionRecord
from mailgate.testing.recording import AT_ONCE, BY_STLS, NONE, RelayFactory, Way, shown_tls
from mailgate.testing.scripted.writing import CONTENT, KEEP, script_of

KEPT_OCTETS = 1024 * 1024 * 1024    # of one session
TIMEOUT_SECONDS = 30                # for the server to be reached


@click.command()
@click.argument("host", callback=as_text)
@click.argument("port", type=click.IntRange(1, 65535))
@click.option("--tls", "at_once", is_flag=True, help="The server speaks TLS from the first octet (port 995); "
              "so does the client.")
@click.option("--stls", is_flag=True, help="Begin TLS with the server by STLS; the client speaks in clear, "
              "and does not know.")
@click.option("--clear", is_flag=True, help="With --tls: the client speaks in clear.")
@click.option("--listen", "listen", type=click.IntRange(0, 65535), default=0, metavar="PORT",
              help="Where the client connects, on 127.0.0.1; by default a port that is free.")
@click.option("--ca", type=click.File("rb"), metavar="FILE",
              help="Trust these authorities (PEM), not the system's.")
@click.option("--tls-name", metavar="NAME", help="The name in the server's certificate, if it is not HOST.")
@click.option("--insecure", is_flag=True, help="Believe any certificate of the server's.")
@click.option("--content", type=click.Choice(CONTENT), default=KEEP, show_default=True,
              help="What is kept of messages: all, their headers, or only how long they are.")
@click.option("--pauses", type=click.FloatRange(0), metavar="SECONDS",
              help="Have the script wait where the server did for so long or longer.")
@click.option("--sessions", type=click.IntRange(1), metavar="N", help="End after N sessions.")
@click.option("-o", "--output", metavar="FILE", type=click.Path(),
              help="Write there; to a folder (one that exists, or FOLDER/) one file a session. By default to "
                   "standard output.")
def record(host: str, port: int, at_once: bool, stls: bool, clear: bool, listen: int, ca: BinaryIO | None,
           tls_name: str | None, insecure: bool, content: str, pauses: float | None, sessions: int | None,
           output: str | None) -> int:
    """Record what a mail client and the server at HOST PORT say, as a script that plays the server again.

    The client is told to connect here. Where TLS is spoken, by the client's STLS or with --tls, it has to
    trust the authority of ca_file: one line of JSON tells it, and the port, when all is ready; on standard
    output, or on standard error if the script goes there. It ends by SIGINT or SIGTERM, or after --sessions.

    Passwords and what else proves who somebody is are never written: any will do when the script is played,
    by `mailgate harness --script FILE`.
    """
    if at_once and stls:
        raise click.UsageError("--tls or --stls: give one.")
    if clear and not at_once:
        raise click.UsageError("--clear goes with --tls.")
    if insecure and (ca or tls_name):
        raise click.UsageError("With --insecure any certificate will do: no --ca or --tls-name.")
    server_tls: Any = AnyServer(host) if insecure else _named(tls_name or host, ca)
    tls = AT_ONCE if at_once else BY_STLS if stls else NONE
    wanted = Wanted(host, port, tls, at_once and not clear, server_tls, listen)
    paper = Paper(output, content, pauses)
    with tempfile.TemporaryDirectory(prefix="mailgate-record-") as folder:
        try:
            without_store(lambda reactor: _record(reactor, wanted, paper, Path(folder), sessions))
        except KeyboardInterrupt:       # how it is ended
            pass
        finally:
            paper.finish()
    return os.EX_OK


def _named(name: str, ca: BinaryIO | None) -> NamedServer:
    try:
        return NamedServer(name, read_authorities(ca.read()) if ca else None)
    except UnicodeError:
        raise click.UsageError(f"{name} is no host name.") from None
    except ValueError as fault:
        raise Refusal(f"{ca.name if ca else '--ca'}: {fault}") from fault


class Wanted(NamedTuple):
    """Who is recorded."""

    host: str
    port: int
    tls: str                # with the server
    at_once: bool           # TLS with the client
    server_tls: Any
    listen: int             # port; 0: any


async def _record(reactor: Any, wanted: Wanted, paper: Paper, folder: Path, sessions: int | None) -> None:
    """Record until there were enough sessions."""
    way = Way(HostnameEndpoint(reactor, wanted.host.encode(), wanted.port, timeout=TIMEOUT_SECONDS),
              wanted.server_tls, shown_tls(folder, wanted.host), wanted.tls, wanted.at_once)
    enough: Deferred[None] = Deferred()

    def ended(session: SessionRecord) -> None:
        paper.take(session)
        if sessions is not None and paper.count >= sessions and not enough.called:
            enough.callback(None)

    records = Records(reactor.seconds, kept_octets=KEPT_OCTETS, kept_events=None)
    factory = RelayFactory(way, reactor, records, ended, tell)
    reactor.addSystemEventTrigger("before", "shutdown", factory.cut_all)
    port = await serverFromString(reactor, f"tcp:{wanted.listen}:interface=127.0.0.1").listen(factory)
    paper.announce({"host": port.getHost().host, "port": port.getHost().port,
                    "ca_file": str(folder / "ca.pem"), "pid": os.getpid()})
    await enough


class Paper:
    """Where recordings are written: to one file, to a folder, or to standard output."""

    def __init__(self, output: str | None, content: str, pauses: float | None) -> None:
        self._path = Path(output) if output is not None else None
        self._is_folder = output is not None and (output.endswith(os.sep) or Path(output).is_dir())
        self._content = content
        self._pauses = pauses
        self._scripts: dict[int, str] = {}      # by session
        if self._path is not None and self._is_folder:
            self._path.mkdir(parents=True, exist_ok=True)
        elif self._path is not None:
            self._write(self._path, "")         # now, rather than when all is over, it is known that it works

    @property
    def count(self) -> int:
        """How many sessions have ended."""
        return len(self._scripts)

    def announce(self, facts: dict[str, Any]) -> None:
        """Say in one line that clients may come, and where."""
        click.echo(json.dumps(facts), err=self._path is None)

    def take(self, session: SessionRecord) -> None:
        """Write a session that is over."""
        self._scripts[session.number] = script_of(session, content=self._content, pauses=self._pauses)
        if self._path is None:
            return
        if self._is_folder:
            self._write(self._path / f"session-{session.number}.script", self._scripts[session.number])
        else:
            self._write(self._path, self._all())

    def finish(self) -> None:
        """Write what is left to write."""
        if self._path is None and self._scripts:
            click.echo(self._all(), nl=False)

    def _all(self) -> str:
        if len(self._scripts) == 1:
            return next(iter(self._scripts.values()))
        return "\n".join(f"SESSION: {index}\n{script}"
                         for index, (_, script) in enumerate(sorted(self._scripts.items()), 1))

    def _write(self, path: Path, text: str) -> None:
        """Put a whole file in place of what is there."""
        # a name that nobody knows before, and rights for its owner alone: the folder may be anybody's
        descriptor, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            os.replace(fresh, path)
        except BaseException:
            os.unlink(fresh)
            raise
