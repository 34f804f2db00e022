"""Lines of the lists that other programs keep."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import BinaryIO

LINE_OCTETS = 8192          # more than a file's name and all that a server says of it

LIST_OCTETS = 1 << 28       # millions of messages; a longer list may be a hole that would be read for years


def lines_of(file: BinaryIO) -> Iterator[str]:
    """Give the lines without their ends; those that are too long are left out.

    Raises: OSError, for a list that is too long, too.
    """
    begins, left = True, LIST_OCTETS
    while line := file.readline(LINE_OCTETS):
        left -= len(line)
        if left < 0:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        ends = line.endswith(b"\n") or len(line) < LINE_OCTETS
        if begins and ends:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "surrogateescape")
        begins = ends
