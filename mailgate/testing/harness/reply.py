"""A client's line and what it means; the answer to it while it is made."""

from __future__ import annotations

import base64
import binascii

from mailgate.testing.harness.records import Command
from mailgate.testing.trouble.active import Met, outcome_of
from mailgate.testing.trouble.delivery import octets_of
from mailgate.testing.trouble.model import RESPONSE, Instead, Octets, Step
from mailgate.wire.shown import shown

FIRST_LINE_OCTETS = 1000        # of a reply that are kept of its first line
ARGUMENT_OCTETS = 4096          # of an argument that is looked at for a name


class Reply:
    """The answer to one command while it is made."""

    __slots__ = ("command", "met", "also", "held", "muted", "gathered", "instead", "is_whole")

    def __init__(self, command: Command, met: list[Met]) -> None:
        self.command = command
        self.met = met
        self.also: tuple[str, ...] = ()     # faults that an earlier command met
        self.held = any(kind.rework or kind.deliver for kind, _ in met)     # until it is whole
        self.muted = False                  # said already
        self.gathered: list[bytes] = []
        self.instead: Instead | None = None
        self.is_whole = True                # nothing of it was left out

    @property
    def is_held(self) -> bool:
        """Whether what the session says is gathered, and leaves only in the end."""
        return self.held or self.muted or (self.instead is not None and self.instead.execute)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the faults that have a hand in it."""
        return tuple(occasion.fault.label for _, occasion in self.met) + self.also

    def first(self, octets: bytes) -> None:
        """Know the beginning of what is said."""
        if not self.command.reply:
            self.command.reply = octets[:FIRST_LINE_OCTETS].partition(b"\n")[0].rstrip(b"\r")
            self.is_whole = octets.startswith(b"+OK")

    def outcome(self) -> list[Step]:
        """Return how the gathered reply leaves. To be called once."""
        said = b"".join(self.gathered)
        if self.instead is not None:
            octets = self.instead.reply
        else:
            octets = said
        steps: list[Step] = []
        if not self.muted:
            octets = outcome_of(self.met, octets)
            steps = [Octets(octets)] if octets else []
            for kind, occasion in self.met:
                if kind.deliver is not None:
                    steps = kind.deliver(occasion, steps)
        self.gathered = []
        sent = octets_of(steps)
        self.command.reply = b""
        self.first(sent)
        self.is_whole = said.startswith(b"+OK") and len(sent) >= len(said)
        return steps


def meaning(line: bytes, *, response: bool) -> tuple[str, bytes, tuple[int, int] | None]:
    """Return verb, argument, and what of a line is secret. A response to a challenge has no verb."""
    text = line.rstrip(b"\r\n")
    if response:
        return "", text, (0, len(text)) if text != b"*" else None
    word, _, argument = text.partition(b" ")
    verb = shown(word.upper())
    start = len(word) + 1
    if verb == "PASS":
        return verb, argument, (min(start, len(text)), len(text))
    if verb in ("AUTH", "APOP") and b" " in argument:
        return verb, argument, (start + argument.index(b" ") + 1, len(text))
    return verb, argument, None


def claimed_name(verb: str, argument: bytes) -> str | None:
    """Return who a client says he is, where the command tells: USER, APOP, and AUTH with PLAIN."""
    argument = argument[:ARGUMENT_OCTETS]
    if verb == "USER":
        return shown(argument)
    if verb == "APOP":
        return shown(argument.partition(b" ")[0])
    if verb not in ("AUTH", RESPONSE):
        return None
    try:
        parts = base64.b64decode(argument.rpartition(b" ")[2], validate=True).split(b"\0")
    except (ValueError, binascii.Error):
        return None
    return shown(parts[1]) if len(parts) == 3 else None
