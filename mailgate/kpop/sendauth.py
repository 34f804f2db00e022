"""The server's side of the Kerberos 5 sendauth exchange, without I/O and without Kerberos.

No RFC tells it: it is what MIT's `krb5_recvauth` reads and writes. The client says two strings, the
server one octet, the client an AP-REQ, the server an empty message or a KRB-ERROR, and an AP-REP if the
client asked for one. Every message of both but that one octet begins with its length in four octets,
the highest first. A client may say all of its part in one burst.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple, Union

SENDAUTH_VERSION = b"KRB5_SENDAUTH_V1.0\0"   # the NUL is part of it, and of its length
KPOP_VERSION = "KPOPV1.0"
VERSION_OCTETS = 64             # most of a version string; longer ones are nobody's
REQUEST_OCTETS = 64 * 1024      # most of an AP-REQ: a ticket with much authorization data has some 20 KiB
_LENGTH_OCTETS = 4

GO_ON, BAD_SENDAUTH_VERSION, BAD_APPLICATION_VERSION = b"\x00", b"\x01", b"\x02"


class Judge(NamedTuple):
    """Let Kerberos judge an AP-REQ. Result: `Granted` or `Denied`."""

    request: bytes


class Granted(NamedTuple):
    """The AP-REQ proves who the client is. `reply` is the AP-REP, if the client wants one."""

    reply: bytes | None = None


class Denied(NamedTuple):
    """The AP-REQ proves nothing. `reply` is the KRB-ERROR that says so; empty: close without a word."""

    reply: bytes = b""


class Done(enum.Enum):
    """The exchange is over, the client known: what it says from now on, and `rest`, is POP3."""

    DONE = enum.auto()


class GiveUp(NamedTuple):
    """Close the connection once what was sent is out. The reason is for the log; empty: it was told."""

    reason: str


DONE = Done.DONE


class Turn(NamedTuple):
    """Send the octets, then do the other thing, if there is one."""

    octets: bytes
    then: Union[Judge, Done, GiveUp, None] = None


class _Wants(enum.Enum):
    """What comes next from the client."""

    SENDAUTH_VERSION = enum.auto()
    APPLICATION_VERSION = enum.auto()
    REQUEST = enum.auto()
    NOTHING = enum.auto()           # an AP-REQ is being judged, or all is over


_LIMITS = {_Wants.SENDAUTH_VERSION: VERSION_OCTETS, _Wants.APPLICATION_VERSION: VERSION_OCTETS,
           _Wants.REQUEST: REQUEST_OCTETS}


class Exchange:
    """One exchange. The shell calls `receive`, then `advance`, and `outcome` with what a Judge found.

    `versions` are the application versions that are taken; historic clients say others than KPOPV1.0.
    """

    __slots__ = ("_versions", "_buffer", "_wants", "_response")

    def __init__(self, versions: Iterable[str] = (KPOP_VERSION,)) -> None:
        self._versions = tuple(version.encode() + b"\0" for version in versions)
        self._buffer = bytearray()
        self._wants = _Wants.SENDAUTH_VERSION
        self._response = GO_ON

    @property
    def pending(self) -> int:
        """Octets that were received and not read."""
        return len(self._buffer)

    @property
    def rest(self) -> bytes:
        """What came behind the exchange."""
        return bytes(self._buffer)

    def receive(self, data: bytes) -> None:
        """Take octets from the client."""
        self._buffer += data

    def advance(self) -> Turn:
        """Read messages until octets are missing, or there is something to say."""
        while self._wants is not _Wants.NOTHING:
            if len(self._buffer) < _LENGTH_OCTETS:
                return Turn(b"")
            length = int.from_bytes(self._buffer[:_LENGTH_OCTETS], "big")
            if length > _LIMITS[self._wants]:
                return self._too_long(length)
            if len(self._buffer) < _LENGTH_OCTETS + length:
                return Turn(b"")
            message = bytes(self._buffer[_LENGTH_OCTETS:_LENGTH_OCTETS + length])
            del self._buffer[:_LENGTH_OCTETS + length]
            turn = self._message(message)
            if turn is not None:
                return turn
        return Turn(b"")

    def outcome(self, result: Granted | Denied) -> Turn:
        """Take what the judging of the AP-REQ came to."""
        if isinstance(result, Denied):
            return self._end(framed(result.reply) if result.reply else b"", "")
        answer = framed(b"") if result.reply is None else framed(b"") + framed(result.reply)
        return Turn(answer, DONE)

    def _message(self, message: bytes) -> Turn | None:
        """Take a whole message; None when the client has to say more first."""
        if self._wants is _Wants.SENDAUTH_VERSION:
            # Both strings are read before the first is judged, as by MIT: clients send them at once.
            if message != SENDAUTH_VERSION:
                self._response = BAD_SENDAUTH_VERSION
            self._wants = _Wants.APPLICATION_VERSION
            return None
        if self._wants is _Wants.APPLICATION_VERSION:
            if self._response == GO_ON and message not in self._versions:
                self._response = BAD_APPLICATION_VERSION
            if self._response != GO_ON:
                return self._wrong_version()
            self._wants = _Wants.REQUEST
            return Turn(GO_ON)
        self._wants = _Wants.NOTHING
        return Turn(b"", Judge(message))

    def _wrong_version(self) -> Turn:
        which = "sendauth" if self._response == BAD_SENDAUTH_VERSION else "application"
        return self._end(self._response, f"another {which} version")

    def _too_long(self, length: int) -> Turn:
        """End it: no memory is given to a length, and what the length spells tells who this is."""
        spelled = length.to_bytes(_LENGTH_OCTETS, "big")
        if self._wants is _Wants.SENDAUTH_VERSION:
            return self._end(b"", _stranger(spelled))
        if self._wants is _Wants.APPLICATION_VERSION:
            self._response = BAD_APPLICATION_VERSION if self._response == GO_ON else self._response
            return self._wrong_version()
        if spelled == b"QUIT":      # of fetchmail
            return self._end(b"", "the client has no ticket and gave up")
        return self._end(b"", f"an AP-REQ of {length} octets")

    def _end(self, octets: bytes, reason: str) -> Turn:
        self._wants = _Wants.NOTHING
        self._buffer.clear()
        return Turn(octets, GiveUp(reason))


def framed(message: bytes) -> bytes:
    """Return a message with its length in front."""
    return len(message).to_bytes(_LENGTH_OCTETS, "big") + message


def _stranger(first: bytes) -> str:
    """Say who speaks, by the first four octets."""
    if first == b"AUTH":
        return "a POP3 client, or one of Kerberos 4"
    if first.isalpha() and first.isascii():
        return "a POP3 client on the KPOP port"
    if first[:2] == b"\x16\x03":
        return "TLS where none is spoken"
    return "no sendauth exchange"
