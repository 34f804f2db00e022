"""The faults that are switched on, and which of them meets a command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from random import Random

from mailgate.testing.trouble.kinds import KINDS
from mailgate.testing.trouble.model import EVERY, GREETING, TLS, Fault, Kind, Occasion, Surroundings
from mailgate.wire.shown import shown

MOST_WORDS = 3      # of an argument that a fault can name and have counted
MOST_WORD_OCTETS = 255      # of one of them, in the mean
MOST_COUNTED = 100_000      # of different ones in a session; those that come later are not counted

Met = tuple[Kind, Occasion]


class Trouble:
    """What goes wrong at a harness, from now on. `seed`: the same chances in every run."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._serial = 0
        self._faults: dict[int, Fault] = {}
        self._met: Counter[int] = Counter()         # how often a fault has acted, by its id

    def add(self, fault: Fault) -> int:
        """Switch a fault on; return its id, by which it is switched off again."""
        self._serial += 1
        self._faults[self._serial] = fault
        return self._serial

    def remove(self, fault_id: int) -> None:
        """Switch a fault off. Raises: KeyError."""
        del self._faults[fault_id]
        self._met.pop(fault_id, None)

    def clear(self, seed: int = 0) -> None:
        """Switch all off."""
        self._faults.clear()
        self._met.clear()
        self._serial = 0
        self.seed = seed

    def faults(self) -> dict[int, Fault]:
        """Return what is switched on, by id."""
        return dict(self._faults)

    def acted(self, fault_id: int) -> int:
        """Return how often a fault has acted."""
        return self._met[fault_id]

    def meeting(self, session: int, protocol: str, user: str | None, verb: str, argument: bytes,
                occurrence: int, around: Surroundings, *, tls: bool = False,
                given: Mapping[str, int] | None = None, line: bytes = b"") -> list[Met]:
        """Return what acts now, in the order in which it was switched on; each is counted as having acted.

        `occurrence` counts the verb, `given` whatever a fault may name (see `count`), this time included.
        Chance depends on the fault and on what its session says, not on other sessions.
        """
        met: list[Met] = []
        for fault_id, fault in list(self._faults.items()):
            kind = KINDS[fault.do]
            if fault.times is not None and self._met[fault_id] >= fault.times:
                continue
            if fault.session and session not in fault.session:
                continue
            if fault.protocol is not None and fault.protocol != protocol:
                continue
            if fault.user is not None and fault.user != user:
                continue
            if fault.tls is not None and fault.tls is not tls:
                continue
            if not _is_meant(fault, kind, verb, argument):
                continue
            if fault.occurrence and _occurrence(fault, kind, occurrence, given) not in fault.occurrence:
                continue
            random = Random(f"{self.seed} {fault_id} {session} {verb} {occurrence}")
            if fault.probability < 1 and random.random() >= fault.probability:
                continue
            self._met[fault_id] += 1
            met.append((kind,
                        Occasion(fault, session, verb, argument, occurrence, random, around, tls, line)))
        return met


def _is_meant(fault: Fault, kind: Kind, verb: str, argument: bytes) -> bool:
    if fault.command == EVERY:
        if kind.commands:
            return verb in kind.commands
        return verb not in (GREETING, TLS)
    word, blank, rest = fault.command.partition(" ")
    wanted = rest.encode().split()      # "TOP 3" is any TOP of message 3
    return word == verb and (not blank or argument.split()[:len(wanted)] == wanted)


def count(given: Counter[str], verb: str, argument: bytes) -> None:
    """Count a command of a session in all ways in which a fault may name it: any, TOP, TOP 3, TOP 3 10."""
    if verb not in (GREETING, TLS):
        given[EVERY] += 1
    words = [verb, *[shown(word) for word in argument[:MOST_WORDS * MOST_WORD_OCTETS].split()[:MOST_WORDS]]]
    for end in range(1, len(words) + 1):
        name = " ".join(words[:end])
        if name in given or len(given) < MOST_COUNTED:
            given[name] += 1


def _occurrence(fault: Fault, kind: Kind, occurrence: int, given: Mapping[str, int] | None) -> int:
    """Return how often a session has now given what the fault names."""
    if given is None:
        return occurrence
    if fault.command == EVERY and kind.commands:
        return sum([given.get(verb, 0) for verb in kind.commands])
    return given.get(" ".join(fault.command.split()), 0)


def outcome_of(faults: Iterable[Met], reply: bytes) -> bytes:
    """Return what all that rework a reply make of it."""
    for kind, occasion in faults:
        if kind.rework is not None:
            reply = kind.rework(occasion, reply)
    return reply
