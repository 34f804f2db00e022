"""What a session sees of a spool: which messages, and under which unique-ids."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from mailgate.model import EMPTY_LISTING, Envelope, Listed, Note, ScanListing, SpoolMessage
from mailgate.names import user_of

NO_NOTE = Note()


class Shown(NamedTuple):
    """The messages of one view, in order."""

    listing: ScanListing
    messages: Sequence[SpoolMessage]    # of the whole spool
    picked: Sequence[int]               # which of them, by index in the listing
    notes: Mapping[bytes, Note]
    refused: Collection[bytes]          # names of messages whose noted unique-id is another message's

    def message(self, index: int) -> SpoolMessage:
        """Return a message as its spool told of it."""
        return self.messages[self.picked[index]]

    def envelope(self, index: int) -> Envelope:
        """Return a message's envelope."""
        message = self.message(index)
        return self.notes.get(message.name, NO_NOTE).envelope or message.envelope

    def listed(self, index: int) -> Listed:
        """Return what is told of a message to who lists maildrops."""
        message = self.message(index)
        return Listed(index + 1, message.octets, self.listing.unique_id(index), self.envelope(index),
                      _user(message, self.notes), message.flags)


class Columns(NamedTuple):
    """What all messages of a spool are shown by, in order. A scan may have a method that gives it."""

    names: Sequence[bytes]
    sizes: array[int]
    ids: list[bytes]
    recipients: Sequence[bytes]


def show(messages: Sequence[SpoolMessage], notes: Mapping[bytes, Note], view: str | None) -> Shown:
    """Return what a view (the key of a local part; None: the whole maildrop) shows of a spool."""
    names, sizes, ids, recipients = _columns(messages)
    refused = _note_ids(names, ids, notes) if notes else []
    picked: Sequence[int] = range(len(messages))
    if view is not None:
        picked = _of_view(names, recipients, notes, view)
        sizes, ids = array("Q", [sizes[index] for index in picked]), [ids[index] for index in picked]
    return Shown(ScanListing(sizes, ids) if ids else EMPTY_LISTING, messages, picked, notes, refused)


def _columns(messages: Sequence[SpoolMessage]) -> Columns:
    quickly: Callable[[], Columns] | None = getattr(messages, "columns", None)
    if quickly is not None:
        return quickly()
    return Columns([one.name for one in messages], array("Q", [one.octets for one in messages]),
                   [one.unique_id for one in messages], [one.envelope.recipient for one in messages])


def _of_view(names: Sequence[bytes], recipients: Sequence[bytes], notes: Mapping[bytes, Note],
             view: str) -> array[int]:
    """Return the indexes of the messages that a view shows."""
    users = {recipient: user_of(recipient) for recipient in set(recipients)}
    picked = array("L")
    for index, (name, recipient) in enumerate(zip(names, recipients, strict=True)):
        note = notes.get(name) if notes else None
        if (users[recipient] if note is None or note.envelope is None else note.user) == view:
            picked.append(index)
    return picked


def _user(message: SpoolMessage, notes: Mapping[bytes, Note]) -> str | None:
    """Return the view that shows a message."""
    note = notes.get(message.name)
    if note is not None and note.envelope is not None:
        return note.user
    return user_of(message.envelope.recipient)


def _note_ids(names: Sequence[bytes], ids: list[bytes], notes: Mapping[bytes, Note]) -> list[bytes]:
    """Put the noted unique-ids in place of the spool's; return the names of those that cannot have theirs."""
    noted = {index: unique_id for index, name in enumerate(names)
             if name in notes and (unique_id := notes[name].unique_id) is not None}
    taken = {unique_id for index, unique_id in enumerate(ids) if index not in noted} if noted else set()
    refused = []
    for index, unique_id in noted.items():
        if unique_id in taken:
            refused.append(names[index])
        else:
            ids[index] = unique_id
        taken.add(ids[index])
    return refused
