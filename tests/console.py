"""The manual's examples, carried out: files that its pages show, and the commands that they type.

A `code-block` with a `:caption:` is a file of that name. A `console` block is typed into one shell a
page, line by line: `$ ` begins a command, `> ` goes on with it, anything else is what it prints. There
`...` stands for any text of a line, alone on a line for any lines, and two blanks for any white space.
A command that ends with another code than 0 must be followed by `$ echo $?`, so that the page says so.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

COMMAND_SECONDS = 60.0      # no example takes longer
_BLOCK = re.compile(r"^(?P<margin> *)\.\. code-block:: (?P<language>\S+)\n"
                    r"(?P<body>(?:(?P=margin)   +\S.*\n| *\n)+)", re.MULTILINE)
_OPTION = re.compile(r":(\w[\w-]*): *(.*)\n")
_END = "end of output"


class Block(NamedTuple):
    """One code-block of a page."""

    language: str
    caption: str | None
    text: str
    line: int       # of the page, where it begins


class Step(NamedTuple):
    """One command with what it should print."""

    command: str
    output: str
    line: int


def blocks(page: str) -> list[Block]:
    """Return the code-blocks of a page of reStructuredText."""
    return [_block(found, page.count("\n", 0, found.start()) + 1) for found in _BLOCK.finditer(page)]


def _block(found: re.Match[str], line: int) -> Block:
    text = textwrap.dedent(found["body"])
    caption = None
    while option := _OPTION.match(text):
        caption = option[2] if option[1] == "caption" else caption
        text = text[option.end():]
    return Block(found["language"], caption, text.strip("\n") + "\n", line)


def steps(block: Block) -> list[Step]:
    """Return the commands of a console block. Raises: ValueError, for one that begins otherwise."""
    found: list[Step] = []
    command, output, begins = "", "", 0
    for number, row in enumerate(block.text.splitlines(keepends=True), block.line):
        if row.startswith("$ "):
            if command:
                found.append(Step(command, output, begins))
            command, output, begins = row[2:], "", number
        elif row.startswith(("> ", ">\n")) and command and not output:
            command += row[2:] or "\n"
        elif command:
            output += row
        else:
            raise ValueError(f"line {number}: output without a command")
    return [*found, Step(command, output, begins)]


class Shell:
    """A shell in a folder of its own. Both its outputs are one; ends with what it began in the background."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], cwd=folder, env={**environment}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)

    def run(self, command: str) -> tuple[str, int]:
        """Type a command; return what it prints and its exit code, which `$?` still has afterwards."""
        shell = self._process
        assert shell.stdin is not None and shell.stdout is not None
        shell.stdin.write(f"{command}\n__code=$?; printf '\\n{_END} %s\\n' $__code; (exit $__code)\n")
        shell.stdin.flush()
        patience = threading.Timer(COMMAND_SECONDS, self._kill, [signal.SIGKILL])
        patience.start()
        printed = ""
        while not (ended := re.search(rf"\n{_END} (\d+)\n\Z", printed)):
            row = shell.stdout.readline()
            if not row:
                raise AssertionError(f"the shell ended, or it took too long: {command}\n{printed}")
            printed += row
        patience.cancel()
        return printed[:ended.start()], int(ended[1])

    def close(self) -> None:
        """End the shell, and every service whose pid stands in a `*.pid` file of the folder."""
        assert self._process.stdin is not None and self._process.stdout is not None
        for file in self.folder.rglob("*.pid"):
            with contextlib.suppress(FileNotFoundError):    # of one that is just ending
                subprocess.run(["kill", file.read_text().strip()], check=False)
        self._kill(signal.SIGTERM)
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(COMMAND_SECONDS)

    def _kill(self, number: int) -> None:
        """Signal the shell and what it began in the background: they are a process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of examples: our programs first on the path, nothing of the operator's."""
    programs = str(Path(sys.executable).parent)
    return {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def departures(wanted: str, printed: str) -> str:
    """Return how an output departs from the page's, empty if it does not."""
    pattern = "".join([_pattern(row) for row in wanted.splitlines() if wanted.strip()])
    if re.fullmatch(pattern, printed.strip("\n") + "\n" if printed.strip() else ""):
        return ""
    return "\n".join(difflib.ndiff(wanted.splitlines(), printed.splitlines()))


def _pattern(row: str) -> str:
    if row == "...":
        return r"(?:.*\n)*"
    escaped = re.escape(row).replace(r"\.\.\.", ".*")
    return re.sub(r"(?:\\ ){2,}", r"[ \\t]+", escaped) + r"\n"


def perform(page: str, shell: Shell, ports: Mapping[str, str]) -> Iterator[tuple[Step, str]]:
    """Carry out a page; give each command with its fault, or an empty text.

    `ports` are the ports that the page names and the free ones that stand in for them, in the page
    and in the configurations that `mailgate init` writes.
    """
    failed: Step | None = None
    for block in blocks(page):
        if block.caption and block.language != "console":
            (shell.folder / block.caption).write_text(_with_ports(block.text, ports))
        if block.language != "console":
            continue
        for step in steps(block):
            if failed is not None and step.command.strip() != "echo $?":
                yield failed, "it ends with another code than 0, and the page does not show it"
            printed, code = shell.run(_with_ports(step.command, ports))
            failed = step if code else None
            for file in shell.folder.glob("*/mailgate.toml"):
                file.write_text(_with_ports(file.read_text(), ports))
            yield step, departures(_with_ports(step.output, ports), printed)
    if failed is not None:
        yield failed, "it ends with another code than 0, and the page does not show it"


def _with_ports(text: str, ports: Mapping[str, str]) -> str:
    for told, free in ports.items():
        text = re.sub(rf"\b{told}\b", free, text)
    return text
