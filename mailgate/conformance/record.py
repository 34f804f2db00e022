"""What was sent and received, octet by octet with times, secrets masked before they are kept."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

HEAD_OCTETS, TAIL_OCTETS = 400, 120     # kept of what was said at once
FIRST_EVENTS, LAST_EVENTS = 40, 20      # kept of a check
MASK = b"****"

CLIENT, SERVER, NOTE = "C", "S", "*"


class Event(NamedTuple):
    """Something said by one side, or a note about the connection (`*`)."""

    seconds: float      # since the check began
    connection: int     # 1 for the check's first
    who: str
    octets: int         # how many there were
    text: str           # escaped and masked; `[...]` stands where octets were left out

    def __str__(self) -> str:
        return f"{self.seconds:8.3f} {self.connection}{self.who}: {self.text}"


class Mask:
    """Knows the secrets of a run, and takes them out of what is kept."""

    def __init__(self, secrets: Iterable[bytes] = ()) -> None:
        self._secrets: list[bytes] = []
        for secret in secrets:
            self.add(secret)

    def add(self, secret: bytes) -> None:
        """Mask a secret from now on, also where it stands in base64 by itself."""
        if secret and secret not in self._secrets:
            self._secrets += [secret, base64.b64encode(secret)]

    def __call__(self, octets: bytes) -> bytes:
        for secret in self._secrets:
            octets = octets.replace(secret, MASK)
        return octets


class Record:
    """The events of one check: the first and the last of them."""

    def __init__(self, mask: Mask, clock: Callable[[], float] = time.monotonic) -> None:
        self._mask = mask
        self._clock = clock
        self._began = clock()
        self._first: list[Event] = []
        self._last: list[Event] = []
        self._dropped = 0
        self.sent_octets = self.received_octets = 0

    def sent(self, connection: int, octets: bytes, shown: bytes | None = None) -> None:
        """Keep what was sent; `shown` stands for it where it is a secret."""
        self.sent_octets += len(octets)
        self._keep(connection, CLIENT, len(octets), octets if shown is None else shown)

    def received(self, connection: int, octets: bytes) -> None:
        """Keep what came."""
        self.received_octets += len(octets)
        self._keep(connection, SERVER, len(octets), octets)

    def note(self, connection: int, words: str) -> None:
        """Keep what happened to the connection."""
        self._keep(connection, NOTE, 0, words.encode())

    @property
    def events(self) -> list[Event]:
        """All that was kept, with a note where events were left out."""
        if not self._dropped:
            return [*self._first, *self._last]
        gap = Event(self._first[-1].seconds, 0, NOTE, 0, f"{self._dropped} more events left out")
        return [*self._first, gap, *self._last]

    def _keep(self, connection: int, who: str, count: int, octets: bytes) -> None:
        if len(octets) > HEAD_OCTETS + TAIL_OCTETS:
            # a secret must not survive by being cut in two
            octets = self._mask(octets)
            text = f"{shown(octets[:HEAD_OCTETS])} [...] {shown(octets[-TAIL_OCTETS:])}"
        else:
            text = shown(self._mask(octets))
        event = Event(round(self._clock() - self._began, 4), connection, who, count, text)
        if len(self._first) < FIRST_EVENTS:
            self._first.append(event)
            return
        self._last.append(event)
        if len(self._last) > LAST_EVENTS:
            del self._last[0]
            self._dropped += 1


def shown(octets: bytes, most: int | None = None) -> str:
    r"""Return octets as text: printable ASCII as it is, all else as \r, \n, \t or \xNN."""
    cut = most is not None and len(octets) > most
    text = octets[:most].decode("latin-1")
    text = "".join(_ESCAPES.get(one) or (one if " " <= one <= "~" else f"\\x{ord(one):02x}") for one in text)
    return text + "..." if cut else text


_ESCAPES = {"\\": "\\\\", "\r": "\\r", "\n": "\\n", "\t": "\\t"}
