"""What a store must hold after its server was killed, as its clients were told."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

_TOKEN = re.compile(rb"^Subject: token (\w+)\r\n", re.MULTILINE)
_FIELDS_IN_FRONT = re.compile(       # what a delivery adds, whole
    rb"Return-Path: <[^>\r\n]*>\r\nDelivered-To: [^\r\n]+\r\nReceived: [^\r\n]+\r\n(?:[ \t][^\r\n]+\r\n)*")


class Copy(NamedTuple):
    """One recipient's copy of a message."""

    maildrop: str
    token: bytes        # in the message's Subject: no two messages of a store share it


def token_of(message: bytes) -> bytes:
    """Return the token of a message or of its header."""
    found = _TOKEN.search(message)
    assert found is not None, message[:500]
    return found[1]


def make_message(chance: random.Random, token: bytes, octets: int) -> bytes:
    """Return a message of about so many octets: CRLF, leading dots, empty lines, octets above 127."""
    lines = [b"Subject: token " + token, b"From: sender@example.org", b""]
    length = 0
    while length < octets:
        line = chance.choice([b"", b".", b"..", b".x", chance.randbytes(20).hex().encode(), b"\xe9" * 70,
                              chance.randbytes(400).hex().encode()])
        lines.append(line)
        length += len(line) + 2
    return b"".join(line + b"\r\n" for line in lines)


class Ledger:
    """Deliveries and removals, each certain once it was acknowledged and in doubt until then.

    Several clients may write into it at once; `settle` comes when all have ended. `done` and
    `undone` count the rounds of doubt that turned out one way or the other.
    """

    def __init__(self) -> None:
        self.held: dict[Copy, bytes] = {}
        self.done = 0
        self.undone = 0
        self._gone: set[Copy] = set()
        self._offered: dict[Copy, bytes] = {}        # no answer yet
        self._leaving: list[frozenset[Copy]] = []    # QUITs without an answer yet
        self._lock = threading.Lock()

    def offer(self, copies: Iterable[Copy], content: bytes) -> None:
        """A message is being sent."""
        with self._lock:
            self._offered.update(dict.fromkeys(copies, content))

    def accepted(self, copy: Copy) -> None:
        """A recipient was answered by 250, or the command exited with 0."""
        with self._lock:
            if copy in self._offered:       # else it was fetched and removed before this was read
                self.held[copy] = self._offered.pop(copy)

    def leave(self, copies: Collection[Copy]) -> frozenset[Copy]:
        """QUIT is being sent, with these marked."""
        quitting = frozenset(copies)
        with self._lock:
            self._leaving.append(quitting)
        return quitting

    def answered(self, quitting: frozenset[Copy], removed: bool) -> None:
        """QUIT was answered, by +OK or by -ERR."""
        with self._lock:
            self._leaving.remove(quitting)
            if removed:
                self._forget(quitting)

    def settle(self, found: Mapping[str, Iterable[bytes]]) -> None:
        """Compare with the messages of all maildrops; what was in doubt is certain from now on.

        Raises: AssertionError, saying which promise was broken.
        """
        here: dict[Copy, bytes] = {}
        for maildrop, messages in found.items():
            for message in messages:
                copy = Copy(maildrop, token_of(message))
                assert copy not in here, f"{copy} is there twice"
                here[copy] = message
        back = here.keys() & self._gone
        assert not back, f"removed messages have come back: {sorted(back)}"
        self._settle_removals(here.keys())
        lost = self.held.keys() - here.keys()
        assert not lost, f"messages are lost: {sorted(lost)}"
        unknown = here.keys() - self.held.keys() - self._offered.keys()
        assert not unknown, f"messages of unknown origin: {sorted(unknown)}"
        self._count(not self._offered.keys() <= here.keys(), bool(self._offered.keys() & here.keys()))
        for copy, message in here.items():
            sent = self.held.get(copy) or self._offered[copy]
            assert message.endswith(sent) and _FIELDS_IN_FRONT.fullmatch(message[:-len(sent)]), (
                f"{copy} is not what was sent: {len(sent)} octets, found {len(message)}: {message[:300]!r}")
            self.held[copy] = sent
        self._offered.clear()

    def _settle_removals(self, here: Collection[Copy]) -> None:
        for quitting in self._leaving:
            left = quitting.intersection(here)
            assert left in (frozenset(), quitting), f"one QUIT removed {quitting - left} and left {left}"
            if quitting:
                self._count(bool(left), not left)
            if not left:
                self._forget(quitting)
        self._leaving.clear()

    def _count(self, undone: bool, done: bool) -> None:
        self.undone += undone
        self.done += done

    def _forget(self, copies: Collection[Copy]) -> None:
        for copy in copies:
            self.held.pop(copy, None)
            self._offered.pop(copy, None)
        self._gone.update(copies)
