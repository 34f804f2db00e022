"""Make inputs of seeds: octets changed, taken out, put in, repeated; lines exchanged; words put in."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

EDGES = (0, 9, 10, 13, 27, 32, 34, 37, 43, 46, 47, 58, 60, 61, 64, 92, 127, 128, 0xC0, 0xE9, 0xFF)
NUMBERS = (b"0", b"1", b"-1", b"2", b"255", b"65536", b"4294967296", b"99999999999999999999", b"1e9",
           b"0" * 40)
RUNS = (2, 2, 3, 3, 7, 7, 64, 255, 256, 1025, 9000)
MOST_CHANGES = 8


class Mutator:
    """Gives inputs for one target; `at(number)` is always the same."""

    def __init__(self, name: str, seeds: Sequence[bytes], words: Sequence[bytes], most_octets: int,
                 seed: int) -> None:
        self._name = name
        self._seeds = seeds
        self._words = [*words, *NUMBERS]
        self._most_octets = most_octets
        self._seed = seed
        self._random = Random()

    def at(self, number: int) -> bytes:
        """Return the input of a number; the first ones are the seeds themselves."""
        if number < len(self._seeds):
            return self._seeds[number]
        self._random.seed(f"{self._seed}:{self._name}:{number}")
        random = self._random
        octets = self._made() if random.random() < 0.1 else random.choice(self._seeds)
        for _ in range(random.randint(1, MOST_CHANGES)):
            octets = random.choice(_CHANGES)(self, octets)[:self._most_octets]
        return octets

    def _made(self) -> bytes:
        """Make an input of words alone."""
        random = self._random
        between = random.choice((b"", b" ", b"\r\n", b"\n", b"\0"))
        return between.join(random.choice(self._words) for _ in range(random.randint(1, 12)))

    def _place(self, octets: bytes) -> tuple[int, int]:
        """Return a stretch, mostly a short one."""
        start = self._random.randint(0, len(octets))
        octets_left = len(octets) - start
        most = octets_left if self._random.random() < 0.2 else min(octets_left, 8)
        return start, start + self._random.randint(0, most)

    # Changes --------------------------------------------------------------------------------

    def _flip(self, octets: bytes) -> bytes:
        if not octets:
            return octets
        at = self._random.randrange(len(octets))
        return octets[:at] + bytes([octets[at] ^ 1 << self._random.randrange(8)]) + octets[at + 1:]

    def _edge(self, octets: bytes) -> bytes:
        start, end = self._place(octets)
        return octets[:start] + bytes([self._random.choice(EDGES)]) + octets[max(end, start):]

    def _insert_word(self, octets: bytes) -> bytes:
        at, _ = self._place(octets)
        return octets[:at] + self._random.choice(self._words) + octets[at:]

    def _replace_word(self, octets: bytes) -> bytes:
        """Put another word in the place of one that stands there."""
        there = [word for word in self._words if word and word in octets]
        if not there:
            return self._insert_word(octets)
        old = self._random.choice(there)
        at = octets.find(old, self._random.randrange(len(octets)))
        at = octets.find(old) if at < 0 else at
        return octets[:at] + self._random.choice(self._words) + octets[at + len(old):]

    def _take_out(self, octets: bytes) -> bytes:
        start, end = self._place(octets)
        return octets[:start] + octets[end:]

    def _repeat(self, octets: bytes) -> bytes:
        start, end = self._place(octets)
        count = min(self._random.choice(RUNS), self._most_octets // max(end - start, 1))
        return octets[:end] + octets[start:end] * count + octets[end:]

    def _splice(self, octets: bytes) -> bytes:
        other = self._random.choice(self._seeds)
        start, end = self._place(other)
        at, _ = self._place(octets)
        return octets[:at] + other[start:] if self._random.random() < 0.5 else (
            octets[:at] + other[start:end] + octets[at:])

    def _shuffle_lines(self, octets: bytes) -> bytes:
        lines = octets.splitlines(keepends=True)
        if len(lines) < 2:
            return octets
        one, other = (self._random.randrange(len(lines)) for _ in range(2))
        how = self._random.randrange(3)
        if how == 0:
            lines[one], lines[other] = lines[other], lines[one]
        elif how == 1:
            lines.insert(one, lines[other])
        else:
            del lines[one]
        return b"".join(lines)

    def _line_ends(self, octets: bytes) -> bytes:
        old, new = self._random.choice(
            ((b"\r\n", b"\n"), (b"\n", b"\r\n"), (b"\r\n", b"\r"), (b" ", b"\t"), (b"\n", b"\0")))
        return octets.replace(old, new, self._random.choice((1, 1, -1)))

    def _number(self, octets: bytes) -> bytes:
        digits = [at for at in range(len(octets)) if octets[at:at + 1].isdigit()]
        if not digits:
            return octets
        at = self._random.choice(digits)
        end = at
        while octets[end:end + 1].isdigit():
            end += 1
        return octets[:at] + self._random.choice(NUMBERS) + octets[end:]

    def _cut(self, octets: bytes) -> bytes:
        return octets[:self._random.randint(0, len(octets))]


_CHANGES = (Mutator._flip, Mutator._flip, Mutator._edge, Mutator._edge, Mutator._insert_word,
            Mutator._insert_word, Mutator._replace_word, Mutator._replace_word, Mutator._take_out,
            Mutator._repeat, Mutator._splice, Mutator._shuffle_lines, Mutator._line_ends, Mutator._number,
            Mutator._cut)


def smaller(octets: bytes, fails: object) -> bytes:
    """Return a shorter input for which `fails(input)` is still true: stretches are left out while it is."""
    assert callable(fails)
    step = max(len(octets) // 2, 1)
    while step:
        at = 0
        while at < len(octets):
            shorter = octets[:at] + octets[at + step:]
            if fails(shorter):
                octets = shorter
            else:
                at += step
        step //= 2
    return octets
