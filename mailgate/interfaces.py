"""What the layers ask of one another. Every interface answers its implementer's questions.

Methods that return a Deferred fail only with `mailgate.errors.MailgateError`; anything else that
comes out is a bug and answers as an outage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Union

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from mailgate.errors import MailgateError
from mailgate.model import (
    INBOX,
    Account,
    Admission,
    AppPassword,
    Envelope,
    Habits,
    Listed,
    Login,
    Note,
    Placement,
    ScramSecret,
    SpoolMessage,
    Target,
)


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

        All or none, in one transaction where the store has such. An id that no message has is passed over;
        the present ids of those whose new id another message has or had are returned, and they stay as
        they are. Ids that were given up are not given to other messages, and those taken count as
        identities of an import: `IDelivery.commit` takes no placement with one of them any more.
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


class IAccountStore(Interface):
    """The accounts of the shared store: verifiers, app passwords, addresses, domains, credential version."""

    def find_login(login: str) -> Deferred[Login | None]:
        """Return what a login name means (`names.login_candidates`), or None. Disabled ones too.

        The account's app passwords come with it.
        """

    def find_recipient(address: str) -> Deferred[Target]:
        """Return where mail for `local@domain` goes. Raises: NoSuchRecipient, NoSuchDomain."""

    def get(name: str) -> Deferred[Account]:
        """Return one account. Raises: NoSuchAccount."""

    def list() -> Deferred[list[Account]]:
        """Return every account, by name."""

    def add(accounts: Sequence[Account], *, adopt: bool = False) -> Deferred[None]:
        """Add accounts, all in one transaction or none.

        Raises: AccountConflict, also where a maildrop without an account has a name that one of them
        would answer to: another checker's user has mail there. With `adopt` a maildrop of an
        account's own name is taken over with all it holds; MaildropInUse, if somebody has it open.
        """

    def set_verifiers(name: str, verifiers: Sequence[str], *,
                      revoke_app_passwords: bool = False) -> Deferred[None]:
        """Replace the verifiers; the credential version grows. App passwords stay, unless revoked with them.

        Raises: NoSuchAccount.
        """

    def add_received(name: str, received: str) -> Deferred[None]:
        """Give an account one more address, or an SDPS host one more domain; the credential version grows.

        Raises: NoSuchAccount; AccountConflict, by the rules of `add` or where it has it already.
        """

    def remove_received(name: str, received: str) -> Deferred[None]:
        """Take away an address, or an SDPS host's domain; the last may go. The credential version grows.

        Raises: NoSuchAccount; NoSuchEntry, if it has none such.
        """

    def app_passwords(name: str) -> Deferred[Sequence[AppPassword]]:
        """Return an account's app passwords, by label. Raises: NoSuchAccount."""

    def add_app_password(name: str, password: AppPassword) -> Deferred[None]:
        """Add one, created now and never used; the credential version grows.

        Raises: NoSuchAccount; AccountConflict, for a label that is taken (compared by `names.fold`) or
        ill-formed, and past MOST_APP_PASSWORDS or MOST_CHOSEN_APP_PASSWORDS that were not generated.
        """

    def revoke_app_passwords(name: str, label: str | None = None) -> Deferred[None]:
        """Remove one by its label, or all of an account; the credential version grows. Sessions go on.

        Raises: NoSuchAccount; NoSuchEntry, if there is none of this label.
        """

    def restore(account: Account, app_passwords: Sequence[AppPassword]) -> Deferred[None]:
        """Make an account what another store had, with its app passwords and their uses; in one transaction.

        One that is there is replaced, its maildrop stays; its credential version is a fresh one. The later
        of both last logins is kept. Raises: what `add` raises.
        """

    def set_disabled(name: str, disabled: bool) -> Deferred[None]:
        """Disable or enable; the credential version grows. Raises: NoSuchAccount."""

    def remove(name: str) -> Deferred[None]:
        """Remove the account with its maildrop and mail. Raises: NoSuchAccount, MaildropInUse."""

    def changes() -> Deferred[int]:
        """Return a number that is another one after any change of any account. Cheap."""

    def lacking(schemes: Sequence[str], most: int | None = None) -> Deferred[Sequence[str]]:
        """Return the accounts, by name and at most so many, that have verifiers but none of these schemes.

        Those that have app passwords lack all: no mechanism with a challenge takes them. Those that are
        disabled, or have neither verifiers nor app passwords, cannot log in and do not count.
        """

    def habits(schemes: Sequence[str]) -> Deferred[Habits]:
        """Return how most accounts are named, and what most of them keep under these SCRAM schemes.

        May read all accounts: ask again only after a change.
        """

    def server_secret() -> Deferred[bytes]:
        """Return 32 random octets that the store keeps for all its processes and tells nobody else."""

    def take_secret(octets: bytes) -> Deferred[bool]:
        """Have these octets for the secret, if nobody has asked for it yet; return whether they are it."""


class IBlobStore(Interface):
    """Immutable bodies too large for a database row, by key. Calls block: they run in threads.

    Blobs belong to one store, whose id lies beside them: what another database does not name is no
    rubbish. The id is a short ASCII word. A store may have `calls_at_once`, if its calls wait for a
    network more than they work: how many a process should make at the same time.
    """

    def owner() -> str | None:
        """Return the id of the store that the blobs belong to; None while there is neither id nor blob.

        Raises: StoreUnavailable, also when there are blobs and no id.
        """

    def belong_to(store_id: str) -> None:
        """Say which store uses this one from now on: its id is on disk before its first blob is.

        Makes nothing yet. Raises: StoreUnavailable, also when the blobs belong to another store.
        """

    def create(key: str) -> IBlobWriter:
        """Begin a blob under a fresh key.

        Raises: StoreUnavailable, also when the blobs turn out to belong to another store.
        """

    def open(key: str) -> IBlobReader:
        """Raises: StoreUnavailable, when it is not there."""

    def remove(key: str) -> None:
        """Remove a blob; one that is not there is no error."""

    def keys() -> list[tuple[str, int]]:
        """Return every blob's key and its age in seconds (half-written ones too)."""


class IBlobWriter(Interface):
    """Blocking; used by one thread at a time."""

    def write(data: bytes) -> None:
        """Append. Raises: StoreFull, StoreUnavailable."""

    def finish() -> None:
        """Make the blob durable (file and folder synced) under its key."""

    def abandon() -> None:
        """Remove what was written."""


class IBlobReader(Interface):
    """Blocking; used by one thread at a time."""

    def read(offset: int, octets: int) -> bytes:
        """Return at most `octets`, fewer only at the end. Raises: StoreUnavailable."""

    def close() -> None:
        """Free the reader. May be called twice."""


class IUserLookup(Interface):
    """A checker that can say whether a name is known without its password; delivery asks it."""

    def knows(name: str) -> Deferred[bool]:
        """Return whether mail for this name may be accepted. Raises: StoreUnavailable."""


class IMaildropLookup(IUserLookup):
    """One whose users have maildrops by other names than those they are known by: addresses, say."""

    def maildrop_of(name: str) -> Deferred[str | None]:
        """Return the name of the maildrop that mail for a name goes to, or None. Raises: StoreUnavailable."""


class ISecretSource(Interface):
    """A checker that keeps more than password hashes: what mechanisms with a challenge ask for."""

    def scram_secret(scheme: str, name: bytes) -> Deferred[ScramSecret | None]:
        """Return what is kept for a login name under a scheme such as SCRAM-SHA-256, or None.

        Its `vouch` is an `auth.credentials.Vouch` of this checker. Raises: StoreUnavailable.
        """

    def kept() -> Deferred[frozenset[str]]:
        """Return which of SCRAM-SHA-256, SCRAM-SHA-1, CRAM-MD5 and APOP every password of every user fits."""

    def habits() -> Deferred[Habits]:
        """Return what most users have in common, so that invented answers look like theirs. Cheap."""

    def server_secret() -> Deferred[bytes | None]:
        """Return octets that stay the same and are secret, to invent answers for unknown names by."""


class IRouter(Interface):
    """Finds the maildrop behind a recipient."""

    def route(path: bytes) -> Deferred[Target]:
        """Return the target of a forward-path (no angle brackets, no source route).

        Raises: BadAddress, NoSuchRecipient, NoSuchDomain, StoreUnavailable.
        """
