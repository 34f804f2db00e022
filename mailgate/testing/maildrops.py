"""A harness's maildrops, as a test fills and reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from email.message import Message as EmailMessage
from pathlib import Path
from typing import Any

from mailgate.testing.harness.core import Harness

Call = Callable[..., Any]       # a function of the harness and its arguments; waits until it is done
Mail = bytes | str | EmailMessage | Path        # what is taken for a message


@dataclass(frozen=True)
class Message:
    """A message that a maildrop holds."""

    number: int             # 1..n, as a session that begins now lists it
    unique_id: str
    octets: int             # CRLF line ends, before byte-stuffing
    sender: str             # reverse-path of the envelope; empty for the null sender
    recipient: str          # forward-path
    arrived: float          # seconds since 1970
    content: bytes = field(repr=False)      # CRLF line ends, not byte-stuffed

    @property
    def email(self) -> EmailMessage:
        """The content, parsed."""
        from email import message_from_bytes, policy  # takes its time, which few tests need to spend

        return message_from_bytes(self.content, policy=policy.default)


class Maildrop:
    """One maildrop of a harness, by its name. It has to be somebody's before it is filled or asked."""

    def __init__(self, call: Call, harness: Harness, name: str) -> None:
        self._call = call
        self._harness = harness
        self.name = name

    def add(self, message: Mail, *, sender: str = "", recipient: str | None = None,
            unique_id: str | None = None, arrived: float | datetime | None = None,
            age: float | None = None) -> str:
        """Put a message in; return its unique-id.

        A text is the message, in UTF-8; a Path is the file that has it. `arrived`: a date, or seconds since
        1970, by the harness's clock; or `age`, seconds before now. `recipient`: the envelope's, which decides
        who sees the message at an SDPS host; left out, NAME@hostname.
        Raises: NoSuchAccount, where the name is nobody's; OverQuota; what else the store raises; OSError.
        """
        if arrived is not None and age is not None:
            raise ValueError("a message has either `arrived` or `age`")
        for when in (arrived, age):
            if not isinstance(when, (float, int, datetime, type(None))):
                raise TypeError(f"seconds or a datetime are expected, not {when!r}")
        if age is not None:
            arrived = self._call(self._harness.clock.seconds) - age
        elif isinstance(arrived, datetime):
            arrived = arrived.timestamp()
        unique: str = self._call(self._harness.add_message, self.name, octets_of(message), sender=sender,
                                 recipient=recipient, unique_id=unique_id, arrived=arrived)
        return unique

    def add_all(self, messages: Iterable[Mail], **more: Any) -> list[str]:
        """Put several in, in order; return their unique-ids. See `add` for what can be told of them."""
        if isinstance(messages, (str, bytes, EmailMessage, Path)):
            raise TypeError("several messages are expected; one is put in by add()")
        return [self.add(message, **more) for message in messages]

    @property
    def messages(self) -> list[Message]:
        """What it holds now, in order. Raises: NoSuchAccount, where the name is nobody's."""
        found = self._call(self._harness.contents, self.name)
        return [Message(one.number, one.unique_id.decode(), one.octets,
                        one.envelope.sender.decode("utf-8", "replace"),
                        one.envelope.recipient.decode("utf-8", "replace"), one.envelope.arrived_ms / 1000,
                        content) for one, content in found]

    @property
    def unique_ids(self) -> list[str]:
        """The unique-ids of what it holds now, in order."""
        return [one.unique_id.decode() for one in self._call(self._harness.messages, self.name)]

    def remove(self, unique_id: str) -> None:
        """Remove a message for good, also from under a session. Raises: LookupError, NoSuchAccount."""
        self._call(self._harness.remove_message, self.name, unique_id)

    def clear(self) -> None:
        """Remove everything, also from under a session. Raises: NoSuchAccount."""
        self._call(self._harness.clear_maildrop, self.name)

    def __len__(self) -> int:
        return len(self.unique_ids)


def octets_of(message: Mail) -> bytes:
    """Return a message's octets; text is UTF-8. Raises: OSError, TypeError."""
    if isinstance(message, Path):
        return message.read_bytes()
    if isinstance(message, EmailMessage):
        return message.as_bytes()
    if isinstance(message, (bytes, bytearray, memoryview)):
        return bytes(message)
    if isinstance(message, str):
        return message.encode()
    raise TypeError("a message is bytes, a text, an email message or a Path,"
                    f" not {type(message).__name__}")
