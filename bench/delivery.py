"""Measure deliveries by LMTP, durable, on mailgate and on Dovecot over the same disk.

    .venv/bin/python -m bench delivery [--repeat 3] [--seconds 5] [--keep docs/benchmarks]

One connection and 20, each delivering one message after the other. What limits a delivery is the disk's
sync, so the figures are messages a second of the clock, and the CPU beside them; TMPDIR chooses the disk.
Dovecot syncs as it does when nothing is configured. Where strace is installed, and may trace, the syncs of
a run of its own are counted.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import dovecot, figures, machine
from bench.driving import Generators, workplace
from bench.gateway import Mailgate
from bench.servers import Server

USERS = 64
CONNECTIONS = (1, 20)
OCTETS = 4096
SYNCS = "fsync,fdatasync,sync_file_range,msync"


def measure(generators: Generators, servers: Sequence[Server], connections: int,
            asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the figures of all servers with so many connections; they take turns, as the disk has moods."""
    options: dict[str, Any] = {
        "conns": connections, "users": USERS, "octets": asked.octets, "count": 1_000_000}
    runs: dict[str, list[dict[str, Any]]] = {server.name: [] for server in servers}
    for server in servers:      # as warm as they will be
        generators.deliveries(server.tree, server.lmtp, **options, seconds=1)
    for repetition in range(asked.repeat):
        for server in servers[::-1] if repetition % 2 else servers:
            runs[server.name].append(
                generators.deliveries(server.tree, server.lmtp, **options, seconds=asked.seconds))
    return [{"server": server.name, "connections": connections, **summary(runs[server.name]),
             "syncs": count_syncs(generators, server, options)} for server in servers]


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return medians with their spread."""
    return {"a_second": figures.figure(run["accepted"] / run["seconds"] for run in runs)._asdict(),
            "cpu_ms": figures.figure(run["cpu_seconds"] * 1e3 / run["accepted"] for run in runs)._asdict(),
            "p99_ms": figures.figure(run["p99_ms"] for run in runs)._asdict()}


def count_syncs(generators: Generators, server: Server, options: dict[str, Any]) -> float | None:
    """Return the syncs a message of a short run, or None where they cannot be counted."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    told = server.folder / "syncs"
    pids = [word for pid in server.tree.pids() for word in ("-p", str(pid))]
    with subprocess.Popen([strace, "-f", "-c", "-o", told, "-e", f"trace={SYNCS}", *pids],
                          stderr=subprocess.PIPE) as tracer:
        time.sleep(1)       # until it is attached
        run = generators.deliveries(server.tree, server.lmtp, **options, seconds=2)
        tracer.send_signal(signal.SIGINT)
        tracer.wait(30)
    counted = parse_syncs(told.read_text()) if told.exists() else 0
    return counted / run["accepted"] if counted else None


def parse_syncs(summary: str) -> int:
    """Return the calls of `strace -c`, all that it lists together."""
    rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", summary, re.MULTILINE)
    return sum(int(calls) for calls, name in rows if name != "total")


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a table of the manual."""
    heads = ["server", "connections", "messages a second", "CPU ms a message", "99 of 100 within, ms",
             "syncs a message"]
    return figures.table(heads, [
        [row["server"], str(row["connections"]),
         *(figures.cell(row[key]) for key in ("a_second", "cpu_ms", "p99_ms")),
         "" if row["syncs"] is None else figures.shown(row["syncs"])] for row in rows])


def main() -> None:
    """Measure, and print or keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--octets", type=int, default=OCTETS, help="of a message's body")
    parser.add_argument("--keep", type=Path, help="a folder for delivery.json and the table")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with workplace() as (folder, generators):
        servers: list[Server] = [Mailgate(folder / "mailgate")]
        if dovecot.PROGRAM and dovecot.LMTP:
            servers.append(dovecot.Dovecot(folder / "dovecot"))
        for server in servers:
            server.fill({"kind": "accounts", "user": "u%04d", "count": USERS})
        with contextlib.ExitStack() as stack:
            for server in servers:
                stack.enter_context(server)
            for connections in CONNECTIONS:
                rows += measure(generators, servers, connections, asked)
                machine.progress(str(rows[-len(servers):]))
    described = machine.describe(**({"Dovecot": dovecot.version()} if len(servers) > 1 else {}))
    text = machine.sentence(described) + "\n" + table(rows)
    if asked.keep:
        results = {"machine": described, "octets": asked.octets, "rows": rows}
        figures.keep(asked.keep, "delivery", results, text)
    else:
        print(text)
