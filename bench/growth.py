"""Measure what becomes of mailgate's cost as what it serves grows.

    .venv/bin/python -m bench growth [--most messages=100000,sessions=10000] [--only NAME]
                                     [--keep docs/benchmarks]

One curve each for messages in a maildrop, maildrops in a store, idle sessions, concurrent downloads, the
size of one message, and workers. Stores are filled through the store's own interface, many messages at a
time that share a body, so that 10^6 of them take minutes and megabytes; messages of the size curve come by
LMTP. The largest steps need some GB below TMPDIR, which are given back, and as many open files as sessions.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench import figures, machine
from bench.driving import Generators, WrongReply, workplace
from bench.gateway import HAS_WORKERS, Mailgate
from bench.processes import CORES, raise_limits
from bench.svg import chart

MB = 1_000_000
BUSY = 50                   # sessions at work beside idle ones
IDLE_SECONDS = 5            # for which their CPU is counted
SESSIONS = 200              # of which one is taken for each kind of session
SPARE_FILES = 300           # that a server has open beside its sessions
DOWNLOAD_OCTETS = MB
DOWNLOADS = 2000            # in one measurement
SOURCES = 8                 # client addresses that idle sessions come from: one has 28,000 ports

Row = dict[str, float]


class Unmeasured(Exception):
    """A step cannot be had on this machine; the text says why."""


class Curve(NamedTuple):
    """What grows, how it is measured, and what of it is drawn."""

    title: str
    grows: str
    steps: tuple[int, ...]
    measure: Callable[[Generators, Path, int], Row]
    columns: dict[str, str]         # key of a row: its title
    drawn: tuple[str, ...]
    unit: str                       # of what is drawn
    log_y: bool = True


@contextlib.contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=parent) as name:
        yield Path(name)


def per(result: dict[str, Any], key: str, scale: float = 1e3) -> float:
    """Return CPU for each of what a result counts: milliseconds, by default."""
    return float(result["cpu_seconds"]) * scale / max(result[key], 1)


def messages(generators: Generators, folder: Path, count: int) -> Row:
    """Sessions over a maildrop of so many messages: the first, one after a delivery, and the rest."""
    server = Mailgate(folder)
    server.fill({"kind": "accounts", "user": "u%d", "count": 2},
                {"kind": "copies", "user": "u0", "messages": count},
                {"kind": "copies", "user": "u1", "messages": 1})
    with server:
        generators.sessions(server.tree, server.pop3, user="u1", conns=1, count=5)  # all is warm but this
        one: dict[str, Any] = {"user": "u0", "conns": 1, "seconds": 4}
        row = {"cold": per(generators.sessions(server.tree, server.pop3, **one, count=1), "sessions")}
        generators.deliveries(server.tree, server.lmtp, user="u0@bench.example", count=1)
        row["changed"] = per(generators.sessions(server.tree, server.pop3, **one, count=1), "sessions")
        for key, script in ("warm", ""), ("stat", "SRRR"), ("listing", "SULRRR"):
            run = generators.sessions(server.tree, server.pop3, **one, count=SESSIONS, script=script,
                                      messages=count)
            row[key] = per(run, "sessions")
        row["memory"] = server.tree.memory_octets() / MB
    return row


def maildrops(generators: Generators, folder: Path, count: int) -> Row:
    """Logins and deliveries in a store of so many maildrops."""
    server = Mailgate(folder)
    server.fill({"kind": "accounts", "user": "u%07d", "count": count},
                {"kind": "spread", "user": "u%07d", "users": count, "messages": 1})
    with server:
        users: dict[str, Any] = {"user": "u%07d", "users": count}
        seen = min(count, 2000)
        first = generators.sessions(server.tree, server.pop3, **users, conns=16, count=seen)
        users["users"] = seen
        again = generators.sessions(server.tree, server.pop3, **users, conns=16, count=3000)
        delivered = generators.deliveries(server.tree, server.lmtp, user="u%07d@bench.example", users=count,
                                          conns=20, count=2000, seconds=10)
        return {"first": per(first, "sessions"), "login": per(again, "sessions"),
                "delivery": per(delivered, "accepted"), "memory": server.tree.memory_octets() / MB}


def sessions(generators: Generators, folder: Path, count: int) -> Row:
    """Idle, logged-in sessions, in as many processes as the limit of open files asks for."""
    room = raise_limits() - SPARE_FILES
    workers = -(-count // room)
    if workers > 1 and not HAS_WORKERS:
        raise Unmeasured(f"no process may have {count:,} files open here")
    server = Mailgate(folder, workers=workers if workers > 1 else None, limits="idle_seconds = 86400")
    server.fill({"kind": "accounts", "user": "u%05d", "count": count},
                {"kind": "accounts", "user": "busy%02d", "count": BUSY},
                {"kind": "spread", "user": "busy%02d", "users": BUSY, "messages": 1})
    users: dict[str, Any] = {"user": "u%05d", "sources": SOURCES}
    with server, contextlib.ExitStack() as stack:
        tree = server.tree
        generators.sessions(tree, server.pop3, **users, users=count, count=count, seconds=600)
        before = tree.memory_octets()
        for first in range(0, count, room):
            part = min(room, count - first)
            stack.enter_context(
                generators.held("idle", server.pop3, **users, conns=part, users=part, first=first))
        idle = tree.settled_cpu_seconds()
        time.sleep(IDLE_SECONDS)
        idle = tree.cpu_seconds() - idle
        held = tree.memory_octets()
        busy = generators.commands(tree, server.pop3, user="busy%02d", users=BUSY, conns=BUSY, script="NSlu",
                                   count=50_000, seconds=10)
        return {"each": (held - before) / count / 1024, "memory": held / MB, "processes": workers,
                "idle": 100 * idle / IDLE_SECONDS, "command": per(busy, "commands", 1e6)}


def downloads(generators: Generators, folder: Path, count: int) -> Row:
    """So many sessions that fetch a message of 1 MB at once."""
    server = Mailgate(folder)
    server.fill({"kind": "accounts", "user": "u%04d", "count": count},
                {"kind": "large", "users": [f"u{number:04d}" for number in range(count)],
                 "octets": DOWNLOAD_OCTETS})
    with server:
        tree = server.tree
        options: dict[str, Any] = {"user": "u%04d", "users": count, "conns": count, "script": "R"}
        generators.commands(tree, server.pop3, **options, count=count, seconds=60)
        before = tree.peak_octets_from_now()
        run = generators.commands(tree, server.pop3, **options, count=max(DOWNLOADS, 2 * count), seconds=60)
        return {"cpu": per(run, "octets", 1e9), "rate": run["octets"] / MB / run["seconds"],
                "peak": tree.peak_octets() / MB, "memory": before / MB}


def size(generators: Generators, folder: Path, megabytes: int) -> Row:
    """One message of so many MB, delivered by LMTP and fetched again, its digest checked."""
    server = Mailgate(folder)
    server.fill({"kind": "accounts", "user": "u%d", "count": 1})
    with server:
        tree = server.tree
        generators.deliveries(tree, server.lmtp, user="u0@bench.example", count=1)      # as message 1
        generators.sessions(tree, server.pop3, user="u%d", conns=1, count=3, script="R")
        before = tree.peak_octets_from_now()
        taken = generators.deliveries(tree, server.lmtp, user="u0@bench.example", count=1,
                                      octets=megabytes * MB, seconds=300)
        taken_peak = tree.peak_octets()
        tree.peak_octets_from_now()
        times = max(1, 500 // megabytes)
        run = generators.commands(tree, server.pop3, user="u%d", conns=1, script="lR", messages=2,
                                  count=2 * times, seconds=300)
        return {"taken": taken["cpu_seconds"] * 1e3 / megabytes, "cpu": per(run, "octets", 1e9),
                "taken_peak": taken_peak / MB, "peak": tree.peak_octets() / MB, "memory": before / MB}


def workers(generators: Generators, folder: Path, count: int) -> Row:
    """So many processes behind one socket; the clock counts here, and the generator needs a core as well."""
    if not HAS_WORKERS:
        raise Unmeasured("this version has no workers")
    server = Mailgate(folder, workers=count, core=None)
    server.fill({"kind": "accounts", "user": "u%04d", "count": 64},
                {"kind": "mixed", "user": "u%04d", "users": 64, "messages": 20})
    options: dict[str, Any] = {"users": 64, "messages": 20, "count": 10_000_000, "seconds": 5}
    with server:
        tree = server.tree
        login = generators.sessions(tree, server.pop3, **options, conns=16)
        session = generators.sessions(tree, server.pop3, **options, conns=16, script="SULRRR")
        command = generators.commands(tree, server.pop3, **options, conns=50, script="NSlu")
        return {"logins": login["sessions"] / login["seconds"], "login": per(login, "sessions"),
                "sessions": session["sessions"] / session["seconds"], "session": per(session, "sessions"),
                "commands": command["commands"] / command["seconds"],
                "command": per(command, "commands", 1e6)}


CURVES = {
    "messages": Curve(
        "Messages in a maildrop", "messages", (100, 1000, 10_000, 100_000, 1_000_000), messages,
        {"warm": "login, QUIT", "stat": "with STAT, 3 RETR", "listing": "with UIDL, LIST too",
         "changed": "login after a delivery", "cold": "first login", "memory": "server, MB"},
        ("warm", "stat", "listing", "changed", "cold"), "CPU ms a session"),
    "maildrops": Curve(
        "Maildrops in a store", "maildrops", (100, 1000, 10_000, 100_000, 1_000_000), maildrops,
        {"login": "login, QUIT: CPU ms", "first": "the first of each", "delivery": "a delivery: CPU ms",
         "memory": "server, MB"}, ("login", "first", "delivery"), "CPU ms", log_y=False),
    "sessions": Curve(
        "Idle sessions", "sessions", (1000, 10_000, 19_000, 50_000), sessions,
        {"each": "KB each", "memory": "server, MB", "idle": "% of a core, idle",
         "command": "µs a command of others", "processes": "processes"}, ("memory",), "memory, MB"),
    "downloads": Curve(
        "Concurrent downloads", "downloads", (1, 10, 100, 1000), downloads,
        {"cpu": "CPU ms a MB", "rate": "MB a second", "memory": "before, MB", "peak": "at most, MB"},
        ("peak",), "server's memory, MB", log_y=False),
    "size": Curve(
        "Size of a message", "MB", (1, 10, 100, 1000), size,
        {"taken": "LMTP: CPU ms a MB", "cpu": "RETR: CPU ms a MB", "memory": "before, MB",
         "taken_peak": "at most in LMTP, MB", "peak": "at most in RETR, MB"}, ("taken_peak", "peak"),
        "server's memory, MB", log_y=False),
    "workers": Curve(
        "Workers", "workers", tuple(range(1, CORES + 1)), workers,
        {"logins": "logins a second", "login": "CPU ms a login", "sessions": "sessions a second",
         "session": "CPU ms a session", "commands": "commands a second", "command": "CPU µs a command"},
        ("logins", "sessions"), "a second", log_y=False),
}


def follow(curve: Curve, generators: Generators, folder: Path, most: int | None) -> dict[str, Any]:
    """Take one step after the other, up to `most`; say where a step could not be had, and why."""
    rows, missing = [], []
    for step in curve.steps:
        if most is not None and step > most:
            continue
        try:
            with _folder(folder) as place:
                rows.append({"at": step, **curve.measure(generators, place, step)})
            machine.progress(f"{curve.title}: {rows[-1]}")
        except (Unmeasured, WrongReply) as why:
            missing.append(f"{step:,} {curve.grows}: {why}")
            machine.progress(missing[-1])
    return {"title": curve.title, "rows": rows, "missing": missing}


def report(curve: Curve, results: dict[str, Any]) -> str:
    """Return the table of the manual, with what is missing told below it."""
    rows = [[f"{row['at']:,}", *(figures.shown(row[key]) for key in curve.columns)]
            for row in results["rows"]]
    text = figures.table([curve.grows, *curve.columns.values()], rows)
    return "\n".join([text, *(f"Not measured: {words}.\n" for words in results["missing"])])


def drawing(curve: Curve, results: dict[str, Any]) -> str:
    """Return the curve as an SVG document."""
    lines = {curve.columns[key]: [(row["at"], max(row[key], 1e-3)) for row in results["rows"]]
             for key in curve.drawn}
    return chart(curve.title, curve.grows, curve.unit, lines, log_x=max(curve.steps) > 50, log_y=curve.log_y)


def main() -> None:
    """Measure, and print or keep tables and drawings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", action="append", choices=CURVES, help="may be given several times")
    parser.add_argument("--most", default="", metavar="NAME=N,...", help="end a curve there")
    parser.add_argument("--keep", type=Path, help="a folder for the results, tables and drawings")
    asked = parser.parse_args()
    words = (word.partition("=") for word in asked.most.split(",") if word)
    most = {name: int(number) for name, _, number in words}
    raise_limits()
    with workplace() as (folder, generators):
        for name in asked.only or CURVES:
            curve = CURVES[name]
            results = follow(curve, generators, folder, most.get(name))
            results["machine"] = machine.describe()
            if asked.keep and results["rows"]:
                figures.keep(asked.keep, f"growth-{name}", results, report(curve, results))
                (asked.keep / f"growth-{name}.svg").write_text(drawing(curve, results), encoding="utf-8")
            else:
                print(report(curve, results))
