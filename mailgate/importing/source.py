"""What a Maildir and an mbox have in common for an import: messages in order, each a stream of octets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from mailgate.errors import MailgateError

PIECE_OCTETS = 65_536
HEADER_OCTETS = 1 << 20     # what is looked at of a header; a longer one is cut for this purpose only
LATEST_MS = 253_402_300_799_999     # the end of the year 9999: every time of arrival can be written as a date

_UNIQUE_ID = re.compile(rb"[\x21-\x7e]{1,70}")      # RFC 1939 section 7
_BLANK = re.compile(rb"\n\r?\n")
_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)", re.MULTILINE)
_FOLD = re.compile(rb"\r?\n[ \t]+")


class BadSource(MailgateError):
    """A path that is neither a Maildir nor an mbox, or one that cannot be read."""


class Unreadable(MailgateError):
    """A message that cannot be read, while others can be."""


class NotPlain(MailgateError):
    """Something in a message's place that is no plain file: a link, a folder, a pipe."""


class SourceMessage(Protocol):
    """One message of a source. `pieces` is consumed first, once; the rest is complete only then."""

    @property
    def name(self) -> str:
        """For an operator: a file's name, or the position in an mbox."""

    @property
    def octets(self) -> int:
        """Of the source, this message's end included: progress, not the size on the wire."""

    @property
    def arrived_ms(self) -> int:
        """Milliseconds since 1970, UTC: 0 to LATEST_MS."""

    @property
    def unique_id(self) -> bytes | None:
        """As the old server gave it, where that is known."""

    @property
    def sender(self) -> bytes | None:
        """The envelope sender, where the format itself keeps it."""

    def pieces(self) -> Iterator[bytes]:
        """Give the content, without what the format adds; line ends as they are.

        Raises: FileNotFoundError, when the message has gone; NotPlain, Unreadable; BadSource, when
        there is no use in going on.
        """

    def identity(self) -> str:
        """Return what tells this message from all others, the same in every reading of the source."""


class Source(Protocol):
    """A mailbox of another program."""

    @property
    def octets(self) -> int:
        """Of the whole source: what progress is measured by."""

    def messages(self) -> Iterator[SourceMessage]:
        """Give the messages in the order in which POP3 showed them. Raises: BadSource."""


def arrival_ms(seconds: int, ms: int = 0) -> int:
    """Return a time of arrival that others can work with, whatever a name or a line claims."""
    return min(max(seconds * 1000 + ms, 0), LATEST_MS)


def legal_unique_id(octets: bytes) -> bytes | None:
    """Return a unique-id if POP3 can show it (RFC 1939 section 7), else None."""
    return octets if _UNIQUE_ID.fullmatch(octets) else None


class HeaderTap:
    """Keep a copy of a message's header while its pieces pass."""

    __slots__ = ("_kept", "_done")

    def __init__(self) -> None:
        self._kept = bytearray(b"\n")     # as if a line ended before the message
        self._done = False

    def feed(self, piece: bytes) -> None:
        """Look at the next piece."""
        if self._done:
            return
        start = max(len(self._kept) - 2, 0)
        self._kept += piece
        if blank := _BLANK.search(self._kept, start):
            del self._kept[blank.start() + 1:]
        self._done = blank is not None or len(self._kept) > HEADER_OCTETS

    def fields(self, name: str) -> list[bytes]:
        """Return the bodies of a field, unfolded, from the top."""
        wanted = name.lower().encode()
        return [_FOLD.sub(b" ", value).strip()
                for key, value in _FIELD.findall(self._kept) if key.lower() == wanted]
