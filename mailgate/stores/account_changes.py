"""Rules for changing an account by one thing: an address, a domain, an app password. Any store has them."""

from __future__ import annotations

from dataclasses import replace

from mailgate.errors import AccountConflict, NoSuchEntry
from mailgate.model import MOST_APP_PASSWORDS, MOST_CHOSEN_APP_PASSWORDS, Account, AppPassword
from mailgate.names import fold

USE_NOTED_MS = 60_000       # an app password's use from one address is noted so often, and no more


def with_received(account: Account, received: str) -> Account:
    """Return an account with one more address, or domain. Raises: AccountConflict, if it has it already."""
    if fold(received) in map(fold, _those(account)):
        raise AccountConflict(f"account {account.name!r} has {received!r} already")
    return _replaced(account, (*_those(account), received))


def without_received(account: Account, received: str) -> Account:
    """Return an account without an address or domain, however it is spelt. Raises: NoSuchEntry."""
    left = tuple(one for one in _those(account) if fold(one) != fold(received))
    if left == _those(account):
        what = "domain" if account.sdps else "address"
        raise NoSuchEntry(f"account {account.name!r} has no {what} {received!r}")
    return _replaced(account, left)


def _those(account: Account) -> tuple[str, ...]:
    return account.domains if account.sdps else account.addresses


def _replaced(account: Account, received: tuple[str, ...]) -> Account:
    return replace(account, domains=received) if account.sdps else replace(account, addresses=received)


def refuse_more(name: str, coming: AppPassword, *, there: int, chosen: int, same: int) -> None:
    """Raise AccountConflict if an account cannot have one more app password.

    It has so many, so many of them chosen, and so many with the label of the one that is coming.
    """
    if same:
        raise AccountConflict(f"account {name!r} has an app password {coming.label!r} already")
    if there >= MOST_APP_PASSWORDS:
        raise AccountConflict(f"account {name!r} has {there} app passwords: revoke one that is not used")
    if not coming.generated and chosen >= MOST_CHOSEN_APP_PASSWORDS:
        raise AccountConflict(f"account {name!r} has {chosen} app passwords that were chosen: a generated one"
                              " is welcome")
