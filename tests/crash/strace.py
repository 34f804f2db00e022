"""strace at a running process: what it asked of the kernel in which order, and faults at a chosen call.

Order is the order of lines in strace's output. strace stops a thread before every call and after
it, and writes as it handles the stops; so a call that returned before another began, the one
having caused the other, has its end written before the other's beginning.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.needs import needs, unavailable
from tests.services import WAIT_SECONDS, lives

SHOWN_OCTETS = 48       # of the data that a call reads or writes

_WHOLE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\w+|\?).*")
_BEGUN = re.compile(r"(\d+) +(\w+)\((.*) <(?:unfinished|detached) \.\.\.>")
_ENDED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\w+|\?).*")


class Call(NamedTuple):
    """One system call: `began` and `ended` are positions in the trace; it ended later or at once."""

    name: str
    arguments: str          # as strace shows them: descriptors with their paths, 17</tmp/x>
    result: str             # "?" where strace was told to end before the call did
    began: int
    ended: int


def needs_strace() -> str:
    """Return strace's path. Raises: as `needs`, also where it may not attach to a process of ours."""
    path = needs("strace")
    if not _may_attach():
        unavailable("strace may not attach to processes here: needs root, or kernel.yama.ptrace_scope = 0")
    return path


@cache
def _may_attach() -> bool:
    with subprocess.Popen(["sleep", str(WAIT_SECONDS)]) as sleeper:
        try:
            with attached(sleeper.pid, "-o", "/dev/null"):
                return True
        except AssertionError:
            return False
        finally:
            sleeper.kill()


@contextmanager
def attached(pid: int, *options: str) -> Iterator[None]:
    """Trace a running process with all its threads while the block runs.

    A block in which the process dies waits for its death (`Child.kill` does): strace that is told
    to end meanwhile may wait for ever.
    """
    process = subprocess.Popen([needs("strace"), "-f", "-p", str(pid), *options],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    words = process.stderr.readline()
    try:
        assert " attached" in words, words
        yield
    finally:
        if lives(pid):
            process.terminate()
        try:
            process.communicate(timeout=WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


@contextmanager
def traced(pid: int, output: Path) -> Iterator[None]:
    """Write what a process does to a file for `read_trace`."""
    with attached(pid, *tracing(output)):
        yield


def tracing(output: Path, *further: str) -> Sequence[str]:
    """Return strace's options for a file that `read_trace` understands."""
    return ["-y", "-s", str(SHOWN_OCTETS), "-o", str(output), *further]


def killing(call: str, number: int, path: str = "") -> Sequence[str]:
    """Return strace's options to kill a process as some thread of it begins its n-th call of a name.

    With a `path`, calls at this file alone are counted.
    """
    return [*(["-P", path] if path else []), "-o", "/dev/null", "-e", f"trace={call}",
            "-e", f"inject={call}:signal=KILL:when={number}"]


def failing(calls: str, error: str, when: str = "1+") -> Sequence[str]:
    """Return strace's options that make calls fail, all of them or the n-th of each name and thread."""
    return ["-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}:when={when}"]


def read_trace(output: Path) -> list[Call]:
    """Return the calls of a trace in the order in which they ended.

    Calls that were under way at the trace's end come last, as if they had ended there: a peer can
    have the octets of an answer, and strace be told to end, before strace hears that the call returned.
    """
    calls: list[Call] = []
    open_calls: dict[str, tuple[str, int, str]] = {}
    lines = output.read_text("utf-8", "replace").splitlines()
    for position, line in enumerate(lines):
        if found := _WHOLE.fullmatch(line):
            _, name, arguments, result = found.groups()
            calls.append(Call(name, arguments, result, position, position))
        elif found := _BEGUN.fullmatch(line):
            thread, name, arguments = found.groups()
            open_calls[thread] = name, position, arguments
        elif found := _ENDED.fullmatch(line):
            thread, name, rest, result = found.groups()
            _, began, arguments = open_calls.pop(thread, (name, -1, ""))
            calls.append(Call(name, arguments + rest, result, began, position))
    calls += [Call(name, arguments, "?", began, len(lines)) for name, began, arguments in open_calls.values()]
    return calls
