"""A script as many have written it, with poplib: fetch all, delete all. No timeout, no list of the known."""

from __future__ import annotations

import poplib
import sys
from pathlib import Path

from tests.testing.clients.scripts.common import arguments, connected, store


def main() -> None:
    """Fetch and delete everything."""
    to = arguments()
    pop = connected(to, None)
    for number in range(1, len(pop.list()[1]) + 1):
        lines = pop.retr(number)[1]
        store(Path(to.folder), b"\n".join(lines) + b"\n")
        pop.dele(number)
    pop.quit()


try:
    main()
except (poplib.error_proto, OSError) as fault:
    sys.exit(f"{type(fault).__name__}: {fault}")
