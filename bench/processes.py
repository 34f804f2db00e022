"""What processes cost: CPU and memory of a server with all its children, read from /proc (Linux)."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

CORES = os.cpu_count() or 1
SERVER_CORE, CLIENT_CORE = 0, CORES - 1     # of one machine each, where there are two
_TICKS = os.sysconf("SC_CLK_TCK")


def parse_stat(text: str) -> tuple[int, float, float]:
    """Return of /proc/PID/stat the parent, the CPU seconds, and those of children that were waited for."""
    fields = text.rpartition(")")[2].split()
    own, reaped = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    return int(fields[1]), own / _TICKS, reaped / _TICKS


def parse_field(text: str, name: str) -> int:
    """Return a field of /proc/PID/status or smaps_rollup in octets. Raises: ValueError without one."""
    for line in text.splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no {name}")


class Tree:
    """A process and all below it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def pids(self) -> list[int]:
        """Return the process ids that live now, the root's first."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parent = parse_stat((entry / "stat").read_text())[0]
                    children.setdefault(parent, []).append(int(entry.name))
        found = [self.pid]
        for pid in found:       # grows while it is walked
            found += children.get(pid, [])
        return found

    def cpu_seconds(self) -> float:
        """Return the CPU used so far, user and system; of ended children, too, that were waited for."""
        total = 0.0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                _, own, reaped = parse_stat(Path(f"/proc/{pid}/stat").read_text())
                total += (_exact_seconds(pid) or own) + reaped
        return total

    def settled_cpu_seconds(self) -> float:
        """Return the same once nothing works any more, or after two seconds."""
        before = self.cpu_seconds()
        for _ in range(20):
            time.sleep(0.1)
            now = self.cpu_seconds()
            if now - before < 0.002:
                break
            before = now
        return now

    def memory_octets(self) -> int:
        """Return the memory that is the processes' own, with their share of what is shared (PSS)."""
        return sum(self._of_each("smaps_rollup", "Pss"))

    def peak_octets(self) -> int:
        """Return the largest resident sets since `peak_octets_from_now`, summed."""
        return sum(self._of_each("status", "VmHWM"))

    def peak_octets_from_now(self) -> int:
        """Begin to look for the largest resident set anew; return what it is now."""
        for pid in self.pids():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")
        return self.peak_octets()

    def _of_each(self, file: str, field: str) -> Iterator[int]:
        for pid in self.pids():
            with contextlib.suppress(OSError, ValueError):
                yield parse_field(Path(f"/proc/{pid}/{file}").read_text(), field)


def _exact_seconds(pid: int) -> float:
    """Return the CPU seconds of a process's threads to the nanosecond; 0 where the kernel does not tell."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def pin(pid: int, core: int) -> None:
    """Bind a process and what it will start to one core, where there are two."""
    if CORES > 1:
        os.sched_setaffinity(pid, {core})


def raise_limits() -> int:
    """Let this process, and what it starts, have as many files open as may be; return how many."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (131_072, max(most, 131_072)))
        return 131_072
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, seconds: float = 30) -> None:
    """Return once a server greets at a port of loopback. Raises: SystemExit, if none does in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as probe:
            probe.settimeout(5)
            if probe.recv(1):
                return
        time.sleep(0.05)
    raise SystemExit(f"no server came up at port {port}")
