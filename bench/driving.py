"""The load generators: build them, and run one beside a server whose CPU is taken meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.processes import CLIENT_CORE, CORES, Tree

HERE = Path(__file__).resolve().parent
Options = Mapping[str, "int | float | str"]


class WrongReply(Exception):
    """A server said what it must not, or nothing: figures of that run mean nothing."""


class Generators:
    """`pop3.c` and `lmtp.c`, compiled into a folder. Raises: CalledProcessError, FileNotFoundError."""

    def __init__(self, folder: Path) -> None:
        self.pop3, self.lmtp = (self._build(folder, name) for name in ("pop3", "lmtp"))

    @staticmethod
    def _build(folder: Path, name: str) -> Path:
        program = folder / name
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-O2", "-o", str(program), str(HERE / f"{name}.c")], check=True)
        return program

    def sessions(self, server: Tree, port: int, **options: int | float | str) -> dict[str, Any]:
        """Run whole sessions; return the result with `cpu_seconds` of the server. Raises: WrongReply."""
        before = server.settled_cpu_seconds()
        finished = subprocess.run(beside([str(self.pop3), "session", str(port), *_words(options)]),
                                  stdout=subprocess.PIPE, text=True, check=False)
        result = judged(finished.stdout, finished.returncode)
        result["cpu_seconds"] = server.settled_cpu_seconds() - before
        return result

    def commands(self, server: Tree, port: int, **options: int | float | str) -> dict[str, Any]:
        """Run commands over open sessions; logins and QUITs are not in the result. Raises: WrongReply."""
        with self.held("open", port, **options) as held:
            before = server.settled_cpu_seconds()
            result = held.work()
            result["cpu_seconds"] = server.settled_cpu_seconds() - before
        return result

    @contextlib.contextmanager
    def held(self, mode: str, port: int, **options: int | float | str) -> Iterator[Held]:
        """Hold sessions open. Raises: WrongReply, if they cannot all log in or do not end in order."""
        held = Held(beside([str(self.pop3), mode, str(port), *_words(options)]))
        try:
            held.wait()
            yield held
        finally:
            held.end()

    def deliveries(self, server: Tree, port: int, **options: int | float | str) -> dict[str, Any]:
        """Deliver; return the result with `cpu_seconds` of the server. Raises: WrongReply."""
        before = server.settled_cpu_seconds()
        finished = subprocess.run(beside([str(self.lmtp), str(port), *_words(options)]),
                                  stdout=subprocess.PIPE, text=True, check=False)
        result = judged(finished.stdout, finished.returncode)
        result["cpu_seconds"] = server.settled_cpu_seconds() - before
        return result


class Held:
    """Open sessions: all logged in after `wait`, at work during `work`, gone after `end`."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._worked = False

    def wait(self) -> None:
        """Return once all are logged in. Raises: WrongReply."""
        said = self._line()
        if said != "holding":
            raise WrongReply(f"the sessions could not all log in: {said}")

    def begin(self) -> None:
        """Let the work begin."""
        assert self.process.stdin is not None
        self._worked = True
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """Return what the work came to. Raises: WrongReply."""
        return judged(self._line(), 0)

    def work(self) -> dict[str, Any]:
        """Do both."""
        self.begin()
        return self.result()

    def end(self) -> None:
        """Have the sessions end with QUIT."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            if not self._worked:
                self.process.stdin.write("\n")
            self.process.stdin.close()
        self.process.wait(120)

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def judged(said: str, code: int) -> dict[str, Any]:
    """Return what a generator printed. Raises: WrongReply, if it met one."""
    try:
        result: dict[str, Any] = json.loads(said)
    except ValueError:
        raise WrongReply(f"no result: {said!r}") from None
    if code or result["faults"]:
        raise WrongReply(str(result))
    return result


def _words(options: Options) -> list[str]:
    return [f"{key}={value}" for key, value in options.items()]


def beside(command: list[str]) -> list[str]:
    """Return the command so that it runs beside the server, not on its core."""
    return ["taskset", "-c", str(CLIENT_CORE), *command] if CORES > 1 else command


@contextlib.contextmanager
def workplace() -> Iterator[tuple[Path, Generators]]:
    """Give a temporary folder that other users may enter, with the generators in it; it is removed."""
    with tempfile.TemporaryDirectory(prefix="mailgate-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder, Generators(folder)
