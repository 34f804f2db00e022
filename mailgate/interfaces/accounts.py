"""Accounts, checkers that tell of their users, and where mail for them goes."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from zope.interface import Interface

from mailgate.model import Account, AppPassword, Habits, Login, ScramSecret, Target


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
