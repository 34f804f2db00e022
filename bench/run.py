"""Measure a real mailgate: start it over a fresh store, fill it by LMTP, drive it with `load.c`.

    .venv/bin/python bench/run.py [--seconds 5] [--repeat 3] [--json FILE]

Needs a C compiler for the load generator. Everything is on loopback and in a temporary folder. The
server is pinned to one core and the generator to another where there are two. The figures are
medians over the repetitions; CPU is what the server's process used, user and system, so that they
compare between machines better than the clock does. `busy` near 1 would mean that the generator
was the limit, and any fault in a reply ends the run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import resource
import smtplib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
USERS = 64
IDLE_USERS = 2000      # accounts without mail whose sessions idle
MESSAGES = 20          # in each maildrop
LARGE_OCTETS = 8 << 20  # one message of this size in maildrop of the user "large"
PASSWORD = "secret"
SEED = 1939

CONFIGURATION = """\
hostname = "bench.example"
[store]
metadata = "sqlite:mail.db"
bodies = "file:bodies"
[[listen]]
protocol = "pop3"
endpoint = "tcp:{pop3}:interface=127.0.0.1:backlog=1000"
plaintext_login = true
[[listen]]
protocol = "lmtp"
endpoint = "tcp:{lmtp}:interface=127.0.0.1"
"""


class Run(NamedTuple):
    """One row of the table: what is run, and what its figure is."""

    title: str
    unit: str
    mode: str
    options: dict[str, int | str]
    figure: str            # key of `figures`


RUNS = (
    Run("login and QUIT", "sessions per CPU second", "login", {"count": 3000}, "sessions"),
    Run("USER PASS STAT UIDL LIST 3 RETR QUIT", "sessions per CPU second", "session", {"count": 2000},
        "sessions"),
    Run("NOOP STAT LIST n UIDL n", "commands per CPU second", "command", {"count": 100000, "conns": 64},
        "commands"),
    Run("the same, 16 pipelined", "commands per CPU second", "command",
        {"count": 400000, "conns": 64, "pipeline": 16}, "commands"),
    Run("RETR, small messages", "MB per CPU second", "retr",
        {"count": 20000, "messages": MESSAGES}, "megabytes"),
    Run("RETR, one of 8 MB", "MB per CPU second", "retr",
        {"count": 100, "conns": 1, "messages": 1, "users": 1, "user": "large%d"}, "megabytes"),
    Run("TOP n 0", "commands per CPU second", "top", {"count": 20000, "messages": MESSAGES}, "commands"),
)


def build(folder: Path) -> Path:
    """Compile the load generator. Raises: CalledProcessError, FileNotFoundError without a compiler."""
    program = folder / "load"
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", str(program), str(HERE / "load.c")], check=True)
    return program


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def messages(random_source: random.Random) -> Iterator[bytes]:
    """Yield messages of a seeded corpus: median some KB, a few of 100 KB, dots and long lines in them."""
    while True:
        octets = int(random_source.lognormvariate(8.6, 1.0)) if random_source.random() > 0.02 else 100_000
        lines = [b"Subject: message %d" % random_source.getrandbits(32), b"From: <a@bench.example>", b""]
        while octets > 0:
            line = b"." * random_source.randrange(2) + b"x" * random_source.randrange(1, 78)
            lines.append(line)
            octets -= len(line) + 2
        yield b"\r\n".join(lines) + b"\r\n"


def fill(port: int) -> tuple[int, float]:
    """Deliver the corpus over one LMTP connection; return how many messages and the seconds."""
    corpus = messages(random.Random(SEED))
    begun = time.monotonic()
    with smtplib.LMTP("127.0.0.1", port) as client:
        for user in range(USERS):
            for _ in range(MESSAGES):
                client.sendmail("a@bench.example", [f"u{user:04d}@bench.example"], next(corpus))
        large = b"Subject: large\r\n\r\n" + (b"y" * 76 + b"\r\n") * (LARGE_OCTETS // 78)
        client.sendmail("a@bench.example", ["large0@bench.example"], large)
    return USERS * MESSAGES + 1, time.monotonic() - begun


class Server:
    """A mailgate of its own, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.pop3, self.lmtp = free_port(), free_port()
        configuration = folder / "mailgate.toml"
        configuration.write_text(CONFIGURATION.format(pop3=self.pop3, lmtp=self.lmtp))
        accounts = folder / "accounts"
        verifier = self._hashed()
        names = [f"u{user:04d}" for user in range(USERS)] + ["large0"]
        names += [f"i{user:04d}" for user in range(IDLE_USERS)]
        accounts.write_text("".join(f"{name}:{verifier}\n" for name in names))
        subprocess.run([BIN / "mailgate", "-c", configuration, "account", "load", accounts], check=True)
        self.process = subprocess.Popen(
            [BIN / "twistd", "-n", "--pidfile=", f"--logfile={folder / 'log'}", "mailgate", "-c",
             str(configuration)], stdout=subprocess.DEVNULL)
        if (os.cpu_count() or 1) > 1:
            os.sched_setaffinity(self.process.pid, {0})
        self._wait()

    @staticmethod
    def _hashed() -> str:
        from mailgate.auth.schemes import hash_password
        return hash_password(PASSWORD.encode(), "SHA512-CRYPT")

    def _wait(self) -> None:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.pop3)):
                return
            time.sleep(0.05)
        raise SystemExit("mailgate did not start")

    def cpu_seconds(self) -> float:
        """Return the CPU time used so far, user and system, all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_octets(self) -> int:
        """Return the memory that is this process's own or its share (PSS)."""
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no PSS")

    def stop(self) -> None:
        """End the server as an operator does."""
        self.process.terminate()
        self.process.wait(30)


def drive(program: Path, server: Server, run: Run) -> dict[str, Any]:
    """Run the generator once; return its result with the server's CPU seconds."""
    options = {"conns": 16, "users": USERS, **run.options}
    before = server.cpu_seconds()
    words = [f"{key}={value}" for key, value in options.items()]
    command = [str(program), run.mode, str(server.pop3), *words]
    finished = subprocess.run(pinned(command), stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(finished.stdout)
    if finished.returncode:
        raise SystemExit(f"{run.title}: wrong replies: {result}")
    result["cpu_seconds"] = server.cpu_seconds() - before
    return result


def pinned(command: list[str]) -> list[str]:
    """Return the command so that it runs beside the server, not on its core."""
    return ["taskset", "-c", "1", *command] if (os.cpu_count() or 1) > 1 else command


def figures(result: dict[str, Any]) -> dict[str, float]:
    """Return what one run came to, per CPU second of the server."""
    cpu = max(result["cpu_seconds"], 0.01)
    return {"sessions": result["sessions"] / cpu, "commands": result["commands"] / cpu,
            "megabytes": result["octets"] / 1e6 / cpu}


def idle(program: Path, server: Server) -> float:
    """Return the octets of memory that an idle, logged-in session takes, measured over many."""
    sessions = IDLE_USERS
    command = [str(program), "idle", str(server.pop3), f"conns={sessions}", f"users={sessions}",
               "user=i%04d", "seconds=120"]
    # every name once before: what the server remembers of an account is not the session's
    warm: dict[str, int | str] = {"users": sessions, "count": sessions, "user": "i%04d"}
    drive(program, server, Run("logins", "", "login", warm, ""))
    before = server.memory_octets()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as held:
        assert held.stdout is not None and held.stdin is not None
        if held.stdout.readline().strip() != "holding":
            raise SystemExit("the idle sessions could not all log in")
        after = server.memory_octets()
        held.stdin.close()
    return (after - before) / sessions


def main() -> None:
    """Measure, print a table, and keep the figures when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))      # the server's and the generator's too
    rows = []
    with tempfile.TemporaryDirectory(prefix="mailgate-bench-") as name:
        folder = Path(name)
        program = build(folder)
        server = Server(folder)
        try:
            count, seconds = fill(server.lmtp)
            print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}, "
                  f"{os.cpu_count()} cores; {count} messages delivered in {seconds:.1f} s")
            for run in RUNS:
                results = [drive(program, server, run) for _ in range(asked.repeat)]
                values = sorted(figures(result)[run.figure] for result in results)
                busy = max(result["busy"] for result in results)
                rows.append({"work": run.title, "unit": run.unit, "median": statistics.median(values),
                             "least": values[0], "most": values[-1], "busy": busy})
                print(f"{run.title:40} {rows[-1]['median']:10.0f}  {run.unit:24} "
                      f"({values[0]:.0f} to {values[-1]:.0f}; generator {busy:.0%} busy)")
            octets = idle(program, server)
            rows.append({"work": "idle session", "unit": "octets", "median": octets})
            print(f"{'an idle, logged-in session':40} {octets:10.0f}  octets")
        finally:
            server.stop()
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
