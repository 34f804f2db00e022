"""How a reply leaves: in pieces, late, not to its end."""

from __future__ import annotations

from mailgate.testing.trouble import values
from mailgate.testing.trouble.model import End, Kind, Occasion, Octets, Pause, Stall, Step


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


def _close(occasion: Occasion, steps: list[Step]) -> list[Step]:
    return [*cut_at(steps, occasion.setting("at")), End()]


def _reset(occasion: Occasion, steps: list[Step]) -> list[Step]:
    return [*cut_at(steps, occasion.setting("at")), End(torn=True)]


def _stall(occasion: Occasion, steps: list[Step]) -> list[Step]:
    return [*cut_at(steps, occasion.setting("at")), Stall()]


def _delay(occasion: Occasion, steps: list[Step]) -> list[Step]:
    return [Pause(occasion.setting("seconds")), *steps]


_AT = {"at": (values.whole(0), 0)}

KINDS = (
    Kind("close", "Closes the connection once so many octets of the reply are out.", _AT, deliver=_close),
    Kind("reset", "Tears the connection (RST) once so many octets of the reply are out.", _AT,
         deliver=_reset),
    Kind("stall", "Sends so many octets of the reply and then nothing more; the connection stays.", _AT,
         deliver=_stall),
    Kind("delay", "Sends the reply so many seconds late.", {"seconds": (values.seconds, 1.0)},
         deliver=_delay),
)
