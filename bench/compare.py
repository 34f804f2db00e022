"""Measure the same work on mailgate, Dovecot and Courier, side by side over the same messages.

    .venv/bin/python -m bench compare [--repeat 3] [--seconds 4] [--only WORDS] [--keep docs/benchmarks]

Needs a C compiler. Dovecot is measured where it is installed, in three modes, and Courier where Debian's
package of it is and root runs this; `--also` adds a server that serves Maildirs. All servers run at once and
sleep while another is measured; work by work, repetition by repetition, they take turns, each second time in
the opposite order. Figures are the server's CPU, user and system, of all its processes, for a unit of work.
Every reply is checked, and every body by its CRC-32; a wrong one ends the run. About a minute for each server
and repetition.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import courier, dovecot, figures, machine
from bench.driving import Generators, workplace
from bench.gateway import Mailgate
from bench.processes import raise_limits
from bench.servers import Other, Server

USERS = 64
MESSAGES = 20               # of each
LARGE_OCTETS = 32 << 20
MANY = 100_000              # messages in one maildrop
IDLE = 500                  # sessions

class Work(NamedTuple):
    """One row of the table."""

    title: str
    unit: str               # what the CPU is counted in, and for what
    scale: float            # of that unit in a second
    per: str                # key of the result that is divided by
    mode: str               # "sessions" or "commands" of `Generators`
    options: dict[str, int | float | str]


MIX = {"conns": 16, "users": USERS, "messages": MESSAGES, "count": 1_000_000}
OPEN = {**MIX, "conns": 50}
WORK = (
    Work("login and QUIT", "ms", 1e3, "sessions", "sessions", {**MIX}),
    Work("USER PASS STAT UIDL LIST 3 RETR QUIT", "ms", 1e3, "sessions", "sessions",
         {**MIX, "script": "SULRRR"}),
    Work("NOOP STAT LIST n UIDL n", "µs a command", 1e6, "commands", "commands", {**OPEN, "script": "NSlu"}),
    Work("the same, 16 pipelined", "µs a command", 1e6, "commands", "commands",
         {**OPEN, "script": "NSlu", "pipeline": 16}),
    Work("RETR, mixed sizes", "ms a MB", 1e9, "octets", "commands", {**OPEN, "conns": 16, "script": "R"}),
    Work("RETR of 32 MB", "ms a MB", 1e9, "octets", "commands",
         {"conns": 1, "user": "large%d", "script": "R", "count": 1_000_000}),
    Work("TOP n 0", "µs a command", 1e6, "commands", "commands", {**OPEN, "conns": 16, "script": "T"}),
    Work("login and LIST, 100,000 messages", "ms", 1e3, "sessions", "sessions",
         {"conns": 1, "user": "many%d", "script": "L", "count": 1_000_000}),
)
COLD = "the same, not kept ready"
IDLE_TITLE = "an idle, logged-in session"


def filling(many: int, idle: int) -> list[dict[str, Any]]:
    """Return what every server's store is filled with."""
    return [
        {"kind": "accounts", "user": "u%04d", "count": USERS},
        {"kind": "accounts", "user": "large%d", "count": 1},
        {"kind": "accounts", "user": "many%d", "count": 1},
        {"kind": "accounts", "user": "i%04d", "count": idle},
        {"kind": "mixed", "user": "u%04d", "users": USERS, "messages": MESSAGES},
        {"kind": "large", "users": ["large0"], "octets": LARGE_OCTETS},
        {"kind": "small", "user": "many0", "messages": many}]


def measure(generators: Generators, server: Server, work: Work, seconds: float) -> dict[str, Any]:
    """Do some work once; return `value` in the work's unit beside the generator's result."""
    drive = getattr(generators, work.mode)
    result: dict[str, Any] = drive(server.tree, server.pop3, seconds=seconds, **work.options)
    result["value"] = result["cpu_seconds"] * work.scale / result[work.per]
    return result


def measure_cold(generators: Generators, server: Server) -> float:
    """Return the CPU milliseconds of the first login and LIST after what was kept ready is gone."""
    server.forget_indexes("many0")
    generators.sessions(server.tree, server.pop3, conns=1, count=1, user="u%04d", script="S")
    result = generators.sessions(server.tree, server.pop3, conns=1, count=1, user="many%d", script="L")
    return float(result["cpu_seconds"] * 1e3)


def measure_idle(generators: Generators, server: Server, sessions: int) -> float:
    """Return the KB of memory that an idle, logged-in session takes."""
    generators.sessions(server.tree, server.pop3, conns=16, count=sessions, users=sessions, user="i%04d")
    before = server.tree.memory_octets()
    with generators.held("idle", server.pop3, conns=sessions, users=sessions, user="i%04d"):
        return float(server.tree.memory_octets() - before) / sessions / 1024


class Results:
    """What was measured, as it comes in."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = [server.name for server in servers]
        self.rows: list[dict[str, Any]] = []

    def add(self, title: str, unit: str, values: dict[str, list[float]], **further: Any) -> None:
        """Add a row: of each server its values."""
        row = {"work": title, "unit": unit, **further,
               "servers": {name: figures.figure(values[name])._asdict() for name in self._servers}}
        self.rows.append(row)
        shown = "  ".join(f"{figures.shown(row['servers'][name]['median']):>8}" for name in self._servers)
        machine.progress(f"{title:40} {shown}  {unit}")

    def table(self) -> str:
        """Return the rows as a table of the manual: median (least to most)."""
        rows = []
        for row in self.rows:
            cells = [figures.cell(row["servers"][name]) for name in self._servers]
            rows.append([row["work"], row["unit"], *cells])
        return figures.table(["work", "CPU", *self._servers], rows)


def run(generators: Generators, servers: Sequence[Server], results: Results,
        asked: argparse.Namespace) -> None:
    """Measure all that is asked for."""
    for work in WORK:
        if asked.only and asked.only not in work.title:
            continue
        taken: dict[str, list[dict[str, Any]]] = {server.name: [] for server in servers}
        for repetition in range(asked.repeat):
            for server in servers[::-1] if repetition % 2 else servers:
                taken[server.name].append(measure(generators, server, work, asked.seconds))
        results.add(work.title, work.unit,
                    {name: [one["value"] for one in each] for name, each in taken.items()},
                    busy=max(one["busy"] for each in taken.values() for one in each),
                    digests=sum(one["digests"] for each in taken.values() for one in each))
    if not asked.only or asked.only in COLD:
        results.add(COLD, "ms", {server.name: [measure_cold(generators, server) for _ in range(asked.repeat)]
                                 for server in servers})
    if not asked.only or asked.only in IDLE_TITLE:
        results.add(IDLE_TITLE, "KB", {server.name: [measure_idle(generators, server, asked.idle)]
                                       for server in servers})


def arguments() -> argparse.ArgumentParser:
    """Return what can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--only", default="", help="the work whose title has these words")
    parser.add_argument("--many", type=int, default=MANY, help="messages of the maildrop that has many")
    parser.add_argument("--idle", type=int, default=IDLE, help="idle sessions")
    parser.add_argument("--alone", action="store_true", help="mailgate alone")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=COMMAND",
                        help="a server that stays in the foreground; {port}, {maildirs} (the folder of\n"
                             "Maildirs) and {users} (a passwd-file, passwords in clear) are filled in")
    parser.add_argument("--keep", type=Path, help="a folder for compare.json and the table")
    return parser


def main() -> None:
    """Measure, and print or keep the table."""
    asked = arguments().parse_args()
    raise_limits()
    with workplace() as (folder, generators):
        wanted = filling(asked.many, asked.idle)
        servers: list[Server] = [Mailgate(folder / "mailgate")]
        versions = {}
        if not asked.alone and dovecot.PROGRAM:
            servers += [dovecot.Dovecot(folder / f"dovecot{number}", mode)
                        for number, mode in enumerate(dovecot.MODES)]
            versions["Dovecot"] = dovecot.version()
        if not asked.alone and courier.usable():
            servers.append(courier.Courier(folder / "courier"))
            versions["Courier"] = courier.version()
        servers += [Other(word, folder) for word in asked.also]
        for server in servers:
            machine.progress(f"filling {server.name}")
            server.fill(*wanted)
        try:
            for server in servers:
                server.start()
            results = Results(servers)
            run(generators, servers, results, asked)
        finally:
            for server in servers:
                server.stop()
    described = machine.describe(**versions)
    if asked.keep:
        figures.keep(asked.keep, "compare", {"machine": described, "rows": results.rows},
                     machine.sentence(described) + "\n" + results.table())
    else:
        print(machine.sentence(described) + "\n" + results.table())
