"""How a reply leaves: in pieces, late, not to its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Any

from mailgate.testing.trouble import values
from mailgate.testing.trouble.model import (
    REQUIRED,
    Aside,
    End,
    Gap,
    Hold,
    Kind,
    Later,
    Occasion,
    Octets,
    Pause,
    Repeat,
    Stall,
    Step,
)
from mailgate.testing.trouble.places import place, spot, spots
from mailgate.testing.trouble.replies import parted, text_lines

MOST_PIECES = 100_000       # of one reply; the rest leaves in one
APART_PIECES = 500          # of a reply, at each of its ends, that leave 10 ms apart: 10 s a reply at most


def octets_of(steps: Iterable[Step]) -> bytes:
    """Return what steps send of a reply."""
    return b"".join([step.octets for step in steps if isinstance(step, Octets)])


def cut_at(steps: list[Step], at: int) -> list[Step]:
    """Return the steps up to the first `at` octets, and no more."""
    kept: list[Step] = []
    for step in steps:
        if isinstance(step, Octets):
            if at <= len(step.octets):
                return [*kept, Octets(step.octets[:at])] if at else kept
            at -= len(step.octets)
        kept.append(step)
    return kept


def parted_at(steps: list[Step], offsets: Iterable[int], between: Step) -> list[Step]:
    """Return the steps with another one at each of the offsets, which are in order."""
    due = iter(offsets)
    at, position, result = next(due, None), 0, list[Step]()
    for step in steps:
        if isinstance(step, Octets):
            start = 0
            while at is not None and at - position < len(step.octets):
                if at - position > start:
                    result.append(Octets(step.octets[start:at - position]))
                    start = at - position
                if at:
                    result.append(between)
                at = next(due, None)
            position += len(step.octets)
            step = Octets(step.octets[start:])
        result.append(step)
    return result


def _ending(step: Step) -> Any:
    def deliver(occasion: Occasion, steps: list[Step]) -> list[Step]:
        at = spot(occasion, octets_of(steps))
        return steps if at is None else [*cut_at(steps, at), step]
    return deliver


def _drop(occasion: Occasion, steps: list[Step]) -> list[Step]:
    ways: dict[str, End | Stall] = {"close": End(), "reset": End(torn=True), "stall": Stall()}
    then = ways[occasion.setting("how")]
    return [*steps, Later(occasion.setting("seconds"), then, occasion.setting("silent"),
                          text_lines(occasion.setting("text")))]


def _delay(occasion: Occasion, steps: list[Step]) -> list[Step]:
    seconds: float = occasion.setting("seconds")
    pause = Pause(seconds + occasion.random.uniform(0, occasion.setting("jitter")))
    at = spot(occasion, octets_of(steps))
    if at == 0:
        return [pause, *steps]
    return steps if at is None else parted_at(steps, [at], pause)


def _drip(occasion: Occasion, steps: list[Step]) -> list[Step]:
    whole, octets = octets_of(steps), occasion.setting("octets")
    at = spot(occasion, whole)
    if at is None:
        return steps
    offsets = range(at + octets if at == 0 else at, len(whole), octets)
    return parted_at(steps, offsets[:MOST_PIECES], Pause(occasion.setting("seconds")))


def _cut(occasion: Occasion, steps: list[Step]) -> list[Step]:
    whole, every = octets_of(steps), occasion.setting("every")
    if every and occasion.setting("at") is None:
        offsets = spots(occasion, whole)[every - 1::every]
    else:
        at = spot(occasion, whole)
        offsets = [] if at is None else [at]
    return parted_at(steps, offsets[:MOST_PIECES], Gap())


def _split(occasion: Occasion, steps: list[Step]) -> list[Step]:
    sizes: tuple[int, ...] = occasion.setting("sizes")
    length = len(octets_of(steps))

    def offsets() -> Iterator[int]:
        drawn = iter(lambda: occasion.random.choice(sizes), 0)
        at = 0
        for size in drawn if occasion.setting("random") else cycle(sizes):
            at += size
            if at >= length:
                return
            yield at

    found = [at for _, at in zip(range(MOST_PIECES), offsets(), strict=False)]
    return hastened(parted_at(steps, found, Gap()))


def hastened(steps: list[Step]) -> list[Step]:
    """Return steps that end many segments: those in the middle follow each other at once."""
    gaps = [at for at, step in enumerate(steps) if isinstance(step, Gap)]
    middle = set(gaps[APART_PIECES:-APART_PIECES])
    return [Gap(brief=True) if at in middle else step for at, step in enumerate(steps)] if middle else steps


def _join(occasion: Occasion, steps: list[Step]) -> list[Step]:
    return [Hold(occasion.setting("replies"), occasion.setting("seconds")), *steps]


def _swap(occasion: Occasion, steps: list[Step]) -> list[Step]:
    return [Aside(octets_of(steps))]


def _endless(occasion: Occasion, steps: list[Step]) -> list[Step]:
    whole = octets_of(steps)
    parts = parted(whole)
    text = occasion.setting("text")
    if not text:
        lines = parts.content.splitlines(keepends=True)
        text = lines[-1] if lines else b"and so on\r\n"
    at_once = text * max(1, occasion.setting("octets") // len(text))
    return [*cut_at(steps, len(whole) - len(parts.end)), Repeat(at_once, occasion.setting("seconds"))]


def _check_endless(settings: Any) -> str:
    return "" if settings["seconds"] else "seconds: more than 0 are expected"


def _has_octets(settings: Any) -> str:
    return "" if settings["sizes"] else "sizes: at least one is expected"


KINDS = (
    Kind("close", "Closes the connection once so much of the reply is out.", place(), deliver=_ending(End())),
    Kind("reset", "Tears the connection (RST) once so much of the reply is out.", place(),
         deliver=_ending(End(torn=True))),
    Kind("stall", "Sends so much of the reply and then nothing more; the connection stays.", place(),
         deliver=_ending(Stall())),
    Kind("drop", "Ends the connection so many seconds behind the reply, whatever is said meanwhile, or "
         "(silent) once the client has said nothing for so long; with words of farewell if a text is given.",
         {"seconds": (values.seconds, REQUIRED), "how": (values.choice("close", "reset", "stall"), "close"),
          "silent": (values.switch, False), "text": (values.octets, b"")}, deliver=_drop),
    Kind("delay", "Sends the reply, or what of it stands behind a place, so many seconds late, and up to "
         "`jitter` seconds more.",
         {"seconds": (values.seconds, 1.0), "jitter": (values.seconds, 0.0), **place()}, deliver=_delay),
    Kind("drip", "Sends the reply, or what of it stands behind a place, a few octets at a time.",
         {"octets": (values.whole(1), 1), "seconds": (values.seconds, 1.0), **place()}, deliver=_drip),
    Kind("cut",
         "Ends a segment at a place in the reply: within the nth line end unless told otherwise, or at "
         "every nth such place.", {**place("crlf"), "every": (values.whole(0), 0)}, deliver=_cut),
    Kind("split", "Sends the reply in segments of the given octets, which are taken in turn or at random. Of "
         "more than a thousand only the first and the last 500 are kept apart for 10 ms.",
         {"sizes": (values.several(values.whole(1), "octets of segments (or of all)"), (1,)),
          "random": (values.switch, False)}, deliver=_split, check=_has_octets),
    Kind("join",
         "Keeps the reply back until the next ones are there, and sends them in one segment; after so "
         "many seconds it leaves in any case (0: only when the connection ends).",
         {"replies": (values.whole(1), 1), "seconds": (values.seconds, 1.0)}, deliver=_join),
    Kind("swap", "Keeps the reply back and sends it behind the reply to the next command: each then seems to "
         "answer the other. A client that does not pipeline waits in vain.", deliver=_swap),
    Kind("endless",
         "Never ends the reply: a line, its last one or the given text, is sent again and again in "
         "place of the terminator, as long as the client takes it: so many octets (and one line at least) "
         "at a "
         "time.",
         {"text": (values.octets, b""), "octets": (values.whole(1, 1 << 20), 4096),
          "seconds": (values.seconds, 0.01)}, deliver=_endless, check=_check_endless),
)
