"""The accounts of one store copied into another."""

from __future__ import annotations

from typing import Any

from mailgate.cli.copying_base import Counts, Wishes, each
from mailgate.cli.telling import reason, tell
from mailgate.errors import AccountConflict, MaildropInUse
from mailgate.model import Account, AppPassword
from mailgate.names import fold

ACCOUNTS_AT_ONCE = 32


async def copy_accounts(source: Any, target: Any, wishes: Wishes, counts: Counts) -> set[str]:
    """Copy accounts with all that belongs to them; return the keys of those that were kept out.

    Raises: StoreUnavailable.
    """
    how, only = wishes.accounts, {fold(name) for name in wishes.maildrops}
    if how == "none":
        return set()
    if not await target.take_secret(await source.server_secret()):
        tell("warning: TO has a secret of its own already: what it invents for names that nobody has is not"
             " what FROM invented")
    there: dict[str, Account] = {fold(one.name): one for one in await target.list()}
    kept_out: set[str] = set()

    async def copy(account: Account) -> None:
        counts.accounts += 1
        passwords = await source.app_passwords(account.name)
        known = there.get(fold(account.name))
        if known is not None and _same(account, passwords, known, await target.app_passwords(known.name)):
            return
        if known is not None and how != "update":
            kept_out.add(fold(account.name))
            counts.find(f"account {account.name}: TO has another one, or an earlier state of it;"
                        " --accounts update makes it what FROM has")
            return
        try:
            await target.restore(account, passwords)
            counts.added += 1
        except (AccountConflict, MaildropInUse) as fault:
            kept_out.add(fold(account.name))
            counts.find(f"account {account.name}: not copied: {reason(fault)}")

    wanted = [one for one in await source.list() if not only or fold(one.name) in only]
    await each(wanted, copy, ACCOUNTS_AT_ONCE)
    return kept_out


def _same(one: Account, passwords: Any, other: Account, others: Any) -> bool:
    """Return whether two accounts answer to the same and prove themselves by the same."""
    return _stated(one, passwords) == _stated(other, others)


def _stated(account: Account, passwords: tuple[AppPassword, ...]) -> tuple[Any, ...]:
    return (account.name, account.sdps, account.verifiers, account.addresses, account.domains,
            account.disabled, [(one.label, one.verifier, one.generated, one.created_ms) for one in passwords])
