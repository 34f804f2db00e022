"""Maildrops whose mail lies in files of other programs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from mailgate.errors import MailgateError
from mailgate.interfaces.blobs import IBlobReader
from mailgate.model import INBOX, Admission, Note, Placement, SpoolMessage


class ISpool(Interface):
    """One maildrop's mail as other programs keep it: a Maildir, an mbox. Calls block: they run in threads.

    A spool holds no lock between calls. One object serves one session, and one call at a time.
    """

    def scan(known: Mapping[bytes, bytes]) -> tuple[Sequence[SpoolMessage], Mapping[bytes, bytes]]:
        """Return the messages in order, and what is to be remembered of them from now on, by name.

        `known` is what earlier scans asked to remember: so that no message is read twice, and keeps
        the unique-id that it once had. What is not in the answer is forgotten.
        Raises: StoreUnavailable, also where the files' locks cannot be had.
        """

    def open(name: bytes) -> ISpoolReader:
        """Begin to read a message of the last scan. Raises: NoSuchMessage, StoreUnavailable."""

    def plan(names: Collection[bytes]) -> tuple[bytes, Iterable[bytes] | None]:
        """Return how to remove messages of the last scan: a journal, and what it needs beside it.

        Changes nothing. The journal is small; what lies beside it is stored under a key as a body is,
        and comes back to `carry_out` as a reader of the same octets.
        Raises: StoreUnavailable, also where other programs have changed what was scanned.
        """

    def carry_out(journal: bytes, beside: IBlobReader | None) -> None:
        """Remove what a journal says. May have been begun before, by a process that died in it.

        May also come late, from a process that slept: when the next session has carried it out, and the
        mail has changed since. Then it changes nothing more.
        Raises: StoreUnavailable, and then it will be called again, by the next session before its scan.
        """

    def learnt() -> Mapping[bytes, bytes]:
        """Return what reading has shown otherwise than the last scan did: to be remembered, by name."""

    def deliver(content: IBlobReader, placement: Placement) -> bytes | None:
        """Add a message durably, without disturbing others; return its name, if it is known already.

        `content` is the message with its preamble, in CRLF form and not byte-stuffed.
        Raises: StoreFull, StoreUnavailable.
        """


class ISpoolReader(Interface):
    """Blocking; used by one thread at a time."""

    def read(octets: int) -> bytes:
        """Return the next octets of the message as other programs keep it (any line ends); empty at its end.

        Raises: StoreUnavailable.
        """

    def close() -> None:
        """Free the reader. May be called twice."""


class ISpoolRecords(Interface):
    """What the shared metadata keeps for maildrops whose mail lies in files of other programs.

    Each folder of a maildrop has records of its own; admissions are for the INBOX.
    """

    def take(admission: Admission) -> Deferred[ITenure]:
        """Verify the admission and take the lease of its view. Raises: what `IMaildropStore.open` does."""

    def hold(maildrop: str, folder: str = INBOX, *, make: bool = False) -> Deferred[ITenure | None]:
        """Take the lease of a whole maildrop for upkeep; of one that is unknown None, or make it known.

        Raises: MaildropInUse, StoreUnavailable.
        """

    def look(maildrop: str, folder: str = INBOX) -> Deferred[ITenure | None]:
        """Return what is remembered, without a lease: `decide` raises LeaseLost. None: unknown maildrop."""

    def accept(placements: Sequence[Placement],
               delivery_id: str | None) -> Deferred[list[bool | MailgateError]]:
        """Return whom a delivery is to be written for: True; False, if it was written before; or why not."""

    def delivered(placement: Placement, delivery_id: str | None, name: bytes | None) -> Deferred[None]:
        """Remember, durably, that a message was written: what `IDelivery.commit` says of ids and identities.

        Under `name`, if it is known, envelope, user and unique-id are kept as the placement says.
        """

    def know(maildrop: str) -> Deferred[None]:
        """Make a maildrop known, if it is not. Raises: StoreUnavailable."""

    def note(maildrop: str, folder: str, notes: Mapping[bytes, Note],
             known: Mapping[bytes, bytes] = {}) -> Deferred[None]:
        """Note what is known of messages of a folder, by name, and what a spool wants to remember of them.

        Raises: StoreUnavailable.
        """

    def rename_folders(maildrop: str, names: Mapping[str, str]) -> Deferred[None]:
        """Keep what is remembered of folders under other names, by the old ones. Raises: StoreUnavailable."""

    def forget(maildrop: str) -> Deferred[None]:
        """Remove all that is known of a maildrop. Raises: MaildropInUse, StoreUnavailable."""


class ITenure(Interface):
    """The lease of a session on such a maildrop, and what is remembered of its messages."""

    known = Attribute("Mapping[bytes, bytes]: what a spool asked to remember, by name of message")
    notes = Attribute("Mapping[bytes, Note]: what the store itself knows of messages, by name")
    journal = Attribute("tuple[bytes, str | None] | None: a removal that was decided and may not have been"
                        " carried out, with the key of the blob that belongs to it")

    def remember(known: Mapping[bytes, bytes]) -> Deferred[bool]:
        """Remember this in place of what is now; costs what has changed.

        Returns False, and remembers nothing, if somebody else did since `known` was read: then that is
        what `known` has now. Raises: StoreUnavailable.
        """

    def amend(known: Mapping[bytes, bytes | None]) -> Deferred[None]:
        """Remember something else of these messages, or (None) nothing. Raises: StoreUnavailable."""

    def rename(ids: Mapping[bytes, bytes | None], used: Collection[bytes] = ()) -> Deferred[None]:
        """Note the unique-ids of messages, by name; None: the spool's own. Raises: StoreUnavailable.

        No other message ever gets one of those that are `used`.
        """

    def used(ids: Collection[bytes]) -> Deferred[Collection[bytes]]:
        """Return which of some unique-ids are, or were, noted or imported ones. Raises: StoreUnavailable."""

    def decide(journal: bytes, blob_key: str | None) -> Deferred[bool]:
        """Write a removal down for good, if the lease is still held: from here on it will be carried out.

        Returns False, and decides nothing, while there is another journal: that one has to be carried out
        first, and then `journal` has it.
        Raises: LeaseLost or StoreUnavailable: then nothing was decided (or, where the outcome of the
        commit could not be learnt, nothing is promised).
        """

    def carried_out(gone: Collection[bytes]) -> Deferred[None]:
        """Forget the journal that is known or was decided here, and these messages.

        Raises: StoreUnavailable.
        """

    def release() -> Deferred[None]:
        """Give up the lease. May be called at any time, and twice; never fails."""
