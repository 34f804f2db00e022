"""A careful script with poplib: leaves all mail on the server and knows by unique-id what it has.

It has a timeout, stores before it notes, goes on behind a message that is refused, and ends the session where
the conversation makes no sense.
"""

from __future__ import annotations

import poplib
import sys
from pathlib import Path

from tests.testing.clients.scripts.common import arguments, connected, store

TIMEOUT_SECONDS = 4.0


def main() -> None:
    """Fetch what is new."""
    to = arguments()
    folder = Path(to.folder)
    seen_file = folder / "seen"
    seen = set(seen_file.read_bytes().split(b"\n")) if seen_file.exists() else set()
    pop = connected(to, TIMEOUT_SECONDS)
    failures = 0
    for line in pop.uidl()[1]:
        number, _, unique_id = line.partition(b" ")
        if unique_id in seen:
            continue
        try:
            lines = pop.retr(int(number))[1]
        except poplib.error_proto as fault:
            if not str(fault.args[0]).startswith("b'-ERR"):
                raise
            failures += 1
            continue
        store(folder, b"\n".join(lines) + b"\n")
        seen.add(unique_id)
        with seen_file.open("ab") as file:
            file.write(unique_id + b"\n")
    pop.quit()
    if failures:
        sys.exit(f"{failures} messages were refused")


try:
    main()
except (poplib.error_proto, OSError) as fault:
    sys.exit(f"{type(fault).__name__}: {fault}")
