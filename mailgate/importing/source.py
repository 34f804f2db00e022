"""What a Maildir and an mbox have in common for an import: messages in order, each a stream of octets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from mailgate.errors import MailgateError

PIECE_OCTETS = 65_536
LATEST_MS = 253_402_300_799_999     # the end of the year 9999: every time of arrival can be written as a date


class Unreadable(MailgateError):
    """A message that cannot be read, while others can be."""


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

    @property
    def folder(self) -> str:
        """Where it lies. Known before `pieces` is consumed."""

    @property
    def flags(self) -> str:
        """Letters of `model.FLAGS`, in that order."""

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
