"""What a store must hold after its server was killed, as its clients were told."""

from __future__ import annotations

import random
import re
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
    """Deliveries and removals, each certain once it was acknowledged and in doubt until then."""

    def __init__(self) -> None:
        self.held: dict[Copy, bytes] = {}
        self.gone: set[Copy] = set()
        self.offered: dict[Copy, bytes] = {}        # no answer yet
        self.leaving: list[frozenset[Copy]] = []    # QUITs without an answer yet

    def offer(self, copies: Iterable[Copy], content: bytes) -> None:
        """A message is being sent."""
        self.offered.update(dict.fromkeys(copies, content))

    def accepted(self, copy: Copy) -> None:
        """A recipient was answered by 250, or the command exited with 0."""
        self.held[copy] = self.offered.pop(copy)

    def leave(self, copies: Collection[Copy]) -> frozenset[Copy]:
        """QUIT is being sent, with these marked."""
        quitting = frozenset(copies)
        self.leaving.append(quitting)
        return quitting

    def answered(self, quitting: frozenset[Copy], removed: bool) -> None:
        """QUIT was answered, by +OK or by -ERR."""
        self.leaving.remove(quitting)
        if removed:
            for copy in quitting:
                del self.held[copy]
            self.gone |= quitting

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
        back = here.keys() & self.gone
        assert not back, f"removed messages have come back: {sorted(back)}"
        for quitting in self.leaving:
            left = quitting & here.keys()
            assert left in (frozenset(), quitting), f"one QUIT removed {quitting - left} and left {left}"
            if not left:
                self._forget(quitting)
        lost = self.held.keys() - here.keys()
        assert not lost, f"messages are lost: {sorted(lost)}"
        unknown = here.keys() - self.held.keys() - self.offered.keys()
        assert not unknown, f"messages of unknown origin: {sorted(unknown)}"
        for copy, message in here.items():
            sent = self.held.get(copy) or self.offered[copy]
            assert message.endswith(sent) and _FIELDS_IN_FRONT.fullmatch(message[:-len(sent)]), (
                f"{copy} is not what was sent: {len(sent)} octets, found {len(message)}: {message[:300]!r}")
            self.held[copy] = sent
        self.offered.clear()
        self.leaving.clear()

    def _forget(self, copies: Collection[Copy]) -> None:
        for copy in copies:
            del self.held[copy]
        self.gone.update(copies)
