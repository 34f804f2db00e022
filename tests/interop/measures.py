"""What a running service costs, read from proc(5): memory and descriptors."""

from __future__ import annotations

import os
import re
import resource
import time
from pathlib import Path

MEGABYTE = 1_000_000


class Costs:
    """The costs of one process, the memory counted from when this was made."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self.before = self.resident()
        (self._folder / "clear_refs").write_text("5\n")     # the peak begins anew

    def resident(self) -> int:
        """Return octets of memory in use now."""
        return self._kib("VmRSS") * 1024

    def peak_growth(self) -> int:
        """Return by how many octets memory in use has ever exceeded what it was at first."""
        return self._kib("VmHWM") * 1024 - self.before

    def growth(self) -> int:
        """Return by how many octets memory in use exceeds what it was at first."""
        return self.resident() - self.before

    def processor_seconds(self) -> float:
        """Return the processor time used so far, the system's part included."""
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> list[str]:
        """Return what the process has open, sorted."""
        found = []
        for entry in (self._folder / "fd").iterdir():
            try:
                found.append(os.readlink(entry))
            except FileNotFoundError:       # closed while we looked
                continue
        return sorted(found)

    def settled_descriptors(self) -> list[str]:
        """Return what is open once that changes no more: connections that have ended are closed by then.

        Sockets and pipes go by their kind, as their numbers change.
        """
        while True:
            found = self.descriptors()
            time.sleep(0.2)
            if self.descriptors() == found:
                return [name.partition(":[")[0] for name in found]

    def _kib(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", (self._folder / "status").read_text())
        assert found, name
        return int(found[1])


def allow_descriptors(count: int) -> None:
    """Let this process, and what it starts, have that many open files, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def tell(what: str, figure: object) -> None:
    """Print a measured figure, for those who run with -s."""
    print(f"\n    measured: {what}: {figure}")


def megabytes(octets: int) -> str:
    """Return octets as a figure to read."""
    return f"{octets / MEGABYTE:.1f} MB"
