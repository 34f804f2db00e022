"""One client, one scenario: polls in a throw-away folder, watched and bounded in time, and what came of it.

A run has three polls: two while the scenario is on, and one when the server is well again. Time at the server
goes SPEED times as fast, so that its minutes are seconds here; a client's few seconds of patience then are as
much as half a minute. A silence of QUIET_SECONDS is longer than they may take, and shorter than the server
lets pass before it hangs up on its own account (three minutes, which are eighteen seconds here).
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mailgate.testing import samples, scenarios
from mailgate.testing.server import Server
from tests.testing.clients.programs import (
    CLIENTS,
    PASSWORD,
    ROOT,
    USER,
    At,
    Client,
    Sink,
    Way,
    collected,
)
from tests.testing.clients.verdicts import ENDLESS, HANG, Original, Outcome, Poll, judge
from tests.testing.clients.ways import ALTERED_BY_SERVER, BAD_TIMESTAMP, BAD_TLS, NEVER_WELL, way_of

SPEED = 10
QUIET_SECONDS = 15.0                        # so long nothing is said by either side: it hangs
POLL_SECONDS = 45.0                         # and this: longer than any poll of ours has to be
STEP_SECONDS = 0.1
OUTPUT_OCTETS = 20_000
FILE_BLOCKS = 400_000                       # of 512 octets: a client that writes without end fills no disk
BUSY_OCTETS = 10_000_000                    # written while nobody says anything: that is no hang
MAIL = ("plain", "dots", "utf8")            # where a scenario asks for nothing
AT_LAST = {"xoauth2": "pass"}               # how it comes in to a server that is well and knows no tokens


def applies(client: Client, name: str) -> bool:
    """Whether a client can come in as a scenario wants it."""
    return client.can(way_of(name))


def run(client_name: str, scenario_name: str, quiet_seconds: float = QUIET_SECONDS) -> dict[str, Any]:
    """Return what became of a client in a scenario, ready for JSON.

    A client that is silent, and is told nothing, for `quiet_seconds` hangs.
    """
    client, scenario = CLIENTS[client_name], scenarios.load(scenario_name)
    way = way_of(scenario_name)
    with tempfile.TemporaryDirectory(prefix="mailgate-clients-") as folder, \
            Server(settings=scenario.settings, seed=scenario.seed) as server, _quick(server), Sink() as sink:
        drop = server.account(USER, PASSWORD)
        for content in samples.all_contents(scenario.messages or MAIL):
            drop.add(content)
        originals: dict[str, Original] = {}
        faults = server.scenario(scenario)
        port = server.address("pop3s" if way.tls == "pop3s" else "pop3")[1]
        at = At(port, server.ca_file, Path(folder), way, sink.port)
        met = not faults
        polls, stored_after = [], []
        for number in (1, 2, 3):
            if number == 3:
                met = met or any(fault.acted for fault in faults)
                if scenario_name not in NEVER_WELL:
                    server.clear_faults()
                at = replace(at, way=replace(way, login=AT_LAST.get(way.login, way.login)))
            originals |= {one.unique_id: Original(one.unique_id, one.content) for one in drop.messages
                          if one.unique_id not in originals}
            polls.append(_poll(client, at, server, quiet_seconds))
            stored_after.append(len(_stored(client, at, sink)))
        for fault in scenario.faults:       # what came and went within one poll
            if fault.do == "arrival" and fault.settings["text"] not in [one.content for one in
                                                                        originals.values()]:
                originals["new"] = Original("new", fault.settings["text"])
        there = set(drop.unique_ids)
        for original in originals.values():
            original.left = original.unique_id in there
        outcome = Outcome(
            list(originals.values()), _stored(client, at, sink), polls,
            frozenset(unique_id for session in server.sessions for unique_id in session.deleted),
            deletes=client.deletes, met=met, altered=scenario_name in ALTERED_BY_SERVER,
            secure=way.tls != "none", said_in_clear=_said_in_clear(server),
            trusting_logins=_trusting(server, scenario_name),
            stored_after=stored_after)
        return _report(client, scenario_name, way, outcome)


def _report(client: Client, scenario: str, way: Way, outcome: Outcome) -> dict[str, Any]:
    verdict = judge(outcome)
    return {
        "client": client.name, "scenario": scenario, "tls": way.tls, "login": way.login, "verdict": verdict,
        "messages": len(outcome.originals), "stored_after": list(outcome.stored_after),
        "removed": len(outcome.removed),
        "left": sum(one.left for one in outcome.originals),
        "polls": [{"code": poll.code, "seconds": round(poll.seconds, 1),
                   **({"ended": poll.ended} if poll.ended else {})} for poll in outcome.polls],
        "notes": {word: names[:3] for word, names in sorted(outcome.notes.items())},
        "output": [poll.output for poll in outcome.polls]}


def _stored(client: Client, at: At, sink: Sink) -> list[bytes]:
    return [taken.content for taken in sink.taken] if client.by_smtp else collected(at.folder)


def _said_in_clear(server: Server) -> list[str]:
    return [event.octets.split(b" ")[0].strip().upper().decode("ascii", "replace")
            for session in server.sessions for event in session.events if event.who == "C" and not event.tls]


def _trusting(server: Server, scenario: str) -> int:
    """Return in how many sessions the client logged in, or tried to, behind what it should have refused."""
    met = [session for session in server.sessions if any(event.faults for event in session.events)]
    if scenario in BAD_TIMESTAMP:
        return sum("APOP" in session.verbs for session in met)
    return sum(bool(session.logins) for session in met) if scenario in BAD_TLS else 0


# One poll -----------------------------------------------------------------------------------------


def _poll(client: Client, at: At, server: Server, quiet_seconds: float) -> Poll:
    """Run the program once to its end, or to the end of our patience."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(at.folder), "LC_ALL": "C", "TZ": "UTC",
                   "USER": "tester", "LOGNAME": "tester", "FETCHMAILHOME": str(at.folder),
                   "PYTHONPATH": str(ROOT), **client.environment}
    log = at.folder / "output"
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(["/bin/sh", "-c", f'ulimit -f {FILE_BLOCKS}; exec "$@"', "sh",
                                    *client.arguments(at)], stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, env=environment, cwd=at.folder,
                                   start_new_session=True)
        ended = _watch(process, server, began, quiet_seconds, at.folder)
    told = _end_of(log)
    if process.returncode == -signal.SIGXFSZ:
        ended = ENDLESS
    poll = Poll(process.returncode, time.monotonic() - began, told, ended)
    poll.failed = poll.code not in client.content_codes
    _wait_for_sessions(server)
    return poll


def _end_of(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - OUTPUT_OCTETS))
        return file.read().decode("utf-8", "replace")


def _watch(process: subprocess.Popen[bytes], server: Server, began: float, quiet_seconds: float,
           folder: Path) -> str:
    """Return "" when the program has ended by itself, HANG or ENDLESS when we ended it."""
    said, since, held = -1, began, 0
    while True:
        try:
            process.wait(STEP_SECONDS)
            return ""
        except subprocess.TimeoutExpired:
            now = time.monotonic()
        count = sum(len(session.events) for session in server.sessions)
        if count != said:
            said, since, held = count, now, _octets(folder)
        ended = HANG if now - since > quiet_seconds else (
            ENDLESS if now - began > POLL_SECONDS + quiet_seconds else "")
        if ended:
            os.killpg(process.pid, signal.SIGKILL)      # a session of its own: the program and its children
            process.wait()
            return ENDLESS if _octets(folder) - held > BUSY_OCTETS else ended


def _octets(folder: Path) -> int:
    """Return how much lies in a folder that somebody works in."""
    found = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            found += file.stat().st_size
    return found


def _wait_for_sessions(server: Server) -> None:
    """Wait until the server has seen that the client is gone; what stays open then is cut."""
    until = time.monotonic() + 1
    while any(session.open for session in server.sessions) and time.monotonic() < until:
        time.sleep(0.02)
    server._call(server._harness.cut_all)


@contextmanager
def _quick(server: Server) -> Iterator[None]:
    """Have the server's time go faster."""
    over = threading.Event()

    def drive() -> None:
        while not over.wait(STEP_SECONDS):
            server.clock.advance((SPEED - 1) * STEP_SECONDS)

    thread = threading.Thread(target=drive, name="mailgate-lab-clock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
