r"""Sessions as text that a person reads: who said what and when, one line a line.

    # session 3, pop3, from 127.0.0.1:40112, user mrose
       0.000 S: +OK mailgate ready <1.2@mail.example.org>
       0.004 C: USER mrose
       0.004 S: +OK send the password
       0.009 C: PASS ********
       0.010 S: +OK maildrop has 1 messages (120 octets)
       0.012 C: RETR 1
       0.012 * by fault close
       0.012 S: +OK 120 oct\c
       0.012 S: (closed)
       0.013 * the end: closed by fault close

What is shown can be pasted as a script (docs/testing/scripts.rst): lines that begin with `*` or `#` and the
times are left out there, `\c` ends what was no whole line, `\|` stands where one segment ended and another
began, and a mask is a pattern that anything fits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from mailgate.testing.harness.discretion import MASK, Span, lines_of, united
from mailgate.testing.harness.records import Event, SessionRecord
from mailgate.testing.scripted.notation import escape_shown

WIDTH_CHARACTERS = 160      # of one line; what is longer is cut in its middle
RUN_LINES = 40              # that one side says at a stretch; what is more is left out in the middle
ROWS = 1000                 # of one session
PAUSE_SECONDS = 1.0         # of silence are told
# what a script says for things that are done to the connection
_DONE = {"TLS begins": "TLS: begin", "closed": "S: (closed)", "reset": "S: (reset)"}
_CAPTURE = re.compile(r"\((?==?[a-z_][a-z0-9_]*\))|\A\(")


class Said(NamedTuple):
    """What one side said at a stretch."""

    at: float
    who: str
    octets: bytes
    secret: tuple[Span, ...] = ()
    borders: frozenset[int] = frozenset()   # offsets at which another segment began
    faults: tuple[str, ...] = ()


class Shown(NamedTuple):
    """How much is shown. None: everything."""

    width: int | None = WIDTH_CHARACTERS
    run_lines: int | None = RUN_LINES
    rows: int | None = ROWS


def show(record: SessionRecord, secrets: bool = False, *, width: int | None = WIDTH_CHARACTERS,
         run_lines: int | None = RUN_LINES, rows: int | None = ROWS) -> str:
    """Return a session as text, secrets masked unless they are asked for.

    `width` bounds a line in characters, `run_lines` what one side says at a stretch, `rows` all of it: what
    is more is left out in the middle, and told. None: nothing is left out.
    """
    how = Shown(width, run_lines, rows)
    events = ([one._replace(secret=()) for one in list(record.events)] if secrets
              else record.masked_events())
    body = _in_bounds(list(_rows(record, events, how)), how.rows)
    return "\n".join([title(record, secrets), *body, *_last_rows(record, secrets)]) + "\n"


def show_all(records: Iterable[SessionRecord], secrets: bool = False, **more: int | None) -> str:
    """Return sessions as text, with an empty line between them. `more`: see `show`."""
    shown = [show(record, secrets, **more) for record in records]
    return "\n".join(shown) if shown else "# no client has connected\n"


def title(record: SessionRecord, secrets: bool = False) -> str:
    """Return the line in front of a session."""
    parts = [f"{record.called} {record.number}", record.protocol]
    if record.peer:
        parts.append(f"from {record.peer}")
    if record.user is not None:
        parts.append("user " + _told(record.user if secrets else record.discretion.masked_text(record.user)))
    return "# " + ", ".join(parts)


def stretches(events: Sequence[Event]) -> Iterator[Event | Said]:
    """Return events, those joined that one side said one after another and that belong together."""
    run: list[Event] = []
    for event in events:
        if run and not _belong_together(run[-1], event):
            yield _joined(run)
            run = []
        if event.who == "*":
            yield event
        else:
            run.append(event)
    if run:
        yield _joined(run)


def _belong_together(before: Event, event: Event) -> bool:
    if (before.who, before.tls, before.faults) != (event.who, event.tls, event.faults):
        return False
    return event.at - before.at < 0.001 or (
        not event.faults and before.octets.endswith(b"\n") and event.at - before.at < 0.1)


def _joined(run: Sequence[Event]) -> Said:
    secret: list[Span] = []
    borders: set[int] = set()
    at = 0
    for event in run:
        borders.add(at)
        secret += [(at + start, at + end) for start, end in event.secret]
        at += len(event.octets)
    return Said(run[0].at, run[0].who, b"".join(event.octets for event in run), united(secret),
                frozenset(borders), run[0].faults)


# Rows -----------------------------------------------------------------------------------------


def _rows(record: SessionRecord, events: Sequence[Event], how: Shown) -> Iterator[str]:
    faults: tuple[str, ...] = ()
    latest = record.began
    for said in stretches(events):
        when = f"{said.at - record.began:8.3f}"
        if said.at - latest >= PAUSE_SECONDS:
            yield f"{when} * {said.at - latest:.3f} seconds have passed"
        latest = said.at
        if isinstance(said, Event):
            if said.faults and said.faults != faults:
                yield f"{when} * by fault {', '.join(said.faults)}"
            faults = said.faults
            yield f"{when} {_DONE.get(said.text) or '* ' + _told(said.text)}"
            continue
        if said.faults and said.faults != faults:
            yield f"{when} * by fault {', '.join(said.faults)}"
        faults = said.faults
        for row in _in_bounds(list(_lines(said, how.width)), how.run_lines):
            yield f"{when} {row}"


def _told(text: str) -> str:
    return escape_shown(text.encode("utf-8", "surrogateescape"))


def _last_rows(record: SessionRecord, secrets: bool) -> Iterator[str]:
    if record.octets_left_out:
        yield f"         * {record.octets_left_out} octets more were said than are kept"
    if record.events_left_out:
        yield f"         * {record.events_left_out} events more happened than are kept"
    if record.ended is not None:
        end = record.end if secrets else record.discretion.masked_text(record.end)
        yield f"{record.ended - record.began:8.3f} * the end: {_told(end)}"
    else:
        yield "         * the connection stands"


def _in_bounds(rows: Sequence[str], most: int | None) -> Sequence[str]:
    """Leave rows out of the middle if there are too many."""
    if most is None or len(rows) <= most:
        return rows
    first = max(1, most * 2 // 3)
    last = max(1, most - first - 1)
    out = rows[first:-last]
    return [*rows[:first], f"* {len(out)} lines left out", *rows[-last:]]


def _lines(said: Said, width: int | None) -> Iterator[str]:
    at = 0
    for line in lines_of(said.octets):
        end = at + len(line)
        if line.endswith(b"\r\n"):
            stop, tail = end - 2, ""
        elif line.endswith(b"\n"):
            stop, tail = end - 1, "\\n\\c"
        else:
            stop, tail = end, "\\c"
        yield from _cut(said.who, tokens(said, at, stop), tail, width)
        at = end


def tokens(said: Said, start: int, stop: int) -> list[str]:
    """Return part of what was said as text, in pieces that must not be cut: characters, escapes, masks."""
    result: list[str] = []
    spans = [(max(first, start), min(last, stop)) for first, last in said.secret
             if first < stop and last > start]
    cuts = sorted(border for border in said.borders if start < border < stop) if said.who == "S" else []
    at = start
    for first, last in [*spans, (stop, stop)]:
        for cut in cuts:
            if at < cut < first:
                result += [*_characters(said, at, cut, start), "\\|"]
                at = cut
        result += _characters(said, at, first, start)
        if first < last:
            result.append(MASK.decode())
        at = last
    if result and result[-1] == " ":
        result[-1] = "\\x20"
    return result


_WHOLE = re.compile(r"\\x[0-9a-f]{2}|\\.|.", re.DOTALL)


def _characters(said: Said, start: int, stop: int, line_start: int) -> list[str]:
    text = escape_shown(said.octets[start:stop] + b".")[:-1]
    if said.who == "C":
        return [f"\\{one}" if one in "(*" else one for one in _WHOLE.findall(text)]
    begins = start == line_start
    found = {match.start() for match in _CAPTURE.finditer(text) if match.start() or begins}
    return [f"\\{one}" if match.start() in found else one
            for match in _WHOLE.finditer(text) for one in [match[0]]]


def _cut(who: str, pieces: list[str], tail: str, width: int | None) -> Iterator[str]:
    """Return the rows of one line."""
    if width is None or sum(map(len, pieces)) <= width:
        yield f"{who}: {''.join(pieces)}{tail}".rstrip(" ")
        return
    first, last = max(1, width * 2 // 3), max(1, width // 4)
    out = max(0, len(pieces) - first - last)
    if not out:
        yield f"{who}: {''.join(pieces)}{tail}"
        return
    yield f"{who}: {''.join(pieces[:first])}\\c"
    yield f"* {out} octets of this line left out"
    yield f"{who}: {''.join(pieces[-last:])}{tail}"
