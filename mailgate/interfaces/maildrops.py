"""Maildrops: sessions, deliveries, folders, and what imports leave behind."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Union

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from mailgate.model import INBOX, Admission, Envelope, Listed, Placement


class IMessageStream(Interface):
    """A large message on its way out, in wire form (CRLF, byte-stuffed), without its terminator."""

    def read() -> Deferred[bytes]:
        """Return the next piece, at most 64 KiB; empty at the end. One call at a time.

        Raises: StoreUnavailable, and then the stream is over.
        """

    def close() -> None:
        """Free what the stream holds. May be called at any time, and twice."""


Content = Union[bytes, IMessageStream]


class IMaildrop(Interface):
    """One user's messages as one POP conversation sees them: the avatar of a POP login.

    The listing is fixed at opening; numbers run 1..n as on the wire, and a marked message keeps
    its number (RFC 1939 sections 4, 5). Which messages are marked is the conversation's business
    until `commit`. Sizes are octets with CRLF line ends, before byte-stuffing (section 11).
    """

    listing = Attribute("ScanListing: sizes and unique-ids, never changed while the maildrop is open")

    def fetch(number: int, body_lines: int | None = None) -> Content | Deferred[Content]:
        """Return a message in wire form, without the terminating dot line; whole when it is small.

        With `body_lines`, only the header, the blank line and that many lines of the body
        (TOP, RFC 1939 section 7): an exact prefix of the message. What is at hand already is
        returned as it is, without a Deferred.

        Raises: StoreUnavailable; NoSuchMessage, if the message vanished behind the session's back.
        """

    def envelope(number: int) -> Envelope | Deferred[Envelope]:
        """Return the envelope of a message (SDPS `*ENV`). Raises: StoreUnavailable."""

    def commit(marked: Collection[int]) -> Deferred[None]:
        """Remove the marked messages durably, all or none, and give up the lease.

        Called once, by QUIT only; a lost connection calls `release` instead (RFC 1939 section 6).
        Raises: LeaseLost or StoreUnavailable: then nothing was removed (or, where the outcome of
        the commit could not be learnt, nothing is promised). The lease is given up in any case.
        """

    def release() -> Deferred[None]:
        """Give up the lease and remove nothing. May be called at any time, and twice; never fails."""


Outcome = Any   # of one placement: None, an Exception, or a Deferred of these


class IDelivery(Interface):
    """One message on its way into the store. Ends with `commit` or `abort`."""

    def write(content: bytes) -> Deferred[None] | None:
        """Take more octets of the message: not byte-stuffed, cut anywhere, any line ends.

        Bare LF becomes CRLF, a missing last line end is added, everything else is kept. A Deferred
        means: wait for it before writing more (back-pressure). Raises: nothing itself; a failure
        shows in the Deferred and again in `commit`.
        """

    def commit(placements: Sequence[Placement], *, all_or_nothing: bool = False,
               delivery_id: str | None = None) -> Deferred[list[Outcome]]:
        """Make the message durable in every placement's maildrop, one shared body for all.

        Returns one outcome a placement, in order: None once it is on disk, or the MailgateError
        that kept it out (OverQuota, StoreFull ...; NoSuchRecipient, if the maildrop is an account's
        and the placement says that it is none's, or the other way round). Where placements become
        durable at different times an outcome may be a Deferred of one, but not with
        `all_or_nothing`: then one failure
        keeps all out and the others' outcome is StoreUnavailable. A `delivery_id` that was
        committed before stores nothing and counts as done. So does a placement's identity that the
        maildrop took before, and that is never forgotten: also when the message was removed since.
        A placement's unique-id is kept unless the maildrop has or had it for another message; then
        the copy gets a fresh one.
        Raises: StoreUnavailable, if nothing was stored at all.
        """

    def abort() -> None:
        """Forget the message. May be called at any time, and after `commit` has no effect."""


class IPreparedDelivery(IDelivery):
    """A delivery whose slow part can be done ahead, so that many share a commit in an order that is known."""

    def prepare() -> Deferred[None]:
        """End the message, and make durable what of it lies elsewhere than its rows.

        `commit` may follow when this is done: of prepared deliveries of one store, those that are
        stored are numbered in the order in which their commits were called, answered or not.
        Raises: StoreUnavailable, and then only `abort` may follow.
        """


class IMaildropStore(Interface):
    """The shared store of maildrops. Safe to use from several processes at once.

    Made without touching any file or thread; `start` opens it. A maildrop is known by its name
    (compared by `names.fold`) and comes into being with its first delivery or login.
    """

    def start() -> Deferred[None]:
        """Open the store and begin to renew this process's holder.

        Raises: StoreUnavailable, also where the bodies are another store's.
        """

    def stop() -> Deferred[None]:
        """Give up every lease of this process, finish what is queued, and close."""

    def open(admission: Admission) -> Deferred[IMaildrop]:
        """Verify the admission and take the lease of its view, in one transaction; then list.

        Where the admission names an app password its use is noted in the same transaction, unless
        one from the same address was less than a minute ago.

        Raises: MaildropInUse; StaleCredential, if the account is gone, disabled or has another
        credential version; LoginRefused, if the admission names no account, is not `judged`, and its
        maildrop's name is one that an account of the store answers to exactly; LoginTooSoon;
        StoreUnavailable.
        """

    def deliver() -> IDelivery:
        """Begin a delivery. Costs nothing until octets come."""

    def maildrops() -> Deferred[list[str]]:
        """Return the names of all maildrops that are known to the store, in order."""

    def scan(maildrop: str, folder: str = INBOX) -> Deferred[list[Listed]]:
        """Return what a folder holds now, without a lease. Empty for an unknown maildrop or folder."""

    def peek(maildrop: str, folder: str = INBOX) -> Deferred[IMaildrop]:
        """Return what a folder holds now, to read it without a lease: `commit` raises LeaseLost.

        A message that is removed meanwhile is NoSuchMessage. Its numbers and order are those that `scan`
        shows at the same time.
        """

    def take_ids(maildrop: str, ids: Mapping[bytes, bytes]) -> Deferred[list[bytes]]:
        """Give messages of the INBOX the unique-ids that another server gave them, by their present ones.

        Nobody logs in meanwhile. Of very many (thousands), a store may take some after the others, so that
        mail goes on coming in: a fault may leave some undone. Who calls again looks at the present ids
        anew, since messages that were to swap theirs may have done so. An id that no message has is passed
        over; the present ids of those whose new id another message has or had are returned, and they stay
        as they are. Ids that were given up are not given to other messages, and those taken
        count as identities of an import: `IDelivery.commit` takes no placement with one of them any more.
        Raises: MaildropInUse, MessageMalformed for an id that POP3 cannot carry, StoreUnavailable.
        """

    def remove(maildrop: str) -> Deferred[None]:
        """Remove a maildrop and all it holds. Raises: MaildropInUse, StoreUnavailable."""

    def expire(retention_seconds: int) -> Deferred[int]:
        """Remove messages that arrived longer ago, where no session holds them; return how many."""

    def sweep(grace_seconds: int) -> Deferred[int]:
        """Remove bodies that no row names and that are older than the grace period; return how many.

        Raises: StoreUnavailable, also where the bodies are another store's: then none is removed.
        """

    def check() -> Deferred[list[str]]:
        """Return what is wrong with the store, one line a finding; empty when all is well."""


class IFolderStore(Interface):
    """What a maildrop store has beside the INBOX: folders and flags, for protocols that show them.

    Folder names are what `names.check_folder` returns: parts divided by `/`, none of them empty, `.` or
    `..`, without control characters; INBOX in any case is the one INBOX, which is always there. A folder
    need not have one for each part of its name: `a/b` may be there without `a`. Messages are named by
    their unique-ids; those that the folder does not have are passed over.
    """

    def folders(maildrop: str) -> Deferred[list[str]]:
        """Return a maildrop's folders, INBOX first, the others in order. INBOX alone for an unknown one."""

    def make_folder(maildrop: str, folder: str) -> Deferred[None]:
        """Make an empty folder. Raises: FolderConflict, StoreUnavailable."""

    def remove_folder(maildrop: str, folder: str) -> Deferred[None]:
        """Remove an empty folder; those below it stay.

        Raises: NoSuchFolder; FolderConflict for INBOX or one with mail.
        """

    def rename_folder(maildrop: str, folder: str, name: str) -> Deferred[None]:
        """Rename a folder with all below it. Raises: NoSuchFolder, FolderConflict (also for INBOX)."""

    def flag(maildrop: str, folder: str, unique_ids: Collection[bytes], *, add: str = "",
             remove: str = "") -> Deferred[list[bytes]]:
        """Set and take away flags (letters of FLAGS); return the ids that the folder has, in its order.

        A letter that is both is set. Sessions do not mind.
        Raises: ValueError for other letters, StoreUnavailable.
        """

    def move(maildrop: str, folder: str, unique_ids: Collection[bytes], target: str) -> Deferred[list[bytes]]:
        """Move messages to another folder, unique-ids and flags kept; return the ids that were moved.

        All or none, in one transaction where the store has such. They stand after what the target
        holds, in the order that they had; where they are in the target already they stay as they are.
        Nothing leaves the INBOX while a session may see it. Raises: NoSuchFolder, MaildropInUse,
        StoreUnavailable.
        """

    def copy(maildrop: str, folder: str, unique_ids: Collection[bytes], target: str) -> Deferred[list[bytes]]:
        """Copy messages, also within a folder; return the fresh unique-ids of the copies, in their order.

        Envelope and flags are the original's. All or none, in one transaction where the store has such;
        they stand after what the target holds. Raises: NoSuchFolder, OverQuota, StoreUnavailable.
        """

    def expunge(maildrop: str, folder: str, unique_ids: Collection[bytes]) -> Deferred[list[bytes]]:
        """Remove messages for good; return the ids that were removed. Never while a session may see one.

        All or none, in one transaction where the store has such.
        Raises: NoSuchFolder, MaildropInUse, StoreUnavailable.
        """


class IImportRecords(Interface):
    """What a maildrop store remembers of imported messages for good: none of them comes twice."""

    def imported(maildrop: str) -> Deferred[Sequence[tuple[bytes, bytes | None]]]:
        """Return the unique-ids that were imported, each with its identity; without one: an id given up."""

    def note_imported(maildrop: str, records: Sequence[tuple[bytes, bytes | None]]) -> Deferred[None]:
        """Remember more of them, as if they had been imported. What is known already stays as it is."""
