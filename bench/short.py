"""A few seconds' look at the hot paths of a mailgate: is one of them slower than it was?

    .venv/bin/python -m bench short [--land]

CPU of the server for a unit of work, divided by the CPU of a fixed piece of Python measured around it: that
ratio says something on any machine, a busy one too. Beside it stands the ratio that was landed last, in
bench/landed.json; `--land` writes it anew. It reports and judges nothing: the exit code is 0 whatever
comes out, also where there is no C compiler. Differences below a quarter are most often chance.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import time
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from bench.driving import Generators, WrongReply, workplace
from bench.gateway import Mailgate
from bench.processes import raise_limits

LANDED = Path(__file__).resolve().with_name("landed.json")
USERS, MESSAGES = 32, 10
ROUNDS = 2                  # of which the better one counts: what disturbs makes it worse
SECONDS = 0.5               # of each path, at most
CALIBRATION_ROUNDS = 60_000
MOST_SECONDS = 60           # for all, or it is given up
REMARKABLE = 1.25           # times the landed ratio


class HotPath(NamedTuple):
    """What is done, how often at most, and by what of the result its CPU is divided."""

    title: str
    drive: str              # method of Generators
    per: str
    options: dict[str, Any]


OPEN = {"users": USERS, "messages": MESSAGES, "conns": 16}
PATHS = (
    HotPath("login, QUIT", "sessions", "sessions", {**OPEN, "count": 1500}),
    HotPath("session, 3 RETR", "sessions", "sessions", {**OPEN, "count": 800, "script": "SULRRR"}),
    HotPath("a command", "commands", "commands", {**OPEN, "count": 20_000, "script": "NSlu"}),
    HotPath("a command, pipelined", "commands", "commands",
            {**OPEN, "count": 150_000, "script": "NSlu", "pipeline": 16}),
    HotPath("RETR, small", "commands", "commands", {**OPEN, "count": 6000, "script": "R"}),
    HotPath("TOP n 0", "commands", "commands", {**OPEN, "count": 8000, "script": "T"}),
    HotPath("RETR, a MB", "commands", "octets",
            {"conns": 1, "user": "large%d", "script": "R", "count": 60}),
    HotPath("LMTP delivery", "deliveries", "accepted",
            {"conns": 20, "users": USERS, "count": 600}),
)


def calibration_seconds() -> float:
    """Return the CPU seconds of a fixed piece of work of the kind that a server does."""
    begun = time.process_time()
    kept: dict[int, bytes] = {}
    for number in range(CALIBRATION_ROUNDS):
        word, _, rest = (b"LIST %d\r\n" % number).partition(b" ")
        kept[number % 512] = b"".join([b"+OK ", word.upper(), b" ", rest.rstrip()])
    return time.process_time() - begun


def measure(generators: Generators, server: Mailgate, path: HotPath) -> tuple[float, float]:
    """Return the CPU microseconds of a unit (of a MB, where octets are counted), and their ratio."""
    before = calibration_seconds()
    port = server.lmtp if path.drive == "deliveries" else server.pop3
    run = getattr(generators, path.drive)(server.tree, port, seconds=SECONDS, **path.options)
    calibration = (before + calibration_seconds()) / 2
    units = run[path.per] / 1e6 if path.per == "octets" else run[path.per]
    seconds = run["cpu_seconds"] / max(units, 1)
    return seconds * 1e6, 1000 * seconds / calibration      # in thousandths of the calibration's work


def line(title: str, microseconds: float, ratio: float, landed: float | None) -> str:
    """Return a line of the report."""
    if not landed:
        return f"{title:22}{microseconds:10.1f}{ratio:10.3f}{'-':>10}"
    change = ratio / landed
    remark = "  slower" if change > REMARKABLE else "  faster" if change < 1 / REMARKABLE else ""
    return f"{title:22}{microseconds:10.1f}{ratio:10.3f}{landed:10.3f}{change:8.2f}x{remark}"


def give_up(*_: object) -> None:
    """End a measurement that hangs. Raises: WrongReply."""
    raise WrongReply(f"not done after {MOST_SECONDS} s")


def run() -> dict[str, float]:
    """Measure all and report; return the ratios."""
    landed = json.loads(LANDED.read_text()) if LANDED.exists() else {}
    ratios = {}
    print(f"{'hot path':22}{'CPU µs':>10}{'ratio':>10}{'landed':>10}{'change':>9}")
    with workplace() as (folder, generators):
        server = Mailgate(folder / "mailgate")
        server.fill({"kind": "accounts", "user": "u%04d", "count": USERS},
                    {"kind": "accounts", "user": "large%d", "count": 1},
                    {"kind": "mixed", "user": "u%04d", "users": USERS, "messages": MESSAGES},
                    {"kind": "large", "users": ["large0"], "octets": 8 << 20})
        with server:
            generators.sessions(server.tree, server.pop3, conns=16, users=USERS, count=USERS)   # to be warm
            rounds = [[measure(generators, server, path) for path in PATHS] for _ in range(ROUNDS)]
            for path, measured in zip(PATHS, zip(*rounds, strict=True), strict=True):
                microseconds, ratio = min(measured, key=itemgetter(1))
                ratios[path.title] = round(ratio, 4)
                print(line(path.title, microseconds, ratio, landed.get(path.title)), flush=True)
    return ratios


def main() -> int:
    """Report; with `--land` keep the ratios too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--land", action="store_true")
    asked = parser.parse_args()
    raise_limits()
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(MOST_SECONDS)
    try:
        ratios = run()
    except (OSError, SystemExit, WrongReply, subprocess.SubprocessError) as why:
        print(f"not measured: {why}")
        return 0
    if asked.land:
        LANDED.write_text(json.dumps(ratios, indent=1) + "\n")
    return 0
