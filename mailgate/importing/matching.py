"""Which messages of two servers are the same: by the fields of their headers and by their sizes.

Neither is told byte for byte the same by two servers. Deliveries put fields in front that only one
side has; servers keep what they know of a message in fields that they show or hide; sizes are counted
with CRLF line ends or with LF ones, or a little wrong. So two messages are the same when

* all header fields that count are equal, name, body and order. Names are compared in any case, bodies
  unfolded and with single blanks; the fields of UNCOUNTED do not count, nor do lines that are no
  fields, and a header without any that counts equals none;
* their bodies are equally long: the size without the header, counted in CRLF or in LF. Where this finds
  no partner, a difference of up to SIZE_SLACK_OCTETS will do, the smallest first.

Where several messages are the same, those whose Received fields are equal too go together first, then
they go together in order.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

SIZE_SLACK_OCTETS = 512             # a line end at the end, fields that LIST counts and TOP hides
FIELDS_SLACK_OCTETS = 16 * 1024     # of header fields that only one side has
HEADER_OCTETS = 1 << 20             # a longer header is nobody's

UNCOUNTED = frozenset((
    # put in front by a delivery
    b"received", b"return-path", b"delivered-to", b"x-original-to", b"envelope-to", b"delivery-date",
    b"x-envelope-from", b"x-envelope-to",
    # where servers and clients keep what they know of a message
    b"status", b"x-status", b"x-uid", b"x-uidl", b"x-imap", b"x-imapbase", b"x-keywords", b"content-length",
    b"lines", b"x-mozilla-status", b"x-mozilla-status2", b"x-mozilla-keys"))

_BLANK = re.compile(rb"\n\r?\n")
_FOLD = re.compile(rb"\n([ \t])")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:(.*)", re.DOTALL)


class Print(NamedTuple):
    """What a message's header comes to."""

    fields: bytes | None        # digest of those that count; None: there are none
    received: bytes             # digest of the Received fields
    octets: int                 # the blank line counted, line ends as they came
    lines: int


class PrintReader:
    """Give octets of a message to `feed`, as many as there are: its header, or all of it."""

    __slots__ = ("body_octets", "body_lines", "_kept", "_in_head", "_too_long")

    def __init__(self) -> None:
        self.body_octets = 0
        self.body_lines = 0
        self._kept = bytearray(b"\n")       # as if a line ended before the message
        self._in_head = True
        self._too_long = False

    def feed(self, octets: bytes) -> None:
        """Take more octets, cut anywhere."""
        if self._in_head:
            start = max(len(self._kept) - 2, 0)
            self._kept += octets
            if blank := _BLANK.search(self._kept, start):
                octets = bytes(self._kept[blank.end():])
                del self._kept[blank.end():]
                self._in_head = False
            elif len(self._kept) > HEADER_OCTETS:
                self._kept.clear()
                self._in_head, self._too_long = False, True
        if not self._in_head:
            self.body_octets += len(octets)
            self.body_lines += octets.count(b"\n")

    def print(self, uncounted: Collection[bytes] = UNCOUNTED) -> Print:
        """Return what the header comes to; `uncounted`: names in lower case."""
        if self._too_long:
            return Print(None, b"", 0, 0)
        counted, received = [], []
        for name, body in _fields(bytes(self._kept[1:])):
            if name == b"received":
                received.append(body)
            if name not in uncounted:
                counted.append(name + b":" + body)
        return Print(_digest(counted) if counted else None, _digest(received), len(self._kept) - 1,
                     self._kept.count(b"\n") - 1)


def _fields(header: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Give names in lower case, and bodies unfolded with single blanks."""
    unfolded = _FOLD.sub(b"\\1", header.replace(b"\r\n", b"\n"))
    for line in unfolded.split(b"\n"):
        if field := _FIELD.fullmatch(line):
            yield field[1].lower(), b" ".join(field[2].split())


def _digest(parts: Iterable[bytes]) -> bytes:
    return hashlib.blake2b(b"\n".join(parts), digest_size=16).digest()


class Known(NamedTuple):
    """A message as one side tells it."""

    number: int
    octets: int                     # of all of it, as that side counts
    print: Print
    body_lines: int | None = None   # of what lies behind the header, where that was read


Size = Callable[[Known], "int | None"]


class Matching:
    """Pairs of messages, found step by step; `pairs` maps numbers of the source to numbers here."""

    def __init__(self, source: Iterable[Known], here: Iterable[Known]) -> None:
        self.pairs: dict[int, int] = {}
        self._source = [one for one in source if one.print.fields is not None]
        self._here = [one for one in here if one.print.fields is not None]

    def by_size(self) -> None:
        """Pair those whose bodies are equally long with CRLF line ends."""
        self._pair(_body, _body)

    def in_question(self) -> list[int]:
        """Return the numbers of those here whose `body_lines` have to be known for the next step."""
        told = defaultdict(list)
        for one in self._source:
            told[one.print.fields].append(_body_told_in_lf(one))
        for octets in told.values():
            octets.sort()
        return [one.number for one in self._here
                if (sizes := told.get(one.print.fields))
                and bisect_left(sizes, _body(one) // 2) < bisect_right(sizes, _body(one))]

    def by_size_in_lf(self, body_lines: Mapping[int, int]) -> None:
        """Pair those whose bodies are equally long if the source counts LF line ends; see `in_question`."""
        self._here = [one._replace(body_lines=body_lines.get(one.number)) for one in self._here]
        self._pair(_body_told_in_lf, _body_lf)

    def by_size_nearly(self) -> None:
        """Pair those whose bodies differ by a few octets, however they are counted."""
        self._pair_nearest(_body, _body)
        self._pair_nearest(_body_told_in_lf, _body_lf)

    def by_fields(self) -> None:
        """Pair those whose header fields are equal, whatever their sizes are."""
        self._pair(_any_size, _any_size)

    def _pair(self, source_size: Size, here_size: Size) -> None:
        for received in (True, False):
            free: dict[Hashable, deque[Known]] = defaultdict(deque)
            for one in self._here:
                free[_key(one, received), here_size(one)].append(one)
            for one in self._source:
                if equal := free.get((_key(one, received), source_size(one))):
                    self.pairs[one.number] = equal.popleft().number
            self._forget_paired()

    def _pair_nearest(self, source_size: Size, here_size: Size) -> None:
        free: dict[Hashable, list[tuple[int, int]]] = defaultdict(list)
        for one in self._here:
            if (size := here_size(one)) is not None:
                free[one.print.fields].append((size, one.number))
        for equal in free.values():
            equal.sort()
        for one in self._source:
            if (equal := free[one.print.fields]) and (size := source_size(one)) is not None:
                at = bisect_left(equal, (size, 0))
                near = min(range(max(at - 1, 0), min(at + 1, len(equal))),
                           key=lambda index: abs(equal[index][0] - size))
                if abs(equal[near][0] - size) <= SIZE_SLACK_OCTETS:
                    self.pairs[one.number] = equal.pop(near)[1]
        self._forget_paired()

    def _forget_paired(self) -> None:
        taken = set(self.pairs.values())
        self._source = [one for one in self._source if one.number not in self.pairs]
        self._here = [one for one in self._here if one.number not in taken]


def _key(one: Known, received: bool) -> Hashable:
    return (one.print.fields, one.print.received) if received else one.print.fields


def _body(one: Known) -> int:
    """Return the octets behind the header, where CRLF line ends are counted."""
    return one.octets - one.print.octets


def _body_lf(here: Known) -> int | None:
    """Return the same as if the line ends were LF."""
    return None if here.body_lines is None else _body(here) - here.body_lines


def _body_told_in_lf(source: Known) -> int:
    """Return the same of a message whose size was told so."""
    return _body(source) + source.print.lines


def _any_size(one: Known) -> int:
    return 0


def candidates(sizes: dict[int, int], others: Sequence[int], *, source: bool) -> list[int]:
    """Return the numbers of messages that may have a partner among sizes of the other side.

    `source`: the messages are the source's, else those here. A source that counts LF line ends tells
    half of a size at least: every line has two octets in CRLF.
    """
    sorted_others = sorted(others)
    found = []
    for number, octets in sizes.items():
        least, most = (octets, 2 * octets) if source else (octets // 2, octets)
        at = bisect_left(sorted_others, least - FIELDS_SLACK_OCTETS)
        if at < bisect_right(sorted_others, most + FIELDS_SLACK_OCTETS):
            found.append(number)
    return found
