"""Lines of the lists that other programs keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

LINE_OCTETS = 8192          # more than a file's name and all that a server says of it


def lines_of(file: BinaryIO) -> Iterator[str]:
    """Give the lines without their ends; those that are too long are left out."""
    begins = True
    while line := file.readline(LINE_OCTETS):
        ends = line.endswith(b"\n") or len(line) < LINE_OCTETS
        if begins and ends:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "surrogateescape")
        begins = ends
