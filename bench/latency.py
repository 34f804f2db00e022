"""Measure how long quiet sessions wait for the reply to a NOOP while others work a mailgate hard.

    .venv/bin/python -m bench latency [--seconds 15] [--keep docs/benchmarks]

The others are four sessions that fetch a message of 100 MB again and again, and 16 that log in and out as
fast as they can. 50 sessions send a NOOP ten times a second each; one that could not be sent because the last
was not answered yet counts as late as it would have been. The others' generators run at nice 10, so that what
is measured is the server's turn and not the clients'. The server may use all cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path
from typing import Any

from bench import figures, machine
from bench.driving import Generators, Held, judged, workplace
from bench.gateway import Mailgate
from bench.servers import Server

DOWNLOADS, LARGE_OCTETS = 4, 100 << 20
STORM, STORM_USERS = 16, 64
QUIET, INTERVAL_MS = 50, 100
NICE = 10
MIXES = {
    "nothing else": (),
    "a storm of logins": ("storm",),
    "four downloads of 100 MB": ("downloads",),
    "both": ("storm", "downloads"),
}


def measure(generators: Generators, server: Server, others: tuple[str, ...], seconds: float,
            raised: bool = False) -> dict[str, Any]:
    """Return the round trips beside what others do, and what they did meanwhile."""
    program, port = str(generators.pop3), str(server.pop3)
    quiet = Held(beside_all([program, "pace", port, f"conns={QUIET}", f"users={QUIET}", "user=q%04d",
                             f"interval={INTERVAL_MS}", f"seconds={seconds}"], raised, last=False))
    try:
        quiet.wait()
        working = {other: _begin(program, port, other, seconds, raised) for other in others}
        result = quiet.work()
        for other, process in working.items():
            done = _end(process)
            result[other] = done["sessions"] if other == "storm" else done["octets"] / 1e6
            result[other] /= done["seconds"]        # logins a second, or MB a second
    finally:
        quiet.end()
    return result


def _begin(program: str, port: str, what: str, seconds: float, raised: bool) -> Any:
    """Return the generator of others' work, at work."""
    if what == "storm":
        return subprocess.Popen(beside_all(
            [program, "session", port, f"conns={STORM}", f"users={STORM_USERS}", "count=100000000",
             f"seconds={seconds + 0.5}"], raised, last=True), stdout=subprocess.PIPE, text=True)
    fetching = Held(beside_all(
        [program, "open", port, f"conns={DOWNLOADS}", f"users={DOWNLOADS}", "user=large%d", "script=R",
         "count=1000000", f"seconds={seconds + 0.5}"], raised, last=True))
    fetching.wait()
    fetching.begin()
    return fetching


def _end(working: Any) -> dict[str, Any]:
    if isinstance(working, Held):
        result = working.result()
        working.end()
        return result
    return judged(working.communicate()[0], working.returncode)


def beside_all(command: list[str], raised: bool, *, last: bool) -> list[str]:
    """Return a client's command at its priority: quiet sessions first, the others behind them."""
    if raised:
        return ["nice", "-n", "-15", *command] if last else ["chrt", "-r", "2", *command]
    return ["nice", "-n", str(NICE), *command] if last else command


def raise_priority(server: Server) -> None:
    """Let the server go before what else runs on the machine, whatever that is. Needs root."""
    for thread in os.listdir(f"/proc/{server.tree.pid}/task"):
        os.sched_setscheduler(int(thread), os.SCHED_RR, os.sched_param(1))


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a table of the manual."""
    keys = ("p50_ms", "p99_ms", "p999_ms", "worst_ms", "storm", "downloads")
    heads = ["beside it", "half within, ms", "99 of 100", "999 of 1000", "worst", "logins a second",
             "MB a second"]
    cells = [[figures.shown(row[key]) if key in row else "" for key in keys] for row in rows]
    return figures.table(heads, [[row["beside"], *line] for row, line in zip(rows, cells, strict=True)])


def filled(folder: Path) -> Mailgate:
    """Return a server with the accounts and mail that the measurement needs."""
    server = Mailgate(folder, core=None)
    server.fill({"kind": "accounts", "user": "u%04d", "count": STORM_USERS},
                {"kind": "accounts", "user": "q%04d", "count": QUIET},
                {"kind": "accounts", "user": "large%d", "count": DOWNLOADS},
                {"kind": "large", "users": [f"large{number}" for number in range(DOWNLOADS)],
                 "octets": LARGE_OCTETS})
    return server


def main() -> None:
    """Measure, and print or keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    parser.add_argument("--raised", action="store_true",
                        help="let the server and the quiet sessions go before all else that runs on the\n"
                             "machine (real-time priority; needs root)")
    parser.add_argument("--keep", type=Path, help="a folder for latency.json and the table")
    asked = parser.parse_args()
    rows = []
    with workplace() as (folder, generators), filled(folder / "mailgate") as server:
        if asked.raised:
            raise_priority(server)
        for beside, others in MIXES.items():
            row = measure(generators, server, others, asked.seconds, asked.raised)
            rows.append({"beside": beside, **row})
            machine.progress(f"{beside}: {row}")
    described = machine.describe()
    text = machine.sentence(described) + "\n" + table(rows)
    if asked.keep:
        results = {"machine": described, "raised": asked.raised, "rows": rows}
        figures.keep(asked.keep, "latency", results, text)
    else:
        print(text)
