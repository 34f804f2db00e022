"""How long a test waits for the harness: `python -m bench.harness`.

Prints, of a server for tests of mail clients, the least and the middle of several runs: from the start of a
fresh Python to the first login, the whole process, its imports included; to start and stop one more server in
a process that had one; and to reset one.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

RUNS = 15
FRESH = """
import poplib
from mailgate.testing import Server
with Server() as server:
    server.account("mrose", "secret")
    client = poplib.POP3(*server.pop3)
    client.user("mrose")
    client.pass_("secret")
"""


def fresh_process() -> None:
    """Start a Python whose first act is a login at a server of its own."""
    subprocess.run([sys.executable, "-c", FRESH], check=True)


def one_more() -> None:
    """Start and stop a server."""
    from mailgate.testing import Server

    with Server():
        pass


def measured(what: Callable[[], object]) -> tuple[float, float]:
    """Return the least and the middle of several runs, in seconds; the first is not counted."""
    took = []
    for run in range(RUNS + 1):
        before = time.perf_counter()
        what()
        if run:
            took.append(time.perf_counter() - before)
    return min(took), statistics.median(took)


def main() -> None:
    """Print all figures."""
    from mailgate.testing import Server

    with Server() as server:
        for words, what in (("fresh process to first login", fresh_process),
                            ("one more server, started and stopped", one_more),
                            ("reset", server.reset)):
            least, middle = measured(what)
            print(f"{words}: {middle * 1000:.1f} ms (least {least * 1000:.1f} ms)")


if __name__ == "__main__":
    main()
