"""The octets of a message on their way in: where they end, and whether they may come in at all.

Nothing here keeps them: what `Content.feed` returns goes to the store, piece by piece.
"""

from __future__ import annotations

from mailgate.errors import MailgateError, MailLoop, MessageMalformed, MessageTooLarge
from mailgate.lmtp.policy import LmtpPolicy
from mailgate.wire.dots import DotReader
from mailgate.wire.headers import IncomingHeader
from mailgate.wire.lines import LineFramer


class DotSource:
    """Takes the content of a DATA, up to the line that is one dot."""

    __slots__ = ("_dots",)

    def __init__(self) -> None:
        self._dots = DotReader()

    @property
    def ended(self) -> bool:
        """Whether the end was taken."""
        return self._dots.rest is not None

    def take(self, lines: LineFramer) -> bytes:
        """Take what waits, up to the end; return it as it was before byte-stuffing."""
        content = self._dots.feed(lines.take_rest(lines.pending))
        if self._dots.rest:
            lines.feed(self._dots.rest)
        return content


class ChunkSource:
    """Takes the octets of a BDAT: so many, whatever they are (RFC 3030 section 2)."""

    __slots__ = ("octets", "last", "_remaining")

    def __init__(self, octets: int, last: bool) -> None:
        self.octets = self._remaining = octets
        self.last = last

    @property
    def ended(self) -> bool:
        """Whether all were taken."""
        return not self._remaining

    def take(self, lines: LineFramer) -> bytes:
        """Take what waits of it."""
        content = lines.take_rest(self._remaining)
        self._remaining -= len(content)
        return content


class Content:
    """One message as it passes: measured, checked, its header sifted. After a fault nothing passes."""

    __slots__ = ("octets", "fault", "_policy", "_preface", "_header", "_cr_held")

    def __init__(self, policy: LmtpPolicy, preface: bytes) -> None:
        self.octets = 0             # as they came, byte-stuffing undone
        self.fault: BaseException | None = None     # why the message cannot be stored
        self._policy = policy
        self._preface = preface     # goes in front: our Received field
        self._header = IncomingHeader()
        self._cr_held = False       # the last octet was a CR: bare, or half of a CRLF

    def feed(self, data: bytes) -> bytes:
        """Return what passes of the next piece."""
        self.octets += len(data)
        self._check(data)
        passed = self._preface + self._header.feed(data)
        self._preface = b""
        if self._header.received_fields >= self._policy.received_limit:
            self._refuse(MailLoop(f"{self._header.received_fields} Received fields"))
        return passed if self.fault is None else b""

    def finish(self) -> bytes:
        """Return what is left to pass when the message has ended."""
        if self._cr_held:
            self._refuse(MessageMalformed("a bare CR"))
        return self._preface + self._header.finish() if self.fault is None else b""

    def _check(self, data: bytes) -> None:
        limit = self._policy.size_octets
        if limit and self.octets > limit:
            self._refuse(MessageTooLarge(f"more than {limit} octets"))
        if b"\0" in data:
            self._refuse(MessageMalformed("a NUL"))
        if self._cr_held or b"\r" in data:
            text = b"\r" + data if self._cr_held else data
            self._cr_held = text.endswith(b"\r")
            if text.count(b"\r") - self._cr_held != text.count(b"\r\n"):
                self._refuse(MessageMalformed("a bare CR"))

    def _refuse(self, fault: MailgateError) -> None:
        """Keep the fault that counts most, wherever the octets are cut; the store's own, if there is one."""
        if self.fault is None or (type(self.fault) in _FAULTS and _rank(fault) < _rank(self.fault)):
            self.fault = fault


# What can be wrong with a message: what counts more comes first.
_FAULTS: tuple[type[BaseException], ...] = (MessageTooLarge, MessageMalformed, MailLoop)


def _rank(fault: BaseException) -> int:
    return _FAULTS.index(type(fault))
