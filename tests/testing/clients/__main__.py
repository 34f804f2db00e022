"""Put real mail clients through the library of scenarios, and say what became of the mail.

    python -m tests.testing.clients                                         # every client, every scenario
    python -m tests.testing.clients --client curl cut-in-mid-message        # one run
    python -m tests.testing.clients --client curl cut-in-mid-message --show # and what it printed
    python -m tests.testing.clients --save                  # all, kept in docs/testing/clients
    python -m tests.testing.clients --pages                 # the manual's pages from what was kept
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mailgate.testing import scenarios
from tests.testing.clients import lab, pages
from tests.testing.clients.programs import CLIENTS
from tests.testing.clients.verdicts import BAD

JOBS = 4        # runs side by side: most of a run is waiting
SHOWN = 4000    # characters of what a poll printed


def main() -> int:
    """Run what is asked for; return 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.testing.clients", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="left out: all")
    parser.add_argument("--client", action="append", choices=sorted(CLIENTS), help="left out: all")
    parser.add_argument("--jobs", type=int, default=JOBS, help="runs side by side")
    parser.add_argument("--quiet", type=float, default=lab.QUIET_SECONDS, metavar="SECONDS",
                        help="silence of both sides that is taken for a hang")
    parser.add_argument("--show", action="store_true", help="the end of what the client printed")
    parser.add_argument("--save", action="store_true", help="keep the results, and make the pages")
    parser.add_argument("--pages", action="store_true", help="make the pages from what was kept, run nothing")
    asked = parser.parse_args()
    if not asked.pages:
        names, clients = asked.scenarios or scenarios.names(), asked.client or list(CLIENTS)
        done: dict[str, list[dict[str, Any]]] = {client: [] for client in clients}
        for run in _runs(clients, names, asked.jobs, asked.quiet):
            done[run["client"]].append(run)
            _tell(run, asked.show)
        if asked.save:
            for client, runs in done.items():
                pages.save_results(client, runs)
    if asked.save or asked.pages:
        pages.write()
    return 0


def _runs(clients: list[str], names: list[str], jobs: int, quiet: float) -> Iterator[dict[str, Any]]:
    pairs = [(client, name) for name in names for client in clients if lab.applies(CLIENTS[client], name)]
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda pair: lab.run(*pair, quiet), pairs)


def _tell(run: dict[str, Any], show: bool) -> None:
    polls = ", ".join(f"{poll['code']} in {poll['seconds']} s" for poll in run["polls"])
    bad = "!" if set(run["verdict"]) & set(BAD) else " "
    print(f"{bad} {run['scenario']:40} {run['client']:15} {', '.join(run['verdict']):25} stored"
          f" {run['stored_after']} of {run['messages']}, removed {run['removed']}, left {run['left']};"
          f" polls: {polls}; {run['notes'] or ''}", flush=True)
    for number, output in enumerate(run["output"] if show else (), 1):
        print(f"--- poll {number}\n{output[-SHOWN:]}\n")


if __name__ == "__main__":
    sys.exit(main())
