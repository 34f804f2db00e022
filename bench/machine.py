"""Where a measurement was made: the machine, and the versions of what was measured."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import mailgate
import twisted


def describe(**versions: str) -> dict[str, Any]:
    """Return what a reader must know to judge figures; `versions` are those of other servers."""
    one, five, fifteen = os.getloadavg()
    return {
        "taken": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "system": f"{platform.system()} {platform.release()}",
        "load_averages": [round(value, 1) for value in (one, five, fifteen)],
        "versions": {
            "mailgate": _version(), "Python": platform.python_version(), "Twisted": twisted.__version__,
            "SQLite": sqlite3.sqlite_version, **versions},
    }


def sentence(machine: dict[str, Any]) -> str:
    """Return the description as a paragraph of the manual."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    load = ", ".join(map(str, machine["load_averages"]))
    return (f"Taken {machine['taken']} on {machine['cores']} cores ({machine['processor']}), "
            f"{machine['memory_mb']} MB, {machine['system']}; load averages at the end {load}. {versions}.\n")


def _version() -> str:
    asked = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=Path(mailgate.__file__).parent,
                           capture_output=True, text=True, check=False)
    return " ".join(filter(None, (metadata.version("mailgate"), asked.stdout.strip())))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown'}, {platform.machine()}"


def progress(words: str) -> None:
    """Tell whoever waits."""
    print(words, file=sys.stderr, flush=True)
