"""What a target is, and what its checks share."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import NamedTuple

MOST_OCTETS = 8192
_REPLY_LINE = re.compile(rb"[\x20-\x7e]*")     # of ours: no client's octet that could steer anything


class Target(NamedTuple):
    """A parser and its invariants. `check` raises for an input that shows a fault, whatever it raises."""

    check: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()
    most_octets: int = MOST_OCTETS


def chance(data: bytes) -> Random:
    """Return random numbers that follow from an input alone."""
    return Random(zlib.crc32(data))


def pieces(data: bytes, random: Random) -> list[bytes]:
    """Return the octets in pieces: single octets, or cut at a few places."""
    if len(data) < 200 and random.random() < 0.2:
        return [data[at:at + 1] for at in range(len(data))]
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.randint(1, 6)))
    return [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]


def same(one: object, other: object, what: str = "whole and in pieces") -> None:
    """Raise AssertionError unless both are equal."""
    if one != other:
        raise AssertionError(f"{what}: {one!r} is not {other!r}")


def hold(truth: object, what: object) -> None:
    """Raise AssertionError unless it is true."""
    if not truth:
        raise AssertionError(str(what))


def reply_lines(octets: bytes) -> list[bytes]:
    """Return the lines of what a server said; each ends in CRLF and shows nothing but printable ASCII."""
    hold(not octets or octets.endswith(b"\r\n"), f"octets behind the last line end: {octets[-80:]!r}")
    lines = octets.split(b"\r\n")[:-1]
    for line in lines:
        hold(_REPLY_LINE.fullmatch(line), f"a control character in {line[:80]!r}")
    return lines


def one_line(text: str) -> None:
    """Raise AssertionError unless a text is printable and one line."""
    hold(text.isprintable(), f"not printable: {text!r}")
